"""Mutated model files through the compiler: `python -m benchmarks.mutants --count N [--first A] [--jobs J]`.

Mutants are known by number: `tests.hostile.mutate.mutant(number, seeds())` is the file. Chunks of them run in
processes of their own, so that a crash or an endless loop in a library costs one mutant and is reported.
What is done is kept in the file `--state`; a later run goes on from there. Prints a table; ends with 1 where
a mutant did what none may.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

from tests.hostile.bombs import peak
from tests.hostile.mutate import mutant
from tests.hostile.seeds import seeds
from tests.hostile.trial import attempt

CHUNK = 10_000  # mutants of one process
SILENCE_S = 120.0  # of a process before it is stopped: processors may be busy with others
POLL_S = 0.5
WHOLE = 100  # every so many is compiled to C, if it can be; the others end before quantization
PEAK_EVERY = 20  # memory is looked at so often
MOST_BYTES = 512 << 20
ALLOWED = ("refused", "imported", "compiled")
SHOWN = 50


@dataclass(slots=True)
class Tally:
    """What came of many mutants; `defects` are number, outcome, and what it said."""

    outcomes: dict[str, int] = field(default_factory=dict)
    defects: list[tuple[int, str, str]] = field(default_factory=list)
    most_seconds: float = 0.0  # of processor time, for one mutant
    peak: int = 0  # bytes of one process

    def add(self, number: int, outcome: str, says: str) -> None:
        """Counts one."""
        self.outcomes[outcome] = self.outcomes.get(outcome, 0) + 1
        if outcome not in ALLOWED:
            self.defects.append((number, outcome, says[:300]))

    def merge(self, other: Tally) -> None:
        """Counts another's."""
        for outcome, count in other.outcomes.items():
            self.outcomes[outcome] = self.outcomes.get(outcome, 0) + count
        self.defects += [(number, outcome, says) for number, outcome, says in other.defects]
        self.most_seconds = max(self.most_seconds, other.most_seconds)
        self.peak = max(self.peak, other.peak)


def tried(numbers: Sequence[int], folder: Path, whole: int, progress: Path | None = None) -> Tally:
    """Runs mutants in this process; writes the number at hand to `progress`."""
    found, path = Tally(), folder / "mutant.onnx"
    for index, number in enumerate(numbers):
        if progress:
            progress.write_text(str(number))
        path.write_bytes(mutant(number, seeds()))
        start = time.process_time()
        came = attempt(path, whole=number % whole == 0)
        found.most_seconds = max(found.most_seconds, time.process_time() - start)
        found.add(number, came.outcome, came.says)
        before = found.peak
        if index % PEAK_EVERY == 0 or number == numbers[-1]:
            found.peak = peak()
        if found.peak > MOST_BYTES >= before:
            found.add(number, "memory", f"{found.peak} bytes")
    return found


@dataclass(slots=True)
class _Chunk:
    """A process that runs some mutants, and what is known of it."""

    first: int
    end: int
    folder: Path
    whole: int
    skipped: Tally = field(default_factory=Tally)
    process: subprocess.Popen[str] | None = None

    def start(self) -> None:
        """Starts or goes on behind the mutants that ended a process."""
        skip = ",".join(str(number) for number, _, _ in self.skipped.defects)
        arguments = [str(self.first), str(self.end), str(self.folder), str(self.whole), skip]
        self.process = subprocess.Popen(
            [sys.executable, "-m", "benchmarks.mutants", "--chunk", *arguments],
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )

    def stop(self) -> None:
        """Ends the process."""
        if self.process:
            self.process.kill()
            self.process.wait()

    def ended(self) -> Tally | None:
        """What it found, once it has."""
        assert self.process is not None
        code, progress = self.process.poll(), self.folder / "progress"
        if code is None:
            said = progress.stat().st_mtime if progress.exists() else time.time()
            if time.time() - said < SILENCE_S:
                return None
            self.process.kill()
        output, _ = self.process.communicate()
        if code == 0:
            found = Tally(**json.loads(output))
            found.merge(self.skipped)
            return found
        number = int(progress.read_text())
        if any(number == other for other, _, _ in self.skipped.defects):
            raise RuntimeError(f"the process for mutants {self.first} to {self.end} failed")
        self.skipped.add(number, "hang" if code is None else "crash", f"exit code {code}")
        self.start()
        return None


def _run_chunk(arguments: Sequence[str]) -> None:
    first, end, folder, whole = (
        int(arguments[0]),
        int(arguments[1]),
        Path(arguments[2]),
        arguments[3],
    )
    skip = {int(number) for number in arguments[4].split(",") if number}
    numbers = [number for number in range(first, end) if number not in skip]
    warnings.simplefilter("ignore")
    json.dump(asdict(tried(numbers, folder, int(whole), folder / "progress")), sys.stdout)


def _chunks(options: argparse.Namespace, done: set[int], scratch: Path) -> Iterator[_Chunk]:
    end = options.first + options.count
    for first in range(options.first, end, CHUNK):
        if first not in done:
            folder = scratch / str(first)
            folder.mkdir()
            yield _Chunk(first, min(first + CHUNK, end), folder, options.whole)


def run(options: argparse.Namespace, scratch: Path) -> Tally:
    """Runs all chunks that the state file lacks, and keeps it current."""
    state = json.loads(options.state.read_text()) if options.state.exists() else {}
    total = Tally(**state["tally"]) if state else Tally()
    done = set(state.get("chunks", ()))
    waiting, running = _chunks(options, done, scratch), list[_Chunk]()
    try:
        while True:
            while len(running) < options.jobs and (chunk := next(waiting, None)):
                chunk.start()
                running.append(chunk)
            if not running:
                return total
            time.sleep(POLL_S)
            for chunk in tuple(running):
                if found := chunk.ended():
                    running.remove(chunk)
                    total.merge(found)
                    done.add(chunk.first)
                    _keep(options.state, {"chunks": sorted(done), "tally": asdict(total)})
    finally:
        for chunk in running:
            chunk.stop()


def _keep(path: Path, state: dict[str, object]) -> None:
    fresh = path.with_suffix(".new")
    fresh.write_text(json.dumps(state, indent=1) + "\n")
    os.replace(fresh, path)


def table(total: Tally) -> str:
    """The outcomes in Markdown."""
    count = sum(number for key, number in total.outcomes.items() if key != "memory")
    lines = ["| outcome | mutants |", "|---|---:|"]
    for key in (*ALLOWED, "unclear", "traceback", "hang", "crash", "memory"):
        lines.append(f"| {key} | {total.outcomes.get(key, 0):,} |")
    lines.append(f"| all | {count:,} |")
    slowest, most = total.most_seconds, total.peak / (1 << 20)
    lines += ["", f"Slowest: {slowest:.2f} s of processor time. Most memory: {most:.0f} MB."]
    lines += [f"{number}: {outcome}: {says}" for number, outcome, says in total.defects[:SHOWN]]
    return "\n".join(lines)


def main() -> None:
    if sys.argv[1:2] == ["--chunk"]:
        _run_chunk(sys.argv[2:])
        return
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--count", type=int, default=100_000)
    parser.add_argument("--first", type=int, default=0, help="number of the first mutant")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--whole", type=int, default=WHOLE, help="every so many goes through to C")
    parser.add_argument("--state", type=Path, default=Path("build/mutants.json"))
    options = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(1))  # so that children end as well
    options.state.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as scratch:
        total = run(options, Path(scratch))
    print(table(total))
    sys.exit(bool(total.defects))


if __name__ == "__main__":
    main()

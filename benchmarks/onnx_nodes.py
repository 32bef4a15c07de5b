"""ONNX's node tests through the compiler.

    python -m benchmarks.onnx_nodes [--only OPERATOR ...] [--verbose]

`--only` runs the cases of some operators and prints each; without it all run, and the table is counted.
"""

from __future__ import annotations

import argparse
import tempfile
import traceback
from collections import Counter
from pathlib import Path

from targets.errors import ThumbnetError
from tests.onnx_nodes import cases, run

BATCH = 60  # cases in one library


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", nargs="*", default=[], help="operators")
    parser.add_argument("--verbose", action="store_true", help="print every case")
    options = parser.parse_args()
    names = [
        name
        for name, case in cases.relevant().items()
        if not options.only or cases.operator(case) in options.only
    ]
    found = measured(names)
    for name, result in found.items():
        if options.verbose or result != "pass":
            print(f"{name}: {result}")
    counts = Counter(result.partition(":")[0] for result in found.values())
    print(f"{len(found)} cases: " + ", ".join(f"{n} {kind}" for kind, n in counts.most_common()))


def measured(names: list[str]) -> dict[str, str]:
    """The result of every case; one that breaks its batch is told apart."""
    found: dict[str, str] = {}
    for start in range(0, len(names), BATCH):
        batch = names[start : start + BATCH]
        try:
            found |= _run(batch)
        except Exception:
            for name in batch:
                found[name] = _alone(name)
    return found


def _alone(name: str) -> str:
    try:
        return _run([name])[name]
    except ThumbnetError as error:
        return f"failed: {error}"
    except Exception:
        return "crashed: " + traceback.format_exc().strip().splitlines()[-1]


def _run(names: list[str]) -> dict[str, str]:
    with tempfile.TemporaryDirectory() as folder:
        return dict(run.results(names, Path(folder)))


if __name__ == "__main__":
    main()

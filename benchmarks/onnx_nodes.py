"""ONNX's node tests through the compiler.

    python -m benchmarks.onnx_nodes [--only OPERATOR ...] [--verbose] [--write]

`--only` runs the cases of some operators. Without it all run; `--write` then keeps the names of those that
pass in tests/onnx_nodes/passing.txt, which CI holds, and the table in docs/operators.md.
"""

from __future__ import annotations

import argparse
import tempfile
import traceback
from collections import Counter
from collections.abc import Mapping
from pathlib import Path

import onnx

from targets.errors import ThumbnetError
from tests.onnx_nodes import cases, run

BATCH = 60  # cases in one library
ROOT = Path(__file__).parents[1]
TABLE = ROOT / "docs" / "operators.md"
BEGIN, END = "<!-- table of benchmarks.onnx_nodes -->", "<!-- end of the table -->"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", nargs="*", default=[], help="operators")
    parser.add_argument("--verbose", action="store_true", help="print every case")
    parser.add_argument("--write", action="store_true", help="keep the result")
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
    if options.write and not options.only:
        write(found)


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


def write(found: Mapping[str, str]) -> None:
    """Keeps the names of the cases that pass, and the table."""
    passing = sorted(name for name, result in found.items() if result == "pass")
    run.PASSING.write_text("".join(f"{name}\n" for name in passing))
    text = TABLE.read_text()
    head, tail = text.partition(BEGIN)[0], text.partition(END)[2]
    TABLE.write_text(f"{head}{BEGIN}\n{_table(found)}{END}{tail}")


def _table(found: Mapping[str, str]) -> str:
    total: Counter[str] = Counter()
    good: Counter[str] = Counter()
    reasons: dict[str, str] = {}
    for name, result in found.items():
        operator = cases.operator(cases.relevant()[name])
        total[operator] += 1
        good[operator] += result == "pass"
        if result != "pass":
            reasons.setdefault(operator, result.partition(": ")[2].replace("|", "/"))
    rows = [
        f"| {operator} | {total[operator]} | {good[operator]} | {reasons.get(operator, '')} |\n"
        for operator in sorted(total)
    ]
    passed = sum(good.values())
    return (
        f"onnx {onnx.__version__}: **{passed} of {len(found)}** cases pass, "
        f"{sum('wrong' in r.partition(':')[0] for r in found.values())} give a wrong answer.\n\n"
        "| operator | cases | pass | the first that does not |\n|---|---:|---:|---|\n"
        + "".join(rows)
    )


if __name__ == "__main__":
    main()

"""Random ONNX graphs through the compiler, in float against onnxruntime and in int8 against the reference.

    python -m benchmarks.random_graphs [--count N] [--first SEED]

Prints every graph that is refused or wrong, and the counts.
"""

from __future__ import annotations

import argparse
import tempfile
from collections import Counter
from pathlib import Path

from tests.differential import run

BATCH = 50


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=1000)
    parser.add_argument("--first", type=int, default=0)
    options = parser.parse_args()
    counts: Counter[str] = Counter()
    for start in range(options.first, options.first + options.count, BATCH):
        seeds = range(start, min(start + BATCH, options.first + options.count))
        for floats in (True, False):
            kind = "float" if floats else "int8"
            with tempfile.TemporaryDirectory() as folder:
                found = run.results(seeds, Path(folder), floats=floats)
            for seed, result in found.items():
                verdict = (
                    result.partition(":")[0] if result.startswith("refused") else result and "wrong"
                )
                counts[f"{kind} {verdict or 'equal'}"] += 1
                if result:
                    print(f"{kind} {seed}: {result}", flush=True)
    print(", ".join(f"{n} {what}" for what, n in sorted(counts.items())))


if __name__ == "__main__":
    main()

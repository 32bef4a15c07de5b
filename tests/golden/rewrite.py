"""Rewrites the golden files: `make golden`, then read the diff."""

from __future__ import annotations

from tests.golden.network import FOLDER, NAMES, files


def main() -> None:
    for target in NAMES:
        folder = FOLDER / target
        folder.mkdir(exist_ok=True)
        for name, text in files(target).items():
            (folder / name).write_text(text)


if __name__ == "__main__":
    main()

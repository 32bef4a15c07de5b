"""Tables as data, and as Markdown or CSV: what `--format md` and `--format csv` print."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from dataclasses import dataclass

Cell = str | int | float | None
BAR = 8


@dataclass(frozen=True, slots=True)
class Code:
    """A name from a model: shown as it is, never interpreted."""

    text: str


@dataclass(frozen=True, slots=True)
class Share:
    """A part of a whole or a relative change, 0.03 = 3 %."""

    value: float
    signed: bool = False


@dataclass(frozen=True, slots=True)
class Bar:
    """A length between 0 and 1."""

    value: float


Value = Cell | Code | Share | Bar


@dataclass(frozen=True, slots=True)
class Table:
    """Rows under headings; columns of text are those whose first cell is text."""

    headings: tuple[str, ...]
    rows: Sequence[tuple[Value, ...]]

    def is_text(self, column: int) -> bool:
        """Whether a column is aligned to the left."""
        first = next((row[column] for row in self.rows if row[column] is not None), "")
        return isinstance(first, str | Code | Bar)


def shown(value: Value) -> str:
    """A cell for people: grouped digits, percentages, nothing that drives a terminal."""
    match value:
        case None:
            return ""
        case Code(text) | str(text):
            return printable(text)
        case Share(share, signed):
            return f"{share:+.2%}" if signed else f"{share:.1%}"
        case Bar(length):
            return bar(length)
        case int():
            return f"{value:,}"
        case float():
            return f"{value:,.4g}"


def bar(length: float) -> str:
    """A bar of up to BAR characters, in eighths of one."""
    eighths = round(min(max(length, 0.0), 1.0) * BAR * 8)
    whole, rest = divmod(eighths, 8)
    return "█" * whole + " ▏▎▍▌▋▊▉"[rest].strip()


def printable(text: str) -> str:
    """A model's string without control characters."""
    return "".join(c if c.isprintable() else "?" for c in text)


def markdown(table: Table) -> str:
    """A table for a pull request or a document.

    Names become code spans: no mention, link or tag in them comes to life.
    """
    marks = [":--" if table.is_text(i) else "--:" for i in range(len(table.headings))]
    lines = [_md_row(table.headings), _md_row(marks)]
    lines += [_md_row([_md_cell(value) for value in row]) for row in table.rows]
    return "\n".join(lines) + "\n"


def _md_row(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _md_cell(value: Value) -> str:
    if isinstance(value, Code):
        return code_span(value.text)
    return shown(value).replace("|", "\\|").replace("<", "&lt;")


def code_span(name: str) -> str:
    """A name in Markdown, in tables too: no mention, link or tag in it comes to life."""
    return "`" + (printable(name).replace("`", "'").replace("|", "\\|") or " ") + "`"


def as_csv(table: Table) -> str:
    """A table as CSV, numbers as they are; text that a spreadsheet would take for a formula is quoted."""
    stream = io.StringIO()
    writer = csv.writer(stream, lineterminator="\n")
    writer.writerow(table.headings)
    writer.writerows([_csv_cell(value) for value in row] for row in table.rows)
    return stream.getvalue()


def _csv_cell(value: Value) -> str | int | float | None:
    match value:
        case Code(text) | str(text):
            clean = printable(text)
            return f"'{clean}" if clean[:1] in ("=", "+", "-", "@") else clean
        case Share(number) | Bar(number):
            return number
        case _:
            return value

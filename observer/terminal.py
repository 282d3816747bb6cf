"""Lines for a terminal: sentences that are wrapped, and tables."""

from __future__ import annotations

from textwrap import wrap
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

WIDTH: Final = 100  # of a terminal; a command may be longer, for it is copied whole
CELL: Final = 24


def counted(number: int, noun: str) -> str:
    """Spell a number of things."""
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def cut(text: str, width: int = CELL) -> str:
    """Shorten a text to `width`, which shows."""
    return text if len(text) <= width else f"{text[: width - 3]}..."


def wrapped(text: str, indent: str = "") -> list[str]:
    """Break a sentence into lines; those after the first are indented."""
    return wrap(
        text,
        WIDTH,
        subsequent_indent=indent,
        break_long_words=False,
        break_on_hyphens=False,
    )


def table(rows: Iterable[Sequence[str]]) -> Iterator[str]:
    """Yield rows with their columns one below the other, each row in one line."""
    rows = [*rows]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        cells = [cell.ljust(width) for cell, width in zip(row, widths, strict=True)]
        yield cut("  ".join(cells).rstrip(), WIDTH)


def section(heading: str, lines: Iterable[str]) -> Iterator[str]:
    """Yield an empty line, a heading and the lines below it; nothing without lines."""
    for place, line in enumerate(lines):
        if place == 0:
            yield ""
            yield heading
        yield from wrapped(f"    {line}", " " * 8)

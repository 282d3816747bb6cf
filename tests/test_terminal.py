"""observer/terminal.py: lines for a terminal."""

from __future__ import annotations

import pytest

from observer.terminal import CELL, WIDTH, counted, cut, section, table, wrapped


@pytest.mark.parametrize(
    ("number", "expected"), [(0, "0 devices"), (1, "1 device"), (2, "2 devices")]
)
def test_counted(number: int, expected: str) -> None:
    """One is one."""
    assert expected == counted(number, "device")


def test_cut() -> None:
    """What is too long ends in dots and is no longer than allowed."""
    assert "a" * CELL == cut("a" * CELL)
    assert "a" * (CELL - 3) + "..." == cut("a" * (CELL + 1))


def test_wrapped() -> None:
    """Lines are no wider than a terminal, a word is never broken."""
    assert ["word", "    " + "x" * WIDTH] == wrapped("word " + "x" * WIDTH, "    ")


def test_table() -> None:
    """Columns stand one below the other, without spaces at the end."""
    assert ["A    BB", "ccc  d", "e"] == list(
        table([("A", "BB"), ("ccc", "d"), ("e", "")])
    )
    assert [WIDTH] == [len(line) for line in table([("x" * 200,)])]


def test_section() -> None:
    """A heading stands only above something."""
    assert [] == list(section("Notes:", []))
    assert ["", "Notes:", "    one"] == list(section("Notes:", ["one"]))

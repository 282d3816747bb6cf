"""What must hold for any text that a terminal gets."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable


def told(lines: Iterable[str]) -> None:
    """Check lines for a person: nothing in them moves a cursor."""
    for line in lines:
        assert line.isprintable(), line

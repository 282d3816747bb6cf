"""Drivers' names as label values, a bounded number of them."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, TypeVar

from observer.text import printable

if TYPE_CHECKING:
    from collections.abc import Mapping

OTHER = "other"

_Second = TypeVar("_Second", bound=str)


class Labels:
    """Gives the first `limit` names a label of their own, and keeps to it."""

    def __init__(self, limit: int) -> None:
        """Begin without a name."""
        self._limit = limit
        self._known: dict[str, str] = {}
        self._dropped: set[str] = set()

    def of(self, name: str) -> str:
        """Return a name's label, without characters that can't be printed."""
        label = self._known.get(name)
        if label is not None:
            return label
        if len(self._known) >= self._limit:
            self._dropped.add(name)
            return OTHER
        return self._known.setdefault(name, printable(name))

    def fold(
        self, counts: Mapping[tuple[str, _Second], int]
    ) -> Counter[tuple[str, ...]]:
        """Replace names by labels; counts of the same label are added up."""
        folded: Counter[tuple[str, ...]] = Counter()
        for (name, second), count in counts.items():
            folded[self.of(name), second] += count
        return folded

    def dropped(self) -> int:
        """Return how many names have no label of their own."""
        return len(self._dropped)

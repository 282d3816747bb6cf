"""Label sets of drivers, a bounded number of them: what is beyond is one, `other`."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Final, TypeVar

from observer.text import printable

if TYPE_CHECKING:
    from collections.abc import Mapping

USUAL: Final = 300  # series of a host, unless another number is asked for
LEAST: Final = 200  # there are so many kinds
MOST: Final = 2000  # whatever is asked for
OTHER: Final = "other"
LABEL_CHARACTERS: Final = 128  # driver_override may hold 4,094 bytes

_Second = TypeVar("_Second", bound=str)
Key = tuple[str, ...]  # the driver's name first


def label(text: str) -> str:
    """Spell text of the kernel or of users as a label's value, cut where it is long."""
    return printable(text)[:LABEL_CHARACTERS]


class Labels:
    """Gives label sets series of their own while there is room, and keeps to it.

    What was counted as `other` once stays there: a counter that moved would look as if
    it had been reset.
    """

    def __init__(self, room: int, *, cost: int = 1) -> None:
        """Begin without a set; each takes `cost` of `room` series."""
        self._left = room
        self._cost = cost
        self._given: dict[Key, Key] = {}
        self.dropped = 0  # sets without series of their own

    def of(self, key: Key) -> Key:
        """Return the label set of a name and what else tells it from others."""
        given = self._given.get(key)
        if given is None:
            given = self._given[key] = self._give(key)
        return given

    def _give(self, key: Key) -> Key:
        name, *rest = key
        if self._left < self._cost:
            self.dropped += 1
            return (OTHER, *rest)
        self._left -= self._cost
        return (label(name), *rest)

    def fold(self, counts: Mapping[tuple[str, _Second], int]) -> dict[Key, int]:
        """Replace names by labels; counts of the same label are added up."""
        folded: Counter[Key] = Counter()
        for key, count in counts.items():
            folded[self.of(key)] += count
        return dict(folded)

"""How many lines a second may be written. Time is that of the records."""

from __future__ import annotations

SECOND_NS = 10**9


class Pace:
    """Admits so many a second and adds up what it held back."""

    def __init__(self, per_second: int) -> None:
        """Begin with nothing held back."""
        self._per_second = per_second
        self._left = per_second
        self._second = 0
        self._held_back = 0

    def admits(self, ktime_ns: int, weight: int = 1) -> bool:
        """Tell whether one more may pass now; `weight` is added up if not."""
        second = ktime_ns // SECOND_NS
        if second > self._second:  # records of several CPUs come in any order
            self._second, self._left = second, self._per_second
        if not self._left:
            self._held_back += weight
            return False
        self._left -= 1
        return True

    def take_held_back(self) -> int:
        """Return what was held back since the last time this was asked."""
        held_back, self._held_back = self._held_back, 0
        return held_back

"""What something was at which time, as far back as it is remembered."""

from __future__ import annotations

from typing import Final, Generic, TypeVar

DEPTH: Final = 8  # changes remembered

_Value = TypeVar("_Value")


class Timeline(Generic[_Value]):
    """One value and its last changes; times are CLOCK_MONOTONIC."""

    __slots__ = ("_changes",)

    def __init__(self, ktime_ns: int, value: _Value) -> None:
        """Begin with `value`, known to be so since `ktime_ns`."""
        self._changes = [(ktime_ns, value)]

    @property
    def now(self) -> _Value:
        """The last value."""
        return self._changes[-1][1]

    @property
    def since_ns(self) -> int:
        """When it was seen to become this."""
        return self._changes[-1][0]

    def change(self, ktime_ns: int, value: _Value) -> None:
        """Become `value`."""
        self._changes.append((ktime_ns, value))
        del self._changes[:-DEPTH]

    def at(self, ktime_ns: int) -> _Value:
        """Return what it was then. Raises LookupError where that is not known."""
        for since_ns, value in reversed(self._changes):
            if since_ns <= ktime_ns:
                return value
        raise LookupError("longer ago than is remembered")

    def after(self, ktime_ns: int) -> tuple[_Value, ...]:
        """Return what it became later than that."""
        return tuple(value for since_ns, value in self._changes if since_ns > ktime_ns)

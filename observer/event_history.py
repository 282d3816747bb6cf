"""The last events of many devices or drivers, in a bounded amount of memory."""

from __future__ import annotations

from collections import OrderedDict
from typing import Generic, NamedTuple, TypeVar

_Event = TypeVar("_Event")


class Limits(NamedTuple):
    """How many events are kept."""

    each: int  # of one name
    total: int  # of all names; more than `each`
    absent: int  # names that are there no more and still have events


class EventHistory(Generic[_Event]):
    """Events by name: of a device its address.

    Where there are too many, all those of one name are forgotten: of the one that has
    been absent for the longest time, else of the one where nothing has happened for
    the longest time. Another thread may read.
    """

    def __init__(self, limits: Limits) -> None:
        """Begin with no event."""
        self._limits = limits
        self._events: dict[str, tuple[_Event, ...]] = {}
        self._total = 0
        self._order: OrderedDict[str, None] = OrderedDict()  # by their last event
        self._absent: OrderedDict[str, None] = OrderedDict()

    def add(self, name: str, event: _Event, *, present: bool) -> None:
        """Enter an event of something that is present now, or is not."""
        before = self._events.get(name, ())
        events = (*before, event)[-self._limits.each :]
        self._events[name] = events
        self._total += len(events) - len(before)
        self._order[name] = None
        self._order.move_to_end(name)
        self.mark(name, present=present)
        while self._total > self._limits.total:
            self._forget(next(iter(self._absent or self._order)))

    def mark(self, name: str, *, present: bool) -> None:
        """Note that something is there, or is there no more."""
        self._absent.pop(name, None)
        if not present and name in self._events:
            self._absent[name] = None
            if len(self._absent) > self._limits.absent:
                self._forget(next(iter(self._absent)))

    def last(self, name: str) -> _Event | None:
        """Return the newest event."""
        events = self._events.get(name)
        return events[-1] if events else None

    def copy(self) -> dict[str, tuple[_Event, ...]]:
        """Return all events by name, the oldest of each first."""
        return dict(self._events)

    def _forget(self, name: str) -> None:
        self._total -= len(self._events.pop(name))
        del self._order[name]
        self._absent.pop(name, None)

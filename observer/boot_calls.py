"""Events of the tracing ring to the calls of functions that they tell of.

An event at the entry and one at the return of a function make one call: both have the
same task and, but for the return address, the same stack pointer.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple

from observer.boot_args import (
    MATCH,
    MATCH_RETURN,
    OUTER_PROBE,
    PROBE,
    PROBE_RETURN,
)

if TYPE_CHECKING:
    from collections.abc import Iterable

    from observer.boot_trace import TraceEvent

_RETURN_ADDRESS_BYTES: Final = 8
_ENTRY: Final = {MATCH_RETURN: MATCH, PROBE_RETURN: PROBE}


class Call(NamedTuple):
    """One call of a function."""

    entry: TraceEvent
    exit: TraceEvent | None  # None: its return was not seen
    outer: bool = False  # of a probe: it came by driver_probe_device()


def calls(events: Iterable[TraceEvent]) -> list[Call]:
    """Put the events of all CPUs together; calls that have ended come first.

    Those that ended are in the order in which they did. Raises TraceError when an event
    lacks a field.
    """
    under_way: dict[tuple[str, int, int], Call] = {}
    outer: set[tuple[int, int]] = set()  # driver and device
    ended, missed = [], []
    for event in sorted(events, key=lambda event: event.ktime_ns):
        if event.name == OUTER_PROBE:
            outer.add(_pair(event))
        elif event.name in _ENTRY:
            stack = event.number("sp") - _RETURN_ADDRESS_BYTES
            call = under_way.pop((_ENTRY[event.name], event.pid, stack), None)
            if call is not None:
                ended.append(call._replace(exit=event))
        else:
            place = (event.name, event.pid, event.number("sp"))
            if place in under_way:
                missed.append(under_way[place])
            under_way[place] = Call(event, None, _pair(event) in outer)
            if event.name == PROBE:
                outer.discard(_pair(event))
    return [*ended, *missed, *under_way.values()]


def _pair(event: TraceEvent) -> tuple[int, int]:
    return event.number("drv"), event.number("dev")

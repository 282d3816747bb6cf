"""What was seen of a device and of a driver, in short sentences, newest last."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from observer.machine import Decision
from observer.record import Action, Probe, ProbeResult, StoreFile, Uevent, Write
from observer.text import printable, quoted

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from observer.machine import Event, Machine
    from observer.record import Task

LIMIT = 8
_SAME_NS = 1_000_000_000  # a uevent so near to its cause tells nothing new


class Happened(NamedTuple):
    """Something that was seen."""

    ktime_ns: int  # when it began
    actor: str | None  # "bash (pid 123, uid 0)"
    text: str  # one printable sentence without its time, the actor in it


class Happenings(NamedTuple):
    """The last of what was seen."""

    shown: tuple[Happened, ...]  # oldest first
    earlier: int  # how many are not shown


def happenings(machine: Machine, address: str, driver: str | None) -> Happenings:
    """Tell what was seen of the device, and of `driver` where one is asked about."""
    events: tuple[Event, ...] = machine.device_events.get(address, ())
    if driver is not None:
        events += machine.driver_events.get(driver, ())
    told = told_of(events)
    shown = told[-LIMIT:]
    return Happenings(tuple(shown), len(told) - len(shown))


def told_of(events: Iterable[Event]) -> list[Happened]:
    """Tell events, oldest first, without those that follow from another one."""
    return [_told(event) for event in _telling(sorted(events, key=began_ns))]


def began_ns(event: Event) -> int:
    """Return when something began: records come at its end, effects before causes."""
    if isinstance(event, Write | Probe):
        return event.ktime_ns - event.duration_ns
    return event.ktime_ns


def named(task: Task, uid: int | None = None) -> str:
    """Name a process."""
    user = "" if uid is None else f", uid {uid}"
    return f"{printable(task.comm) or '(no name)'} (pid {task.tgid}{user})"


def _telling(events: list[Event]) -> Iterator[Event]:
    """Leave out what follows from another event that is there."""
    for at, event in enumerate(events):
        if isinstance(event, Decision) and _probed(event, at, events):
            continue
        if isinstance(event, Uevent) and _caused(event, events):
            continue
        yield event


def _probed(decision: Decision, at: int, events: list[Event]) -> bool:
    """Tell whether its probe is there, or the same decision once more.

    The second of two decisions is made within the probe.
    """
    return any(
        event.ktime_ns >= decision.ktime_ns if isinstance(event, Probe) else place > at
        for place, event in enumerate(events)
        if isinstance(event, Probe | Decision) and _driver(event) == decision.driver
    )


def _driver(event: Probe | Decision) -> str:
    return event.name if isinstance(event, Probe) else event.driver


def _caused(uevent: Uevent, events: Iterable[Event]) -> bool:
    return any(
        _causes(event, uevent) for event in events if not isinstance(event, Uevent)
    )


def _causes(event: Event, uevent: Uevent) -> bool:
    near = began_ns(event) - _SAME_NS <= uevent.ktime_ns <= event.ktime_ns + _SAME_NS
    if isinstance(event, Probe):
        return near and uevent.action is Action.BIND and _is_bound(event)
    return (
        near
        and isinstance(event, Write)
        and uevent.action is Action.UNBIND
        and event.file is StoreFile.UNBIND
        and event.errno is None
    )


def _is_bound(probe: Probe) -> bool:
    return probe.result is ProbeResult.BOUND


def _told(event: Event) -> Happened:
    if isinstance(event, Write):
        actor = named(event.task, event.uid)
        text = f"{actor} {_written(event)}"
        if event.errno is not None:
            text += f": failed, {event.errno}"
    elif isinstance(event, Uevent):
        actor, text = None, _uevent(event)
    else:
        actor = named(event.task)
        said = _probe(event) if isinstance(event, Probe) else _decision(event)
        text = f"{said}, in {actor}"
    return Happened(began_ns(event), actor, text)


def _written(write: Write) -> str:
    text = write.text.partition("\n")[0].partition("\0")[0]
    if write.file is StoreFile.DRIVER_OVERRIDE and not text:
        return "cleared driver_override"
    whose = f" of {quoted(write.driver)}" if write.driver is not None else ""
    more = "..." if write.size > len(write.text.encode(errors="replace")) else ""
    return f"wrote {quoted(text)}{more} to {write.file}{whose}"


def _decision(decision: Decision) -> str:
    return f"{quoted(decision.driver)} matched ({decision.match})"


def _probe(probe: Probe) -> str:
    name = quoted(probe.name)
    if _is_bound(probe):
        return f"bound to {name}"
    errno = f": {probe.errno}" if probe.errno is not None else ""
    return f"probe by {name} {_RESULTS[probe.result]}{errno}"


_RESULTS = {
    ProbeResult.DEFERRED: "deferred",
    ProbeResult.REFUSED: "refused",
    ProbeResult.BUSY: "found it busy",
    ProbeResult.GONE: "found it gone",
}


def _uevent(uevent: Uevent) -> str:
    driver = quoted(uevent.driver) if uevent.driver is not None else None
    if uevent.address is None:
        verb = "registered" if uevent.action is Action.ADD else "unregistered"
        return f"driver {driver} {verb}"
    if uevent.action is Action.BIND:
        return f"bound to {driver or 'a driver'}"
    if uevent.action is Action.UNBIND:
        return f"unbound from {driver or 'its driver'}"
    return "added" if uevent.action is Action.ADD else "removed"

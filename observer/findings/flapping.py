"""Devices that are bound and unbound again and again."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Final

from observer.findings.picture import Picture, by
from observer.findings.shape import Actor, Finding, Kind, Name
from observer.record import Action, Probe, ProbeResult, StoreFile, Uevent, Write
from observer.text import printable, quoted

if TYPE_CHECKING:
    from observer.machine import Event, PciDevice

TIMES: Final = 5
WITHIN_NS: Final = 24 * 3600 * 1_000_000_000
_BINDS: Final = (StoreFile.BIND, StoreFile.UNBIND)


def flapping(picture: Picture, device: PciDevice) -> Finding | None:
    """Find a device that is bound to one driver again and again.

    For a virtual machine it goes to another driver and back, once each.
    """
    events = picture.events(device.address)
    recent = [
        (sign, event)
        for event in events
        if event.ktime_ns > picture.machine.now_ns - WITHIN_NS
        and (sign := _sign(event)) is not None
    ]
    # One rebind shows several signs; each of them at most once.
    counts = Counter(sign for sign, _event in recent)
    times = max(counts.values(), default=0)
    if times < TIMES:
        return None
    since_ns = recent[0][1].ktime_ns
    writes = [event for _sign, event in recent if isinstance(event, Write)]
    actor = Actor(writes[-1].task, writes[-1].uid) if writes else None
    comms = Counter(write.task.comm for write in writes)
    comm = quoted(comms.most_common(1)[0][0]) if comms else None
    who = f"comm={comm}" if comm else by(None)
    return Finding(
        device.address,
        Name.FLAPPING,
        Kind.FLAPPING,
        f"{printable(device.address)} rebind flapping: {times} times since "
        f"{picture.time(since_ns)}, by {who}",
        f"systemctl status {actor.task.tgid}"
        if actor
        else "udevadm monitor --kernel --subsystem-match=pci",
        since_ns,
        actor,
        {"times": times, "comms": dict(comms)},
    )


def _sign(event: Event) -> str | None:
    """Return which sign of a rebind it is, and of which driver, if it is one."""
    if isinstance(event, Probe) and event.result is ProbeResult.BOUND:
        return f"probe by {event.name}"
    if isinstance(event, Uevent) and event.action in (Action.BIND, Action.UNBIND):
        return f"uevent {event.action} {event.driver}"
    if isinstance(event, Write) and event.errno is None and event.file in _BINDS:
        return f"write {event.file} {event.driver}"
    return None

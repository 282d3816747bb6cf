"""What a device's events tell of how it came to be bound, or not."""

from __future__ import annotations

from types import MappingProxyType
from typing import TYPE_CHECKING, NamedTuple

from observer.findings.shape import Actor
from observer.record import Action, Probe, ProbeResult, StoreFile, Uevent, Write

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from observer.machine import Event

# Uevents are stamped when they are received: later than the probe or the write that
# they tell of, and later than what followed at once.
LATE_NS = 1_000_000_000
_BINDS = (StoreFile.BIND, StoreFile.DRIVERS_PROBE)


class Failure(NamedTuple):
    """A driver that did not take the device."""

    driver: str
    since_ns: int  # CLOCK_MONOTONIC of the first of several in a row
    ktime_ns: int
    probed: bool  # False: a bind write failed, and no probe of it was seen
    deferred: bool
    errno: str | None  # None: this kernel does not tell
    actor: Actor


class Past(NamedTuple):
    """The last bind and what came after it; nothing of it need have been seen."""

    driver: str | None = None  # the last that was bound
    bound_ns: int | None = None
    binder: Actor | None = None
    unbound_ns: int | None = None  # None: not since it was bound
    unbinder: Actor | None = None
    failures: Mapping[str, Failure] = MappingProxyType({})  # since then, by driver
    override: Write | None = None  # the last that changed driver_override


def past_of(events: Iterable[Event]) -> Past:
    """Return the past of one device from its events, oldest first."""
    past = Past()
    for event in events:
        if isinstance(event, Probe):
            past = _after_probe(past, event)
        elif isinstance(event, Write):
            past = _after_write(past, event)
        elif isinstance(event, Uevent):
            past = _after_uevent(past, event)
    return past


def _after_probe(past: Past, probe: Probe) -> Past:
    actor = Actor(probe.task, None)
    if probe.result is ProbeResult.BOUND:
        return _bound(past, probe.name, probe.ktime_ns, actor)
    deferred = probe.result is ProbeResult.DEFERRED
    now = probe.ktime_ns
    failure = Failure(probe.name, now, now, True, deferred, probe.errno, actor)
    return _failed(past, failure)


def _after_write(past: Past, write: Write) -> Past:
    actor = Actor(write.task, write.uid)
    if write.errno is not None:
        if write.file is StoreFile.BIND and write.driver is not None:
            return _bind_failed(past, write, write.driver, actor)
    elif write.file is StoreFile.DRIVER_OVERRIDE:
        return past._replace(override=write)
    elif write.file is StoreFile.UNBIND:
        if not _just_now(past.unbound_ns, write.ktime_ns):
            past = _unbound(past, write.driver, write.ktime_ns, actor)
        return past._replace(unbinder=actor, driver=write.driver or past.driver)
    elif write.file in _BINDS and _began(write) <= (past.bound_ns or -1):
        return past._replace(binder=actor)
    return past


def _began(write: Write) -> int:
    return write.ktime_ns - write.duration_ns


def _bind_failed(past: Past, write: Write, driver: str, actor: Actor) -> Past:
    """Enter a bind write's errno; the probe in it may have told the truer one.

    Linux kernel commit 45ddcb42949f (in v5.14): until then it is always ENODEV.
    """
    probed = past.failures.get(driver)
    if probed and _began(write) <= probed.ktime_ns:
        told = probed._replace(actor=actor, errno=probed.errno or write.errno)
        return past._replace(failures={**past.failures, driver: told})
    deferred = write.errno == "EAGAIN"
    now = write.ktime_ns
    failure = Failure(driver, now, now, False, deferred, write.errno, actor)
    return _failed(past, failure)


def _after_uevent(past: Past, uevent: Uevent) -> Past:
    if uevent.action is Action.BIND and not _just_now(past.bound_ns, uevent.ktime_ns):
        return _bound(past, uevent.driver, uevent.ktime_ns, None)
    if uevent.action is Action.UNBIND and not _just_now(
        past.unbound_ns, uevent.ktime_ns
    ):
        unbound = _unbound(past, uevent.driver, uevent.ktime_ns, None)
        return unbound._replace(failures=_of_then(past, uevent.ktime_ns))
    return past


def _of_then(past: Past, now_ns: int) -> Mapping[str, Failure]:
    """Return the failures that may have followed the unbind that is told only now.

    Whoever probes a device that is bound finds it busy; others probed it later.
    """
    return {
        driver: failure
        for driver, failure in past.failures.items()
        if failure.probed
        and failure.errno != "EBUSY"
        and _just_now(failure.ktime_ns, now_ns)
    }


def _just_now(earlier_ns: int | None, now_ns: int) -> bool:
    return earlier_ns is not None and now_ns - earlier_ns < LATE_NS


def _bound(past: Past, driver: str | None, now_ns: int, actor: Actor | None) -> Past:
    return Past(driver or past.driver, now_ns, actor, override=past.override)


def _unbound(past: Past, driver: str | None, now_ns: int, actor: Actor | None) -> Past:
    return past._replace(
        driver=driver or past.driver, unbound_ns=now_ns, unbinder=actor, failures={}
    )


def _failed(past: Past, failure: Failure) -> Past:
    before = past.failures.get(failure.driver)
    if before and before.deferred == failure.deferred:
        failure = failure._replace(since_ns=before.since_ns)
    return past._replace(failures={**past.failures, failure.driver: failure})

"""What stands between a device and a driver, before the match and after it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from observer.candidates import inputs_of
from observer.case import (
    DENYLISTED,
    VFIO_PCI,
    Case,
    Obstacle,
    hopeless,
    kept_by_pf,
    left_to_vfio,
)
from observer.happenings import began_ns
from observer.machine import Decision
from observer.model import explain
from observer.model.explanation import Rule
from observer.record import Action, Probe, ProbeResult, StoreFile, Uevent, Write
from observer.terminal import counted
from observer.text import printable, quoted

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from observer.case import Surroundings
    from observer.machine import Event, Machine, PciDevice


def obstacles(case: Case) -> tuple[Obstacle, ...]:
    """Name what is in the way, in the order in which the kernel comes to it."""
    return tuple(found for gate in _GATES for found in gate(case))


# What keeps a driver from being asked.


def _not_registered(case: Case) -> Iterator[Obstacle]:
    for name in case.wanted:
        if name in case.machine.drivers:
            continue
        words = quoted(name)
        if name == case.device.driver_override:
            text = f"override names {words}, which is not registered"
        else:
            text = f"{words} is not registered"
        yield Obstacle("not_registered", text + _provider(case, name))
        yield from _unregistered(case, name)


def _provider(case: Case, name: str) -> str:
    around = case.surroundings
    module = around.providers.get(name)
    if module is None:
        return (
            "; nothing has that name, no module either" if around.aliases_known else ""
        )
    if module in around.builtin:
        return f"; {module} is built in, but registered no such driver"
    return f"; module {module} would provide it{_kept_out(around, module)}"


def _kept_out(around: Surroundings, module: str) -> str:
    if module in around.blacklisted:
        where = printable(around.blacklisted[module])
        return f"; {quoted(module)} is blacklisted by {where}"
    return ""


def _unregistered(case: Case, name: str) -> Iterator[Obstacle]:
    """Tell since when a driver is gone, and how many devices miss it."""
    removals = [
        event
        for event in case.machine.driver_events.get(name, ())
        if isinstance(event, Uevent) and event.action is Action.REMOVE
    ]
    if removals:
        at = removals[-1].ktime_ns
        devices = sum(
            _lost(case.machine, device, name, at)
            for device in case.machine.devices.values()
        )
        yield Obstacle(
            "unregistered",
            f"driver {quoted(name)} unregistered at {case.time(at)}; "
            f"{counted(devices, 'device')} lost {'its' if devices == 1 else 'their'} "
            "candidate",
        )


_BEFORE_NS: Final = 5_000_000_000  # devices are unbound before the driver's uevent


def _lost(machine: Machine, device: PciDevice, name: str, at: int) -> bool:
    if device.driver is not None:
        return False
    if device.driver_override == name:
        return True
    bound: str | None = None
    for event in machine.device_events.get(device.address, ()):
        if isinstance(event, Probe) and event.result is ProbeResult.BOUND:
            bound = event.name
        elif isinstance(event, Uevent) and event.action is Action.UNBIND:
            near = at - _BEFORE_NS <= event.ktime_ns <= at + _BEFORE_NS
            if near and bound in (name, None):
                return True
    return False


def _no_candidate(case: Case) -> Iterator[Obstacle]:
    """Say which module would match where no registered driver does."""
    around = case.surroundings
    if (
        case.device.driver is not None
        or case.device.driver_override is not None
        or case.candidates
        or case.possible
        or not around.aliases_known
    ):
        return
    if around.would_load:
        modules = ", ".join(map(quoted, around.would_load))
        text = f"no registered driver matches; modules.alias would load {modules}"
        text += "".join(_kept_out(around, module) for module in around.would_load)
    else:
        text = "no registered driver matches, and nothing in modules.alias does"
    if around.override_only:
        modules = ", ".join(map(quoted, around.override_only))
        text += f"; with driver_override {modules} would take it"
    yield Obstacle("not_loaded", text)


def _drivers_autoprobe(case: Case) -> Iterator[Obstacle]:
    if case.wanted and case.machine.drivers_autoprobe is False:
        yield Obstacle(
            "drivers_autoprobe",
            "drivers_autoprobe of the bus is off: a driver that is registered is "
            "not tried; write the address to drivers_probe or bind",
        )


def _binding_not_allowed(case: Case) -> Iterator[Obstacle]:
    """Say what is left where a write was followed by nothing, though it must match."""
    if case.device.driver is not None:
        return
    asked = [
        event
        for event in case.events
        if isinstance(event, Write)
        and event.file in (StoreFile.BIND, StoreFile.DRIVERS_PROBE)
        and event.errno in (None, "ENODEV")
    ]
    if not asked:
        return
    write, at = asked[-1], began_ns(asked[-1])
    unanswered = not any(
        isinstance(event, Decision | Probe) or _sets_override(event)
        for event in case.events
        if event.ktime_ns >= at
    )
    if unanswered and any(
        each.driver == (write.driver or each.driver) and _was_so(case, each.driver, at)
        for each in case.candidates
    ):
        yield Obstacle(
            "binding_not_allowed",
            f"the kernel was asked at {case.time(at)} and no match followed: perhaps "
            "binding is not allowed (the device is not added to its end, or is "
            "disabled in the device tree)",
        )


def _sets_override(event: Event) -> bool:
    return isinstance(event, Write) and event.file is StoreFile.DRIVER_OVERRIDE


def _was_so(case: Case, name: str, at: int) -> bool:
    """Tell whether nothing is known to have changed at the driver since then."""
    registered_ns = case.machine.drivers[name].registered_ns
    events = case.machine.driver_events.get(name, ())
    return (registered_ns or at) <= at and all(e.ktime_ns <= at for e in events)


# What keeps a match from being one.


def _override_only(case: Case) -> Iterator[Obstacle]:
    driver = case.machine.drivers.get(case.asked or "")
    if driver is None or not case.waits:
        return
    inputs = inputs_of(driver, case.device.ids, case.device.driver_override)
    told = explain(case.matching.semantics, inputs)
    if told.rule is Rule.OVERRIDE_ONLY_WITHOUT_OVERRIDE:
        only = len(driver.driver.id_table or ()) == 1
        which = "only static id" if only else "only static id that fits"
        merged = case.matching.semantics == "linux-5.15"
        era = " (rule of 5.15 and later)" if merged else ""
        yield Obstacle(
            "override_only",
            f"{quoted(driver.driver.name)}'s {which} is override_only and no "
            f"override is set: no match{era}",
        )


def _another_driver(case: Case) -> Iterator[Obstacle]:
    """Say what it takes to change from the driver that is bound to another."""
    bound, asked = case.device.driver, case.asked
    override = case.device.driver_override
    if asked is None or not case.waits:
        return
    if not case.matches(asked, None):
        needs = f"needs override {quoted(asked)}" if override != asked else None
    else:
        needs = "driver_override must go" if override not in (None, asked) else None
    if bound is not None:
        needs = f"current driver {quoted(bound)}; {needs or 'must be unbound first'}"
    if needs is not None:
        yield Obstacle("bound" if bound is not None else "no_match", needs)


# What keeps a match from becoming a binding.


def _sriov_drivers_autoprobe(case: Case) -> Iterator[Obstacle]:
    if case.wanted and kept_by_pf(case):
        physfn = quoted(case.device.physfn or "")
        yield Obstacle(
            "sriov_drivers_autoprobe",
            f"sriov_drivers_autoprobe of the PF {physfn} is off and no override is "
            "set: match ok, probe=-ENODEV without asking the driver",
        )


def _pf_on_vfio(case: Case) -> Iterator[Obstacle]:
    if any(left_to_vfio(case, name) for name in case.wanted):
        physfn = quoted(case.device.physfn or "")
        yield Obstacle(
            "pf_on_vfio",
            f"its PF {physfn} is on vfio: no driver of the host's must take it",
        )


def _deferred(case: Case) -> Iterator[Obstacle]:
    if case.device.driver is not None:
        return
    probes = [event for event in case.events if isinstance(event, Probe)]
    seen = bool(probes) and probes[-1].result is ProbeResult.DEFERRED
    reason = case.surroundings.deferred
    if seen or reason is not None:
        by = f" (probe by {quoted(probes[-1].name)})" if seen else ""
        yield Obstacle("deferred", f"deferred: {_waiting(reason)}{by}")


def _waiting(reason: str | None) -> str:
    if not reason:
        return "waiting for a supplier; the kernel tells no more"
    # "platform: wait for supplier x", as fw_devlink puts it
    return printable(reason.replace("wait for supplier", "waiting for supplier", 1))


def _refused(case: Case) -> Iterator[Obstacle]:
    for name in () if kept_by_pf(case) else case.wanted:
        probe = case.last_probe(name)
        seen = probe is not None and probe.result in _NOT_BOUND
        errno = probe.errno if probe is not None and seen else None
        reason = hopeless(case, name)
        if seen:
            words = f"probe=-{errno}" if errno else "probe refused, errno not known"
            if reason is None:
                reason = _usual_reason(case, name, errno)
        elif reason is not None:
            text = f"{quoted(name)} would not take it: {reason}"
            yield Obstacle("refused", text)
            continue
        else:
            continue
        if reason == DENYLISTED:
            text = f"matched; {reason}"
        elif errno == "ENODEV" and reason is None:
            text = f"match ok; {quoted(name)} declined (-ENODEV)"
        else:
            text = f"match ok, {words}; {reason or 'see the kernel log for its reason'}"
        yield Obstacle("refused", text)


_NOT_BOUND: Final = (ProbeResult.REFUSED, ProbeResult.BUSY, ProbeResult.GONE)


def _usual_reason(case: Case, name: str, errno: str | None) -> str | None:
    """Name the state that goes with an errno of the core's."""
    device = case.device
    users = sorted(
        quoted(other.address)
        for other in case.machine.devices.values()
        if other.address != device.address
        and device.iommu_group is not None
        and other.iommu_group == device.iommu_group
        and other.driver == VFIO_PCI
    )
    if errno == "EBUSY" and name != VFIO_PCI and users:
        return f"IOMMU group {device.iommu_group} is in use through {', '.join(users)}"
    if errno == "EBUSY" and name == VFIO_PCI and device.sriov_numvfs:
        return f"its {counted(device.sriov_numvfs, 'VF')} must go first"
    return None


_GATES: Final[tuple[Callable[[Case], Iterator[Obstacle]], ...]] = (
    _not_registered,
    _no_candidate,
    _drivers_autoprobe,
    _binding_not_allowed,
    _override_only,
    _another_driver,
    _sriov_drivers_autoprobe,
    _pf_on_vfio,
    _deferred,
    _refused,
)

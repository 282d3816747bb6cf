"""Devices without a driver, though one matches."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from observer.candidates import autoprobe_off
from observer.findings.past import Past
from observer.findings.picture import (
    Picture,
    by,
    clear_override,
    drivers_of,
    file_of,
    listed,
    needs_no_driver,
    shell,
)
from observer.findings.shape import Actor, Finding, Kind, Name
from observer.machine import Decision
from observer.record import Action, Probe, Source
from observer.text import printable, quoted

if TYPE_CHECKING:
    from observer.findings.past import Failure
    from observer.machine import PciDevice

# Healthy where a driver is not meant to take the device, or declines what it matches.
_MAY_BE_MEANT: Final = (Kind.NEVER_BOUND, Kind.PROBE_REFUSED)
# Xen's: it lists every device, and declines those that it was not told to hide.
_PCIBACK: Final = "pciback"
_PROBE_NS: Final = 300_000_000_000  # a probe is told at its end, this late at most


def orphan(picture: Picture, device: PciDevice) -> Finding | None:
    """Find a device without a driver that certainly has a candidate, or had one."""
    if device.driver is not None:
        return None
    matching = [
        each
        for each in picture.matches(device)
        if each.certain and _is_meant(picture, device, each.driver)
    ]
    past = picture.past(device.address)
    failures = sorted(past.failures.values(), key=lambda failure: failure.ktime_ns)
    names = drivers_of(matching)
    deferred = [each for each in failures if each.deferred and each.driver in names]
    if (
        past.driver
        and past.driver not in picture.machine.drivers
        and not needs_no_driver(device)
        and not failures
        and _is_meant(picture, device, past.driver)
    ):
        return _candidate_gone(picture, device, past.driver, names)
    if not matching or _is_probed(picture, device, names):
        return None
    if deferred:
        return _deferred(picture, device, deferred[-1])
    unseen = past == Past(override=past.override)
    if unseen and device.address in picture.machine.deferred:
        return _deferred_before(device, names)
    return _orphan(picture, device, names, failures[-1] if failures else None)


def _is_meant(picture: Picture, device: PciDevice, driver: str) -> bool:
    """Tell whether a driver that matches should have the device, of all that is known.

    The host must not drive a VF whose PF belongs to a user of vfio.
    """
    if driver == _PCIBACK:
        return device.driver_override == driver
    return picture.vfio_pf(device) is None or picture.is_vfio(driver)


def _is_probed(picture: Picture, device: PciDevice, names: list[str]) -> bool:
    """Tell whether a probe is under way: a match was seen and not what came of it."""
    unbound_ns = picture.past(device.address).unbound_ns or 0
    since_ns = max(unbound_ns, picture.machine.now_ns - _PROBE_NS)
    ended = set()
    for event in reversed(picture.events(device.address)):
        if isinstance(event, Probe):
            ended.add(event.name)
        elif (
            isinstance(event, Decision)
            and event.ktime_ns > since_ns
            and event.driver in names
            and event.driver not in ended
        ):
            return True
    return False


def _orphan(
    picture: Picture, device: PciDevice, matching: list[str], failure: Failure | None
) -> Finding | None:
    past = picture.past(device.address)
    address = printable(device.address)
    actor = past.unbinder
    since_ns = past.unbound_ns
    if past.driver is not None or since_ns is not None:
        kind = Kind.UNBOUND
        last = quoted(past.driver) if past.driver else "unknown"
        since = "" if since_ns is None else f" since {picture.time(since_ns)}"
        text = f"{address} orphaned{since}; last driver {last}; unbound by {by(actor)}"
        if failure is not None:
            kind = Kind.UNBOUND_AND_BIND_FAILED
            text += f"; then bind failed, {_failed(picture, device, failure)}"
        text += f"; candidates: {listed(matching)}"
    elif failure is not None:
        kind = Kind.PROBE_REFUSED
        actor, since_ns = failure.actor, failure.since_ns
        text = f"{address} has no driver: {_failed(picture, device, failure)}"
        text += f" (since {picture.time(since_ns)})"
    else:
        kind = Kind.NEVER_BOUND
        verb = "matches" if len(matching) == 1 else "match"
        text = f"{address} has no driver, though {listed(matching)} {verb}"
        text += _untried(picture)
    if kind in _MAY_BE_MEANT and (
        needs_no_driver(device) or autoprobe_off(picture.machine, device)
    ):
        return None
    finding = _finding(
        device,
        kind,
        text,
        since_ns,
        actor,
        candidates=matching,
        last_driver=past.driver,
        errno=failure and failure.errno,
        refused_by=failure and failure.driver,
    )
    if failure is not None and _is_forced_in_vain(picture, device, failure):
        cure = f"{clear_override(device)} && {finding.cure}"
        return finding._replace(cure=cure)
    return finding


def _is_forced_in_vain(picture: Picture, device: PciDevice, failure: Failure) -> bool:
    """Tell whether driver_override keeps others away for a driver that refused."""
    return failure.driver == device.driver_override and any(
        _is_meant(picture, device, each.driver) for each in picture.native(device)
    )


def _failed(picture: Picture, device: PciDevice, failure: Failure) -> str:
    """Tell which driver failed and how: "vfio-pci: match ok, probe=-EINVAL"."""
    errno = f"-{failure.errno}" if failure.errno else "failed, errno unknown"
    told = f"match ok, probe={errno}" if failure.probed else f"bind={errno}"
    if picture.is_vfio(failure.driver) and device.iommu_group is None:
        told += "; no IOMMU group"
    return f"{quoted(failure.driver)}: {told}"


def _untried(picture: Picture) -> str:
    if picture.machine.drivers_autoprobe is False:
        return "; drivers_autoprobe of the bus is off"
    since_ns = picture.machine.decided_since_ns
    if since_ns is None:
        return ""
    return f"; nothing tried to bind it since {picture.time(since_ns)}"


def _deferred(picture: Picture, device: PciDevice, failure: Failure) -> Finding:
    address, driver = printable(device.address), quoted(failure.driver)
    since = picture.time(failure.since_ns)
    return _finding(
        device,
        Kind.DEFERRED,
        f"{address} deferred: {driver} matches and waits for a supplier since {since}",
        failure.since_ns,
        failure.actor,
        driver=failure.driver,
        errno=failure.errno,
    )


def _deferred_before(device: PciDevice, matching: list[str]) -> Finding:
    verb = "matches and waits" if len(matching) == 1 else "match and wait"
    return _finding(
        device,
        Kind.DEFERRED,
        f"{printable(device.address)} deferred: {listed(matching)} {verb} for a "
        "supplier since before anybody watched",
        None,
        None,
        candidates=matching,
    )


def _candidate_gone(
    picture: Picture, device: PciDevice, driver: str, matching: list[str]
) -> Finding:
    removals = [
        event.ktime_ns
        for event in picture.machine.driver_events.get(driver, ())
        if getattr(event, "action", None) is Action.REMOVE
    ]
    past = picture.past(device.address)
    since_ns = removals[-1] if removals else past.unbound_ns
    when = "" if since_ns is None else f" at {picture.time(since_ns)}"
    devices = picture.lost(driver)
    text = f"{printable(device.address)} has no driver: driver {quoted(driver)} "
    text += f"unregistered{when}; {devices} device{'s' if devices > 1 else ''} lost "
    text += "their candidate" if devices > 1 else "its candidate"
    if matching:
        text += f"; candidates: {listed(matching)}"
    finding = _finding(
        device,
        Kind.CANDIDATE_GONE,
        text,
        since_ns,
        past.unbinder,
        last_driver=driver,
        candidates=matching,
        devices=devices,
    )
    return finding._replace(cure=_loading(picture, device, driver))


def _loading(picture: Picture, device: PciDevice, driver: str) -> str:
    """Return what loads a driver again; a module often has another name than it.

    What took the device by its id_table is in modules.alias.
    """
    matches = [
        event.match
        for event in picture.events(device.address)
        if isinstance(event, Decision) and event.driver == driver
    ]
    if (
        driver == device.driver_override
        or picture.is_vfio(driver)
        or (matches and matches[-1] is not Source.STATIC)
    ):
        return f"modprobe {shell(driver)}"
    return f'modprobe "$(cat {file_of(device, "modalias")})"'


def _finding(
    device: PciDevice,
    kind: Kind,
    text: str,
    since_ns: int | None,
    actor: Actor | None,
    **details: object,
) -> Finding:
    name = Name.DEFERRED if kind is Kind.DEFERRED else Name.ORPHAN
    cure = f"echo {shell(device.address)} > /sys/bus/pci/drivers_probe"
    return Finding(device.address, name, kind, text, cure, since_ns, actor, details)

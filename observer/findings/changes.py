"""What changed since another kernel ran."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from observer.candidates import Matching
from observer.change import Kind as Changed
from observer.depict import depict
from observer.difference import difference
from observer.findings.picture import (
    clear_override,
    drivers_of,
    file_of,
    file_of_driver,
    id_fields,
    shell,
    unbind,
)
from observer.findings.shape import Finding, Kind, Name
from observer.model.primitives import id_matches
from observer.text import printable, quoted

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from observer.change import Change
    from observer.findings.picture import Picture
    from observer.machine import PciDevice
    from observer.pictured import Pictured

ACCEPT: Final = "pci-observer baseline --accept"


def binding_changes(picture: Picture) -> Iterator[Finding]:
    """Find each device whose binding is not as it was, or what the binding hangs on."""
    machine, matching = picture.machine, picture.matching
    if machine.baseline is None:
        return
    if matching.semantics != machine.semantics:  # the baseline was judged by its own
        matching = Matching(machine)
    for change in difference(machine.baseline, depict(machine, matching)):
        addresses = _addresses(picture, change)
        # Whether dynids matter is told by the candidates.
        if addresses and change.kind is not Changed.DYNIDS_CHANGED:
            yield _finding(picture, machine.baseline, change, addresses)


def _addresses(picture: Picture, change: Change) -> tuple[str, ...]:
    """Name the devices concerned, those that vanished as well."""
    if change.driver is None:
        return (change.subject,)
    return tuple(each for each in change.devices if each in picture.machine.devices)


def _finding(
    picture: Picture, baseline: Pictured, change: Change, addresses: tuple[str, ...]
) -> Finding:
    release = picture.machine.release
    told = f"since kernel {printable(baseline.release)} -> {printable(release)}: "
    told += f"{_about(change, addresses)} {change}"
    if change.cause:
        told += f"; {change.cause}"
    details: dict[str, object] = {
        "before": change.before,
        "after": change.after,
        "address_before": change.address_before,
        "driver": change.driver,
        "cause": change.cause,
        "kernel_before": baseline.release,
        "kernel": release,
    }
    cure = " && ".join(_cure(picture, baseline, change)) or ACCEPT
    name, kind = Name.BINDING_CHANGED, Kind(change.kind)
    return Finding(
        *(addresses[0], name, kind, told, cure, None, None, details), addresses[1:]
    )


def _about(change: Change, addresses: tuple[str, ...]) -> str:
    first, more = printable(addresses[0]), len(addresses) - 1
    if change.driver is None:
        return first
    return f"driver {quoted(change.driver)} of {first}" + (
        f" and {more} more:" if more else ":"
    )


def _cure(picture: Picture, baseline: Pictured, change: Change) -> list[str]:
    """Return the commands that bring it back; none where there are none."""
    cure = _CURES.get(change.kind)
    return [] if cure is None else cure(picture, baseline, change)


def _find_again(picture: Picture, baseline: Pictured, change: Change) -> list[str]:
    """Let a device be found again: a VF by its PF, another one on its bus."""
    physfn = baseline.devices[change.subject].physfn
    if physfn is None:
        return ["echo 1 > /sys/bus/pci/rescan"]
    pf = picture.machine.devices.get(physfn)
    if pf is None or pf.sriov_numvfs != 0:  # to be 0 before it can be changed
        return []
    vfs = sum(each.physfn == physfn for each in baseline.devices.values())
    return [f"echo {vfs} > {file_of(pf, 'sriov_numvfs')}"]


def _override_again(picture: Picture, _: Pictured, change: Change) -> list[str]:
    device, before = picture.machine.devices[change.subject], change.before
    if isinstance(before, str):
        return [_override(device, before)]
    return [clear_override(device)]


def _match_again(picture: Picture, baseline: Pictured, change: Change) -> list[str]:
    """Load the modules of the candidates that are gone, or add their dynids."""
    gone = {*(change.before or ())} - {*(change.after or ())}
    steps = []
    for name in sorted(gone):
        driver = baseline.drivers.get(name)
        if name in picture.machine.drivers:
            steps += _dynid_again(baseline, change, name)
        elif driver and driver.module:
            steps.append(_modprobe(driver.module))
    return steps


def _dynid_again(baseline: Pictured, change: Change, name: str) -> list[str]:
    """Add the dynid by which a driver matched the device."""
    then = baseline.devices[change.address_before or ""]
    driver = baseline.drivers.get(name)
    for dynid in (driver.dynids if driver else None) or ():
        if id_matches(dynid, then.ids):
            return [f'echo "{id_fields(dynid)}" > {file_of_driver(name, "new_id")}']
    return []


def _bind_again(picture: Picture, baseline: Pictured, change: Change) -> list[str]:
    """Bind the device to the driver that it had, loaded before if it must be."""
    device, name = picture.machine.devices[change.subject], str(change.before)
    override, matching = device.driver_override, drivers_of(picture.matches(device))
    steps, alone = [], matching[:1] == [name]
    if name not in picture.machine.drivers:
        driver = baseline.drivers.get(name)
        if driver is None or driver.module is None:
            return []
        steps.append(_modprobe(driver.module))
        then = baseline.devices[change.address_before or ""].driver_override
        alone = not matching and override is None and then is None
        if not alone:  # the module may have another driver in this kernel
            steps.append(f"test -e {file_of_driver(name, 'bind')}")
    elif device.driver is None and override is None and name not in matching:
        steps += _dynid_again(baseline, change, name)
        if steps:
            return steps
    if override != name and not alone:
        steps.append(_override(device, name))
    if device.driver is not None:
        steps.append(unbind(device))
    return [*steps, f"echo {shell(device.address)} > /sys/bus/pci/drivers_probe"]


def _override(device: PciDevice, name: str) -> str:
    return f"echo {shell(name)} > {file_of(device, 'driver_override')}"


def _modprobe(module: str) -> str:
    return f"modprobe {shell(module)}"


_CURES: Final[Mapping[Changed, Callable[[Picture, Pictured, Change], list[str]]]] = {
    Changed.VANISHED: _find_again,
    Changed.OVERRIDE_CHANGED: _override_again,
    Changed.OVERRIDE_LOST: _override_again,
    Changed.OVERRIDE_SET: _override_again,
    Changed.CANDIDATES_CHANGED: _match_again,
    Changed.DRIVER_CHANGED: _bind_again,
    Changed.DRIVER_LOST: _bind_again,
}

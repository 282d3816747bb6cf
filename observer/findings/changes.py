"""What changed since another kernel ran."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from observer.candidates import Matching
from observer.change import Kind as Changed
from observer.depict import depict
from observer.difference import difference
from observer.findings.picture import clear_override, drivers_of, file_of, shell, unbind
from observer.findings.shape import Finding, Kind, Name
from observer.text import printable, quoted

if TYPE_CHECKING:
    from collections.abc import Iterator

    from observer.change import Change
    from observer.findings.picture import Picture
    from observer.machine import PciDevice
    from observer.pictured import Pictured, PicturedDevice, PicturedDriver

ACCEPT: Final = "pci-observer baseline --accept"
_RESCAN: Final = "echo 1 > /sys/bus/pci/rescan"
_REBOUND: Final = (Changed.DRIVER_CHANGED, Changed.DRIVER_LOST)
_OVERRIDDEN: Final = (
    Changed.OVERRIDE_CHANGED,
    Changed.OVERRIDE_LOST,
    Changed.OVERRIDE_SET,
)


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
    about = printable(addresses[0])
    if change.driver is not None:
        about += f", driver {quoted(change.driver)}"
    told = f"since kernel {printable(baseline.release)} -> {printable(release)}: "
    told += f"{about} {change}"
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


def _cure(picture: Picture, baseline: Pictured, change: Change) -> list[str]:
    """Return the commands that bring it back; none where there are none."""
    before, device = change.before, picture.machine.devices.get(change.address or "")
    if change.kind is Changed.VANISHED:
        return _again(picture, baseline, change.address_before or "")
    if device is None:
        return []
    if change.kind in _OVERRIDDEN:
        if not isinstance(before, str):
            return [clear_override(device)]
        return [_override(device, before)]
    if change.kind in _REBOUND and isinstance(before, str):
        then = baseline.devices[change.address_before or ""]
        return _rebind(picture, device, before, then, baseline.drivers.get(before))
    return []


def _rebind(
    picture: Picture,
    device: PciDevice,
    name: str,
    then: PicturedDevice,
    driver: PicturedDriver | None,
) -> list[str]:
    """Bind the device to the driver that it had `then`, loaded before if it must be."""
    steps = []
    matching = drivers_of(picture.matches(device))
    override = device.driver_override
    alone = matching[:1] == [name]
    if name not in picture.machine.drivers:
        if driver is None or driver.module is None:
            return []
        steps.append(f"modprobe {shell(driver.module)}")
        alone = not matching and override is None and then.driver_override is None
    if override != name and not alone:
        steps.append(_override(device, name))
    if device.driver is not None:
        steps.append(unbind(device))
    return [*steps, f"echo {shell(device.address)} > /sys/bus/pci/drivers_probe"]


def _override(device: PciDevice, name: str) -> str:
    return f"echo {shell(name)} > {file_of(device, 'driver_override')}"


def _again(picture: Picture, baseline: Pictured, address: str) -> list[str]:
    """Let a device be found again: a VF by its PF, another one on its bus."""
    physfn = baseline.devices[address].physfn
    if physfn is None:
        return [_RESCAN]
    pf = picture.machine.devices.get(physfn)
    if pf is None or pf.sriov_numvfs != 0:  # to be 0 before it can be changed
        return []
    vfs = sum(each.physfn == physfn for each in baseline.devices.values())
    return [f"echo {vfs} > {file_of(pf, 'sriov_numvfs')}"]

"""What the picture of the machine and sysfs disagree about."""

from __future__ import annotations

from enum import StrEnum
from typing import TYPE_CHECKING, Final, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Mapping

    from observer.machine import PciDevice, PciDriver


class Field(StrEnum):
    """What the picture and sysfs can disagree about."""

    DEVICE = "device"  # that there is one
    IDS = "ids"
    BOUND = "bound"  # the device's driver
    DRIVER_OVERRIDE = "driver_override"
    PHYSFN = "physfn"
    SRIOV_NUMVFS = "sriov_numvfs"
    SRIOV_DRIVERS_AUTOPROBE = "sriov_drivers_autoprobe"
    IOMMU_GROUP = "iommu_group"
    BOOT_VGA = "boot_vga"
    DRIVER = "driver"  # that it is registered
    MODULE = "module"  # the driver's
    DRIVERS_AUTOPROBE = "drivers_autoprobe"  # of the bus


class Disagreement(NamedTuple):
    """Something that changed without being seen."""

    field: Field
    subject: str  # address of the device, name of the driver, or "pci" for the bus
    pictured: object
    found: object


# The fields of a PciDevice by what they are called here.
_OF_DEVICE: Final = {
    Field.IDS: "ids",
    Field.BOUND: "driver",
    Field.DRIVER_OVERRIDE: "driver_override",
    Field.PHYSFN: "physfn",
    Field.SRIOV_NUMVFS: "sriov_numvfs",
    Field.SRIOV_DRIVERS_AUTOPROBE: "sriov_drivers_autoprobe",
    Field.IOMMU_GROUP: "iommu_group",
    Field.BOOT_VGA: "boot_vga",
}


def of_devices(
    pictured: Mapping[str, PciDevice],
    shown: Mapping[str, PciDevice],
    *,
    stale: Collection[str],
) -> Iterator[Disagreement]:
    """Compare devices by address; what is `stale` was in doubt already."""
    for address in sorted((pictured.keys() | shown.keys()) - set(stale)):
        ours, theirs = pictured.get(address), shown.get(address)
        if ours is None or theirs is None:
            yield Disagreement(
                Field.DEVICE, address, ours is not None, theirs is not None
            )
            continue
        for field, attribute in _OF_DEVICE.items():
            before, now = getattr(ours, attribute), getattr(theirs, attribute)
            if before != now:
                yield Disagreement(field, address, before, now)


def of_drivers(
    pictured: Mapping[str, PciDriver], shown: Mapping[str, str | None]
) -> Iterator[Disagreement]:
    """Compare drivers by name; `shown` has their modules."""
    for name in sorted(pictured.keys() ^ shown.keys()):
        ours = name in pictured
        yield Disagreement(Field.DRIVER, name, ours, not ours)
    for name in sorted(pictured.keys() & shown.keys()):
        known = pictured[name]
        # Of a driver that came later only sysfs tells the module.
        if known.registered_ns is None and known.module != shown[name]:
            yield Disagreement(Field.MODULE, name, known.module, shown[name])

"""What looks wrong and is not, or can't be told: information, no findings."""

from __future__ import annotations

from typing import TYPE_CHECKING

from observer.candidates import autoprobe_off
from observer.findings.bindings import explained, why_unknown
from observer.findings.captures import shared_dynids
from observer.findings.overrides import by_kernel
from observer.findings.picture import Picture, drivers_of, listed, needs_no_driver
from observer.findings.shape import Note
from observer.text import printable, quoted

if TYPE_CHECKING:
    from collections.abc import Iterator

    from observer.machine import PciDevice


def notes(picture: Picture, device: PciDevice) -> Iterator[Note]:
    """Yield what is worth saying about a device."""
    if by_kernel(picture, device):
        yield Note(
            "vf_of_vfio_pf",
            f"override={quoted(device.driver_override or '')} is the kernel's own: a "
            f"VF of {printable(device.physfn or '')}, which is on vfio",
        )
    if device.iommu_group_before is not None:
        yield Note(
            "iommu_group_changed",
            f"IOMMU group {device.iommu_group}, was {device.iommu_group_before}",
        )
    for text in shared_dynids(picture, device):
        yield Note("shared_dynid", text)
    if device.driver is None:
        yield from _without_driver(picture, device)
    elif not explained(picture, device):
        unknown = why_unknown(picture, device)
        if unknown is not None:
            yield Note("unknown", unknown)


def _without_driver(picture: Picture, device: PciDevice) -> Iterator[Note]:
    matching = picture.matches(device)
    if not matching:
        return
    names = listed(drivers_of(matching))
    if autoprobe_off(picture.machine, device):
        yield Note(
            "sriov_drivers_autoprobe",
            "no driver, for sriov_drivers_autoprobe of its PF is off",
        )
    elif needs_no_driver(device):
        yield Note("bridge", "no driver, and a bridge needs none")
    elif not any(each.certain for each in matching):
        yield Note("uncertain", f"no driver, though modules.alias lists it for {names}")

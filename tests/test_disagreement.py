"""observer/disagreement.py: what differs between the picture and sysfs, each once."""

from __future__ import annotations

import pytest
from machines import ADDRESS, E1000, VFIO_PCI, device

from observer.disagreement import Disagreement, Field, of_devices, of_drivers

DEVICE = device()
OTHER = "0000:00:03.0"


def test_alike() -> None:
    """What is the same is no disagreement."""
    assert [] == [*of_devices({ADDRESS: DEVICE}, {ADDRESS: DEVICE}, stale=())]
    assert [] == [*of_drivers({"e1000": E1000}, {"e1000": "e1000"})]


@pytest.mark.parametrize(
    ("field", "attribute", "value"),
    [
        (Field.BOUND, "driver", "other"),
        (Field.DRIVER_OVERRIDE, "driver_override", "none"),
        (Field.IDS, "ids", DEVICE.ids._replace(class_=1)),
        (Field.PHYSFN, "physfn", OTHER),
        (Field.SRIOV_NUMVFS, "sriov_numvfs", 4),
        (Field.SRIOV_DRIVERS_AUTOPROBE, "sriov_drivers_autoprobe", False),
        (Field.IOMMU_GROUP, "iommu_group", 77),
        (Field.BOOT_VGA, "boot_vga", True),
    ],
)
def test_field_of_a_device(field: Field, attribute: str, value: object) -> None:
    """Every field of a device is compared, and told with both values."""
    shown = DEVICE._replace(**{attribute: value})
    found = [*of_devices({ADDRESS: DEVICE}, {ADDRESS: shown}, stale=())]
    assert [Disagreement(field, ADDRESS, getattr(DEVICE, attribute), value)] == found


def test_device_on_one_side() -> None:
    """A device that is not there is one disagreement, unless it is in doubt."""
    both = {ADDRESS: DEVICE}, {OTHER: DEVICE}
    expected = [
        Disagreement(Field.DEVICE, ADDRESS, pictured=True, found=False),
        Disagreement(Field.DEVICE, OTHER, pictured=False, found=True),
    ]
    assert expected == [*of_devices(*both, stale=())]
    assert expected[:1] == [*of_devices(*both, stale={OTHER})]


def test_drivers() -> None:
    """Drivers that came or went, and other modules of those from before."""
    later = VFIO_PCI._replace(module=None, registered_ns=5)
    pictured = {"e1000": E1000, "vfio-pci": later, "gone": E1000}
    shown = {"e1000": None, "vfio-pci": "vfio_pci", "came": None}
    assert [
        Disagreement(Field.DRIVER, "came", pictured=False, found=True),
        Disagreement(Field.DRIVER, "gone", pictured=True, found=False),
        Disagreement(Field.MODULE, "e1000", "e1000", None),
    ] == [*of_drivers(pictured, shown)]

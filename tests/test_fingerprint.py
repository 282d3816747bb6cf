"""observer/fingerprint.py: equal exactly when the bindings are."""

from __future__ import annotations

from typing import TYPE_CHECKING

import machines
import strategies
from hypothesis import example, given
from hypothesis import strategies as st

from observer.fingerprint import DIGITS, fingerprint
from observer.machine import PciDevice

if TYPE_CHECKING:
    from observer.record import Device

# Texts that an encoding could mistake for each other, or for what separates fields.
texts = st.none() | st.sampled_from(
    ["", "null", '"', '","', "\\", "\\n", "\n", "\udce9", "é", "\ud83d\ude00", "😀"]
)
devices = st.builds(
    PciDevice,
    st.sampled_from(["0000:00:02.0", "0000:00:02.1", "0000:00:02.0\n"]),
    strategies.devices,
    texts,
    texts,
)
sets = st.lists(devices, max_size=3, unique_by=lambda device: device.address)


def bindings(of: list[PciDevice]) -> set[tuple[str, Device, str | None, str | None]]:
    """Return what the fingerprint is of."""
    return {(each.address, each.ids, each.driver, each.driver_override) for each in of}


@given(sets, sets)
@example(
    [machines.device(bound="a", driver_override=None)],
    [machines.device(bound=None, driver_override="a")],
)
@example([machines.device(bound="\ud83d\ude00")], [machines.device(bound="😀")])
def test_any_two(some: list[PciDevice], others: list[PciDevice]) -> None:
    """Of two sets of devices, unlike and, by a few chosen texts, often alike."""
    alike = bindings(some) == bindings(others)
    assert alike == (fingerprint(some) == fingerprint(others))


@given(st.lists(devices, min_size=1, max_size=3), devices, st.data())
def test_near_miss(
    some: list[PciDevice], other: PciDevice, data: st.DataObject
) -> None:
    """One field of one device is as another's."""
    place = data.draw(st.integers(0, len(some) - 1))
    field = data.draw(st.sampled_from(["address", "ids", "driver", "driver_override"]))
    changed = [*some]
    changed[place] = some[place]._replace(**{field: getattr(other, field)})
    alike = sorted(map(repr, some)) == sorted(map(repr, changed))
    assert alike == (fingerprint(some) == fingerprint(changed))


@given(sets.flatmap(lambda some: st.tuples(st.just(some), st.permutations(some))))
def test_order_does_not_matter(both: tuple[list[PciDevice], list[PciDevice]]) -> None:
    """Two kernels may enumerate the same devices in another order."""
    some, shuffled = both
    assert fingerprint(some) == fingerprint(shuffled)


def test_nothing_else_matters() -> None:
    """IOMMU groups are numbered anew at each boot."""
    device = machines.device(bound="e1000")
    other = device._replace(iommu_group=7, boot_vga=True, sriov_numvfs=0)
    assert fingerprint([device]) == fingerprint([other])


def test_it_stays_the_same() -> None:
    """Metrics of hosts with other versions are compared with each other."""
    assert "e3b0c44298fc1c14" == fingerprint([])
    assert DIGITS == len(fingerprint([]))
    device = machines.device(bound="e1000", driver_override="vfio-pci")
    assert "2ba9495b4cdee0bc" == fingerprint([device])

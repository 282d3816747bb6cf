"""observer/difference.py, observer/cause.py: what changed between pictures, and why."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import machines
import pytest
from hypothesis import given
from machines import ADDRESS, E1000, E1000_ID, VFIO_PCI, device, driver
from pictures import pictured, pictures

from observer.change import Change, Kind
from observer.difference import difference
from observer.machine import Origin
from observer.record import Device, Id

if TYPE_CHECKING:
    from observer.pictured import Pictured

SECOND, THIRD = "0000:00:03.0", "0000:00:04.0"
RTL8139 = Device(0x10EC, 0x8139, 0, 0, 0x020000)
R8169 = driver("r8169", E1000_ID, module="r8169")
R8125 = driver("r8125", E1000_ID, module="r8125")
MIRRORED = {
    Kind.VANISHED: Kind.APPEARED,
    Kind.DRIVER_LOST: Kind.DRIVER_GAINED,
    Kind.OVERRIDE_LOST: Kind.OVERRIDE_SET,
    Kind.BUILT_IN: Kind.MODULAR,
}
MIRRORED |= {after: before for before, after in MIRRORED.items()}


def told(before: Pictured, after: Pictured) -> list[str]:
    """Return the changes as a person reads them."""
    return [
        f"{change.subject} {change}" + (f"; {change.cause}" if change.cause else "")
        for change in difference(before, after)
    ]


def mirrored(change: Change) -> Change:
    """Return the change from the other side; only causes are told in one direction."""
    return change._replace(
        kind=MIRRORED.get(change.kind, change.kind),
        address=change.address_before,
        address_before=change.address,
        before=change.after,
        after=change.before,
        cause="",
    )


@given(pictures)
def test_no_picture_differs_from_itself(picture: Pictured) -> None:
    """Nor from the same machine at another time, under another kernel."""
    later = picture._replace(release="7.3", unix_ns=1, layout="D")
    assert () == difference(picture, later)


@given(pictures, pictures)
def test_backwards_it_is_the_same(before: Pictured, after: Pictured) -> None:
    """What was lost one way is gained the other way."""
    there = difference(before, after)
    back = difference(after, before)
    assert {each._replace(cause="") for each in there} == set(map(mirrored, back))
    assert len(there) == len(back)


@given(pictures, pictures)
def test_every_change_can_be_told(before: Pictured, after: Pictured) -> None:
    """In words that a terminal can print, whatever drivers are called."""
    for change in difference(before, after):
        assert f"{change}; {change.cause}".isprintable()


@given(pictures, pictures)
def test_no_change_is_no_difference_of_bindings(
    before: Pictured, after: Pictured
) -> None:
    """If nothing is told of devices, each is bound as before."""
    if not [each for each in difference(before, after) if each.driver is None]:
        bound = [
            {each[:4] for each in picture.devices.values()}
            for picture in (before, after)
        ]
        assert bound[0] == bound[1]


def test_an_override_that_did_not_persist() -> None:
    """The device is back on its native driver; that others match now follows."""
    before = pictured(device(bound="vfio-pci", driver_override="vfio-pci"))
    assert [
        f"{ADDRESS} vfio-pci -> e1000; driver_override=vfio-pci is not set any more",
        (
            f"{ADDRESS} driver_override vfio-pci -> unset; it does not survive a "
            "reboot unless something sets it again"
        ),
    ] == told(before, pictured(device(bound="e1000")))


def test_an_override_that_was_set() -> None:
    """To a driver that nobody registered."""
    after = pictured(device(driver_override="nvidia"))
    assert [
        f"{ADDRESS} e1000 -> no driver; driver_override=nvidia is set now",
        f"{ADDRESS} driver_override unset -> nvidia; nvidia is not registered",
    ] == told(pictured(device(bound="e1000")), after)
    changed = difference(after, pictured(device(driver_override="vfio-pci")))
    assert [(Kind.OVERRIDE_CHANGED, "nvidia", "vfio-pci", "")] == [
        (each.kind, each.before, each.after, each.cause) for each in changed
    ]


def test_a_driver_that_is_missing() -> None:
    """The new kernel has no such driver; the candidate is gone with it."""
    after = pictured(device(), drivers=(VFIO_PCI,))
    gone = "e1000 is not registered any more"
    assert [
        f"{ADDRESS} e1000 -> no driver; {gone}",
        f"{ADDRESS} candidate set changed: -e1000; {gone}",
    ] == told(pictured(device(bound="e1000")), after)


def test_a_driver_that_is_new() -> None:
    """It matches a device that had none."""
    come = "e1000 is registered now and was not before"
    assert [
        f"{ADDRESS} no driver -> e1000; {come}",
        f"{ADDRESS} candidate set changed: +e1000; {come}",
    ] == told(pictured(device(), drivers=(VFIO_PCI,)), pictured(device(bound="e1000")))


def test_a_table_that_changed() -> None:
    """The driver is there and lists the device no more, or for the first time."""
    listed = pictured(device(bound="e1000"))
    other = pictured(device(), drivers=(driver("e1000", Id(1, 2), module="e1000"),))
    assert (
        f"{ADDRESS} e1000 -> no driver; e1000 does not match any more"
        == (told(listed, other)[0])
    )
    assert (
        f"{ADDRESS} no driver -> e1000; e1000 matches now and did not before"
        == (told(other, listed)[0])
    )


def test_a_dynid_that_is_gone() -> None:
    """It made the driver match; that it is gone is told of the driver as well."""
    stub = driver("pci-stub", dynids=(E1000_ID,))
    before = pictured(device(bound="pci-stub"), drivers=(stub,))
    after = pictured(device(), drivers=(driver("pci-stub"),))
    gone = "the dynid 8086:100e of pci-stub is gone: new_id does not persist"
    assert [
        f"{ADDRESS} pci-stub -> no driver; {gone}",
        f"{ADDRESS} candidate set changed: -pci-stub; {gone}",
        "pci-stub dynids 8086:100e -> none",
    ] == told(before, after)
    assert (
        "the dynid 8086:100e of pci-stub was not there before"
        in (told(after, before)[0])
    )


def test_an_order_that_flipped() -> None:
    """Both match; the first one registered wins."""
    before = pictured(device(bound="r8169"), drivers=(R8169, R8125))
    flipped = "both match; r8169 was registered first before, now r8125"
    order = "order of registration changed: r8169, r8125 -> r8125, r8169"
    built_in = R8125._replace(module=None)
    assert [
        f"{ADDRESS} r8169 -> r8125; {flipped}",
        f"{ADDRESS} {order}; {flipped}",
    ] == told(before, pictured(device(bound="r8125"), drivers=(R8125, R8169)))
    assert [
        f"{ADDRESS} r8169 -> r8125; {flipped}, which is built in now",
        f"{ADDRESS} {order}; {flipped}, which is built in now",
        (
            "r8125 module r8125 -> built in; r8125 is part of the kernel now: "
            "modprobe.d does not apply to it, its parameters are given on the "
            "command line"
        ),
    ] == told(before, pictured(device(bound="r8125"), drivers=(built_in, R8169)))


@pytest.mark.parametrize("known", [(True, False), (False, True), (False, False)])
def test_an_order_that_is_not_known(known: tuple[bool, bool]) -> None:
    """By name is no order of registration."""
    before, after = (
        pictured(device(bound=bound), drivers=drivers, order_known=order_known)
        for bound, drivers, order_known in zip(
            ("r8169", "r8125"), ((R8169, R8125), (R8125, R8169)), known, strict=True
        )
    )
    assert [f"{ADDRESS} r8169 -> r8125; both match"] == told(before, after)


def test_a_winner_of_the_same_order() -> None:
    """The order does not explain it."""
    before = pictured(device(bound="r8169"), drivers=(R8169, R8125))
    after = pictured(device(bound="r8125"), drivers=(R8169, R8125))
    for line in (*told(before, after), *told(after, before)):
        assert line.endswith(
            "both match, r8169 was registered first: the other was bound by hand, or "
            "after a probe refused"
        )


def test_a_winner_that_may_not_match() -> None:
    """Of one of both too much is unknown to tell its place."""
    hidden = driver("r8125", Id(1, 2), dynids=None)
    before = pictured(device(bound="r8169"), drivers=(R8169, hidden))
    after = pictured(device(bound="r8125"), drivers=(hidden, R8169))
    assert [f"{ADDRESS} r8169 -> r8125; both match"] == told(before, after)


def test_what_was_bound_without_a_match() -> None:
    """As after its dynid was removed; nothing tells why."""
    drivers = (R8169, driver("pci-stub"), driver("pci-pf-stub"))
    stub, other, none, native = (
        pictured(device(bound=bound), drivers=drivers)
        for bound in ("pci-stub", "pci-pf-stub", None, "r8169")
    )
    assert [f"{ADDRESS} pci-stub -> pci-pf-stub"] == told(stub, other)
    assert [f"{ADDRESS} pci-stub -> no driver"] == told(stub, none)
    assert [f"{ADDRESS} no driver -> pci-stub"] == told(none, stub)
    assert [f"{ADDRESS} pci-stub -> r8169"] == told(stub, native)


def test_a_candidate_more() -> None:
    """The binding is as before; it may not be the next time."""
    avs = driver("snd_soc_avs", E1000_ID, module="snd_soc_avs")
    after = pictured(device(bound="e1000"), drivers=(E1000, VFIO_PCI, avs))
    assert [
        (
            f"{ADDRESS} candidate set changed: +snd_soc_avs; snd_soc_avs is "
            "registered now and was not before"
        )
    ] == told(pictured(device(bound="e1000")), after)


def test_what_can_not_be_told_is_no_change() -> None:
    """Without root dynids are unknown, and who may match is neither new nor gone."""
    known = pictured(device(bound="e1000"))
    dark = [each._replace(dynids=None) for each in (E1000, VFIO_PCI)]
    assert [] == told(known, pictured(device(bound="e1000"), drivers=dark))
    hidden = driver("r8169", Id(1, 2), dynids=None)
    shown = driver("r8169", Id(1, 2), dynids=(E1000_ID,))
    before, after = (
        pictured(device(bound="e1000"), drivers=(E1000, each))
        for each in (hidden, shown)
    )
    assert [] == told(before, after)
    assert [] == told(after, before)


def test_drivers_that_are_unknown() -> None:
    """A picture without any driver is one that could not be taken whole."""
    known, dark = (
        pictured(device(bound=bound), drivers=drivers)
        for bound, drivers in (("e1000", (E1000,)), (None, ()))
    )
    assert [f"{ADDRESS} e1000 -> no driver"] == told(known, dark)
    assert [f"{ADDRESS} no driver -> e1000"] == told(dark, known)
    assert [f"{ADDRESS} driver_override unset -> vfio-pci"] == told(
        dark, pictured(device(driver_override="vfio-pci"), drivers=())
    )


def test_unbound() -> None:
    """The driver matches as before."""
    before, after = pictured(device(bound="e1000")), pictured(device())
    assert [
        (
            f"{ADDRESS} e1000 -> no driver; e1000 still matches; it was unbound, or "
            "its probe refused"
        )
    ] == told(before, after)
    assert [f"{ADDRESS} no driver -> e1000; e1000 matched before, too"] == told(
        after, before
    )


def test_a_module_that_is_not_known() -> None:
    """Hooks do not tell it: that is not built in."""
    seen = E1000._replace(module=None, origin=Origin.HOOKS)
    assert [] == told(
        pictured(device(bound="e1000")),
        pictured(device(bound="e1000"), drivers=(seen, VFIO_PCI)),
    )


def test_a_driver_without_devices_that_became_a_module() -> None:
    """It is told, with the devices concerned: none."""
    before = pictured(drivers=(VFIO_PCI._replace(module=None),))
    (change,) = difference(before, pictured())
    assert (Kind.MODULAR, "vfio-pci", None, "vfio_pci", ()) == (
        change.kind,
        change.driver,
        change.before,
        change.after,
        change.devices,
    )


def moves(before: Pictured, after: Pictured) -> list[tuple[Any, ...]]:
    """Return the kinds and addresses of the changes."""
    return [
        (each.kind, each.address_before, each.address)
        for each in difference(before, after)
    ]


def test_a_device_that_moved() -> None:
    """Its ids tell that it is the same; its binding is compared."""
    before = pictured(device(bound="e1000"))
    after = pictured(device(SECOND, bound="vfio-pci", driver_override="vfio-pci"))
    assert [
        (Kind.MOVED, ADDRESS, SECOND),
        (Kind.DRIVER_CHANGED, ADDRESS, SECOND),
        (Kind.OVERRIDE_SET, ADDRESS, SECOND),
    ] == moves(before, after)


def test_equal_devices_that_moved() -> None:
    """In the order of address, as buses are numbered anew."""
    first = device(bound="e1000")
    second = device(SECOND, bound="vfio-pci", driver_override="vfio-pci")
    before = pictured(first, second)
    after = pictured(first._replace(address=SECOND), second._replace(address=THIRD))
    assert [
        (Kind.MOVED, ADDRESS, SECOND),
        (Kind.MOVED, SECOND, THIRD),
    ] == moves(before, after)


def test_equal_devices_without_a_driver_that_moved() -> None:
    """Their overrides tell them apart."""
    first, second = device(driver_override="none"), device(SECOND)
    after = pictured(first._replace(address=SECOND), second._replace(address=THIRD))
    assert [
        (Kind.MOVED, ADDRESS, SECOND),
        (Kind.MOVED, SECOND, THIRD),
    ] == moves(pictured(first, second), after)


def test_one_of_equal_devices_that_moved() -> None:
    """The other one is bound as before, at its address."""
    before = pictured(device(bound="vfio-pci"), device(SECOND, bound="e1000"))
    after = pictured(device(SECOND, bound="e1000"), device(THIRD, bound="vfio-pci"))
    assert [(Kind.MOVED, ADDRESS, THIRD)] == moves(before, after)


def test_more_equal_devices_than_before() -> None:
    """Which of those at new addresses is which, nobody can tell."""
    before = pictured(device(bound="e1000"), device(SECOND))
    after = pictured(device(SECOND), device(THIRD), device("0000:00:05.0"))
    assert [
        (Kind.VANISHED, ADDRESS, None),
        (Kind.APPEARED, None, THIRD),
        (Kind.APPEARED, None, "0000:00:05.0"),
    ] == moves(before, after)


def test_another_device_at_the_same_address() -> None:
    """One went, one came."""
    before = pictured(device(bound="e1000"))
    after = pictured(device(ids=RTL8139))
    assert [
        f"{ADDRESS} vanished, had e1000",
        f"{ADDRESS} appeared, has no driver",
    ] == told(before, after)


def test_domains_are_ordered_as_numbers() -> None:
    """Those of VMD have five digits."""
    vmd = device("10000:00:02.0", bound="e1000")
    before = pictured(device("9000:00:02.0"), vmd)
    after = pictured(device("9000:00:03.0"), vmd._replace(address="10000:00:03.0"))
    assert ["9000:00:03.0", "10000:00:03.0"] == [
        each.address for each in difference(before, after)
    ]


def test_a_vf_that_is_not_enabled() -> None:
    """What to look at is its PF."""
    vf = device(SECOND, ids=RTL8139, physfn=ADDRESS)
    pf = device(bound="e1000")
    assert [
        (
            f"{SECOND} vanished, had no driver; a VF of {ADDRESS}: as many as its "
            "sriov_numvfs are there"
        )
    ] == told(pictured(pf, vf), pictured(pf))


def test_what_is_volatile_does_not_count() -> None:
    """Groups, times and what was seen."""
    assert [] == told(
        pictured(device(bound="e1000", iommu_group=1)),
        pictured(
            device(bound="e1000", iommu_group=2, iommu_group_before=1),
            now_ns=machines.seconds(500),
            gaps=("A gap.",),
            observed_since_ns=None,
        ),
    )

"""observer/candidates.py: which drivers match a device, and which may."""

from __future__ import annotations

import pytest
from machines import ANY_OVERRIDE_ONLY, E1000, E1000_ID, VFIO_PCI, device, driver
from machines import machine as machine_of

from observer.candidates import candidates, possible
from observer.machine import Origin
from observer.model import SEMANTICS
from observer.record import Id, Indeterminate, Outcome, Reason, Source, TableState

OTHER = driver("other", E1000_ID)


def test_registration_order() -> None:
    """All drivers that match are there, in the order in which they registered."""
    machine = machine_of(device(), drivers=(OTHER, VFIO_PCI, E1000))
    found = candidates(machine, machine.devices["0000:00:02.0"])
    assert ["other", "e1000"] == [each.driver for each in found]
    assert {Outcome(Source.STATIC, 0)} == {each.verdict for each in found}
    assert all(each.certain for each in found)
    assert "id_table[0] (8086:100e) does" in found[0].reason


def test_override() -> None:
    """An override leaves the driver it names, and a driver without ids takes it too."""
    stub = driver("pci-stub")
    machine = machine_of(drivers=(E1000, stub, VFIO_PCI))
    for name in ("e1000", "pci-stub", "vfio-pci"):
        found = candidates(machine, device(driver_override=name))
        assert [name] == [each.driver for each in found]
    assert () == candidates(machine, device(driver_override="none"))


def test_dynid() -> None:
    """A dynid makes its driver a candidate."""
    vfio = driver("vfio-pci", ANY_OVERRIDE_ONLY, dynids=(Id(1, 2), E1000_ID))
    (found,) = candidates(machine_of(drivers=(vfio,)), device())
    assert Outcome(Source.DYNID, 1) == found.verdict


def test_other_semantics() -> None:
    """Another semantics can be asked; without the flag vfio-pci takes anything."""
    machine = machine_of(drivers=(VFIO_PCI,))
    assert () == candidates(machine, device())
    (found,) = candidates(machine, device(), "linux-3.16")
    assert "vfio-pci" == found.driver
    with pytest.raises(KeyError):
        candidates(machine, device(), "linux-0.01")


def test_endless_search_is_no_match() -> None:
    """A driver at which the search never ends does not match."""
    machine = machine_of(drivers=(VFIO_PCI,), semantics="rfc-2021-06-17")
    assert () == candidates(machine, device())


def test_unknown_dynids_but_an_entry() -> None:
    """An entry that matches is enough; a dynid could only match before it."""
    hidden = driver("e1000", E1000_ID, dynids=None)
    machine = machine_of(drivers=(hidden,))
    (found,) = candidates(machine, device())
    assert found.certain
    assert Indeterminate(Reason.DYNIDS_TRUNCATED) == found.verdict
    assert "An id_table entry matches; its dynids are unknown." == found.reason
    assert () == possible(machine, device())


def test_unknown_dynids_decide() -> None:
    """Without an entry the dynids decide; unknown, they make it possible only."""
    hidden = driver("other", dynids=None)
    machine = machine_of(drivers=(hidden,))
    assert () == candidates(machine, device())
    (found,) = possible(machine, device())
    assert not found.certain
    assert "Can't tell: its dynids are unknown." == found.reason


def test_unknown_table() -> None:
    """A driver whose table was cut may match, and surely does by an override."""
    cut = driver("e1000", Id(1, 2), table_state=TableState.TRUNCATED)
    machine = machine_of(drivers=(cut,))
    assert () == candidates(machine, device())
    assert [False] == [each.certain for each in possible(machine, device())]
    named = device(driver_override="e1000")
    (found,) = candidates(machine, named)
    assert found.certain
    assert "driver_override names this driver; which id matches is unknown." == (
        found.reason
    )
    assert () == candidates(machine, named, "rfc-2021-06-03")


def test_unknown_parts_may_prevent_a_match() -> None:
    """Under a proposal a dynid spoils the match of an override; it may be there."""
    hidden = driver("vfio-pci", ANY_OVERRIDE_ONLY, dynids=None)
    machine = machine_of(drivers=(hidden,))
    named = device(driver_override="vfio-pci")
    assert 1 == len(candidates(machine, named))
    assert () == candidates(machine, named, "rfc-2021-06-03")
    assert 1 == len(possible(machine, named, "rfc-2021-06-03"))


def test_unknown_rest_of_a_table_may_be_empty() -> None:
    """Where any entry would match, there may still be none."""
    cut = driver("e1000", table_state=TableState.UNKNOWN)
    assert () == candidates(machine_of(drivers=(cut,)), device(), "linux-3.16")


def test_unknown_rest_of_a_table_may_hide_a_plain_entry() -> None:
    """A flagged entry alone is no match, but there may be a plain one behind it."""
    cut = driver("e1000", ANY_OVERRIDE_ONLY, table_state=TableState.TRUNCATED)
    machine = machine_of(drivers=(cut,))
    assert () == candidates(machine, device())
    assert 1 == len(possible(machine, device()))


def test_modules_alias_is_not_certain() -> None:
    """What modules.alias tells is a candidate, but not a certain one."""
    listed = driver("e1000", E1000_ID, origin=Origin.MODULES_ALIAS, dynids=None)
    (found,) = candidates(machine_of(drivers=(listed,)), device())
    assert not found.certain
    assert found.reason.startswith("modules.alias lists the device for it")


@pytest.mark.parametrize("slug", SEMANTICS)
def test_alike_devices_are_asked_once(slug: str) -> None:
    """Every semantics answers; without an override no flagged table is a candidate."""
    found = candidates(machine_of(), device(), slug)
    flags = SEMANTICS[slug].flags
    assert ("vfio-pci" in [each.driver for each in found]) == (not flags)

"""observer/tracking.py: the picture follows what is observed, in bounded memory."""

from __future__ import annotations

from typing import TYPE_CHECKING

from observations import (
    ADDRESS,
    DYNID,
    MACHINE,
    START_NS,
    new_id,
    probe,
    tracker,
)

if TYPE_CHECKING:
    from observer.machine import PciDevice
    from observer.record import Id
    from observer.tracking import Tracker


def device(seen: Tracker, address: str = ADDRESS) -> PciDevice:
    """Return a device as it is pictured."""
    return seen.machine(0).devices[address]


def dynids(seen: Tracker, name: str = "pci-stub") -> tuple[Id, ...] | None:
    """Return a driver's dynids as they are pictured."""
    return seen.machine(0).drivers[name].dynids


def test_look_is_the_first_picture() -> None:
    """Nothing observed: the picture is the look, now with somebody watching."""
    expected = MACHINE._replace(now_ns=2000, observed_since_ns=START_NS)
    assert expected == tracker().machine(2000)


def test_new_id_adds_a_dynid() -> None:
    """A write that succeeded is in the dynids, one that failed is not."""
    seen = tracker()
    seen(new_id(1010, "8086 100e\n"))
    seen(new_id(1020, "8086 100e\n", errno="EEXIST"))
    assert (DYNID,) == dynids(seen)


def test_device_is_bound_by_a_probe() -> None:
    """A probe that succeeded binds, and is an event of the device."""
    seen = tracker()
    before = seen.version
    seen(probe(1010))
    assert "e1000" == device(seen).driver
    assert (probe(1010).probe,) == seen.machine(0).device_events[ADDRESS]
    assert seen.version > before

"""observer/audit.py: every device judged, as data, as JSON and as text."""

from __future__ import annotations

import json

import pytest
from hypothesis import given, settings
from machines import (
    ADDRESS,
    ANY_OVERRIDE_ONLY,
    E1000,
    E1000_ID,
    VFIO_PCI,
    device,
    driver,
    machine,
    machines,
)

from observer.audit import as_object, as_text, audit, has_findings
from observer.fingerprint import fingerprint
from observer.machine import Machine, Origin
from observer.record import Device, Id
from observer.terminal import WIDTH

SECOND = "0000:00:03.0"
GREEDY = driver("vfio-pci", ANY_OVERRIDE_ONLY, dynids=(E1000_ID,), module="vfio_pci")


def test_healthy() -> None:
    """A device bound to the driver that lists it is no finding."""
    found = audit(machine(device(bound="e1000")))
    assert not has_findings(found)
    (audited,) = found.devices
    assert ["e1000"] == [each.driver for each in audited.candidates]
    assert "0 dynids; nothing is wrong." in " ".join(as_text(found))


def test_findings_stand_with_all_devices_that_they_concern() -> None:
    """A finding about several devices is found with each of them, and listed once."""
    on = device(bound="vfio-pci", driver_override="vfio-pci", iommu_group=1)
    off = device(SECOND, bound="e1000", iommu_group=1)
    found = audit(machine(on, off))
    assert has_findings(found)
    assert 1 == len(found.findings)
    assert [found.findings, found.findings] == [each.findings for each in found.devices]


def test_other_semantics() -> None:
    """Without the flag, vfio-pci was a candidate for anything."""
    found = audit(machine(device(bound="e1000")), "linux-3.16")
    assert "linux-3.16" == found.semantics
    assert ["e1000", "vfio-pci"] == [
        each.driver for each in found.devices[0].candidates
    ]
    with pytest.raises(KeyError):
        audit(machine(device()), "linux-0.01")


def test_object() -> None:
    """All that a comparison of two machines needs, and each finding with its cure."""
    shown = machine(device(driver_override="none"), drivers=(E1000, GREEDY))
    told = json.loads(json.dumps(as_object(audit(shown))))
    assert ("pci-observer-audit", 1) == (told["format"], told["version"])
    assert told["kernel"] == {
        "release": "6.12.90",
        "layout": "B",
        "semantics": "linux-5.15",
        "new_id_rules": "linux-5.11",
        "drivers_autoprobe": True,
    }
    e1000, vfio = told["drivers"]
    assert ("e1000", "e1000", [], 1) == (
        e1000["name"],
        e1000["module"],
        e1000["dynids"],
        e1000["id_table_entries"],
    )
    assert ("kernel_memory", False) == (e1000["origin"], e1000["built_in"])
    assert fingerprint(shown.devices.values()) == told["fingerprint"]
    assert [0x100E] == [dynid["device"] for dynid in vfio["dynids"]]
    (told_device,) = told["devices"]
    assert (ADDRESS, None, "none", []) == (
        told_device["address"],
        told_device["driver"],
        told_device["driver_override"],
        told_device["candidates"],
    )
    assert 0x8086 == told_device["ids"]["vendor"]
    assert ["stale_override"] == told_device["findings"]
    (finding,) = told["findings"]
    assert "names_no_driver" == finding["kind"]
    assert finding["cure"].startswith("echo > ")
    assert ["e1000", "vfio-pci"] == finding["details"]["rejected"]


def test_candidates_in_order() -> None:
    """Candidates are told in the order of registration, with what matched."""
    shown = machine(device(bound="vfio-pci"), drivers=(GREEDY, E1000))
    (told,) = as_object(audit(shown))["devices"]  # type: ignore[misc, attr-defined]
    assert [("vfio-pci", "dynid", 0), ("e1000", "static", 0)] == [
        (each["driver"], each["match"], each["index"]) for each in told["candidates"]
    ]


def test_text() -> None:
    """Summary, finding and cure, then devices, dynids and what is unknown."""
    listed = driver("r8169", Id(1, 2), dynids=None, origin=Origin.MODULES_ALIAS)
    shown = machine(
        *(device(driver_override="gone"), device(SECOND, ids=Device(1, 2, 3, 4, 5))),
        drivers=(E1000, GREEDY, listed),
        order_known=False,
        gaps=("Kernel memory can't be read: \x1b no capability.",),
    )
    lines = [*as_text(audit(shown), lambda unix_ns: f"T{unix_ns // 10**9}")]
    summary, watched, print_, _empty, *told, _nothing, _heading, row = lines[:10]
    assert summary.endswith("2 devices, 0 bound; 3 drivers, 1 dynid; 1 finding.")
    assert "Watched since T1000001." == watched
    bindings = fingerprint(shown.devices.values())
    assert f"Fingerprint of the bindings: {bindings}." == print_
    recorded = shown._replace(recorded_since_ns=500_000_000)
    _, watched, *_ = as_text(audit(recorded), lambda unix_ns: f"T{unix_ns // 10**8}")
    assert (
        "Watched since T10000010. Decisions from T10000005 on were recorded by the "
        "kernel."
    ) == watched
    assert told[0].startswith("stale_override: STALE OVERRIDE 0000:00:02.0: override ")
    assert told[1].endswith("clear driver_override")
    assert "    $ echo > /sys/bus/pci/devices/0000:00:02.0/driver_override" == told[2]
    assert "0000:00:02.0  8086:100e  020000  -       gone      -" == row
    assert lines[10:] == [
        "0000:00:03.0  0001:0002  000005  -       -         r8169?",
        "",
        "Notes:",
        "    0000:00:03.0: no driver, though modules.alias lists it for r8169",
        "",
        "Dynids:",
        "    vfio-pci: 8086:100e",
        "",
        "Unknown:",
        r"    Kernel memory can't be read: \x1b no capability.",
        "    The order of registration is unknown: candidates stand by name.",
        "    The dynids of 1 driver are unknown.",
    ]


def test_table_fits_a_terminal() -> None:
    """A row with many candidates is cut, and a long name as well."""
    crowd = [driver(f"driver-{place:040}", E1000_ID) for place in range(9)]
    name = crowd[0].driver.name
    lines = [*as_text(audit(machine(device(bound=name), drivers=crowd)))]
    (row,) = (line for line in lines if line.startswith(ADDRESS))
    assert WIDTH == len(row)
    assert "  driver-00000000000000..." in row
    assert row.endswith("...")


def test_text_of_a_look() -> None:
    """Where nobody watched, that is said; drivers that may match are counted."""
    hidden = driver("other", dynids=None)
    shown = machine(device(), drivers=(VFIO_PCI, hidden), observed_since_ns=None)
    lines = [*as_text(audit(shown))]
    assert "A look at one moment: what happened before is unknown." in lines
    assert any(line.endswith("(1 possible)") for line in lines)


def test_a_layout_of_any_name() -> None:
    """The daemon tells it, and a terminal gets no control sequence."""
    odd = audit(machine(device())._replace(layout="\x1b\udc80"))
    text = "".join(as_text(odd))
    assert "layout \\x1b\\udc80: 1 device" in text


@settings(max_examples=100)
@given(machines)
def test_any_machine(any_one: Machine) -> None:
    """No machine is too strange for text and JSON; a terminal is never overrun."""
    found = audit(any_one)
    json.dumps(as_object(found))
    assert all(line.isprintable() for line in as_text(found))
    table = [line for line in as_text(found) if line.startswith("0000:")]
    assert all(len(line) <= WIDTH for line in table)

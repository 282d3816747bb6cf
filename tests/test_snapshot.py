"""observer/snapshot.py: a machine survives its way through a file."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from observations import ADDRESS, DYNID, MACHINE, STATIC, TASK, bind, new_id, probe
from pictures import pictures
from strategies import (
    addresses,
    complete_drivers,
    devices,
    entries,
    names,
    overrides,
    partial_drivers,
    probes,
    tasks,
    texts,
    u32,
    u64,
    uevents,
    writes,
)

from observer.fields import FieldError
from observer.machine import Decision, Machine, Origin, PciDevice, PciDriver
from observer.record import Source
from observer.slugs import SLUGS
from observer.snapshot import as_object, from_object

flags = st.none() | st.booleans()
decisions = st.builds(
    Decision,
    *(u64, tasks, names, st.sampled_from(Source), st.none() | u32, overrides),
    st.none() | entries,
)
pci_drivers = st.builds(
    PciDriver,
    complete_drivers | partial_drivers,
    st.sampled_from(Origin),
    st.none() | st.lists(entries, max_size=2).map(tuple),
    st.none() | names,
    st.none() | u64,
)
pci_devices = st.builds(
    PciDevice,
    *(addresses, devices, st.none() | names, overrides, st.none() | addresses),
    *(st.none() | u32, flags, st.none() | u32, flags, st.none() | u32),
)
machines = st.builds(
    Machine,
    *(texts(20), texts(5), st.sampled_from(SLUGS), texts(20), flags),
    st.lists(pci_drivers, max_size=3).map(
        lambda each: {known.driver.name: known for known in each}
    ),
    st.booleans(),
    st.lists(pci_devices, max_size=3).map(
        lambda each: {device.address: device for device in each}
    ),
    st.lists(texts(20), max_size=2).map(tuple),
    *(u64, u64, st.none() | u64),
    st.dictionaries(
        addresses,
        st.lists(decisions | probes | writes() | uevents, max_size=3).map(tuple),
        max_size=2,
    ),
    st.dictionaries(
        names, st.lists(writes() | uevents, max_size=3).map(tuple), max_size=2
    ),
    st.frozensets(addresses, max_size=2),
    st.none() | pictures,
    st.none() | u64,
)


def file(machine: Machine = MACHINE) -> dict[str, Any]:
    """Return what a file would have."""
    read: dict[str, Any] = json.loads(json.dumps(as_object(machine)))
    return read


@given(machines)
def test_round_trip(machine: Machine) -> None:
    """What is written is what is read, the orders of drivers and devices too."""
    read = from_object(file(machine))
    assert machine == read
    assert list(machine.drivers) == list(read.drivers)
    assert list(machine.devices) == list(read.devices)


def test_of_an_earlier_version() -> None:
    """A file that doesn't tell about a recording at boot is of a machine without."""
    written = file(MACHINE._replace(recorded_since_ns=7))
    assert 7 == from_object(written).recorded_since_ns
    del written["recorded_since_ns"]
    assert None is from_object(written).recorded_since_ns


def test_shape() -> None:
    """Others may read it, so it stays as it is."""
    known = MACHINE.drivers["pci-stub"]._replace(dynids=(DYNID,))
    decision = Decision(5, TASK, "e1000", *STATIC, None, DYNID)
    written = file(
        MACHINE._replace(
            drivers={"pci-stub": known},
            devices={ADDRESS: MACHINE.devices[ADDRESS]},
            device_events={ADDRESS: (decision, probe(6).probe, bind(7).write)},
            driver_events={"pci-stub": (new_id(8, "1 2").write,)},
        )
    )
    task = {"pid": 10, "tgid": 10, "comm": "sh", "cpu": 0}
    id_ = {"vendor": 0x8086, "device": 0x100E}
    assert ("pci-observer-machine", 1) == (written["format"], written["version"])
    (driver,) = written["inventory"]["drivers"]
    assert [[0x8086, 0x100E, 0xFFFFFFFF, 0xFFFFFFFF, 0, 0, 0, 0]] == driver["dynids"]
    (device,) = written["devices"]
    assert ADDRESS == device["address"]
    assert id_.items() <= device["ids"].items()
    first, second, third = written["device_events"][ADDRESS]
    assert {"record": "decision", "match": "static", **task}.items() <= first.items()
    assert id_.items() <= first["dynid"].items()
    assert ["probe", "write"] == [second["record"], third["record"]]
    assert ["write"] == [
        each["record"] for each in written["driver_events"]["pci-stub"]
    ]


def test_what_an_earlier_minor_version_wrote_is_read() -> None:
    """It did not know of a baseline."""
    written = file()
    del written["baseline"]
    assert MACHINE == from_object(written)


def test_what_a_later_minor_version_added_is_skipped() -> None:
    """Fields and kinds of events that are unknown do no harm."""
    written = file()
    written["later"] = written["devices"][0]["later"] = 1
    written["device_events"] = {ADDRESS: [{"record": "later"}]}
    written["driver_events"] = {"e1000": [{"record": "later"}]}
    expected = MACHINE._replace(
        device_events={ADDRESS: ()}, driver_events={"e1000": ()}
    )
    assert expected == from_object(written)


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("format", "tarball", "machine.format: not pci-observer-machine"),
        ("version", 2, "machine.version: 2 is newer than 1"),
        ("semantics", "linux-9.0", "machine.semantics: 'linux-9.0' is not known here"),
        ("now_ns", -1, "machine.now_ns: "),
        ("drivers_autoprobe", 1, "machine.drivers_autoprobe: "),
        ("devices", [{}], r"machine.devices\[0\].address: missing"),
        ("inventory", {}, "inventory.drivers: missing"),
        ("device_events", {"a": 1}, "machine.device_events.a: not a list"),
        ("driver_events", [], "machine.driver_events: not an object"),
        ("baseline", {"format": 1}, "machine.baseline.format: not a string"),
    ],
)
def test_bad_input_is_named(field: str, value: object, message: str) -> None:
    """An error begins with the field."""
    with pytest.raises(FieldError, match=f"^{message}"):
        from_object({**file(), field: value})


def test_no_object() -> None:
    """A file may hold anything."""
    with pytest.raises(FieldError, match=r"^machine: not an object"):
        from_object([])

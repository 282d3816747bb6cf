"""observer/history.py: what was bound under which kernel, for people and programs."""

from __future__ import annotations

import json
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

import machines
import observations
import pytest
import stores
from hypothesis import given, settings
from test_standing import finding

from observer.cli import main
from observer.history import address_of, as_object, as_text, read
from observer.record import Action, StoreFile
from observer.store import FILE, Archive

if TYPE_CHECKING:
    from observer.machine import Machine
    from observer.record import Write

S = machines.seconds
ADDRESS, OTHER = machines.ADDRESS, "0000:00:03.0"
UNBIND = machines.write(104, StoreFile.UNBIND, driver="e1000")
PROBE = machines.probe(106, "vfio-pci")


def clock(unix_ns: int) -> str:
    """Spell a time as its seconds on the monotonic clock of these tests."""
    return f"@{(unix_ns - stores.OFFSET_NS) // 10**9}"


def kept(directory: Path) -> None:
    """Keep two boots: a device that changed hands in the first, none in the second."""
    ticks = stores.Clock()
    store = stores.store(directory, clock=ticks)
    device, other = machines.device(bound="e1000"), machines.device(OTHER)
    store.keep_bindings(machines.machine(device, other))
    store.step()
    for seen in (
        observations.Wrote(UNBIND, observations.Judgement.AGREE, None),
        observations.Probed(PROBE),
        stores.JUDGED,
    ):
        store(seen)
    now = machines.machine(
        device._replace(driver="vfio-pci", driver_override="vfio-pci"),
        now_ns=S(107),
        device_events={ADDRESS: (UNBIND, PROBE)},
    )
    ticks.ktime_ns = S(108)
    store.keep_bindings(now)
    store.keep_findings((finding(),))
    store.step()
    ticks.ktime_ns = S(109)
    store.keep_findings(())
    store.keep_picture({}, 7)
    store.close()
    later = stores.store(directory, stores.LATER, clock=stores.Clock(9))
    later.keep_bindings(machines.machine(device._replace(driver=None), now_ns=S(8)))
    later.close()


def lines(directory: Path, address: str | None = None) -> list[str]:
    """Return what a person gets."""
    with Archive(directory / FILE) as archive:
        return list(as_text(read(archive, address), clock))


def test_all_devices(tmp_path: Path) -> None:
    """Boots first, then each device, boot by boot, the newest last."""
    kept(tmp_path)
    first, second, *rest = lines(tmp_path)
    assert (
        "boot 1: Linux 6.1.0-56-amd64, @100 to @109, 1 decision, 1 probe, 1 write, "
        "1 finding, id 0a1b2c3d-0000-4000-8000-000000000001"
    ) == first
    assert (
        "boot 2: Linux 6.12.90, @9 to @9, 0 decisions, 0 probes, 0 writes, "
        "0 findings, id 0a1b2c3d-0000-4000-8000-000000000002"
    ) == second
    assert [
        "",
        "0000:00:02.0 (8086:100e, class 020000)",
        "  boot 1, Linux 6.1.0-56-amd64:",
        "    @100  driver e1000; found so",
        "    @106  driver vfio-pci, driver_override vfio-pci; by tee (pid 123)",
        "  boot 2, Linux 6.12.90:",
        "    @8  no driver; found so",
        "",
        "0000:00:03.0 (8086:100e, class 020000)",
        "  boot 1, Linux 6.1.0-56-amd64:",
        "    @100  no driver; found so",
        "    @107  the device is gone",
    ] == rest


def test_one_device(tmp_path: Path) -> None:
    """With what happened to it, who did it, and what was wrong."""
    kept(tmp_path)
    told = lines(tmp_path, ADDRESS)
    at = told.index("  boot 1, Linux 6.1.0-56-amd64:")
    assert [
        "    @100  driver e1000; found so",
        "    @103  tee (pid 123, uid 0) wrote 0000:00:02.0 to unbind of e1000",
        "    @105  bound to vfio-pci, in tee (pid 123)",
        "    @106  driver vfio-pci, driver_override vfio-pci; by tee (pid 123)",
        "    @108  orphan: It has no driver.",
        "    @109  orphan is over",
    ] == told[at + 1 : at + 7]
    assert not [line for line in told if OTHER in line]


def test_a_device_that_nobody_saw(tmp_path: Path) -> None:
    """It is said, and is no error."""
    kept(tmp_path)
    assert ["", "Nothing is known of 0000:00:1f.0."] == lines(tmp_path, "0000:00:1f.0")[
        -2:
    ]


def test_for_programs(tmp_path: Path) -> None:
    """All there is, times by both clocks."""
    kept(tmp_path)
    with Archive(tmp_path / FILE) as archive:
        value = json.loads(json.dumps(as_object(read(archive, ADDRESS))))
    assert ("pci-observer-history", 1, ADDRESS) == (
        value["format"],
        value["version"],
        value["address"],
    )
    assert ["6.1.0-56-amd64", "6.12.90"] == [each["release"] for each in value["boots"]]
    assert [1, 1, 1, 1] == [
        value["boots"][0][name]
        for name in ("decisions", "probes", "writes", "findings")
    ]
    assert [7, None] == [each["picture_unix_ns"] for each in value["boots"]]
    assert {
        "boot": 1,
        "address": ADDRESS,
        "ids": {
            "vendor": 0x8086,
            "device": 0x100E,
            "subvendor": 0x1AF4,
            "subdevice": 0x1100,
            "class": 0x020000,
        },
        "driver": "vfio-pci",
        "driver_override": "vfio-pci",
        "since_ktime_ns": S(106),
        "since_unix_ns": S(106) + stores.OFFSET_NS,
        "until_ktime_ns": None,
        "until_unix_ns": None,
        "seen": True,
        "who": {"comm": "tee", "tgid": 123, "uid": None},
    } == value["bindings"][1]
    assert [("write", S(104)), ("probe", S(106))] == [
        (each["record"], each["ktime_ns"]) for each in value["events"]
    ]
    assert "orphan" == value["findings"][0]["finding"]


@pytest.mark.parametrize(
    ("write", "expected"),
    [
        (UNBIND, ADDRESS),
        (machines.write(1, StoreFile.DRIVERS_PROBE, f"{ADDRESS}\n"), ADDRESS),
        (machines.write(1, StoreFile.DRIVER_OVERRIDE, OTHER, address=ADDRESS), ADDRESS),
        (machines.write(1, StoreFile.NEW_ID, ADDRESS, driver="e1000"), None),
        (machines.write(1, StoreFile.BIND, "nonsense", driver="e1000"), None),
    ],
)
def test_writes_about_a_device(write: Write, expected: str | None) -> None:
    """Those to its own file, and those that name it."""
    assert expected == address_of(write)


@settings(deadline=None, max_examples=25)
@given(machines.machines)
def test_hostile_text(machine: Machine) -> None:
    """Whatever names a machine has, lines can be printed and JSON is ASCII."""
    with TemporaryDirectory() as directory:
        check_printable(Path(directory), machine)


def check_printable(directory: Path, machine: Machine) -> None:
    """Keep the machine and read it."""
    store = stores.store(directory, stores.RUNNING._replace(release="6\x1b[31m\udc80"))
    store.keep_bindings(machine)
    for device in machine.devices.values():
        for event in machine.device_events[device.address]:
            if isinstance(event, machines.Write):
                store(observations.Wrote(event, observations.Judgement.AGREE, None))
            elif isinstance(event, machines.Probe):
                store(observations.Probed(event))
    store.keep_findings((finding(address="\x1b\udc80", text="\x1b"),))
    store.close()
    assert (0, 0) == store.counts()[2:4]
    for address in (None, *machine.devices):
        told = lines(directory, address)
        assert [line for line in told if line.isprintable()] == told
        with Archive(directory / FILE) as archive:
            assert json.dumps(as_object(read(archive, address))).isascii()


def test_the_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """For a person, for a program, and for one device in short."""
    kept(tmp_path)
    assert 0 == main(["history", "--state", str(tmp_path)])
    assert "boot 2: Linux 6.12.90" in capsys.readouterr().out
    assert 0 == main(["history", "00:02.0", "--json", "--state", str(tmp_path)])
    assert ADDRESS == json.loads(capsys.readouterr().out)["address"]


def test_while_the_daemon_writes(tmp_path: Path) -> None:
    """What was committed is told, not later."""
    store = stores.store(tmp_path)
    store.keep_bindings(machines.machine(machines.device(bound="e1000")))
    store.step()
    assert "    @100  driver e1000; found so" in lines(tmp_path)
    store.close()


@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        (["nonsense"], "nonsense is no address of a PCI device"),
        (["--state", "/nowhere"], "/nowhere/history.sqlite is not there"),
        (["--state", "/dev/null"], "/dev/null/history.sqlite can't be read"),
    ],
)
def test_bad_input(
    arguments: list[str], error: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """One line says what is wrong; exit status 2."""
    assert 2 == main(["history", *arguments])
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"pci-observer: {error}")


def test_the_driver_of_a_uevent(tmp_path: Path) -> None:
    """A bind whose probe was not seen has its time all the same."""
    event = machines.uevent(99, Action.BIND, driver="e1000")
    store = stores.store(tmp_path)
    device = machines.device(bound="e1000")
    store.keep_bindings(machines.machine(device, device_events={ADDRESS: (event,)}))
    store.close()
    assert "    @99  driver e1000" in lines(tmp_path)

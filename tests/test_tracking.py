"""observer/tracking.py: the picture follows what is observed, in bounded memory."""

from __future__ import annotations

import pytest

from observer.event_history import EventHistory, Limits
from observer.machine import Decision, Machine, Origin, PciDevice, PciDriver
from observer.record import (
    Action,
    Device,
    Driver,
    Id,
    Inputs,
    Judged,
    Judgement,
    Loss,
    LossStage,
    Match,
    Outcome,
    Path,
    Probe,
    Probed,
    ProbeResult,
    Reason,
    Source,
    StoreFile,
    TableState,
    Task,
    Uevent,
    Unregister,
    Write,
    Wrote,
)
from observer.timeline import DEPTH, Timeline
from observer.tracking import Disagreement, Field, Tracker

START_NS = 1000
TASK = Task(10, 10, "sh", 0)
ADDRESS, OTHER = "0000:00:02.0", "0000:00:03.0"
IDS = Device(0x8086, 0x100E, 0x1AF4, 0x1100, 0x020000)
TABLE = (Id(0x8086, 0x100E),)
E1000 = PciDriver(Driver(0, "e1000", TABLE), Origin.KERNEL_MEMORY, (), "e1000")
STUB = PciDriver(Driver(0, "pci-stub", None), Origin.KERNEL_MEMORY, (), None)
DEVICE = PciDevice(ADDRESS, IDS, None, None)
DYNID = Id(0x8086, 0x100E)
MACHINE = Machine(
    release="6.1",
    layout="A",
    semantics="linux-5.15",
    new_id_rules="linux-5.11",
    drivers_autoprobe=True,
    drivers={"e1000": E1000, "pci-stub": STUB},
    order_known=True,
    devices={ADDRESS: DEVICE, OTHER: DEVICE._replace(address=OTHER)},
    gaps=("A gap.",),
    now_ns=START_NS,
    realtime_offset_ns=5,
)
NONE = Outcome(Source.NONE)


def tracker(**changes: object) -> Tracker:
    """Return a tracker of that machine, or of one that differs from it."""
    return Tracker(MACHINE._replace(**changes))


def match(
    ktime_ns: int,
    driver: Driver,
    outcome: Outcome = NONE,
    *,
    dynids: tuple[Id, ...] = (),
    complete: bool = True,
    override: str | None = None,
    address: str = ADDRESS,
    task: Task = TASK,
    doubts: tuple[Reason, ...] = (),
) -> Judged:
    """Return a judged match."""
    inputs = Inputs(IDS, driver, dynids, complete, override)
    made = Match(ktime_ns, task, address, False, inputs, outcome, doubts)
    return Judged(made, Judgement.AGREE, outcome)


def probe(
    ktime_ns: int,
    name: str = "e1000",
    result: ProbeResult = ProbeResult.BOUND,
    errno: str | None = None,
    address: str = ADDRESS,
) -> Probed:
    """Return a probe."""
    path = Path.DRIVER_PROBE_DEVICE
    return Probed(
        Probe(ktime_ns, 10, TASK, address, 1, name, True, path, result, errno)
    )


def write(
    ktime_ns: int,
    file: StoreFile,
    text: str,
    *,
    driver: str | None = None,
    address: str | None = None,
    errno: str | None = None,
    size: int | None = None,
    duration_ns: int = 10,
) -> Wrote:
    """Return a write."""
    size = len(text) if size is None else size
    made = Write(
        ktime_ns, duration_ns, TASK, 0, file, driver, address, text, size, errno
    )
    return Wrote(made, Judgement.INDETERMINATE, None)


def new_id(ktime_ns: int, text: str, **more: object) -> Wrote:
    """Return a write to pci-stub's new_id."""
    return write(ktime_ns, StoreFile.NEW_ID, text, driver="pci-stub", **more)  # type: ignore[arg-type]


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

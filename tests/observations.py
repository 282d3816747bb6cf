"""A small machine and short ways to make what is observed of it."""

from __future__ import annotations

from observer.machine import Machine, Origin, PciDevice, PciDriver
from observer.record import (
    Device,
    Driver,
    Id,
    Inputs,
    Judged,
    Judgement,
    Match,
    Outcome,
    Path,
    Probe,
    Probed,
    ProbeResult,
    Reason,
    Seen,
    Source,
    StoreFile,
    Task,
    Write,
    Wrote,
)
from observer.tracking import Tracker

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
STATIC = Outcome(Source.STATIC, 0)


def tracker(**changes: object) -> Tracker:
    """Return a tracker of that machine, or of one that differs from it."""
    return Tracker(MACHINE._replace(**changes))  # type: ignore[arg-type]


def match(  # noqa: PLR0913 - as many as a match has
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
    seen: Seen = Seen.LIVE,
) -> Judged:
    """Return a judged match."""
    inputs = Inputs(IDS, driver, dynids, complete, override)
    made = Match(ktime_ns, task, address, False, inputs, outcome, doubts, seen)
    return Judged(made, Judgement.AGREE, outcome)


def probe(
    ktime_ns: int,
    name: str = "e1000",
    result: ProbeResult = ProbeResult.BOUND,
    errno: str | None = None,
    *,
    address: str = ADDRESS,
    seen: Seen = Seen.LIVE,
) -> Probed:
    """Return a probe."""
    path = Path.DIRECT
    return Probed(
        Probe(ktime_ns, 10, TASK, address, 1, name, True, path, result, errno, seen)
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
    if size is None:
        size = len(text)
    made = Write(
        *(ktime_ns, duration_ns, TASK, 0, file, driver, address, text, size, errno)
    )
    return Wrote(made, Judgement.INDETERMINATE, None)


def new_id(
    ktime_ns: int,
    text: str,
    *,
    driver: str = "pci-stub",
    errno: str | None = None,
    size: int | None = None,
) -> Wrote:
    """Return a write to a driver's new_id."""
    file = StoreFile.NEW_ID
    return write(ktime_ns, file, text, driver=driver, errno=errno, size=size)


def remove_id(
    ktime_ns: int, text: str, *, errno: str | None = None, driver: str = "pci-stub"
) -> Wrote:
    """Return a write to a driver's remove_id."""
    return write(ktime_ns, StoreFile.REMOVE_ID, text, driver=driver, errno=errno)


def bind(ktime_ns: int, text: str = ADDRESS, *, errno: str | None = None) -> Wrote:
    """Return a write to the bind of e1000."""
    return write(ktime_ns, StoreFile.BIND, text, driver="e1000", errno=errno)


def unbind(ktime_ns: int, text: str = ADDRESS, *, errno: str | None = None) -> Wrote:
    """Return a write to the unbind of e1000."""
    return write(ktime_ns, StoreFile.UNBIND, text, driver="e1000", errno=errno)

"""Builders of machines for tests: the least that is said, the rest is healthy."""

from __future__ import annotations

from typing import TYPE_CHECKING

import strategies
from hypothesis import strategies as st

from observer.machine import Decision, Machine, Origin, PciDevice, PciDriver
from observer.model import SEMANTICS
from observer.record import (
    Action,
    Device,
    Driver,
    Id,
    Path,
    Probe,
    ProbeResult,
    Source,
    StoreFile,
    TableState,
    Task,
    Uevent,
    Write,
)

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from observer.machine import Event

ADDRESS = "0000:00:02.0"
E1000_IDS = Device(0x8086, 0x100E, 0x1AF4, 0x1100, 0x020000)
E1000_ID = Id(0x8086, 0x100E)
ANY_OVERRIDE_ONLY = Id(0xFFFFFFFF, 0xFFFFFFFF, override_only=1)
TASK = Task(123, 123, "tee", 0)


def driver(
    name: str,
    *id_table: Id,
    dynids: tuple[Id, ...] | None = (),
    origin: Origin = Origin.KERNEL_MEMORY,
    table_state: TableState = TableState.COMPLETE,
    has_probe: bool = True,
    module: str | None = None,
) -> PciDriver:
    """Return a driver of which everything is known."""
    return PciDriver(
        Driver(0, name, id_table, table_state, has_probe), origin, dynids, module
    )


E1000 = driver("e1000", E1000_ID, module="e1000")
VFIO_PCI = driver("vfio-pci", ANY_OVERRIDE_ONLY, module="vfio_pci")


def device(
    address: str = ADDRESS,
    bound: str | None = None,
    driver_override: str | None = None,
    ids: Device = E1000_IDS,
    **more: object,
) -> PciDevice:
    """Return a device, an e1000 by its ids; `more` are fields of PciDevice."""
    return PciDevice(address, ids, bound, driver_override)._replace(**more)


def machine(
    *devices: PciDevice,
    drivers: Iterable[PciDriver] = (E1000, VFIO_PCI),
    device_events: Mapping[str, tuple[Event, ...]] | None = None,
    driver_events: Mapping[str, tuple[Write | Uevent, ...]] | None = None,
    **more: object,
) -> Machine:
    """Return a machine watched since 1 s, at 100 s; `more` are fields of Machine."""
    return Machine(
        "6.12.90",
        "B",
        "linux-5.15",
        "linux-5.11",
        drivers_autoprobe=True,
        drivers={each.driver.name: each for each in drivers},
        order_known=True,
        devices={each.address: each for each in devices},
        gaps=(),
        now_ns=seconds(100),
        realtime_offset_ns=seconds(1_000_000),
        observed_since_ns=seconds(1),
        device_events=device_events or {},
        driver_events=driver_events or {},
    )._replace(**more)


def seconds(number: float) -> int:
    """Return a time in nanoseconds."""
    return int(number * 1_000_000_000)


def write(
    at: float,
    file: StoreFile,
    text: str = ADDRESS,
    *,
    driver: str | None = None,
    address: str | None = None,
    errno: str | None = None,
    task: Task = TASK,
) -> Write:
    """Return a write of root's that ended `at` seconds and took 1 ms."""
    return Write(
        *(seconds(at), 1_000_000, task, 0, file, driver, address, text, len(text)),
        errno=errno,
    )


def probe(
    at: float,
    name: str,
    result: ProbeResult = ProbeResult.BOUND,
    errno: str | None = None,
) -> Probe:
    """Return a probe of the device that ended `at` seconds."""
    return Probe(
        *(seconds(at), 1000, TASK, ADDRESS, 0, name),
        has_probe=True,
        path=Path.DRIVER_PROBE_DEVICE,
        result=result,
        errno=errno,
    )


def uevent(
    at: float, action: Action, address: str | None = ADDRESS, driver: str | None = None
) -> Uevent:
    """Return a uevent received `at` seconds."""
    return Uevent(seconds(at), action, address, driver)


def decision(
    at: float,
    name: str,
    *,
    driver_override: str | None = None,
    dynid: Id | None = None,
) -> Decision:
    """Return a positive match, by the override or by a dynid."""
    match = Source.OVERRIDE if dynid is None else Source.DYNID
    index = None if dynid is None else 0
    return Decision(seconds(at), TASK, name, match, index, driver_override, dynid)


_few = st.sampled_from(["0000:00:02.0", "0000:00:03.0", "odd \x1b'\n"])
_names = st.sampled_from(["vfio-pci", "e1000", "od'd \x1b\udc80\n"]) | strategies.names
_times = st.integers(0, seconds(200))
_errnos = st.none() | st.sampled_from(["EBUSY", "EAGAIN", "ENODEV"])
_writes = st.builds(
    Write,
    *(_times, st.integers(0, 10**9), strategies.tasks, strategies.u32),
    *(st.sampled_from(list(StoreFile)), st.none() | _names, st.none() | _few),
    *(_names | st.sampled_from(["1 2", "1 2 0 0"]), strategies.u32, _errnos),
)
_uevents = st.builds(
    *(Uevent, _times, st.sampled_from(list(Action)), st.none() | _few),
    st.none() | _names,
)
_decisions = st.builds(
    *(Decision, _times, strategies.tasks, _names),
    *(st.sampled_from(list(Source)), st.none() | strategies.places),
    *(st.none() | _names, st.none() | strategies.entries),
)
_probes = strategies.probes.flatmap(
    lambda probe: st.builds(
        lambda at, name: probe._replace(ktime_ns=at, name=name), _times, _names
    )
)
_events = st.lists(_writes | _uevents | _decisions | _probes, max_size=8).map(
    lambda events: tuple(sorted(events, key=lambda event: event.ktime_ns))
)
_devices = st.builds(
    *(PciDevice, _few, strategies.devices, st.none() | _names),
    *(strategies.overrides | _names, st.none() | _few, st.none() | st.just(2)),
    *(st.none() | st.booleans(), st.none() | st.just(1), st.none() | st.booleans()),
)
_drivers = st.builds(
    PciDriver,
    st.builds(
        lambda driver, name: driver._replace(name=name), strategies.drivers, _names
    ),
    st.sampled_from(list(Origin)),
    st.none() | strategies.dynid_lists,
    st.none() | _names,
)
# Any machine at all, those that no kernel would make included.
machines = st.builds(
    lambda devices, drivers, past, slug, since: machine(
        *devices,
        drivers=drivers,
        device_events={each.address: past for each in devices},
        driver_events={
            each.driver.name: tuple(
                event for event in past if isinstance(event, Write | Uevent)
            )
            for each in drivers
        },
        semantics=slug,
        observed_since_ns=since,
    ),
    st.lists(_devices, max_size=4),
    st.lists(_drivers, max_size=4),
    _events,
    st.sampled_from(sorted(SEMANTICS)),
    st.none() | _times,
)

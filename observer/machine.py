"""One machine at one time: its PCI drivers and devices, and what was seen of them.

Plain values without I/O. Names are the kernel's; times are CLOCK_MONOTONIC.
"""

from __future__ import annotations

from enum import StrEnum
from types import MappingProxyType
from typing import TYPE_CHECKING, NamedTuple

from observer.record import Probe, Uevent, Write

if TYPE_CHECKING:
    from collections.abc import Mapping

    from observer.pictured import Pictured
    from observer.record import Device, Driver, Id, Source, Task


class Origin(StrEnum):
    """Where a driver's id_table was read."""

    KERNEL_MEMORY = "kernel_memory"
    HOOKS = "hooks"  # sent with the driver's first match
    # Not in the table's order, without driver_data: only whether it matches is known.
    MODULES_ALIAS = "modules.alias"
    NOWHERE = "nowhere"


class PciDriver(NamedTuple):
    """A registered PCI driver."""

    driver: Driver  # its number is 0 where only the hooks could tell
    origin: Origin
    dynids: tuple[Id, ...] | None  # in the list's order; None: unknown
    module: str | None  # None: built into the kernel, or not known yet
    registered_ns: int | None = None  # when seen; None: before anything was seen

    @property
    def built_in(self) -> bool | None:
        """Whether it is part of the kernel; None: unknown, for hooks do not tell."""
        if self.module is not None:
            return False
        return None if self.origin in (Origin.HOOKS, Origin.NOWHERE) else True


class PciDevice(NamedTuple):
    """A PCI device as sysfs shows it."""

    address: str  # "0000:00:02.0"
    ids: Device
    driver: str | None  # bound to it
    driver_override: str | None  # None: not set
    physfn: str | None = None  # address of the PF; None: no VF
    sriov_numvfs: int | None = None  # None: no PF
    sriov_drivers_autoprobe: bool | None = None  # of a PF
    iommu_group: int | None = None
    boot_vga: bool | None = None  # None: no VGA device
    iommu_group_before: int | None = None  # the first one seen, where it was another


class Decision(NamedTuple):
    """A positive match, in short: what could explain a binding later."""

    ktime_ns: int
    task: Task
    driver: str
    match: Source
    index: int | None  # type: ignore[assignment]
    driver_override: str | None  # at that time
    dynid: Id | None  # the one that matched


Event = Decision | Probe | Write | Uevent


class Machine(NamedTuple):
    """Everything known at `now_ns`."""

    release: str  # of the kernel
    layout: str
    semantics: str  # slug of the kernel's own
    new_id_rules: str  # slug
    drivers_autoprobe: bool | None  # of the bus; None: unknown
    drivers: Mapping[str, PciDriver]  # by name, in the order of registration
    order_known: bool  # else by name
    devices: Mapping[str, PciDevice]  # by address, ascending
    gaps: tuple[str, ...]  # what could not be learned and why, a sentence each
    now_ns: int
    realtime_offset_ns: int  # Unix time minus CLOCK_MONOTONIC
    observed_since_ns: int | None = None  # None: this is a look, nobody watched
    # Oldest first. By address: positive matches, probes, writes about the device,
    # uevents. By driver: writes to new_id and remove_id, uevents of the driver.
    device_events: Mapping[str, tuple[Event, ...]] = MappingProxyType({})
    driver_events: Mapping[str, tuple[Write | Uevent, ...]] = MappingProxyType({})
    # Addresses whose probe had been deferred when the drivers were looked at.
    deferred: frozenset[str] = frozenset()
    # Of another kernel, to compare this one with; None: there is nothing to compare.
    baseline: Pictured | None = None
    # From when on the kernel recorded matches and probes by itself; None: it did not.
    recorded_since_ns: int | None = None

    @property
    def decided_since_ns(self) -> int | None:
        """From when on matches and probes were seen, though not writes."""
        if self.observed_since_ns is None or self.recorded_since_ns is None:
            return self.observed_since_ns
        return min(self.recorded_since_ns, self.observed_since_ns)

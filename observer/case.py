"""A device, the driver that was asked about, and what is known of both."""

from __future__ import annotations

from types import MappingProxyType
from typing import TYPE_CHECKING, Final, NamedTuple

from observer.candidates import autoprobe_off
from observer.findings import Picture
from observer.happenings import began_ns
from observer.record import Probe, ProbeResult

if TYPE_CHECKING:
    from collections.abc import Mapping

    from observer.candidates import Candidate, Matching
    from observer.findings import Clock
    from observer.machine import Event, Machine, PciDevice


class Surroundings(NamedTuple):
    """What is known around one device beyond the machine's picture; pure values.

    The defaults are what is there to say when nothing could be looked at.
    """

    aliases_known: bool = False  # modules.alias was read
    # Modules that modules.alias would load for the device, in the order of the file.
    would_load: tuple[str, ...] = ()
    # Modules with an override_only alias (vfio_pci:) for it: never loaded unasked.
    override_only: tuple[str, ...] = ()
    # By module the file in which it is blacklisted, or made not to load at all.
    blacklisted: Mapping[str, str] = MappingProxyType({})
    # What provides a driver of a name: the module as its file is called.
    providers: Mapping[str, str] = MappingProxyType({})
    builtin: frozenset[str] = frozenset()  # those of all these that are built in
    deferred: str | None = None  # devices_deferred on the device; None: not in there
    holders: tuple[str, ...] = ()  # who else holds its BARs: "BAR0 held by BOOTFB"
    denylist_disabled: bool | None = None  # vfio-pci's disable_denylist; None: unknown
    noiommu: bool | None = None  # vfio's enable_unsafe_noiommu_mode; None: unknown
    unknown: tuple[str, ...] = ()  # what could not be read, a sentence each


class Obstacle(NamedTuple):
    """Something that keeps a driver from the device, or that is worth knowing then."""

    gate: str  # a word of its own for programs: "not_registered"
    text: str  # one printable sentence


class Case(NamedTuple):
    """A device, the driver that was asked about, and all that is known of both."""

    machine: Machine
    device: PciDevice
    asked: str | None
    matching: Matching
    surroundings: Surroundings
    clock: Clock

    def time(self, ktime_ns: int) -> str:
        """Spell a CLOCK_MONOTONIC time as the clock on the wall."""
        return self.clock(ktime_ns + self.machine.realtime_offset_ns)

    @property
    def candidates(self) -> list[Candidate]:
        """The drivers that match, in the order of registration."""
        return self.matching.of(self.device).matching

    @property
    def possible(self) -> list[Candidate]:
        """The drivers of which too much is unknown to tell."""
        return self.matching.of(self.device).possible

    @property
    def events(self) -> list[Event]:
        """What was seen of the device, in the order in which it began.

        Not of one that was there before it: VFs come again at the same addresses.
        """
        events = Picture(self.machine).events(self.device.address)
        return sorted(events, key=began_ns)

    @property
    def waits(self) -> bool:
        """Whether the device has no driver, or not the one that was asked about."""
        bound = self.device.driver
        return bound is None or (self.asked is not None and bound != self.asked)

    @property
    def wanted(self) -> tuple[str, ...]:
        """The drivers that could be bound to it and are not; empty when all is well."""
        if not self.waits:
            return ()
        if self.asked is not None:
            return (self.asked,)
        names = [candidate.driver for candidate in self.candidates]
        override = self.device.driver_override
        return tuple(names if override is None or override in names else [override])

    def matches(self, name: str, driver_override: str | None) -> bool:
        """Tell whether the driver would match if driver_override were this."""
        device = self.device._replace(driver_override=driver_override)
        return any(each.driver == name for each in self.matching.of(device).matching)

    def last_probe(self, name: str) -> Probe | None:
        """Return the last probe of the device by this driver that was seen."""
        probes = [event for event in self.events if isinstance(event, Probe)]
        return next((each for each in reversed(probes) if each.name == name), None)


def kept_by_pf(case: Case) -> bool:
    """Tell whether the device is a VF whose PF lets no driver near."""
    return autoprobe_off(case.machine, case.device)


def user_owns_pf(case: Case) -> bool:
    """Tell whether the device is a VF whose PF is on vfio."""
    return Picture(case.machine).vfio_pf(case.device) is not None


def left_to_vfio(case: Case, name: str) -> bool:
    """Tell whether the driver must not have the device: a user owns its PF."""
    return user_owns_pf(case) and not Picture(case.machine).is_vfio(name)


DENYLISTED: Final = "refused by the driver's denylist (disable_denylist=1)"
NO_IOMMU_GROUP: Final = "no IOMMU group"
VFIO_PCI: Final = "vfio-pci"
# Intel's QAT (C3xxx, C62x, DH895xCC and their VFs), and since v6.10 DSA and IAX.
_QAT: Final = {(0x8086, n) for n in (0x0435, 0x0443, 0x19E2, 0x19E3, 0x37C8, 0x37C9)}
_DSA_AND_IAX: Final = {(0x8086, 0x0B25), (0x8086, 0x0CFE)}


def hopeless(case: Case, name: str) -> str | None:
    """Say why vfio-pci refuses the device however it is bound; None: no such reason."""
    if name != VFIO_PCI:
        return None
    around, device = case.surroundings, case.device
    probe = case.last_probe(name)
    if probe is not None and (
        probe.result is not ProbeResult.REFUSED or probe.errno not in ("EINVAL", None)
    ):
        return None
    listed = _QAT if probe is None else _QAT | _DSA_AND_IAX
    if device.ids[:2] in listed and around.denylist_disabled is not True:
        return DENYLISTED
    if device.iommu_group is None and around.noiommu is not True:
        return NO_IOMMU_GROUP
    return None

"""A machine as the rules of findings look at it: questions that several of them ask."""

from __future__ import annotations

from collections import Counter
from functools import cached_property
from shlex import quote
from typing import TYPE_CHECKING

from observer.candidates import Candidate, Matching
from observer.findings.past import Past, past_of
from observer.record import PCI_ANY_ID, Action, Uevent
from observer.text import printable, quoted

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from observer.findings.shape import Actor, Clock
    from observer.machine import Event, Machine, PciDevice
    from observer.record import Id

LISTED = 8  # names in a sentence
_BRIDGE = 0x0604  # class and subclass
_BRIDGES = 0x06  # class


def unix_time(unix_ns: int) -> str:
    """Spell a time as date(1) takes it: @1700000000."""
    return f"@{unix_ns // 1_000_000_000}"


class Picture:
    """A machine with what is worked out of it only once."""

    def __init__(
        self, machine: Machine, semantics: str | None = None, clock: Clock = unix_time
    ) -> None:
        """Judge by the machine's own semantics, or by another."""
        self.machine = machine
        self.matching = Matching(machine, semantics)
        self._clock = clock
        self._pasts: dict[str, Past] = {}

    def time(self, ktime_ns: int) -> str:
        """Spell a CLOCK_MONOTONIC time as the clock on the wall."""
        return self._clock(ktime_ns + self.machine.realtime_offset_ns)

    def events(self, address: str) -> tuple[Event, ...]:
        """Return a device's events, without those of one that was there before it."""
        events = self.machine.device_events.get(address, ())
        for place in range(len(events) - 1, -1, -1):
            event = events[place]
            if isinstance(event, Uevent) and event.action is Action.REMOVE:
                return events[place + 1 :]
        return events

    def past(self, address: str) -> Past:
        """Return what a device's events tell."""
        past = self._pasts.get(address)
        if past is None:
            past = self._pasts[address] = past_of(self.events(address))
        return past

    def matches(self, device: PciDevice) -> list[Candidate]:
        """Return the drivers that match the device as its driver_override is."""
        return self.matching.of(device).matching

    def native(self, device: PciDevice) -> list[Candidate]:
        """Return the drivers that driver_override alone keeps from the device."""
        found = self.matching.without_override(device).matching
        return [each for each in found if each.driver != device.driver_override]

    def is_vfio(self, driver: str | None) -> bool:
        """Tell whether a driver is vfio-pci or one of its variants.

        No file says so: it is told by the name of the driver or of its module, such as
        vfio-pci, mlx5_vfio_pci or nvgrace-gpu-vfio-pci.
        """
        if driver is None:
            return False
        registered = self.machine.drivers.get(driver)
        module = (registered.module if registered else None) or ""
        name, module = driver.replace("-", "_"), module.replace("-", "_")
        return (
            name == "vfio_pci"
            or name.endswith("_vfio_pci")
            or module.startswith("vfio")
            or module.endswith("_vfio_pci")
        )

    def vfio_pf(self, device: PciDevice) -> PciDevice | None:
        """Return the PF of a VF if a vfio driver owns it."""
        physfn = self.machine.devices.get(device.physfn or "")
        return physfn if physfn and self.is_vfio(physfn.driver) else None

    def lost(self, driver: str) -> int:
        """Return how many devices have no driver since this one went away."""
        return self._lost[driver]

    @cached_property
    def _lost(self) -> Counter[str | None]:
        return Counter(
            self.past(device.address).driver
            for device in self.machine.devices.values()
            if device.driver is None
        )


def is_bridge(device: PciDevice) -> bool:
    """Tell whether it is a bridge to a bus, which no IOMMU group minds."""
    return device.ids.class_ >> 8 == _BRIDGE


def needs_no_driver(device: PciDevice) -> bool:
    """Tell whether it is a bridge of any kind, which works without a driver.

    Some drivers look at the host bridge of every machine and take few: agpgart-intel.
    """
    return device.ids.class_ >> 16 == _BRIDGES


def by(actor: Actor | None) -> str:
    """Name who did it, for a sentence."""
    if actor is None:
        return "nobody that was seen"
    who = f"comm={quoted(actor.task.comm)} pid={actor.task.tgid}"
    return who if actor.uid is None else f"{who} uid={actor.uid}"


def listed(names: Iterable[str]) -> str:
    """Return names for a sentence, the first few of many."""
    return few(map(quoted, names))


def few(words: Iterable[str]) -> str:
    """Return what is spelled already for a sentence, the first few of many."""
    spelled = list(words)
    more = [f"and {len(spelled) - LISTED} more"] if len(spelled) > LISTED else []
    return ", ".join(spelled[:LISTED] + more)


def drivers_of(candidates: Sequence[Candidate]) -> list[str]:
    """Return the candidates' names."""
    return [each.driver for each in candidates]


def shell(text: str) -> str:
    """Return a word of a shell command; of what can't be printed, nothing is run."""
    return quote(printable(text))


def file_of(device: PciDevice, name: str) -> str:
    """Return the path of a device's file, for a shell."""
    return shell(f"/sys/bus/pci/devices/{device.address}/{name}")


def file_of_driver(driver: str, name: str) -> str:
    """Return the path of a driver's file, for a shell; no directory has a slash."""
    return shell(f"/sys/bus/pci/drivers/{driver.replace('/', '!')}/{name}")


def id_fields(dynid: Id) -> str:
    """Return what to write to new_id or remove_id: as many fields as it takes."""
    fields = f"{dynid.vendor:x} {dynid.device:x}"
    rest = (dynid.subvendor, dynid.subdevice, dynid.class_, dynid.class_mask)
    if rest == (PCI_ANY_ID, PCI_ANY_ID, 0, 0):
        return fields
    return " ".join((fields, *(f"{field:x}" for field in rest)))


def clear_override(device: PciDevice) -> str:
    """Return the command that clears driver_override."""
    return f"echo > {file_of(device, 'driver_override')}"


def unbind(device: PciDevice) -> str:
    """Return the command that takes the device from its driver."""
    return f"echo {shell(device.address)} > {file_of(device, 'driver/unbind')}"

"""A machine between two kernels: what each of them leads to, for each device."""

from __future__ import annotations

from typing import TYPE_CHECKING

from observer.candidates import Matching
from observer.preflight.candidates import Candidate, Prospects
from observer.preflight.names import Names
from observer.preflight.outlook import Outlook, outlook
from observer.record import Outcome, Source, StoreFile, Write

if TYPE_CHECKING:
    from collections.abc import Mapping

    from observer.boot_config import BootConfig
    from observer.machine import Machine, PciDevice
    from observer.preflight.kernels import Kernel
    from observer.record import Id

_BY_HAND = {StoreFile.BIND, StoreFile.UNBIND, StoreFile.DRIVER_OVERRIDE}


class View:
    """Everything that the judgement of a device needs."""

    def __init__(
        self,
        machine: Machine,
        config: BootConfig,
        here: Kernel,
        there: Kernel,
        links: Mapping[str, str],
    ) -> None:
        """Take the running kernel, `here`, and the one to be booted.

        `links` names the module of each driver, also where it is built in.
        """
        self.machine, self.config = machine, config
        self.here, self.there = here, there
        self.names = Names(machine, links, (here.modules, there.modules))
        self.matching = Matching(machine)
        self.now = Prospects(here, there.modules, config, self.names, machine)
        self.then = Prospects(there, here.modules, config, self.names, machine)
        self._places = {name: place for place, name in enumerate(machine.drivers)}

    def outlooks(self, device: PciDevice) -> tuple[Outlook, Outlook]:
        """Return what a boot of each of the kernels leads to."""
        registered = self._declined(device)

        def is_its(candidate: Candidate) -> bool:
            return self.is_its(device, candidate)

        def declined(candidate: Candidate) -> bool:
            return candidate.module in registered

        return (
            outlook(self.now, device, is_its, declined),
            outlook(self.then, device, is_its, declined),
        )

    def is_its(self, device: PciDevice, candidate: Candidate | None) -> bool:
        """Tell whether a candidate is the driver that the device has now."""
        return (
            candidate is not None
            and device.driver is not None
            and self.names.module(device.driver) == candidate.module
        )

    def dynid(self, device: PciDevice) -> Id | None:
        """Return the dynid by which its driver has the device; None: not by one."""
        found = self._match(device)
        driver = self.machine.drivers.get(device.driver or "")
        if found is None or driver is None or found.match is not Source.DYNID:
            return None
        return (driver.dynids or ())[found.index or 0]

    def _match(self, device: PciDevice) -> Outcome | None:
        """Return why its driver matches now."""
        for each in self.matching.of(device).matching:
            if each.driver == device.driver and isinstance(each.verdict, Outcome):
                return each.verdict
        return None

    def _declined(self, device: PciDevice) -> frozenset[str]:
        """Name the modules whose drivers match now, and had the chance to bind it.

        Nothing is known of that where somebody bound or unbound it by hand.
        """
        matching = [each.driver for each in self.matching.of(device).matching]
        if len(matching) < 2 and device.driver is not None:  # noqa: PLR2004 - none else
            return frozenset()
        for event in self.machine.device_events.get(device.address, ()):
            if isinstance(event, Write) and event.file in _BY_HAND:
                return frozenset()
        if device.driver is not None:
            own = self._match(device)
            if not self.machine.order_known or own is None:
                return frozenset()
            if own.match is not Source.STATIC:
                return frozenset()
            place = self._places[device.driver]
            matching = [each for each in matching if self._places[each] < place]
        return frozenset(map(self.names.module, matching))

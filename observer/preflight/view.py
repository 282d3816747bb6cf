"""A machine between two kernels: what each of them leads to, for each device."""

from __future__ import annotations

from typing import TYPE_CHECKING

from observer.candidates import inputs_of, matches
from observer.model import expect
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
        self.now = Prospects(here, there.modules, config, self.names, machine)
        self.then = Prospects(there, here.modules, config, self.names, machine)
        self._places = {name: place for place, name in enumerate(machine.drivers)}

    def outlooks(self, device: PciDevice) -> tuple[Outlook, Outlook]:
        """Return what a boot of each of the kernels leads to."""

        def is_its(candidate: Candidate) -> bool:
            return self.is_its(device, candidate)

        def declined(candidate: Candidate) -> bool:
            return self._declined(device, candidate)

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
        if device.driver is None:
            return None
        found = self._match(device, device.driver)
        if found is None or found.match is not Source.DYNID:
            return None
        return (self.machine.drivers[device.driver].dynids or ())[found.index or 0]

    def _match(self, device: PciDevice, driver: str) -> Outcome | None:
        """Return why a driver matches now; None: not, or it can't be told."""
        known = self.machine.drivers.get(driver)
        if known is None:
            return None
        inputs = inputs_of(known, device.ids, device.driver_override)
        verdict = expect(self.machine.semantics, inputs)
        if not isinstance(verdict, Outcome) or not matches(verdict):
            return None
        return verdict

    def _declined(self, device: PciDevice, candidate: Candidate) -> bool:
        """Tell whether its driver matches now, and had the chance to bind the device.

        Nothing is known of that where somebody bound or unbound it by hand.
        """
        if self.is_its(device, candidate):
            return False
        drivers = [
            driver
            for driver in self.names.drivers(candidate.module)
            if self._match(device, driver) is not None
        ]
        if not drivers or self._by_hand(device):
            return False
        if device.driver is None:
            return True
        own = self._match(device, device.driver)
        return (
            own is not None
            and own.match is Source.STATIC
            and self.machine.order_known
            and self._places[drivers[0]] < self._places[device.driver]
        )

    def _by_hand(self, device: PciDevice) -> bool:
        return any(
            isinstance(event, Write) and event.file in _BY_HAND
            for event in self.machine.device_events.get(device.address, ())
        )

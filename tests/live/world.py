"""A PCI bus as the model sees it: what every write answers, and what is bound then.

All rules come from observer.model; this puts them together as the driver core does.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from observer.model import expect
from observer.model.gates import (
    BIND_RULES,
    Attempt,
    Situation,
    Trigger,
    stopped_by,
)
from observer.model.new_id import Dynids, Errno, new_id, remove_id
from observer.model.override_text import read_override, write_override
from observer.record import Device, Driver, Indeterminate, Inputs

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from observer.model.hex_fields import Overflow


class Rules(NamedTuple):
    """What differs between kernels."""

    semantics: str
    new_id: str
    bind: str
    overflow: Overflow


class Write(NamedTuple):
    """One write to sysfs; text of remove_id and bind goes to a driver's file."""

    file: str
    owner: str  # the driver's name or the device's address; empty for drivers_probe
    text: str


class World:
    """Some devices, and all drivers in the order of their registration."""

    def __init__(
        self,
        rules: Rules,
        devices: Mapping[str, Device],
        drivers: Sequence[Driver],
        probe_errnos: Mapping[tuple[str, str], str | None],
    ) -> None:
        """Start with nothing bound; probe_errnos is by driver's name and address."""
        self.rules = rules
        self.devices = devices
        self.drivers = {driver.name: driver for driver in drivers}
        self.probe_errnos = probe_errnos
        self.bound: dict[str, str | None] = dict.fromkeys(devices)
        self.overrides: dict[str, str | None] = dict.fromkeys(devices)
        self.dynids: dict[str, Dynids] = dict.fromkeys(self.drivers, ())

    def write(self, write: Write) -> Errno:
        """Do what the kernel must do; return 0 or the name of an errno."""
        errno: Errno = getattr(self, f"_{write.file}")(write.owner, write.text)
        return errno

    def shown(self, address: str) -> str:
        """Return what a device's driver_override reads as."""
        return read_override(self.overrides[address])

    def _new_id(self, name: str, text: str) -> Errno:
        before = self.dynids[name]
        overflow = self.rules.overflow
        errno, self.dynids[name] = new_id(
            text, self.drivers[name], before, self.rules.new_id, overflow=overflow
        )
        if self.dynids[name] != before:
            for address in self.devices:
                self._attach(name, address, Trigger.NEW_ID)
        return errno

    def _remove_id(self, name: str, text: str) -> Errno:
        rules, overflow = self.rules.new_id, self.rules.overflow
        errno, self.dynids[name] = remove_id(
            text, self.dynids[name], rules, overflow=overflow
        )
        return errno

    def _driver_override(self, address: str, text: str) -> Errno:
        errno, self.overrides[address] = write_override(
            text, self.overrides[address], "linux-3.16"
        )
        return errno

    def _bind(self, name: str, address: str) -> Errno:
        errno = BIND_RULES[self.rules.bind](self._attempt(name, address, Trigger.BIND))
        if not errno:
            self.bound[address] = name
        return errno

    def _unbind(self, name: str, address: str) -> Errno:
        if self.bound[address] != name:
            return "ENODEV"
        self.bound[address] = None
        return 0

    def _drivers_probe(self, _owner: str, address: str) -> Errno:
        for name in self.drivers:
            self._attach(name, address, Trigger.DRIVERS_PROBE)
        return 0

    def _attach(self, name: str, address: str, trigger: Trigger) -> None:
        if stopped_by(self._attempt(name, address, trigger)) is None:
            self.bound[address] = name

    def _attempt(self, name: str, address: str, trigger: Trigger) -> Attempt:
        inputs = Inputs(
            self.devices[address],
            self.drivers[name],
            self.dynids[name],
            driver_override=self.overrides[address],
        )
        outcome = expect(self.rules.semantics, inputs)
        if isinstance(outcome, Indeterminate):
            raise TypeError(f"{name}: {outcome.reason}")
        situation = Situation(
            trigger,
            has_driver=self.bound[address] is not None,
            probe_errno=self.probe_errnos.get((name, address), "unknown"),
        )
        return Attempt(situation, inputs, outcome)

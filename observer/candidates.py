"""Which of a machine's drivers match a device, and which may, by the model."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from observer.machine import Origin
from observer.model import expect
from observer.model.explanation import reason_of
from observer.record import (
    PCI_ANY_ID,
    Device,
    Id,
    Indeterminate,
    Inputs,
    Outcome,
    Reason,
    Source,
    TableState,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

    from observer.machine import Machine, PciDevice, PciDriver
    from observer.record import Verdict

_ANY = Id(PCI_ANY_ID, PCI_ANY_ID)
# What an unknown list may hold, for all that matters: nothing, or what fits.
_MORE_DYNIDS: tuple[tuple[Id, ...], ...] = ((), (_ANY,))
_NO_MATCH = (Source.NONE, Source.HANG)
_MORE_ENTRIES = (*_MORE_DYNIDS, (_ANY._replace(override_only=1),))


class Candidate(NamedTuple):
    """A driver that matches a device, or that could."""

    driver: str  # name
    verdict: Verdict
    reason: str  # one printable sentence
    # It matches, whatever is unknown of its dynids and its id_table. False as well
    # where modules.alias stands for the id_table.
    certain: bool


class Candidates(NamedTuple):
    """What a machine's drivers are for a device, each in the order of registration."""

    matching: list[Candidate]
    possible: list[Candidate]  # too much is unknown to tell


class Matching:
    """Asks the model about every driver, once for all devices that are alike."""

    def __init__(self, machine: Machine, semantics: str | None = None) -> None:
        """Take the machine's own semantics, or another. Raises KeyError: no such."""
        self.semantics = semantics or machine.semantics
        self._drivers = tuple(machine.drivers.values())
        self._known: dict[tuple[Device, str | None], Candidates] = {}

    def of(self, device: PciDevice) -> Candidates:
        """Return the candidates of a device, as its driver_override is."""
        key = device.ids, device.driver_override
        known = self._known.get(key)
        if known is None:
            known = self._known[key] = self._ask(*key)
        return known

    def without_override(self, device: PciDevice) -> Candidates:
        """Return the candidates that it would have if driver_override were not set."""
        return self.of(device._replace(driver_override=None))

    def _ask(self, ids: Device, driver_override: str | None) -> Candidates:
        found = Candidates([], [])
        for driver in self._drivers:
            inputs = inputs_of(driver, ids, driver_override)
            verdict = expect(self.semantics, inputs)
            if isinstance(verdict, Indeterminate):
                surely = _matches_whatever(self.semantics, inputs, verdict)
                reason = _doubt(self.semantics, driver.origin, inputs, verdict, surely)
            elif matches(verdict):
                surely = True
                reason = reason_of(self.semantics, inputs, verdict)
            else:
                continue
            certain = surely and driver.origin is not Origin.MODULES_ALIAS
            (found.matching if surely else found.possible).append(
                Candidate(driver.driver.name, verdict, reason, certain)
            )
        return found


def candidates(
    machine: Machine, device: PciDevice, semantics: str | None = None
) -> tuple[Candidate, ...]:
    """Return the drivers that match, in the order of registration.

    Raises KeyError when there is no such semantics, as `possible` does.
    """
    return tuple(Matching(machine, semantics).of(device).matching)


def possible(
    machine: Machine, device: PciDevice, semantics: str | None = None
) -> tuple[Candidate, ...]:
    """Return the drivers that may match, but too much of them is unknown to tell."""
    return tuple(Matching(machine, semantics).of(device).possible)


def inputs_of(driver: PciDriver, ids: Device, driver_override: str | None) -> Inputs:
    """Return what a decision between the two would be made from now."""
    return Inputs(
        ids,
        driver.driver,
        driver.dynids or (),
        driver.dynids is not None,
        driver_override,
    )


def matches(verdict: Verdict) -> bool:
    """Tell whether the verdict is a match; what can't be told is none."""
    return isinstance(verdict, Outcome) and verdict.match not in _NO_MATCH


def _matches_whatever(semantics: str, inputs: Inputs, verdict: Verdict) -> bool:
    """Tell whether it is a match whatever the unknown parts hold."""
    if not isinstance(verdict, Indeterminate):
        return matches(verdict)
    return all(
        _matches_whatever(semantics, more, expect(semantics, more))
        for more in _completed(inputs, verdict.reason)
    )


def _completed(inputs: Inputs, reason: Reason) -> Iterator[Inputs]:
    """Yield the inputs with each of what may matter in the part that is unknown."""
    if reason is Reason.DYNIDS_TRUNCATED:
        for dynids in _MORE_DYNIDS:
            yield inputs._replace(dynids=inputs.dynids + dynids, dynids_complete=True)
        return
    # No hit of the known part of the table decided, or there would be a verdict.
    for table in _MORE_ENTRIES:
        driver = inputs.driver._replace(id_table=table, table_state=TableState.COMPLETE)
        yield inputs._replace(driver=driver)


def _doubt(
    semantics: str,
    origin: Origin,
    inputs: Inputs,
    verdict: Verdict,
    surely: bool,  # noqa: FBT001
) -> str:
    if surely:
        if inputs.driver_override == inputs.driver.name:
            return "driver_override names this driver; which id matches is unknown."
        if origin is Origin.MODULES_ALIAS:
            return "modules.alias lists the device for it; its dynids are unknown."
        return "An id_table entry matches; its dynids are unknown."
    if verdict == Indeterminate(Reason.DYNIDS_TRUNCATED):
        return "Can't tell: its dynids are unknown."
    return reason_of(semantics, inputs, verdict)


def autoprobe_off(machine: Machine, device: PciDevice) -> bool:
    """Tell whether the device is a VF whose PF lets no driver near.

    Linux kernel commit 2d2f4273cbe9: an override of any name lifts it.
    """
    physfn = machine.devices.get(device.physfn or "")
    return (
        physfn is not None
        and physfn.sriov_drivers_autoprobe is False
        and device.driver_override is None
    )

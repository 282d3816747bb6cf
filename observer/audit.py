"""Every device of a machine judged now: who could take it, and what is wrong."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from observer.candidates import Matching

if TYPE_CHECKING:
    from observer.candidates import Candidate
    from observer.findings import Finding, Note
    from observer.machine import Machine, PciDevice


class Audited(NamedTuple):
    """A device with its candidates and with the findings that concern it."""

    device: PciDevice
    candidates: tuple[Candidate, ...]  # that match, in the order of registration
    possible: tuple[Candidate, ...]  # too much is unknown to tell
    findings: tuple[Finding, ...]
    notes: tuple[Note, ...]


class Audit(NamedTuple):
    """A machine, judged."""

    machine: Machine
    semantics: str  # slug of those it was judged by
    devices: tuple[Audited, ...]
    findings: tuple[Finding, ...]


def audit(machine: Machine, semantics: str | None = None) -> Audit:
    """Judge each device under the machine's own semantics, or under another.

    Raises KeyError when there is no such semantics.
    """
    matching = Matching(machine, semantics)
    devices = []
    for device in machine.devices.values():
        found = matching.of(device)
        devices.append(
            Audited(device, tuple(found.matching), tuple(found.possible), (), ())
        )
    return Audit(machine, matching.semantics, tuple(devices), ())


def has_findings(audit: Audit) -> bool:
    """Tell whether anything is wrong: the exit status of the command."""
    return bool(audit.findings)

"""Every device of a machine judged now: who could take it, and what is wrong."""

from __future__ import annotations

from collections import defaultdict
from typing import TYPE_CHECKING, Final, NamedTuple

from observer.document import FORMAT, VERSION
from observer.findings import Picture, findings, notes
from observer.findings.picture import unix_time
from observer.fingerprint import fingerprint
from observer.model.explanation import spelled
from observer.notation import device_object, id_object
from observer.record import Outcome, Source
from observer.terminal import counted, cut, section, table, wrapped
from observer.text import printable, quoted

if TYPE_CHECKING:
    from collections.abc import Iterator

    from observer.candidates import Candidate
    from observer.findings import Actor, Clock, Finding, Note
    from observer.machine import Machine, PciDevice, PciDriver

_COLUMNS: Final = ("ADDRESS", "IDS", "CLASS", "DRIVER", "OVERRIDE", "CANDIDATES")


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


def audit(
    machine: Machine, semantics: str | None = None, clock: Clock = unix_time
) -> Audit:
    """Judge each device under the machine's own semantics, or under another.

    `clock` spells Unix times in sentences. Raises KeyError: no such semantics.
    """
    picture = Picture(machine, semantics, clock)
    found = tuple(findings(picture))
    concerned: defaultdict[str, list[Finding]] = defaultdict(list)
    for finding in found:
        for address in (finding.address, *finding.also):
            concerned[address].append(finding)
    return Audit(
        machine,
        picture.matching.semantics,
        tuple(
            Audited(
                device,
                tuple(picture.matching.of(device).matching),
                tuple(picture.matching.of(device).possible),
                tuple(concerned.get(device.address, ())),
                tuple(notes(picture, device)),
            )
            for device in machine.devices.values()
        ),
        found,
    )


def has_findings(audit: Audit) -> bool:
    """Tell whether anything is wrong: the exit status of the command."""
    return bool(audit.findings)


def as_object(audit: Audit) -> dict[str, object]:
    """Return the audit for machines: the same for the same machine."""
    machine = audit.machine
    return {
        "format": FORMAT,
        "version": VERSION,
        "kernel": {
            "release": machine.release,
            "layout": machine.layout,
            "semantics": machine.semantics,
            "new_id_rules": machine.new_id_rules,
            "drivers_autoprobe": machine.drivers_autoprobe,
        },
        "semantics": audit.semantics,
        "unix_ns": machine.now_ns + machine.realtime_offset_ns,
        "observed_since_unix_ns": _unix(machine, machine.observed_since_ns),
        "order_known": machine.order_known,
        "fingerprint": fingerprint(machine.devices.values()),
        "drivers": [_driver_object(driver) for driver in machine.drivers.values()],
        "devices": [_audited_object(audited) for audited in audit.devices],
        "findings": [_finding_object(machine, each) for each in audit.findings],
        "gaps": list(machine.gaps),
    }


def _unix(machine: Machine, ktime_ns: int | None) -> int | None:
    return None if ktime_ns is None else ktime_ns + machine.realtime_offset_ns


def _driver_object(driver: PciDriver) -> dict[str, object]:
    table = driver.driver.id_table
    return {
        "name": driver.driver.name,
        "module": driver.module,
        "built_in": driver.built_in,
        "dynids": None if driver.dynids is None else [*map(id_object, driver.dynids)],
        "id_table_entries": None if table is None else len(table),
        "table_state": str(driver.driver.table_state),
        "has_probe": driver.driver.has_probe,
        "origin": str(driver.origin),
    }


def _audited_object(audited: Audited) -> dict[str, object]:
    device = audited.device
    return {
        "address": device.address,
        "ids": device_object(device.ids),
        "driver": device.driver,
        "driver_override": device.driver_override,
        "physfn": device.physfn,
        "sriov_numvfs": device.sriov_numvfs,
        "sriov_drivers_autoprobe": device.sriov_drivers_autoprobe,
        "iommu_group": device.iommu_group,
        "iommu_group_before": device.iommu_group_before,
        "boot_vga": device.boot_vga,
        "candidates": [*map(_candidate_object, audited.candidates)],
        "possible": [each.driver for each in audited.possible],
        "findings": [str(each.finding) for each in audited.findings],
        "notes": [note._asdict() for note in audited.notes],
    }


def _candidate_object(candidate: Candidate) -> dict[str, object]:
    verdict = candidate.verdict
    known = verdict if isinstance(verdict, Outcome) else Outcome(Source.UNKNOWN)
    return {
        "driver": candidate.driver,
        "match": str(known.match),
        "index": known.index,
        "certain": candidate.certain,
        "reason": candidate.reason,
    }


def _finding_object(machine: Machine, finding: Finding) -> dict[str, object]:
    return {
        "address": finding.address,
        "also": list(finding.also),
        "finding": str(finding.finding),
        "kind": str(finding.kind),
        "text": finding.text,
        "cure": finding.cure,
        "since_unix_ns": _unix(machine, finding.since_ns),
        "actor": _actor_object(finding.actor),
        "details": dict(finding.details),
    }


def _actor_object(actor: Actor | None) -> dict[str, object] | None:
    if actor is None:
        return None
    task, uid = actor
    return {"pid": task.pid, "tgid": task.tgid, "comm": task.comm, "uid": uid}


def as_text(audit: Audit, clock: Clock = unix_time) -> Iterator[str]:
    """Yield lines for a terminal: what is wrong first, then all there is.

    `clock` spells Unix times.
    """
    yield from _summary(audit, clock)
    for finding in audit.findings:
        yield ""
        yield from wrapped(f"{finding.finding}: {finding.text}", "    ")
        yield f"    $ {finding.cure}"
    yield ""
    yield from table([_COLUMNS, *map(_row, audit.devices)])
    yield from section("Notes:", _noted(audit))
    yield from section("Dynids:", _dynids(audit.machine))
    yield from section("Unknown:", _unknown(audit))


def _summary(audit: Audit, clock: Clock) -> Iterator[str]:
    machine = audit.machine
    bound = sum(device.driver is not None for device in machine.devices.values())
    dynids = sum(len(each.dynids or ()) for each in machine.drivers.values())
    found = len(audit.findings)
    yield from wrapped(
        f"Linux {printable(machine.release)}, semantics {audit.semantics}, layout "
        f"{printable(machine.layout)}: {counted(len(machine.devices), 'device')}, "
        f"{bound} bound; {counted(len(machine.drivers), 'driver')}, "
        f"{counted(dynids, 'dynid')}; "
        f"{counted(found, 'finding') if found else 'nothing is wrong'}."
    )
    since_ns = _unix(machine, machine.observed_since_ns)
    if since_ns is None:
        yield "A look at one moment: what happened before is unknown."
    else:
        recorded_ns = _unix(machine, machine.recorded_since_ns)
        before = (
            ""
            if recorded_ns is None
            else (
                f" Decisions from {clock(recorded_ns)} on were recorded by the kernel."
            )
        )
        yield f"Watched since {clock(since_ns)}.{before}"
    told = fingerprint(machine.devices.values())
    yield f"Fingerprint of the bindings: {told}."


def _row(audited: Audited) -> tuple[str, ...]:
    device = audited.device
    names = [_name(each) for each in audited.candidates]
    if audited.possible:
        names.append(f"({len(audited.possible)} possible)")
    override = device.driver_override
    return (
        printable(device.address),
        f"{device.ids.vendor:04x}:{device.ids.device:04x}",
        f"{device.ids.class_:06x}",
        cut(quoted(device.driver)) if device.driver is not None else "-",
        cut(quoted(override)) if override is not None else "-",
        ", ".join(names) or "-",
    )


def _name(candidate: Candidate) -> str:
    return quoted(candidate.driver) + ("" if candidate.certain else "?")


def _noted(audit: Audit) -> Iterator[str]:
    for audited in audit.devices:
        for note in audited.notes:
            yield f"{printable(audited.device.address)}: {note.text}"


def _dynids(machine: Machine) -> Iterator[str]:
    for name, driver in machine.drivers.items():
        for dynid in driver.dynids or ():
            yield f"{quoted(name)}: {spelled(dynid)}"


def _unknown(audit: Audit) -> Iterator[str]:
    machine = audit.machine
    yield from map(printable, machine.gaps)
    if not machine.order_known:
        yield "The order of registration is unknown: candidates stand by name."
    hidden = [name for name, each in machine.drivers.items() if each.dynids is None]
    if hidden:
        yield f"The dynids of {counted(len(hidden), 'driver')} are unknown."

"""Why a device is, or is not, bound to a driver: `explain ADDRESS`."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final, NamedTuple

from observer.audit import audit
from observer.candidates import Matching, inputs_of
from observer.case import Case, Obstacle, Surroundings
from observer.circumstances import circumstances
from observer.findings.picture import unix_time
from observer.happenings import Happenings, happenings
from observer.machine import Origin
from observer.model import explain
from observer.obstacles import obstacles
from observer.record import Indeterminate, ProbeResult, Source
from observer.remedy import remedy
from observer.text import printable, quoted

if TYPE_CHECKING:
    from collections.abc import Iterator

    from observer.findings import Clock, Finding, Note
    from observer.machine import Machine, PciDevice

NOTHING_AROUND: Final = Surroundings()
_TOLD: Final = ("sriov_drivers_autoprobe",)  # notes of the audit that are gates here


class StoryError(ValueError):
    """There is no story of this address; one printable sentence says why."""


class Candidate(NamedTuple):
    """A driver and what the model says of it and the device."""

    driver: str
    matches: bool | None  # None: can't be told
    match: Source | None  # None: can't be told
    index: int | None  # type: ignore[assignment]
    rule: str
    why: str  # one printable sentence
    opposite: str  # what would have to change; a part of a sentence
    registered_ns: int | None  # CLOCK_MONOTONIC; None: before anything was seen
    result: ProbeResult | None  # of the last probe that was seen
    errno: str | None


class Story(NamedTuple):
    """All there is to say of one device, in the order in which it is told."""

    address: str
    headline: str
    bound: str | None
    asked: str | None  # the driver that --driver names
    semantics: str  # by which the candidates were judged
    kernel_semantics: str
    candidates: tuple[Candidate, ...]  # in the order of registration
    gates: tuple[Obstacle, ...]
    events: Happenings
    findings: tuple[Finding, ...]
    notes: tuple[Note, ...]
    command: str | None  # that would change it
    unknown: tuple[str, ...]  # a sentence each
    realtime_offset_ns: int  # Unix time minus CLOCK_MONOTONIC


def story(
    machine: Machine,
    address: str,
    *,
    driver: str | None = None,
    semantics: str | None = None,
    surroundings: Surroundings = NOTHING_AROUND,
    clock: Clock = unix_time,
) -> Story:
    """Tell why the device is bound as it is, or why not to `driver`.

    `semantics` judges instead of the kernel's own; `clock` spells the times within
    sentences. Raises StoryError when `address` is
    none or no device has it, and KeyError when there is no such semantics.
    """
    device = find(machine, address)
    matching = Matching(machine, semantics)
    case = Case(machine, device, driver, matching, surroundings, clock)
    audited = next(
        each
        for each in audit(machine, semantics, clock).devices
        if each.device is device
    )
    gates = (*obstacles(case), *circumstances(case))
    return Story(
        device.address,
        _headline(device, driver, gates),
        device.driver,
        driver,
        case.matching.semantics,
        machine.semantics,
        tuple(_candidates(case)),
        gates,
        happenings(machine, device.address, driver),
        audited.findings,
        tuple(note for note in audited.notes if note.kind not in _TOLD),
        remedy(case),
        tuple(_unknown(case)),
        machine.realtime_offset_ns,
    )


def find(machine: Machine, address: str) -> PciDevice:
    """Return the device with this address. Raises StoryError."""
    normal = normalised(address)
    try:
        return machine.devices[normal]
    except KeyError:
        near = ", ".join(_nearest(machine, normal)) or "none at all"
        raise StoryError(f"{normal}: no such device; the nearest: {near}") from None


_ADDRESS: Final = re.compile(
    r"(?:([0-9a-f]{4,8}):)?([0-9a-f]{2}):([01][0-9a-f])\.([0-7])"
)


def normalised(address: str) -> str:
    """Return an address as the kernel spells it: "00:02.0" is 0000:00:02.0.

    Raises StoryError.
    """
    found = _ADDRESS.fullmatch(address.strip().lower())
    if found is None:
        raise StoryError(
            f"{printable(address)} is no address of a PCI device; write it as "
            "0000:00:02.0 or 00:02.0"
        )
    domain, bus, device, function = found.groups()
    return f"{domain or '0000'}:{bus}:{device}.{function}"


def as_object(story: Story) -> dict[str, object]:
    """Return the story for a program: all that the text says, as fields."""
    return {
        "address": story.address,
        "headline": story.headline,
        "bound": story.bound,
        "driver": story.asked,
        "semantics": story.semantics,
        "kernel_semantics": story.kernel_semantics,
        "candidates": [_candidate_object(story, each) for each in story.candidates],
        "gates": [gate._asdict() for gate in story.gates],
        "events": [
            {
                "unix_ns": _unix_ns(story, event.ktime_ns),
                "actor": event.actor,
                "text": event.text,
            }
            for event in story.events.shown
        ],
        "earlier_events": story.events.earlier,
        "findings": [
            {
                "finding": finding.finding,
                "kind": finding.kind,
                "text": finding.text,
                "since_unix_ns": _unix_ns(story, finding.since_ns),
            }
            for finding in story.findings
        ],
        "notes": [note._asdict() for note in story.notes],
        "command": story.command,
        "unknown": list(story.unknown),
    }


def _candidate_object(story: Story, candidate: Candidate) -> dict[str, object]:
    fields = candidate._asdict()
    registered_ns = fields.pop("registered_ns")
    return fields | {"registered_unix_ns": _unix_ns(story, registered_ns)}


def _unix_ns(story: Story, ktime_ns: int | None) -> int | None:
    return None if ktime_ns is None else ktime_ns + story.realtime_offset_ns


def as_text(story: Story, clock: Clock = unix_time) -> Iterator[str]:
    """Yield the story line by line, printable; `clock` spells Unix times."""
    yield story.headline
    if story.semantics != story.kernel_semantics:
        yield f"  judged by {story.semantics}; the kernel's is {story.kernel_semantics}"
    for candidate in story.candidates:
        yield f"  {_verdict(candidate)}"
    for gate in story.gates:
        yield f"  {gate.text}"
    if story.events.shown:
        earlier = story.events.earlier
        yield f"  seen, after {earlier} not shown:" if earlier else "  seen:"
    for event in story.events.shown:
        yield f"    {clock(event.ktime_ns + story.realtime_offset_ns)} {event.text}"
    for finding in story.findings:
        yield f"  {finding.finding}: {finding.text}"
    for note in story.notes:
        yield f"  {note.text}"
    if story.command is not None:
        aim = story.asked and f"bind it to {quoted(story.asked)}"
        yield f"  to {aim or 'give it a driver'}:"
        yield f"    {story.command}"
    for each in story.unknown:
        yield f"  unknown: {each}"


def _nearest(machine: Machine, address: str) -> list[str]:
    """Return up to three addresses with the longest common beginning."""

    def common(other: str) -> int:
        pairs = zip(address, other, strict=False)
        return next((at for at, (a, b) in enumerate(pairs) if a != b), len(address))

    return sorted(machine.devices, key=common, reverse=True)[:3]


def _headline(device: PciDevice, asked: str | None, gates: tuple[Obstacle, ...]) -> str:
    ids = device.ids
    named = f"{ids.vendor:04x}:{ids.device:04x}, class {ids.class_:06x}"
    if device.driver is not None:
        state = f"is bound to {quoted(device.driver)}"
        wanted = ", not "
    elif any(gate.gate == "deferred" for gate in gates):
        state = "has no driver yet: its probe is deferred"
        wanted = "; not bound to "
    else:
        state = "has no driver"
        wanted = "; not bound to "
    if asked is not None and asked != device.driver:
        state += wanted + quoted(asked)
    return f"{device.address} ({named}) {state}"


def _candidates(case: Case) -> Iterator[Candidate]:
    """Yield the drivers that match or may, and those one must be told about."""
    device = case.device
    about = {case.asked, device.driver, device.driver_override}
    about.update(each.driver for each in (*case.candidates, *case.possible))
    if case.waits:  # those that driver_override keeps away
        without = case.matching.without_override(device).matching
        about.update(each.driver for each in without)
    for name in case.machine.drivers:
        if name in about:
            yield _candidate(case, name)


def _candidate(case: Case, name: str) -> Candidate:
    driver, device = case.machine.drivers[name], case.device
    told = explain(
        case.matching.semantics,
        inputs_of(driver, device.ids, device.driver_override),
    )
    match, index = None, None
    if not isinstance(told.verdict, Indeterminate):
        match, index = told.verdict
    why = told.reason
    for judged in (*case.candidates, *case.possible):
        if judged.driver == name and match is None:
            why = judged.reason
    if driver.origin is Origin.MODULES_ALIAS and match is Source.STATIC:
        index, why = None, "modules.alias lists the device for it."
    sure = case.matches(name, device.driver_override)
    probe = case.last_probe(name)
    return Candidate(
        name,
        True if sure else None if match is None else False,
        match,
        index,
        str(told.rule),
        why,
        told.opposite,
        driver.registered_ns,
        probe.result if probe is not None else None,
        probe.errno if probe is not None else None,
    )


def _verdict(candidate: Candidate) -> str:
    name = quoted(candidate.driver)
    if candidate.matches:
        return f"{name} matches: {candidate.why}"
    if candidate.matches is None:
        return f"{name} may match: {candidate.why}"
    return f"{name} does not match: {candidate.why} To match: {candidate.opposite}."


_AN_ADDRESS: Final = re.compile(r"\b[0-9a-f]{4,8}:[0-9a-f]{2}:[0-9a-f]{2}\.[0-7]\b")


def _unknown(case: Case) -> Iterator[str]:
    for gap in (*case.machine.gaps, *case.surroundings.unknown):
        addresses = _AN_ADDRESS.findall(gap)
        if not addresses or case.device.address in addresses:
            yield printable(gap)
    if len(case.candidates) > 1 and not case.machine.order_known:
        yield "in which order the drivers were registered"
    since_ns = case.machine.observed_since_ns
    recorded_ns = case.machine.recorded_since_ns
    if since_ns is None:
        yield "no daemon: only the present is known"
    elif recorded_ns is None:
        yield f"what was before {case.time(since_ns)}, when observing began"
    else:
        yield (
            f"what was before {case.time(recorded_ns)}, when the kernel began to "
            f"record decisions, and who wrote to sysfs before {case.time(since_ns)}"
        )

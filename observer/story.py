"""Why a device is, or is not, bound to a driver: `explain ADDRESS`."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final, NamedTuple

from observer.audit import audit
from observer.candidates import Matching, inputs_of
from observer.case import Case, Obstacle, Sentence, Surroundings
from observer.circumstances import circumstances
from observer.happenings import Happenings, happenings
from observer.machine import Origin
from observer.model import explain
from observer.obstacles import obstacles
from observer.record import Indeterminate, ProbeResult, Source
from observer.remedy import remedy
from observer.text import printable

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from observer.findings import Finding
    from observer.machine import Machine, PciDevice

    Clock = Callable[[int], str]  # spells a Unix time given in ns: "14:02:11"

NOTHING_AROUND: Final = Surroundings()


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
    command: str | None  # that would change it
    unknown: tuple[Sentence, ...]
    realtime_offset_ns: int  # Unix time minus CLOCK_MONOTONIC


def story(
    machine: Machine,
    address: str,
    *,
    driver: str | None = None,
    semantics: str | None = None,
    surroundings: Surroundings = NOTHING_AROUND,
) -> Story:
    """Tell why the device is bound as it is, or why not to `driver`.

    `semantics` judges instead of the kernel's own. Raises StoryError when `address` is
    none or no device has it, and KeyError when there is no such semantics.
    """
    device = find(machine, address)
    case = Case(machine, device, driver, Matching(machine, semantics), surroundings)
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
        _findings(machine, device),
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


def as_object(story: Story, clock: Clock) -> dict[str, object]:
    """Return the story for a program: all that the text says, as fields.

    Times are Unix times in seconds; those within sentences are spelled by `clock`.
    """
    told = _Teller(story.realtime_offset_ns, clock)
    return {
        "address": story.address,
        "headline": story.headline,
        "bound": story.bound,
        "driver": story.asked,
        "semantics": story.semantics,
        "kernel_semantics": story.kernel_semantics,
        "candidates": [told.candidate(each) for each in story.candidates],
        "gates": [
            {"gate": gate.gate, "text": told.sentence(gate.text)}
            for gate in story.gates
        ],
        "events": [
            {
                "time": told.unix(event.ktime_ns),
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
                "since": told.unix(finding.since_ns),
            }
            for finding in story.findings
        ],
        "command": story.command,
        "unknown": [told.sentence(each) for each in story.unknown],
    }


def as_text(story: Story, clock: Clock) -> Iterator[str]:
    """Yield the story line by line, printable; `clock` spells a Unix time in ns."""
    told = _Teller(story.realtime_offset_ns, clock)
    yield story.headline
    if story.semantics != story.kernel_semantics:
        yield f"  judged by {story.semantics}; the kernel's is {story.kernel_semantics}"
    for candidate in story.candidates:
        yield f"  {_verdict(candidate)}"
    for gate in story.gates:
        yield f"  {told.sentence(gate.text)}"
    if story.events.shown:
        earlier = (
            f", {story.events.earlier} before them" if story.events.earlier else ""
        )
        yield f"  seen{earlier}:"
    for event in story.events.shown:
        yield f"    {told.time(event.ktime_ns)} {event.text}"
    for finding in story.findings:
        since_ns = finding.since_ns
        since = "" if since_ns is None else f" (since {told.time(since_ns)})"
        yield f"  {finding.finding}: {finding.text}{since}"
    if story.command is not None:
        aim = story.asked and f"bind it to {printable(story.asked)}"
        yield f"  to {aim or 'give it a driver'}:"
        yield f"    {story.command}"
    for each in story.unknown:
        yield f"  unknown: {told.sentence(each)}"


class _Teller(NamedTuple):
    """Spells times."""

    offset_ns: int
    clock: Clock

    def time(self, ktime_ns: int) -> str:
        return self.clock(ktime_ns + self.offset_ns)

    def unix(self, ktime_ns: int | None) -> float | None:
        return None if ktime_ns is None else (ktime_ns + self.offset_ns) / 1e9

    def candidate(self, candidate: Candidate) -> dict[str, object]:
        fields = candidate._asdict()
        return fields | {"registered": self.unix(fields.pop("registered_ns"))}

    def sentence(self, sentence: Sentence) -> str:
        return "".join(
            part if isinstance(part, str) else self.time(part) for part in sentence
        )


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
        state = f"is bound to {printable(device.driver)}"
        wanted = ", not "
    elif any(gate.gate == "deferred" for gate in gates):
        state = "has no driver yet: its probe is deferred"
        wanted = "; not bound to "
    else:
        state = "has no driver"
        wanted = "; not bound to "
    if asked is not None and asked != device.driver:
        state += wanted + printable(asked)
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
    name = printable(candidate.driver)
    if candidate.matches:
        return f"{name} matches: {candidate.why}"
    if candidate.matches is None:
        return f"{name} may match: {candidate.why}"
    return f"{name} does not match: {candidate.why} To match: {candidate.opposite}."


def _findings(machine: Machine, device: PciDevice) -> tuple[Finding, ...]:
    for audited in audit(machine).devices:
        if audited.device.address == device.address:
            return audited.findings
    return ()


_AN_ADDRESS: Final = re.compile(r"\b[0-9a-f]{4,8}:[0-9a-f]{2}:[0-9a-f]{2}\.[0-7]\b")


def _unknown(case: Case) -> Iterator[Sentence]:
    for gap in case.machine.gaps:
        addresses = _AN_ADDRESS.findall(gap)
        if not addresses or case.device.address in addresses:
            yield (printable(gap),)
    for sentence in case.surroundings.unknown:
        yield (printable(sentence),)
    if len(case.candidates) > 1 and not case.machine.order_known:
        yield ("in which order the drivers were registered",)
    since_ns = case.machine.observed_since_ns
    if since_ns is None:
        yield ("no daemon: only the present is known",)
    else:
        yield ("nothing was observed before ", since_ns, "; what was then is not known")

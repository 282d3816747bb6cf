"""Why a verdict: the rule and the entry that decided, and what would reverse it."""

from __future__ import annotations

from contextlib import suppress
from enum import StrEnum
from typing import NamedTuple

from observer.model.opposite import Change, changes, spelled_changes
from observer.model.primitives import Undecided, dynid_hits, static_hits
from observer.model.semantics import SEMANTICS, Semantics, expect
from observer.record import (
    PCI_ANY_ID,
    Id,
    Indeterminate,
    Inputs,
    Reason,
    Source,
    Verdict,
)

_MISSING = {
    Reason.OVERRIDE_CHANGED: "driver_override changed meanwhile",
    Reason.DYNIDS_CHANGED: "the dynids changed meanwhile",
    Reason.DYNIDS_TRUNCATED: "no captured dynid matches, and there are more",
    Reason.TABLE_TRUNCATED: "no captured id_table entry matches, and there are more",
    Reason.TABLE_UNKNOWN: "the driver's id_table was not received",
    Reason.READ_FAULT: "the driver's id_table could not be read to its end",
}


class Rule(StrEnum):
    """What decided."""

    UNDECIDED = "undecided"
    OVERRIDE_NAMES_ANOTHER_DRIVER = "override_names_another_driver"
    FIRST_DYNID = "first_dynid"
    FIRST_ENTRY = "first_entry"
    OVERRIDE_ONLY_AND_OVERRIDE = "override_only_and_override"
    OVERRIDE_ONLY_WITHOUT_OVERRIDE = "override_only_without_override"
    OVERRIDE_WITHOUT_FLAG = "override_without_flag"  # condition (c)
    DUMMY_ID = "dummy_id"
    NO_DUMMY_ID = "no_dummy_id"  # nothing matches, and driver_override does not help
    NO_ID_MATCHES = "no_id_matches"
    ENDLESS_SEARCH = "endless_search"


class Entry(NamedTuple):
    """An id that decided."""

    source: Source  # STATIC or DYNID
    index: int  # type: ignore[assignment]
    id: Id

    def __str__(self) -> str:
        """Name it for a person."""
        if self.source is Source.DYNID:
            return f"dynid {self.index} ({spelled(self.id)})"
        return f"id_table[{self.index}] ({spelled(self.id)})"


class Explanation(NamedTuple):
    """A verdict with what led to it."""

    semantics: str  # slug
    verdict: Verdict
    rule: Rule
    entry: Entry | None
    reason: str  # one printable sentence
    opposite: str  # what would have to change; a part of a sentence
    changes: tuple[Change, ...]  # each of which alone does it

    def as_object(self) -> dict[str, object]:
        """Return it for a machine, without the verdict and the inputs of changes."""
        entry = None
        if self.entry is not None:
            entry = {
                "source": str(self.entry.source),
                "index": self.entry.index,
                "id": spelled(self.entry.id),
            }
        return {
            "semantics": self.semantics,
            "rule": str(self.rule),
            "entry": entry,
            "why": self.reason,
            "opposite": self.opposite,
        }


def why(slug: str, inputs: Inputs) -> str:
    """Return one sentence for a person: which rule and which entry decided.

    Names in it are given by `repr`, for they may contain anything.
    Raises KeyError when there is no such semantics.
    """
    return reason_of(slug, inputs, expect(slug, inputs))


def reason_of(slug: str, inputs: Inputs, verdict: Verdict) -> str:
    """Return the sentence for a verdict that `expect` gave already."""
    return _sentence(SEMANTICS[slug], inputs, verdict, *_decided(slug, inputs, verdict))


def explain(slug: str, inputs: Inputs) -> Explanation:
    """Return verdict, rule and entry, and what would lead to the opposite.

    Raises KeyError when there is no such semantics.
    """
    verdict = expect(slug, inputs)
    rule, entry = _decided(slug, inputs, verdict)
    reason = _sentence(SEMANTICS[slug], inputs, verdict, rule, entry)
    ways = changes(slug, inputs, verdict)
    opposite = spelled_changes(ways, verdict)
    return Explanation(slug, verdict, rule, entry, reason, opposite, ways)


def _decided(slug: str, inputs: Inputs, verdict: Verdict) -> tuple[Rule, Entry | None]:
    if isinstance(verdict, Indeterminate):
        return Rule.UNDECIDED, None
    semantics = SEMANTICS[slug]
    if verdict.match is Source.NONE:
        return _decided_none(semantics, inputs)
    if verdict.match is Source.OVERRIDE:
        return Rule.DUMMY_ID, None
    if verdict.match is Source.HANG:
        return Rule.ENDLESS_SEARCH, _hits(inputs)[0]
    of_dynid = verdict.match is Source.DYNID
    ids = inputs.dynids if of_dynid else inputs.driver.id_table or ()
    index = verdict.index or 0
    entry = Entry(verdict.match, index, ids[index])
    if entry.id.override_only and entry.source in semantics.flags:
        return Rule.OVERRIDE_ONLY_AND_OVERRIDE, entry
    return Rule.FIRST_DYNID if of_dynid else Rule.FIRST_ENTRY, entry


def _decided_none(semantics: Semantics, inputs: Inputs) -> tuple[Rule, Entry | None]:
    """Tell what the first hit lacked, for no hit without a lack is left unused."""
    is_set = semantics.has_override and inputs.driver_override is not None
    if is_set and inputs.driver_override != inputs.driver.name:
        return Rule.OVERRIDE_NAMES_ANOTHER_DRIVER, None
    for entry in _hits(inputs)[:1]:
        if is_set:
            return Rule.OVERRIDE_WITHOUT_FLAG, entry
        return Rule.OVERRIDE_ONLY_WITHOUT_OVERRIDE, entry
    return Rule.NO_DUMMY_ID if is_set else Rule.NO_ID_MATCHES, None


def _hits(inputs: Inputs) -> list[Entry]:
    """Return all hits in the known parts, dynids first."""
    hits: list[Entry] = []
    with suppress(Undecided):
        hits += (Entry(Source.DYNID, *hit) for hit in dynid_hits(inputs))
    with suppress(Undecided):
        hits += (Entry(Source.STATIC, *hit) for hit in static_hits(inputs))
    return hits


def _sentence(
    semantics: Semantics,
    inputs: Inputs,
    verdict: Verdict,
    rule: Rule,
    entry: Entry | None,
) -> str:
    if isinstance(verdict, Indeterminate):
        return f"Can't tell: {_MISSING[verdict.reason]}."
    if rule is Rule.OVERRIDE_NAMES_ANOTHER_DRIVER:
        driver_override, name = inputs.driver_override, inputs.driver.name
        return f"driver_override names {driver_override!r}, not {name!r}."
    if rule is Rule.NO_ID_MATCHES and inputs.driver.id_table is None:
        return "No dynid matches, and the driver has no id_table."
    if rule is Rule.OVERRIDE_ONLY_WITHOUT_OVERRIDE and any(
        not hit.id.override_only or hit.source not in semantics.flags
        for hit in _hits(inputs)
    ):
        return _SENTENCES[rule].format(entry)[:-1] + ", and hides what follows."
    if rule is Rule.OVERRIDE_ONLY_AND_OVERRIDE and verdict.match is Source.DYNID:
        return f"{entry} matches: override_only, and driver_override names this driver."
    return _SENTENCES[rule].format(entry)


_SENTENCES = {
    Rule.FIRST_DYNID: "{} is the first to match.",
    Rule.FIRST_ENTRY: "No dynid matches; {} does: the first entry that counts.",
    Rule.OVERRIDE_ONLY_AND_OVERRIDE: (
        "No dynid matches; {} does: override_only, and driver_override names this "
        "driver."
    ),
    Rule.OVERRIDE_ONLY_WITHOUT_OVERRIDE: (
        "{} matches, but is override_only and driver_override is not set."
    ),
    Rule.OVERRIDE_WITHOUT_FLAG: (
        "{} matches, but is not override_only and driver_override is set."
    ),
    Rule.DUMMY_ID: (
        "No id matches, but driver_override names this driver: the dummy id."
    ),
    Rule.NO_DUMMY_ID: (
        "No id matches, and driver_override names this driver in vain: there is no "
        "dummy id."
    ),
    Rule.NO_ID_MATCHES: "No dynid and no id_table entry matches.",
    Rule.ENDLESS_SEARCH: (
        "{} matches, but is override_only and driver_override is not set: the search "
        "goes on from there and finds it again, for ever."
    ),
}


def spelled(entry: Id) -> str:
    """Return an id for a person, without the fields that match anything."""
    ids = ":".join(
        "*" if part == PCI_ANY_ID else f"{part:04x}"
        for part in (entry.vendor, entry.device)
    )
    if (entry.subvendor, entry.subdevice) != (PCI_ANY_ID, PCI_ANY_ID):
        ids += f", subsystem {entry.subvendor:04x}:{entry.subdevice:04x}"
    if entry.class_mask:
        ids += f", class {entry.class_:06x}/{entry.class_mask:06x}"
    return ids

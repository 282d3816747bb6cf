"""One sentence for a person: which rule and which entry decided."""

from __future__ import annotations

from observer.model.primitives import static_hits
from observer.record import (
    PCI_ANY_ID,
    Id,
    Indeterminate,
    Inputs,
    Outcome,
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


def explain(inputs: Inputs, verdict: Verdict) -> str:
    """Return why `inputs` led to `verdict`, as one sentence without control text.

    Names are given by `repr`, for they may contain anything.
    """
    if isinstance(verdict, Indeterminate):
        return f"Can't tell: {_MISSING[verdict.reason]}."
    if verdict.match is Source.NONE:
        return _why_nothing(inputs)
    if verdict.match is Source.OVERRIDE:
        return "No id matches, but driver_override names this driver: the dummy id."
    return _why_id(inputs, verdict)


def _why_nothing(inputs: Inputs) -> str:
    driver_override, name = inputs.driver_override, inputs.driver.name
    if driver_override not in (None, name):
        return f"driver_override names {driver_override!r}, not {name!r}."
    passed_over = next(static_hits(inputs), None)
    if passed_over is not None:
        index, entry = passed_over
        return (
            f"id_table[{index}] ({spelled(entry)}) matches, but is override_only and "
            "driver_override is not set."
        )
    if inputs.driver.id_table is None:
        return "No dynid matches, and the driver has no id_table."
    return "No dynid and no id_table entry matches."


def _why_id(inputs: Inputs, outcome: Outcome) -> str:
    index = outcome.index or 0
    if outcome.match is Source.DYNID:
        return f"dynid {index} ({spelled(inputs.dynids[index])}) is the first to match."
    entry = (inputs.driver.id_table or ())[index]
    which = "the first entry that counts"
    if entry.override_only and inputs.driver_override is not None:
        which = "override_only, and driver_override names this driver"
    return f"No dynid matches; id_table[{index}] ({spelled(entry)}) does: {which}."


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

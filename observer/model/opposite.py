"""What would have to change for a driver to match, or not to match any more.

Only what somebody can write counts: driver_override, new_id and remove_id. The model
itself is asked about each change, so a change that is named does what it says.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from observer.model.primitives import id_matches
from observer.model.semantics import SEMANTICS, expect
from observer.model.table import is_terminator
from observer.record import Id, Indeterminate, Inputs, Source, TableState, Verdict

if TYPE_CHECKING:
    from collections.abc import Iterator

_NO_MATCH = (Source.NONE, Source.HANG)


class Change(NamedTuple):
    """Something to write, and what the decision then depends on."""

    text: str  # "clear driver_override"
    inputs: Inputs


def changes(slug: str, inputs: Inputs, verdict: Verdict) -> tuple[Change, ...]:
    """Return each change that alone leads to the opposite; if there is none, each pair.

    Nothing is the opposite of a verdict that can't be given.
    """
    if isinstance(verdict, Indeterminate):
        return ()
    matches = verdict.match not in _NO_MATCH
    single = tuple(_changes(slug, inputs, matches=matches))
    pairs = (
        Change(f"{first.text} and {second.text}", second.inputs)
        for first in single
        for second in _changes(slug, first.inputs, matches=matches)
    )
    return (
        _reversing(slug, single, matches=matches)
        or _reversing(slug, tuple(pairs), matches=matches)[:1]
    )


def spelled_changes(ways: tuple[Change, ...], verdict: Verdict) -> str:
    """Return what to do, as a part of a sentence."""
    if ways:
        return ", or ".join(way.text for way in ways)
    if isinstance(verdict, Indeterminate):
        return "unknown"
    if verdict.match in _NO_MATCH:
        return "another id_table: this one is empty, so new_id accepts nothing"
    return "another id_table: this one lists the device, and nothing overrides it"


def _reversing(
    slug: str, ways: tuple[Change, ...], *, matches: bool
) -> tuple[Change, ...]:
    return tuple(way for way in ways if _reverses(slug, way, matches=matches))


def _reverses(slug: str, way: Change, *, matches: bool) -> bool:
    verdict = expect(slug, way.inputs)
    if isinstance(verdict, Indeterminate):
        return False
    return (verdict.match is Source.NONE) if matches else verdict.match not in _NO_MATCH


def _changes(slug: str, inputs: Inputs, *, matches: bool) -> Iterator[Change]:
    """Yield what can be written, the least of it first."""
    if SEMANTICS[slug].has_override:
        yield from _overrides(inputs, matches=matches)
    if matches:
        yield from _removals(inputs)
    else:
        yield from _additions(inputs)


def _overrides(inputs: Inputs, *, matches: bool) -> Iterator[Change]:
    name = inputs.driver.name
    if inputs.driver_override is not None:
        yield Change("clear driver_override", inputs._replace(driver_override=None))
    if matches:
        other = "none" if name != "none" else "nobody"
        yield Change(
            f"set driver_override to another name, such as {other!r}",
            inputs._replace(driver_override=other),
        )
    elif inputs.driver_override != name and name and "\n" not in name:
        yield Change(
            f"set driver_override to {name!r}", inputs._replace(driver_override=name)
        )


def _removals(inputs: Inputs) -> Iterator[Change]:
    places = [
        place
        for place, dynid in enumerate(inputs.dynids)
        if id_matches(dynid, inputs.device)
    ]
    if places:
        listed = ", ".join(map(str, places))
        kept = (
            dynid for place, dynid in enumerate(inputs.dynids) if place not in places
        )
        yield Change(
            f"remove with remove_id what matches of the dynids ({listed})",
            inputs._replace(dynids=tuple(kept)),
        )


def _additions(inputs: Inputs) -> Iterator[Change]:
    """Add the device by new_id, with a driver_data that new_id accepts."""
    device, driver = inputs.device, inputs.driver
    text = f"{device.vendor:04x} {device.device:04x}"
    data = _accepted_data(inputs)
    if data is None:
        return
    if data or any(
        id_matches(entry, device)
        for entry in (*inputs.dynids, *(driver.id_table or ()))
    ):  # all seven fields, for then nothing counts as a duplicate
        text += " ffffffff ffffffff 0 0 " + ("0" if not data else "DATA")
    hint = ", DATA being the driver_data of an entry of its id_table" if data else ""
    dynid = Id(device.vendor, device.device, driver_data=data)
    yield Change(
        f"write {text!r} to the driver's new_id{hint}",
        inputs._replace(dynids=(*inputs.dynids, dynid)),
    )


def _accepted_data(inputs: Inputs) -> int | None:
    """Return a driver_data that new_id accepts: one of the id_table, 0 if it can be."""
    driver = inputs.driver
    if driver.id_table is None or driver.table_state is not TableState.COMPLETE:
        return 0
    known = []
    for entry in driver.id_table:
        if is_terminator(entry):
            break
        known.append(entry.driver_data)
    return min(known, default=None)

"""A prediction for a terminal: what would change first, then all there is."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from observer.preflight.outlook import Certainty
from observer.terminal import counted, cut, section, table, wrapped
from observer.text import printable, quoted

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from observer.preflight.outlook import Outlook
    from observer.preflight.prediction import Predicted, Preflight
    from observer.preflight.shape import Note

_COLUMNS: Final = ("ADDRESS", "IDS", "CLASS", "NOW", "THEN", "CERTAINTY", "CANDIDATES")


def as_text(preflight: Preflight) -> Iterator[str]:
    """Yield the lines, printable."""
    yield from _summary(preflight)
    for change in preflight.changes:
        yield ""
        address = f"{printable(change.address)} " if change.address else ""
        yield from wrapped(f"{change.kind}: {address}{change.text}", "    ")
        if change.cure is not None:
            yield f"    $ {change.cure}"
    yield ""
    yield from table([_COLUMNS, *map(_row, preflight.devices)])
    yield from section("Notes:", _notes(preflight.notes))
    yield from section("Unknown:", map(printable, preflight.gaps))


def _summary(preflight: Preflight) -> Iterator[str]:
    machine, there = preflight.machine, preflight.there
    touched = {each.address for each in preflight.changes if each.address}
    races = sum(each.then.certainty is Certainty.RACE for each in preflight.devices)
    rules = there.rules
    known = (
        f"semantics {rules.semantics}, layout {rules.layout}" if rules else "unknown"
    )
    devices = counted(len(machine.devices), "device")
    yield from wrapped(
        f"Linux {printable(machine.release)} (semantics {machine.semantics}, layout "
        f"{printable(machine.layout)}) -> {printable(there.release)} ({known}): "
        f"{devices}, {len(touched)} of them may change, {counted(races, 'race')}; "
        f"{counted(len(preflight.changes), 'change')}."
    )


def _row(one: Predicted) -> tuple[str, ...]:
    device = one.device
    return (
        printable(device.address),
        f"{device.ids.vendor:04x}:{device.ids.device:04x}",
        f"{device.ids.class_:06x}",
        cut(quoted(device.driver)) if device.driver is not None else "-",
        cut(one.then.winner.label) if one.then.winner else _nobody(one.then),
        str(one.then.certainty),
        ", ".join(each.label for each in one.then.candidates) or "-",
    )


def _nobody(then: Outlook) -> str:
    return "?" if then.candidates else "-"


def _notes(notes: Iterable[Note]) -> Iterator[str]:
    """Yield a line for each text, with all devices that it is about."""
    addresses: dict[str, list[str]] = {}
    for note in notes:
        addresses.setdefault(note.text, []).append(note.address or "")
    for text, about in addresses.items():
        named = ", ".join(map(printable, filter(None, about)))
        yield f"{named}: {text}" if named else text

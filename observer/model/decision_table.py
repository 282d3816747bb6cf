"""The decision table of a semantics: what it answers to each kind of input."""

from __future__ import annotations

from typing import Final, NamedTuple

from observer.model.semantics import SEMANTICS, expect
from observer.record import Device, Driver, Id, Indeterminate, Inputs, Outcome, Source

_DEVICE: Final = Device(0x8086, 0x100E, 0x1AF4, 0x1100, 0x020000)
_PLAIN: Final = Id(0x8086, 0x100E)
_OO: Final = Id(0x8086, 0x100E, override_only=1)
_NAME: Final = "driver"

_HITS: Final[dict[str, tuple[Id, ...]]] = {
    "none": (),
    "plain": (_PLAIN,),
    "oo": (_OO,),
    "oo, plain": (_OO, _PLAIN),
    "plain, oo": (_PLAIN, _OO),
}
_DYNIDS: Final = {"no": (), "yes": (_PLAIN,), "flagged": (_OO,)}
_OVERRIDES: Final = {"unset": None, "== driver": _NAME, "!= driver": "another"}


class Row(NamedTuple):
    """One kind of input."""

    dynid: str  # that matches: no, yes, or flagged (under rfc-flagged-dynids only)
    static_hits: str  # in table order; oo: override_only
    driver_override: str  # unset, == driver or != driver


class Cell(NamedTuple):
    """A semantics' answer to a row."""

    outcome: Outcome
    text: str  # "static oo"
    applies: bool  # False: kernels of that era don't have what the row is about


ANYTHING: Final = "anything"
ROWS: Final = (
    *(
        Row("no", hits, driver_override)
        for hits in _HITS
        for driver_override in ("unset", "== driver")
    ),
    Row("yes", ANYTHING, "unset"),
    Row("yes", ANYTHING, "== driver"),
    Row("flagged", "none", "unset"),
    Row("flagged", "plain", "unset"),
    Row("flagged", ANYTHING, "== driver"),
    Row("no", ANYTHING, "!= driver"),
    Row("yes", ANYTHING, "!= driver"),
)


def inputs_of(row: Row) -> tuple[Inputs, ...]:
    """Return inputs of this kind, one for each table where anything may be in it."""
    tables = _HITS.values() if row.static_hits == ANYTHING else [_HITS[row.static_hits]]
    return tuple(
        Inputs(
            _DEVICE,
            Driver(1, _NAME, table),
            _DYNIDS[row.dynid],
            driver_override=_OVERRIDES[row.driver_override],
        )
        for table in tables
    )


def cell(slug: str, row: Row) -> Cell:
    """Return what a semantics answers to a row. Raises KeyError for an unknown slug."""
    semantics = SEMANTICS[slug]
    inputs = inputs_of(row)[0]
    outcome = expect(slug, inputs)
    assert not isinstance(outcome, Indeterminate)  # noqa: S101 - all is known
    applies = (
        (semantics.has_override or row.driver_override == "unset")
        and (Source.STATIC in semantics.flags or "oo" not in row.static_hits)
        and (Source.DYNID in semantics.flags or row.dynid != "flagged")
    )
    return Cell(outcome, _text(outcome, inputs), applies)


def _text(outcome: Outcome, inputs: Inputs) -> str:
    if outcome.match is not Source.STATIC:
        return str(outcome.match)
    entry = (inputs.driver.id_table or ())[outcome.index or 0]
    return "static oo" if entry.override_only else "static plain"

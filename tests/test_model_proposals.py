"""observer/model/proposals.py: what was proposed in June 2021, held against the thread.

The table is kernel-facts.md's, transcribed by hand; `differs` marks its bold cells,
those in which a proposal is not what was merged.
"""

from __future__ import annotations

from typing import NamedTuple

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from strategies import decidable_inputs, entries, inputs

from observer.model import SEMANTICS, expect
from observer.model.decision_table import ROWS, Row, cell, inputs_of
from observer.model.primitives import static_hits
from observer.record import (
    PCI_ANY_ID,
    Device,
    Driver,
    Id,
    Inputs,
    Outcome,
    Source,
    TableState,
)

MERGED = "linux-5.15"
COLUMNS = (
    "linux-3.15",
    "linux-3.16",
    MERGED,
    "rfc-2021-06-03",
    "rfc-2021-06-14",
    "rfc-2021-06-14-without-c",
    "rfc-2021-06-17",
)
PROPOSALS = (*COLUMNS[3:], "rfc-flagged-dynids")

# dynid | static hits | override | as COLUMNS; * is bold, - is n/a
TABLE = """
no  | none      | unset | none | none | none | none | none | none | none
no  | none      | == drv | - | override | override | *none | override | override | override
no  | plain     | unset | plain | plain | plain | plain | plain | plain | plain
no  | plain     | == drv | - | plain | plain | *none | *none | plain | plain
no  | oo        | unset | - | - | none | none | none | none | *hang
no  | oo        | == drv | - | - | oo | oo | oo | oo | oo
no  | oo, plain | unset | - | - | plain | *none | *none | *none | *hang
no  | oo, plain | == drv | - | - | oo | oo | oo | oo | oo
no  | plain, oo | unset | - | - | plain | plain | plain | plain | plain
no  | plain, oo | == drv | - | - | plain | *none | *none | plain | plain
yes | anything  | unset | dynid | dynid | dynid | dynid | dynid | dynid | dynid
yes | anything  | == drv | - | dynid | dynid | *none | dynid | dynid | dynid
"""  # noqa: E501 - a table


class Fact(NamedTuple):
    """One cell of the table."""

    row: Row
    slug: str
    answer: str
    differs: bool


def facts() -> list[Fact]:
    """Read the table."""
    found = []
    for line in TABLE.strip().splitlines():
        dynid, hits, override, *answers = (text.strip() for text in line.split("|"))
        row = Row(dynid, hits, override.replace("drv", "driver"))
        found += [
            Fact(row, slug, answer.removeprefix("*"), answer.startswith("*"))
            for slug, answer in zip(COLUMNS, answers, strict=True)
        ]
    return found


FACTS = facts()
TEXTS = {"plain": "static plain", "oo": "static oo"}


def row_of(case: Inputs) -> Row:
    """Tell which row of the table some inputs belong to."""
    fitting = case._replace(driver_override=None)
    dynid = expect("linux-3.16", fitting).match is Source.DYNID  # type: ignore[union-attr]
    name, override = case.driver.name, case.driver_override
    driver_override = "unset"
    if override is not None:
        driver_override = "== driver" if override == name else "!= driver"
    if dynid or driver_override == "!= driver":
        return Row("yes" if dynid else "no", "anything", driver_override)
    kinds = ["oo" if entry.override_only else "plain" for _, entry in static_hits(case)]
    if not kinds:
        return Row("no", "none", driver_override)
    first = kinds[0]
    behind = next((kind for kind in kinds if kind != first), None)
    return Row("no", f"{first}, {behind}" if behind else first, driver_override)


@pytest.mark.parametrize("fact", FACTS, ids=str)
def test_kernel_facts(fact: Fact) -> None:
    """Each cell of the table is what the model answers."""
    answer = cell(fact.slug, fact.row)
    if fact.answer == "-":
        assert not answer.applies
    else:
        assert (True, TEXTS.get(fact.answer, fact.answer)) == (
            answer.applies,
            answer.text,
        )


@pytest.mark.parametrize("fact", [f for f in FACTS if f.answer != "-"], ids=str)
def test_bold(fact: Fact) -> None:
    """Bold is exactly what differs from what was merged."""
    merged = cell(MERGED, fact.row).outcome
    assert fact.differs is (cell(fact.slug, fact.row).outcome != merged)


def test_rows_are_complete() -> None:
    """The model's own table has all these rows, in this order."""
    assert list(dict.fromkeys(fact.row for fact in FACTS)) == list(
        ROWS[: len(FACTS) // 7]
    )


@pytest.mark.parametrize("row", ROWS, ids=str)
@pytest.mark.parametrize("slug", SEMANTICS)
def test_anything_means_anything(slug: str, row: Row) -> None:
    """Where the table says anything, no static hit changes the answer."""
    if cell(slug, row).applies:
        assert {cell(slug, row).outcome} == {
            expect(slug, case) for case in inputs_of(row)
        }


@pytest.mark.parametrize("slug", PROPOSALS)
@settings(max_examples=50)
@given(case=decidable_inputs)
def test_differs_in_its_rows_only(slug: str, case: Inputs) -> None:
    """Whatever ids match how: a proposal differs in its bold rows, and always there."""
    row = row_of(case)
    differs = any(f.differs for f in FACTS if f.row == row and f.slug == slug)
    assert differs is (expect(slug, case) != expect(MERGED, case))


@pytest.mark.parametrize("slug", [slug for slug in SEMANTICS if slug != "linux-3.15"])
@settings(max_examples=50)
@given(case=inputs, name=st.text("abc", min_size=1))
def test_another_drivers_override_keeps_away(
    slug: str, case: Inputs, name: str
) -> None:
    """All proposals agree on what driver_override was invented for."""
    other = case._replace(driver_override=case.driver.name + name)
    assert Outcome(Source.NONE) == expect(slug, other)


# The argument of the thread, in the order in which it went on.

NIC = Device(0x8086, 0x100E, 0x1AF4, 0x1100, 0x020000)
LISTED = Id(0x8086, 0x100E)
ANY = Id(PCI_ANY_ID, PCI_ANY_ID)
VFIO = Id(PCI_ANY_ID, PCI_ANY_ID, override_only=1)


def answers(
    slug: str,
    *,
    name: str = "e1000",
    id_table: tuple[Id, ...] | None = (),
    dynids: tuple[Id, ...] = (),
    override: str | None = None,
) -> Source:
    """Return where the answer for a network card comes from."""
    case = Inputs(NIC, Driver(1, name, id_table), dynids, driver_override=override)
    verdict = expect(slug, case)
    assert isinstance(verdict, Outcome)
    return verdict.match


def test_first_patch_breaks_pci_stub() -> None:
    """Without the dummy id, driver_override alone no longer binds pci-stub."""
    stub = {"name": "pci-stub", "id_table": None, "override": "pci-stub"}
    assert Source.OVERRIDE == answers(MERGED, **stub)  # type: ignore[arg-type]
    assert Source.NONE == answers("rfc-2021-06-03", **stub)  # type: ignore[arg-type]


def test_first_patch_breaks_new_id_by_hand() -> None:
    """A stale override naming the driver makes the id written to new_id useless."""
    stub = {"name": "pci-stub", "dynids": (LISTED,), "override": "pci-stub"}
    assert Source.NONE == answers("rfc-2021-06-03", **stub)  # type: ignore[arg-type]
    for slug in PROPOSALS[1:]:  # (a) of the next patch
        assert Source.DYNID == answers(slug, **stub)  # type: ignore[arg-type]


def test_condition_a() -> None:
    """(a) A dynamic id matches although the flagged entry alone would not."""
    assert Source.DYNID == answers(
        "rfc-2021-06-14", id_table=(VFIO,), dynids=(LISTED,), override=None
    )


def test_condition_b() -> None:
    """(b) A flagged entry needs an override: vfio-pci must not grab every device."""
    assert Source.NONE == answers("rfc-2021-06-14", name="vfio-pci", id_table=(VFIO,))
    assert Source.STATIC == answers(
        "rfc-2021-06-14", name="vfio-pci", id_table=(VFIO,), override="vfio-pci"
    )


def test_condition_c() -> None:
    """(c) An override needs a flag: a driver can't be forced onto what it lists."""
    forced = {"id_table": (LISTED,), "override": "e1000"}
    assert Source.NONE == answers("rfc-2021-06-14", **forced)  # type: ignore[arg-type]
    for slug in ("rfc-2021-06-14-without-c", "rfc-2021-06-17", MERGED):
        assert Source.STATIC == answers(slug, **forced)  # type: ignore[arg-type]


def test_condition_c_spares_what_is_not_listed() -> None:
    """(c) asks for a flag only where an entry matches: else there is the dummy id."""
    assert Source.OVERRIDE == answers("rfc-2021-06-14", override="e1000")


def test_anti_match() -> None:
    """Without (c), a flagged entry still hides the plain one behind it."""
    pf_stub = (VFIO, LISTED)
    assert Source.NONE == answers("rfc-2021-06-14-without-c", id_table=pf_stub)
    assert Source.STATIC == answers(MERGED, id_table=pf_stub)


def test_loop_as_posted_never_ends() -> None:
    """The loop of 17 June finds the same entry again, even if a plain one follows."""
    assert Source.HANG == answers("rfc-2021-06-17", id_table=(VFIO,))
    assert Source.HANG == answers("rfc-2021-06-17", id_table=(VFIO, LISTED))
    assert Source.STATIC == answers("rfc-2021-06-17", id_table=(LISTED, VFIO))


def test_loop_as_posted_needs_no_end_of_the_table() -> None:
    """A known flagged entry hangs it, whatever the rest of the table is."""
    driver = Driver(1, "e1000", (VFIO,), TableState.TRUNCATED)
    verdict = expect("rfc-2021-06-17", Inputs(NIC, driver))
    assert Outcome(Source.HANG) == verdict


def test_hang_is_the_loops_alone() -> None:
    """No other semantics knows an endless search."""
    hanging = {slug for slug in SEMANTICS if answers(slug, id_table=(VFIO,)) == "hang"}
    assert {"rfc-2021-06-17"} == hanging


@pytest.mark.parametrize(
    ("dynids", "override", "outcome"),
    [
        ((VFIO,), None, Outcome(Source.STATIC, 0)),
        ((VFIO, LISTED), None, Outcome(Source.DYNID, 1)),
        ((VFIO, LISTED), "e1000", Outcome(Source.DYNID, 0)),
        ((LISTED, VFIO), "e1000", Outcome(Source.DYNID, 0)),
        ((VFIO,), "vfio-pci", Outcome(Source.NONE)),
    ],
)
def test_flagged_dynids(
    dynids: tuple[Id, ...], override: str | None, outcome: Outcome
) -> None:
    """A flagged dynid waits for an override; the search goes on after it."""
    case = Inputs(NIC, Driver(1, "e1000", (LISTED,)), dynids, driver_override=override)
    assert outcome == expect("rfc-flagged-dynids", case)


@given(case=decidable_inputs, flags=st.lists(st.integers(0, 1), min_size=4, max_size=4))
def test_flags_of_dynids_count_nowhere_else(case: Inputs, flags: list[int]) -> None:
    """Elsewhere a dynid has no flag; here only one without an override matters."""
    flagged = case._replace(
        dynids=tuple(
            dynid._replace(override_only=flag)
            for dynid, flag in zip(case.dynids, flags, strict=False)
        )
    )
    for slug in SEMANTICS:
        if slug != "rfc-flagged-dynids" or case.driver_override is not None:
            assert expect(slug, case) == expect(slug, flagged)


@pytest.mark.parametrize("slug", SEMANTICS)
@settings(max_examples=50)
@given(case=decidable_inputs, known=st.integers(0, 8), dynids=st.integers(0, 4))
def test_what_a_part_decides_the_whole_does(
    slug: str, case: Inputs, known: int, dynids: int
) -> None:
    """An answer from captured parts is the answer from everything, or none at all."""
    table = case.driver.id_table or ()
    part = case._replace(
        driver=case.driver._replace(
            id_table=table[:known],
            table_state=(
                TableState.TRUNCATED if known < len(table) else TableState.COMPLETE
            ),
        ),
        dynids=case.dynids[:dynids],
        dynids_complete=dynids >= len(case.dynids),
    )
    verdict = expect(slug, part)
    if isinstance(verdict, Outcome):
        assert verdict == expect(slug, case)


@pytest.mark.parametrize("slug", SEMANTICS)
@settings(max_examples=50)
@given(case=decidable_inputs, place=st.integers(0, 7), data=st.data())
def test_wider_wildcard_keeps_a_match(
    slug: str, case: Inputs, place: int, data: st.DataObject
) -> None:
    """Without flags, and without (c), an entry that matches more never loses a match.

    Under the conditions that ask for a flag it may: a device that had no hit had the
    dummy id, and the entry that matches now has no flag.
    """
    table = [entry._replace(override_only=0) for entry in case.driver.id_table or ()]
    plain = case._replace(driver=case.driver._replace(id_table=tuple(table)))
    if slug == "rfc-2021-06-14":
        plain = plain._replace(driver_override=None)
    before = expect(slug, plain)
    if place < len(table):
        field = data.draw(st.sampled_from(["vendor", "device", "subvendor"]))
        table[place] = table[place]._replace(**{field: PCI_ANY_ID})
    wider = plain._replace(driver=plain.driver._replace(id_table=tuple(table)))
    if before != Outcome(Source.NONE):
        assert Outcome(Source.NONE) != expect(slug, wider)


@pytest.mark.parametrize("slug", SEMANTICS)
@settings(max_examples=50)
@given(case=decidable_inputs, data=entries)
def test_driver_data_never_decides(slug: str, case: Inputs, data: Id) -> None:
    """What a driver keeps with an entry is not looked at."""
    table = case.driver.id_table
    other = table and tuple(e._replace(driver_data=data.driver_data) for e in table)
    changed = case._replace(driver=case.driver._replace(id_table=other))
    assert expect(slug, case) == expect(slug, changed)

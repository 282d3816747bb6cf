"""observer/model: the releases, row by row, and what holds for every semantics."""

from __future__ import annotations

import pytest
from hypothesis import given
from strategies import decidable_inputs, entries, inputs, overrides

from observer.model import SEMANTICS, expect, why
from observer.model.primitives import static_hits
from observer.record import (
    PCI_ANY_ID,
    Device,
    Driver,
    Id,
    Indeterminate,
    Inputs,
    Outcome,
    Reason,
    Source,
    TableState,
)

DEVICE = Device(0x8086, 0x100E, 0x1AF4, 0x1100, 0x020000)
MISS = Id(0x8086, 0x100F)
PLAIN = Id(0x8086, 0x100E)
OO = Id(PCI_ANY_ID, PCI_ANY_ID, override_only=1)

NONE = Outcome(Source.NONE)
DUMMY = Outcome(Source.OVERRIDE)
DYNID = Outcome(Source.DYNID, 1)
FIRST = Outcome(Source.STATIC, 1)  # behind a miss
SECOND = Outcome(Source.STATIC, 2)

TABLES: dict[str, tuple[Id, ...]] = {
    "none": (MISS,),
    "plain": (MISS, PLAIN),
    "oo": (MISS, OO),
    "oo, plain": (MISS, OO, PLAIN),
    "plain, oo": (MISS, PLAIN, OO),
}
OWN, OTHER = "e1000", "vfio-pci"

RELEASES = [slug for slug in SEMANTICS if slug.startswith("linux-")]
WITH_OVERRIDE = [slug for slug in SEMANTICS if slug != "linux-3.15"]

ROWS = [
    # dynid, static hits, override, linux-3.16, linux-5.15
    (False, "none", None, NONE, NONE),
    (False, "none", OWN, DUMMY, DUMMY),
    (False, "plain", None, FIRST, FIRST),
    (False, "plain", OWN, FIRST, FIRST),
    (False, "oo", None, FIRST, NONE),  # 3.16 knows no flag, here and below
    (False, "oo", OWN, FIRST, FIRST),
    (False, "oo, plain", None, FIRST, SECOND),
    (False, "oo, plain", OWN, FIRST, FIRST),
    (False, "plain, oo", None, FIRST, FIRST),
    (False, "plain, oo", OWN, FIRST, FIRST),
    *[(True, hits, None, DYNID, DYNID) for hits in TABLES],
    *[(True, hits, OWN, DYNID, DYNID) for hits in TABLES],
    *[(False, hits, OTHER, NONE, NONE) for hits in TABLES],
    *[(True, hits, OTHER, NONE, NONE) for hits in TABLES],
]


def row(dynid: bool, hits: str, override: str | None) -> Inputs:  # noqa: FBT001
    """Return inputs as a row of the decision table describes them."""
    dynids = (MISS, PLAIN) if dynid else (MISS,)
    return Inputs(DEVICE, Driver(1, OWN, TABLES[hits]), dynids, True, override)


@pytest.mark.parametrize(("dynid", "hits", "override", "v3_16", "v5_15"), ROWS)
def test_decision_table(
    dynid: bool,  # noqa: FBT001 - a parameter
    hits: str,
    override: str | None,
    v3_16: Outcome,
    v5_15: Outcome,
) -> None:
    """Every row, for the kernels before and after override_only."""
    case = row(dynid, hits, override)
    assert v3_16 == expect("linux-3.16", case)
    assert v5_15 == expect("linux-5.15", case)


@pytest.mark.parametrize("slug", ["linux-3.16", "linux-5.15"])
@pytest.mark.parametrize("override", ["", "e1000 ", "E1000", "e100", "e1000e"])
def test_override_is_compared_whole(slug: str, override: str) -> None:
    """An empty text or almost the name is another driver."""
    assert expect(slug, row(True, "plain", override)) == NONE


def test_any_flag_is_a_flag() -> None:
    """override_only is true when it is not 0."""
    entry = OO._replace(override_only=0x80000000)
    case = Inputs(DEVICE, Driver(1, OWN, (entry,)))
    assert expect("linux-5.15", case) == NONE


def test_semantics_are_sorted() -> None:
    """The table is literal, and in order."""
    assert sorted(SEMANTICS) == list(SEMANTICS)


def test_unknown_semantics() -> None:
    """A slug that is not in the table is a KeyError."""
    with pytest.raises(KeyError):
        expect("linux-2.6", row(False, "none", None))


@pytest.mark.parametrize("slug", WITH_OVERRIDE)
def test_override_of_another_decides_alone(slug: str) -> None:
    """Neither table nor dynids are needed when another driver is named."""
    case = Inputs(DEVICE, Driver(0, OWN, None, TableState.UNKNOWN), (), False, OTHER)
    assert expect(slug, case) == NONE


@pytest.mark.parametrize("slug", RELEASES)
@pytest.mark.parametrize("override", [None, OWN])
@pytest.mark.parametrize(
    ("state", "reason"),
    [
        (TableState.TRUNCATED, Reason.TABLE_TRUNCATED),
        (TableState.UNREADABLE, Reason.READ_FAULT),
        (TableState.UNKNOWN, Reason.TABLE_UNKNOWN),
    ],
)
def test_part_of_a_table(
    slug: str, override: str | None, state: TableState, reason: Reason
) -> None:
    """A hit in the known part decides, a dynid too, none does not."""
    hit = Driver(1, OWN, (MISS, PLAIN), state)
    miss = Driver(1, OWN, (MISS,), state)
    assert expect(slug, Inputs(DEVICE, hit, (), True, override)) == FIRST
    assert expect(slug, Inputs(DEVICE, miss, (MISS, PLAIN), True, override)) == DYNID
    assert Indeterminate(reason) == expect(
        slug, Inputs(DEVICE, miss, (), True, override)
    )


def test_passed_over_entry_does_not_decide() -> None:
    """An override_only entry says nothing about the part that is not known."""
    case = Inputs(DEVICE, Driver(1, OWN, (OO,), TableState.TRUNCATED))
    assert expect("linux-5.15", case) == Indeterminate(Reason.TABLE_TRUNCATED)


@pytest.mark.parametrize("slug", SEMANTICS)
def test_part_of_the_dynids(slug: str) -> None:
    """A static hit does not count while a dynid may come first."""
    case = row(False, "plain", None)._replace(dynids_complete=False)
    assert expect(slug, case) == Indeterminate(Reason.DYNIDS_TRUNCATED)


@pytest.mark.parametrize("slug", SEMANTICS)
@given(case=inputs)
def test_total_and_deterministic(slug: str, case: Inputs) -> None:
    """Any inputs give a verdict, the same each time."""
    verdict = expect(slug, case)
    assert isinstance(verdict, Outcome | Indeterminate)
    assert verdict == expect(slug, case)


@pytest.mark.parametrize("slug", SEMANTICS)
@given(case=decidable_inputs)
def test_complete_inputs_decide(slug: str, case: Inputs) -> None:
    """Whoever knows everything knows the answer."""
    assert isinstance(expect(slug, case), Outcome)


@pytest.mark.parametrize("slug", SEMANTICS)
@given(case=decidable_inputs, entry=entries)
def test_entry_after_the_hit_changes_nothing(
    slug: str, case: Inputs, entry: Id
) -> None:
    """What stands behind the entry that decided was never looked at."""
    verdict = expect(slug, case)
    longer = case.driver._replace(id_table=(*(case.driver.id_table or ()), entry))
    after = expect(slug, case._replace(driver=longer))
    if isinstance(verdict, Outcome) and verdict.match in (Source.STATIC, Source.DYNID):
        assert verdict == after


@pytest.mark.parametrize("slug", SEMANTICS)
@given(case=decidable_inputs, entry=entries)
def test_dynid_is_looked_at_first(slug: str, case: Inputs, entry: Id) -> None:
    """No table changes what a dynid decided."""
    verdict = expect(slug, case)
    other = case.driver._replace(id_table=(entry, *(case.driver.id_table or ())))
    if isinstance(verdict, Outcome) and verdict.match is Source.DYNID:
        assert verdict == expect(slug, case._replace(driver=other))


@pytest.mark.parametrize("slug", WITH_OVERRIDE)
@given(case=decidable_inputs)
def test_dummy_is_the_last_resort(slug: str, case: Inputs) -> None:
    """The dummy id is given exactly when an override names a driver without a hit.

    The first proposal took it away: whoever named a driver had to give it an id too.
    """
    wanted = case._replace(driver_override=case.driver.name, dynids=())
    dummy = expect(slug, wanted) == DUMMY
    no_hit = not any(static_hits(wanted))
    assert dummy is (no_hit and slug != "rfc-2021-06-03")


@given(case=inputs, override=overrides)
def test_3_15_knows_no_override(case: Inputs, override: str | None) -> None:
    """Before v3.16 a device had no driver_override; what is asked of it is ignored."""
    changed = case._replace(driver_override=override)
    assert expect("linux-3.15", case) == expect("linux-3.15", changed)


@given(case=decidable_inputs)
def test_3_16_adds_the_override_alone(case: Inputs) -> None:
    """Without a driver_override v3.16 decides as the kernels before it."""
    unset = case._replace(driver_override=None)
    assert expect("linux-3.15", unset) == expect("linux-3.16", unset)


@given(case=decidable_inputs)
def test_5_15_adds_the_flag_alone(case: Inputs) -> None:
    """Where no entry has the flag, v5.15 decides as v3.16."""
    table = case.driver.id_table
    plain = table and tuple(entry._replace(override_only=0) for entry in table)
    unflagged = case._replace(driver=case.driver._replace(id_table=plain))
    assert expect("linux-3.16", unflagged) == expect("linux-5.15", unflagged)


@pytest.mark.parametrize(
    ("case", "sentence"),
    [
        (
            row(True, "plain", OTHER),
            "driver_override names 'vfio-pci', not 'e1000'.",
        ),
        (
            row(False, "none", OWN),
            "No id matches, but driver_override names this driver: the dummy id.",
        ),
        (row(True, "plain", None), "dynid 1 (8086:100e) is the first to match."),
        (
            row(False, "plain", None),
            (
                "No dynid matches; id_table[1] (8086:100e) does: the first entry that"
                " counts."
            ),
        ),
        (
            row(False, "oo", OWN),
            (
                "No dynid matches; id_table[1] (*:*) does: override_only, and "
                "driver_override names this driver."
            ),
        ),
        (
            row(False, "oo", None),
            (
                "id_table[1] (*:*) matches, but is override_only and driver_override"
                " is not set."
            ),
        ),
        (row(False, "none", None), "No dynid and no id_table entry matches."),
        (
            Inputs(DEVICE, Driver(1, "pci-stub", None)),
            "No dynid matches, and the driver has no id_table.",
        ),
        (
            Inputs(DEVICE, Driver(1, OWN, (), TableState.UNKNOWN)),
            "Can't tell: the driver's id_table was not received.",
        ),
        (
            Inputs(
                DEVICE,
                Driver(
                    1, OWN, (Id(0x8086, 0x100E, 0x1AF4, 0x1100, 0x20000, 0xFF0000),)
                ),
            ),
            (
                "No dynid matches; id_table[0] (8086:100e, subsystem 1af4:1100, class "
                "020000/ff0000) does: the first entry that counts."
            ),
        ),
    ],
)
def test_why(case: Inputs, sentence: str) -> None:
    """The sentence names the rule and the entry that decided."""
    assert sentence == why("linux-5.15", case)


def test_why_without_flags() -> None:
    """Before override_only the flag is no reason."""
    assert (
        "No dynid matches; id_table[1] (*:*) does: the first entry that counts."
        == why("linux-3.16", row(False, "oo", None))
    )


@pytest.mark.parametrize("slug", SEMANTICS)
@given(case=inputs)
def test_why_is_one_printable_line(slug: str, case: Inputs) -> None:
    """Whatever names hold, the sentence can be printed on a line."""
    assert why(slug, case).isprintable()

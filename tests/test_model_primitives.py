"""observer/model/primitives.py and table.py: one id, and the two searches."""

from __future__ import annotations

import pytest
from hypothesis import given
from strategies import decidable_inputs, devices, entries, id_tables

from observer.model.primitives import Undecided, dynid_hit, id_matches, static_hits
from observer.model.table import is_terminator, table_of
from observer.record import (
    PCI_ANY_ID,
    Device,
    Driver,
    Id,
    Inputs,
    Reason,
    TableState,
)

DEVICE = Device(0x8086, 0x100E, 0x1AF4, 0x1100, 0x020000)
HIT = Id(0x8086, 0x100E)
MISS = Id(0x8086, 0x100F)


def given_table(
    *id_table: Id, state: TableState = TableState.COMPLETE, device: Device = DEVICE
) -> Inputs:
    """Return inputs whose driver has this table."""
    return Inputs(device, Driver(1, "e1000", id_table, state))


@pytest.mark.parametrize(
    ("entry", "matches"),
    [
        (Id(0x8086, 0x100E, 0x1AF4, 0x1100), True),
        (Id(PCI_ANY_ID, PCI_ANY_ID, PCI_ANY_ID, PCI_ANY_ID), True),
        (Id(0x8087, 0x100E), False),
        (Id(0x8086, 0x100F), False),
        (Id(0x8086, 0x100E, 0x1AF5), False),
        (Id(0x8086, 0x100E, PCI_ANY_ID, 0x1101), False),
        (Id(0xFFFF, 0xFFFF, 0xFFFF, 0xFFFF), False),  # no wildcards
        (Id(0x18086, 0x100E), False),  # 32 bits, never the device's 16
        (Id(0x8086, 0x1100E), False),
        (Id(PCI_ANY_ID, PCI_ANY_ID, class_=0x02FFFF, class_mask=0xFF0000), True),
        (Id(PCI_ANY_ID, PCI_ANY_ID, class_=0x030000, class_mask=0xFF0000), False),
        (Id(PCI_ANY_ID, PCI_ANY_ID, class_=0x030000, class_mask=0), True),
        (Id(PCI_ANY_ID, PCI_ANY_ID, class_=0x020001, class_mask=0xFFFFFF), False),
        (Id(PCI_ANY_ID, PCI_ANY_ID, class_=0x020100, class_mask=0x000100), False),
        (Id(PCI_ANY_ID, PCI_ANY_ID, class_=1 << 31, class_mask=1 << 31), False),
    ],
)
def test_one_id(entry: Id, matches: bool) -> None:  # noqa: FBT001 - a parameter
    """Fields are equal or wildcards; the class counts under its mask."""
    assert matches is id_matches(entry, DEVICE)


def test_device_of_all_ones_is_no_wildcard() -> None:
    """A device whose ids read as 0xffff is matched by an entry that says so."""
    device = Device(0xFFFF, 0xFFFF, 0xFFFF, 0xFFFF, 0)
    assert id_matches(Id(0xFFFF, 0xFFFF, 0xFFFF, 0xFFFF), device)


@pytest.mark.parametrize(
    ("entry", "ends"),
    [
        (Id(0, 0, 0, 0, 0, 0, 0, 0), True),
        (Id(0, 1, 0, 1, 1, 0, 1, 1), True),
        (Id(1, 0, 0), False),
        (Id(0, 0, 1), False),
        (Id(0, 0, 0, class_mask=1), False),
    ],
)
def test_terminator(entry: Id, ends: bool) -> None:  # noqa: FBT001 - a parameter
    """Only vendor, subvendor and class_mask keep a table alive."""
    assert ends is is_terminator(entry)


def test_first_dynid() -> None:
    """The first dynid that fits wins, in the order of insertion."""
    inputs = given_table()._replace(dynids=(MISS, HIT, HIT))
    assert dynid_hit(inputs) == 1


def test_no_dynid() -> None:
    """None of all dynids is an answer."""
    assert dynid_hit(given_table()._replace(dynids=(MISS,))) is None


def test_dynid_of_many() -> None:
    """A hit among the captured dynids decides, however many follow."""
    inputs = given_table()._replace(dynids=(HIT,), dynids_complete=False)
    assert dynid_hit(inputs) == 0


def test_dynid_perhaps_beyond() -> None:
    """None of the captured dynids is no answer when there are more."""
    inputs = given_table()._replace(dynids=(MISS,), dynids_complete=False)
    with pytest.raises(Undecided) as undecided:
        dynid_hit(inputs)
    assert undecided.value.reason is Reason.DYNIDS_TRUNCATED


def test_dynid_like_a_terminator() -> None:
    """A list has no terminator: an all-zero dynid does not end it."""
    inputs = given_table()._replace(dynids=(Id(0, 0, 0, 0), HIT))
    assert dynid_hit(inputs) == 1


def test_static_hits_in_table_order() -> None:
    """Exact entries and wildcards come as they stand in the table."""
    table = (
        Id(PCI_ANY_ID, PCI_ANY_ID, class_=0x020000, class_mask=0xFFFFFF),
        HIT,
        MISS,
        Id(0x8086, PCI_ANY_ID),
        HIT,
        Id(PCI_ANY_ID, 0x100E),
        Id(PCI_ANY_ID, 0x100F),
    )
    inputs = given_table(*table)
    assert [0, 1, 3, 4, 5] == [index for index, _ in static_hits(inputs)]
    assert [table[index] for index in (0, 1, 3, 4, 5)] == [
        entry for _, entry in static_hits(inputs)
    ]


def test_entry_like_a_terminator_ends_the_table() -> None:
    """What stands behind an entry that ends the kernel's walk does not count."""
    inputs = given_table(MISS, Id(0, 0x100E, 0), HIT)
    assert [] == list(static_hits(inputs))


def test_no_table() -> None:
    """A driver without a table has no static hit."""
    inputs = Inputs(DEVICE, Driver(1, "pci-stub", None))
    assert [] == list(static_hits(inputs))


@pytest.mark.parametrize(
    ("state", "reason"),
    [
        (TableState.TRUNCATED, Reason.TABLE_TRUNCATED),
        (TableState.UNREADABLE, Reason.READ_FAULT),
        (TableState.UNKNOWN, Reason.TABLE_UNKNOWN),
    ],
)
def test_static_hit_perhaps_beyond(state: TableState, reason: Reason) -> None:
    """The hits that are known come first; that there are no more is not known."""
    hits = static_hits(given_table(MISS, HIT, state=state))
    assert (1, HIT) == next(hits)
    with pytest.raises(Undecided) as undecided:
        next(hits)
    assert undecided.value.reason is reason


def test_terminator_completes_a_part() -> None:
    """A table that ends within the part that is known is known."""
    inputs = given_table(MISS, Id(0, 0, 0), state=TableState.TRUNCATED)
    assert [] == list(static_hits(inputs))


@given(devices, id_tables)
def test_search_equals_plain_walk(device: Device, id_table: tuple[Id, ...]) -> None:
    """Arranging a table changes nothing but the time it takes."""
    walk = []
    for index, entry in enumerate(id_table):
        if is_terminator(entry):
            break
        if id_matches(entry, device):
            walk.append((index, entry))
    assert walk == list(static_hits(given_table(*id_table, device=device)))


@given(decidable_inputs, entries)
def test_longer_table_keeps_its_hits(inputs: Inputs, entry: Id) -> None:
    """An entry at the end of a table comes after all other hits."""
    longer = inputs.driver._replace(id_table=(*(inputs.driver.id_table or ()), entry))
    before = list(static_hits(inputs))
    after = list(static_hits(inputs._replace(driver=longer)))
    assert before == after[: len(before)]


def test_table_is_arranged_once() -> None:
    """The same table is found again, an equal one is another."""
    id_table = (HIT, MISS)
    equal = (HIT, *id_table[1:])
    assert table_of(id_table) is table_of(id_table)
    assert table_of(id_table) is not table_of(equal)

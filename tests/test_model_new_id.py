"""observer/model/new_id.py: new_id and remove_id as sequences of writes."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from strategies import complete_drivers, dynid_lists, partial_drivers

from observer.model.hex_fields import Overflow
from observer.model.new_id import RULES, Errno, Written, new_id, remove_id
from observer.model.primitives import Undecided, id_matches
from observer.record import PCI_ANY_ID, Device, Driver, Id, Reason, TableState

N1, N2, N3 = "linux-3.16", "linux-5.11", "linux-7.3"
STUB = Driver(1, "pci-stub", None)
EMPTY = Driver(2, "pci-empty", ())
E1000 = Driver(3, "e1000", (Id(0x8086, 0x1000), Id(0x8086, 0x100E)))
SERIAL = Driver(
    4,
    "serial",
    (
        Id(0x9710, 0x9900, 0xA000, 0x3002, driver_data=5),
        Id(PCI_ANY_ID, PCI_ANY_ID, class_=0x070000, class_mask=0xFFFF00, driver_data=1),
    ),
)
VFIO = Driver(5, "vfio-pci", (Id(PCI_ANY_ID, PCI_ANY_ID, override_only=1),))
every_rules = pytest.mark.parametrize("rules", RULES)


def write(driver: Driver, rules: str, *texts: str) -> tuple[list[Errno], list[Id]]:
    """Write one text after the other to new_id."""
    dynids: tuple[Id, ...] = ()
    errnos: list[Errno] = []
    for text in texts:
        errno, dynids = new_id(text, driver, dynids, rules)
        errnos.append(errno)
    return errnos, list(dynids)


def errnos_of(driver: Driver, rules: str, *texts: str) -> list[Errno]:
    """Return what the writes answer."""
    return write(driver, rules, *texts)[0]


# What a text means.


@every_rules
@pytest.mark.parametrize(
    ("text", "dynid"),
    [
        ("8086 10f5", Id(0x8086, 0x10F5)),
        ("8086 10f5 1", Id(0x8086, 0x10F5, 1)),
        ("8086 10f5 1 2", Id(0x8086, 0x10F5, 1, 2)),
        ("8086 10f5 1 2 3", Id(0x8086, 0x10F5, 1, 2, 3)),
        ("8086 10f5 1 2 3 4", Id(0x8086, 0x10F5, 1, 2, 3, 4)),
        ("8086 10f5 1 2 3 4 5", Id(0x8086, 0x10F5, 1, 2, 3, 4, 5)),
        ("8086 10f5 1 2 3 4 5 6", Id(0x8086, 0x10F5, 1, 2, 3, 4, 5)),
        ("0 0", Id(0, 0)),
        ("ffffffff ffffffff", Id(PCI_ANY_ID, PCI_ANY_ID)),
        ("1123456789abc 1", Id(0x56789ABC, 1)),  # 32 bits of each
        ("1 2 3 4 5 6 1122334455667788", Id(1, 2, 3, 4, 5, 6, 0x1122334455667788)),
        ("8086" + " " * 4090 + "10f5", Id(0x8086, 0x10)),  # one page of it
    ],
)
def test_fields_and_defaults(rules: str, text: str, dynid: Id) -> None:
    """Two to seven fields; what is missing of the first six matches anything."""
    assert ([0], [dynid]) == write(STUB, rules, text)


@every_rules
@pytest.mark.parametrize("text", ["\n", "8086", "8086,10f5", "-1 5", "8086 g", "x y"])
def test_fewer_than_two_fields(rules: str, text: str) -> None:
    """EINVAL, for new_id and remove_id."""
    assert (["EINVAL"], []) == write(STUB, rules, text)
    assert Written("EINVAL", (Id(5, 5),)) == remove_id(text, (Id(5, 5),), rules)


@every_rules
def test_nothing_written(rules: str) -> None:
    """A write of no bytes succeeds in sysfs and gets no further."""
    assert ([0], []) == write(STUB, rules, "")
    assert Written(0, (Id(5, 5),)) == remove_id("", (Id(5, 5),), rules)


def test_number_beyond_64_bits() -> None:
    """7.3 makes it all ones, a wildcard; who got its rules by a backport does not."""
    text = "10000000000008086 1"
    assert ([0], [Id(0x8086, 1)]) == write(STUB, N1, text)
    assert ([0], [Id(PCI_ANY_ID, 1)]) == write(STUB, N3, text)
    backport = new_id(text, STUB, (), N3, overflow=Overflow.WRAP)
    assert Written(0, (Id(0x8086, 1),)) == backport
    assert Written(0, ()) == remove_id(text, (Id(PCI_ANY_ID, 1),), N3)
    assert Written(0, ()) == remove_id(
        text, (Id(0x8086, 1),), N3, overflow=Overflow.WRAP
    )


# kernel-facts.md 3.2, points 1 to 4, and what each set of rules is about.


@pytest.mark.parametrize(
    ("rules", "errno"), [(N1, "EINVAL"), (N2, "EEXIST"), (N3, "EINVAL")]
)
def test_point_1_duplicate_dynid_with_wrong_driver_data(rules: str, errno: str) -> None:
    """N2 looks at the dynids before it looks at driver_data."""
    driver = SERIAL  # no entry has driver_data 0
    existing = (Id(1, 2, driver_data=5),)
    assert Written(errno, existing) == new_id("1 2", driver, existing, rules)


@pytest.mark.parametrize("rules", [N1, N2, N3])
def test_static_duplicate_with_wrong_driver_data(rules: str) -> None:
    """The id_table comes before driver_data everywhere."""
    assert ["EEXIST"] == errnos_of(SERIAL, rules, "1 2 3 4 070001")
    assert ["EINVAL"] == errnos_of(SERIAL, rules, "1 2 3 4 070101")


@pytest.mark.parametrize(("rules", "errno"), [(N1, "EEXIST"), (N2, "EEXIST"), (N3, 0)])
@pytest.mark.parametrize("text", ["18086 100e", "8086 1100e"])
def test_point_2_ids_are_squeezed_into_16_bits(
    rules: str, errno: Errno, text: str
) -> None:
    """N3 takes an id that no device can have."""
    assert [errno] == errnos_of(E1000, rules, text)


@pytest.mark.parametrize(
    ("rules", "errnos"),
    [(N1, [0, 0]), (N2, [0, "EEXIST"]), (N3, [0, 0])],
)
def test_point_2_squeezed_ids_meet_dynids(rules: str, errnos: list[Errno]) -> None:
    """110de passes for 10de where N2 compares it with the dynids."""
    assert errnos == errnos_of(STUB, rules, "10de 1", "110de 1")


@pytest.mark.parametrize(
    ("rules", "errnos"),
    [(N1, [0, 0]), (N2, [0, 0]), (N3, [0, "EEXIST"])],
)
def test_point_2_wide_ids_meet_themselves(rules: str, errnos: list[Errno]) -> None:
    """To N2 even the same id is no duplicate when it has more than 16 bits."""
    assert errnos == errnos_of(STUB, rules, "110de 1", "110de 1")


@pytest.mark.parametrize(
    ("rules", "errnos"),
    [(N1, [0, 0]), (N2, [0, "EEXIST"]), (N3, [0, 0])],
)
def test_point_2_any_subsystem_is_squeezed_too(rules: str, errnos: list[Errno]) -> None:
    """As 16 bits of a device, "any" is ffff, and an existing ffff matches that."""
    assert errnos == errnos_of(STUB, rules, "10de 1 ffff ffff", "10de 1")


@every_rules
def test_point_3_driver_data_of_some_entry(rules: str) -> None:
    """It must stand in the table, with whichever id."""
    assert ["EINVAL"] == errnos_of(SERIAL, rules, "1 2")
    assert ["EINVAL"] == errnos_of(SERIAL, rules, "1 2 3 4 5 6 2")
    assert [0, 0] == errnos_of(SERIAL, rules, "1 2 3 4 5 6 1", "1 2 3 4 5 6 5")
    assert [0] == errnos_of(E1000, rules, "8086 9999")


@every_rules
def test_point_3_no_table_is_not_an_empty_table(rules: str) -> None:
    """Without a table any driver_data is good, with an empty one none is."""
    assert [0, 0] == errnos_of(STUB, rules, "1 2", "1 2 3 4 5 6 7")
    assert ["EINVAL"] * 2 == errnos_of(EMPTY, rules, "1 2", "1 2 3 4 5 6 0")


@every_rules
def test_point_3_driver_data_behind_the_terminator(rules: str) -> None:
    """An entry that ends the kernel's walk ends this one, too."""
    driver = Driver(1, "x", (Id(1, 1, driver_data=1), Id(0, 2, 0), Id(3, 3)))
    assert ["EINVAL"] == errnos_of(driver, rules, "1 2")
    part = driver._replace(table_state=TableState.TRUNCATED)
    assert ["EINVAL"] == errnos_of(part, rules, "1 2")


def test_point_3_vfio_pci_has_a_table_since_5_15() -> None:
    """Its one entry has driver_data 0."""
    assert ["EINVAL", 0] == errnos_of(VFIO, N2, "1 2 3 4 5 6 7", "1 2 3 4 5 6 0")
    no_table = VFIO._replace(id_table=None)
    assert [0] == errnos_of(no_table, N1, "1 2 3 4 5 6 7")


@pytest.mark.parametrize("rules", [N2, N3])
def test_point_4_override_only_entries_are_no_duplicates(rules: str) -> None:
    """vfio-pci's wildcard matches all, and forbids nothing."""
    assert [0] == errnos_of(VFIO, rules, "8086 10f5")
    plain = (*(VFIO.id_table or ()), Id(0x8086, 0x10F5))
    driver = VFIO._replace(id_table=plain)
    assert ["EEXIST"] == errnos_of(driver, rules, "8086 10f5")


def test_point_4_n1_knows_no_override_only() -> None:
    """Nor had any table of its kernels such an entry."""
    assert ["EEXIST"] == errnos_of(VFIO, N1, "8086 10f5")


@pytest.mark.parametrize("rules", [N2, N3])
@pytest.mark.parametrize(
    ("existing", "narrower"),
    [
        ("10de 1", "10de 1 5 6"),
        ("10de ffffffff", "10de 1"),
        ("ffffffff 1", "10de 1"),
        ("10de 1 5", "10de 1 5 6"),
        ("10de 1 5 6 020000 ffff00", "10de 1 5 6 020001 ffffff"),
        ("10de 1 5 6 020000 ff0000", "10de 1 5 6 020100 ffff00"),
    ],
)
def test_point_4_narrower_is_a_duplicate_and_wider_is_not(
    rules: str, existing: str, narrower: str
) -> None:
    """The new id is the needle, what is there the pattern."""
    assert [0, "EEXIST"] == errnos_of(STUB, rules, existing, narrower)
    assert [0, 0] == errnos_of(STUB, rules, narrower, existing)


@pytest.mark.parametrize("rules", [N2, N3])
def test_point_4_the_new_mask_does_not_count(rules: str) -> None:
    """The class is compared under the mask that is there."""
    assert [0, "EEXIST"] == errnos_of(STUB, rules, "1 2", "1 2 3 4 020000 ffffff")
    assert [0, 0] == errnos_of(STUB, rules, "1 2 3 4 020000 ffffff", "1 2 3 4 0 0")


def test_n1_takes_a_dynid_any_number_of_times() -> None:
    """Each of these writes matched and probed again."""
    assert ([0, 0, 0], [Id(1, 2)] * 3) == write(STUB, N1, "1 2", "1 2", "1 2")


@pytest.mark.parametrize("rules", [N2, N3])
def test_second_write_exists(rules: str) -> None:
    """The regression that scripts met in 5.11."""
    assert ([0, "EEXIST"], [Id(1, 2)]) == write(STUB, rules, "1 2", "1 2")


@every_rules
def test_seven_fields_skip_the_checks_for_duplicates(rules: str) -> None:
    """But not the one of driver_data."""
    text = "8086 100e ffffffff ffffffff 0 0 0"
    assert [0, 0] == errnos_of(E1000, rules, text, text)
    assert ["EINVAL"] == errnos_of(E1000, rules, text + "1")
    assert ["EEXIST"] == errnos_of(E1000, rules, text[:-2])


@every_rules
def test_subsystem_of_a_static_entry(rules: str) -> None:
    """An id that is wider than an entry is not in the table, a narrower one is."""
    assert ["EINVAL"] == errnos_of(SERIAL, rules, "9710 9900")
    assert ["EEXIST"] == errnos_of(SERIAL, rules, "9710 9900 a000 3002")


# A table of which a part is known.


@every_rules
@pytest.mark.parametrize(
    ("state", "reason"),
    [
        (TableState.TRUNCATED, Reason.TABLE_TRUNCATED),
        (TableState.UNREADABLE, Reason.READ_FAULT),
        (TableState.UNKNOWN, Reason.TABLE_UNKNOWN),
    ],
)
@pytest.mark.parametrize("text", ["1 2", "1 2 3 4 5 6 9"])
def test_undecided(rules: str, text: str, state: TableState, reason: Reason) -> None:
    """A duplicate, or the driver_data, may stand in the part that is not known."""
    with pytest.raises(Undecided) as undecided:
        new_id(text, E1000._replace(table_state=state), (), rules)
    assert reason is undecided.value.reason


@every_rules
def test_decided_by_a_part(rules: str) -> None:
    """What is known is enough for a duplicate, and for driver_data that is in it."""
    part = E1000._replace(table_state=TableState.TRUNCATED)
    assert ["EEXIST"] == errnos_of(part, rules, "8086 100e")
    assert [0] == errnos_of(part, rules, "1 2 3 4 5 6 0")


def test_table_never_seen() -> None:
    """A driver whose table was not received may have one."""
    with pytest.raises(Undecided):
        new_id("1 2 3 4 5 6 7", STUB._replace(table_state=TableState.UNKNOWN), (), N3)


# remove_id.

THREE = (Id(1, 2, 3, 4), Id(1, 2), Id(1, 2, 3, 5, 0x020000, 0xFFFF00))


@every_rules
@pytest.mark.parametrize(
    ("text", "place"),
    [
        ("1 2", 0),
        ("1 2 3 4", 0),
        ("1 2 ffffffff 4", 0),
        ("1 2 3 5", 2),
        ("1 2 ffffffff 5", 2),
        ("1 2 ffffffff ffffffff 020000 ff0000", 2),
        ("1 2 ffffffff ffffffff 030000", 0),  # the mask was not written
        ("1 2 3 5 020001 ff00", 2),
        ("1 2 3 5 020001 ff", None),  # under the mask that was written
        ("1 2 4", None),
        ("1 2 3 4 0 0 9", 0),  # a seventh field is not read
        ("1 3", None),
        ("ffffffff 2", None),
        ("1 ffffffff", None),
        ("10001 2", None),
    ],
)
def test_remove_id(rules: str, text: str, place: int | None) -> None:
    """The first that fits goes; vendor and device are compared as numbers."""
    if place is None:
        assert Written("ENODEV", THREE) == remove_id(text, THREE, rules)
    else:
        left = THREE[:place] + THREE[place + 1 :]
        assert Written(0, left) == remove_id(text, THREE, rules)


@every_rules
def test_remove_id_reads_one_page(rules: str) -> None:
    """The rest is cut off by sysfs, here in the middle of a number."""
    text = "1" + " " * 4094 + "25"
    assert Written(0, ()) == remove_id(text, (Id(1, 2),), rules)


@every_rules
def test_remove_id_from_nothing(rules: str) -> None:
    """ENODEV."""
    assert Written("ENODEV", ()) == remove_id("1 2", (), rules)


@every_rules
def test_unknown_rules(rules: str) -> None:
    """Rules have the slugs of the contract."""
    assert rules in {N1, N2, N3}
    with pytest.raises(KeyError):
        new_id("1 2", STUB, (), "linux-2.6.12")
    with pytest.raises(KeyError):
        remove_id("1 2", (), "linux-2.6.12")


# Whatever is written.

numbers = st.sampled_from([0, 1, 2, 0xFFFF, 0x10001, PCI_ANY_ID])
written = st.one_of(
    st.lists(numbers, max_size=8).map(lambda some: " ".join(f"{n:x}" for n in some)),
    st.text(max_size=12),
)


@every_rules
@given(written, complete_drivers | partial_drivers, dynid_lists)
def test_new_id_is_total(
    rules: str, text: str, driver: Driver, dynids: tuple[Id, ...]
) -> None:
    """A write adds one id at the end, or names an errno and changes nothing."""
    try:
        errno, after = new_id(text, driver, dynids, rules)
    except Undecided:
        assert TableState.COMPLETE is not driver.table_state
        return
    assert errno in (0, "EINVAL", "EEXIST")
    if errno or not text:
        assert dynids == after
    else:
        assert dynids == after[:-1]
        assert 0 == after[-1].override_only


@every_rules
@given(st.lists(written, max_size=8), complete_drivers)
def test_all_that_was_taken_can_be_removed(
    rules: str, texts: list[str], driver: Driver
) -> None:
    """One remove_id by vendor and device for each dynid, and nothing is left."""
    _, dynids = write(driver, rules, *texts)
    left = tuple(dynids)
    for dynid in dynids:
        errno, left = remove_id(f"{dynid.vendor:x} {dynid.device:x}", left, rules)
        assert 0 == errno
    assert () == left


@pytest.mark.parametrize("rules", [N2, N3])
@given(
    st.lists(numbers, min_size=2, max_size=6), complete_drivers, dynid_lists, numbers
)
def test_a_device_that_a_dynid_has_is_a_duplicate(
    rules: str,
    fields: list[int],
    driver: Driver,
    dynids: tuple[Id, ...],
    class_: int,
) -> None:
    """What would match nothing that does not match already is refused."""
    ids = [number & 0xFFFF for number in (*fields, 0, 0, 0, 0)[:4]]
    device = Device(*ids, class_)
    text = " ".join(f"{number:x}" for number in device)
    errno, _ = new_id(text, driver, dynids, rules)
    if any(id_matches(dynid, device) for dynid in dynids):
        assert errno in ("EEXIST", "EINVAL")
        assert errno == "EEXIST" or rules == N3

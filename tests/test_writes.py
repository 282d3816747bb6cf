"""observer/writes.py: the writes cases of predict."""

from __future__ import annotations

import pytest

from observer.fields import FieldError
from observer.writes import answer_writes

ENTRY = {"vendor": "0x8086", "device": 0x10F4}
ANY = 0xFFFFFFFF


def case(*writes: object, **driver: object) -> dict[str, object]:
    """Return a case with these writes."""
    return {
        "driver": {"name": "pci-stub", "id_table": None} | driver,
        "writes": list(writes),
    }


def dynid(vendor: int, device: int) -> dict[str, object]:
    """Return a dynid with new_id's defaults, as answers have it."""
    return {
        "vendor": vendor,
        "device": device,
        "subvendor": ANY,
        "subdevice": ANY,
        "class": 0,
        "class_mask": 0,
        "driver_data": 0,
        "override_only": 0,
    }


def test_the_example_of_the_contract() -> None:
    """Added, and removed."""
    writes = (["new_id", "8086 10f5"], ["remove_id", "8086 10f5"])
    assert {
        "new_id_rules": "linux-7.3",
        "errnos": [0, 0],
        "dynids": [],
    } == answer_writes(case(*writes), "linux-7.3")


def test_errnos_and_what_is_left() -> None:
    """One answer for each write, in order, and the list after the last."""
    writes = (
        ["new_id", "8086 10f5"],
        ["new_id", "8086 10f5"],
        ["new_id", "8086 10f4\n"],
        ["new_id", "8086"],
        ["remove_id", "1 2"],
        ["new_id", "1 2"],
    )
    answer = answer_writes(case(*writes, id_table=[ENTRY]), "linux-5.11")
    assert [0, "EEXIST", "EEXIST", "EINVAL", "ENODEV", 0] == answer["errnos"]
    assert [dynid(0x8086, 0x10F5), dynid(1, 2)] == answer["dynids"]


def test_dynids_to_begin_with() -> None:
    """A driver may have some before the first write."""
    answer = answer_writes(case(["new_id", "8086 10f4"], dynids=[ENTRY]), "linux-7.3")
    assert ["EEXIST"] == answer["errnos"]
    assert [dynid(0x8086, 0x10F4)] == answer["dynids"]


def test_no_writes() -> None:
    """Nothing is done, and that is said."""
    answer = answer_writes(case(), "linux-3.16")
    assert {"new_id_rules": "linux-3.16", "errnos": [], "dynids": []} == answer


@pytest.mark.parametrize(
    ("bad", "field"),
    [
        ({}, "driver: missing"),
        ({"driver": {}}, "driver.id_table: missing"),
        ({"driver": {"id_table": None}}, "driver.name: missing"),
        ({"driver": {"name": "x", "id_table": None}}, "writes: missing"),
        (case(name=5), "driver.name: not a string"),
        (case(id_table={}), "driver.id_table: not a list"),
        (case(id_table=[5]), r"driver.id_table\[0\]: not an object"),
        (case(id_table=[{"vendr": 5}]), r"driver.id_table\[0\].vendr: unknown field"),
        (case(id_table=[{"vendor": -1}]), r"driver.id_table\[0\].vendor: not within"),
        (case(dynids=[{"x": 5}]), r"driver.dynids\[0\].x: unknown field"),
        (case(dynid=[]), "driver.dynid: unknown field"),
        (case() | {"device": {}}, "device: unknown field"),
        (case() | {"writes": "new_id"}, "writes: not a list"),
        (case("new_id"), r"writes\[0\]: not a pair"),
        (case(["new_id", "1 2"], ["new_id"]), r"writes\[1\]: not a pair"),
        (case(["new_id", 5]), r"writes\[0\]: not a pair"),
        (case(["bind", "x"]), r"writes\[0\]\[0\]: 'bind' is not one of new_id, rem"),
    ],
)
def test_bad_field(bad: dict[str, object], field: str) -> None:
    """The error names the field."""
    with pytest.raises(FieldError, match=field):
        answer_writes(bad, "linux-7.3")

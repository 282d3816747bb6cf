"""observer/registered.py: an inventory's way through JSON."""

from __future__ import annotations

import json

import pytest
import strategies
from hypothesis import given
from hypothesis import strategies as st

from observer.fields import FieldError
from observer.machine import Origin, PciDriver
from observer.record import Driver, Id
from observer.registered import NOT_TAKEN, Inventory, as_object, from_object

E1000 = PciDriver(
    Driver(0, "e1000", (Id(0x8086, 0x100E, driver_data=1 << 63),)),
    Origin.KERNEL_MEMORY,
    (Id(1, 2),),
    "e1000",
)
inventories = st.builds(
    Inventory,
    st.lists(
        st.builds(
            PciDriver,
            strategies.drivers,
            st.sampled_from(list(Origin)),
            st.none() | strategies.id_tables,
            st.none() | strategies.names,
            st.none() | strategies.u64,
        ),
        max_size=3,
    ).map(tuple),
    st.booleans(),
    st.lists(st.text(), max_size=2).map(tuple),
    st.frozensets(st.text(), max_size=2),
)


@given(inventories)
def test_what_was_written_is_read(inventory: Inventory) -> None:
    """Names of any bytes, unknown tables, ids of 64 bits: all comes back."""
    assert inventory == from_object(json.loads(json.dumps(as_object(inventory))))


def test_an_id_is_a_short_list() -> None:
    """Tables are long; the names of their fields are not repeated."""
    text = json.dumps(as_object(Inventory((E1000,), order_known=True)))
    assert "[32902, 4110, 4294967295, 4294967295, 0, 0, 9223372036854775808, 0]" in text


def test_without_an_inventory_that_is_said() -> None:
    """It knows no driver, and doesn't pretend that there is none."""
    assert ((), False) == NOT_TAKEN[:2]
    assert 1 == len(NOT_TAKEN.gaps)


@pytest.mark.parametrize(
    ("field", "value", "sentence"),
    [
        ("dynids", 7, "dynids: not a list"),
        ("dynids", [[1, 2]], "dynids: not eight numbers"),
        ("dynids", [[-1, 0, 0, 0, 0, 0, 0, 0]], "dynids: not eight numbers"),
        ("dynids", [[True, 0, 0, 0, 0, 0, 0, 0]], "dynids: not eight numbers"),
        ("id_table", [{"vendor": 1}], "id_table: not eight numbers"),
        ("origin", "hearsay", "not one of kernel_memory"),
        ("registered_ns", "soon", "registered_ns: not an integer"),
    ],
)
def test_what_is_no_inventory(field: str, value: object, sentence: str) -> None:
    """The error names the field."""
    inventory = json.loads(json.dumps(as_object(Inventory((E1000,), order_known=True))))
    inventory["drivers"][0][field] = value
    with pytest.raises(FieldError, match=sentence):
        from_object(inventory)


@pytest.mark.parametrize("gaps", [None, "one", [1]])
def test_gaps_are_sentences(gaps: object) -> None:
    """Anything else is refused."""
    with pytest.raises(FieldError, match="gaps: not "):
        from_object({"drivers": [], "order_known": False, "gaps": gaps})

"""observer/document.py: what `audit --json` wrote is read again, or is refused."""

from __future__ import annotations

import json
from contextlib import suppress
from typing import Any

import machines
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pictures import file_of, of, pictures

from observer.document import as_object, from_object
from observer.fields import FieldError
from observer.machine import Machine, Origin
from observer.pictured import Pictured

MACHINE = machines.machine(machines.device(bound="e1000"))
anything = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=8,
)


@given(machines.machines)
def test_what_an_audit_wrote(machine: Machine) -> None:
    """It is the picture that the machine itself would give."""
    assert of(machine) == from_object(file_of(machine))


@given(pictures)
def test_round_trip(picture: Pictured) -> None:
    """What is written for another process is what it reads, in the same order."""
    read = from_object(json.loads(json.dumps(as_object(picture))))
    assert picture == read
    assert [*picture.drivers] == [*read.drivers]
    assert [*picture.devices] == [*read.devices]


def places(value: object, path: tuple[str | int, ...] = ()) -> list[Any]:
    """Return the way to each value within a JSON value."""
    found: list[Any] = [path]
    if isinstance(value, dict):
        for key, each in value.items():
            found += places(each, (*path, key))
    if isinstance(value, list):
        for place, each in enumerate(value):
            found += places(each, (*path, place))
    return found


@given(st.data(), anything)
def test_any_json(data: st.DataObject, thing: object) -> None:
    """Wherever something else stands, there is a picture or one error."""
    file: Any = {"": file_of(MACHINE)}
    *way, last = data.draw(st.sampled_from([("", *each) for each in places(file[""])]))
    inner = file
    for key in way:
        inner = inner[key]
    inner[last] = thing
    with suppress(FieldError):
        assert isinstance(from_object(file[""]), Pictured)


def test_later_fields_are_skipped() -> None:
    """A later minor version may tell more."""
    file = file_of(MACHINE)
    file["later"] = file["devices"][0]["later"] = file["drivers"][0]["later"] = []
    assert of(MACHINE) == from_object(file)


def test_an_earlier_version() -> None:
    """It did not tell which drivers are built in."""
    file = file_of(MACHINE)
    for each in file["drivers"]:
        del each["built_in"]
    known = from_object(file).drivers
    assert {None} == {each.built_in for each in known.values()}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"format": "tarball"}, "format: not pci-observer-audit"),
        ({"version": 2}, "version: 2 is newer than 1"),
        ({"version": "one"}, "version: not an integer"),
        ({"kernel": {"release": 6.1}}, "kernel.release: not a string"),
        ({"unix_ns": -1}, "unix_ns: not within 0 and 0xffffffffffffffff"),
        ({"devices": {}}, "devices: not a list"),
        ({"devices": [{}]}, "devices[0].address: missing"),
        ({"drivers": [1]}, "drivers[0]: not an object"),
    ],
)
def test_bad_field(change: dict[str, object], message: str) -> None:
    """The error begins with the field."""
    with pytest.raises(FieldError) as caught:
        from_object(file_of(MACHINE) | change)
    assert message == str(caught.value)


def test_a_candidate_twice() -> None:
    """No driver is registered twice."""
    file = file_of(MACHINE)
    (device,) = (each for each in file["devices"] if each["candidates"])
    device["candidates"] *= 2
    message = r"^candidates\[1\].driver: 'e1000' is there twice$"
    with pytest.raises(FieldError, match=message):
        from_object(file)


def test_twice() -> None:
    """No address has two devices."""
    file = file_of(MACHINE)
    file["devices"] *= 2
    with pytest.raises(
        FieldError, match=r"^devices\[1\].address: '0000:00:02.0' is th"
    ):
        from_object(file)


@pytest.mark.parametrize(
    ("module", "origin", "built_in"),
    [
        ("e1000", Origin.KERNEL_MEMORY, False),
        ("e1000", Origin.HOOKS, False),
        (None, Origin.KERNEL_MEMORY, True),
        (None, Origin.MODULES_ALIAS, True),
        (None, Origin.HOOKS, None),
        (None, Origin.NOWHERE, None),
    ],
)
def test_built_in(module: str | None, origin: Origin, built_in: bool | None) -> None:  # noqa: FBT001
    """Whether a driver is a module is known where its module was looked for."""
    driver = machines.E1000._replace(module=module, origin=origin)
    picture = from_object(file_of(machines.machine(drivers=(driver,))))
    assert built_in is picture.drivers["e1000"].built_in

"""The PCI drivers registered at one time, and their way through JSON."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple

from observer.fields import FieldError, Fields
from observer.machine import Origin, PciDriver
from observer.record import Driver, Id, TableState

if TYPE_CHECKING:
    from observer.bus import Place

_U32: Final = 0xFFFFFFFF
_U64: Final = 0xFFFFFFFFFFFFFFFF


class Inventory(NamedTuple):
    """The registered PCI drivers, and what could not be learned about them."""

    drivers: tuple[PciDriver, ...]  # in the order of registration, if that is known
    order_known: bool  # else by name
    gaps: tuple[str, ...] = ()  # a sentence each
    deferred: frozenset[str] = frozenset()  # addresses whose probe was deferred
    # Of the drivers in kernel memory, in the same order; not in the JSON.
    places: tuple[Place, ...] = ()


NOT_TAKEN: Final = Inventory((), False, ("No inventory of the drivers was taken.",))


def as_object(inventory: Inventory) -> dict[str, object]:
    """Write an inventory as JSON; an id is a list of its eight numbers."""
    return {
        "drivers": [_driver_object(driver) for driver in inventory.drivers],
        "order_known": inventory.order_known,
        "gaps": inventory.gaps,
        "deferred": sorted(inventory.deferred),
    }


def from_object(value: object) -> Inventory:
    """Read what `as_object` wrote. Raises FieldError."""
    fields = Fields(value, "inventory")
    return Inventory(
        tuple(map(_driver, fields.nested_list("drivers"))),
        fields.flag("order_known"),
        fields.texts("gaps"),
        frozenset(fields.texts("deferred")),
    )


def _driver_object(known: PciDriver) -> dict[str, object]:
    return {
        **known.driver._asdict(),
        "origin": known.origin,
        "dynids": known.dynids,
        "module": known.module,
        "registered_ns": known.registered_ns,
    }


def _driver(fields: Fields) -> PciDriver:
    driver = Driver(
        fields.integer("number", _U64),
        fields.text("name"),
        _ids(fields, "id_table"),
        fields.word("table_state", TableState),
        fields.flag("has_probe"),
    )
    unseen = fields.value("registered_ns") is None
    return PciDriver(
        driver,
        fields.word("origin", Origin),
        _ids(fields, "dynids"),
        fields.text_or_null("module"),
        None if unseen else fields.integer("registered_ns", _U64),
    )


def _ids(fields: Fields, name: str) -> tuple[Id, ...] | None:
    ids = fields.value(name)
    if ids is None:
        return None
    if not isinstance(ids, list):
        raise FieldError(f"{name}: not a list")
    shared: dict[int, int] = {}  # most numbers come again, and JSON makes each anew
    return tuple(_id(numbers, name, shared) for numbers in ids)


def _id(numbers: object, name: str, shared: dict[int, int]) -> Id:
    if (
        not isinstance(numbers, list)
        or len(numbers) != len(Id._fields)
        or not all(type(number) is int and 0 <= number <= _U64 for number in numbers)
    ):
        raise FieldError(f"{name}: not eight numbers")
    return Id._make(map(shared.setdefault, numbers, numbers))

"""A picture of a machine as `audit --json` writes it, read and written for comparison.

Unknown fields are skipped, and so is what a comparison does not need.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, TypeVar

from observer.fields import FieldError, Fields
from observer.notation import U64, device_object, id_object, read_device, read_ids
from observer.pictured import Pictured, PicturedDevice, PicturedDriver

if TYPE_CHECKING:
    from collections.abc import Callable

_Read = TypeVar("_Read")

FORMAT: Final = "pci-observer-audit"
VERSION: Final = 1


def from_object(value: object, name: str = "") -> Pictured:
    """Read a decoded JSON value; `name` is what errors call it.

    Raises FieldError, also where a newer version wrote it.
    """
    fields = Fields(value, name).of(FORMAT, VERSION)
    kernel = fields.nested("kernel")
    return Pictured(
        kernel.text("release"),
        kernel.text("layout"),
        kernel.text("semantics"),
        kernel.text("new_id_rules"),
        fields.text("semantics"),
        fields.integer("unix_ns", U64),
        fields.flag("order_known"),
        _keyed(fields, "drivers", "name", _driver),
        _keyed(fields, "devices", "address", _device),
    )


def as_object(picture: Pictured) -> dict[str, object]:
    """Write what a comparison needs."""
    return {
        "format": FORMAT,
        "version": VERSION,
        "kernel": {
            "release": picture.release,
            "layout": picture.layout,
            "semantics": picture.semantics,
            "new_id_rules": picture.new_id_rules,
        },
        "semantics": picture.judged_by,
        "unix_ns": picture.unix_ns,
        "order_known": picture.order_known,
        "drivers": [*map(_driver_object, picture.drivers.values())],
        "devices": [*map(_device_object, picture.devices.values())],
    }


def _keyed(
    fields: Fields, name: str, key: str, read: Callable[[Fields], _Read]
) -> dict[str, _Read]:
    """Read a list of objects of which no two have the same key."""
    found: dict[str, _Read] = {}
    for place, each in enumerate(fields.nested_list(name)):
        known = each.text(key)
        if known in found:
            raise FieldError(f"{name}[{place}].{key}: {known!r} is there twice")
        found[known] = read(each)
    return found


def _driver(fields: Fields) -> PicturedDriver:
    known = fields.value("dynids") is not None
    # An earlier version does not tell it.
    unknown = fields.all.get("built_in") is None
    return PicturedDriver(
        fields.text("name"),
        fields.text_or_null("module"),
        None if unknown else fields.flag("built_in"),
        read_ids(fields, "dynids") if known else None,
    )


def _device(fields: Fields) -> PicturedDevice:
    return PicturedDevice(
        fields.text("address"),
        read_device(fields.nested("ids")),
        fields.text_or_null("driver"),
        fields.text_or_null("driver_override"),
        fields.text_or_null("physfn"),
        tuple(_keyed(fields, "candidates", "driver", lambda each: each)),
        fields.texts("possible"),
    )


def _driver_object(driver: PicturedDriver) -> dict[str, object]:
    return {
        "name": driver.name,
        "module": driver.module,
        "built_in": driver.built_in,
        "dynids": None if driver.dynids is None else [*map(id_object, driver.dynids)],
    }


def _device_object(device: PicturedDevice) -> dict[str, object]:
    return {
        **device._asdict(),
        "ids": device_object(device.ids),
        "candidates": [{"driver": name} for name in device.candidates],
    }

"""Answers to the writes cases of `predict`: a driver, and what is written to its files.

The shape of a case and of its answer stands in contracts.md.
"""

from __future__ import annotations

from typing import Final, Literal, NamedTuple, get_args

from observer.fields import FieldError, Fields
from observer.model.new_id import Dynids, Errno, Written, new_id, remove_id
from observer.notation import ID_FIELDS, id_object, read_ids
from observer.record import Driver

_File = Literal["new_id", "remove_id"]
_FILES: Final = get_args(_File)


class Write(NamedTuple):
    """One write to one of a driver's files."""

    file: _File
    text: str


def answer_writes(case: dict[str, object], rules: str) -> dict[str, object]:
    """Answer a case that has `writes`.

    Raises FieldError naming the field that is missing, unknown or no such thing, and
    KeyError when there are no such rules.
    """
    fields = Fields(case)
    _allow(case, "", ("driver", "writes"))
    driver, dynids = _driver(fields.nested("driver"))
    errnos: list[Errno] = []
    for write in _writes(fields.value("writes")):
        errno, dynids = _written(write, driver, dynids, rules)
        errnos.append(errno)
    return {
        "new_id_rules": rules,
        "errnos": errnos,
        "dynids": [id_object(dynid) for dynid in dynids],
    }


def _written(write: Write, driver: Driver, dynids: Dynids, rules: str) -> Written:
    if write.file == "new_id":
        return new_id(write.text, driver, dynids, rules)
    return remove_id(write.text, dynids, rules)


def _driver(fields: Fields) -> tuple[Driver, Dynids]:
    """Read a driver, and the dynids it has before the first write."""
    _allow(fields.all, "driver.", ("name", "id_table", "dynids"))
    id_table = None
    if fields.value("id_table") is not None:
        id_table = _ids(fields, "id_table")
    dynids = _ids(fields, "dynids") if "dynids" in fields.all else ()
    return Driver(0, fields.text("name"), id_table), dynids


def _ids(fields: Fields, name: str) -> Dynids:
    for place, nested in enumerate(fields.nested_list(name)):
        _allow(nested.all, f"driver.{name}[{place}].", ID_FIELDS)
    return read_ids(fields, name)


def _writes(value: object) -> list[Write]:
    if not isinstance(value, list):
        raise FieldError("writes: not a list")
    return [_write(item, f"writes[{place}]") for place, item in enumerate(value)]


def _write(item: object, path: str) -> Write:
    match item:
        case ["new_id" | "remove_id" as file, str(text)]:
            return Write(file, text)
        case [str(file), str()]:
            raise FieldError(f"{path}[0]: {file!r} is not one of {', '.join(_FILES)}")
    raise FieldError(f"{path}: not a pair of a file's name and a text")


def _allow(found: dict[str, object], path: str, known: tuple[str, ...]) -> None:
    unknown = next((name for name in found if name not in known), None)
    if unknown is not None:
        raise FieldError(f"{path}{unknown}: unknown field")

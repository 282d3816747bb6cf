"""Records as JSON objects and back, as contracts.md has them for recordings.

Ids and devices look here as in the input of `predict`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from observer.fields import FieldError, Fields
from observer.probe_result import is_errno
from observer.record import (
    PCI_ANY_ID,
    Action,
    Device,
    Driver,
    Id,
    Inputs,
    Loss,
    LossStage,
    Match,
    Outcome,
    Path,
    Probe,
    ProbeResult,
    Reason,
    Record,
    Seen,
    Source,
    StoreFile,
    TableState,
    Task,
    Uevent,
    Unregister,
    Write,
)

if TYPE_CHECKING:
    from collections.abc import Callable

    from observer.drivers import Drivers

DEVICE_FIELDS = ("vendor", "device", "subvendor", "subdevice", "class")
ID_FIELDS = (*DEVICE_FIELDS, "class_mask", "driver_data", "override_only")
U16, U32, U64 = 0xFFFF, 0xFFFFFFFF, 0xFFFFFFFFFFFFFFFF


def id_object(entry: Id) -> dict[str, object]:
    """Write an id_table entry or a dynid."""
    return dict(zip(ID_FIELDS, entry, strict=True))


def device_object(device: Device) -> dict[str, object]:
    """Write a device's ids."""
    return dict(zip(DEVICE_FIELDS, device, strict=True))


def record_object(record: Record) -> dict[str, object]:
    """Write a record; a match has its driver's number and name only."""
    if isinstance(record, Match):
        return _match_object(record)
    if isinstance(record, Driver):
        return {"record": "driver", **record._asdict(), "id_table": _table(record)}
    fields = record._asdict()
    if isinstance(record, Probe | Write):
        fields |= fields.pop("task")._asdict()
    return {"record": _KINDS[type(record)], **fields}


def _table(driver: Driver) -> list[dict[str, object]] | None:
    return None if driver.id_table is None else [*map(id_object, driver.id_table)]


def _match_object(match: Match) -> dict[str, object]:
    inputs = match.inputs
    return {
        "record": "match",
        "ktime_ns": match.ktime_ns,
        **match.task._asdict(),
        "address": match.address,
        "is_virtfn": match.is_virtfn,
        "device": device_object(inputs.device),
        "driver": inputs.driver.number,
        "name": inputs.driver.name,
        "dynids": [id_object(dynid) for dynid in inputs.dynids],
        "dynids_complete": inputs.dynids_complete,
        "driver_override": inputs.driver_override,
        **match.outcome._asdict(),
        "doubts": match.doubts,
        "seen": match.seen,
    }


def read_id(fields: Fields) -> Id:
    """Read an id_table entry or a dynid. Raises FieldError, as all that follow."""
    return Id(
        fields.integer("vendor", U32, default=0),
        fields.integer("device", U32, default=0),
        fields.integer("subvendor", U32, default=PCI_ANY_ID),
        fields.integer("subdevice", U32, default=PCI_ANY_ID),
        fields.integer("class", U32, default=0),
        fields.integer("class_mask", U32, default=0),
        fields.integer("driver_data", U64, default=0),
        fields.integer("override_only", U32, default=0),
    )


def read_ids(fields: Fields, name: str) -> tuple[Id, ...]:
    """Read a list of ids."""
    return tuple(map(read_id, fields.nested_list(name)))


def read_device(fields: Fields) -> Device:
    """Read a device's ids, 16 bits but for the class."""
    return Device(
        fields.integer("vendor", U16),
        fields.integer("device", U16),
        fields.integer("subvendor", U16),
        fields.integer("subdevice", U16),
        fields.integer("class", U32),
    )


def read_record(fields: Fields, drivers: Drivers) -> Record | None:
    """Read a record, None for a kind that is unknown; `drivers` are those read so far.

    Drivers are put into `drivers` as they come and taken out as they go.
    """
    read = _READERS.get(fields.text("record"))
    return None if read is None else read(fields, drivers)


def _driver(fields: Fields, drivers: Drivers) -> Driver:
    driver = Driver(
        fields.integer("number", U64),
        fields.text("name"),
        None if fields.value("id_table") is None else read_ids(fields, "id_table"),
        fields.word("table_state", TableState),
        fields.flag("has_probe"),
    )
    drivers.learn(driver)
    return driver


def _match(fields: Fields, drivers: Drivers) -> Match:
    return Match(
        fields.integer("ktime_ns", U64),
        read_task(fields),
        fields.text("address"),
        fields.flag("is_virtfn"),
        Inputs(
            read_device(fields.nested("device")),
            drivers.find(fields.integer("driver", U64), fields.text("name")),
            read_ids(fields, "dynids"),
            fields.flag("dynids_complete"),
            fields.text_or_null("driver_override"),
        ),
        _outcome(fields),
        fields.words("doubts", Reason),
        fields.word("seen", Seen, default=Seen.LIVE),
    )


def _probe(fields: Fields, _drivers: Drivers) -> Probe:
    return Probe(
        fields.integer("ktime_ns", U64),
        fields.integer("duration_ns", U64),
        read_task(fields),
        fields.text("address"),
        fields.integer("driver", U64),
        fields.text("name"),
        fields.flag("has_probe"),
        fields.word("path", Path),
        fields.word("result", ProbeResult),
        _errno(fields),
        fields.word("seen", Seen, default=Seen.LIVE),
    )


def _errno(fields: Fields) -> str | None:
    errno = fields.text_or_null("errno")
    if errno is not None and not is_errno(errno):
        raise FieldError("errno: neither a name nor a number")
    return errno


def _unregister(fields: Fields, drivers: Drivers) -> Unregister:
    unregister = Unregister(
        fields.integer("ktime_ns", U64),
        fields.integer("driver", U64),
        fields.text("name"),
    )
    drivers.forget(unregister.driver)
    return unregister


def _write(fields: Fields, _drivers: Drivers) -> Write:
    return Write(
        fields.integer("ktime_ns", U64),
        fields.integer("duration_ns", U64),
        read_task(fields),
        fields.integer("uid", U32),
        fields.word("file", StoreFile),
        fields.text_or_null("driver"),
        fields.text_or_null("address"),
        fields.text("text"),
        fields.integer("size", U64),
        _errno(fields),
    )


def _uevent(fields: Fields, _drivers: Drivers) -> Uevent:
    return Uevent(
        fields.integer("ktime_ns", U64),
        fields.word("action", Action),
        fields.text_or_null("address"),
        fields.text_or_null("driver"),
    )


def _loss(fields: Fields, _drivers: Drivers) -> Loss:
    return Loss(
        fields.integer("since_ns", U64),
        fields.integer("ktime_ns", U64),
        fields.word("stage", LossStage),
        fields.integer("count", U64),
    )


def read_task(fields: Fields) -> Task:
    """Read a task, whose fields stand among others."""
    return Task(
        fields.integer("pid", U32),
        fields.integer("tgid", U32),
        fields.text("comm"),
        fields.integer("cpu", U32),
    )


def _outcome(fields: Fields) -> Outcome:
    source = fields.word("match", Source)
    if source in (Source.STATIC, Source.DYNID):
        return Outcome(source, fields.integer("index", U32))
    if source is Source.HANG:  # a kernel that hangs answers nothing
        words = ", ".join(word for word in Source if word is not Source.HANG)
        raise FieldError(f"match: not one of {words}")
    if fields.value("index") is not None:
        raise FieldError(f"index: {source} has none")
    return Outcome(source)


_READERS: dict[str, Callable[[Fields, Drivers], Record]] = {
    "driver": _driver,
    "loss": _loss,
    "match": _match,
    "probe": _probe,
    "uevent": _uevent,
    "unregister": _unregister,
    "write": _write,
}
_KINDS: dict[type[Record], str] = {
    Loss: "loss",
    Probe: "probe",
    Uevent: "uevent",
    Unregister: "unregister",
    Write: "write",
}

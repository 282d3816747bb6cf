"""A machine as a JSON object and back, for files and for other processes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, TypeVar

from observer import document, registered
from observer.drivers import Drivers
from observer.fields import FieldError, Fields
from observer.machine import Decision, Machine, PciDevice
from observer.notation import (
    U32,
    U64,
    device_object,
    id_object,
    read_device,
    read_id,
    read_record,
    read_task,
    record_object,
)
from observer.record import Probe, Source, Uevent, Write
from observer.registered import Inventory
from observer.slugs import SLUGS

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from observer.machine import Event
    from observer.pictured import Pictured

FORMAT: Final = "pci-observer-machine"
VERSION: Final = 1

_Event = TypeVar("_Event")


def as_object(machine: Machine) -> dict[str, object]:
    """Write a machine.

    Ids of tables and dynids are lists of eight numbers, events are as in recordings.
    """
    drivers = tuple(machine.drivers.values())
    inventory = Inventory(drivers, machine.order_known, machine.gaps, machine.deferred)
    baseline = machine.baseline
    return {
        "format": FORMAT,
        "version": VERSION,
        "release": machine.release,
        "layout": machine.layout,
        "semantics": machine.semantics,
        "new_id_rules": machine.new_id_rules,
        "now_ns": machine.now_ns,
        "realtime_offset_ns": machine.realtime_offset_ns,
        "observed_since_ns": machine.observed_since_ns,
        "recorded_since_ns": machine.recorded_since_ns,
        "drivers_autoprobe": machine.drivers_autoprobe,
        "baseline": baseline and document.as_object(baseline),
        "inventory": registered.as_object(inventory),
        "devices": [*map(_device_object, machine.devices.values())],
        "device_events": _events_object(machine.device_events),
        "driver_events": _events_object(machine.driver_events),
    }


def from_object(value: object) -> Machine:
    """Read what `as_object` wrote; unknown fields and kinds of events are skipped.

    Raises FieldError, also where a newer version wrote it.
    """
    fields = Fields(value, "machine").of(FORMAT, VERSION)
    inventory = registered.from_object(fields.value("inventory"))
    devices = map(_device, fields.nested_list("devices"))
    return Machine(
        release=fields.text("release"),
        layout=fields.text("layout"),
        semantics=_semantics(fields),
        new_id_rules=fields.text("new_id_rules"),
        drivers_autoprobe=_flag(fields, "drivers_autoprobe"),
        drivers={known.driver.name: known for known in inventory.drivers},
        order_known=inventory.order_known,
        devices={device.address: device for device in devices},
        gaps=inventory.gaps,
        deferred=inventory.deferred,
        now_ns=fields.integer("now_ns", U64),
        realtime_offset_ns=fields.integer("realtime_offset_ns", U64),
        observed_since_ns=_number(fields, "observed_since_ns", U64),
        recorded_since_ns=_recorded_since_ns(fields),
        device_events=_events(fields.nested("device_events"), _device_event),
        driver_events=_events(fields.nested("driver_events"), _driver_event),
        baseline=_baseline(fields),
    )


def _semantics(fields: Fields) -> str:
    slug = fields.text("semantics")
    if slug not in SLUGS:
        raise FieldError(f"machine.semantics: {slug!r} is not known here")
    return slug


def _baseline(fields: Fields) -> Pictured | None:
    # One that does not know it was written by an earlier version.
    baseline = fields.all.get("baseline")
    return (
        None if baseline is None else document.from_object(baseline, "machine.baseline")
    )


def _device_object(device: PciDevice) -> dict[str, object]:
    return {**device._asdict(), "ids": device_object(device.ids)}


def _device(fields: Fields) -> PciDevice:
    return PciDevice(
        address=fields.text("address"),
        ids=read_device(fields.nested("ids")),
        driver=fields.text_or_null("driver"),
        driver_override=fields.text_or_null("driver_override"),
        physfn=fields.text_or_null("physfn"),
        sriov_numvfs=_number(fields, "sriov_numvfs", U32),
        sriov_drivers_autoprobe=_flag(fields, "sriov_drivers_autoprobe"),
        iommu_group=_number(fields, "iommu_group", U32),
        boot_vga=_flag(fields, "boot_vga"),
        iommu_group_before=_number(fields, "iommu_group_before", U32),
    )


def _events_object(events: Mapping[str, tuple[Event, ...]]) -> dict[str, object]:
    return {name: [*map(_event_object, each)] for name, each in events.items()}


def _event_object(event: Event) -> dict[str, object]:
    if not isinstance(event, Decision):
        return record_object(event)
    fields = event._asdict()
    fields |= fields.pop("task")._asdict()
    fields["dynid"] = None if event.dynid is None else id_object(event.dynid)
    return {"record": "decision", **fields}


def _events(
    fields: Fields, read: Callable[[Fields], _Event | None]
) -> dict[str, tuple[_Event, ...]]:
    return {
        name: tuple(
            event
            for each in fields.nested_list(name)
            if (event := read(each)) is not None
        )
        for name in fields.all
    }


def _device_event(fields: Fields) -> Event | None:
    if fields.text("record") == "decision":
        return _decision(fields)
    record = read_record(fields, Drivers())
    return record if isinstance(record, Probe | Write | Uevent) else None


def _driver_event(fields: Fields) -> Write | Uevent | None:
    record = read_record(fields, Drivers())
    return record if isinstance(record, Write | Uevent) else None


def _decision(fields: Fields) -> Decision:
    unknown = fields.value("dynid") is None
    return Decision(
        fields.integer("ktime_ns", U64),
        read_task(fields),
        fields.text("driver"),
        fields.word("match", Source),
        _number(fields, "index", U32),
        fields.text_or_null("driver_override"),
        None if unknown else read_id(fields.nested("dynid")),
    )


def _recorded_since_ns(fields: Fields) -> int | None:
    """Read what a daemon of an earlier version does not tell."""
    if "recorded_since_ns" not in fields.all:
        return None
    return _number(fields, "recorded_since_ns", U64)


def _number(fields: Fields, name: str, maximum: int) -> int | None:
    return None if fields.value(name) is None else fields.integer(name, maximum)


def _flag(fields: Fields, name: str) -> bool | None:
    return None if fields.value(name) is None else fields.flag(name)

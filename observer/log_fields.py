"""What a log line says of an observation. Keys are the kernel's names."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING

from observer.model.primitives import Undecided, static_hits
from observer.record import Source, StoreFile

if TYPE_CHECKING:
    from observer.findings import Finding
    from observer.record import (
        Device,
        Id,
        Inputs,
        Judged,
        Loss,
        Match,
        Outcome,
        Probe,
        Task,
        Write,
    )

ENTRIES = 16  # of an id_table in one line

# Whose text is a device's address, with or without a newline.
_OF_ADDRESS = (StoreFile.BIND, StoreFile.UNBIND, StoreFile.DRIVERS_PROBE)

Fields = dict[str, object]


def match_fields(match: Match) -> Fields:
    """Name the decision and the kernel's answer, in short."""
    return {
        "address": match.address,
        "driver": match.inputs.driver.name,
        "match": match.outcome.match.value,
        "index": match.outcome.index,
        "vendor_id": _hex(match.inputs.device.vendor, 4),
        "device_id": _hex(match.inputs.device.device, 4),
        "driver_override": match.inputs.driver_override,
        **_task_fields(match.task),
        "ktime_ns": match.ktime_ns,
    }


def divergence_fields(judged: Judged) -> Fields:
    """Name the answers of kernel and model and everything they depend on."""
    match, expected = judged.match, judged.expected
    inputs = match.inputs
    return {
        "kind": judged.kind,
        "address": match.address,
        "driver": inputs.driver.name,
        **_outcome_fields("kernel", match.outcome),
        **(_outcome_fields("model", expected) if expected else {}),
        **_device_fields(inputs.device),
        "is_virtfn": match.is_virtfn,
        "driver_override": inputs.driver_override,
        "dynids": [_id_fields(dynid) for dynid in inputs.dynids],
        "dynids_complete": inputs.dynids_complete,
        **_table_fields(inputs, (match.outcome, expected)),
        **_task_fields(match.task),
        "ktime_ns": match.ktime_ns,
    }


def probe_fields(probe: Probe) -> Fields:
    """Name a probe and what became of it."""
    return {
        "address": probe.address,
        "driver": probe.name,
        "result": probe.result.value,
        "errno": probe.errno,
        "duration_ms": round(probe.duration_ns / 1e6, 3),
        "path": probe.path.value,
        **_task_fields(probe.task),
        "ktime_ns": probe.ktime_ns,
    }


def write_fields(write: Write) -> Fields:
    """Name a write to a file of sysfs, what came of it and who wrote."""
    address = write.address
    if write.file in _OF_ADDRESS:
        address = write.text.removesuffix("\n")
    return {
        "file": write.file.value,
        "driver": write.driver,
        "address": address,
        "text": write.text,
        "size": write.size,
        "errno": write.errno,
        "uid": write.uid,
        "duration_ms": round(write.duration_ns / 1e6, 3),
        **_task_fields(write.task),
        "ktime_ns": write.ktime_ns,
    }


def loss_fields(loss: Loss) -> Fields:
    """Name where how many events went missing."""
    return {
        "stage": loss.stage.value,
        "count": loss.count,
        "since_ns": loss.since_ns,
        "ktime_ns": loss.ktime_ns,
    }


def finding_fields(finding: Finding) -> Fields:
    """Name what is wrong, what would change it, and who caused it where that is known.

    The actor is the task that did it: nothing that metrics carry.
    """
    actor = finding.actor
    return {
        "finding": finding.finding.value,
        "kind": finding.kind.value,
        "address": finding.address,
        "also": list(finding.also),
        "text": finding.text,
        "cure": finding.cure,
        **({**_task_fields(actor.task), "uid": actor.uid} if actor else {}),
    }


def _task_fields(task: Task) -> Fields:
    return task._asdict()


def _outcome_fields(whose: str, outcome: Outcome) -> Fields:
    return {whose: outcome.match.value, f"{whose}_index": outcome.index}


def _device_fields(device: Device) -> Fields:
    return {
        "vendor_id": _hex(device.vendor, 4),
        "device_id": _hex(device.device, 4),
        "subvendor_id": _hex(device.subvendor, 4),
        "subdevice_id": _hex(device.subdevice, 4),
        "class_id": _hex(device.class_, 6),
    }


def _table_fields(inputs: Inputs, answers: tuple[Outcome | None, ...]) -> Fields:
    """Name the entries that fit the device or that an answer names, not all."""
    table = inputs.driver.id_table or ()
    named = {
        answer.index
        for answer in answers
        if answer and answer.match is Source.STATIC and answer.index is not None
    }
    hits = _hits(inputs)
    shown = sorted({*hits[:ENTRIES], *named} & set(range(len(table))))
    return {
        "id_table": [
            {
                "index": index,
                **_id_fields(table[index]),
                "override_only": table[index].override_only,
            }
            for index in shown
        ],
        "id_table_hits": len(hits),
        "id_table_size": len(table),
        "table_state": inputs.driver.table_state.value,
    }


def _hits(inputs: Inputs) -> list[int]:
    hits: list[int] = []
    with suppress(Undecided):  # after the known entries
        hits.extend(index for index, _entry in static_hits(inputs))
    return hits


def _id_fields(entry: Id) -> Fields:
    return {
        "vendor": _hex(entry.vendor, 4),
        "device": _hex(entry.device, 4),
        "subvendor": _hex(entry.subvendor, 4),
        "subdevice": _hex(entry.subdevice, 4),
        "class": _hex(entry.class_, 6),
        "class_mask": _hex(entry.class_mask, 6),
    }


def _hex(number: int, digits: int) -> str:
    return f"0x{number:0{digits}x}"

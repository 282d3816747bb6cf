"""Records as the hooks write them; the inverse of observer/wire.py."""

from __future__ import annotations

import errno
from typing import TYPE_CHECKING

from observer import abi
from observer.probe_result import EPROBE_DEFER
from observer.record import Reason, TableState

if TYPE_CHECKING:
    from observer.record import Driver, Id, Match, Probe, Unregister, Write

ENDS = {
    TableState.COMPLETE: abi.END_SENTINEL,
    TableState.TRUNCATED: abi.END_TRUNCATED,
    TableState.UNREADABLE: abi.END_FAULT,
    TableState.UNKNOWN: abi.END_MORE,
}
DOUBTS = {
    Reason.OVERRIDE_CHANGED: abi.MATCH_OVERRIDE_CHANGED,
    Reason.DYNIDS_CHANGED: abi.MATCH_DYNIDS_CHANGED,
    Reason.READ_FAULT: abi.MATCH_READ_FAULT,
}


def raw(text: str) -> bytes:
    """Return the bytes of a text, with its NUL."""
    return text.encode("utf-8", "surrogateescape") + b"\0"


def encode_driver(driver: Driver, size: int = abi.ENTRIES) -> list[bytes]:
    """Return the pieces of a driver, each with at most `size` entries."""
    if driver.id_table is None:
        return [encode_piece(driver, 0, (), abi.END_NULL)]
    firsts = range(0, max(len(driver.id_table), 1), size)
    return [
        encode_piece(
            driver,
            first,
            driver.id_table[first : first + size],
            ENDS[driver.table_state] if first == firsts[-1] else abi.END_MORE,
        )
        for first in firsts
    ]


def encode_piece(
    driver: Driver, first: int, entries: tuple[Id, ...], end: int
) -> bytes:
    """Return one struct rec_driver, noise behind its entries."""
    return abi.DRIVER.pack(
        *(abi.KIND_DRIVER, abi.DRIVER_SIZE, 0, driver.number, 0),
        *(first, len(entries), end, driver.has_probe, raw(driver.name)),
    ) + b"".join(abi.ENTRY.pack(*entry) for entry in entries).ljust(
        abi.ENTRIES * abi.ENTRY.size, b"\xa5"
    )


def encode_match(match: Match) -> bytes:
    """Return one struct rec_match with its tail."""
    inputs, task = match.inputs, match.task
    name, override = raw(inputs.driver.name), b""
    if inputs.driver_override is not None:
        override = raw(inputs.driver_override)
    tail = b"".join(abi.ID.pack(*dynid[:6]) for dynid in inputs.dynids)
    tail += name + override
    flags = match.is_virtfn * abi.MATCH_IS_VIRTFN
    flags |= (not inputs.dynids_complete) * abi.MATCH_DYNIDS_TRUNCATED
    flags |= sum(DOUBTS[doubt] for doubt in match.doubts)
    index = -1 if match.outcome.index is None else match.outcome.index
    return (
        abi.MATCH.pack(
            *(abi.KIND_MATCH, abi.MATCH.size + len(tail), task.cpu),
            *(inputs.driver.number, match.ktime_ns),
            *(task.pid, task.tgid, raw(task.comm), raw(match.address)),
            *inputs.device,
            *(index, abi.SOURCES.index(match.outcome.match), flags),
            *(len(inputs.dynids), len(name), len(override)),
            0 if match.digest is None else match.digest + 1,
        )
        + tail
    )


def encode_probe(probe: Probe, ret: int) -> bytes:
    """Return one struct rec_probe; `ret` stands for its result and errno."""
    task = probe.task
    path = next(number for number, path in abi.PATHS.items() if path is probe.path)
    return abi.PROBE.pack(
        *(abi.KIND_PROBE, abi.PROBE.size, task.cpu, probe.driver, probe.ktime_ns),
        *(task.pid, task.tgid, raw(task.comm), raw(probe.address)),
        *(ret, probe.duration_ns, path, probe.has_probe, raw(probe.name)),
    )


def encode_unregister(unregister: Unregister) -> bytes:
    """Return one struct rec_unregister."""
    return abi.UNREGISTER.pack(
        *(abi.KIND_UNREGISTER, abi.UNREGISTER.size, 0, unregister.driver),
        *(unregister.ktime_ns, raw(unregister.name)),
    )


def encode_write(write: Write) -> bytes:
    """Return one struct rec_write; an errno without a name is its number."""
    task, text = write.task, write.text.encode("utf-8", "surrogateescape")
    ret = write.size
    if write.errno == "EPROBE_DEFER":
        ret = -EPROBE_DEFER
    elif write.errno is not None:
        ret = -(getattr(errno, write.errno, None) or int(write.errno))
    whose = write.address or write.driver
    tail = (raw(whose) if whose else b"") + text
    return (
        abi.WRITE.pack(
            *(abi.KIND_WRITE, abi.WRITE.size + len(tail), task.cpu, 0),
            *(write.ktime_ns, task.pid, task.tgid, raw(task.comm)),
            *(ret, write.duration_ns, write.size, write.uid),
            *(abi.FILES.index(write.file), len(tail) - len(text), len(text)),
        )
        + tail
    )

"""Observations as rows of the store's tables, and back."""

from __future__ import annotations

import json
import zlib
from typing import TYPE_CHECKING, Final

from observer.pointers import hide_pointers
from observer.probe_result import is_errno
from observer.record import (
    Device,
    Driver,
    Id,
    Inputs,
    Judged,
    Judgement,
    Kind,
    Match,
    Outcome,
    Path,
    Probe,
    Probed,
    ProbeResult,
    Reason,
    Seen,
    Source,
    StoreFile,
    TableState,
    Task,
    Write,
    Wrote,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

    from observer.fields import Word

Cell = int | str | bytes | None
Row = tuple[Cell, ...]

_SIGN: Final = 1 << 63
_LEVEL: Final = 6  # of zlib
DRIVER_CELL: Final = 12  # of a decision's row


def insert(table: str, cells: int) -> str:
    """Return the statement that adds a row."""
    places = ", ".join("?" * cells)
    return f"INSERT INTO {table} VALUES ({places})"  # noqa: S608 - names of ours


def signed(number: int) -> int:
    """Return a number of 64 bits as SQLite has it."""
    return number - 2 * _SIGN if number >= _SIGN else number


def unsigned(number: int) -> int:
    """Return it as it was."""
    return number + 2 * _SIGN if number < 0 else number


def cell(text: str | None) -> Cell:
    """Return a text, as its bytes where they are no UTF-8."""
    if text is None or text.isascii():
        return text
    try:
        text.encode()
    except UnicodeEncodeError:
        return text.encode("utf-8", "surrogateescape")
    return text


def text_of(value: object) -> str:
    """Return it as it was. Raises TypeError where it is no text."""
    if isinstance(value, bytes):
        return value.decode("utf-8", "surrogateescape")
    if not isinstance(value, str):
        raise TypeError("no text")
    return value


def text_or_null(value: object) -> str | None:
    """Return it as it was, null included. Raises TypeError."""
    return None if value is None else text_of(value)


def integer(value: object) -> int:
    """Return a number. Raises TypeError where it is none."""
    if not isinstance(value, int):
        raise TypeError("no integer")
    return value


def integer_or_null(value: object) -> int | None:
    """Return a number, or null as None. Raises TypeError."""
    return None if value is None else integer(value)


def packed(value: object) -> bytes:
    """Return JSON by zlib."""
    return zlib.compress(json.dumps(value, separators=(",", ":")).encode(), _LEVEL)


def unpacked(data: bytes) -> object:
    """Return what was packed. Raises ValueError where it is no such thing."""
    try:
        value: object = json.loads(zlib.decompress(data))
    except (zlib.error, RecursionError) as e:
        raise ValueError(str(e)) from e
    return value


def driver_row(driver: Driver) -> Row:
    """Return number, name, table_state, has_probe and id_table."""
    table = driver.id_table
    return (
        signed(driver.number),
        cell(driver.name),
        driver.table_state.value,
        int(driver.has_probe),
        None if table is None else packed(hide_pointers(table)),
    )


def driver_of(row: Sequence[object]) -> Driver:
    """Read what `driver_row` wrote. Raises TypeError or ValueError, as all below."""
    number, name, state, has_probe, table = row
    return Driver(
        unsigned(integer(number)),
        text_of(name),
        None if table is None else _ids(unpacked(_bytes(table))),
        TableState(text_of(state)),
        bool(has_probe),
    )


def decision_row(judged: Judged, driver: int) -> Row:
    """Return a decision from ktime_ns on; `driver` is the id of the driver's row."""
    match, judgement, expected, kind, reason = judged
    ktime_ns, task, address, is_virtfn, inputs, outcome, doubts, seen, _ = match
    dynids = inputs.dynids
    return (
        signed(ktime_ns),
        task.pid,
        task.tgid,
        cell(task.comm),
        task.cpu,
        cell(address),
        int(is_virtfn),
        *inputs.device,
        driver,
        json.dumps(hide_pointers(dynids)) if dynids else None,
        int(inputs.dynids_complete),
        cell(inputs.driver_override),
        outcome.match.value,
        outcome.index,
        " ".join(doubts),
        judgement.value,
        None if expected is None else expected.match.value,
        None if expected is None else expected.index,
        None if kind is None else kind.value,
        None if reason is None else reason.value,
        seen.value,
    )


def decision_of(row: Sequence[object], driver: Driver) -> Judged:
    """Read what `decision_row` wrote."""
    task, ids = row[1:5], row[7:12]
    dynids, complete, override, match, index, doubts = row[13:19]
    judgement, expected, expected_index, kind, reason = row[19:24]
    inputs = Inputs(
        Device._make(map(integer, ids)),
        driver,
        () if dynids is None else _ids(json.loads(text_of(dynids))),
        bool(complete),
        text_or_null(override),
    )
    return Judged(
        Match(
            unsigned(integer(row[0])),
            _task(task),
            text_of(row[5]),
            bool(row[6]),
            inputs,
            Outcome(Source(text_of(match)), integer_or_null(index)),
            tuple(map(Reason, text_of(doubts).split())),
            Seen(text_of(row[24])),
        ),
        Judgement(text_of(judgement)),
        None
        if expected is None
        else Outcome(Source(text_of(expected)), integer_or_null(expected_index)),
        _word_or_null(kind, Kind),
        _word_or_null(reason, Reason),
    )


def probe_row(probed: Probed) -> Row:
    """Return a probe from ktime_ns on."""
    probe, kind = probed
    return (
        signed(probe.ktime_ns),
        signed(probe.duration_ns),
        probe.task.pid,
        probe.task.tgid,
        cell(probe.task.comm),
        probe.task.cpu,
        cell(probe.address),
        signed(probe.driver),
        cell(probe.name),
        int(probe.has_probe),
        probe.path.value,
        probe.result.value,
        probe.errno,
        None if kind is None else kind.value,
        probe.seen.value,
    )


def probe_of(row: Sequence[object]) -> Probed:
    """Read what `probe_row` wrote."""
    address, driver, name, has_probe, path, result, errno, kind = row[6:14]
    return Probed(
        Probe(
            unsigned(integer(row[0])),
            unsigned(integer(row[1])),
            _task(row[2:6]),
            text_of(address),
            unsigned(integer(driver)),
            text_of(name),
            bool(has_probe),
            Path(text_of(path)),
            ProbeResult(text_of(result)),
            _errno(errno),
            Seen(text_of(row[14])),
        ),
        _word_or_null(kind, Kind),
    )


def write_row(wrote: Wrote) -> Row:
    """Return a write from ktime_ns on."""
    write, judgement, expected = wrote
    return (
        signed(write.ktime_ns),
        signed(write.duration_ns),
        write.task.pid,
        write.task.tgid,
        cell(write.task.comm),
        write.task.cpu,
        write.uid,
        write.file.value,
        cell(write.driver),
        cell(write.address),
        cell(write.text),
        signed(write.size),
        write.errno,
        judgement.value,
        expected,
    )


def write_of(row: Sequence[object]) -> Wrote:
    """Read what `write_row` wrote."""
    uid, file, driver, address, text, size, errno, judgement, expected = row[6:15]
    return Wrote(
        Write(
            unsigned(integer(row[0])),
            unsigned(integer(row[1])),
            _task(row[2:6]),
            integer(uid),
            StoreFile(text_of(file)),
            text_or_null(driver),
            text_or_null(address),
            text_of(text),
            unsigned(integer(size)),
            _errno(errno),
        ),
        Judgement(text_of(judgement)),
        text_or_null(expected),
    )


def _task(row: Sequence[object]) -> Task:
    pid, tgid, comm, cpu = row
    return Task(integer(pid), integer(tgid), text_of(comm), integer(cpu))


def _ids(value: object) -> tuple[Id, ...]:
    if not isinstance(value, list):
        raise TypeError("no list of ids")
    return tuple(Id._make(map(integer, entry)) for entry in value)


def _bytes(value: object) -> bytes:
    if not isinstance(value, bytes):
        raise TypeError("no blob")
    return value


def _errno(value: object) -> str | None:
    errno = text_or_null(value)
    if errno is not None and not is_errno(errno):
        raise ValueError("no errno")
    return errno


def _word_or_null(value: object, words: type[Word]) -> Word | None:
    return None if value is None else words(text_of(value))

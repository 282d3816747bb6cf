"""Bytes of one ring record to a `Record`.

Any bytes give a record, None (a piece of a driver's table, more to come) or one
`WireError`.  Text becomes `str` by UTF-8 with surrogateescape, so that no two byte
strings look alike; who prints it must escape it.
"""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING

from observer import abi
from observer.drivers import Drivers, Piece
from observer.probe_result import PROBE_RULES, ProbeFunction, errno_name
from observer.record import (
    Device,
    Driver,
    Id,
    Inputs,
    Match,
    Outcome,
    Probe,
    Reason,
    Record,
    Seen,
    Source,
    StoreFile,
    Task,
    Unregister,
    Write,
)

if TYPE_CHECKING:
    from collections.abc import Callable

_DOUBTS = {
    abi.MATCH_OVERRIDE_CHANGED: Reason.OVERRIDE_CHANGED,
    abi.MATCH_DYNIDS_CHANGED: Reason.DYNIDS_CHANGED,
    abi.MATCH_READ_FAULT: Reason.READ_FAULT,
}
_DOUBTS_OF_FLAGS = tuple(
    tuple(reason for flag, reason in _DOUBTS.items() if flags & flag)
    for flags in range(abi.MATCH_FLAGS + 1)
)
_WITH_INDEX = (Source.STATIC, Source.DYNID)
_OF_DEVICE = StoreFile.DRIVER_OVERRIDE
_OF_BUS = StoreFile.DRIVERS_PROBE
_LAST_ERRNO = 4095


class WireError(ValueError):
    """These bytes are no record; the message says what is wrong with them."""


class Decoder:
    """Decodes the records of one ring, in the order in which they were written.

    It remembers the drivers, for a match carries only the number of its driver.
    """

    def __init__(
        self,
        probe_function: ProbeFunction,
        *,
        matches: Seen = Seen.LIVE,
        probes: Seen = Seen.LIVE,
    ) -> None:
        """Read the results of probes as `probe_function`, the hooked one, means them.

        `matches` and `probes` tell which are seen by a fallback. Raises KeyError when
        there is no such function.
        """
        self._probe_rule = PROBE_RULES[probe_function]
        self._seen_matches, self._seen_probes = matches, probes
        self._drivers = Drivers()
        self._decoders: dict[int, Callable[[bytes], Record | None]] = {
            abi.KIND_DRIVER: self._driver,
            abi.KIND_MATCH: self._match,
            abi.KIND_PROBE: self._probe,
            abi.KIND_UNREGISTER: self._unregister,
            abi.KIND_WRITE: _write,
        }

    def decode(self, data: bytes) -> Record | None:
        """Return the record in `data`, or None when a driver's table goes on.

        Raises WireError when `data` is no record.
        """
        if len(data) < abi.HEAD.size:
            raise WireError(f"{len(data)} bytes are no record")
        kind, size, _, _, _ = abi.HEAD.unpack_from(data)
        if size != len(data):
            raise WireError(f"a record of {size} bytes in {len(data)} bytes")
        decode = self._decoders.get(kind)
        if decode is None:
            raise WireError(f"unknown kind of record {kind}")
        return decode(data)

    def _driver(self, data: bytes) -> Driver | None:
        if len(data) < abi.DRIVER.size:
            raise WireError(f"a driver of {len(data)} bytes")
        fields = abi.DRIVER.unpack_from(data)
        _, _, _, number, _, first, count, end, flags, name = fields
        _check_piece(len(data), first, count, end, flags)
        has_probe = bool(flags & abi.DRIVER_HAS_PROBE)
        ids = _entries(data, count)
        return self._drivers.add(Piece(number, _text(name), has_probe, first, ids, end))

    def _match(self, data: bytes) -> Match:
        if len(data) < abi.MATCH.size:
            raise WireError(f"a match of {len(data)} bytes")
        fields = abi.MATCH.unpack_from(data)
        _, _, cpu, number, ktime_ns, pid, tgid, comm, address = fields[:9]
        index, source, flags, dynids, name_size, override_size, digest = fields[14:]
        name_at = abi.MATCH.size + dynids * abi.ID.size
        override_at = name_at + name_size
        if override_at + override_size != len(data):
            raise WireError("the parts of a match are not as long as its tail")
        _check_match(flags, dynids, name_size, override_size)
        if digest > abi.DIGESTS or (digest and source):
            raise WireError(f"a match with source {source} and digest {digest}")
        name, override = data[name_at:override_at], data[override_at:]
        return Match(
            ktime_ns,
            Task(pid, tgid, _text(comm), cpu),
            _text(address),
            bool(flags & abi.MATCH_IS_VIRTFN),
            Inputs(
                Device._make(fields[9:14]),
                self._drivers.find(number, _tail_text(name) if name else ""),
                _dynids(data[abi.MATCH.size : name_at]) if dynids else (),
                not flags & abi.MATCH_DYNIDS_TRUNCATED,
                _tail_text(override) if override else None,
            ),
            _outcome(source, index),
            _doubts(flags, name, override),
            self._seen_matches,
            digest=digest - 1 if digest else None,
        )

    def _probe(self, data: bytes) -> Probe:
        if len(data) != abi.PROBE.size:
            raise WireError(f"a probe of {len(data)} bytes")
        fields = abi.PROBE.unpack(data)
        _, _, cpu, number, ktime_ns, pid, tgid, comm, address = fields[:9]
        ret, duration_ns, path, flags, name = fields[9:]
        if path not in abi.PATHS or flags & ~abi.DRIVER_HAS_PROBE:
            raise WireError(f"a probe with path {path} and flags {flags:#x}")
        return Probe(
            ktime_ns,
            duration_ns,
            Task(pid, tgid, _text(comm), cpu),
            _text(address),
            number,
            _text(name),
            bool(flags & abi.DRIVER_HAS_PROBE),
            abi.PATHS[path],
            *self._probe_rule(ret),
            self._seen_probes,
        )

    def _unregister(self, data: bytes) -> Unregister:
        if len(data) != abi.UNREGISTER.size:
            raise WireError(f"an unregister of {len(data)} bytes")
        _, _, _, number, ktime_ns, name = abi.UNREGISTER.unpack(data)
        unregister = Unregister(ktime_ns, number, _text(name))
        self._drivers.forget(number)
        return unregister


def _write(data: bytes) -> Write:
    if len(data) < abi.WRITE.size:
        raise WireError(f"a write of {len(data)} bytes")
    fields = abi.WRITE.unpack_from(data)
    _, _, cpu, _, ktime_ns, pid, tgid, comm, ret, duration_ns = fields[:10]
    size, uid, number, name_size, text_size = fields[10:]
    text_at = abi.WRITE.size + name_size
    if name_size > abi.NAME_SIZE or len(data) != text_at + text_size:
        raise WireError(f"a write of {len(data)} bytes with {name_size} of a name")
    name = _tail_text(data[abi.WRITE.size : text_at]) if name_size else ""
    if number >= len(abi.FILES) or ret < -_LAST_ERRNO:
        raise WireError(f"a write to file {number} that returned {ret}")
    if text_size > min(size, abi.TEXT_SIZE):
        raise WireError(f"a write of {size} bytes with {text_size} of text")
    file = abi.FILES[number]
    return Write(
        ktime_ns,
        duration_ns,
        Task(pid, tgid, _text(comm), cpu),
        uid,
        file,
        None if file in (_OF_DEVICE, _OF_BUS) else name,
        name if file is _OF_DEVICE else None,
        data[text_at:].decode("utf-8", "surrogateescape"),
        size,
        errno_name(-ret) if ret < 0 else None,
    )


def _check_piece(size: int, first: int, count: int, end: int, flags: int) -> None:
    """Check all but the entries and the name; behind its entries a piece is noise."""
    least = abi.DRIVER.size + count * abi.ENTRY.size
    if not least <= size <= abi.DRIVER_SIZE:
        raise WireError(f"a driver of {size} bytes with {count} entries")
    if first + count > abi.TABLE_SIZE:
        raise WireError(f"a driver with an entry at {first + count - 1}")
    if end > abi.END_TRUNCATED or flags & ~abi.DRIVER_HAS_PROBE:
        raise WireError(f"a driver with end {end} and flags {flags:#x}")
    if end == abi.END_MORE and not count:
        raise WireError("a driver without entries, and more to come")
    if end == abi.END_NULL and first + count:
        raise WireError("a driver with entries of no table")


def _check_match(flags: int, dynids: int, name_size: int, override_size: int) -> None:
    if flags > abi.MATCH_FLAGS:
        raise WireError(f"a match with flags {flags:#x}")
    if dynids > abi.DYNIDS:
        raise WireError(f"a match with {dynids} dynids")
    if name_size > abi.NAME_SIZE or override_size > abi.OVERRIDE_SIZE:
        raise WireError(f"a match with texts of {name_size}, {override_size} bytes")
    if not name_size and not flags & abi.MATCH_READ_FAULT:
        raise WireError("a match without its driver's name")


def _entries(data: bytes, count: int) -> tuple[Id, ...]:
    end = abi.DRIVER.size + count * abi.ENTRY.size
    share = dict[int, int]().setdefault  # most numbers come again, each made anew
    return tuple(
        Id._make(map(share, fields, fields))
        for fields in abi.ENTRY.iter_unpack(data[abi.DRIVER.size : end])
    )


def _dynids(data: bytes) -> tuple[Id, ...]:
    return tuple(Id(*fields) for fields in abi.ID.iter_unpack(data))


def _outcome(source: int, index: int) -> Outcome:
    """Check that an index comes with the sources that have one, and only there."""
    if source >= len(abi.SOURCES) or index < -1:
        raise WireError(f"a match with source {source} and index {index}")
    found = abi.SOURCES[source]
    if (index >= 0) is not (found in _WITH_INDEX):
        raise WireError(f"a match with source {found} and index {index}")
    return Outcome(found, index) if index >= 0 else Outcome(found)


def _doubts(flags: int, name: bytes, override: bytes) -> tuple[Reason, ...]:
    """Return what the hooks doubt; a cut name may or may not equal the override."""
    if len(name) == abi.NAME_SIZE and override.startswith(name[:-1]):
        flags |= abi.MATCH_READ_FAULT
    return _DOUBTS_OF_FLAGS[flags]


@lru_cache(maxsize=1024)
def _text(raw: bytes) -> str:
    """Return the text in a field of fixed size; what follows its NUL is noise."""
    text, nul, _ = raw.partition(b"\0")
    if not nul:
        raise WireError("a text without its NUL")
    return text.decode("utf-8", "surrogateescape")


@lru_cache(maxsize=1024)
def _tail_text(raw: bytes) -> str:
    """Return a text that comes with its size, which ends at the NUL."""
    if raw.find(b"\0") != len(raw) - 1:
        raise WireError("a text that doesn't end at its NUL")
    return raw.decode("utf-8", "surrogateescape")[:-1]

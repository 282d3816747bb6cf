"""The opened file of the store, and what was written to it last."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING, Final, NamedTuple, Self

from observer.store.archive import read_baseline
from observer.store.bindings import enter_bindings
from observer.store.database import StoreError, failing, open_store, transaction
from observer.store.journal import Journal
from observer.store.retention import prune, size
from observer.store.tables import (
    accept_picture,
    enter_boot,
    enter_findings,
    enter_picture,
    touch_boot,
)

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from observer.findings import Finding
    from observer.machine import Machine
    from observer.record import Observation
    from observer.store.database import Connection
    from observer.store.shape import Kept, Limits, Moment, Running

ALIVE_NS: Final = 60_000_000_000  # between two notes that the boot is still observed


class Standing(NamedTuple):
    """The findings that stood at a time."""

    findings: tuple[Finding, ...]
    at: Moment


class Picture(NamedTuple):
    """A good picture, packed."""

    document: bytes
    unix_ns: int


class Wanted(NamedTuple):
    """What the file is to say; what it says already is not written again."""

    machine: Machine | None = None
    standing: Standing | None = None
    picture: Picture | None = None
    accepted: Picture | None = None  # to become the baseline, if it is the last one


class Session:
    """One boot in the file. All methods raise StoreError; then it must be closed."""

    def __init__(self, path: Path, running: Running, now: Moment) -> None:
        """Open the file, or make it, and enter the boot."""
        self._path = path
        self._connection: Connection = open_store(path)
        try:
            self._enter(running, now)
        except BaseException:
            self._connection.close()
            raise

    def _enter(self, running: Running, now: Moment) -> None:
        self._data_version = self._read_data_version()  # before what it is about
        self.before = read_baseline(self._connection, self._path)
        with transaction(self._connection, self._path):
            self._boot = enter_boot(self._connection, running, now)
        with failing(self._path):
            self._journal = Journal(self._connection, self._boot)
            self.size_bytes = size(self._connection)
        self._said = Wanted()
        self._alive_ns = now.ktime_ns

    def write(
        self, batch: Sequence[Observation], wanted: Wanted, limits: Limits, now: Moment
    ) -> None:
        """Write all of it, or nothing where it raises; delete what is too old."""
        idle = now.ktime_ns - self._alive_ns < ALIVE_NS
        same = all(new is old for new, old in zip(wanted, self._said, strict=True))
        if not batch and same and idle:
            return
        with transaction(self._connection, self._path):
            rows = self._journal.append(batch, now.offset_ns)
            self._say(wanted)
            touch_boot(self._connection, self._boot, now)
            if prune(self._connection, limits, rows=rows):
                self._journal.forget_drivers()
        self._said, self._alive_ns = wanted, now.ktime_ns
        with failing(self._path):
            self.size_bytes = size(self._connection)

    def _say(self, wanted: Wanted) -> None:
        said, connection, boot = self._said, self._connection, self._boot
        if wanted.machine is not None and wanted.machine is not said.machine:
            enter_bindings(connection, boot, wanted.machine)
        if wanted.standing is not None and wanted.standing is not said.standing:
            enter_findings(connection, boot, *wanted.standing)
        if wanted.picture is not None and wanted.picture is not said.picture:
            enter_picture(connection, boot, *wanted.picture)
        if wanted.accepted is not None and wanted.accepted is not said.accepted:
            accept_picture(connection, boot)

    def accepted(self) -> Kept | None:
        """Return the baseline if another process wrote to the file meanwhile."""
        version = self._read_data_version()
        if version == self._data_version:
            return None
        self._data_version = version
        return read_baseline(self._connection, self._path)

    def _read_data_version(self) -> int:
        with failing(self._path):
            (version,) = self._connection.execute("PRAGMA data_version").fetchone()
        return int(version)

    def close(self) -> None:
        """Close the file."""
        with suppress(StoreError), failing(self._path):
            self._connection.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

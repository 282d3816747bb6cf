"""What the store holds, for other processes than the daemon."""

from __future__ import annotations

from contextlib import closing
from typing import TYPE_CHECKING, Any, Generic, Literal, NamedTuple, Self, TypeVar

from observer.record import Device
from observer.store.database import (
    CorruptError,
    open_archive,
    open_store,
    reading,
    transaction,
)
from observer.store.rows import (
    DRIVER_CELL,
    cell,
    decision_of,
    driver_of,
    integer,
    integer_or_null,
    packed,
    probe_of,
    text_of,
    text_or_null,
    unpacked,
    write_of,
)
from observer.store.shape import Binding, Boot, Bound, Kept, KeptFinding, Who

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path
    from types import TracebackType

    from observer.record import Driver, Judged, Probed, Wrote
    from observer.store.database import Connection
    from observer.store.rows import Cell

CountedTable = Literal["decisions", "probes", "writes", "findings"]

_Seen = TypeVar("_Seen")
_Value = TypeVar("_Value")


class Past(NamedTuple, Generic[_Seen]):
    """Something that was observed."""

    boot: int  # Boot.seq
    unix_ns: int
    seen: _Seen


class Archive:
    """A store, opened to read; a context manager. All methods raise StoreError."""

    def __init__(self, path: Path) -> None:
        """Open it, whether or not a daemon writes to it."""
        self._path = path
        self._connection = open_archive(path)

    def boots(self) -> list[Boot]:
        """Return the boots in the order in which they were observed."""
        return [*self._read(_boot, "SELECT * FROM boots ORDER BY boot")]

    def picture(self, boot: Boot) -> Kept | None:
        """Return the last good picture of a boot."""
        query = (
            "SELECT boot_id, release, unix_ns, document "
            "FROM pictures JOIN boots USING (boot) WHERE boot = ?"
        )
        return next(self._read(_kept, query, boot.seq), None)

    def baseline(self) -> Kept | None:
        """Return the picture that later boots are compared with."""
        return read_baseline(self._connection, self._path)

    def bindings(self, address: str | None = None) -> list[Binding]:
        """Return what was bound, of one device or of all, oldest first."""
        query, values = _about("bindings", address, "boot, since_ktime_ns, id")
        return [*self._read(_binding, query, *values)]

    def findings(self, address: str | None = None) -> list[KeptFinding]:
        """Return the findings that concern one device, or all, oldest first."""
        query = "SELECT * FROM findings ORDER BY boot, begin_ktime_ns, id"
        return [
            each
            for each in self._read(_finding, query)
            if address is None or address in (each.address, *each.also)
        ]

    def probes(self, address: str | None = None) -> Iterator[Past[Probed]]:
        """Yield the probes of one device, or all, in the order they were seen."""
        query, values = _about("probes", address, "id")
        return self._read(lambda row: _past(row, probe_of(row[3:])), query, *values)

    def writes(self) -> Iterator[Past[Wrote]]:
        """Yield the writes in the order they were seen."""
        query, _ = _about("writes", None, "id")
        return self._read(lambda row: _past(row, write_of(row[3:])), query)

    def decisions(self, address: str | None = None) -> Iterator[Past[Judged]]:
        """Yield the decisions about one device, or all, in the order they were seen."""
        drivers: dict[int, Driver] = {}

        def decision(row: Sequence[Any]) -> Past[Judged]:
            number = row[3 + DRIVER_CELL]
            if number not in drivers:
                drivers[number] = self._driver(number)
            return _past(row, decision_of(row[3:], drivers[number]))

        query, values = _about("decisions", address, "id")
        return self._read(decision, query, *values)

    def counts(self, table: CountedTable) -> dict[int, int]:
        """Return how many rows of a table each boot has, by Boot.seq."""
        query = f"SELECT boot, count(*) FROM {table} GROUP BY boot"  # noqa: S608
        return dict(self._read(lambda row: (row[0], row[1]), query))

    def pictures(self) -> dict[int, int]:
        """Return when the picture of each boot was taken, Unix ns by Boot.seq."""
        query = "SELECT boot, unix_ns FROM pictures"
        return dict(self._read(lambda row: (row[0], integer(row[1])), query))

    def whole(self) -> bool:
        """Tell whether nothing in the file is damaged, however long that takes."""
        return [*self._read(tuple, "PRAGMA quick_check")] == [("ok",)]

    def close(self) -> None:
        """Close the file."""
        self._connection.close()

    def _driver(self, number: int) -> Driver:
        query = (
            "SELECT number, name, table_state, has_probe, id_table FROM drivers "
            "WHERE id = ?"
        )
        for driver in self._read(driver_of, query, number):
            return driver
        raise CorruptError(f"{self._path}: a decision is of no driver")

    def _read(
        self, read: Callable[[Sequence[Any]], _Value], query: str, *values: Cell
    ) -> Iterator[_Value]:
        with reading(self._path):
            for row in self._connection.execute(query, values):
                yield read(row)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()


def read_baseline(connection: Connection, path: Path) -> Kept | None:
    """Return the picture that later boots are compared with. Raises StoreError."""
    query = "SELECT boot_id, release, unix_ns, document FROM baseline"
    with reading(path):
        row = connection.execute(query).fetchone()
        return None if row is None else _kept(row)


def accept(path: Path, kept: Kept) -> None:
    """Make a picture the baseline; a daemon that runs takes it up.

    Raises StoreError where there is no store or it may not be written to.
    """
    open_archive(path).close()  # which makes none
    with (
        closing(open_store(path)) as connection,
        transaction(connection, path),
    ):
        connection.execute(
            "INSERT OR REPLACE INTO baseline VALUES (1, ?, ?, ?, ?)",
            (
                cell(kept.boot_id),
                cell(kept.release),
                kept.unix_ns,
                packed(kept.document),
            ),
        )


def _about(table: str, address: str | None, order: str) -> tuple[str, tuple[Cell, ...]]:
    """Return a query for what concerns one device or all, and its values."""
    query = f"SELECT * FROM {table}"  # noqa: S608 - names of ours
    if address is None:
        return f"{query} ORDER BY {order}", ()
    return f"{query} WHERE address = ? ORDER BY {order}", (cell(address),)


def _past(row: Sequence[Any], seen: _Seen) -> Past[_Seen]:
    return Past(integer(row[1]), integer(row[2]), seen)


def _boot(row: Sequence[Any]) -> Boot:
    return Boot._make((row[0], *map(text_of, row[1:8]), *map(integer, row[8:])))


def _kept(row: Sequence[Any]) -> Kept:
    boot_id, release, unix_ns, document = row
    value = unpacked(document)
    if not isinstance(value, dict):
        raise TypeError("a picture that is no JSON object")
    return Kept(text_of(boot_id), text_of(release), integer(unix_ns), value)


def _binding(row: Sequence[Any]) -> Binding:
    boot, address, *ids = row[1:8]
    driver, override, since, since_unix, until, until_unix, seen = row[8:15]
    comm, tgid, uid = row[15:]
    return Binding(
        integer(boot),
        Bound(
            text_of(address),
            Device._make(map(integer, ids)),
            text_or_null(driver),
            text_or_null(override),
        ),
        integer(since),
        integer(since_unix),
        integer_or_null(until),
        integer_or_null(until_unix),
        bool(seen),
        _who(comm, tgid, uid),
    )


def _who(comm: object, tgid: object, uid: object) -> Who | None:
    if comm is None:
        return None
    return Who(text_of(comm), integer(tgid), integer_or_null(uid))


def _finding(row: Sequence[Any]) -> KeptFinding:
    _, boot, address, also, finding, kind, _, text, cure = row[:9]
    begin, begin_unix, end, end_unix = row[9:]
    return KeptFinding(
        integer(boot),
        text_of(address),
        tuple(text_of(also).split()),
        text_of(finding),
        text_of(kind),
        text_of(text),
        text_of(cure),
        integer(begin),
        integer(begin_unix),
        integer_or_null(end),
        integer_or_null(end_unix),
    )

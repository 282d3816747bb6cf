"""What the store holds, for other processes than the daemon."""

from __future__ import annotations

from contextlib import closing
from typing import TYPE_CHECKING, Any, Generic, Literal, NamedTuple, Self, TypeVar

from observer.record import Device
from observer.store.database import (
    CorruptError,
    failing,
    open_archive,
    open_store,
    transaction,
)
from observer.store.rows import (
    DRIVER_CELL,
    cell,
    decision_of,
    driver_of,
    packed,
    probe_of,
    text_of,
    text_or_null,
    unpacked,
    write_of,
)
from observer.store.shape import Binding, Boot, Bound, Kept, KeptFinding, Who

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence
    from pathlib import Path
    from types import TracebackType

    from observer.record import Driver, Judged, Probed, Wrote
    from observer.store.database import Connection
    from observer.store.rows import Cell

CountedTable = Literal["decisions", "probes", "writes", "findings"]

_Seen = TypeVar("_Seen")


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
        rows = self._rows("SELECT * FROM boots ORDER BY boot")
        return [
            Boot._make((*row[:1], *map(text_of, row[1:8]), *row[8:])) for row in rows
        ]

    def picture(self, boot: Boot) -> Kept | None:
        """Return the last good picture of a boot."""
        return _kept(
            self._rows(
                "SELECT boot_id, release, unix_ns, document "
                "FROM pictures JOIN boots USING (boot) WHERE boot = ?",
                boot.seq,
            )
        )

    def baseline(self) -> Kept | None:
        """Return the picture that later boots are compared with."""
        return read_baseline(self._connection, self._path)

    def bindings(self, address: str | None = None) -> list[Binding]:
        """Return what was bound, of one device or of all, oldest first."""
        where, values = _about(address)
        return [
            _binding(row)
            for row in self._rows(
                f"SELECT * FROM bindings {where} "  # noqa: S608 - a constant
                "ORDER BY boot, since_ktime_ns, id",
                *values,
            )
        ]

    def findings(self, address: str | None = None) -> list[KeptFinding]:
        """Return the findings that concern one device, or all, oldest first."""
        found = map(
            _finding,
            self._rows("SELECT * FROM findings ORDER BY boot, begin_ktime_ns, id"),
        )
        return [
            each
            for each in found
            if address is None or address in (each.address, *each.also)
        ]

    def probes(self, address: str | None = None) -> Iterator[Past[Probed]]:
        """Yield the probes of one device, or all, in the order they were seen."""
        where, values = _about(address)
        for _, boot, unix_ns, *row in self._rows(
            f"SELECT * FROM probes {where} ORDER BY id",  # noqa: S608 - a constant
            *values,
        ):
            yield Past(boot, unix_ns, probe_of(row))

    def writes(self) -> Iterator[Past[Wrote]]:
        """Yield the writes in the order they were seen."""
        for _, boot, unix_ns, *row in self._rows("SELECT * FROM writes ORDER BY id"):
            yield Past(boot, unix_ns, write_of(row))

    def decisions(self, address: str | None = None) -> Iterator[Past[Judged]]:
        """Yield the decisions about one device, or all, in the order they were seen."""
        where, values = _about(address)
        drivers: dict[int, Driver] = {}
        for _, boot, unix_ns, *row in self._rows(
            f"SELECT * FROM decisions {where} ORDER BY id",  # noqa: S608 - a constant
            *values,
        ):
            number = row[DRIVER_CELL]
            if number not in drivers:
                drivers[number] = self._driver(number)
            yield Past(boot, unix_ns, decision_of(row, drivers[number]))

    def counts(self, table: CountedTable) -> dict[int, int]:
        """Return how many rows of a table each boot has, by Boot.seq."""
        return dict(
            self._rows(f"SELECT boot, count(*) FROM {table} GROUP BY boot")  # noqa: S608 - a constant
        )

    def whole(self) -> bool:
        """Tell whether nothing in the file is damaged, however long that takes."""
        return [*self._rows("PRAGMA quick_check")] == [("ok",)]

    def close(self) -> None:
        """Close the file."""
        self._connection.close()

    def _driver(self, number: int) -> Driver:
        rows = self._rows(
            "SELECT number, name, table_state, has_probe, id_table FROM drivers "
            "WHERE id = ?",
            number,
        )
        return next(map(driver_of, rows))

    def _rows(self, query: str, *values: int | str | bytes | None) -> Iterator[Any]:
        with failing(self._path):
            yield from self._connection.execute(query, values)

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
    with failing(path):
        return _kept(
            connection.execute(
                "SELECT boot_id, release, unix_ns, document FROM baseline"
            )
        )


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


def _about(address: str | None) -> tuple[str, tuple[Cell, ...]]:
    if address is None:
        return "", ()
    return "WHERE address = ?", (cell(address),)


def _kept(rows: Iterable[Sequence[Any]]) -> Kept | None:
    for boot_id, release, unix_ns, document in rows:
        value = unpacked(document)
        if not isinstance(value, dict):
            raise CorruptError("a picture is no JSON object")
        return Kept(text_of(boot_id), text_of(release), unix_ns, value)
    return None


def _binding(row: Sequence[Any]) -> Binding:
    boot, address, *ids = row[1:8]
    driver, override, since, since_unix, until, until_unix, seen = row[8:15]
    comm, tgid, uid = row[15:]
    return Binding(
        boot,
        Bound(
            text_of(address),
            Device._make(ids),
            text_or_null(driver),
            text_or_null(override),
        ),
        *(since, since_unix, until, until_unix),
        bool(seen),
        None if comm is None else Who(text_of(comm), tgid, uid),
    )


def _finding(row: Sequence[Any]) -> KeptFinding:
    _, boot, address, also, finding, kind, _, text, cure, *times = row
    return KeptFinding(
        boot,
        text_of(address),
        tuple(text_of(also).split()),
        *(finding, kind, text_of(text), text_of(cure)),
        *times,
    )

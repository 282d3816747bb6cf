"""What is too old or too much is deleted, a little at each step.

Age is that of the time for which the machine ran, added up over boots: a wall clock
that jumps deletes nothing.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterable

    from observer.store.database import Connection
    from observer.store.shape import Limits

STEP: Final = 500  # rows of a table, at least
BOOTS: Final = 100  # with their bindings, findings and pictures
LASTING: Final = 100_000  # rows of what is not deleted by age

_VACUUM_PAGES: Final = 64

_BY_AGE: Final = ("decisions", "probes")
_BY_NUMBER: Final = ("writes", "findings", "bindings")
_OPEN: Final = {"findings": "end_ktime_ns", "bindings": "until_ktime_ns"}
_OF_BOOT: Final = (*_BY_AGE, *_BY_NUMBER, "drivers", "pictures")


class Cut(NamedTuple):
    """All before it is too old."""

    boot: int
    ktime_ns: int


def cut_of(ran: Iterable[tuple[int, int]], age_ns: int) -> Cut | None:
    """Return the cut from boots and how long each ran, newest first; None: no cut."""
    for boot, ran_ns in ran:
        if ran_ns > age_ns:
            return Cut(boot, ran_ns - age_ns)
        age_ns -= ran_ns
    return None


def prune(connection: Connection, limits: Limits, *, rows: int) -> bool:
    """Delete a little, but more than `rows`, which were just added.

    Returns whether drivers are among what was deleted.
    """
    step = max(STEP, 2 * rows)
    ran = connection.execute(
        "SELECT boot, last_ktime_ns FROM boots ORDER BY boot DESC"
    ).fetchall()
    cut = cut_of(ran, limits.age_ns)
    if cut is not None:
        for table in _BY_AGE:
            _delete_before(connection, table, cut, step)
    for table in _BY_NUMBER:
        _delete_surplus(connection, table, step)
    if len(ran) > BOOTS:
        _delete_boot(connection, ran[-1][0], step)
    if size(connection) > limits.size_bytes:
        _delete_first(connection, step)
    _shrink(connection, limits.size_bytes)
    return _delete_drivers(connection, step)


def size(connection: Connection) -> int:
    """Return how many bytes of the file are in use."""
    pages, free, page_bytes = _pages(connection)
    return (pages - free) * page_bytes


def _pages(connection: Connection) -> tuple[int, int, int]:
    """Return how many pages the file has, how many are free, and their size."""
    pages, free, page_bytes = (
        int(connection.execute(f"PRAGMA {name}").fetchone()[0])
        for name in ("page_count", "freelist_count", "page_size")
    )
    return pages, free, page_bytes


def _delete(connection: Connection, table: str, which: str, *values: int) -> int:
    return connection.execute(
        f"DELETE FROM {table} WHERE {which}",  # noqa: S608 - ours, both
        values,
    ).rowcount


def _delete_before(connection: Connection, table: str, cut: Cut, step: int) -> None:
    """Delete what is too old of the rows that were added first."""
    _delete(
        connection,
        table,
        f"id < (SELECT min(id) FROM {table}) + ? "  # noqa: S608
        "AND (boot < ? OR (boot = ? AND ktime_ns < ?))",
        *(step, cut.boot, cut.boot, cut.ktime_ns),
    )


def _delete_surplus(connection: Connection, table: str, step: int) -> None:
    _delete(
        connection,
        table,
        f"id < (SELECT min(id) FROM {table}) + ? "  # noqa: S608
        f"AND id <= (SELECT max(id) FROM {table}) - ? AND {_ended(table)}",
        *(step, LASTING),
    )


def _delete_first(connection: Connection, step: int) -> None:
    """Delete the first rows of the first table that has any."""
    for table in (*_BY_AGE, *_BY_NUMBER):
        first = f"id IN (SELECT id FROM {table} WHERE {_ended(table)} LIMIT ?)"  # noqa: S608
        if _delete(connection, table, first, step):
            return


def _ended(table: str) -> str:
    return f"{_OPEN[table]} IS NOT NULL" if table in _OPEN else "1"


def _delete_boot(connection: Connection, boot: int, step: int) -> None:
    """Delete rows of a boot, and the boot once it has none."""
    deleted = 0
    for table in _OF_BOOT:
        key = "boot" if table == "pictures" else "id"
        rows = f"{key} IN (SELECT {key} FROM {table} WHERE boot = ? LIMIT ?)"  # noqa: S608
        deleted += _delete(connection, table, rows, boot, step)
    if not deleted:
        _delete(connection, "boots", "boot = ?", boot)


def _delete_drivers(connection: Connection, step: int) -> bool:
    """Delete drivers that no decision refers to any more."""
    unused = (
        "id IN (SELECT id FROM drivers WHERE decision < "
        "(SELECT coalesce(min(id), (SELECT max(decision) FROM drivers)) "
        "FROM decisions) LIMIT ?)"
    )
    return _delete(connection, "drivers", unused, step) > 0


def _shrink(connection: Connection, size_bytes: int) -> None:
    """Give some pages back, if the file is too large and has pages in no use.

    One at a time: Python's sqlite3 ends the pragma after its first page.
    """
    pages, free, page_bytes = _pages(connection)
    excess = pages - size_bytes // page_bytes
    for _ in range(min(_VACUUM_PAGES, free, excess)):
        connection.execute("PRAGMA incremental_vacuum(1)")

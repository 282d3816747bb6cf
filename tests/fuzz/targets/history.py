"""The file of the history, with cells that nobody wrote: read and told as a whole.

An input is a JSON object of tables, each an object of cells for its first row. A list
or an object stands for what is packed.
"""

from __future__ import annotations

import json
import sqlite3
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import kept
import stores

from fuzz.json_tree import mutate
from fuzz.lines import told
from fuzz.scratch import SCRATCH
from fuzz.target import Target
from observer import history, pictures
from observer.findings.picture import unix_time
from observer.pictures import PictureError
from observer.store import Archive, StoreError
from observer.store.rows import packed, unpacked

if TYPE_CHECKING:
    from collections.abc import Iterable

ADDRESS = stores.PROBED.probe.address
PATH = kept.keep(SCRATCH)
stores.fill(SCRATCH, stores.JUDGED, stores.PROBED, stores.WROTE)
CONNECTION = sqlite3.connect(PATH, isolation_level=None)
CONNECTION.row_factory = sqlite3.Row
CONNECTION.execute("PRAGMA synchronous = OFF")
ARCHIVE = Archive(PATH)
ROWS: dict[str, dict[str, Any]] = {}  # without the key, by which they are found
for (_name,) in CONNECTION.execute("SELECT name FROM sqlite_schema WHERE type='table'"):
    _row = CONNECTION.execute(f"SELECT * FROM {_name} LIMIT 1").fetchone()  # noqa: S608
    if _row is not None:
        ROWS[_name] = dict([*zip(_row.keys(), _row, strict=True)][1:])


def run(data: bytes) -> None:
    """Write the cells, read everything, and put the row back."""
    try:
        tables = json.loads(data)
    except (ValueError, RecursionError):
        return
    if not isinstance(tables, dict):
        return
    changed = [name for name in ROWS if isinstance(tables.get(name), dict)]
    try:
        for name in changed:
            cells = {k: v for k, v in tables[name].items() if k in ROWS[name]}
            write(name, ROWS[name] | {k: cell(v) for k, v in cells.items()})
        read()
    except (sqlite3.Error, OverflowError, UnicodeEncodeError):
        pass  # SQLite itself does not take such cells
    finally:
        for name in changed:
            write(name, ROWS[name])


def write(table: str, cells: dict[str, Any]) -> None:
    """Write the first row of a table."""
    keys = ", ".join(f'"{name}" = ?' for name in cells)
    where = f"(SELECT min(rowid) FROM {table})"  # noqa: S608
    CONNECTION.execute(
        f"UPDATE {table} SET {keys} WHERE rowid = {where}",  # noqa: S608
        [*cells.values()],
    )


def cell(value: Any) -> Any:  # noqa: ANN401 - any JSON
    """Return a value as SQLite takes it."""
    return packed(value) if isinstance(value, dict | list) else value


def read() -> None:
    """Read and tell all that is in the file."""
    with suppress(StoreError, PictureError):
        for address in (None, ADDRESS):
            found = history.read(ARCHIVE, address)
            json.dumps(history.as_object(found))
            told(history.as_text(found, unix_time))
        for rows in (ARCHIVE.decisions(), ARCHIVE.writes()):
            (*_,) = rows
        for boot in ARCHIVE.boots():
            picture = ARCHIVE.picture(boot)
            if picture is not None:
                pictures.of_kept("a", picture)
        ARCHIVE.baseline()


def seeds() -> Iterable[bytes]:
    """Yield the first rows of all tables, and each alone."""
    rows = {
        name: {
            key: unpacked(value) if isinstance(value, bytes) else value
            for key, value in row.items()
        }
        for name, row in ROWS.items()
    }
    for name, row in rows.items():
        yield json.dumps({name: row}).encode()
    yield json.dumps(rows).encode()


TARGET = Target(run, (), seeds, share=2, max_bytes=1 << 13, mutate=mutate)

"""observer/store/database.py: the file is whole, of this version and of one daemon."""

from __future__ import annotations

import os
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import stores
from hypothesis import given
from hypothesis import strategies as st

from observer.store import FILE, Archive, Kept, Notice, StoreError, accept
from observer.store.database import (
    CorruptError,
    NewerError,
    TakenError,
    lock,
    open_archive,
    open_store,
    set_aside,
    transaction,
)
from observer.store.rows import packed
from observer.store.schema import STEPS
from observer.store.writer import RETRY_NS, SET_ASIDE

if TYPE_CHECKING:
    from collections.abc import Callable

VERSION_1 = Path(__file__).parent / "store" / "v1.sql"
PAGE_BYTES = 4096
MADE_UP = (
    "CREATE TABLE old (name TEXT NOT NULL);\nINSERT INTO old VALUES ('kept');\n",
    "ALTER TABLE old ADD COLUMN length INTEGER;\nUPDATE old SET length = 4;\n",
    "CREATE TABLE young (name TEXT);\nINSERT INTO young SELECT name FROM old;\n",
)


KEPT = Kept("a", "6.1", 0, {})


def pragma(connection: sqlite3.Connection, name: str) -> object:
    """Return a setting of the connection or of the file."""
    return connection.execute(f"PRAGMA {name}").fetchone()[0]


def aside(directory: Path) -> list[str]:
    """Return the names of the files that were set aside."""
    return sorted(path.name for path in directory.glob("*.corrupt-*"))


def test_settings(tmp_path: Path) -> None:
    """What a crash can cost, and how much memory it takes, stands in these."""
    with closing(open_store(tmp_path / FILE)) as connection:
        found = {
            name: pragma(connection, name)
            for name in (
                *("journal_mode", "synchronous", "auto_vacuum", "cache_size"),
                *("mmap_size", "user_version"),
            )
        }
    full, incremental = 2, 2
    assert {
        "journal_mode": "wal",
        "synchronous": full,
        "auto_vacuum": incremental,
        "cache_size": -256,
        "mmap_size": 0,
        "user_version": len(STEPS),
    } == found


@pytest.mark.parametrize("version", [0, 1, 2, 3])
def test_every_version_is_brought_up_to_date(tmp_path: Path, version: int) -> None:
    """By the steps that it lacks, with what is in it."""
    path = tmp_path / FILE
    open_store(path, steps=MADE_UP[:version]).close()
    for _ in range(2):
        with closing(open_store(path, steps=MADE_UP)) as connection:
            assert len(MADE_UP) == pragma(connection, "user_version")
            assert [("kept", 4)] == connection.execute("SELECT * FROM old").fetchall()
            assert [("kept",)] == connection.execute("SELECT * FROM young").fetchall()


def test_a_step_that_fails_changes_nothing(tmp_path: Path) -> None:
    """Neither the tables nor the version."""
    path = tmp_path / FILE
    open_store(path, steps=MADE_UP[:1]).close()
    broken = (*MADE_UP[:2], "INSERT INTO nowhere VALUES (1)")
    with pytest.raises(StoreError, match="no such table: nowhere"):
        open_store(path, steps=broken)
    with closing(open_store(path, steps=MADE_UP[:1])) as connection:
        assert 1 == pragma(connection, "user_version")
        assert [("kept",)] == connection.execute("SELECT * FROM old").fetchall()


def test_version_1_is_read_by_all_later_ones(tmp_path: Path) -> None:
    """A file as the first version left it: nothing in it gets lost."""
    path = tmp_path / FILE
    with closing(sqlite3.connect(path)) as connection:
        connection.executescript(VERSION_1.read_text(encoding="utf-8"))
    stores.store(tmp_path, stores.LATER).close()
    with Archive(path) as archive:
        assert ["6.1.0-56-amd64", "6.12.90"] == [b.release for b in archive.boots()]
        decisions = [past.seen for past in archive.decisions()]
        assert [stores.JUDGED] == decisions
        assert [stores.PROBED] == [past.seen for past in archive.probes()]
        assert [stores.WROTE] == [past.seen for past in archive.writes()]
        assert ["e1000", None] == [b.bound.driver for b in archive.bindings()]
        assert ["orphan"] == [each.finding for each in archive.findings()]
        document: dict[str, object] = {"format": "pci-observer-audit"}
        expected = Kept(stores.RUNNING.boot_id, "6.1.0-56-amd64", 5, document)
        assert expected == archive.baseline()
        assert expected == archive.picture(archive.boots()[0])


def test_a_newer_version_is_left_alone(tmp_path: Path) -> None:
    """Nothing is kept then, which is told once; nor is it read."""
    path = tmp_path / FILE
    open_store(path, steps=(*STEPS, "CREATE TABLE more (a)")).close()
    before = path.read_bytes()
    with pytest.raises(NewerError):
        open_archive(path)
    store = stores.store(tmp_path)
    store.step()
    store(stores.JUDGED)
    store.step()
    assert before == path.read_bytes()
    (notice,) = store.notices()
    assert "version 2, newer than 1, this program's" in notice.error
    store.close()
    counts = store.counts()
    assert (1, 1, True) == (counts.offered, counts.refused, counts.degraded)
    assert [] == aside(tmp_path)


def test_older_files_are_not_read(tmp_path: Path) -> None:
    """Whoever only reads can't take the steps."""
    open_store(tmp_path / FILE, steps=MADE_UP[:1]).close()
    with pytest.raises(StoreError, match="version 1, older than 3"):
        open_archive(tmp_path / FILE, steps=MADE_UP)


def test_only_one_daemon(tmp_path: Path) -> None:
    """A second one keeps nothing and disturbs nothing, also when the first ended."""
    first, second = stores.store(tmp_path), stores.store(tmp_path, stores.LATER)
    first(stores.JUDGED)
    for store in (first, second):
        store.step()
    second(stores.JUDGED)
    second.close()
    first(stores.JUDGED)
    first.close()
    error = f"another observer keeps its state in {tmp_path}"
    assert [Notice("history is not kept", error)] == second.notices()
    assert (1, 1) == (second.counts().offered, second.counts().refused)
    with Archive(tmp_path / FILE) as archive:
        assert {1: 2} == archive.counts("decisions")
        assert 1 == len(archive.boots())
        assert archive.whole()


def test_lock_ends_with_its_descriptor(tmp_path: Path) -> None:
    """So a daemon that was killed leaves none behind."""
    descriptor = lock(tmp_path / FILE)
    with pytest.raises(TakenError):
        lock(tmp_path / FILE)
    os.close(descriptor)
    os.close(lock(tmp_path / FILE))


def written(directory: Path) -> int:
    """Fill a store; return how large its file is."""
    stores.fill(directory, *[stores.JUDGED] * 2000)
    return (directory / FILE).stat().st_size


def begins_anew(directory: Path) -> str:
    """Keep a decision where a damaged file is; return what is told."""
    store = stores.store(directory)
    store(stores.JUDGED)
    for _ in range(2):
        store.step()
    store.close()
    assert (1, 1, 0) == store.counts()[:3]
    with Archive(directory / FILE) as archive:
        assert {1: 1} == archive.counts("decisions")
        assert archive.whole()
    (notice,) = store.notices()
    assert "history begun anew" == notice.event
    (name, *more) = aside(directory)
    assert f"renamed to {directory / name}" in notice.error
    assert [] == [each for each in more if not each.startswith(name)]
    return notice.error


@pytest.mark.parametrize(
    ("at", "junk"),
    [
        (0, b"x"),  # the header
        (18, b"\x09\x09"),  # the format's version
        (16, b"\x00\x03"),  # the size of a page
        (100, b"\xff" * 8),  # the first page's tree, which has the schema
        (3 * PAGE_BYTES, b"\xff" * PAGE_BYTES),
        (5 * PAGE_BYTES, b"\xff" * PAGE_BYTES),
        (30 * PAGE_BYTES, b"\xff" * PAGE_BYTES),  # some decisions of before
    ],
)
def test_a_damaged_file_is_set_aside(tmp_path: Path, at: int, junk: bytes) -> None:
    """Wherever it is damaged, it is there to be looked at, and a new one is begun."""
    assert written(tmp_path) > at + len(junk)
    with (tmp_path / FILE).open("r+b") as file:
        file.seek(at)
        file.write(junk)
    damaged = (tmp_path / FILE).read_bytes()
    begins_anew(tmp_path)
    assert damaged == (tmp_path / aside(tmp_path)[0]).read_bytes()


@pytest.mark.parametrize("bytes_left", [100, PAGE_BYTES, 7 * PAGE_BYTES + 11])
def test_a_file_that_was_cut_is_set_aside(tmp_path: Path, bytes_left: int) -> None:
    """As by a file system that lost the rest."""
    assert written(tmp_path) > bytes_left
    os.truncate(tmp_path / FILE, bytes_left)
    begins_anew(tmp_path)


def test_a_file_without_a_table_is_set_aside(tmp_path: Path) -> None:
    """It says that it is of this version and is not."""
    written(tmp_path)
    with closing(sqlite3.connect(tmp_path / FILE)) as connection:
        connection.execute("DROP TABLE decisions")
    assert "no such table: decisions" in begins_anew(tmp_path)


def test_damage_that_shows_later(tmp_path: Path) -> None:
    """What was not written goes into the new file."""
    store = stores.store(tmp_path)
    store.step()
    with closing(sqlite3.connect(tmp_path / FILE)) as connection:
        connection.execute("DROP TABLE decisions")
    for _ in range(2):
        store(stores.JUDGED)
        store.step()
    store.step()
    store.close()
    assert ["history begun anew"] == [notice.event for notice in store.notices()]
    assert 1 == len(aside(tmp_path)) or aside(tmp_path)[1].endswith("-wal")
    with Archive(tmp_path / FILE) as archive:
        assert {1: 2} == archive.counts("decisions")


def test_what_belongs_to_a_file_goes_with_it(tmp_path: Path) -> None:
    """A WAL of another file would damage the new one."""
    names = [FILE, f"{FILE}-shm", f"{FILE}-wal"]
    for name in names:
        (tmp_path / name).write_bytes(name.encode())
    where = set_aside(tmp_path / FILE)
    assert [f"{where.name}{name.removeprefix(FILE)}" for name in names] == aside(
        tmp_path
    )
    assert [*map(str.encode, names)] == [
        (tmp_path / name).read_bytes() for name in aside(tmp_path)
    ]


def test_a_disk_that_damages_all_is_given_up(tmp_path: Path) -> None:
    """Else it would fill with files that were set aside."""
    store = stores.store(tmp_path)
    for number in range(SET_ASIDE + 1):
        (tmp_path / FILE).write_bytes(b"damaged" * 100)
        store.step()
        for path in tmp_path.glob("*.corrupt-*"):  # the next may be of the same second
            path.rename(tmp_path / f"{number}{path.name}")
    store.step()
    store.close()
    *begun, last = store.notices()
    assert ["history begun anew"] * SET_ASIDE == [notice.event for notice in begun]
    assert "it is given up" in last.error


@given(st.binary(max_size=300))
def test_any_bytes_are_no_crash(
    tmp_path_factory: pytest.TempPathFactory, data: bytes
) -> None:
    """Whatever lies there in place of a store, a new one is begun, or it is left."""
    directory = tmp_path_factory.mktemp("any")
    (directory / FILE).write_bytes(data)
    store = stores.store(directory)
    store(stores.JUDGED)
    for _ in range(2):
        store.step()
    store.close()
    assert 1 == store.counts().written


def test_no_right_to_write(tmp_path: Path) -> None:
    """It is told once, counted, and over when the directory can be written to."""
    directory = tmp_path / "state"
    clock = stores.Clock()
    store = stores.store(directory, clock=clock)
    for _ in range(3):
        store(stores.JUDGED)
        store.step()
        clock.ktime_ns += RETRY_NS
    assert (True, False) == (store.counts().degraded, store.counts().up)
    assert store.ready()
    directory.mkdir()
    store.step()
    counts = store.counts()
    assert (3, 3, True, False) == (
        counts.offered,
        counts.written,
        counts.up,
        counts.degraded,
    )
    error = f"{directory / FILE}.lock can't be opened: No such file or directory"
    assert [
        Notice("history is not kept", error),
        Notice("history is kept again", error),
    ] == store.notices()
    store.close()


def test_problems_in_turn_are_no_flood(tmp_path: Path) -> None:
    """Another problem is told when a minute is over, if it is there then."""
    directory, clock = tmp_path / "state", stores.Clock()
    store = stores.store(directory, clock=clock)
    for _ in range(12):
        store.step()
        clock.ktime_ns += RETRY_NS
        directory.touch()
        store.step()
        clock.ktime_ns += RETRY_NS
        directory.unlink()
    assert ["No such file or directory", "Not a directory"] == [
        notice.error.rsplit(": ", 1)[-1] for notice in store.notices()
    ]
    store.close()


def test_error_leaves_nothing_of_a_transaction(tmp_path: Path) -> None:
    """All or nothing, also where it is our own error."""
    with closing(open_store(tmp_path / FILE, steps=MADE_UP)) as connection:

        def fail() -> None:
            with transaction(connection, tmp_path / FILE):
                connection.execute("DELETE FROM old")
                raise ZeroDivisionError

        with pytest.raises(ZeroDivisionError):
            fail()
        assert [("kept", 4)] == connection.execute("SELECT * FROM old").fetchall()


@pytest.mark.parametrize("read", [open_archive, lambda path: accept(path, KEPT)])
def test_no_store(tmp_path: Path, read: Callable[[Path], object]) -> None:
    """It is said where it should be, and nothing is made there."""
    with pytest.raises(StoreError, match=r"history.sqlite is not there"):
        read(tmp_path / FILE)
    assert [] == list(tmp_path.iterdir())


def test_a_damaged_file_is_read_with_an_error(tmp_path: Path) -> None:
    """Reading changes nothing: the daemon sets it aside."""
    (tmp_path / FILE).write_bytes(b"damaged" * 100)
    with pytest.raises(CorruptError, match="is damaged"):
        Archive(tmp_path / FILE)
    assert [tmp_path / FILE] == list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("table", "cell"),
    [
        *(("boots", cell) for cell in ("first_unix_ns", "last_ktime_ns")),
        *(("bindings", cell) for cell in ("boot", "vendor", "since_unix_ns")),
        *(("bindings", cell) for cell in ("until_ktime_ns", "tgid")),
        *(("findings", cell) for cell in ("boot", "end_unix_ns")),
        ("pictures", "unix_ns"),
        *(("probes", cell) for cell in ("unix_ns", "errno")),
        ("decisions", "boot"),
        ("drivers", "id_table"),
    ],
)
def test_a_cell_of_another_kind(tmp_path: Path, table: str, cell: str) -> None:
    """SQLite keeps anything anywhere; what is no such value is damage."""
    path = tmp_path / FILE
    with closing(sqlite3.connect(path)) as connection:
        connection.executescript(VERSION_1.read_text(encoding="utf-8"))
        value = packed([["a"] * 8]) if cell == "id_table" else b"\x1b"
        with connection:
            connection.execute(f"UPDATE {table} SET {cell} = ?", (value,))  # noqa: S608
        connection.execute("PRAGMA user_version = 1")
    with Archive(path) as archive, pytest.raises(CorruptError, match="is damaged"):
        read_all(archive)


def read_all(archive: Archive) -> None:
    """Read every row."""
    for boot in archive.boots():
        archive.picture(boot)
    archive.pictures()
    archive.bindings()
    archive.findings()
    for rows in (archive.probes(), archive.writes(), archive.decisions()):
        assert [*rows]


def test_what_is_no_file_is_not_waited_for(tmp_path: Path) -> None:
    """A pipe in its place would never open."""
    path = tmp_path / FILE
    os.mkfifo(path)
    with pytest.raises(StoreError, match="is no file"):
        open_archive(path)


def test_the_schema_is_not_trusted(tmp_path: Path) -> None:
    """Whoever wrote the file does not choose what is called when it is read."""
    path = tmp_path / FILE
    with closing(open_store(path)) as connection:
        assert (0,) == connection.execute("PRAGMA trusted_schema").fetchone()
    with closing(open_archive(path)) as connection:
        assert (0,) == connection.execute("PRAGMA trusted_schema").fetchone()

"""The file of the store: opened whole, of this version and alone; or why it can't be.

The only importer of sqlite3.
"""

from __future__ import annotations

import fcntl
import os
import sqlite3
import stat
from contextlib import contextmanager, suppress
from pathlib import Path
from time import monotonic, time
from typing import TYPE_CHECKING, Final
from urllib.parse import quote

from observer.store.schema import STEPS

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

Connection = sqlite3.Connection

CHECK_SECONDS: Final = 2.0  # for the check at opening
BUSY_SECONDS: Final = 5.0  # for another process to commit

_CACHE_KIB: Final = 256
_WAL_PAGES: Final = 1000  # to be written back to the file at once
_WAL_BYTES: Final = 8 << 20  # left of a WAL that had to grow
_OPCODES: Final = 20_000  # of SQLite's machine between two looks at the clock
_SUFFIXES: Final = ("", "-wal", "-shm")


class StoreError(Exception):
    """The store can't be used now; one sentence says why and what to do."""


class CorruptError(StoreError):
    """The file is damaged, or no store at all."""


class RowError(StoreError):
    """What was to be written can't be, which the disk is not to blame for."""


class NewerError(StoreError):
    """The file was written by a newer version of the observer."""


class TakenError(StoreError):
    """Another daemon keeps its state there."""


def lock(path: Path) -> int:
    """Take the only right to write to the store at `path`; return a descriptor.

    It ends with the descriptor, also when the process is killed. Raises TakenError,
    StoreError.
    """
    name = f"{path}.lock"
    try:
        descriptor = os.open(name, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as e:
        raise StoreError(f"{name} can't be opened: {e.strerror}") from e
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as e:
        os.close(descriptor)
        raise TakenError(f"another observer keeps its state in {path.parent}") from e
    except OSError as e:
        os.close(descriptor)
        raise StoreError(f"{name} can't be locked: {e.strerror}") from e
    return descriptor


def open_store(
    path: Path, *, steps: Sequence[str] = STEPS, check_seconds: float = CHECK_SECONDS
) -> Connection:
    """Open the store to write, or make it; steps to this version are taken.

    Raises CorruptError, NewerError, StoreError.
    """
    with failing(path):
        connection = sqlite3.connect(
            path,
            timeout=BUSY_SECONDS,
            isolation_level=None,
            check_same_thread=False,
            cached_statements=32,
        )
    try:
        with failing(path):
            _distrust(connection)
            _set_up(connection, path, steps, check_seconds)
    except BaseException:
        connection.close()
        raise
    return connection


def open_archive(path: Path, *, steps: Sequence[str] = STEPS) -> Connection:
    """Open the store to read, whether or not a daemon writes to it.

    Raises StoreError where it is not there, is damaged or may not be read.
    """
    try:
        _look_at(path)  # SQLite's own words tell neither
    except FileNotFoundError as e:
        raise StoreError(
            f"{path} is not there; a daemon that keeps history makes it "
            "(--state tells where)"
        ) from e
    except PermissionError as e:
        raise StoreError(f"only root may read {path}") from e
    except OSError as e:
        raise StoreError(f"{path} can't be read: {e.strerror}") from e
    with failing(path):
        connection = sqlite3.connect(
            f"file:{quote(str(path))}?mode=ro",
            timeout=BUSY_SECONDS,
            isolation_level=None,
            uri=True,
        )
    try:
        with failing(path):
            _distrust(connection)
            _check_readable(connection, path, steps)
    except BaseException:
        connection.close()
        raise
    return connection


def _distrust(connection: Connection) -> None:
    """Let what stands in the file's schema call nothing that has effects elsewhere."""
    connection.execute("PRAGMA trusted_schema = OFF")


def _look_at(path: Path) -> None:
    """Open the file to read, to learn why that fails; a pipe would never open."""
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise StoreError(f"{path} is no file")
    finally:
        os.close(descriptor)


def set_aside(path: Path) -> Path:
    """Rename the file and what belongs to it; return its new name.

    Raises StoreError.
    """
    aside = Path(f"{path}.corrupt-{int(time())}")
    try:
        for suffix in _SUFFIXES:
            with suppress(FileNotFoundError):
                Path(f"{path}{suffix}").rename(f"{aside}{suffix}")
    except OSError as e:
        raise StoreError(f"{path} is damaged and can't be renamed: {e}") from e
    return aside


@contextmanager
def transaction(connection: Connection, path: Path) -> Iterator[None]:
    """Write all that is written within, or nothing of it. Raises StoreError."""
    with failing(path):
        connection.execute("BEGIN IMMEDIATE")
        try:
            yield
            connection.execute("COMMIT")
        except BaseException:
            with suppress(sqlite3.Error):  # some errors have rolled back already
                connection.execute("ROLLBACK")
            raise


@contextmanager
def failing(path: Path) -> Iterator[None]:
    """Turn SQLite's errors into ours."""
    try:
        yield
    except sqlite3.Error as e:
        raise _translated(e, path) from e


@contextmanager
def reading(path: Path) -> Iterator[None]:
    """Do so while rows are read, which may not be what we write."""
    try:
        with failing(path):
            yield
    except (ValueError, TypeError) as e:
        raise CorruptError(f"{path} is damaged ({e})") from e


def _translated(error: sqlite3.Error, path: Path) -> StoreError:
    extended = getattr(error, "sqlite_errorcode", None) or 0
    if extended in _NO_SHARED_MEMORY:
        return StoreError(f"{path}: {_NOT_LOCAL} ({error})")
    code = extended & 0xFF
    if code in _DAMAGED:
        return CorruptError(f"{path} is damaged ({error})")
    if code in _ADVICE:
        return StoreError(f"{path}: {error}; {_ADVICE[code]}")
    return RowError(f"{path}: {error}")


_DAMAGED: Final = frozenset(
    (
        sqlite3.SQLITE_CORRUPT,
        sqlite3.SQLITE_NOTADB,
        sqlite3.SQLITE_ERROR,  # a table or a column is missing
    )
)
_NO_SHARED_MEMORY: Final = frozenset(  # history.sqlite-shm
    (
        sqlite3.SQLITE_IOERR_SHMLOCK,
        sqlite3.SQLITE_IOERR_SHMMAP,
        sqlite3.SQLITE_IOERR_SHMOPEN,
        sqlite3.SQLITE_IOERR_SHMSIZE,
    )
)
_NOT_LOCAL: Final = (
    "its file system can't hold memory that processes share; use a local one (--state)"
)
_WRITABLE: Final = "let the observer write to its directory, on a local file system"
_ADVICE: Final = {
    sqlite3.SQLITE_FULL: "make room on its file system",
    sqlite3.SQLITE_IOERR: "look whether its disk is full or failing",
    sqlite3.SQLITE_READONLY: _WRITABLE,
    sqlite3.SQLITE_CANTOPEN: _WRITABLE,
    sqlite3.SQLITE_PERM: _WRITABLE,
    sqlite3.SQLITE_AUTH: _WRITABLE,
    sqlite3.SQLITE_BUSY: "another process writes to it for long",
    sqlite3.SQLITE_LOCKED: "another process writes to it for long",
    sqlite3.SQLITE_PROTOCOL: _NOT_LOCAL,
    sqlite3.SQLITE_NOMEM: "memory is short",
}


def _set_up(
    connection: Connection, path: Path, steps: Sequence[str], check_seconds: float
) -> None:
    if _check_version(connection, path, steps) == 0:  # it can't be changed later
        connection.execute("PRAGMA auto_vacuum = INCREMENTAL")
    (mode,) = connection.execute("PRAGMA journal_mode = WAL").fetchone()
    if mode != "wal":
        raise StoreError(f"{path}: {_NOT_LOCAL}")
    connection.execute("PRAGMA synchronous = FULL")
    connection.execute(f"PRAGMA cache_size = -{_CACHE_KIB}")
    connection.execute("PRAGMA mmap_size = 0")
    connection.execute(f"PRAGMA wal_autocheckpoint = {_WAL_PAGES}")
    connection.execute(f"PRAGMA journal_size_limit = {_WAL_BYTES}")
    _check(connection, path, check_seconds)
    _migrate(connection, path, steps)


def _check_version(connection: Connection, path: Path, steps: Sequence[str]) -> int:
    """Return the version. Raises NewerError."""
    version = _version(connection)
    if not 0 <= version <= len(steps):
        raise NewerError(
            f"{path} has version {version}, newer than {len(steps)}, this program's; "
            "use a newer one, or move the file away"
        )
    return version


def _check_readable(connection: Connection, path: Path, steps: Sequence[str]) -> None:
    version = _check_version(connection, path, steps)
    if version < len(steps):
        raise StoreError(
            f"{path} has version {version}, older than {len(steps)}, this program's; "
            "the daemon brings it up to date when it is started"
        )


def _version(connection: Connection) -> int:
    (version,) = connection.execute("PRAGMA user_version").fetchone()
    return int(version)


def _check(connection: Connection, path: Path, check_seconds: float) -> None:
    """Look for damage as far as the time allows."""
    deadline = monotonic() + check_seconds
    connection.set_progress_handler(lambda: monotonic() > deadline, _OPCODES)
    try:
        (found,) = connection.execute("PRAGMA quick_check(1)").fetchone()
    except sqlite3.OperationalError as e:
        if e.sqlite_errorcode != sqlite3.SQLITE_INTERRUPT:
            raise
        return
    finally:
        connection.set_progress_handler(None, 0)
    if found != "ok":
        raise CorruptError(f"{path} is damaged: {found}")


def _migrate(connection: Connection, path: Path, steps: Sequence[str]) -> None:
    version = _version(connection)
    if version == len(steps):
        return
    with transaction(connection, path):
        for step in steps[version:]:
            for statement in step.split(";\n"):
                connection.execute(statement)
        connection.execute(f"PRAGMA user_version = {len(steps)}")

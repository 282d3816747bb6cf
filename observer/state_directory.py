"""The directory in which the daemon keeps its state, made while it is still root."""

from __future__ import annotations

import os
import stat
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Final

from observer.store import FILE

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

USUAL: Final = Path("/var/lib/pci-observer")
_OF_A_DISK: Final = "lost+found"  # where one is mounted for it


class StateDirectoryError(Exception):
    """The directory can't be had; one sentence says why."""


def default(environ: Mapping[str, str] = os.environ) -> Path:
    """Return the directory that systemd names, else the usual one."""
    named = environ.get("STATE_DIRECTORY", "").split(":", 1)[0]
    return Path(named) if named else USUAL


def prepare(path: Path, uid: int, gid: int) -> None:
    """Make the directory, unless it is there, and give it and its files to `uid`.

    Its parent must be there. Raises StateDirectoryError, also for a directory that
    holds anything else: a name that was mistyped must not give /etc away.
    """
    try:
        path.mkdir(mode=0o700, exist_ok=True)
        try:
            descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        except PermissionError:
            # Without CAP_DAC_OVERRIDE root may not enter what it gave away before.
            if _owner(path.stat()) == (uid, gid):
                return
            raise
        try:
            _check(path, descriptor)
            _give(descriptor, (uid, gid))
        finally:
            os.close(descriptor)
    except OSError as e:
        raise StateDirectoryError(f"{path}: {e.strerror}") from e


@contextmanager
def as_owner(path: Path) -> Iterator[None]:
    """Be the directory's owner while its files are used, if we are root.

    They are what the daemon's user made of them: a journal, a link or a pipe there must
    not have root delete, write or read what that user could not.
    """
    try:
        uid, gid = _owner(path.stat())
    except OSError:  # whoever opens the file says why
        uid = gid = 0
    if os.geteuid() != 0 or uid == 0:
        yield
        return
    groups, own_gid = os.getgroups(), os.getegid()
    os.setgroups([])
    os.setegid(gid)
    os.seteuid(uid)
    try:
        yield
    finally:
        os.seteuid(0)
        os.setegid(own_gid)
        os.setgroups(groups)


def _check(path: Path, directory: int) -> None:
    """Refuse a directory that is somebody else's."""
    names = os.listdir(directory)
    other = [n for n in names if not n.startswith(FILE) and n != _OF_A_DISK]
    if other:
        raise StateDirectoryError(
            f"{path} holds {other[0]!r}, which is not the history's: "
            "name a directory of its own"
        )


def _give(directory: int, owner: tuple[int, int]) -> None:
    """Change owners: of the directory last, for root may not enter it then.

    A file with more names than one may be somebody else's, as may one that a symbolic
    link leads to: whoever could write here must not get these.
    """
    for name in os.listdir(directory):
        status = os.lstat(name, dir_fd=directory)
        ours = stat.S_ISREG(status.st_mode) and status.st_nlink == 1
        if ours and _owner(status) != owner:
            os.chown(name, *owner, dir_fd=directory, follow_symlinks=False)
    if _owner(os.fstat(directory)) != owner:
        os.fchown(directory, *owner)


def _owner(status: os.stat_result) -> tuple[int, int]:
    return status.st_uid, status.st_gid

"""observer/state_directory.py: made for the daemon's user, and nothing else given."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from stores import let_in

from observer.state_directory import (
    StateDirectoryError,
    as_owner,
    default,
    prepare,
)

OTHER = 12345


def owner(path: Path) -> tuple[int, int]:
    """Return who owns a file."""
    status = path.lstat()
    return status.st_uid, status.st_gid


@pytest.mark.parametrize(
    ("environ", "expected"),
    [
        ({}, "/var/lib/pci-observer"),
        ({"STATE_DIRECTORY": ""}, "/var/lib/pci-observer"),
        ({"STATE_DIRECTORY": "/var/lib/a"}, "/var/lib/a"),
        ({"STATE_DIRECTORY": "/var/lib/a:/var/lib/b"}, "/var/lib/a"),
    ],
)
def test_default(environ: dict[str, str], expected: str) -> None:
    """Where systemd says, else the usual place."""
    assert Path(expected) == default(environ)


def test_it_is_made_for_its_user(tmp_path: Path) -> None:
    """Who alone may look into it."""
    directory = tmp_path / "state"
    prepare(directory, OTHER, OTHER)
    assert (OTHER, OTHER) == owner(directory)
    assert 0o40700 == directory.stat().st_mode


def test_what_is_in_it_is_given_too(tmp_path: Path) -> None:
    """As after the daemon's user was made, or systemd gave all to root."""
    (tmp_path / "history.sqlite").touch()
    prepare(tmp_path, OTHER, OTHER)
    prepare(tmp_path, OTHER, OTHER)
    assert (OTHER, OTHER) == owner(tmp_path / "history.sqlite")


def test_what_may_be_somebody_elses_is_not_given(tmp_path: Path) -> None:
    """Whoever can write there must not get other files by it."""
    ours, precious = tmp_path / "state", tmp_path / "precious"
    ours.mkdir()
    precious.touch()
    (ours / "history.sqlite-symbolic").symlink_to(precious)
    os.link(precious, ours / "history.sqlite-hard")
    (ours / "lost+found").mkdir()
    prepare(ours, OTHER, OTHER)
    before = (os.geteuid(), os.getegid())
    assert {before} == {owner(path) for path in (precious, *ours.iterdir())}


def test_a_directory_with_other_things_is_not_taken(tmp_path: Path) -> None:
    """As /etc, which was meant for something else."""
    (tmp_path / "passwd").touch()
    before = owner(tmp_path)
    with pytest.raises(StateDirectoryError) as caught:
        prepare(tmp_path, OTHER, OTHER)
    assert "holds 'passwd'" in str(caught.value)
    assert before == owner(tmp_path) == owner(tmp_path / "passwd")


def test_it_is_not_made_where_there_is_no_parent(tmp_path: Path) -> None:
    """A name that was mistyped makes no tree."""
    with pytest.raises(StateDirectoryError) as caught:
        prepare(tmp_path / "a" / "b", OTHER, OTHER)
    assert f"{tmp_path / 'a' / 'b'}: No such file or directory" == str(caught.value)


def test_a_file_is_no_directory(tmp_path: Path) -> None:
    """Which is told."""
    (tmp_path / "file").touch()
    with pytest.raises(StateDirectoryError, match="File exists"):
        prepare(tmp_path / "file", OTHER, OTHER)


def test_the_capabilities_of_the_unit_suffice(tmp_path: Path) -> None:
    """Of root's powers over files it has CAP_CHOWN alone, also at the second start."""
    directory = tmp_path / "state"
    directory.mkdir(mode=0o700)
    (directory / "history.sqlite").touch()
    code = (
        "import sys; from pathlib import Path; from observer import state_directory; "
        f"state_directory.prepare(Path(sys.argv[1]), {OTHER}, {OTHER})"
    )
    for _ in range(2):
        command = [sys.executable, "-c", code, directory]
        subprocess.run(
            ["setpriv", "--bounding-set=-all,+chown", *command],
            check=True,
            cwd=Path(__file__).parents[1],
            timeout=60,
        )
    assert {(OTHER, OTHER)} == {owner(directory), owner(directory / "history.sqlite")}


# In a process of its own: whoever fails here must not go on as another user.
CHILD = """
import os, sys
from pathlib import Path
from observer.state_directory import as_owner
directory, precious = map(Path, sys.argv[1:])
before = os.getresuid(), os.getresgid(), os.getgroups()
with as_owner(directory):
    print(os.geteuid(), os.getegid(), os.getgroups())
    for file in (directory / "history.sqlite-journal", precious):
        try:
            print(file.read_text())
        except PermissionError:
            print("refused")
assert before == (os.getresuid(), os.getresgid(), os.getgroups())
print(precious.read_text())
"""


def test_root_uses_the_files_as_their_owner(tmp_path: Path) -> None:
    """A link to what root alone may read leads nowhere; then we are root again."""
    let_in(tmp_path)
    directory, precious = tmp_path / "state", tmp_path / "precious"
    prepare(directory, OTHER, OTHER)
    precious.write_text("secret")
    precious.chmod(0o600)
    (directory / "history.sqlite-journal").symlink_to(precious)
    done = subprocess.run(
        [sys.executable, "-c", CHILD, directory, precious],
        check=True,
        capture_output=True,
        text=True,
    )
    expected = [f"{OTHER} {OTHER} []", "refused", "refused", "secret"]
    assert expected == done.stdout.splitlines()


def test_what_is_our_own_is_used_as_it_is(tmp_path: Path) -> None:
    """And what is not there is for others to complain of."""
    for directory in (tmp_path, tmp_path / "none"):
        with as_owner(directory):
            assert 0 == os.geteuid()

"""observer.store when it is killed, when its disk is full, when it may not write.

On the machine that runs the tests: what is killed, and what fills a disk, are processes
of their own, tests/store_killer.py and tests/store_full.py.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import stores

from observer.store import FILE, Archive

if TYPE_CHECKING:
    from collections.abc import Sequence

    from observer.record import Judged

HERE = Path(__file__).parent
ENVIRON = {**os.environ, "PYTHONPATH": os.pathsep.join([str(HERE), *sys.path])}
KILLS = 200
LONG_KILLS = 3  # of processes that live long enough to have promised something
SECONDS = 300  # for all of it on a machine that is busy
# A disk of 4 MiB of the test's own, where we may mount one.
UNSHARE = ("unshare", "--mount")
ON_A_DISK = 'mount -t tmpfs -o size=4m,mode=700 tmpfs "$0" && exec "$@"'

UNPRIVILEGED = """
import json, os, sys
from pathlib import Path
import stores
if os.geteuid() == 0:
    os.setgid(65534)
    os.setuid(65534)
store = stores.store(Path(sys.argv[1]))
store(stores.JUDGED)
for _ in range(3):
    store.step()
store.close()
print(json.dumps([*store.notices(), store.counts()]))
"""


def run(command: Sequence[str | Path]) -> list[dict[str, object]]:
    """Run it; return the JSON objects that it prints."""
    done = subprocess.run(
        command,
        env=ENVIRON,
        capture_output=True,
        text=True,
        check=False,
        timeout=SECONDS,
    )
    assert (0, "") == (done.returncode, done.stderr)
    return [json.loads(line) for line in done.stdout.splitlines()]


def mountable() -> bool:
    """Say whether we may mount a disk of our own."""
    command = [*UNSHARE, "mount", "-t", "tmpfs", "tmpfs", "/tmp"]  # noqa: S108
    return subprocess.run(command, capture_output=True, check=False).returncode == 0


def killed(directory: Path, rounds: int, longest: float) -> list[dict[str, object]]:
    """Kill writers; return what was found each time."""
    script = HERE / "store_killer.py"
    return run([sys.executable, script, directory, str(rounds), str(longest)])


def test_a_kill_costs_nothing_that_was_written(tmp_path: Path) -> None:
    """Two hundred times, at any moment: the file is whole, and no row is missing."""
    found = killed(tmp_path, KILLS, 0.1)
    assert KILLS == len(found)
    assert {("ok", 0, 1)} == {
        (each["checked"], each["gaps"], each["boots"]) for each in found
    }
    assert [] == [each for each in found if each["kept"] < each["written"]]
    stores.store(tmp_path).close()
    with Archive(tmp_path / FILE) as archive:
        assert archive.whole()
    assert [] == [*tmp_path.glob("*.corrupt-*")]


def test_a_kill_costs_a_second(tmp_path: Path) -> None:
    """What was offered earlier than that is there."""
    found = killed(tmp_path, LONG_KILLS, 2.0)
    assert [] == [each for each in found if each["kept"] < each["promised"]]
    assert any(each["promised"] for each in found)


def filled(command: Sequence[str | Path], word: str) -> None:
    """Check what is said while a disk is filled and emptied again."""
    *stages, found = run(command)
    room, full, again, closed = stages
    assert (True, False, []) == (room["up"], room["degraded"], room["notices"])
    assert (False, True) == (full["up"], full["degraded"])
    assert word in full["notices"][0]["error"]
    assert full["refused"] > 0
    assert (True, False) == (again["up"], again["degraded"])
    assert "history is kept again" == again["notices"][-1]["event"]
    for each in stages[2:]:
        dropped = each["refused"] + each["failed"]
        assert each["offered"] == each["written"] + dropped
    assert {
        "whole": True,
        "rows": closed["written"],
        "drivers": ["e1000", None],
    } == found


def test_a_file_that_may_not_grow(tmp_path: Path) -> None:
    """It is told and counted; with room again what waited is written."""
    script = HERE / "store_full.py"
    filled([sys.executable, script, tmp_path, "rlimit"], "disk I/O error")


def test_a_full_disk(tmp_path: Path) -> None:
    """So it is on a real one, where a file system can be mounted for it."""
    script = HERE / "store_full.py"
    if mountable():
        shell = [*UNSHARE, "sh", "-c", ON_A_DISK, tmp_path]
        command = [*shell, sys.executable, script, tmp_path, "filler"]
        filled(command, "database or disk is full; make room on its file system")
    else:
        filled([sys.executable, script, tmp_path, "rlimit"], "disk I/O error")


@pytest.mark.parametrize("kept", [[], [stores.JUDGED]])
def test_a_directory_that_may_not_be_written_to(
    tmp_path: Path, kept: list[Judged]
) -> None:
    """One line says so; nothing else comes of it, whether or not a store is there."""
    directory = tmp_path / "state"
    directory.mkdir()
    if kept:
        stores.fill(directory, *kept)
    for path in (directory, *directory.iterdir()):
        path.chmod(0o555 if path.is_dir() else 0o444)
    stores.let_in(tmp_path)
    done = subprocess.run(
        [sys.executable, "-c", UNPRIVILEGED, directory],
        env=ENVIRON,
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    notice, counts = json.loads(done.stdout)
    assert "history is not kept" == notice[0]
    assert notice[1].endswith("can't be opened: Permission denied")
    offered, written, refused, failed, up, degraded, _ = counts
    assert (1, 0, 1) == (offered, written, refused + failed)
    assert (False, True) == (up, degraded)

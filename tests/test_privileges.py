"""Privileges are gone for good, in every thread, as the kernel itself tells."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest

from observer.privileges import held, unprivileged_ids

NONE = "0000000000000000"
GONE = {
    "Uid": "65534 65534 65534 65534",
    "Gid": "65534 65534 65534 65534",
    "Groups": "",
    "CapInh": NONE,
    "CapPrm": NONE,
    "CapEff": NONE,
    "CapBnd": NONE,
    "CapAmb": NONE,
    "NoNewPrivs": "1",
}

# Keep these capabilities and nothing else, as systemd's AmbientCapabilities= does.
AMBIENT = """
import ctypes, os
libc = ctypes.CDLL(None)
mask = 1 << 39 | 1 << 38  # CAP_BPF, CAP_PERFMON
libc.prctl(8, 1, 0, 0, 0)  # PR_SET_KEEPCAPS
os.setgroups([])
os.setresgid(1234, 1234, 1234)
os.setresuid(1234, 1234, 1234)
high = mask >> 32
header, data = (ctypes.c_uint32 * 2)(0x20080522, 0), (ctypes.c_uint32 * 6)(
    0, 0, 0, high, high, high)
assert libc.capset(header, data) == 0
for cap in (38, 39):
    assert libc.prctl(47, 2, cap, 0, 0) == 0  # PR_CAP_AMBIENT_RAISE
"""


def child(script: str) -> object:
    """Run a script that prints JSON in a process of its own."""
    prelude = (
        "import json, os, threading\n"
        "from pathlib import Path\n"
        "from observer.privileges import *\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", prelude + script],
        check=True,
        capture_output=True,
        text=True,
        timeout=30,
    )
    return json.loads(done.stdout)


@pytest.fixture(autouse=True)
def _root() -> None:
    """Fail, not skip: without root nothing here is tested."""
    assert os.geteuid() == 0, "These tests need root: run them as make test does."


def test_nothing_remains() -> None:
    """Root drops everything, and drop returns that nothing remains."""
    actual = child("print(json.dumps([drop(65534, 65534), held()]))")
    assert actual == [[], GONE]


def test_groups() -> None:
    """Supplementary groups, such as adm's with its view of all logs, are left."""
    actual = child("os.setgroups([4, 20])\nprint(json.dumps(drop(65534, 65534)))")
    assert actual == []


def test_every_thread() -> None:
    """A thread started after the drop has no more than the main thread."""
    actual = child(
        "drop(65534, 65534)\n"
        "stop = threading.Event()\n"
        "threading.Thread(target=stop.wait).start()\n"
        "tasks = Path('/proc/self/task').iterdir()\n"
        "print(json.dumps([held(status=str(task / 'status')) for task in tasks]))\n"
        "stop.set()"
    )
    assert actual == [GONE, GONE]


def test_root_cannot_be_regained() -> None:
    """A setuid call, even to the saved id, is refused after the drop."""
    actual = child(
        "drop(65534, 65534)\n"
        "try:\n"
        "    os.setresuid(0, 0, 0)\n"
        "except PermissionError:\n"
        "    print(json.dumps('refused'))"
    )
    assert actual == "refused"


def test_running_thread_is_refused() -> None:
    """A thread that runs already would keep its privileges, so drop refuses."""
    actual = child(
        "stop = threading.Event()\n"
        "threading.Thread(target=stop.wait).start()\n"
        "try:\n"
        "    drop(65534, 65534)\n"
        "except PrivilegesError as error:\n"
        "    print(json.dumps([str(error), os.getuid()]))\n"
        "stop.set()"
    )
    sentence = "Privileges can only be dropped before the first thread is started."
    assert [sentence, 0] == actual


def test_ambient_capabilities_are_dropped() -> None:
    """Started as a user with ambient capabilities, all sets but CapBnd are empty."""
    actual = child(AMBIENT + "drop(1234, 1234)\nprint(json.dumps(held()))")
    ids = "1234 1234 1234 1234"
    bounding = held()["CapBnd"]
    assert {**GONE, "Uid": ids, "Gid": ids, "CapBnd": bounding} == actual


def test_ambient_capabilities_were_held() -> None:
    """The premise of the test above: its capabilities are there before the drop."""
    actual = child(AMBIENT + "print(json.dumps(held()['CapEff']))")
    assert actual == "000000c000000000"


def test_what_remains_is_told() -> None:
    """Without CAP_SETPCAP and CAP_SETUID, the bounding set and the ids remain."""
    actual = child(AMBIENT + "print(json.dumps(drop(65534, 65534)))")
    bounding = f"CapBnd {held()['CapBnd']}"
    ids = "1234 1234 1234 1234"
    assert [bounding, f"Uid {ids}", f"Gid {ids}"] == actual


def test_missing_user_is_nobody() -> None:
    """Without the system user the daemon becomes nobody."""
    assert unprivileged_ids("no-such-user-here") == (65534, 65534)


def test_system_user() -> None:
    """A user of that name lends its uid and gid."""
    assert unprivileged_ids("root") == (0, 0)

"""Ends the observer where it hurts, in a guest: by SIGKILL and for want of memory.

Whatever is left behind is looked up afterwards, in the kernel and among processes.
"""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import sqlite3
import subprocess
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from live import counters, pci
from live.scenario import Result, left_behind, say
from live.watcher import COMMAND, HOST, Watcher

if TYPE_CHECKING:
    from random import Random

PORT: Final = 9919
STATE: Final = Path("/run/faults")
SOCKET: Final = Path("/run/faults.sock")
CGROUPS: Final = Path("/run/cgroups")
# What attaching takes in a guest that is alone; later moments are as good.
START_SECONDS: Final = 8.0
LOADER_SECONDS: Final = 1.5
RUN_SECONDS: Final = 2.5
STARTS: Final = 2  # with each victim
END_SECONDS: Final = 60
LITTLE_BYTES: Final = 16 << 20  # not enough to start with
LESS_BYTES: Final = 4 << 20  # not enough to go on with
OPTIONS: Final = (
    *("--state", str(STATE), "--state-mib", "32"),
    *("--socket", str(SOCKET)),
    "--require-hooks",  # else a daemon without a loader goes on with an audit
)


def rows() -> int:
    """Count what the history has of decisions, probes and writes."""
    with contextlib.closing(sqlite3.connect(STATE / "history.sqlite")) as database:
        tables = ("decisions", "probes", "writes")
        counts = [
            database.execute(f"SELECT count(*) FROM {table}").fetchone()[0]  # noqa: S608
            for table in tables
        ]
    return sum(counts)


def history() -> Result:
    """Look at the file of the history as SQLite does."""
    path = STATE / "history.sqlite"
    if not path.exists():
        return {"integrity": "ok", "rows": 0, "aside": []}
    with contextlib.closing(sqlite3.connect(path)) as database:
        (integrity,) = database.execute("PRAGMA integrity_check").fetchone()
    aside = [each.name for each in STATE.iterdir() if "corrupt" in each.name]
    return {"integrity": integrity, "rows": rows(), "aside": aside}


def processes(word: str) -> list[int]:
    """List the processes whose command line has a word."""
    found = []
    for path in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            if word.encode() in (path / "cmdline").read_bytes():
                found.append(int(path.name))
    return found


def loader_of(process: subprocess.Popen[bytes]) -> int:
    """Wait for the loader that a daemon starts."""
    deadline = time.monotonic() + END_SECONDS
    while time.monotonic() < deadline and process.poll() is None:
        for pid in processes("observer.loader"):
            with contextlib.suppress(OSError):
                stat = Path(f"/proc/{pid}/stat").read_text()
                if int(stat.rpartition(")")[2].split()[1]) == process.pid:
                    return pid
        time.sleep(0.01)
    raise TimeoutError("no loader was started")


def answers() -> bool:
    """Tell whether anybody listens, on the port or on the socket."""
    with socket.socket(socket.AF_UNIX) as unix, socket.socket() as tcp:
        ends = (unix.connect_ex(str(SOCKET)), tcp.connect_ex((HOST, PORT)))
    return 0 in ends


def what_is_left(before: dict[str, list[str]]) -> Result:
    """Return what is there that was not before, once the kernel has cleaned up."""
    left: Result = dict(left_behind(before))
    deadline = time.monotonic() + END_SECONDS
    while processes("observer.loader") and time.monotonic() < deadline:
        time.sleep(0.1)
    commands = ("observer.loader", "pci-observer\0run")
    left["processes"] = [pid for word in commands for pid in processes(word)]
    left["answers"] = answers()
    return left


def start(log: Path, *before: str) -> subprocess.Popen[bytes]:
    """Start an observer without waiting for it."""
    with log.open("wb") as file:
        return subprocess.Popen(
            [*before, COMMAND, "run", "--listen", f"{HOST}:{PORT}", *OPTIONS],
            stdin=subprocess.DEVNULL,
            stdout=file,
            stderr=file,
        )


def ready_or_over(process: subprocess.Popen[bytes]) -> None:
    """Wait until an observer answers or has ended."""
    deadline = time.monotonic() + END_SECONDS
    while time.monotonic() < deadline and process.poll() is None and not answers():
        time.sleep(0.2)


def at_start(directory: Path, seconds: float, victim: str) -> Result:
    """Kill the daemon or its loader so long after its start."""
    before = counters.traces()
    log = directory / "killed.log"
    process = start(log)
    try:
        pid = process.pid if victim == "daemon" else loader_of(process)
        time.sleep(seconds)
        with contextlib.suppress(ProcessLookupError):  # the loader is not there long
            os.kill(pid, signal.SIGKILL)
        if victim == "loader":
            ready_or_over(process)
        process.kill()
        status = process.wait(END_SECONDS)
    finally:
        process.kill()
    left = what_is_left(before)  # the loader has ended as well
    lines = log.read_text().splitlines()
    say(f"  {victim} killed after {seconds:.2f} s: status {status}, {lines[-1:]}")
    return {
        "victim": victim,
        "seconds": seconds,
        "status": status,
        "lines": lines,
        "left": left,
        "history": history(),
    }


def while_running(directory: Path, seconds: float, edu: str) -> Result:
    """Kill a daemon that has much to do, so long after it began to keep history."""
    before = counters.traces()
    name = 'store_rows_total{stage="written"}'
    pci.write(f"devices/{edu}/driver_override", "pci-stub\n")
    with Watcher(*OPTIONS, port=PORT, log=directory / "killed.log") as watcher:
        attached = counters.traces()
        written, until = 0.0, time.monotonic() + END_SECONDS
        while not written and time.monotonic() < until:
            bind_and_unbind(edu)
            written = watcher.metrics()[name]
        until = time.monotonic() + seconds
        while time.monotonic() < until:
            bind_and_unbind(edu)
        watcher.kill()
    pci.write(f"devices/{edu}/driver_override", "\n")
    say(f"  killed after {seconds:.2f} s of work")
    return {
        "seconds": seconds,
        "attached": attached["programs"],
        "written": written,
        "left": what_is_left(before),
        "history": history(),
    }


def bind_and_unbind(edu: str) -> None:
    """Give a device that is overridden to pci-stub, and take it back."""
    pci.write("drivers_probe", edu)
    pci.write("drivers/pci-stub/unbind", edu)


def kills(directory: Path, random: Random, edu: str) -> list[Result]:
    """Kill at random moments; each start is also the restart after the last one."""
    pci.run("modprobe", "pci-stub")
    done = [
        at_start(directory, random.uniform(0, START_SECONDS), "daemon")
        for _ in range(STARTS)
    ]
    done += [
        at_start(directory, random.uniform(0, LOADER_SECONDS), "loader")
        for _ in range(STARTS)
    ]
    done += [
        while_running(directory, random.uniform(0, RUN_SECONDS), edu)
        for _ in range(STARTS)
    ]
    return done


class Cgroup:
    """A group of processes that may have so much memory and no more."""

    def __init__(self) -> None:
        """Make it."""
        CGROUPS.mkdir(exist_ok=True)
        pci.run("mount", "-t", "cgroup2", "none", str(CGROUPS))
        (CGROUPS / "cgroup.subtree_control").write_text("+memory")
        self._path = CGROUPS / "observer"
        self._path.mkdir(exist_ok=True)

    def limit(self, size_bytes: int | None) -> None:
        """Let it have so much from now on, None: all there is.

        The kernel reclaims what it can, then it kills; the write waits for that.
        """
        text = "max" if size_bytes is None else str(size_bytes)
        (self._path / "memory.max").write_text(text)

    @property
    def enter(self) -> tuple[str, ...]:
        """Return the command that runs another one in here."""
        script = f'echo $$ > {self._path}/cgroup.procs; exec "$@"'
        return ("sh", "-c", script, "sh")

    @property
    def killed(self) -> int:
        """Return how many processes the kernel ended here."""
        events = (self._path / "memory.events").read_text().split()
        return int(events[events.index("oom_kill") + 1])


def out_of_memory(directory: Path) -> dict[str, Any]:
    """Give it too little to start with, and take it away from one that runs."""
    before = counters.traces()
    cgroup = Cgroup()
    cgroup.limit(LITTLE_BYTES)
    process = start(directory / "oom-start.log", *cgroup.enter)
    starting = process.wait(END_SECONDS)
    lines = (directory / "oom-start.log").read_text().splitlines()
    killed = cgroup.killed
    at_the_start = {
        "status": starting,
        "killed": killed,
        "lines": lines,
        "left": what_is_left(before),
    }
    say(f"  with {LITTLE_BYTES} bytes: status {starting}, {killed} killed, {lines}")
    cgroup.limit(None)
    process = start(directory / "oom-run.log", *cgroup.enter)
    ready_or_over(process)
    attached = counters.traces()
    with contextlib.suppress(OSError):
        cgroup.limit(LESS_BYTES)
    running = process.wait(END_SECONDS)
    say(f"  taken away: status {running}, {cgroup.killed} killed")
    return {
        "start": at_the_start,
        "run": {
            "status": running,
            "killed": cgroup.killed - killed,
            "attached": attached["programs"],
            "left": what_is_left(before),
            "history": history(),
        },
    }

"""What can go wrong around an observer, in a guest: python -m live.faults DIRECTORY.

SEED chooses the moments of what is random, SECONDS how long the storm lasts. It does,
looks and writes down; what is right is for tests/test_faults.py to say.
"""

from __future__ import annotations

import contextlib
import errno
import json
import platform
import re
import resource
import signal
import socket
import subprocess
import sys
import threading
import time
from functools import partial
from pathlib import Path
from random import Random
from typing import TYPE_CHECKING, Any, Final

from live import counters, killed, pci
from live.killed import OPTIONS, PORT, SOCKET, STATE, bind_and_unbind
from live.scenario import (
    DRAIN_SECONDS,
    MATCHLOAD,
    SETTLE_SECONDS,
    Result,
    say,
    settle,
    totals,
)
from live.watcher import COMMAND, HOST, Watcher

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

SMALL: Final = Path("/run/small")  # a file system with little room
SMALL_MIB: Final = 24
YEAR_SECONDS: Final = 365 * 24 * 3600
CONNECTIONS: Final = 64
STOPPED_SECONDS: Final = 3.0
TEXTFILE_SECONDS: Final = 16.0  # more than anything is tried again after
BUSY_ROUNDS: Final = 4  # of everything at least
SWITCHES: Final = 40
# Writes that race with decisions: as many at a time as the ring takes.
BURSTS: Final = 10
MOST_BURSTS: Final = 60
OVERRIDE_RACES: Final = 600
ID_RACES: Final = 50
RACE_PAUSE_SECONDS: Final = 0.7
SAMPLE_SECONDS: Final = 1.0
FEW: Final = "10"  # writes, and then a pause: so the ring suffices
PAUSE_SECONDS: Final = 0.1
PACE_SECONDS: Final = 0.003  # between two binds of the storm
CPU1: Final = Path("/sys/devices/system/cpu/cpu1/online")
LAG: Final = re.compile(
    r'^pci_observer_event_lag_seconds_bucket\{le="([^"]+)"\} ([0-9.e+]+)$', re.MULTILINE
)


def matchload(*words: str) -> str:
    """Have calls made; return what went wrong, "" for nothing."""
    done = subprocess.run(
        [MATCHLOAD, *words], capture_output=True, text=True, check=False
    )
    return done.stderr


@contextlib.contextmanager
def busy(*actions: Callable[[], object]) -> Iterator[list[int]]:
    """Do each of these again and again in a thread; yield how often each was done."""
    stop = threading.Event()
    done = [0] * len(actions)

    def repeat(place: int) -> None:
        while not stop.is_set():
            actions[place]()
            done[place] += 1

    threads = [threading.Thread(target=repeat, args=(n,)) for n in range(len(actions))]
    for thread in threads:
        thread.start()
    try:
        yield done
    finally:
        stop.set()
        for thread in threads:
            thread.join()


def wait_for(done: list[int]) -> None:
    """Wait until each was done some times."""
    until = time.monotonic() + DRAIN_SECONDS
    while min(done) < BUSY_ROUNDS and time.monotonic() < until:
        time.sleep(PAUSE_SECONDS)


def lags(watcher: Watcher) -> dict[str, float]:
    """Read how many decisions were judged within each bound."""
    return {le: float(n) for le, n in LAG.findall(watcher.page("/metrics"))}


def switch(online: str) -> None:
    """Switch the second CPU; the kernel refuses that while a driver probes a device."""
    until = time.monotonic() + DRAIN_SECONDS
    while True:
        try:
            CPU1.write_text(online)
        except OSError as error:
            if error.errno != errno.EBUSY or time.monotonic() > until:
                raise
            time.sleep(PACE_SECONDS)
        else:
            return


class Faults:
    """What befalls one observer, in this order."""

    def __init__(self, watcher: Watcher, places: dict[str, str]) -> None:
        """Let it befall `watcher`."""
        self.watcher = watcher
        self.edu, self.testdev = places["edu"], places["testdev"]

    def around(self, fault: Callable[[], Result]) -> Result:
        """Do it; return all totals before it and after it."""
        before = totals(settle(self.watcher, DRAIN_SECONDS))
        told = fault()
        after = totals(settle(self.watcher, DRAIN_SECONDS))
        return {**told, "before": before, "after": after, **self.shown()}

    def shown(self) -> Result:
        """Return what the observer knows of devices, and sysfs; of findings too."""
        deadline = time.monotonic() + SETTLE_SECONDS
        while True:
            page = self.watcher.page("/metrics")
            known = sorted(
                re.findall(r'device_driver_info\{address="([^"]+)"', page),
            )
            if known == pci.devices() or time.monotonic() > deadline:
                return {"known": known, "there": pci.devices()}
            time.sleep(0.5)

    def overridden(self) -> contextlib.AbstractContextManager[None]:
        """Let the device be pci-stub's meanwhile."""

        @contextlib.contextmanager
        def override() -> Iterator[None]:
            pci.write(f"devices/{self.edu}/driver_override", "pci-stub\n")
            try:
                yield
            finally:
                pci.write(f"devices/{self.edu}/driver_override", "\n")

        return override()

    def second(self) -> Result:
        """Start another one with the same port, the same socket, the same history."""
        other = f"{HOST}:{PORT + 1}"
        refused = {}
        wanted: tuple[tuple[str, tuple[str, ...]], ...] = (
            ("port", ("--listen", f"{HOST}:{PORT}", "--no-state")),
            ("socket", ("--listen", other, "--no-state", "--socket", str(SOCKET))),
        )
        for what, words in wanted:
            done = subprocess.run(
                [COMMAND, "run", *words],
                capture_output=True,
                text=True,
                check=False,
                stdin=subprocess.DEVNULL,
            )
            refused[what] = [done.returncode, done.stdout, done.stderr]
            say(f"  second instance, {what}: {done.returncode} {done.stderr.strip()}")
        arguments = ("--state", str(STATE), "--socket", "/run/second.sock")
        log = STATE.with_suffix(".log")
        with (
            Watcher(*arguments, port=PORT + 1, log=log) as both,
            self.overridden(),
        ):
            before = [totals(settle(each)) for each in (self.watcher, both)]
            for _ in range(10):
                bind_and_unbind(self.edu)
            after = [totals(settle(each)) for each in (self.watcher, both)]
            stopped = both.stop()
        said = [json.loads(line) for line in log.read_text().splitlines()]
        return {
            "refused": refused,
            "both": [before, after],
            "stopped": stopped,
            "warnings": [line for line in said if line["level"] == "warning"],
        }

    def clock(self) -> Result:
        """Set the clock forward, back and right again, and bind each time."""
        monotonic, right = time.monotonic(), time.time()
        jumped = []
        with self.overridden():
            for years in (1, -1, 0):
                now = right + time.monotonic() - monotonic + years * YEAR_SECONDS
                time.clock_settime(time.CLOCK_REALTIME, now)
                bind_and_unbind(self.edu)
                metrics = settle(self.watcher)
                jumped.append({"time": time.time(), "metrics": metrics, "years": years})
        done = subprocess.run(
            [COMMAND, "history", self.edu, "--state", STATE, "--json"],
            capture_output=True,
            text=True,
            check=False,
        )
        return {"jumped": jumped, "history": [done.returncode, done.stderr]}

    def descriptors(self) -> Result:
        """Leave it two descriptors, connect often, plug a device; give them back."""
        pid = int(self.watcher.process.name)
        usual = resource.prlimit(pid, resource.RLIMIT_NOFILE)
        held = len(list((self.watcher.process / "fd").iterdir()))
        result: Result = {}
        with contextlib.ExitStack() as exits:
            exits.callback(resource.prlimit, pid, resource.RLIMIT_NOFILE, usual)
            resource.prlimit(pid, resource.RLIMIT_NOFILE, (held + 2, usual[1]))
            clients = [
                exits.enter_context(socket.create_connection((HOST, PORT)))
                for _ in range(CONNECTIONS)
            ]
            with self.overridden():
                for _ in range(20):
                    bind_and_unbind(self.edu)
            pci.write(f"devices/{self.testdev}/remove", "1")
            pci.write("rescan", "1")
            time.sleep(STOPPED_SECONDS)
            result["held"] = len(list((self.watcher.process / "fd").iterdir())) - held
            result["clients"] = len(clients)
        return result

    def suspended(self) -> Result:
        """Stop it while more happens than the ring takes, and let it go on."""
        before = lags(self.watcher)
        self.watcher.send(signal.SIGSTOP)
        with self.overridden():
            begin = time.monotonic()
            for _ in range(10):
                bind_and_unbind(self.edu)
            errors = matchload("newid", "pci-stub", "6000")
            for _ in range(10):
                bind_and_unbind(self.edu)
            time.sleep(max(0, STOPPED_SECONDS - (time.monotonic() - begin)))
        self.watcher.send(signal.SIGCONT)
        settle(self.watcher)
        return {"error": errors, "lags": [before, lags(self.watcher)]}

    def cpus(self) -> Result:
        """Take a CPU away and give it back while both of them are busy."""
        switched: list[str] = []

        def newid() -> None:
            matchload("newid", "pci-stub", FEW)
            time.sleep(PAUSE_SECONDS)

        with (
            self.overridden(),
            busy(
                lambda: bind_and_unbind(self.edu),
                newid,
            ) as done,
        ):
            while len(switched) < SWITCHES:
                for online in "01":
                    switch(online)
                    switched.append(CPU1.read_text().strip())
                    time.sleep(PAUSE_SECONDS)
            wait_for(done)
        return {"switched": switched, "done": done}

    def unplugged(self) -> Result:
        """Remove devices and unload modules while each is being decided about."""
        errors: set[str] = set()

        def replug() -> None:
            errors.add(pci.write(f"devices/{self.testdev}/remove", "1"))
            errors.add(pci.write("rescan", "1"))

        def reload() -> None:
            errors.add(pci.run("modprobe", "vfio-pci"))
            errors.add(pci.run("modprobe", "-r", "vfio-pci"))

        def decide() -> None:
            errors.add(matchload("probe", self.edu, FEW))
            errors.add(matchload("newid", "pci-stub", FEW))
            time.sleep(PAUSE_SECONDS)

        with busy(replug, reload, decide) as done:
            wait_for(done)
        return {"done": done, "errors": sorted(errors - {""})}

    def races(self) -> Result:
        """Change what a decision is made from while it is made."""
        ids = " ".join(word.removeprefix("0x") for word in pci.ids(self.edu))
        kinds = (
            (OVERRIDE_RACES, ("race-override", "pci-stub", self.edu)),
            (ID_RACES, ("race-ids", "pci-stub", self.edu, ids)),
        )
        name = 'judgements_total{judgement="indeterminate"}'
        errors: list[str] = []
        before, bursts = self.watcher.metrics()[name], 0
        # Whether two CPUs meet is up to chance, and to how busy the host is.
        while bursts < BURSTS or (
            bursts < MOST_BURSTS and self.watcher.metrics()[name] == before
        ):
            bursts += 1
            for number, words in kinds:
                errors.append(matchload(*words, str(number)))
                time.sleep(RACE_PAUSE_SECONDS)
        return {"errors": errors, "writes": 2 * bursts * (OVERRIDE_RACES + ID_RACES)}

    def storm(self, seconds: float) -> Result:
        """Bind and unbind for so long; return how much memory there was meanwhile."""

        def one() -> None:
            bind_and_unbind(self.edu)
            time.sleep(PACE_SECONDS)

        samples = []
        with self.overridden(), busy(one) as done:
            begin = time.monotonic()
            while time.monotonic() - begin < seconds:
                time.sleep(SAMPLE_SECONDS)
                status = (self.watcher.process / "status").read_text()
                rss_kb = int(re.findall(r"VmRSS:\s+(\d+)", status)[0])
                samples.append([time.monotonic() - begin, rss_kb])
        return {"samples": samples, "bound": done[0]}


def full_disk(directory: Path, edu: str) -> Result:
    """Fill the file system that it writes to, and make room again."""
    SMALL.mkdir()
    size = f"size={SMALL_MIB}m,mode=777"
    pci.run("mount", "-t", "tmpfs", "-o", size, "none", str(SMALL))
    recording, textfile = SMALL / "all.jsonl", SMALL / "observer.prom"
    pci.write(f"devices/{edu}/driver_override", "pci-stub\n")
    result: Result = {}

    def seen(when: str) -> None:
        metrics = settle(watcher)
        result[when] = totals(metrics) | {
            "written": textfile.stat().st_mtime if textfile.exists() else 0,
            "recorded": recording.stat().st_size,
        }

    def act() -> None:
        for _ in range(20):
            bind_and_unbind(edu)

    with Watcher(
        *("--state", str(SMALL / "state"), "--record", str(recording)),
        *("--textfile", str(textfile), "--socket", str(SOCKET)),
        port=PORT,
        log=directory / "full.log",
    ) as watcher:
        act()
        seen("before")
        filler = SMALL / "filler"
        with filler.open("wb", buffering=0) as file, contextlib.suppress(OSError):
            while True:
                file.write(bytes(1 << 12))
        act()
        time.sleep(TEXTFILE_SECONDS)
        seen("full")
        filler.unlink()
        act()
        time.sleep(TEXTFILE_SECONDS)
        seen("after")
        result["stopped"] = watcher.stop()
    pci.write(f"devices/{edu}/driver_override", "\n")
    replayed = subprocess.run(
        [COMMAND, "replay", "--json", recording],
        capture_output=True,
        text=True,
        check=False,
    )
    said = [json.loads(s) for s in (directory / "full.log").read_text().splitlines()]
    return result | {
        "replayed": [replayed.returncode, replayed.stdout.splitlines()[-1:]],
        "warnings": [line for line in said if line["level"] == "warning"],
    }


def main(directory: Path, seed: int, seconds: float, *only: str) -> int:
    """Do it all; what breaks is no reason to leave out the rest."""
    pci.run("ip", "link", "set", "lo", "up")
    pci.run("udevadm", "settle", "--timeout=60")
    counters.start()
    places = pci.addresses()
    edu = places["edu"]
    whole: dict[str, Any] = {"release": platform.release(), "seed": seed, "parts": {}}
    say(f"seed {seed} on {platform.release()}")

    def part(name: str, action: Callable[[], Any]) -> None:
        if only and name not in only:
            return
        begin = time.monotonic()
        say(name)
        try:
            whole["parts"][name] = action()
        except Exception as error:  # noqa: BLE001 - it is written down
            say(f"  {type(error).__name__}: {error}")
            whole["parts"][name] = {"error": f"{type(error).__name__}: {error}"}
        whole[f"{name}_seconds"] = time.monotonic() - begin
        (directory / "result.json").write_text(json.dumps(whole))
        say(f"{name} took {whole[f'{name}_seconds']:.1f} s")

    part("kills", lambda: killed.kills(directory, Random(seed), edu))  # noqa: S311
    part("out_of_memory", lambda: killed.out_of_memory(directory))
    pci.run("modprobe", "pci-stub")
    part("full_disk", lambda: full_disk(directory, edu))
    with Watcher(*OPTIONS, port=PORT, log=directory / "main.log") as watcher:
        faults = Faults(watcher, places)
        for name in (
            *("second", "clock", "descriptors", "cpus", "unplugged", "races"),
            "suspended",
        ):
            part(name, partial(faults.around, getattr(faults, name)))
        part("storm", lambda: faults.around(lambda: faults.storm(seconds)))
        part("stopped", watcher.stop)
    return 0


if __name__ == "__main__":
    sys.exit(
        main(Path(sys.argv[1]), int(sys.argv[2]), float(sys.argv[3]), *sys.argv[4:])
    )

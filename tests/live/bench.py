"""What observing costs, beside what it would by other tools: in a guest, as root.

python -m live.bench DIRECTORY measures and writes down; tests/bench/cost.py makes rows
of it. Every figure of ours and of a peer is of the same machine within minutes, and of
several rounds the best counts: the machine below may be busy.
"""

from __future__ import annotations

import contextlib
import ctypes as ct
import json
import os
import platform
import re
import signal
import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Self

from live import pci
from live.scenario import MATCHLOAD, METHODS, Result, say
from live.watcher import COMMAND, HOST, Watcher
from observer import kernel

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

PEERS: Final = Path(__file__).resolve().parents[1] / "bench" / "peers"
DRIVERS: Final = 300
CALLS: Final = 100_000
MANY_CALLS: Final = 1_000_000
ATTACHES: Final = 3
ROUNDS: Final = 2
TURNS: Final = 4
REGISTRATIONS: Final = 10  # in each turn, unobserved and observed
SECONDS: Final = 120
QUIET_SECONDS: Final = 2.0
IDLE_SECONDS: Final = 60
QUIET_AFTER_SECONDS: Final = 70  # for a minute the daemon looks more often
HOOKED: Final = Path("/sys/kernel/tracing/enabled_functions")
# Longer texts do not fit on its stack; that is what it has for all of them.
_BPFTRACE: Final = ("env", "BPFTRACE_STRLEN=32", "bpftrace")
# bcc looks for kernel headers, of which those that our programs need are enough.
_STUB: Final = Path(__file__).resolve().parents[2] / "bpf" / "stub"
_DEBIANS_PYTHON: Final = ("env", f"BCC_KERNEL_SOURCE={_STUB}", "/usr/bin/python3")
# Buffers in which the whole burst has room, so that every event is printed.
LARGE: Final = ("bpftrace, large buffer", "bcc, large buffer")
_PAGES: Final = 16384
_BPFTRACE_LARGE: Final = (
    *("env", "BPFTRACE_STRLEN=32", f"BPFTRACE_PERF_RB_PAGES={_PAGES}", "bpftrace"),
)
_DEBIANS_PYTHON_LARGE: Final = (
    *("env", f"BCC_KERNEL_SOURCE={_STUB}", f"PAGES={_PAGES}", "/usr/bin/python3"),
)
_MODULE: Final = "kernel/drivers/pci/pci-stub.ko"
_FINIT_MODULE, _DELETE_MODULE = 313, 176
_HEAVY: Final = re.compile(
    "nouveau|radeon|amdgpu|i915|xe|vmw|qxl|bochs|cirrus|ast|mgag200|gma500|hyperv"
)


def modprobe_until(drivers: int) -> None:
    """Load modules of PCI drivers until there are so many; none that draws."""
    aliases = Path("/lib/modules", platform.release(), "modules.alias").read_text()
    names = sorted(set(re.findall(r"(?m)^alias pci:\S+ (\S+)$", aliases)))
    for name in names:
        if len(pci.drivers()) >= drivers:
            return
        if not _HEAVY.match(name):
            subprocess.run(
                ["modprobe", "-q", name], check=False, timeout=60, capture_output=True
            )


class Tool:
    """Something that traces the kernel; a context manager that ends it."""

    def __init__(self, name: str, command: Sequence[str | Path], out: Path) -> None:
        """Start it; wait until pci_match_device is hooked."""
        self.name = name
        self._out = out / f"{name}.out"
        self._error = out / f"{name}.err"
        begin = time.monotonic()
        with self._out.open("wb") as told, self._error.open("wb") as error:
            self._process = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=told, stderr=error
            )
        while not hooked():
            if self._process.poll() is not None:
                raise RuntimeError(f"{name}: {self._error.read_text()[-2000:]}")
            time.sleep(0.02)
        self.attach_seconds = time.monotonic() - begin

    @property
    def process(self) -> Path:
        """Return where the kernel tells of the process."""
        return Path("/proc", str(self._process.pid))

    def lost(self) -> int:
        """Sum up what the tool says that it lost."""
        text = self._out.read_text() + self._error.read_text()
        return sum(map(int, re.findall(r"Lost (\d+) events", text)))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._process.send_signal(signal.SIGKILL)
        self._process.wait()
        until(lambda: not hooked())


def hooked() -> bool:
    """Tell whether anything is attached to pci_match_device."""
    return "pci_match_device" in HOOKED.read_text()


def until(done: Any) -> None:  # noqa: ANN401 - a condition
    """Wait for something."""
    deadline = time.monotonic() + SECONDS
    while not done() and time.monotonic() < deadline:
        time.sleep(0.1)


def cpu_seconds(process: Path) -> float:
    """Return what all threads have used so far.

    To the nanosecond: ticks would count whoever wakes up by a timer for a whole one.
    """
    spent = 0
    for thread in (process / "task").iterdir():
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):
            spent += int((thread / "schedstat").read_text().split()[0])
    return spent / 1e9


def rss_mb(process: Path) -> float:
    """Return how much memory is resident, in units of 1,000,000 bytes."""
    return int((process / "statm").read_text().split()[1]) * 4096 / 1e6


def wakeups(process: Path) -> dict[str, int]:
    """Return how often the main thread, and the others, ran after they had waited."""
    found = {"the main thread": 0, "the other threads": 0}
    for thread in (process / "task").iterdir():
        status = (thread / "status").read_text()
        count = re.search(r"(?m)^voluntary_ctxt_switches:\t(\d+)", status)
        main = thread.name == process.name
        name = "the main thread" if main else "the other threads"
        found[name] += int(count[1]) if count else 0
    return found


def programs() -> tuple[int, int]:
    """Return nanoseconds and calls of the programs at pci_match_device."""
    told = subprocess.run(
        ["bpftool", "--json", "prog", "show"], capture_output=True, check=True
    )
    ours = [
        each
        for each in json.loads(told.stdout)
        if re.search("pci_match_dev|^enter$|^leave$", each.get("name", ""))
        or re.search("(enter|leave)_pci_match", each.get("name", ""))
    ]
    spent = sum(each.get("run_time_ns", 0) for each in ours)
    calls = max((each.get("run_cnt", 0) for each in ours), default=0)
    return spent, calls


def settled(process: Path) -> None:
    """Wait until the process has had nothing to do for a while."""
    deadline = time.monotonic() + SECONDS
    before = -1.0
    while time.monotonic() < deadline:
        now = cpu_seconds(process)
        if now - before < QUIET_SECONDS * 0.1:
            return
        before = now
        time.sleep(QUIET_SECONDS)


def make_calls(calls: int) -> int:
    """Have so many calls made as fast as the kernel can; return how many.

    Each write makes the kernel ask all drivers about a device that none of them takes.
    """
    each = len(pci.drivers())
    number = -(-calls // each)
    device = next(a for a in pci.devices() if pci.ids(a) == pci.ROLES["edu"])
    subprocess.run(
        [MATCHLOAD, "probe", device, str(number)], check=True, capture_output=True
    )
    return number * each


def burst(process: Path, calls: int = CALLS) -> Result:
    """Make many calls; return what they cost the kernel and the process."""
    make_calls(1)  # what is done but once
    settled(process)
    cpu, (spent, seen) = cpu_seconds(process), programs()
    made = make_calls(calls)
    settled(process)
    spent_after, seen_after = programs()
    return {
        "calls": made,
        "program_ns": (spent_after - spent) / max(1, seen_after - seen),
        "program_calls": seen_after - seen,
        "cpu_seconds": cpu_seconds(process) - cpu,
        "rss_mb": rss_mb(process),
    }


class Bench:
    """The parts, in order; each gives a result."""

    def __init__(self, directory: Path) -> None:
        """Write into `directory`."""
        self.directory = directory
        self._port = 9817
        offsets = kernel.running_layout().offsets
        names = ("DRV_NAME", "DEV_NAME", "DEV_VENDOR", "DEV_CLASS", "DEV_OVERRIDE")
        prints = [f"-D{name}={offsets[name]}" for name in names]
        self.peers: dict[str, tuple[str | Path, ...]] = {
            "bpftrace fentry": (*_BPFTRACE, PEERS / "fentry.bt"),
            "bpftrace kprobe": (*_BPFTRACE, PEERS / "kprobe.bt"),
            "bpftrace one-liner": (*_BPFTRACE, PEERS / "one_liner.bt"),
            "bcc": (*_DEBIANS_PYTHON, PEERS / "prints.py", *prints),
            LARGE[0]: (*_BPFTRACE_LARGE, PEERS / "kprobe.bt"),
            LARGE[1]: (*_DEBIANS_PYTHON_LARGE, PEERS / "prints.py", *prints),
        }

    def ours(self, *arguments: str) -> tuple[str | Path, ...]:
        """Return the command that observes."""
        self._port += 1
        listen = f"{HOST}:{self._port}"
        socket = f"/run/observer-{self._port}.sock"
        options = ("--no-state", "--log-level", "warning", "--socket", socket)
        return (COMMAND, "run", "--listen", listen, *options, *arguments)

    def attach(self) -> Result:
        """Measure how long it takes from the start to the hook."""
        seconds: dict[str, list[float]] = {}
        for _ in range(ATTACHES):
            commands = {f"ours {m}": self.ours("--attach", m) for m in METHODS}
            commands |= {f"bpftrace {m}": self.peers[f"bpftrace {m}"] for m in METHODS}
            commands["ours compiled"] = self.ours("--attach", "kprobe", "--compile")
            for name, command in commands.items():
                with Tool(name, command, self.directory) as tool:
                    seconds.setdefault(name, []).append(tool.attach_seconds)
                    settled(tool.process)
        return {name: statistics.median(each) for name, each in seconds.items()}

    def bursts(self) -> Result:
        """Measure 100,000 calls with each tool, the best of some rounds."""
        found: dict[str, list[Result]] = {}
        for _ in range(ROUNDS):
            for method in METHODS:
                found.setdefault(f"ours {method}", []).append(self._our_burst(method))
                name = f"bpftrace {method}"
                found.setdefault(name, []).append(self._peers_burst(name))
            for name in ("bpftrace one-liner", "bcc", *LARGE):
                found.setdefault(name, []).append(self._peers_burst(name))
        return {
            name: {
                "calls": rounds[0]["calls"],
                **{
                    key: min(each[key] for each in rounds)  # type: ignore[type-var]
                    for key in rounds[0]
                    if key != "calls"
                },
            }
            for name, rounds in found.items()
        }

    def _our_burst(self, method: str) -> Result:
        self._port += 1
        socket = f"/run/observer-{self._port}.sock"
        options = ("--no-state", "--socket", socket, "--attach", method)
        log = self.directory / "ours.log"
        with Watcher(*options, port=self._port, log=log) as watcher:
            at_rest = rss_mb(watcher.process)
            made = burst(watcher.process)
            metrics = watcher.metrics()
        say(f"  ours {method}: {made}")
        lost = sum(v for k, v in metrics.items() if k.startswith("events_lost_total"))
        return made | {"rss_at_rest_mb": at_rest, "lost": lost}

    def _peers_burst(self, name: str) -> Result:
        with Tool(name, self.peers[name], self.directory) as tool:
            settled(tool.process)
            at_rest = rss_mb(tool.process)
            made = burst(tool.process)
            say(f"  {name}: {made}")
            return made | {"rss_at_rest_mb": at_rest, "lost": tool.lost()}

    def registrations(self) -> Result:
        """Measure how long a driver's registration takes, unobserved and observed."""
        subprocess.run(["modprobe", "-r", "pci-stub"], check=True)
        module = Path("/lib/modules", platform.release(), _MODULE)
        off: list[tuple[float, float]] = []
        on: list[tuple[float, float]] = []
        for _ in range(TURNS):
            off += registered(module)
            with self._observer("--attach", "auto"):
                on += registered(module)
        subprocess.run(["modprobe", "pci-stub"], check=True)
        return {
            f"{name}_{what}_ms": min(each[place] for each in measured) * 1e3
            for name, measured in (("off", off), ("on", on))
            for place, what in enumerate(("elapsed", "cpu"))
        }

    @contextlib.contextmanager
    def _observer(self, *arguments: str) -> Iterator[Watcher]:
        self._port += 1
        socket = f"/run/observer-{self._port}.sock"
        options = ("--no-state", "--socket", socket, *arguments)
        log = self.directory / "ours.log"
        with Watcher(*options, port=self._port, log=log) as watcher:
            yield watcher

    def rest(self) -> Result:
        """Measure a minute of nothing, then a million calls."""
        with self._observer() as watcher:
            settled(watcher.process)
            time.sleep(QUIET_AFTER_SECONDS)
            cpu, woken = cpu_seconds(watcher.process), wakeups(watcher.process)
            time.sleep(IDLE_SECONDS)
            used = cpu_seconds(watcher.process) - cpu
            after = wakeups(watcher.process)
            at_rest = rss_mb(watcher.process)
            made = burst(watcher.process, MANY_CALLS)
            metrics = watcher.metrics()
        return {
            "idle_seconds": IDLE_SECONDS,
            "idle_cpu_seconds": used,
            "wakeups": {name: after[name] - woken[name] for name in after},
            "rss_at_rest_mb": at_rest,
            "rss_after_mb": made["rss_mb"],
            "calls": made["calls"],
            "metrics": metrics,
        }


def registered(module: Path) -> list[tuple[float, float]]:
    """Load and unload a module some times; return how long each loading took.

    In seconds that went by, and in seconds of this thread alone: the only processor
    may turn to the daemon meanwhile.
    """
    libc = ct.CDLL(None, use_errno=True)
    seconds = []
    for _ in range(REGISTRATIONS):
        file = os.open(module, os.O_RDONLY | os.O_CLOEXEC)
        begin, spent = time.perf_counter(), time.thread_time()
        done = libc.syscall(_FINIT_MODULE, file, b"", 0)
        seconds.append((time.perf_counter() - begin, time.thread_time() - spent))
        os.close(file)
        if done or libc.syscall(_DELETE_MODULE, b"pci_stub", os.O_NONBLOCK):
            raise OSError(ct.get_errno(), f"{module}: {os.strerror(ct.get_errno())}")
        time.sleep(0.02)
    return seconds


def main(directory: Path) -> int:
    """Run all parts."""
    pci.run("ip", "link", "set", "lo", "up")
    pci.run("udevadm", "settle", "--timeout=60")
    Path("/proc/sys/kernel/bpf_stats_enabled").write_text("1")
    modprobe_until(DRIVERS)
    pci.run("modprobe", "pci-stub")
    bench = Bench(directory)
    result: Result = {
        "release": platform.release(),
        "devices": len(pci.devices()),
        "drivers": len(pci.drivers()),
    }
    say(f"{result['devices']} devices, {result['drivers']} drivers")
    for part in (bench.attach, bench.bursts, bench.registrations, bench.rest):
        begin = time.monotonic()
        result[part.__name__] = part()
        say(f"{part.__name__} took {time.monotonic() - begin:.0f} s")
        say(f"  {result[part.__name__]}")
        (directory / "result.json").write_text(json.dumps(result))
    return 0


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))

"""What observing costs a kernel, beside bpftrace and a tool of bcc, in a guest.

Emulation makes times mean nothing by themselves: only ratios of the same run count,
and numbers of events and bytes.
"""

from __future__ import annotations

import compileall
import os
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from lab import devices
from lab.functions import functions
from live.boots import boot
from rows import Row

if TYPE_CHECKING:
    from collections.abc import Iterator

KERNEL: Final = os.environ.get("PCI_OBSERVER_BENCH_KERNEL", "6.1")
FUNCTIONS: Final = 190  # with what else is there some 200 devices
MB: Final = "MB"
ROOT: Final = Path(__file__).resolve().parents[2]


def rows() -> Iterator[Row]:
    """Boot a guest with 200 devices and 300 drivers, and measure in it."""
    # As an installed package is: guests write nothing here.
    compileall.compile_dir(ROOT / "observer", quiet=1)
    with tempfile.TemporaryDirectory() as directory:
        measured = boot(
            KERNEL,
            "live.bench",
            Path(directory),
            _say,
            qemu_args=(*devices.DRIVERLESS, *functions(FUNCTIONS)),
            append="",
        )
    bursts = measured["bursts"]
    yield from _attach(measured["attach"])
    yield from _calls(bursts)
    yield from _registration(measured["registrations"])
    yield from _bursts(bursts)
    yield from _memory(bursts, measured["rest"])
    yield from _idle(measured["rest"])


def _attach(seconds: dict[str, float]) -> Iterator[Row]:
    for method in ("fentry", "kprobe"):
        ours, peer = seconds[f"ours {method}"], seconds[f"bpftrace {method}"]
        yield Row(f"start to attached, {method}", "s", ours, peer, most_ratio=0.25)
    ours, peer = seconds["ours compiled"], seconds["bpftrace kprobe"]
    yield Row("start to attached, compiled there", "s", ours, peer, most_ratio=1.5)


def _calls(bursts: dict[str, Any]) -> Iterator[Row]:
    for method in ("fentry", "kprobe"):
        ours, peer = (
            bursts[f"{who} {method}"]["program_ns"] for who in ("ours", "bpftrace")
        )
        name = f"added per call, {method}, the same fields"
        yield Row(name, "ns", ours, peer, most_ratio=0.5)
    ours = bursts["ours fentry"]["program_ns"]
    peer = bursts["bpftrace one-liner"]["program_ns"]
    yield Row("added per call, fentry, a one-liner", "ns", ours, peer)


def _registration(found: dict[str, float]) -> Iterator[Row]:
    for what in ("elapsed", "cpu"):
        ours, peer = found[f"on_{what}_ms"], found[f"off_{what}_ms"]
        name = f"a driver's registration, observed, {what}"
        yield Row(name, "ms", ours, peer, most_ratio=1.05)


def _bursts(bursts: dict[str, Any]) -> Iterator[Row]:
    for method in ("fentry", "kprobe"):
        lost = f"burst of {bursts['bcc']['calls']:,} calls, {method}: lost"
        ours, peer = bursts[f"ours {method}"], bursts[f"bpftrace {method}"]
        yield Row(lost, "events", ours["lost"], peer["lost"], most=0)
    cpu = min(
        bursts[f"ours {method}"]["cpu_seconds"] for method in ("fentry", "kprobe")
    )
    for name, most in (("bcc", 0.1), ("bpftrace", 1.0)):
        peer = bursts[f"{name}, large buffer"]
        label = f"burst, CPU of the user-space side, beside {name}"
        yield Row(label, "s", cpu, peer["cpu_seconds"], most_ratio=most)
        yield Row(f"the same, what {name} lost of it", "events", peer["lost"])


def _memory(bursts: dict[str, Any], rest: dict[str, Any]) -> Iterator[Row]:
    ours = rest["rss_at_rest_mb"]
    for name in ("bpftrace kprobe", "bcc"):
        peer = bursts[name]["rss_at_rest_mb"]
        yield Row(f"RSS at rest, beside {name}", MB, ours, peer, most=30)
    after = f"RSS after {rest['calls']:,} calls"
    yield Row(after, MB, rest["rss_after_mb"], bursts["bcc"]["rss_mb"], most=45)


def _idle(rest: dict[str, Any]) -> Iterator[Row]:
    share = 100 * rest["idle_cpu_seconds"] / rest["idle_seconds"]
    yield Row("at rest, CPU", "% of one", share, most=0.1)
    minute = 60 / rest["idle_seconds"]
    for name, count in rest["wakeups"].items():
        yield Row(f"at rest, wake-ups of {name}", "a minute", count * minute)


def _say(text: str) -> None:
    sys.stderr.write(f"{text}\n")


if __name__ == "__main__":
    for row in rows():
        print(row, row.ratio, row.missed)

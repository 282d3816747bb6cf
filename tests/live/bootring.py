"""What was decided at boot, in a guest, as root: python -m live.bootring DIRECTORY.

The kernel was started with the words of `boot-args`. A few things happen before the
observer starts, as an initramfs may do them. Then it starts three times: with the
recording of the boot, with one of another kernel, and while decisions are made all the
time. What must come of it is for tests/test_boot_live.py to say.
"""

from __future__ import annotations

import contextlib
import json
import os
import platform
import subprocess
import sys
import threading
import time
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from live import pci
from live.watcher import COMMAND, Watcher
from observer import boot_args, kernel, tracefs
from observer.btf import Btf
from observer.layout import layout_of
from observer.tracefs import TracefsError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from observer.layout import Layout

PORT: Final = 9917
TRACING: Final = Path("/sys/kernel/tracing")
BTF: Final = Path(__file__).resolve().parents[1] / "btf"
# Of each way to probe one kernel that has it, and another one.
OTHERS: Final = ("6.19.8+deb13-amd64", "7.0.7+deb13-amd64", "5.10.0-46-amd64")
COUNTER: Final = TRACING / "instances" / "lab"
PAUSE_SECONDS: Final = 0.2  # between the writes of the storm
SETTLE_SECONDS: Final = 1
TOO_LONG: Final = "x" * 4000
_OTHERS_EVENT: Final = "sched:sched_process_exit"


def before(edu: str, testdev: str) -> None:
    """Do what an initramfs may do: dynids, an override, a driver that leaves."""
    pci.run("ip", "link", "set", "lo", "up")
    pci.run("modprobe", "pci-stub", "ids=1234:11e8,1234:11e9")
    pci.write(f"devices/{testdev}/driver_override", "pci-stub")
    pci.write("drivers/pci-stub/bind", testdev)
    pci.run("modprobe", "tulip")
    pci.run("modprobe", "-r", "tulip")
    pci.run("udevadm", "settle", "--timeout=60")
    if pci.driver_of(edu) != "pci-stub" or pci.driver_of(testdev) != "pci-stub":
        raise AssertionError("the devices are not bound as they must be")


def hits() -> dict[str, int]:
    """Read the kernel's own counts of events."""
    lines = (TRACING / "kprobe_profile").read_text().splitlines()
    return {name: int(count) for name, count, _ in map(str.split, lines)}


def bound() -> dict[str, str | None]:
    """Return the driver of each device that has one."""
    found = {address: pci.driver_of(address) for address in pci.devices()}
    return {address: driver for address, driver in found.items() if driver}


def tracing() -> dict[str, str]:
    """Read what the observer must leave as if nothing had been recorded."""
    names = ("kprobe_events", "set_event", "buffer_size_kb", "current_tracer")
    return {name: (TRACING / name).read_text().strip() for name in names}


def arm(definitions: Sequence[str], *, needed: bool) -> None:
    """Define events now as the kernel does at boot, where a bad one is left out."""
    (TRACING / "buffer_size_kb").write_text("2048")
    (TRACING / "trace_clock").write_text(boot_args.CLOCK)
    for definition in definitions:
        with contextlib.nullcontext() if needed else contextlib.suppress(OSError):
            _append("kprobe_events", f"{definition}\n")
    group = definitions[0].split(":")[1].split("/")[0]
    _append("set_event", f"{group}:*\n")


def _append(name: str, text: str) -> None:
    descriptor = os.open(TRACING / name, os.O_WRONLY | os.O_APPEND)
    try:
        os.write(descriptor, text.encode())
    finally:
        os.close(descriptor)


def stale(layout: Layout) -> list[str]:
    """Return the events of a kernel that differs from this one."""
    ours = boot_args.group(layout)
    layouts = [layout_of(Btf((BTF / f"{name}.btf").read_bytes())) for name in OTHERS]
    return next(
        boot_args.definitions(other)
        for other in layouts
        if boot_args.group(other) != ours
    )


@contextmanager
def storm(address: str) -> Iterator[None]:
    """Have a device without a driver offered to all drivers, again and again."""
    ending = threading.Event()

    def write() -> None:
        while not ending.wait(PAUSE_SECONDS):
            pci.write("drivers_probe", address)

    thread = threading.Thread(target=write)
    thread.start()
    try:
        yield
    finally:
        ending.set()
        thread.join()


def explain(address: str) -> dict[str, Any]:
    """Ask the observer about a device."""
    words = [str(COMMAND), "explain", address, "--json"]
    done = subprocess.run(words, capture_output=True, text=True, check=True)
    told: dict[str, Any] = json.loads(done.stdout)
    return told


def recorded(directory: Path, named: dict[str, str]) -> dict[str, Any]:
    """Start it after the boot was recorded."""
    result: dict[str, Any] = {
        "hits": hits(),
        "armed": tracing(),
        "started": time.time(),
        "started_ns": time.monotonic_ns(),
    }
    log, recording = directory / "boot.log", directory / "boot.jsonl.gz"
    with Watcher("--record", str(recording), port=PORT, log=log) as watcher:
        result |= {
            "seconds": watcher.attach_seconds,
            "metrics": watcher.metrics(),
            "rss_kb": watcher.state()["rss_kb"],
            "bound": bound(),
            "explained": {role: explain(named[role]) for role in ("edu", "nic")},
            "tracing": tracing(),
            "stopped": watcher.stop(),
        }
    return result


def refused(directory: Path, layout: Layout) -> dict[str, Any]:
    """Start it while events of another kernel are armed."""
    definitions = stale(layout)
    arm(definitions, needed=False)
    result: dict[str, Any] = {
        "group": definitions[0].split(":")[1].split("/")[0],
        "started": time.time(),
        "armed": tracing(),
    }
    with Watcher(port=PORT, log=directory / "stale.log") as watcher:
        result |= {
            "metrics": watcher.metrics(),
            "rss_kb": watcher.state()["rss_kb"],
            "bound": bound(),
            "tracing": tracing(),
            "stopped": watcher.stop(),
        }
    return result


def stormed(directory: Path, layout: Layout, address: str) -> dict[str, Any]:
    """Start it while decisions are made, each counted by an event elsewhere."""
    pci.write(f"devices/{address}/driver_override", "\n")
    pci.write("drivers/pci-stub/unbind", address)
    arm(boot_args.definitions(layout), needed=True)
    _append("kprobe_events", "p:lab/all pci_match_device\n")
    COUNTER.mkdir()
    (COUNTER / "events/lab/all/enable").write_text("1")
    # An event with such a text is too long for the ring: each driver's is lost.
    pci.write(f"devices/{address}/driver_override", TOO_LONG)
    pci.write("drivers_probe", address)
    pci.write(f"devices/{address}/driver_override", "\n")
    with storm(address):
        watcher = Watcher(port=PORT, log=directory / "storm.log")
        time.sleep(SETTLE_SECONDS)
    with watcher:
        time.sleep(SETTLE_SECONDS)
        result = {
            "calls": hits()["all"],
            "too_long": len(pci.drivers()),
            "metrics": watcher.metrics(),
        }
    (COUNTER / "events/lab/all/enable").write_text("0")
    COUNTER.rmdir()
    _append("kprobe_events", "-:lab/all\n")
    return result


def shared(layout: Layout) -> dict[str, Any]:
    """Take a recording while others trace: theirs must not suffer."""
    arm(boot_args.definitions(layout), needed=True)
    _append("set_event", f"{_OTHERS_EVENT}\n")
    result: dict[str, Any] = {"event": _OTHERS_EVENT, "before": tracing()}
    try:
        tracefs.take(layout)
    except TracefsError as e:
        result["sentence"] = str(e)
    result["after"] = tracing()
    return result


def main(directory: Path) -> int:
    """Do it all."""
    named = pci.addresses()
    before(named["edu"], named["testdev"])
    layout = kernel.running_layout()
    result = {
        "release": platform.release(),
        "places": named,
        "recorded": recorded(directory, named),
        "refused": refused(directory, layout),
        "stormed": stormed(directory, layout, named["testdev"]),
        "shared": shared(layout),
    }
    (directory / "result.json").write_text(json.dumps(result))
    return 0


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))

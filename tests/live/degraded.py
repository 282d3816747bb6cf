"""The observer where hooks are refused, in a guest: python -m live.degraded DIRECTORY.

Refusals are real: a function takes only so many programs, kprobes can be switched off,
files be hidden. What is right is for tests/test_degraded.py to say.
"""

from __future__ import annotations

import contextlib
import json
import os
import platform
import subprocess
import sys
import time
from collections import Counter
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from live import pci
from live.watcher import COMMAND, Watcher
from observer import bpf, kernel, shipped
from observer.attachment import attach
from observer.hooks import METHODS
from observer.live import Live
from observer.pipeline import Pipeline
from observer.record import Judged, Probed, Source

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from observer.record import Observation

PORT: Final = 9817
MANY: Final = 100  # programs, more than any kernel lets a function have
SETTLE_SECONDS: Final = 60
POLL_SECONDS: Final = 0.5
KPROBES: Final = Path("/sys/kernel/debug/kprobes/enabled")
LOCKDOWN: Final = Path("/sys/kernel/security/lockdown")
BTF: Final = Path("/sys/kernel/btf")
BCC: Final = Path("/usr/lib/python3/dist-packages/bcc")
EMPTY: Final = Path("/run/empty")
NOWHERE: Final = "nobody"  # a driver that is not there

ROOT: Final = str(shipped.BPF_DIR.parent)
REFUSING: Final = """\
import errno, sys
refused = {!r}
sys.path.append({!r})
from observer import bpf
attach = bpf.attach
def attach_others(program, function, **how):
    if function in refused:
        raise bpf.BpfError(errno.EBUSY, "attaching: refused by a test")
    return attach(program, function, **how)
bpf.attach = attach_others
from observer.loader import main
main()
"""

Told = dict[str, Any]


@contextmanager
def crowded(*functions: str) -> Iterator[None]:
    """Give functions as many programs as they take, so that fentry is refused."""
    btf = kernel.read_btf()
    held: list[int] = []
    for function in functions:
        function_id = btf.function(function) or 0
        with contextlib.suppress(bpf.BpfError):
            for _ in range(MANY):
                program = bpf.load(
                    *("crowd", bpf._TRIAL),  # noqa: SLF001
                    method="fentry",
                    leave=True,
                    function_id=function_id,
                )
                held.append(program)
                held.append(bpf.attach_fentry(program))
    try:
        yield
    finally:
        for descriptor in reversed(held):
            os.close(descriptor)


@contextmanager
def without_kprobes() -> Iterator[None]:
    """Switch all kprobes off: they can be attached, and never run."""
    KPROBES.write_text("0")
    try:
        yield
    finally:
        KPROBES.write_text("1")


@contextmanager
def hidden(*paths: Path) -> Iterator[None]:
    """Let directories be empty and files hold nothing, for all processes."""
    EMPTY.mkdir(exist_ok=True)
    for path in paths:
        over = EMPTY if path.is_dir() else Path(os.devnull)
        assert not pci.run("mount", "--bind", str(over), str(path))
    try:
        yield
    finally:
        for path in paths:
            assert not pci.run("umount", str(path))


@contextmanager
def inlined(function: str) -> Iterator[None]:
    """Let this kernel's types have no such function."""
    types = BTF / "vmlinux"
    other = Path("/run/types")
    name = function.encode()
    other.write_bytes(
        types.read_bytes().replace(b"\0%b\0" % name, b"\0%b\0" % name[::-1])
    )
    assert not pci.run("mount", "--bind", str(other), str(types))
    try:
        yield
    finally:
        assert not pci.run("umount", str(types))


def command(*arguments: str) -> Told:
    """Run the command to its end."""
    done = subprocess.run(
        [COMMAND, *arguments],
        check=False,
        capture_output=True,
        text=True,
        stdin=subprocess.DEVNULL,
        timeout=SETTLE_SECONDS,
    )
    return {"status": done.returncode, "out": done.stdout, "err": done.stderr}


def wait_for(
    watcher: Watcher, wanted: Callable[[dict[str, float]], object]
) -> dict[str, float]:
    """Scrape until something is there, or it takes too long."""
    until = time.monotonic() + SETTLE_SECONDS
    metrics = watcher.metrics()
    while not wanted(metrics) and time.monotonic() < until:
        time.sleep(POLL_SECONDS)
        metrics = watcher.metrics()
    return metrics


def bound_to(metrics: dict[str, float], address: str) -> str:
    """Return the driver of a device as metrics tell it."""
    for name in metrics:
        if name.startswith("device_driver_info") and f'address="{address}"' in name:
            return name.partition('driver="')[2].partition('"')[0]
    return ""


def bind(edu: str) -> None:
    """Give a device to pci-stub by its override."""
    pci.write(f"devices/{edu}/driver_override", "pci-stub\n")
    pci.write("drivers_probe", f"{edu}\n")


def release(edu: str) -> None:
    """Take it away again, and leave an override behind that names no driver."""
    pci.write("drivers/pci-stub/unbind", f"{edu}\n")
    pci.write(f"devices/{edu}/driver_override", f"{NOWHERE}\n")


def observed(
    edu: str, directory: Path, *, less: bool = False, stale: bool = False
) -> Told:
    """Observe a bind and an unbind; return what was told, the log included.

    With `less` a person is told, too; with `stale` wait for what sysfs alone shows.
    """
    told: Told = {}
    log = directory / "log"
    with Watcher(port=PORT, log=log) as watcher:
        told["start"] = watcher.metrics()
        bind(edu)
        told["bound"] = wait_for(watcher, lambda m: bound_to(m, edu) == "pci-stub")
        told["driver"] = bound_to(told["bound"], edu)
        release(edu)
        finding = f'device_finding{{address="{edu}",finding="stale_override"}}'
        told["end"] = wait_for(
            watcher,
            lambda m: not bound_to(m, edu) and (not stale or m.get(finding)),
        )
        told["stale"] = told["end"].get(finding, 0)
        if less:
            told["status"] = command("status", "--once")
        told["doctor"] = command("doctor")
        told["stopped"] = watcher.stop()
    told["log"] = [json.loads(line) for line in log.read_text().splitlines()]
    pci.write(f"devices/{edu}/driver_override", "\n")
    return told


def by_fallbacks(edu: str, method: str, functions: list[str]) -> Told:
    """Attach where these functions are refused; return what a bind looks like then.

    No kernel refuses a kprobe there that takes one on their callers, so the loader is
    made to.
    """
    code = REFUSING.format(functions, ROOT)
    loader = (sys.executable, "-P", "-S", "-c", code)
    arguments = ("--attach", method, "--no-digests")
    attachment = attach(arguments, command=loader)
    live = Live(attachment)
    seen: list[Observation] = []
    pipeline = Pipeline(attachment.layout.semantics, (seen.append,))
    bind(edu)
    pci.write("drivers/pci-stub/unbind", f"{edu}\n")
    pci.write("drivers/pci-stub/bind", f"{edu}\n")
    release(edu)
    pci.write(f"devices/{edu}/driver_override", "\n")
    attachment.detach()
    while live.pending():
        for record in live.poll(0):
            pipeline.feed(record)
    matches = Counter(
        f"{each.match.outcome.match} {each.judgement} {each.match.seen}"
        for each in seen
        if isinstance(each, Judged)
    )
    return {
        "hooks": attachment.hooks,
        "methods": attachment.methods,
        "matches": matches,
        "matched": [
            [each.match.address, each.match.inputs.driver.name]
            for each in seen
            if isinstance(each, Judged) and each.match.outcome.match is not Source.NONE
        ],
        "probes": [
            [*each.probe[3:4], each.probe.name, each.probe.result, each.probe.seen]
            for each in seen
            if isinstance(each, Probed)
        ],
        "kinds": [each.kind for each in seen if isinstance(each, Probed)],
        "counters": live.counters._asdict(),
    }


def started(directory: Path) -> Told:
    """Start and stop; return what was told, the log included."""
    log = directory / "log"
    with Watcher(port=PORT, log=log) as watcher:
        metrics = watcher.metrics()
        stopped = watcher.stop()
    lines = [json.loads(line) for line in log.read_text().splitlines()]
    doctor = command("doctor")
    return {"start": metrics, "stopped": stopped, "log": lines, "doctor": doctor}


def parts(
    edu: str, probe_function: str, directory: Path
) -> Iterator[tuple[str, Callable[[], Told]]]:
    """Take away one thing after the other; yield its name and how to tell of it."""
    watched, start = partial(observed, edu, directory), partial(started, directory)
    functions = ["pci_match_device", probe_function]
    with crowded(probe_function):
        yield "busy_probe", watched
    with without_kprobes():
        yield "no_kprobes", start
        with crowded("pci_match_device"):
            with crowded(probe_function):
                yield "busy_match", partial(watched, less=True)
            with crowded("pci_bus_match"):
                yield "audit", partial(watched, less=True, stale=True)
    for method in METHODS:
        yield f"{method}_fallbacks", partial(by_fallbacks, edu, method, functions)
    with inlined("pci_match_device"):
        yield "no_function", start
    with hidden(BTF):
        yield "no_types", start
    machine = platform.machine()
    programs = [shipped.BPF_DIR / shipped.name(each, machine) for each in METHODS]
    with hidden(BCC, *programs):
        yield "no_programs", start
    LOCKDOWN.write_text("confidentiality")
    yield "locked_down", start


def main(directory: Path) -> int:
    """Go through it all."""
    pci.run("ip", "link", "set", "lo", "up")
    pci.run("udevadm", "settle", "--timeout=60")
    pci.run("modprobe", "pci-stub")
    edu = pci.addresses()["edu"]
    probe_function = kernel.running_layout().probe_function
    result: Told = {
        "release": platform.release(),
        "edu": edu,
        "probe_function": probe_function,
        "preempts": kernel.preempts(),
    }
    for name, tell in parts(edu, probe_function, directory):
        begin = time.monotonic()
        result[name] = tell()
        print(f"{name}: {time.monotonic() - begin:.0f} s", flush=True)
        (directory / "result.json").write_text(json.dumps(result))
    return 0


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))

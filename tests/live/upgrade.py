"""One host under one kernel after another: python -m live.upgrade DIRECTORY PLAN.

In a guest, as root. What the observer keeps lies on a disk of its own, as on a host;
PLAN is JSON, a `Plan`. tests/test_upgrade.py says what is right.
"""

from __future__ import annotations

import json
import platform
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Final, NamedTuple

from live import pci
from live.glance import ask, labelled
from live.scenario import Result, say
from live.watcher import Watcher

if TYPE_CHECKING:
    from collections.abc import Callable

PORT: Final = 9817
STATE: Final = "/var/lib/pci-observer"
LABEL: Final = "pobs-state"  # of the disk
POLL_SECONDS: Final = 0.5
KEPT_SECONDS: Final = 90  # a picture is kept once it stood for 30
SETTLED_SECONDS: Final = 120
STEADY_SECONDS: Final = 8  # without another finding
CURED_SECONDS: Final = 20

# The devices, by the ids that QEMU gives them.
ROLES: Final = {
    "testdev": ("0x1b36", "0x0005"),
    "edu": ("0x1234", "0x11e8"),
    "nic": ("0x8086", "0x100e"),
    "realtek": ("0x10ec", "0x8139"),
    "vga": ("0x1013", "0x00b8"),
}


class Plan(NamedTuple):
    """What happens under one kernel."""

    before: list[list[str]]  # commands, before the observer starts
    writes: list[list[str]]  # a file below /sys/bus/pci and a text, likewise
    preflight: dict[str, str] = {}  # noqa: RUF012 - directories of modules, by name
    keep: bool = False  # wait until a picture is the baseline
    accept: bool = False  # make the new picture the baseline
    crash: bool = False  # instead of being stopped


def main(directory: Path, plan: Plan) -> int:
    """Run it."""
    pci.run("ip", "link", "set", "lo", "up")
    pci.run("udevadm", "settle", "--timeout=60")
    places = addresses()
    result: Result = {"release": platform.release(), "places": places}
    result["mounted"] = mount()
    result["done"] = [
        *(pci.run(*fill(words, places)) for words in plan.before),
        *(pci.write(*fill(words, places)) for words in plan.writes),
    ]
    watcher = Watcher("--state", STATE, port=PORT, log=directory / "daemon.log")
    say(f"  attached in {watcher.attach_seconds:.1f} s")
    with watcher:
        result |= observe(watcher, places, plan)
        result["metrics"] = watcher.metrics()
        result["state"] = watcher.state()
        if plan.crash:
            watcher.kill()
        else:
            result["stopped"] = watcher.stop()
    result["history"] = ask("history", "--json")
    result["unmounted"] = pci.run("umount", STATE)
    (directory / "result.json").write_text(json.dumps(result))
    return 0


def observe(watcher: Watcher, places: dict[str, str], plan: Plan) -> Result:
    """Wait until all is known and kept, look, and ask what comes next."""
    result: Result = {}
    if plan.keep:
        result["kept_seconds"] = wait(lambda: kept(platform.release()), KEPT_SECONDS)
    result["steady_seconds"] = steady(watcher, expected=not plan.keep)
    result |= {
        "findings": findings(watcher),
        "audit": ask("audit", "--json"),
        "diff": ask("diff", "baseline", "now", "--json"),
        "diff_text": ask("diff", "baseline", "now"),
        "baseline": ask("baseline", "--json"),
        "explained": {role: ask("explain", places[role]) for role in places},
        "preflight": {
            name: {
                "json": ask("preflight", "--modules", modules, "--json"),
                "text": ask("preflight", "--modules", modules),
            }
            for name, modules in plan.preflight.items()
        },
    }
    if plan.accept:
        result["accepted"] = ask("baseline", "--accept")
        result["cured_seconds"] = wait(lambda: not findings(watcher), CURED_SECONDS)
        result["diff_after"] = ask("diff", "baseline", "now", "--json")
    return result


def addresses() -> dict[str, str]:
    """Find the device of each role."""
    ids = {pci.ids(address): address for address in pci.devices()}
    return {role: ids[wanted] for role, wanted in ROLES.items()}


def fill(words: list[str], places: dict[str, str]) -> list[str]:
    """Put addresses in."""
    return [word.format(**places) for word in words]


def mount() -> str:
    """Mount the disk where the observer keeps its state."""
    Path(STATE).mkdir(parents=True, exist_ok=True)
    return pci.run("mount", "-t", "ext4", f"LABEL={LABEL}", STATE)


def findings(watcher: Watcher) -> list[str]:
    """Name the devices that are bound otherwise than before, as the metrics do."""
    samples = labelled(watcher.metrics(), "device_finding")
    return sorted(s["address"] for s in samples if s["finding"] == "binding_changed")


def kept(release: str) -> bool:
    """Tell whether a picture of this kernel is the baseline."""
    told = ask("baseline", "--json")
    baseline = json.loads(str(told["stdout"]) or "{}").get("baseline")
    return baseline is not None and baseline["release"] == release


def steady(watcher: Watcher, *, expected: bool) -> float | None:
    """Wait until no finding came or went for a while; None: there was no such time.

    `expected`: until there are any, before that.
    """
    begin = changed = time.monotonic()
    before: list[str] = []
    while (now := time.monotonic()) < begin + SETTLED_SECONDS:
        found = findings(watcher)
        if found != before:
            before, changed = found, now
        if bool(found) is expected and now - changed > STEADY_SECONDS:
            return now - begin
        time.sleep(POLL_SECONDS)
    return None


def wait(ready: Callable[[], bool], seconds: float) -> float | None:
    """Wait until it is so; return the seconds, None: it never was."""
    begin = time.monotonic()
    while time.monotonic() < begin + seconds:
        if ready():
            return time.monotonic() - begin
        time.sleep(POLL_SECONDS)
    return None


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]), Plan(**json.loads(sys.argv[2]))))

"""The whole machine at a glance, in a guest, as root: python -m live.glance DIRECTORY.

It causes what troubles users, looks, cures it and looks again; what is right is for
tests/test_glance.py to say. Each part's result goes into DIRECTORY/result.json.
"""

from __future__ import annotations

import contextlib
import functools
import io
import json
import platform
import re
import subprocess
import sys
import threading
import time
import traceback
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Self

from live import pci
from live.scenario import Result, say
from live.steps import Run, Write
from live.troubles import AFTER, BEFORE, MOVES, ROLES, TROUBLES, Explained, Shell
from live.watcher import COMMAND, Watcher
from observer import cli, kernel

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from live.troubles import Action, Trouble

PORT: Final = 9817
AUDIT: Final = (str(COMMAND), "audit", "--json")
PATIENCE_SECONDS: Final = 40
POLL_SECONDS: Final = 0.1
SAMPLE: Final = re.compile(r'(\w+)="((?:[^"\\]|\\.)*)"')


def addresses() -> dict[str, str]:
    """Find the device of each role, and the virtual functions it may get."""
    ids = {address: pci.ids(address) for address in pci.devices()}
    found = {}
    for role, (vendor, device, place) in ROLES.items():
        alike = [address for address in ids if ids[address] == (vendor, device)]
        found[role] = alike[place]
    slot = found["nvme"].removesuffix(".0")
    return found | {f"vf{number}": f"{slot}.{number}" for number in range(1, 5)}


def ask(*words: str) -> Result:
    """Run a verb of the command in this process, which saves its start."""
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        try:
            status = cli.main(words)
        except SystemExit as error:
            status = int(error.code or 0)
    return {"status": status, "stdout": out.getvalue(), "stderr": err.getvalue()}


def labelled(metrics: dict[str, float], name: str) -> list[dict[str, str]]:
    """Return the labels of a metric's samples that are not 0."""
    return [
        dict(SAMPLE.findall(key.removeprefix(name)))
        for key, value in metrics.items()
        if key.startswith(f"{name}{{") and value
    ]


def act(actions: Iterable[Action], places: dict[str, str]) -> list[str]:
    """Do what is asked for; return what went wrong, "" where nothing did."""
    outcomes = []
    for action in actions:
        if isinstance(action, Write):
            path = action.path.format(**places)
            outcomes.append(pci.write(path, action.text.format(**places)))
        elif isinstance(action, Run):
            outcomes.append(pci.run(*action.command.format(**places).split()))
        else:
            program = "bash" if isinstance(action, Shell) else "python3"
            text = fill(action.text, places)
            outcomes.append(pci.run(program, "-c", text))
    return outcomes


def fill(text: str, places: dict[str, str]) -> str:
    """Put addresses in; other braces, a shell's, stay."""
    return re.sub(r"\{(\w+)\}", lambda found: places[found[1]], text)


def unsaid(wanted: Explained, text: str, places: dict[str, str]) -> list[str]:
    """Return the expressions that are not found in a text."""
    filled = (fill(expression, places) for expression in wanted.says)
    return [expression for expression in filled if not re.search(expression, text)]


def sysfs() -> dict[str, dict[str, object]]:
    """Read every PCI device by means of our own, to compare with."""
    return {
        address: _device(pci.PCI / "devices" / address) for address in pci.devices()
    }


def _device(path: Path) -> dict[str, object]:
    def text(name: str) -> str | None:
        try:
            return (path / name).read_text().removesuffix("\n")
        except FileNotFoundError:
            return None

    def link(name: str) -> str | None:
        place = path / name
        return place.readlink().name if place.is_symlink() else None

    names = ("vendor", "device", "subsystem_vendor", "subsystem_device", "class")
    numbers = ("sriov_numvfs", "sriov_drivers_autoprobe", "boot_vga")
    override = text("driver_override")
    return {
        "ids": [int(text(name) or "", 16) for name in names],
        "driver": link("driver"),
        "driver_override": None if override in {"(null)", ""} else override,
        "physfn": link("physfn"),
        "iommu_group": link("iommu_group"),
        **{name: text(name) for name in numbers},
    }


def pictured(device: Mapping[str, Any]) -> dict[str, object]:
    """Spell a device of an audit as `sysfs` does."""

    def number(name: str) -> str | None:
        value = device[name]
        return None if value is None else str(int(value))

    names = ("vendor", "device", "subvendor", "subdevice", "class")
    texts = ("driver", "driver_override", "physfn")
    numbers = ("iommu_group", "sriov_numvfs", "sriov_drivers_autoprobe", "boot_vga")
    return {
        "ids": [device["ids"][name] for name in names],
        **{name: device[name] for name in texts},
        **{name: number(name) for name in numbers},
    }


def differences(look: Mapping[str, Any]) -> list[str]:
    """Name what an audit or a metric shows that sysfs does not show, or the reverse."""
    audit, shown = json.loads(look["audit"]["stdout"]), look["sysfs"]
    devices = {device["address"]: pictured(device) for device in audit["devices"]}
    drivers = sorted(driver["name"] for driver in audit["drivers"])
    samples = {
        sample["address"]: (sample["driver"], sample["driver_override"])
        for sample in look["labelled"]["device_driver_info"]
    }
    found = [
        f"{address}: {devices.get(address)}, in sysfs {shown.get(address)}"
        for address in sorted(devices.keys() | shown.keys())
        if devices.get(address) != shown.get(address)
    ]
    found += [
        f"{address}: metric {samples.get(address)}"
        for address in sorted(samples.keys() | shown.keys())
        if address not in shown
        or samples.get(address)
        != (shown[address]["driver"] or "", shown[address]["driver_override"] or "")
    ]
    if drivers != look["drivers"]:
        found.append(f"drivers {drivers}, in sysfs {look['drivers']}")
    counts = {d["name"]: len(d["dynids"]) for d in audit["drivers"] if d["dynids"]}
    if counts != dict(look["dynids"]):
        found.append(f"dynids {counts}, metric {look['dynids']}")
    return found


class Glance:
    """The parts that need the daemon, in order."""

    def __init__(self, directory: Path, places: dict[str, str]) -> None:
        """Start the daemon."""
        self.places = places
        self.rules = kernel.running_layout().new_id_rules
        self.watcher = Watcher(port=PORT, log=directory / "daemon.log")

    def findings(self) -> list[tuple[str, str]]:
        """Return what the metrics show: (address, finding)."""
        samples = labelled(self.watcher.metrics(), "device_finding")
        return [(sample["address"], sample["finding"]) for sample in samples]

    def wait(self, wanted: tuple[str, str], *, there: bool) -> float | None:
        """Wait until a finding is there, or is not; return the seconds, None: never."""
        begin = time.monotonic()
        while time.monotonic() - begin < PATIENCE_SECONDS:
            if (wanted in self.findings()) is there:
                return time.monotonic() - begin
            time.sleep(POLL_SECONDS)
        return None

    def start(self) -> Result:
        """Look at what was there before the daemon, then away with it."""
        unseen = (self.places["testdev"], "unexplained_binding")
        result: Result = {
            "appeared": self.wait(unseen, there=True),
            "look": self.look(),
            "explained": self.explain(Explained("testdev", ())),
            "cleared": act(AFTER, self.places),
            "disappeared": self.wait(unseen, there=False),
        }
        return result | {"look_after": self.look()}

    def current(self) -> Result:
        """Have devices, drivers and virtual functions come and go, and look."""
        done = act(MOVES, self.places)
        pci.run("udevadm", "settle", "--timeout=30")
        return {"done": done, "look": self.look()}

    def look(self) -> Result:
        """Return what is shown of the whole machine, once it is what sysfs shows.

        Events and audits take their time; what differs after that is in `differences`.
        """
        deadline = time.monotonic() + PATIENCE_SECONDS
        while True:
            seen = self._look()
            seen["differences"] = found = differences(seen)
            if not found or time.monotonic() > deadline:
                return seen
            time.sleep(POLL_SECONDS)

    def _look(self) -> Result:
        metrics = self.watcher.metrics()
        names = ("device_finding", "device_driver_info")
        dynids = 'driver_dynids{driver="'
        return {
            "audit": ask("audit", "--json"),
            "sysfs": sysfs(),
            "drivers": pci.drivers(),
            "metrics": metrics,
            "dynids": {
                name.removeprefix(dynids).removesuffix('"}'): int(count)
                for name, count in metrics.items()
                if name.startswith(dynids) and count
            },
            "labelled": {name: labelled(metrics, name) for name in names},
        }

    def explain(self, wanted: Explained) -> Result | None:
        """Return a device's explanation, for a person and for a machine.

        Once it says what is wanted, or does not in time; None: not on this kernel.
        """
        if wanted.not_on == self.rules:
            return None
        words = ["explain", self.places[wanted.role]]
        if wanted.driver:
            words += ["--driver", wanted.driver]
        deadline = time.monotonic() + PATIENCE_SECONDS
        while True:
            told = ask(*words)
            missing = unsaid(wanted, str(told["stdout"]), self.places)
            if not missing or time.monotonic() > deadline:
                return {"text": told, "json": ask(*words, "--json"), "unsaid": missing}
            time.sleep(POLL_SECONDS)

    def trouble(self, trouble: Trouble) -> Result:
        """Cause it, look, cure it, look."""
        wanted = None
        if trouble.finding:
            wanted = (self.places[trouble.finding[0]], trouble.finding[1])
        begin = time.monotonic()
        result: Result = {"caused": act(trouble.cause, self.places)}
        if wanted:
            result["appeared"] = self.wait(wanted, there=True)
        result["explained"] = [self.explain(each) for each in trouble.explained]
        result["audit"] = ask("audit", "--json")
        result["cured"] = act(trouble.cure, self.places)
        if wanted and not trouble.lasts:
            result["disappeared"] = self.wait(wanted, there=False)
        result["audit_after"] = ask("audit", "--json")
        say(f"  {trouble.name}: {time.monotonic() - begin:.1f} s")
        return result


class Repeat:
    """Something done over and over by another thread while there is a `with`."""

    def __init__(self, once: Callable[[], object]) -> None:
        """Do `once`."""
        self.times = 0
        self._once = once
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run)

    def _run(self) -> None:
        while not self._stop.is_set():
            self._once()
            self.times += 1

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()


def command(*words: str) -> Result:
    """Run a program of its own; return all that it said."""
    begin = time.monotonic()
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    return {
        "status": done.returncode,
        "stdout": done.stdout,
        "stderr": done.stderr,
        "seconds": time.monotonic() - begin,
    }


def restless(places: dict[str, str]) -> Result:
    """Look while a device comes and goes, and while a module does."""

    def replug() -> None:
        pci.write(f"devices/{places['testdev']}/remove", "1")
        pci.write("rescan", "1")

    def reload() -> None:
        pci.run("modprobe", "-r", "uio_pci_generic")
        pci.run("modprobe", "uio_pci_generic")

    result: Result = {}
    for name, once in {"device": replug, "module": reload}.items():
        with Repeat(once) as repeat:
            look = command(*AUDIT)
        result[name] = {"times": repeat.times, "look": look}
    pci.write("rescan", "1")
    pci.run("modprobe", "uio_pci_generic")
    return result


def blind(directory: Path) -> Result:
    """Look without a daemon: as it is, without addresses, without privileges."""
    result: Result = {"seeing": command(*AUDIT), "sysfs": sysfs()}
    restrict = Path("/proc/sys/kernel/kptr_restrict")
    before = restrict.read_text()
    restrict.write_text("2")
    result["kptr_restrict"] = command(*AUDIT)
    restrict.write_text(before)
    empty = directory / "kallsyms"
    empty.touch()
    pci.run("mount", "--bind", str(empty), "/proc/kallsyms")
    result["kallsyms"] = command(*AUDIT)
    pci.run("umount", "/proc/kallsyms")
    nobody = ("setpriv", "--reuid", "65534", "--regid", "65534", "--clear-groups")
    result["nobody"] = command(*nobody, *AUDIT)
    return result


def main(directory: Path) -> int:
    """Run all parts; a part that breaks is no reason to skip the next."""
    pci.run("ip", "link", "set", "lo", "up")
    pci.run("udevadm", "settle", "--timeout=60")
    places = addresses()
    results: dict[str, Result] = {}
    whole = {"release": platform.release(), "places": places, "parts": results}

    def part(name: str, do: Callable[[], Result]) -> None:
        begin = time.monotonic()
        try:
            results[name] = do()
        except Exception as error:  # noqa: BLE001 - it is written down
            results[name] = {"error": traceback.format_exc()}
            say(f"  {type(error).__name__}: {error}")
        results[name]["seconds"] = time.monotonic() - begin
        (directory / "result.json").write_text(json.dumps(whole))
        say(f"{name} took {results[name]['seconds']:.1f} s")

    say(f"a glance at {platform.release()}")
    whole["before"] = act(BEFORE, places)
    glance = Glance(directory, places)
    say(f"  attached in {glance.watcher.attach_seconds:.1f} s")
    with glance.watcher:
        part("start", glance.start)
        for trouble in TROUBLES:
            part(trouble.name, functools.partial(glance.trouble, trouble))
        part("current", glance.current)
        part("stopped", glance.watcher.stop)
    part("blind", lambda: blind(directory))
    part("restless", lambda: restless(places))
    return 0


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))

"""Who writes to PCI's files, in a guest, as root: python -m live.writers DIRECTORY.

Shells, scripts, driverctl and a user write good and bad text while the observer runs.
What each of them must be seen to have done stands in CASES; whether it was, is for
tests/test_writers.py to say.
"""

from __future__ import annotations

import json
import platform
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING, Final, NamedTuple

from live import pci
from live.steps import BOUND_ALREADY, EEXIST, ONE_MORE
from live.watcher import Watcher

if TYPE_CHECKING:
    from live.steps import ByRules

PORT: Final = 9917
SHELL: Final = "sh"
SCRIPT: Final = "give_away.py"
DRIVERCTL: Final = "driverctl"
THREADS: Final = 4
WRITES: Final = 100  # of each thread
USER: Final = 1234
SETTLE_SECONDS: Final = 2
_STUB: Final = "/sys/bus/pci/drivers/pci-stub"
_EDU: Final = "/sys/bus/pci/devices/{edu}/driver_override"
_PROBE: Final = "/sys/bus/pci/drivers_probe"
_ABSENT: Final = "0000:ff:1f.7"
_AS_USER: Final = (
    f"setpriv --reuid={USER} --regid={USER} --clear-groups "
    "--inh-caps=+dac_override --ambient-caps=+dac_override "
)
# A script that is run by its first line, and writes what its arguments spell.
_SCRIPT_TEXT: Final = f"""\
#!{sys.executable} -S
import os, sys
path, text = sys.argv[1:]
descriptor = os.open(path, os.O_WRONLY)
data = text.encode("latin-1").decode("unicode_escape").encode("latin-1")
assert os.write(descriptor, data) == len(data)
"""


class Seen(NamedTuple):
    """A write as the observer must tell it, but for pids and times."""

    file: str
    owner: str | None  # the driver's name, or the address of driver_override's device
    text: str
    errno: ByRules = ""  # "": success
    size: int | None = None  # None: the text's


class Case(NamedTuple):
    """A command, and the writes that must be seen of it, in order."""

    command: str  # `{edu}` stands for that device's address
    comm: str
    seen: tuple[Seen, ...]
    uid: int = 0


def _shell(text: str, path: str, *seen: Seen) -> Case:
    return Case(f"sh -c 'echo \"{text}\" > {path}'", SHELL, seen)


def _script(text: str, path: str, *seen: Seen) -> Case:
    return Case(f"{{directory}}/{SCRIPT} {path} '{text}'", SCRIPT, seen)


def _stub(file: str, text: str, errno: ByRules = "") -> Seen:
    return Seen(file, "pci-stub", text, errno)


def _override(text: str, errno: str = "", size: int | None = None) -> Seen:
    return Seen("driver_override", "{edu}", text, errno, size)


def _probe(text: str, errno: str = "") -> Seen:
    return Seen("drivers_probe", None, text, errno)


_ID: Final = "1234 5678"  # of no device
_LINE: Final = f"{_ID}\n"
_LONG: Final = "x" * 4096
_NOT_OURS: Final = "{platform_device}"

CASES: Final = (
    _shell(_ID, f"{_STUB}/new_id", _stub("new_id", _LINE)),
    _shell(_ID, f"{_STUB}/new_id", _stub("new_id", _LINE, EEXIST)),
    _shell("zz", f"{_STUB}/new_id", _stub("new_id", "zz\n", "EINVAL")),
    _script("", f"{_STUB}/new_id"),  # no byte reaches no store function
    _script(_ID, f"{_STUB}/remove_id", _stub("remove_id", _ID)),
    _script(_ID, f"{_STUB}/remove_id", _stub("remove_id", _ID, ONE_MORE)),
    _script(_ID, f"{_STUB}/remove_id", _stub("remove_id", _ID, "ENODEV")),
    _shell("{edu}", f"{_STUB}/unbind", _stub("unbind", "{edu}\n", "ENODEV")),
    _shell("{edu}", f"{_STUB}/bind", _stub("bind", "{edu}\n", "ENODEV")),
    _shell(_ABSENT, _PROBE, _probe(f"{_ABSENT}\n", "ENODEV")),
    _shell("{edu}", _PROBE, _probe("{edu}\n")),
    _script("pci-stub", _EDU, _override("pci-stub")),
    _script("{edu}", f"{_STUB}/bind", _stub("bind", "{edu}")),
    _script("{edu}", f"{_STUB}/bind", _stub("bind", "{edu}", BOUND_ALREADY)),
    _script("{edu}", f"{_STUB}/unbind", _stub("unbind", "{edu}")),
    _script(_LONG, _EDU, _override(_LONG[:128], "EINVAL", 4096)),
    _script("y" * 200, _EDU, _override("y" * 128, size=200)),
    _script("z" * 128, _EDU, _override("z" * 128)),
    _script(r"a\xff\x1b[31m b", _EDU, _override("a\udcff\x1b[31m b")),
    _script(r"\n", _EDU, _override("\n")),
    Case(
        f"{_AS_USER} sh -c 'echo {_ID} > {_STUB}/new_id'",
        SHELL,
        (_stub("new_id", _LINE),),
        USER,
    ),
    Case(
        f"{_AS_USER} sh -c 'echo {_ID} > {_STUB}/remove_id'",
        SHELL,
        (_stub("remove_id", _LINE),),
        USER,
    ),
    Case(
        "driverctl --nosave set-override {edu} pci-stub",
        DRIVERCTL,
        (_override("pci-stub\n"), _probe("{edu}\n")),
    ),
    Case(
        "driverctl --nosave unset-override {edu}",
        DRIVERCTL,
        (_stub("unbind", "{edu}\n"), _override("\n"), _probe("{edu}\n")),
    ),
    # Files of the same names that are another bus's, some with the same functions.
    _shell("pci-stub", f"/sys/bus/platform/devices/{_NOT_OURS}/driver_override"),
    _shell("", f"/sys/bus/platform/devices/{_NOT_OURS}/driver_override"),
    _shell(_NOT_OURS, "/sys/bus/platform/drivers_probe"),
    _shell("nobody", "/sys/bus/platform/drivers/{platform_driver}/bind"),
    _shell("nobody", "/sys/bus/platform/drivers/{platform_driver}/unbind"),
)
FOREIGN: Final = len(CASES) - 5  # from this one on nothing may be seen


def places(directory: Path) -> dict[str, str]:
    """Find what the commands name."""
    bus = Path("/sys/bus/platform")
    return {
        **pci.addresses(),
        "directory": str(directory),
        "platform_device": next(
            path.parent.name
            for path in sorted(bus.glob("devices/*/driver_override"))
            if not (path.parent / "driver").exists()
        ),
        "platform_driver": next(
            path.parent.name for path in sorted(bus.glob("drivers/*/bind"))
        ),
    }


def storm(edu: str) -> dict[int, list[str]]:
    """Have threads write at the same time, each text once; return them by thread."""
    told: dict[int, list[str]] = {}

    def write(number: int) -> None:
        texts = told.setdefault(threading.get_native_id(), [])
        for place in range(WRITES):
            texts.append(f"t{number}-{place}")
            pci.write(f"devices/{edu}/driver_override", texts[-1])

    threads = [threading.Thread(target=write, args=(n,)) for n in range(THREADS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return told


def main(directory: Path) -> int:
    """Do it all under one observer."""
    pci.run("ip", "link", "set", "lo", "up")
    pci.run("udevadm", "settle", "--timeout=60")
    pci.run("modprobe", "pci-stub")
    script = directory / SCRIPT
    script.write_text(_SCRIPT_TEXT)
    script.chmod(0o755)
    named = places(directory)
    recording = directory / "writes.jsonl.gz"
    log = directory / "writes.log"
    done = []
    with Watcher(
        *("--record", str(recording), "--log-level", "info"), port=PORT, log=log
    ) as watcher:
        for case in CASES:
            ended = subprocess.run(
                ["sh", "-c", f"exec {case.command.format(**named)}"],
                capture_output=True,
                text=True,
                check=False,
            )
            done.append([ended.returncode, ended.stderr])
            print(
                ended.returncode, case.command[:100], ended.stderr.strip(), flush=True
            )
        time.sleep(SETTLE_SECONDS)  # the log's pace is fifty lines a second
        result = {
            "release": platform.release(),
            "preemptible": "PREEMPT" in platform.version(),
            "places": named,
            "done": done,
            "metrics": watcher.metrics(),
            "storm": storm(named["edu"]),
        }
        pci.write(f"devices/{named['edu']}/driver_override", "\n")
        time.sleep(SETTLE_SECONDS)
        result["metrics_at_end"] = watcher.metrics()
        result["stopped"] = watcher.stop()
    (directory / "result.json").write_text(json.dumps(result))
    return 0


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))

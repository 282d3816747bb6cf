"""The Debian package under a booted systemd: python -m live.installed DIRECTORY DEB.

What it writes is gone with the guest: all of the file system is an overlay.
"""

from __future__ import annotations

import json
import os
import platform
import pwd
import subprocess
import sys
import time
import urllib.request
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from live import pci

if TYPE_CHECKING:
    from collections.abc import Iterable

PACKAGE: Final = "pci-observer"
CONFIG: Final = Path("/etc/pci-observer/pci-observer.toml")
STATE: Final = Path("/var/lib/pci-observer")
HISTORY: Final = STATE / "history.sqlite"
SOCKET: Final = Path("/run/pci-observer/observer.sock")
METRICS: Final = "http://127.0.0.1:9817"
SECONDS: Final = 180
# Where a package may leave something behind that it did not bring along. All of /usr
# would take minutes: in a guest it is this machine's.
PLACES: Final = (
    *("/etc", "/run", "/var/lib/systemd", "/var/lib/pci-observer", "/var/log"),
    *("/usr/lib/pci-observer", "/usr/share/pci-observer"),
)
OURS: Final = "*pci-observer*"
# So would the index of all manual pages.
INDEX: Final = Path("/var/lib/man-db/auto-update")
# Complete `pci-observer aud` as a shell does: prints what there is to choose from.
BASH: Final = """\
. /usr/share/bash-completion/bash_completion
_completion_loader pci-observer
set -- $(complete -p pci-observer)
while [ "$1" != -F ]; do shift; done
COMP_WORDS=(pci-observer aud) COMP_CWORD=1 COMP_LINE="pci-observer aud" COMP_POINT=16
$2 pci-observer aud pci-observer
echo "${COMPREPLY[@]}"
"""


def done(*command: str) -> dict[str, Any]:
    """Run a command as a login has it; return its status and what it said."""
    environ = {
        "PATH": "/usr/sbin:/usr/bin:/sbin:/bin",
        "DEBIAN_FRONTEND": "noninteractive",
        "LC_ALL": "C.UTF-8",
        "MANWIDTH": "80",
    }
    print(f"{time.monotonic():.0f} s: {' '.join(command)[:70]}", flush=True)
    finished = subprocess.run(
        command,
        cwd="/",
        env=environ,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )
    return {
        "status": finished.returncode,
        "out": finished.stdout,
        "err": finished.stderr,
    }


def unit() -> dict[str, str]:
    """Return what systemd knows of the unit."""
    names = "ActiveState,SubState,UnitFileState,MainPID,NRestarts,Result"
    told = done("systemctl", "show", PACKAGE, f"--property={names}")["out"]
    return dict(line.split("=", 1) for line in told.splitlines())


def ready() -> bool:
    """Wait until the daemon says that it is ready."""
    deadline = time.monotonic() + SECONDS
    while time.monotonic() < deadline:
        try:
            with urllib.request.urlopen(f"{METRICS}/-/ready", timeout=30) as answer:
                return bool(answer.status == 200)
        except OSError:
            time.sleep(0.5)
    return False


def scraped() -> str:
    """Return the metrics."""
    with urllib.request.urlopen(f"{METRICS}/metrics", timeout=60) as answer:
        return str(answer.read().decode())


def user_of(pid: str) -> str:
    """Return the user as which a process runs."""
    (line,) = (
        line
        for line in Path("/proc", pid, "status").read_text().splitlines()
        if line.startswith("Uid:")
    )
    return pwd.getpwuid(int(line.split()[1])).pw_name


def known(user: str) -> bool:
    """Tell whether there is such a user."""
    return done("getent", "passwd", user)["status"] == 0


def left(brought: Iterable[str] = ()) -> list[str]:
    """Return what is there of these paths, and what else bears the package's name."""
    found = done("find", *PLACES, "-xdev", "-name", OURS, "-print", "-prune")["out"]
    files = [path for path in brought if Path(path).is_file()]
    return sorted({*found.splitlines(), *files})


def at_work() -> dict[str, Any]:
    """Return what the installed daemon and its commands say."""
    found: dict[str, Any] = {"ready": ready(), "unit": unit()}
    if not found["ready"]:
        found["journal"] = done("journalctl", "--no-pager", "-u", PACKAGE)
        found["said"] = done("systemctl", "status", "--no-pager", PACKAGE)
        return found
    found["user"] = user_of(found["unit"]["MainPID"])
    found["metrics"] = scraped()
    for verb in (("status", "--once"), ("doctor",), ("semantics",)):
        found[" ".join(verb)] = done(f"/usr/bin/{PACKAGE}", *verb)
    return found


def main(directory: Path, package: str) -> int:
    """Install it, use it, install it again, remove and purge it."""
    pci.run("ip", "link", "set", "lo", "up")
    INDEX.unlink(missing_ok=True)
    Path("/usr/sbin/policy-rc.d").unlink(missing_ok=True)  # of containers: no service
    result: dict[str, Any] = {
        "release": platform.release(),
        "init": Path("/proc/1/comm").read_text().strip(),
        "before": left(),
        "known_before": known(PACKAGE),
        "install": done("dpkg", "--install", package),
    }
    result["first"] = at_work()
    result["files"] = done("dpkg", "--listfiles", PACKAGE)["out"].splitlines()
    result["verify"] = done("dpkg", "--verify", PACKAGE)
    result["man"] = {
        name: done("man", "--warnings", "--encoding=UTF-8", name)
        for name in (PACKAGE, f"{PACKAGE}.toml")
    }
    result["completed"] = done("bash", "-c", BASH)
    result["state"] = {"history": HISTORY.exists(), "socket": SOCKET.exists()}
    # An operator's word is kept by an upgrade, and by a removal.
    mine = CONFIG.read_text() + "# mine\n"
    CONFIG.write_text(mine)
    result["upgrade"] = done("dpkg", "--install", package)
    result["second"] = at_work()
    result["kept"] = {"upgrade": CONFIG.read_text() == mine}
    result["remove"] = done("dpkg", "--remove", PACKAGE)
    pid = result["second"]["unit"]["MainPID"]
    result["removed"] = {
        "running": Path("/proc", pid).exists(),
        "config": CONFIG.exists() and CONFIG.read_text() == mine,
        "history": HISTORY.exists(),
        "known": known(PACKAGE),
        "left": left(result["files"]),
    }
    result["purge"] = done("dpkg", "--purge", PACKAGE)
    result["purged"] = left(result["files"])
    os.sync()
    (directory / "result.json").write_text(json.dumps(result))
    return 0


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]), sys.argv[2]))

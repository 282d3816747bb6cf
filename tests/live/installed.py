"""The Debian package under a booted systemd: python -m live.installed DIRECTORY DEB.

What it writes is gone with the guest: all of the file system is an overlay.
"""

from __future__ import annotations

import grp
import http.client
import json
import os
import platform
import pwd
import shutil
import stat
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from live import pci

if TYPE_CHECKING:
    from collections.abc import Iterable

PACKAGE: Final = "pci-observer"
CONFIG: Final = Path("/etc/pci-observer/pci-observer.toml")
ACCESS: Final = Path("/etc/pci-observer/web.yml")
HISTORY: Final = Path("/var/lib/pci-observer/history.sqlite")
ADDRESS: Final = ("127.0.0.1", 9817)
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


def asked(path: str) -> tuple[int, str]:
    """Return how the daemon answers."""
    connection = http.client.HTTPConnection(*ADDRESS, timeout=60)
    try:
        connection.request("GET", path)
        answer = connection.getresponse()
        return answer.status, answer.read().decode()
    finally:
        connection.close()


def ready() -> bool:
    """Wait until the daemon says that it is ready."""
    deadline = time.monotonic() + SECONDS
    while time.monotonic() < deadline:
        try:
            if asked("/-/ready")[0] == http.HTTPStatus.OK:
                return True
        except OSError:
            pass
        time.sleep(0.5)
    return False


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
    return bool(done("getent", "passwd", user)["status"] == 0)


def left() -> list[str]:
    """Return what bears the package's name where it may leave something behind."""
    ours = ("-name", OURS, "-print", "-prune")
    # What the guest's overlays are made of shows what was deleted.
    found = done("find", *PLACES, "-xdev", "-path", "/run/tmp", "-prune", "-o", *ours)
    return sorted(found["out"].splitlines())


def files(brought: Iterable[str]) -> list[str]:
    """Return which of these files are there."""
    return [path for path in brought if Path(path).is_file()]


def at_work() -> dict[str, Any]:
    """Return what the installed daemon says."""
    found: dict[str, Any] = {"ready": ready(), "unit": unit()}
    found["journal"] = done("journalctl", "--no-pager", "-o", "cat", "-u", PACKAGE)
    if not found["ready"]:
        found["said"] = done("systemctl", "status", "--no-pager", PACKAGE)
        return found
    found["user"] = user_of(found["unit"]["MainPID"])
    _, found["metrics"] = asked("/metrics")
    found["status"] = done(f"/usr/bin/{PACKAGE}", "status", "--once")
    return found


def main(directory: Path, package: str) -> int:
    """Install it, use it, install it again, remove and purge it."""
    pci.run("ip", "link", "set", "lo", "up")
    INDEX.unlink(missing_ok=True)
    shutil.rmtree(HISTORY.parent, ignore_errors=True)  # this machine's own
    # Where this machine is a container: no services, no manual pages.
    Path("/usr/sbin/policy-rc.d").unlink(missing_ok=True)
    for path in Path("/etc/dpkg/dpkg.cfg.d").iterdir():
        if "path-exclude" in path.read_text():
            path.unlink()
    result: dict[str, Any] = {
        "release": platform.release(),
        "init": Path("/proc/1/comm").read_text().strip(),
        "before": left(),
        "known_before": known(PACKAGE),
        "install": done("dpkg", "--install", package),
    }
    result["first"] = at_work()
    for verb in ("doctor", "semantics"):
        result[verb] = done(f"/usr/bin/{PACKAGE}", verb)
    result["files"] = done("dpkg", "--listfiles", PACKAGE)["out"].splitlines()
    result["verify"] = done("dpkg", "--verify", PACKAGE)
    result["man"] = {
        name: done("man", "--warnings", "--encoding=UTF-8", name)
        for name in (PACKAGE, f"{PACKAGE}.toml")
    }
    result["completed"] = done("bash", "-c", BASH)
    about = ACCESS.stat()
    result["access"] = {
        "mode": f"{stat.S_IMODE(about.st_mode):o}",
        "owner": pwd.getpwuid(about.st_uid).pw_name,
        "group": grp.getgrgid(about.st_gid).gr_name,
    }
    result["stop"] = done("systemctl", "stop", PACKAGE)
    result["stopped"] = unit()
    # An operator's word is kept by an upgrade, which starts it again, and by a removal.
    mine = CONFIG.read_text() + "# mine\n"
    CONFIG.write_text(mine)
    result["upgrade"] = done("dpkg", "--install", package)
    result["second"] = at_work()
    result["kept"] = CONFIG.read_text() == mine
    result["remove"] = done("dpkg", "--remove", PACKAGE)
    pid = result["second"]["unit"]["MainPID"]
    result["removed"] = {
        "running": Path("/proc", pid).exists(),
        "kept": CONFIG.exists() and CONFIG.read_text() == mine,
        "history": HISTORY.exists(),
        "known": known(PACKAGE),
        "brought": files(result["files"]),
    }
    result["purge"] = done("dpkg", "--purge", PACKAGE)
    result["purged"] = {"brought": files(result["files"]), "left": left()}
    os.sync()
    (directory / "result.json").write_text(json.dumps(result))
    return 0


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]), sys.argv[2]))

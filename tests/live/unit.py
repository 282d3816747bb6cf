"""The unit as it is shipped, under a booted systemd: python -m live.unit DIRECTORY.

What it writes is gone with the guest: all of the file system is an overlay.
"""

from __future__ import annotations

import json
import os
import platform
import re
import shutil
import ssl
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import bcrypt
from certificates import authority, certificate

from live import pci
from live.access import OWN, PASSWORD, SECOND, curl
from live.installed import ACCESS, ADDRESS, PACKAGE, asked, done, ready
from live.watcher import samples
from observer.attachment import attach
from observer.loading import AttachError

if TYPE_CHECKING:
    from collections.abc import Iterator

REPOSITORY: Final = Path(__file__).resolve().parents[2]
# Neither below /home nor below /tmp, which the unit hides.
HERE: Final = Path("/srv/pci-observer")
UNITS: Final = Path("/etc/systemd/system")
CONFIG: Final = Path("/etc/pci-observer/pci-observer.toml")
BINARY: Final = Path("/usr/bin/pci-observer")
LAUNCHER: Final = f"""\
#!/usr/bin/python3 -I
import sys
packages = "{HERE}/.venv/lib/python{sys.version_info[0]}.{sys.version_info[1]}"
sys.path[:0] = ["{HERE}", packages + "/site-packages"]
from observer.cli import main
sys.exit(main())
"""
METHODS: Final = ("fentry", "kprobe")
NEEDED: Final = ("bpf", "perfmon", "syslog", "sys_admin")
SHOWN: Final = (
    *("ActiveState", "SubState", "Result", "MainPID", "NRestarts", "Type"),
    *("StatusText", "ExecMainStatus"),
)
WRITES: Final = 200
SECONDS: Final = 60
LOOK_SECONDS: Final = 1.5  # at most once a second it looks whether files changed


def install() -> None:
    """Install the units from the checkout, a launcher and the user."""
    pci.run("ip", "link", "set", "lo", "up")
    HERE.mkdir(exist_ok=True)
    pci.run("mount", "--rbind", str(REPOSITORY), str(HERE))
    BINARY.unlink(missing_ok=True)
    BINARY.write_text(LAUNCHER)
    BINARY.chmod(0o755)
    for unit in ("pci-observer.service", "pci-observer.socket"):
        shutil.copy(REPOSITORY / "systemd" / unit, UNITS)
    shutil.rmtree("/var/lib/pci-observer", ignore_errors=True)
    pci.run("useradd", "--system", "--home-dir=/", "--shell=/bin/false", PACKAGE)
    CONFIG.parent.mkdir(exist_ok=True)
    systemctl("daemon-reload")


def systemctl(*words: str) -> dict[str, Any]:
    """Run systemctl."""
    return done("systemctl", *words)


def shown(unit: str = PACKAGE) -> dict[str, str]:
    """Return what systemd knows of the unit."""
    told = systemctl("show", unit, f"--property={','.join(SHOWN)}")["out"]
    return dict(line.split("=", 1) for line in told.splitlines())


def metrics() -> dict[str, float]:
    """Scrape it."""
    return samples(asked("/metrics")[1])


def until(what: str, true: Any, seconds: float = SECONDS) -> bool:  # noqa: ANN401
    """Wait until it is true; say what was waited for."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if true():
            return True
        time.sleep(0.2)
    print(f"never: {what}", flush=True)
    return False


def threads(pid: str) -> list[dict[str, str]]:
    """Return what the kernel says of each thread's privileges."""
    wanted = {
        *("Uid", "Gid", "Groups", "NoNewPrivs", "Seccomp"),
        *("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"),
    }
    found = []
    for task in Path("/proc", pid, "task").iterdir():
        with suppress(FileNotFoundError, ProcessLookupError):
            lines = (task / "status").read_text().splitlines()
            fields = (line.split(":", 1) for line in lines if ":" in line)
            found.append({k: " ".join(v.split()) for k, v in fields if k in wanted})
    return found


def modes() -> dict[str, str]:
    """Return owner and mode of what the daemon made."""
    paths = (
        *("/run/pci-observer", "/run/pci-observer/observer.sock"),
        *("/var/lib/pci-observer", "/var/lib/pci-observer/history.sqlite"),
    )
    return {path: done("stat", "-c", "%U %a", path)["out"].strip() for path in paths}


def network(pid: str) -> dict[str, Any]:
    """Return what the process has of the network."""
    own, ours = (Path("/proc", p, "ns/net").readlink() for p in (pid, "self"))
    devices = Path("/proc", pid, "net/dev").read_text().splitlines()[2:]
    return {"own": own != ours, "devices": [d.split(":")[0].strip() for d in devices]}


def decisions(address: str) -> None:
    """Have the kernel decide, by a driver_override that comes and goes."""
    for number in range(WRITES):
        pci.write(f"devices/{address}/driver_override", f"none-{number % 3}\n")
        pci.write("drivers_probe", address)
    pci.write(f"devices/{address}/driver_override", "\n")


def by(method: str) -> dict[str, Any]:
    """Run the unit with one attach method, use it and stop it."""
    CONFIG.write_text(f'attach = "{method}"\nseries = 250\n')
    began = time.monotonic()
    result: dict[str, Any] = {"start": systemctl("start", PACKAGE)}
    result["seconds"] = time.monotonic() - began
    result["unit"] = shown()
    if not ready():
        return result | {"journal": journal("")}
    pid = result["unit"]["MainPID"]
    result["threads"], result["network"] = threads(pid), network(pid)
    result["modes"] = modes()
    result["before"] = metrics()
    decisions(pci.addresses()["edu"])
    pci.write(f"devices/{pci.addresses()['nic']}/remove", "1")
    pci.write("rescan", "1")
    nic = pci.addresses()["nic"]
    time.sleep(2)
    result["after"] = metrics()
    result["status"] = done(str(BINARY), "status", "--once")
    result["explain"] = done(str(BINARY), "explain", pci.addresses()["edu"])
    result["nic"] = done(str(BINARY), "explain", nic)
    result["reload"] = reload(method)
    result["stop"] = systemctl("stop", PACKAGE)
    result["stopped"] = shown()
    result["socket"] = shown(f"{PACKAGE}.socket")
    result["left"] = left()
    result["journal"] = journal("observing", "configuration", "privilege")
    return result


def journal(*words: str) -> list[str]:
    """Return the lines of the unit that have one of these words."""
    told = done("journalctl", "--no-pager", "-o", "cat", "-u", PACKAGE)["out"]
    return [line for line in told.splitlines() if any(w in line for w in words)]


def left() -> list[str]:
    """Return what is still in the kernel of ours."""
    programs = json.loads(done("bpftool", "-j", "prog", "show")["out"] or "[]")
    return [p["name"] for p in programs if str(p.get("name", "")).startswith("pci_")]


def reload(method: str) -> dict[str, Any]:
    """Reload a changed file, then a bad one."""
    result: dict[str, Any] = {}
    CONFIG.write_text(f'attach = "{method}"\nseries = 260\n')
    result["good"] = systemctl("reload", PACKAGE)
    until("new limit", lambda: metrics()["series_limit"] == 260)
    result["limit"] = metrics()["series_limit"]
    CONFIG.write_text("seris = 270\n")
    result["bad"] = systemctl("reload", PACKAGE)
    until("refusal", lambda: "refused" in shown()["StatusText"])
    result["refused"] = shown()
    result["limit_then"] = metrics()["series_limit"]
    return result


def web_config() -> str:
    """Return what the file that is shipped proposes, with a hash in its place."""
    known = bcrypt.hashpw(PASSWORD.encode(), bcrypt.gensalt(10)).decode()
    shipped = (REPOSITORY / "systemd" / ACCESS.name).read_text()
    proposed = shipped.partition("#\n")[2].replace("# ", "")
    return re.sub(r"\(.*\)", known, proposed)


def guarded() -> dict[str, Any]:
    """Run the unit with TLS and a password, as docs/access.md has it."""
    host, port = ADDRESS
    OWN.mkdir(mode=0o700)  # the authority's, which the daemon does not see
    ca = authority(OWN, "ca")
    one, other = (certificate(OWN, n, f"IP:{host}", by=ca) for n in ("one", "other"))
    cert, key = ACCESS.with_name("server.crt"), ACCESS.with_name("server.key")
    shutil.copy(one[0], cert)
    shutil.copy(one[1], key)
    CONFIG.write_text(f'web.config.file = "{ACCESS}"\n')
    ACCESS.write_text(web_config())
    pci.run("chgrp", PACKAGE, str(ACCESS), str(key))
    pci.run("chmod", "640", str(ACCESS), str(key))
    result: dict[str, Any] = {"start": systemctl("start", PACKAGE), "unit": shown()}
    if result["start"]["status"]:
        return result | {"journal": journal("")}
    pid, url = result["unit"]["MainPID"], f"https://{host}:{port}/metrics"
    right = ("--cacert", ca, "--user", f"prometheus:{PASSWORD}", url)
    wrong = ("--cacert", ca, "--user", f"prometheus:{SECOND}", url)
    result["asked"] = {
        "right": curl(*right),
        "wrong password": curl(*wrong),
        "no TLS": curl(url.replace("https", "http")),
    }
    result["threads"] = threads(pid)
    result["certificates"] = [made.read_text() for made, _ in (one, other)]
    result["presented"] = [ssl.get_server_certificate(ADDRESS)]
    # Owner and mode stay.
    shutil.copyfile(other[0], cert)
    shutil.copyfile(other[1], key)
    time.sleep(LOOK_SECONDS)
    result["presented"].append(ssl.get_server_certificate(ADDRESS))
    result["renewed"] = {"asked": curl(*right), "unit": shown()}
    result["journal"] = journal("web config", "a change of this file")
    systemctl("stop", PACKAGE)
    return result


def troubles() -> dict[str, Any]:
    """See what systemd does when the daemon hangs, is killed, or must not start."""
    result: dict[str, Any] = {}
    drop_in = UNITS / f"{PACKAGE}.service.d/test.conf"
    drop_in.parent.mkdir(exist_ok=True)
    drop_in.write_text("[Service]\nWatchdogSec=4\nRestartSec=1\n")
    systemctl("daemon-reload")
    CONFIG.write_text("")
    systemctl("start", PACKAGE)
    time.sleep(10)
    result["alive"] = shown()
    os.kill(int(result["alive"]["MainPID"]), 19)
    restarted = until("restart", lambda: shown()["NRestarts"] == "1")
    result["hung"] = {"restarted": restarted, "ready": ready(), "unit": shown()}
    os.kill(int(result["hung"]["unit"]["MainPID"]), 9)
    restarted = until("restart", lambda: shown()["NRestarts"] == "2")
    result["killed"] = {"restarted": restarted, "ready": ready(), "unit": shown()}
    systemctl("stop", PACKAGE)
    CONFIG.write_text("seris = 1\n")
    result["misconfigured"] = systemctl("start", PACKAGE) | {"unit": shown()}
    CONFIG.write_text('listen = "none"\n')
    result["none"] = systemctl("start", PACKAGE)
    result["none"] |= {"answer": knock(), "unit": shown()}
    systemctl("stop", PACKAGE)
    CONFIG.write_text('listen = "127.0.0.1:9817"\n')
    result["listen"] = systemctl("start", PACKAGE) | {"unit": shown()}
    result["journal"] = journal("pci-observer: ")
    systemctl("stop", PACKAGE, f"{PACKAGE}.socket")
    return result


def knock() -> str:
    """Ask for metrics as a scrape does; return what comes of it, after a moment."""
    try:
        return str(asked("/metrics")[0])
    except OSError as e:
        return type(e).__name__
    finally:
        time.sleep(2)


def with_capabilities(method: str, names: tuple[str, ...]) -> dict[str, Any]:
    """Attach as the daemon's user with these capabilities and no others."""
    wanted = ",".join(("-all", *(f"+{name}" for name in names)))
    words = [f"--reuid={PACKAGE}", f"--regid={PACKAGE}", "--clear-groups"]
    words += [f"--inh-caps={wanted}", f"--ambient-caps={wanted}", "--no-new-privs"]
    words += [f"--bounding-set={wanted}"]
    command = [sys.executable, "-m", "live.unit", "--attach", method]
    finished = subprocess.run(
        ["prlimit", "--memlock=unlimited", "setpriv", *words, *command],
        capture_output=True,
        text=True,
        check=False,
    )
    print(f"{method} with {names}: {finished.stdout.strip()[:80]}", flush=True)
    try:
        told: dict[str, Any] = json.loads(finished.stdout)
    except ValueError:
        return {"error": finished.stderr[-500:]}
    return told


def attached(method: str) -> dict[str, Any]:
    """Attach, and say what was possible."""
    try:
        found = attach(("--attach", method))
    except AttachError as e:
        return {"error": str(e)}
    found.detach()
    return {
        "hooks": dict(found.hooks),
        "drivers": len(found.inventory.drivers),
        "tables": sum(bool(d.driver.id_table) for d in found.inventory.drivers),
    }


def capabilities() -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield what each method can do with all that is needed, and with less."""
    for method in METHODS:
        yield f"{method} with all", with_capabilities(method, NEEDED)
        # SYS_ADMIN is all of the others as well, so they are missed without it.
        less = NEEDED[:-1]
        yield f"{method} without sys_admin", with_capabilities(method, less)
        for one in less:
            rest = tuple(name for name in less if name != one)
            key = f"{method} without sys_admin and {one}"
            yield key, with_capabilities(method, rest)


def main(directory: Path) -> int:
    """Do all of it; leave what was seen in result.json."""
    install()
    result: dict[str, Any] = {
        "release": platform.release(),
        "init": Path("/proc/1/comm").read_text().strip(),
        "paranoid": Path("/proc/sys/kernel/perf_event_paranoid").read_text().strip(),
    }
    # As Debian's kernels set it, whatever this guest's init thinks of it.
    Path("/proc/sys/kernel/perf_event_paranoid").write_text("3")
    for method in METHODS:
        result[method] = by(method)
    result["guarded"] = guarded()
    result["troubles"] = troubles()
    result["capabilities"] = dict(capabilities())
    result["order"] = systemctl("show", PACKAGE, "--property=After", "--value")["out"]
    (directory / "result.json").write_text(json.dumps(result))
    return 0


if __name__ == "__main__":
    if sys.argv[1] == "--attach":
        print(json.dumps(attached(sys.argv[2])))
    else:
        sys.exit(main(Path(sys.argv[1])))

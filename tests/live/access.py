"""Who may ask the daemon, on a real kernel: python -m live.access DIRECTORY.

curl asks it over TLS with certificate and password, on a unix socket, and on a port
that systemd's tool passes on.
"""

from __future__ import annotations

import json
import os
import signal
import stat
import subprocess
import sys
import time
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import bcrypt
from certificates import authority, certificate

from live import pci
from live.watcher import COMMAND, END_SECONDS, HOST, READY_SECONDS

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

PORT: Final = 9919
PASSWORD: Final = "correct horse"  # noqa: S105 - of this guest
SECOND: Final = "battery staple"
OWN: Final = Path("/run/access")
SOCKET: Final = Path("/run/pci-observer/metrics.sock")
URL: Final = f"https://{HOST}:{PORT}/metrics"
SUCCESS: Final = "pci_observer_web_config_reload_success"
NOBODY: Final = "65534"


def curl(*arguments: str | Path, run: tuple[str, ...] = ()) -> dict[str, Any]:
    """Ask; return curl's exit status, that of HTTP, and the answer."""
    done = subprocess.run(
        [*run, "curl", "-sS", "--max-time", "60", "-w", "\n%{http_code}", *arguments],
        check=False,
        capture_output=True,
        text=True,
    )
    body, _, status = done.stdout.rpartition("\n")
    return {"exit": done.returncode, "status": int(status), "body": body}


def sample(answer: dict[str, Any], name: str) -> float | None:
    """Return the value of a metric in an answer, None if it has it not."""
    for line in answer["body"].splitlines():
        if line.startswith(f"{name} "):
            return float(line.rsplit(" ", 1)[1])
    return None


def wait_for(what: Callable[[], bool]) -> None:
    """Wait until this is so."""
    deadline = time.monotonic() + READY_SECONDS
    while not what():
        if time.monotonic() > deadline:
            raise TimeoutError
        time.sleep(0.2)


@contextmanager
def observing(
    log: Path, *arguments: str | Path, by: tuple[str, ...] = ()
) -> Iterator[subprocess.Popen[bytes]]:
    """Run the observer, which is killed if it is not ended."""
    with log.open("wb") as file:
        process = subprocess.Popen(
            [*by, COMMAND, "run", "--no-state", *arguments],
            stdin=subprocess.DEVNULL,
            stdout=file,
            stderr=file,
        )
    try:
        yield process
    finally:
        process.kill()
        process.wait(END_SECONDS)


def end(process: subprocess.Popen[bytes]) -> int:
    """End it as systemd does; return its exit status."""
    process.send_signal(signal.SIGTERM)
    return process.wait(END_SECONDS)


def rss_kb(process: subprocess.Popen[bytes]) -> int:
    """Return how much memory is resident."""
    status = Path(f"/proc/{process.pid}/status").read_text()
    line = next(line for line in status.splitlines() if line.startswith("VmRSS:"))
    return int(line.split()[1])


def readable(path: Path, text: str) -> None:
    """Write a file anew that the user may read as which the daemon runs."""
    new = path.with_suffix(".new")
    new.write_text(text)
    new.chmod(0o644)
    new.rename(path)


def web_config(password: str) -> str:
    """Return a file with TLS 1.3, certificates for clients, and one user."""
    known = bcrypt.hashpw(password.encode(), bcrypt.gensalt(10)).decode()
    return (
        "tls_server_config:\n"
        "  cert_file: server.crt\n"
        "  key_file: server.key\n"
        "  min_version: TLS13\n"
        "  client_auth_type: RequireAndVerifyClientCert\n"
        "  client_ca_file: ca.crt\n"
        "basic_auth_users:\n"
        f"  operator: {known}\n"
    )


def guarded(directory: Path, edu: str) -> dict[str, Any]:
    """Ask with TLS, with and without what is wanted, and change the files."""
    OWN.mkdir(mode=0o755)
    ca = authority(OWN, "ca")
    certificate(OWN, "server", f"IP:{HOST}", by=ca)
    certificate(OWN, "client", "DNS:scraper", by=ca)
    (OWN / "server.key").chmod(0o644)
    path, log = OWN / "web.yml", directory / "guarded.log"
    readable(path, web_config(PASSWORD))
    trusting = ("--cacert", ca)
    known = (*trusting, "--cert", OWN / "client.crt", "--key", OWN / "client.key")
    right = (*known, "--user", f"operator:{PASSWORD}")
    result: dict[str, Any] = {}
    listen = ("--listen", f"{HOST}:{PORT}", "--web.config.file", path)
    with observing(log, *listen) as process:
        wait_for(lambda: curl(*right, URL)["status"] == 200)
        result["rss_kb"] = rss_kb(process)
        pci.write(f"devices/{edu}/driver_override", "pci-stub\n")
        pci.write("drivers_probe", f"{edu}\n")
        result["asked"] = {
            "right": curl(*right, URL),
            "wrong password": curl(*known, "--user", f"operator:{SECOND}", URL),
            "no password": curl(*known, URL),
            "no certificate": curl(*trusting, "--user", f"operator:{PASSWORD}", URL),
            "TLS 1.2": curl(*right, "--tls-max", "1.2", URL),
            "no TLS": curl(URL.replace("https", "http")),
        }
        readable(path, web_config(SECOND))
        second = (*known, "--user", f"operator:{SECOND}")
        wait_for(lambda: curl(*second, URL)["status"] == 200)
        result["old password"] = curl(*right, URL)["status"]
        readable(path, f"basic_auth_users: {{operator: {SECOND}}}")
        wait_for(lambda: sample(curl(*second, URL), SUCCESS) == 0)
        result["exit"] = end(process)
    result["log"] = log.read_text()
    return result


def local(directory: Path) -> dict[str, Any]:
    """Ask on a unix socket, also after a daemon that could not clear away."""
    result: dict[str, Any] = {}
    ask = ("--unix-socket", SOCKET, "http://localhost/metrics")
    by_nobody = ("setpriv", "--reuid", NOBODY, "--regid", NOBODY, "--clear-groups")
    for name in ("first", "second"):
        log = directory / f"{name}.log"
        with observing(log, "--listen", f"unix:{SOCKET}") as process:
            wait_for(lambda: curl(*ask)["status"] == 200)
            looked = SOCKET.lstat()
            result[name] = {
                "mode": stat.filemode(looked.st_mode),
                "uid": looked.st_uid,
                "asked": curl(*ask)["status"],
                "nobody": curl(*ask, run=by_nobody)["exit"],
                "rss_kb": rss_kb(process),
            }
            if name == "first":
                os.kill(process.pid, signal.SIGKILL)
                process.wait(END_SECONDS)
                result["left"] = SOCKET.is_socket()
            else:
                result["exit"] = end(process)
    return result


def passed(directory: Path) -> dict[str, Any]:
    """Ask on a port that was listened on before the daemon was there."""
    log = directory / "passed.log"
    by = ("systemd-socket-activate", "-l", f"{HOST}:{PORT}")
    ask = (f"http://{HOST}:{PORT}/-/ready",)
    with observing(log, "--listen", "systemd", by=by) as process:
        wait_for(lambda: curl("--retry-connrefused", *ask)["status"] == 200)
        status = end(process)
    return {"exit": status, "log": log.read_text()}


def main(directory: Path) -> int:
    """Do all of it."""
    pci.run("ip", "link", "set", "lo", "up")
    pci.run("udevadm", "settle", "--timeout=60")
    pci.run("modprobe", "pci-stub")
    result = {
        "guarded": guarded(directory, pci.addresses()["edu"]),
        "local": local(directory),
        "passed": passed(directory),
    }
    (directory / "result.json").write_text(json.dumps(result))
    return 0


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))

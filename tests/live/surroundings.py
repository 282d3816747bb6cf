"""Bad surroundings, one after the other, in a guest: python -m live.surroundings DIR.

Each is made, `run` and `doctor` are asked, and it is taken back; the lockdown, which
can't be, comes last. What is right is for tests/test_surroundings.py to say.
"""

from __future__ import annotations

import contextlib
import json
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Final

from live import counters, pci
from live.watcher import COMMAND, HOST, Watcher

if TYPE_CHECKING:
    from collections.abc import Iterator

PORT: Final = 9817
SECONDS: Final = 180
BTF: Final = Path("/sys/kernel/btf")
BCC: Final = Path("/usr/lib/python3/dist-packages/bcc")
PROGRAMS: Final = Path(__file__).resolve().parents[2] / "bpf"
LOCKDOWN: Final = Path("/sys/kernel/security/lockdown")
NOBODY: Final = ("setpriv", "--reuid=65534", "--regid=65534", "--clear-groups")


@contextlib.contextmanager
def mounted(what: Path, where: Path) -> Iterator[None]:
    """Hide `where` behind `what`."""
    subprocess.run(["mount", "--bind", what, where], check=True)
    try:
        yield
    finally:
        subprocess.run(["umount", where], check=True)


@contextlib.contextmanager
def port_taken() -> Iterator[None]:
    """Listen where the observer wants to."""
    with socket.create_server((HOST, PORT)):
        yield


def ask(*command: str | Path) -> dict[str, object]:
    """Run a command that should end by itself; return how it did."""
    begin = time.monotonic()
    try:
        done = subprocess.run(
            command,
            capture_output=True,
            text=True,
            check=False,
            stdin=subprocess.DEVNULL,
            timeout=SECONDS,
        )
    except subprocess.TimeoutExpired:
        return {"status": None, "stdout": "", "stderr": "it ran and ran"}
    return {
        "status": done.returncode,
        "stdout": done.stdout,
        "stderr": done.stderr,
        "seconds": time.monotonic() - begin,
    }


def examine(*prefix: str) -> dict[str, object]:
    """Ask `run` and `doctor`; return what they said and what they left behind."""
    before = counters.loaded()
    # Else it would go on with an audit of what sysfs shows.
    listen = ("--listen", f"{HOST}:{PORT}", "--require-hooks")
    return {
        "run": ask(*prefix, COMMAND, "run", *listen, "--log-level", "warning"),
        "doctor": ask(*prefix, COMMAND, "doctor"),
        "doctor_json": ask(*prefix, COMMAND, "doctor", "--json"),
        "left_behind": left_behind(before),
    }


def examine_doctor() -> dict[str, object]:
    """Ask `doctor` alone, where `run` would run."""
    return {"doctor_json": ask(COMMAND, "doctor", "--json")}


def observe(directory: Path) -> dict[str, object]:
    """Observe for a moment; return what the first line said."""
    log = directory / "observed.log"
    with Watcher("--no-state", port=PORT, log=log):
        return {"observed": log.read_text().splitlines()}


def left_behind(before: dict[str, list[str]]) -> dict[str, list[str]]:
    """Return what was not there before; programs are freed a little late."""
    time.sleep(1)
    now = counters.loaded()
    return {kind: [x for x in now[kind] if x not in before[kind]] for kind in now}


def main(directory: Path) -> int:
    """Try all surroundings; a broken one is written down like the others."""
    pci.run("ip", "link", "set", "lo", "up")
    empty = directory / "empty"
    empty.mkdir(exist_ok=True)
    results: dict[str, object] = {}

    def note(name: str, *prefix: str) -> None:
        begin = time.monotonic()
        results[name] = examine(*prefix)
        (directory / "result.json").write_text(json.dumps(results))
        print(f"{name}: {time.monotonic() - begin:.1f} s", flush=True)

    with mounted(empty, BTF):
        note("no_btf")
    with mounted(directory / "without_function.btf", BTF / "vmlinux"):
        note("no_function")
    with mounted(directory / "nonsense.btf", BTF / "vmlinux"):
        note("broken_btf")
    note("no_permission", *NOBODY)
    with mounted(empty, BCC), mounted(empty, PROGRAMS):
        note("no_programs")
    with mounted(empty, BCC):
        results["no_compiler"] = examine_doctor() | observe(directory)
    with port_taken():
        note("port_in_use")
    results["good"] = examine_doctor()
    LOCKDOWN.write_text("integrity")
    results["integrity"] = examine_doctor()
    LOCKDOWN.write_text("confidentiality")
    note("locked_down")
    return 0


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))

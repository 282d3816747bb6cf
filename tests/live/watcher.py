"""The observer as a process of its own, seen from outside."""

from __future__ import annotations

import contextlib
import http.client
import os
import signal
import socket
import subprocess
import time
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Final, Self

if TYPE_CHECKING:
    from collections.abc import Mapping
    from types import TracebackType

COMMAND: Final = Path(__file__).resolve().parents[2] / ".venv/bin/pci-observer"
READY_SECONDS: Final = 180
END_SECONDS: Final = 60
HOST: Final = "127.0.0.1"

CONNECT_SECONDS: Final = 0.5

CAPABILITY_SETS: Final = ("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb")
THREAD_FIELDS: Final = ("Name", "Uid", "Gid", "NoNewPrivs", *CAPABILITY_SETS)


class WatcherError(Exception):
    """The observer did not come up; the message says how far it came."""


def samples(page: str) -> dict[str, float]:
    """Return what a scrape tells: value by name and labels, without our prefix."""
    pairs = (
        line.rsplit(" ", 1)
        for line in page.splitlines()
        if line and not line.startswith("#")
    )
    return {name.removeprefix("pci_observer_"): float(value) for name, value in pairs}


class Watcher:
    """`pci-observer run`, ready; a context manager that kills what is left."""

    def __init__(
        self,
        *arguments: str,
        port: int,
        log: Path,
        stderr: socket.socket | None = None,
        environ: Mapping[str, str] = MappingProxyType({}),
    ) -> None:
        """Start it and wait until it is ready; `stderr` instead of the file `log`."""
        self._port = port
        self._log = log
        begin = time.monotonic()
        with log.open("wb") as file:
            self._process = subprocess.Popen(
                [COMMAND, "run", "--listen", f"{HOST}:{port}", *arguments],
                stdin=subprocess.DEVNULL,
                stdout=file,
                stderr=stderr.fileno() if stderr else file,
                env=os.environ | environ,
            )
        self._wait_until_ready(begin + READY_SECONDS)
        self.attach_seconds = time.monotonic() - begin

    def _wait_until_ready(self, deadline: float) -> None:
        while time.monotonic() < deadline and self._process.poll() is None:
            with contextlib.suppress(OSError):
                if self._get("/-/ready")[0] == http.client.OK:
                    return
            time.sleep(0.2)
        self.kill()
        raise WatcherError(f"not ready; it said: {self._log.read_text()}")

    def _get(self, path: str) -> tuple[int, str]:
        connection = http.client.HTTPConnection(HOST, self._port, timeout=30)
        try:
            connection.request("GET", path)
            answer = connection.getresponse()
            return answer.status, answer.read().decode()
        finally:
            connection.close()

    @property
    def process(self) -> Path:
        """Return where the kernel tells of the process."""
        return Path("/proc", str(self._process.pid))

    def send(self, number: signal.Signals) -> None:
        """Send it a signal."""
        self._process.send_signal(number)

    def page(self, path: str) -> str:
        """Read a page."""
        return self._get(path)[1]

    def metrics(self) -> dict[str, float]:
        """Scrape it; without histograms' buckets."""
        told = samples(self.page("/metrics"))
        return {name: told[name] for name in told if "_bucket{" not in name}

    def state(self) -> dict[str, object]:
        """Read what the kernel says of the process and each of its threads."""
        process = self.process
        rss_kb = int(_status(process)["VmRSS"].split()[0])
        # A client that does not end its request keeps a thread, which counts as well.
        with socket.create_connection((HOST, self._port)) as client:
            client.sendall(b"GET ")
            time.sleep(CONNECT_SECONDS)
            threads = []
            for thread in sorted((process / "task").iterdir()):
                with contextlib.suppress(FileNotFoundError, ProcessLookupError):
                    status = _status(thread)
                    threads.append({name: status[name] for name in THREAD_FIELDS})
        return {"rss_kb": rss_kb, "threads": threads}

    def kill(self) -> None:
        """End it as the kernel does when memory runs out."""
        self._process.kill()
        self._process.wait(END_SECONDS)

    def stop(self) -> dict[str, object]:
        """End it as systemd does; return its exit status and last line."""
        self._process.send_signal(signal.SIGTERM)
        status = self._process.wait(END_SECONDS)
        lines = self._log.read_text().splitlines()
        return {"status": status, "last": lines[-1] if lines else ""}

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.kill()


def _status(directory: Path) -> dict[str, str]:
    lines = (directory / "status").read_text().splitlines()
    pairs = (line.split(":", 1) for line in lines)
    return {name: " ".join(value.split()) for name, value in pairs}

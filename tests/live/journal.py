"""A journald of the test's own, and a log that goes there as systemd has it."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Self

if TYPE_CHECKING:
    from types import TracebackType

JOURNALD: Final = "/lib/systemd/systemd-journald"
NAMESPACE: Final = "pci-observer-test"
READY_SECONDS: Final = 60
_STDOUT: Final = Path(f"/run/systemd/journal.{NAMESPACE}/stdout")


class Journal:
    """journald under a name of its own; a context manager that ends it."""

    def __init__(self) -> None:
        """Start it and wait until it listens."""
        self._process = subprocess.Popen([JOURNALD, NAMESPACE])
        deadline = time.monotonic() + READY_SECONDS
        while not _STDOUT.is_socket():
            if self._process.poll() is not None or time.monotonic() > deadline:
                raise AssertionError(f"no journald: {self._process.poll()}")
            time.sleep(0.1)

    def stream(self, identifier: str) -> tuple[socket.socket, dict[str, str]]:
        """Return what is to be stderr, and the environment that says so.

        As systemd's exec_invoke(): the socket's first lines tell identifier, unit,
        default priority, whether lines begin with theirs, and where else they go.
        """
        stream = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        stream.connect(str(_STDOUT))
        stream.sendall(f"{identifier}\n\n6\n1\n0\n0\n0\n".encode())
        status = os.fstat(stream.fileno())
        return stream, {"JOURNAL_STREAM": f"{status.st_dev}:{status.st_ino}"}

    def entries(self, identifier: str) -> list[dict[str, Any]]:
        """Read all entries as journalctl shows them to programs."""
        subprocess.run(self._journalctl("--sync"), check=True)
        done = subprocess.run(
            self._journalctl("-t", identifier, "--all", "-o", "json"),
            check=True,
            capture_output=True,
            text=True,
        )
        return [json.loads(line) for line in done.stdout.splitlines()]

    def read(self, identifier: str) -> list[str]:
        """Read the messages alone, as documented for jq."""
        done = subprocess.run(
            self._journalctl("-t", identifier, "-o", "cat"),
            check=True,
            capture_output=True,
            text=True,
        )
        return done.stdout.splitlines()

    def _journalctl(self, *words: str) -> list[str]:
        return ["journalctl", f"--namespace={NAMESPACE}", "--no-pager", *words]

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._process.terminate()
        self._process.wait(READY_SECONDS)

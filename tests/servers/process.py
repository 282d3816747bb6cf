"""A server as a process: a free port, its log, its health page, its certain end."""

from __future__ import annotations

import json
import socket
import subprocess
import time
import urllib.error
import urllib.parse
import urllib.request
from typing import TYPE_CHECKING, Any, Self

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path
    from types import TracebackType

HOST = "127.0.0.1"
READY_SECONDS = 60
END_SECONDS = 30


class ServerError(AssertionError):
    """A server did not do what it must; the message ends with its log."""


def free_port() -> int:
    """Return a port that nobody listens on now."""
    with socket.socket() as listener:
        listener.bind((HOST, 0))
        port: int = listener.getsockname()[1]
        return port


class Server:
    """A started server that is ready; a context manager that ends it."""

    def __init__(
        self, command: Sequence[str], port: int, health: str, directory: Path
    ) -> None:
        """Start it; its log goes to `directory`. No `health` page: it listens."""
        self.address = f"{HOST}:{port}"
        self.url = f"http://{self.address}"
        self.directory = directory
        self._log = directory / f"{command[0].rpartition('/')[2]}.log"
        with self._log.open("wb") as log:
            self._process = subprocess.Popen(
                command, cwd=directory, stdin=subprocess.DEVNULL, stdout=log, stderr=log
            )
        try:
            self._wait_until_ready(health, port)
        except ServerError:
            self._end()
            raise

    @property
    def pid(self) -> int:
        """Return its process."""
        return self._process.pid

    def resident_bytes(self) -> int:
        """Return how much memory it has."""
        with open(f"/proc/{self.pid}/status", encoding="ascii") as status:  # noqa: PTH123
            for line in status:
                if line.startswith("VmRSS:"):
                    return int(line.split()[1]) * 1024
        raise ServerError("no VmRSS")

    def log(self) -> str:
        """Return what it said."""
        return self._log.read_text(encoding="utf-8", errors="replace")

    def _wait_until_ready(self, health: str, port: int) -> None:
        deadline = time.monotonic() + READY_SECONDS
        while time.monotonic() < deadline and self._process.poll() is None:
            try:
                if not health:
                    socket.create_connection((HOST, port), 5).close()
                    return
                with urllib.request.urlopen(self.url + health, timeout=5):  # noqa: S310
                    return
            except OSError:
                time.sleep(0.1)
        raise ServerError(f"not ready, status {self._process.poll()}:\n{self.log()}")

    def get(self, path: str, **parameters: str) -> Any:  # noqa: ANN401 - JSON
        """Return what a page answers in JSON; long parameters go in the body."""
        body = urllib.parse.urlencode(parameters).encode() if parameters else None
        request = urllib.request.Request(self.url + path, data=body)  # noqa: S310
        try:
            with urllib.request.urlopen(request, timeout=120) as answer:  # noqa: S310
                return json.load(answer)
        except urllib.error.HTTPError as e:
            raise ServerError(f"{path} {parameters}: {e.read().decode()}") from e

    def text(self, path: str) -> str:
        """Return a page."""
        with urllib.request.urlopen(self.url + path, timeout=60) as answer:  # noqa: S310
            body: bytes = answer.read()
            return body.decode()

    def post(self, path: str, body: bytes, headers: Mapping[str, str] = {}) -> None:
        """Send something."""
        request = urllib.request.Request(self.url + path, body, dict(headers))  # noqa: S310
        with urllib.request.urlopen(request, timeout=300):  # noqa: S310
            pass

    def _end(self) -> None:
        self._process.terminate()
        try:
            self._process.wait(END_SECONDS)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait(END_SECONDS)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._end()


class Answer(dict[tuple[tuple[str, str], ...], float]):
    """An instant query's answer: value by sorted labels, without the metric's name."""


class Queried(Server):
    """A server with Prometheus' HTTP API."""

    prefix = "/api/v1"

    def query(self, expr: str, at: float | None = None, **more: str) -> Answer:
        """Evaluate an expression at a time, by default now."""
        parameters = {"query": expr, **more}
        if at is not None:
            parameters["time"] = str(at)
        answer = self.get(f"{self.prefix}/query", **parameters)
        if answer["status"] != "success":
            raise ServerError(f"{expr}: {answer}")
        found = Answer()
        for sample in answer["data"]["result"]:
            labels = {k: v for k, v in sample["metric"].items() if k != "__name__"}
            found[tuple(sorted(labels.items()))] = float(sample["value"][1])
        return found

    def wait_for(self, expr: str, seconds: float = 90) -> Answer:
        """Query until there is an answer with a sample."""
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            if found := self.query(expr):
                return found
            time.sleep(0.3)
        raise ServerError(f"no answer to {expr} in {seconds} s:\n{self.log()[-2000:]}")

"""The HTTP server as a process of its own: `--listen`, `--web.config.file`, pages.

What it listens on is the first line that it prints, then come those of the log; it
ends with its standard input. The pages are the daemon's, with metrics of a size.
"""

from __future__ import annotations

import json
import subprocess
import sys
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from observer import memory
from observer.exchange import Open
from observer.listening import listen
from observer.pages import routes
from observer.server import Server

if TYPE_CHECKING:
    from collections.abc import Iterator

METRICS = b"x 1\n" * 10_000


class Process(NamedTuple):
    """The server."""

    pid: int
    address: str | tuple[str, int]

    def resident_bytes(self) -> int:
        """Return how much memory it has."""
        text = Path(f"/proc/{self.pid}/status").read_text(encoding="ascii")
        line = next(line for line in text.splitlines() if line.startswith("VmRSS:"))
        return int(line.split()[1]) * 1024

    def descriptors(self) -> int:
        """Return how many files and connections it has open."""
        return len([*Path(f"/proc/{self.pid}/fd").iterdir()])

    def threads(self) -> int:
        """Return how many threads it has."""
        return len([*Path(f"/proc/{self.pid}/task").iterdir()])


@contextmanager
def process(address: str, web_config: Path | None = None) -> Iterator[Process]:
    """Run it."""
    words = [sys.executable, __file__, address, str(web_config or "")]
    root = str(Path(__file__).parents[1])
    with subprocess.Popen(
        words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env={"PYTHONPATH": root}
    ) as started:
        assert started.stdout is not None
        name = json.loads(started.stdout.readline())
        yield Process(started.pid, tuple(name) if isinstance(name, list) else name)
        started.communicate(timeout=30)
    assert started.returncode == 0


def main(address: str, web_config: str) -> None:
    """Serve until standard input ends."""
    memory.save()
    listener = listen(address)
    access = None
    if web_config:
        from observer.access import Access  # noqa: PLC0415

        access = Access(Path(web_config), on_change=print, on_trouble=print)
    pages = routes(
        landing=lambda: b"",
        metrics=lambda _: (METRICS, "text/plain"),
        ready=lambda: True,
    )
    server = Server(listener, pages, rules=access.rules if access else Open)
    server.start()
    print(json.dumps(listener.getsockname()), flush=True)
    sys.stdin.read()
    server.stop()


if __name__ == "__main__":
    main(*sys.argv[1:])

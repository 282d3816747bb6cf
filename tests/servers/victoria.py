"""VictoriaMetrics, its agent and its alerts."""

from __future__ import annotations

import subprocess
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from servers.process import HOST, Queried, Server, free_port

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

CHUNK_BYTES = 32 << 20


class VictoriaMetrics(Queried):
    """A single server; it shows what it has at once, not only after 30 s."""

    def __init__(self, directory: Path) -> None:
        """Start it."""
        port = free_port()
        command = (
            *("victoria-metrics", f"-storageDataPath={directory / 'victoria'}"),
            f"-httpListenAddr={HOST}:{port}",
            *("-retentionPeriod=3", "-search.latencyOffset=0s"),
            *("-search.maxStalenessInterval=5m", "-loggerLevel=ERROR"),
        )
        super().__init__(command, port, "/health", directory)

    def load(self, pieces: Iterable[str]) -> None:
        """Import a history in Prometheus' text format with times in ms."""
        chunk: list[str] = []
        size = 0
        for piece in pieces:
            chunk.append(piece)
            size += len(piece)
            if size >= CHUNK_BYTES:
                self._send(chunk)
                chunk, size = [], 0
        self._send(chunk)
        self.flush()

    def _send(self, chunk: list[str]) -> None:
        self.post("/api/v1/import/prometheus", "".join(chunk).encode())

    def flush(self) -> None:
        """Make everything that was sent visible to queries."""
        self.post("/internal/force_flush", b"")
        self.post("/internal/resetRollupResultCache", b"")


class Vmagent(Server):
    """vmagent: scrapes as Prometheus would and pushes."""

    def __init__(self, directory: Path, config: str, remote: str) -> None:
        """Start it."""
        path = directory / "vmagent.yml"
        path.write_text(config, encoding="utf-8")
        port = free_port()
        command = (
            *("vmagent", f"-promscrape.config={path}"),
            f"-remoteWrite.url={remote}",
            f"-remoteWrite.tmpDataPath={directory / 'vmagent'}",
            "-remoteWrite.flushInterval=1s",
            f"-httpListenAddr={HOST}:{port}",
        )
        super().__init__(command, port, "/health", directory)


class Vmalert(Server):
    """vmalert: rules and alerts on what VictoriaMetrics has."""

    def __init__(
        self, directory: Path, victoria: VictoriaMetrics, notifier: str, *rules: Path
    ) -> None:
        """Start it."""
        port = free_port()
        command = (
            *("vmalert", f"-datasource.url={victoria.url}"),
            f"-remoteWrite.url={victoria.url}",
            f"-remoteRead.url={victoria.url}",
            f"-notifier.url={notifier}",
            *(f"-rule={rule}" for rule in rules),
            f"-httpListenAddr={HOST}:{port}",
        )
        super().__init__(command, port, "/health", directory)


def replay(victoria: VictoriaMetrics, rules: Path, start: int, end: int) -> None:
    """Evaluate recording rules for a time that is over."""
    done = subprocess.run(
        [
            *("vmalert", f"-datasource.url={victoria.url}"),
            f"-remoteWrite.url={victoria.url}",
            *(f"-replay.timeFrom={stamp(start)}", f"-replay.timeTo={stamp(end)}"),
            *("-replay.rulesDelay=0s", f"-rule={rules}", "-loggerLevel=ERROR"),
            f"-httpListenAddr={HOST}:{free_port()}",
        ],
        check=False,
        capture_output=True,
        text=True,
        timeout=600,
    )
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
    victoria.flush()


def stamp(time: int) -> str:
    """Spell a Unix time as vmalert reads it."""
    return datetime.fromtimestamp(time, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")

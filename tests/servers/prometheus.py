"""Prometheus, as a server and as an agent, and Alertmanager."""

from __future__ import annotations

import subprocess
from typing import TYPE_CHECKING

from servers.process import HOST, Queried, Server, free_port

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path


class Prometheus(Queried):
    """A Prometheus with a configuration and, if they are there, blocks in `data`."""

    def __init__(
        self, directory: Path, config: str, *options: str, listening: bool = False
    ) -> None:
        """Start it; with access control it is enough that it is `listening`."""
        path = directory / "prometheus.yml"
        path.write_text(config, encoding="utf-8")
        port = free_port()
        command = (
            *("prometheus", f"--config.file={path}"),
            f"--web.listen-address={HOST}:{port}",
            *("--log.level=warn", *options),
        )
        if "--enable-feature=agent" in options:
            command += (f"--storage.agent.path={directory / 'agent'}",)
        else:
            command += (
                f"--storage.tsdb.path={directory / 'data'}",
                "--storage.tsdb.retention.time=90d",
            )
        health = "" if listening else "/-/ready"
        super().__init__(command, port, health, directory)


class Alertmanager(Server):
    """An Alertmanager."""

    def __init__(self, directory: Path, config: str) -> None:
        """Start it."""
        path = directory / "alertmanager.yml"
        path.write_text(config, encoding="utf-8")
        port = free_port()
        command = (
            *("prometheus-alertmanager", f"--config.file={path}"),
            f"--storage.path={directory / 'alertmanager'}",
            f"--web.listen-address={HOST}:{port}",
            "--cluster.listen-address=",
        )
        super().__init__(command, port, "/-/ready", directory)


def import_openmetrics(pieces: Iterable[str], directory: Path) -> None:
    """Make blocks of a history, for a Prometheus that is not started yet."""
    history = directory / "history.om"
    with history.open("w", encoding="utf-8") as file:
        file.writelines(pieces)
    tool("tsdb", "create-blocks-from", "openmetrics", history, directory / "data")
    history.unlink()


def backfill(
    server: Prometheus, rules: Path, start: int, end: int, every: str = "4m"
) -> None:
    """Evaluate recording rules for a time that is over, in `data` of the server.

    Twice, for some need others; the server sees the blocks after it was started anew.
    """
    tool(
        *("tsdb", "create-blocks-from", "rules", f"--url={server.url}"),
        *(f"--start={start}", f"--end={end}", f"--eval-interval={every}"),
        *(f"--output-dir={server.directory / 'data'}", rules),
    )


def tool(*arguments: str | Path) -> str:
    """Run promtool; return what it printed."""
    done = subprocess.run(
        ["promtool", *map(str, arguments)],
        check=False,
        capture_output=True,
        text=True,
        timeout=600,
    )
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
    return done.stdout

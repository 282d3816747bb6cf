"""What the daemon hands over, collected in a guest: python -m live.collected DIRECTORY.

A journald takes its log, as under systemd; a Prometheus scrapes it, with our rules and
alerts; node_exporter reads its file; and somebody looks at its page.
"""

from __future__ import annotations

import json
import platform
import sys
import time
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from servers.documented import queries, scraping
from servers.process import Server, ServerError, free_port
from servers.prometheus import Prometheus

from live import pci
from live.journal import Journal
from live.watcher import HOST, Watcher

if TYPE_CHECKING:
    from servers.process import Queried

PORT: Final = 9918
IDENTIFIER: Final = "pci-observer"
JOB: Final = "pci-observer"
INSTANCE: Final = "guest"
# In its comm a writer may put what would end a line, or begin one with a priority.
FORGER: Final = b'a\n<0>{"b":1}'
NO_DRIVER: Final = "absent\x1b[31m<b>"  # named by driver_override
SECONDS: Final = 5  # between two evaluations: this CPU is an emulated one
ALERT_SECONDS: Final = 180
TEXTFILE_SECONDS: Final = 16  # until the file is written again
OWN: Final = Path("/run/servers")  # the host's file system can't be mapped
NODE_EXPORTER: Final = (
    *("prometheus-node-exporter", "--collector.disable-defaults"),
    "--collector.textfile",
)


def act(places: dict[str, str]) -> None:
    """Override, bind and unbind a device, by a task with a hostile name."""
    edu = places["edu"]
    Path("/proc/self/comm").write_bytes(FORGER)
    pci.write(f"devices/{edu}/driver_override", "pci-stub\n")
    pci.write("drivers_probe", f"{edu}\n")
    pci.write("drivers/pci-stub/unbind", f"{edu}\n")
    pci.write(f"devices/{edu}/driver_override", f"{NO_DRIVER}\n")


def answers(prometheus: Queried) -> list[dict[str, Any]]:
    """Ask all that the dashboards ask; return how many series came, or the error."""
    found = []
    for query in queries(JOB, INSTANCE):
        told: dict[str, Any] = {"panel": [query.dashboard, query.title]}
        try:
            told["series"] = len(prometheus.query(query.expr))
        except ServerError as e:
            told["error"] = str(e)
        found.append(told)
    return found


def alert(prometheus: Queried, name: str) -> list[dict[str, str]]:
    """Wait until an alert fires; return the labels of each."""
    expr = f'ALERTS{{alertname="PciObserver{name}", alertstate="firing"}}'
    return [dict(labels) for labels in prometheus.wait_for(expr, ALERT_SECONDS)]


def exported(textfiles: Path, directory: Path) -> str:
    """Return what node_exporter makes of the file."""
    port = free_port()
    command = (
        *NODE_EXPORTER,
        f"--collector.textfile.directory={textfiles}",
        f"--web.listen-address={HOST}:{port}",
    )
    with Server(command, port, "/metrics", directory) as server:
        return server.text("/metrics")


def main(directory: Path) -> int:
    """Observe, act, and collect."""
    pci.run("ip", "link", "set", "lo", "up")
    pci.run("udevadm", "settle", "--timeout=60")
    pci.run("modprobe", "pci-stub")
    places = pci.addresses()
    textfiles = OWN / "textfiles"
    textfiles.mkdir(parents=True)
    textfiles.chmod(0o777)  # for the user as which the daemon runs
    target = {"targets": [f"{HOST}:{PORT}"], "labels": {"instance": INSTANCE}}
    result: dict[str, Any] = {"release": platform.release(), "places": places}
    with Journal() as journal, ExitStack() as exits:
        stream, environ = journal.stream(IDENTIFIER)
        exits.enter_context(stream)
        watcher = exits.enter_context(
            Watcher(
                *("--textfile", str(textfiles / "pci-observer.prom")),
                port=PORT,
                log=directory / "stdout",
                stderr=stream,
                environ=environ,
            )
        )
        config = scraping([target], OWN, f"{HOST}:1", SECONDS)
        prometheus = exits.enter_context(Prometheus(OWN, config))
        prometheus.wait_for("up == 1", ALERT_SECONDS)
        act(places)
        result["stale_override"] = alert(prometheus, "StaleOverride")
        result["answers"] = answers(prometheus)
        samples = prometheus.query("scrape_samples_scraped")
        result["scraped"] = [*samples.values()]
        result["kernels"] = [
            dict(labels) for labels in prometheus.query("pci_observer_kernel_info")
        ]
        result["scrape"] = watcher.page("/metrics")
        result["landing"] = watcher.page("/")
        result["metrics"] = watcher.metrics()
        time.sleep(TEXTFILE_SECONDS)
        result["node_exporter"] = exported(textfiles, OWN)
        result["stopped"] = watcher.stop()
        result["left"] = [path.name for path in textfiles.iterdir()]
        result["absent"] = alert(prometheus, "Absent")
        result["entries"] = journal.entries(IDENTIFIER)
        result["read"] = journal.read(IDENTIFIER)
    (directory / "result.json").write_text(json.dumps(result))
    return 0


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))

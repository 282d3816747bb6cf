"""What the fleet's dashboard costs on 10,000 hosts with 20 devices each.

Each panel's queries are asked of real servers: Prometheus with the recording rules'
results, and VictoriaMetrics. The peer is the raw self-join that needs no daemon that
remembers, "which driver is another one than 30 minutes ago on hosts with another
kernel", on the same server. Only the series that the fleet's dashboard, the rules and
the alerts ask for are there.
"""

from __future__ import annotations

import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Final

from fleet.exposition import OF_THE_FLEET, imported, openmetrics
from fleet.scenario import HOUR, JOB, Fleet
from rows import Row
from servers.documented import RULES, queries, recorded
from servers.prometheus import Prometheus, backfill, import_openmetrics
from servers.victoria import VictoriaMetrics, replay

if TYPE_CHECKING:
    from collections.abc import Iterator

    from servers.documented import Query
    from servers.process import Queried

HOSTS: Final = 10_000
DEVICES: Final = 20
STEP: Final = 300
RUNS: Final = 3
NO_SCRAPES: Final = "global: {scrape_interval: 1m}\n"
LIMITS_MS: Final = {"Prometheus": 2000, "VictoriaMetrics": 1000}
_NOW, _THEN = "pci_observer_device_driver_info", "offset 30m"
_KERNEL: Final = "pci_observer_kernel_info"
SELF_JOIN: Final = (
    f"count(({_NOW} unless on (instance, address, driver) ({_NOW} {_THEN}))"
    f" * on (instance) group_left (release)"
    f" ({_KERNEL} unless on (instance, release) ({_KERNEL} {_THEN})))"
)


def rows() -> Iterator[Row]:
    """Measure both servers, one after the other."""
    end = int(time.time()) // STEP * STEP
    fleet = Fleet(HOSTS, DEVICES, end - HOUR, end, STEP)
    for measure in (_prometheus, _victoria):
        with tempfile.TemporaryDirectory() as directory:
            yield from measure(fleet, Path(directory))


def _prometheus(fleet: Fleet, directory: Path) -> Iterator[Row]:
    _say("making blocks for Prometheus")
    import_openmetrics(openmetrics(fleet, OF_THE_FLEET), directory)
    for _ in range(2):  # some rules need others
        _say("evaluating the recording rules")
        with Prometheus(directory, NO_SCRAPES) as server:
            backfill(server, RULES, fleet.start, fleet.end, f"{STEP}s")
    with Prometheus(directory, NO_SCRAPES) as server:
        yield from _measured("Prometheus", server, fleet)


def _victoria(fleet: Fleet, directory: Path) -> Iterator[Row]:
    _say("importing to VictoriaMetrics")
    with VictoriaMetrics(directory) as server:
        server.load(imported(fleet, OF_THE_FLEET))
        for _ in range(2):
            _say("evaluating the recording rules")
            replay(server, RULES, fleet.start, fleet.end)
        yield from _measured("VictoriaMetrics", server, fleet)


def _measured(name: str, server: Queried, fleet: Fleet) -> Iterator[Row]:
    _say(f"asking {name}")
    peer_ms = _milliseconds(server, SELF_JOIN, fleet)
    for query in queries(JOB, fleet.instance(0)):
        if query.dashboard.endswith("fleet"):
            yield _row(name, server, fleet, query, peer_ms)
    rules_ms = sum(
        _milliseconds(server, rule, fleet, some=False) for rule in recorded()
    )
    yield Row(f"{name}: all recording rules, once", "ms", rules_ms, peer_ms)
    mebibytes = server.resident_bytes() / (1 << 20)
    yield Row(f"{name}: resident memory", "MiB", mebibytes)


def _row(name: str, server: Queried, fleet: Fleet, query: Query, peer_ms: float) -> Row:
    place = f" ({query.place + 1})" if query.place else ""
    ours_ms = _milliseconds(server, query.expr, fleet, instant=query.instant)
    return Row(
        f"{name}: {query.title}{place}",
        "ms",
        ours_ms,
        peer_ms,
        most=LIMITS_MS[name],
    )


def _milliseconds(
    server: Queried, expr: str, fleet: Fleet, *, instant: bool = True, some: bool = True
) -> float:
    """Return the best of some runs; the first one reads from the disk.

    As Grafana asks: at the end, or for a graph from the start on. An answer must hold
    `some` series, or nothing was measured.
    """
    seconds = []
    for _ in range(RUNS):
        begin = time.perf_counter()
        if instant:
            found: object = server.query(expr, fleet.end, nocache="1")
        else:
            found = server.get(
                f"{server.prefix}/query_range",
                query=expr,
                start=str(fleet.start),
                end=str(fleet.end),
                step=str(fleet.step),
                nocache="1",
            )["data"]["result"]
        seconds.append(time.perf_counter() - begin)
        assert found or not some, expr
    return 1000 * min(seconds)


def _say(text: str) -> None:
    print(f"fleet: {text}", file=sys.stderr, flush=True)

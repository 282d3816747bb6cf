"""Real Prometheus, Alertmanager and VictoriaMetrics on the simulated fleet."""

from __future__ import annotations

import json
import math
import subprocess
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any, Final

import pytest
from fleet import truth
from fleet.exposition import imported, openmetrics
from fleet.scenario import HOUR, JOB, Fleet
from fleet.server import serve
from servers.documented import (
    ALERTS,
    COLLECTION,
    DASHBOARDS,
    RULES,
    Query,
    hurried,
    queries,
    scraping,
)
from servers.process import Answer, Queried, ServerError
from servers.prometheus import (
    Alertmanager,
    Prometheus,
    backfill,
    import_openmetrics,
    tool,
)
from servers.victoria import VictoriaMetrics, Vmagent, Vmalert, replay

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from pathlib import Path

pytestmark = [pytest.mark.servers, pytest.mark.timeout(600)]

NO_SCRAPES: Final = "global: {scrape_interval: 1m}\n"
END: Final = int(time.time()) // 60 * 60
FLEET: Final = Fleet(48, 20, END - 3 * HOUR, END, 60)
HOST: Final = 0  # whose dashboard is looked at: it has everything
SECONDS: Final = 90
# In seconds. What holds the hosts' alerts back has two minutes' start on them, of which
# scrapes at different moments take two seconds, rules at different moments one.
MINUTE: Final = 4
QUERIES: Final = queries(JOB, FLEET.instance(HOST))


def values(server: Queried, query: Query) -> list[float]:
    """Return all values of what a panel shows."""
    if query.instant:
        return [*server.query(query.expr, FLEET.end).values()]
    parameters = {"start": FLEET.start + HOUR, "end": FLEET.end, "step": 300}
    text = {name: str(value) for name, value in parameters.items()}
    answer = server.get(f"{server.prefix}/query_range", query=query.expr, **text)
    found = answer["data"]["result"]
    return [float(value) for series in found for _time, value in series["values"]]


@pytest.fixture(scope="module")
def prometheus(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Prometheus]:
    """Prometheus with the fleet's history and the recorded one."""
    directory = tmp_path_factory.mktemp("prometheus")
    import_openmetrics(openmetrics(FLEET), directory)
    for _ in range(2):  # some rules need others
        with Prometheus(directory, NO_SCRAPES) as server:
            backfill(server, RULES, FLEET.start, FLEET.end, "1m")
    with Prometheus(directory, NO_SCRAPES) as server:
        yield server


@pytest.fixture(scope="module")
def victoria(tmp_path_factory: pytest.TempPathFactory) -> Iterator[VictoriaMetrics]:
    """VictoriaMetrics with the same."""
    with VictoriaMetrics(tmp_path_factory.mktemp("victoria")) as server:
        server.load(imported(FLEET))
        for _ in range(2):
            replay(server, RULES, FLEET.start, FLEET.end)
        yield server


@pytest.fixture(params=["prometheus", "victoria"])
def server(request: pytest.FixtureRequest) -> Queried:
    """Each of the two."""
    found: Queried = request.getfixturevalue(request.param)
    return found


def test_every_query_of_every_dashboard_has_data(server: Queried) -> None:
    """A number that is one, for every query of every panel."""
    empty = [q for q in QUERIES if not any(map(math.isfinite, values(server, q)))]
    assert [] == empty


def shown(server: Queried, title: str, place: int = 0) -> Answer:
    """Return what a panel of the fleet shows at the end."""
    (query,) = (
        query
        for query in QUERIES
        if query.dashboard.endswith("fleet")
        and (query.title, query.place) == (title, place)
    )
    return server.query(query.expr, FLEET.end)


def by(answer: Answer, *labels: str) -> dict[tuple[str, ...], float]:
    """Return values by these labels; Prometheus leaves empty ones out."""
    return {
        tuple(dict(key).get(label, "") for label in labels): value
        for key, value in answer.items()
    }


PAIR: Final = (
    *("vendor_id", "device_id", "change", "driver_before", "driver", "release"),
)
TABLES: Final[Mapping[tuple[str, int], tuple[tuple[str, ...], Callable[..., Any]]]] = {
    ("Bindings that changed, by device and drivers", 0): (PAIR, truth.changed_devices),
    ("Bindings that changed, by device and drivers", 1): (PAIR, truth.changed_hosts),
    ("Hosts with findings, by kernel", 0): (
        ("finding", "release"),
        truth.finding_hosts,
    ),
    ("Hosts with findings, by kernel", 1): (("finding", "release"), truth.findings),
    ("Devices by driver and kernel", 0): (
        ("vendor_id", "device_id", "driver", "release"),
        truth.devices,
    ),
}


@pytest.mark.parametrize(("title", "place"), TABLES)
def test_no_table_of_the_fleet_tells_a_wrong_number(
    server: Queried, title: str, place: int
) -> None:
    """Each row and each number, against the simulator's own truth."""
    labels, count = TABLES[title, place]
    assert count(FLEET) == by(shown(server, title, place), *labels)


def test_no_number_of_the_fleet_is_wrong(server: Queried) -> None:
    """Hosts, changes, findings, silence; divergences as far as rates are exact."""
    changes = truth.changed_devices(FLEET)
    expected = {
        "Hosts": len(truth.present(FLEET)),
        "Hosts not reporting": len(truth.silent(FLEET)),
        "Devices changed": sum(changes.values()),
        "Devices without their driver": sum(
            n for key, n in changes.items() if key[2] in ("driver_lost", "vanished")
        ),
        "Findings": sum(truth.findings(FLEET).values()),
    }
    told = {title: sum(shown(server, title).values()) for title in expected}
    assert expected == told
    diverged = sum(shown(server, "Divergences in an hour").values())
    assert pytest.approx(truth.divergences_of_an_hour(FLEET), rel=0.1) == diverged


def test_no_graph_of_the_fleet_ends_wrong(server: Queried) -> None:
    """The last point of each graph."""
    kernels = {(name,): n for name, n in truth.hosts_by_kernel(FLEET).items()}
    assert kernels == by(shown(server, "Hosts by kernel"), "release")
    changes: dict[tuple[str, str], int] = {}
    for key, count in truth.changed_devices(FLEET).items():
        pair = (key[2], key[5])
        changes[pair] = changes.get(pair, 0) + count
    graph = by(shown(server, "Changed devices by kernel"), "change", "release")
    assert changes == graph
    kinds: dict[tuple[str], int] = {}
    for (finding, _), count in truth.findings(FLEET).items():
        kinds[finding,] = kinds.get((finding,), 0) + count
    graph = by(shown(server, "Findings by kind"), "finding")
    assert kinds == {key: value for key, value in graph.items() if value}


def test_the_hosts_concerned_are_those(server: Queried) -> None:
    """The drill-down names each host, and the silent ones have a table of their own."""
    expected = {
        (FLEET.instance(host), *truth.pair(FLEET, host, device))
        for host, device in truth.changed(FLEET)
    }
    rows = by(shown(server, "Hosts concerned"), "instance", *PAIR)
    assert expected == rows.keys()
    silent = {(FLEET.instance(host),) for host in truth.silent(FLEET)}
    assert silent == by(shown(server, "Hosts that do not report"), "instance").keys()


def test_the_host_shows_its_own_devices(server: Queried) -> None:
    """Tables of the host's dashboard, row by row."""

    def rows(title: str, *labels: str) -> set[tuple[str, ...]]:
        (query,) = (
            q for q in QUERIES if (q.dashboard, q.title) == ("pci-observer-host", title)
        )
        return set(by(server.query(query.expr, FLEET.end), *labels))

    machine = FLEET.machine(HOST, FLEET.end)
    assert {
        (d.address, d.driver, d.kind.driver_override) for d in machine if d.there
    } == rows("Devices and their drivers", "address", "driver", "driver_override")
    findings = set(FLEET.findings(HOST, FLEET.end))
    assert findings == rows("Findings by device", "address", "finding")
    changed = {(d.address, d.kind.driver, d.driver) for d in machine if d.regression}
    labels = ("address", "driver_before", "driver")
    assert changed == rows("Devices that changed since another kernel ran", *labels)


def number(server: Queried, dashboard: str, title: str) -> float:
    """Return the one number of a panel."""
    (query,) = (q for q in QUERIES if (q.dashboard, q.title) == (dashboard, title))
    (value,) = server.query(query.expr, FLEET.end).values()
    return value


def test_no_number_of_the_host_is_wrong(server: Queried) -> None:
    """What its first row says."""
    there = [d for d in FLEET.machine(HOST, FLEET.end) if d.there]
    expected = {
        "Devices": len(there),
        "Without a driver": sum(not device.driver for device in there),
        "Findings": len(FLEET.findings(HOST, FLEET.end)),
        "Divergences": FLEET.divergences(HOST, FLEET.end),
    }
    told = {title: number(server, "pci-observer-host", title) for title in expected}
    assert expected == told


def test_no_number_of_health_is_wrong(server: Queried) -> None:
    """Sums over the hosts that report."""
    hosts, end = truth.present(FLEET), FLEET.end
    expected = {
        "Imbalance of the books": 0,
        "Events lost": sum(FLEET.lost(host, end) for host in hosts),
        "Hooks missing": sum(FLEET.hooks_missing(host, end) for host in hosts),
        "Histories degraded": sum(FLEET.store_degraded(host, end) for host in hosts),
        "Longest silence": 1,
        "Label sets dropped": 0,
    }
    told = {title: number(server, "pci-observer-health", title) for title in expected}
    assert expected == told


def test_nothing_fails_on_an_empty_fleet(tmp_path: Path) -> None:
    """No query errs where there is no data, and each number of the fleet is 0."""
    (tmp_path / "v").mkdir()
    with (
        Prometheus(tmp_path, NO_SCRAPES) as prometheus,
        VictoriaMetrics(tmp_path / "v") as victoria,
    ):
        for server in (prometheus, victoria):
            for query in QUERIES:
                assert not any(values(server, query))
            for title in ("Hosts", "Devices changed", "Findings"):
                assert [0.0] == [*shown(server, title).values()]


# Alerts on their way.


class Webhook:
    """What Alertmanager sends, as (alertname, instance, status)."""

    def __init__(self) -> None:
        """Listen on loopback."""
        self.got: list[tuple[str, str, str]] = []
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                size = int(self.headers["Content-Length"])
                for alert in json.loads(self.rfile.read(size))["alerts"]:
                    labels = alert["labels"]
                    name, instance = labels["alertname"], labels.get("instance", "")
                    outer.got.append((name, instance, alert["status"]))
                self.send_response(200)
                self.end_headers()

            def log_message(self, *_: object) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_port}/alerts"
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def wait_for(self, name: str, status: str, instance: str = "") -> None:
        """Wait until an alert came in."""
        deadline = time.monotonic() + SECONDS
        while (name, instance, status) not in self.got:
            assert time.monotonic() < deadline, self.got
            time.sleep(0.1)

    def close(self) -> None:
        """Stop."""
        self._server.shutdown()
        self._server.server_close()


@pytest.fixture
def webhook() -> Iterator[Webhook]:
    """Receive alerts."""
    found = Webhook()
    yield found
    found.close()


def alertmanager_config(webhook: Webhook) -> str:
    """Return the example, with our receiver and without its patience."""
    text = (DASHBOARDS / "alertmanager.yaml").read_text(encoding="utf-8")
    text = text.replace("http://127.0.0.1:9095/alerts", webhook.url)
    text = text.replace("group_wait: 30s", "group_wait: 1s")
    return text.replace("group_interval: 5m", "group_interval: 1s")


def targets(hosts: serve) -> list[Mapping[str, Any]]:
    """Return the fleet's hosts as file_sd names them."""
    return [
        {
            "targets": [hosts.address],
            "labels": {
                "instance": FLEET.instance(host),
                "__metrics_path__": f"/{host}/metrics",
            },
        }
        for host in range(FLEET.hosts)
    ]


def test_a_regression_of_the_fleet_is_one_alert_and_ends(
    tmp_path: Path, webhook: Webhook
) -> None:
    """From hosts that are scraped, by the documented ways, to the receiver.

    The hosts' own alerts are held back as the example says; a host that does not answer
    is told; and all ends when it is over.
    """
    with (
        serve(FLEET) as hosts,
        Alertmanager(tmp_path, alertmanager_config(webhook)) as alertmanager,
        Prometheus(
            tmp_path,
            scraping(targets(hosts), tmp_path, alertmanager.address, minute=MINUTE),
        ) as prometheus,
    ):
        prometheus.wait_for(f'count(up{{job="{JOB}"}}) == {FLEET.hosts}')
        webhook.wait_for("PciObserverFleetRegression", "firing")
        silent = FLEET.instance(9)
        webhook.wait_for("PciObserverAbsent", "firing", silent)
        webhook.wait_for("PciObserverStaleOverride", "firing", FLEET.instance(1))
        prometheus.wait_for('ALERTS{alertname="PciObserverBindingChanged"} == 1')
        before = list(webhook.got)
        assert "PciObserverBindingChanged" not in {name for name, _, _ in before}
        assert {""} == {
            instance
            for name, instance, _ in before
            if name == "PciObserverFleetRegression"
        }
        # As it was before any upgrade, when every host answered.
        hosts.time = FLEET.start
        webhook.wait_for("PciObserverFleetRegression", "resolved")
        webhook.wait_for("PciObserverAbsent", "resolved", silent)


def agent_config(name: str, hosts: serve, host: int, victoria: Queried) -> str:
    """Return the documented configuration of an agent on a host."""
    text = (COLLECTION / name).read_text(encoding="utf-8")
    text = text.replace("127.0.0.1:9817", hosts.address)
    text = text.replace("HOST}", f'"{FLEET.instance(host)}"}}')
    text = text.replace("victoria.example:8428", victoria.address)
    text = text.replace(
        "sample_limit: 2000", f"sample_limit: 2000\n    metrics_path: /{host}/metrics"
    )
    return text.replace("scrape_interval: 30s", "scrape_interval: 1s")


def test_agents_push_and_vmalert_records_and_alerts(
    tmp_path: Path, webhook: Webhook
) -> None:
    """Prometheus' agent and vmagent, VictoriaMetrics, vmalert, Alertmanager."""
    for name in ("a", "b", "c"):
        (tmp_path / name).mkdir()
    rules = [hurried(path, tmp_path) for path in (RULES, ALERTS)]
    with (
        serve(FLEET) as hosts,
        VictoriaMetrics(tmp_path) as victoria,
        Prometheus(
            tmp_path / "a",
            agent_config("prometheus-agent.yml", hosts, 0, victoria),
            "--enable-feature=agent",
        ),
        Vmagent(
            tmp_path / "b",
            agent_config("vmagent.yml", hosts, 1, victoria),
            f"{victoria.url}/api/v1/write",
        ),
        Alertmanager(tmp_path, alertmanager_config(webhook)) as alertmanager,
        Vmalert(tmp_path / "c", victoria, alertmanager.url, *rules),
    ):
        for host in (0, 1):
            instance = FLEET.instance(host)
            found = victoria.wait_for(
                f'pci_observer_build_info{{instance="{instance}"}}'
            )
            assert {JOB} == {dict(key)["job"] for key in found}
        recorded = victoria.wait_for("sum(job_release:pci_observer_hosts:count) == 2")
        assert [2.0] == [*recorded.values()]
        webhook.wait_for("PciObserverStaleOverride", "firing", FLEET.instance(1))
        webhook.wait_for("PciObserverBindingChanged", "firing", FLEET.instance(0))


def test_documented_configurations_are_understood(tmp_path: Path) -> None:
    """As they stand, by the tools of those who read them."""
    for rules in (RULES, ALERTS):
        (tmp_path / rules.name).write_bytes(rules.read_bytes())
    text = (COLLECTION / "prometheus.yml").read_text(encoding="utf-8")
    copy = tmp_path / "prometheus.yml"
    copy.write_text(text.replace("/etc/prometheus/pci-observer", str(tmp_path)))
    (tmp_path / "hosts.json").write_text("[]")
    assert "SUCCESS" in tool("check", "config", copy)
    agent = COLLECTION / "prometheus-agent.yml"
    assert "SUCCESS" in tool("check", "config", "--agent", agent)
    web = tmp_path / "web-config.yml"
    web.write_bytes((COLLECTION / web.name).read_bytes())
    certify(tmp_path)
    tool("check", "web-config", web)
    names = {path.name for path in COLLECTION.iterdir()}
    known = {"prometheus.yml", "prometheus-agent.yml", "vmagent.yml", web.name}
    assert known == names


def certify(directory: Path) -> None:
    """Make the certificate that the example names."""
    subprocess.run(
        [
            *("openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2"),
            *("-subj", "/CN=localhost", "-addext", "subjectAltName=IP:127.0.0.1"),
            *("-keyout", directory / "prometheus.key"),
            *("-out", directory / "prometheus.crt"),
        ],
        check=True,
        capture_output=True,
    )


def test_the_documented_access_control_holds(tmp_path: Path) -> None:
    """Over TLS, with the password; not without."""
    certify(tmp_path)
    web = tmp_path / "web-config.yml"
    web.write_bytes((COLLECTION / web.name).read_bytes())
    curl = ("curl", "--silent", "--cacert", tmp_path / "prometheus.crt")
    curl += ("--output", tmp_path / "answer", "--write-out", "%{http_code}")
    with Prometheus(
        tmp_path, NO_SCRAPES, f"--web.config.file={web}", listening=True
    ) as server:
        url = f"https://{server.address}/api/v1/query?query=1"
        for words, status in ((("--user", "operator:change-me"), "200"), ((), "401")):
            done = subprocess.run(
                [*curl, *words, url], check=True, capture_output=True, text=True
            )
            assert status == done.stdout


def test_a_server_that_does_not_start_tells_why(tmp_path: Path) -> None:
    """The starters of these tests do not wait for nothing."""
    with pytest.raises(ServerError, match="nonsense"):
        Prometheus(tmp_path, "nonsense: 1\n")

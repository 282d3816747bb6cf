"""The configurations that the documentation shows, with a test's addresses put in."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Mapping

ROOT: Final = Path(__file__).resolve().parents[2]
DASHBOARDS: Final = ROOT / "dashboards"
COLLECTION: Final = ROOT / "docs" / "collection"
RULES: Final = DASHBOARDS / "prometheus_rules.yaml"
ALERTS: Final = DASHBOARDS / "prometheus_alerts.yaml"


def hurried(path: Path, directory: Path, every: int = 1, minute: int = 1) -> Path:
    """Copy rules that wait as if a minute had so many seconds; return the copy.

    They are evaluated `every` so many seconds.
    """
    text = path.read_text(encoding="utf-8")
    text = re.sub(
        r"for: (\d+)m$",
        lambda found: f"for: {int(found[1]) * minute}s",
        text,
        flags=re.MULTILINE,
    )
    text = text.replace("interval: 1m", f"interval: {every}s")
    copy = directory / path.name
    copy.write_text(text, encoding="utf-8")
    return copy


def scraping(
    targets: list[Mapping[str, Any]],
    directory: Path,
    alertmanager: str,
    every: int = 1,
    minute: int = 1,
) -> str:
    """Return prometheus.yml for these targets, hurried as well.

    They are scraped half as often as rules are evaluated.
    """
    text = (COLLECTION / "prometheus.yml").read_text(encoding="utf-8")
    files = directory / "hosts.json"
    files.write_text(json.dumps(targets), encoding="utf-8")
    for rules in (RULES, ALERTS):
        copy = hurried(rules, directory, every, minute)
        text = text.replace(f"/etc/prometheus/pci-observer/{rules.name}", str(copy))
    text = text.replace("/etc/prometheus/pci-observer/hosts.json", str(files))
    text = text.replace("127.0.0.1:9093", alertmanager).replace("1m", f"{every}s")
    return text.replace("scrape_interval: 30s", f"scrape_interval: {2 * every}s")


def recorded() -> list[str]:
    """Return the expressions of all recording rules."""
    text = RULES.read_text(encoding="utf-8")
    parts = re.findall(r"expr: (?:\|\n((?:          .*\n)+)|(.*)\n)", text)
    return [block or line for block, line in parts]


class Query(NamedTuple):
    """A query of a panel."""

    dashboard: str
    title: str
    place: int  # among the panel's queries
    expr: str  # with the variables as Grafana puts them in
    instant: bool


def queries(job: str, host: str) -> list[Query]:
    """Return the queries of all dashboards; the host's own for this one."""
    found = []
    for path in sorted(DASHBOARDS.glob("*.json")):
        chosen = host if path.stem.endswith("host") else ".*"
        for panel in json.loads(path.read_text(encoding="utf-8"))["panels"]:
            for place, target in enumerate(panel.get("targets", ())):
                expr = target["expr"].replace("$__rate_interval", "5m")
                expr = expr.replace("$job", job).replace("$kernel", ".*")
                expr = expr.replace("$host", chosen)
                instant = bool(target.get("instant"))
                found.append(Query(path.stem, panel["title"], place, expr, instant))
    return found

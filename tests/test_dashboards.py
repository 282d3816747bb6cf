"""The dashboard: what an operator needs to read it, and queries that can answer."""

from __future__ import annotations

import json
import re
import subprocess
from pathlib import Path
from typing import Any

import pytest
from exported import PREFIX, families

from observer.books import Books
from observer.metrics import About, Metrics, State
from observer.ring import Counters

DASHBOARDS = sorted((Path(__file__).parents[1] / "dashboards").glob("*.json"))
NAME = re.compile(rf"\b{PREFIX}\w+")
MATCHERS = re.compile(r"\{([^}]*)\}")
MATCHER = re.compile(r'\s*(\w+)\s*(?:=|!=|=~|!~)\s*"((?:[^"\\]|\\.)*)"\s*')
TARGET_LABELS = {"job", "instance"}  # Prometheus' own
SUBSTITUTES = {"$__rate_interval": "5m", "$job": "pci", "$instance": ".*"}

pytestmark = pytest.mark.parametrize("path", DASHBOARDS, ids=lambda path: path.stem)


def load(path: Path) -> dict[str, Any]:
    """Read a dashboard."""
    dashboard = json.loads(path.read_text(encoding="utf-8"))
    assert isinstance(dashboard, dict)
    return dashboard


def expressions(path: Path) -> list[str]:
    """Return every query of every panel."""
    panels = load(path)["panels"]
    return [target["expr"] for panel in panels for target in panel["targets"]]


def test_panels(path: Path) -> None:
    """Every panel says what it shows and in which unit, and none hides another."""
    panels = load(path)["panels"]
    for panel in panels:
        assert panel["title"]
        assert panel["description"].endswith(".")
        assert panel["fieldConfig"]["defaults"]["unit"]
        assert panel["targets"]
    ids = [panel["id"] for panel in panels]
    assert len(ids) == len(set(ids))
    taken = [place for panel in panels for place in places(**panel["gridPos"])]
    assert len(taken) == len(set(taken))


def places(x: int, y: int, w: int, h: int) -> list[tuple[int, int]]:
    """Return the cells of the grid under a panel; 24 are in a row."""
    assert x + w <= 24
    return [(x + across, y + down) for across in range(w) for down in range(h)]


def test_variables(path: Path) -> None:
    """Data source, job and instance can be chosen, and every panel obeys."""
    dashboard = load(path)
    names = [variable["name"] for variable in dashboard["templating"]["list"]]
    assert ["datasource", "job", "instance"] == names
    for panel in dashboard["panels"]:
        assert "${datasource}" == panel["datasource"]["uid"]
    for expression in expressions(path):
        selectors = len(NAME.findall(expression))
        assert selectors == expression.count('job="$job", instance=~"$instance"')


def test_exported(path: Path) -> None:
    """Every metric in a query is exported, with the labels it is selected by."""
    exported = families()
    series = {name: family for family in exported.values() for name in family.series}
    for expression in expressions(path):
        names = NAME.findall(expression)
        assert names
        assert set(names) <= series.keys()
        for name, matchers in zip(names, MATCHERS.findall(expression), strict=True):
            labels = {label for label, _value in MATCHER.findall(matchers)}
            assert labels <= series[name].labels | TARGET_LABELS


def test_first_scrape(path: Path) -> None:
    """Every metric in a query is there, at least by name, before anything happens."""
    about = About("0.1.0", "6.1.0-56-amd64", "linux-5.15", "E", 0)
    metrics = Metrics(Books(), lambda: State(Counters(), 0, 0, {}, {}), about)
    scrape = metrics.render("")[0].decode()
    for expression in expressions(path):
        for name in NAME.findall(expression):
            assert f"# TYPE {name.removesuffix('_bucket')} " in scrape


def test_matchers(path: Path) -> None:
    """Label matchers are simple: label, operator, quoted text, parted by commas."""
    for expression in expressions(path):
        for matchers in MATCHERS.findall(expression):
            assert all(MATCHER.fullmatch(each) for each in matchers.split(","))


def test_promtool(path: Path, tmp_path: Path) -> None:
    """Prometheus understands every query."""
    rules = []
    for number, query in enumerate(expressions(path)):
        expression = query
        for variable, value in SUBSTITUTES.items():
            expression = expression.replace(variable, value)
        assert "$" not in expression
        rules.append({"record": f"query:{number}", "expr": expression})
    file = tmp_path / "rules.json"  # JSON is YAML
    file.write_text(json.dumps({"groups": [{"name": "queries", "rules": rules}]}))
    done = subprocess.run(
        ["promtool", "check", "rules", str(file)],
        check=False,
        capture_output=True,
        text=True,
        timeout=30,
    )
    assert (0, "") == (done.returncode, done.stderr)

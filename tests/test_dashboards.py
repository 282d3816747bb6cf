"""The dashboards: what an operator needs to read them, and queries that can answer."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from exported import PREFIX, families

ROOT = Path(__file__).parents[1]
FOLDER = ROOT / "dashboards"
DASHBOARDS = sorted(FOLDER.glob("*.json"))
RULES = (FOLDER / "prometheus_rules.yaml").read_text(encoding="utf-8")
UIDS = ("pci-observer-fleet", "pci-observer-health", "pci-observer-host")
# Names that are not a part of a longer name, so of no recording rule.
METRIC = re.compile(rf"(?<![\w:]){PREFIX}\w+(?![\w:])")
RECORDED = re.compile(rf"\w+:{PREFIX}\w+:\w+")
SELECTOR = re.compile(r"([\w:]+)\{([^}]*)\}")
MATCHER = re.compile(r'\s*(\w+)\s*(?:=|!=|=~|!~)\s*"((?:[^"\\]|\\.)*)"\s*')
TARGET_LABELS = {"job", "instance"}  # Prometheus' own
SUBSTITUTES = {
    "$__rate_interval": "5m",
    "$job": "pci",
    "$host": ".*",
    "$kernel": ".*",
}

each = pytest.mark.parametrize("path", DASHBOARDS, ids=lambda path: path.stem)


def load(path: Path) -> dict[str, Any]:
    """Read a dashboard."""
    dashboard = json.loads(path.read_text(encoding="utf-8"))
    assert isinstance(dashboard, dict)
    return dashboard


def panels(path: Path) -> list[dict[str, Any]]:
    """Return the panels with queries."""
    return [panel for panel in load(path)["panels"] if panel["type"] != "row"]


def expressions(path: Path) -> list[str]:
    """Return every query of every panel."""
    return [target["expr"] for panel in panels(path) for target in panel["targets"]]


def test_generated(tmp_path: Path) -> None:
    """The files are what generate.py writes."""
    script = FOLDER / "generate.py"
    subprocess.run([sys.executable, str(script), str(tmp_path)], check=True, timeout=60)
    assert [path.name for path in DASHBOARDS] == [f"{uid}.json" for uid in UIDS]
    for path in DASHBOARDS:
        assert (tmp_path / path.name).read_bytes() == path.read_bytes()


@each
def test_panels(path: Path) -> None:
    """Every panel says what it shows and in which unit, and none hides another."""
    every = load(path)["panels"]
    for panel in panels(path):
        assert panel["title"]
        assert panel["description"].endswith(".")
        defaults = panel["fieldConfig"]["defaults"]
        assert defaults["unit"]
        assert defaults["noValue"]  # on an empty fleet
        refs = [target["refId"] for target in panel["targets"]]
        assert sorted(set(refs)) == refs
        assert refs
    ids = [panel["id"] for panel in every]
    assert list(range(1, len(every) + 1)) == ids
    titles = [panel["title"] for panel in every]
    assert len(titles) == len(set(titles))
    taken = [place for panel in every for place in places(**panel["gridPos"])]
    assert len(taken) == len(set(taken))


def places(x: int, y: int, w: int, h: int) -> list[tuple[int, int]]:
    """Return the cells of the grid under a panel; 24 are in a row."""
    assert x + w <= 24
    return [(x + across, y + down) for across in range(w) for down in range(h)]


@each
def test_variables(path: Path) -> None:
    """Data source, job, kernel and host can be chosen, and every query obeys."""
    dashboard = load(path)
    names = [variable["name"] for variable in dashboard["templating"]["list"]]
    assert ["datasource", "job", "kernel", "host"] == names
    for panel in panels(path):
        assert panel["datasource"]["uid"] == "${datasource}"
    for expression in expressions(path):
        for name, matchers in SELECTOR.findall(expression):
            selected = dict(MATCHER.findall(matchers))
            assert selected["job"] == "$job"
            if name == f"{PREFIX}kernel_info" and "release" in selected:
                continue  # joined to
            by_host = name.startswith((PREFIX, "process_"))
            assert not by_host or selected["instance"] == "$host"
            by_kernel = name.startswith("job_release")
            assert not by_kernel or selected["release"] == "$kernel"


@each
def test_links(path: Path) -> None:
    """Dashboards lead to each other by a tag, rows to the host by its uid."""
    dashboard = load(path)
    assert path.stem == dashboard["uid"]
    (link,) = dashboard["links"]
    assert (link["includeVars"], link["keepTime"]) == (True, True)
    assert link["tags"] == dashboard["tags"]
    text = path.read_text(encoding="utf-8")
    for uid, query in re.findall(r'"/d/([\w-]+)\?([^"]*)"', text):
        target = load(FOLDER / f"{uid}.json")
        known = {variable["name"] for variable in target["templating"]["list"]}
        asked = re.findall(r"var-(\w+)=|\$\{(\w+):queryparam\}", query)
        assert {name for pair in asked for name in pair if name} <= known


def test_the_fleet_leads_to_hosts() -> None:
    """From each row that names a host."""
    text = (FOLDER / "pci-observer-fleet.json").read_text(encoding="utf-8")
    assert "var-host=${__data.fields.instance}" in text


@each
def test_exported(path: Path) -> None:
    """Every metric in a query is exported or recorded, with the labels it names."""
    exported = families()
    series = {name: family for family in exported.values() for name in family.series}
    for expression in expressions(path):
        names = METRIC.findall(expression)
        recorded = RECORDED.findall(expression)
        assert names or recorded or "process_" in expression
        assert set(names) <= series.keys()
        for record in recorded:
            assert f"record: {record}\n" in RULES
        for name, matchers in SELECTOR.findall(expression):
            if name in series:
                labels = {label for label, _value in MATCHER.findall(matchers)}
                assert labels <= series[name].labels | TARGET_LABELS


def test_nothing_is_forgotten() -> None:
    """Every metric that is exported is on a dashboard, by itself or in a rule."""
    shown = RULES + "".join(
        expression for path in DASHBOARDS for expression in expressions(path)
    )
    names = set(re.findall(rf"{PREFIX}\w+", shown))
    forgotten = {
        name
        for name, family in families().items()
        if not names & {name, *family.series}
    }
    assert forgotten == set()


@each
def test_matchers(path: Path) -> None:
    """Label matchers are simple: label, operator, quoted text, parted by commas."""
    for expression in expressions(path):
        for _name, matchers in SELECTOR.findall(expression):
            assert all(MATCHER.fullmatch(part) for part in matchers.split(","))


@each
def test_rates(path: Path) -> None:
    """What is a rate follows the zoom."""
    for expression in expressions(path):
        assert set(re.findall(r"\[(.*?)\]", expression)) <= {"$__rate_interval"}


@each
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

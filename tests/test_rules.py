"""Recording rules and alerts: what Prometheus' own tools say of them, and runbooks."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest
from exported import PREFIX, families

ROOT = Path(__file__).parents[1]
RULES = ROOT / "dashboards" / "prometheus_rules.yaml"
ALERTS = ROOT / "dashboards" / "prometheus_alerts.yaml"
TESTS = sorted((ROOT / "tests" / "rules").glob("*.yaml"))
RUNBOOKS = ROOT / "docs" / "runbooks"
SECTIONS = ["What it means", "Confirm", "Cure", "Silence"]
NAMES = (
    "Divergence",
    "BindingChanged",
    "OrphanedDevice",
    "StaleOverride",
    "VfOnNativeDriver",
    "EventsLost",
    "HookMissing",
    "HookDetour",
    "AuditOnly",
    "Absent",
    "StoreDegraded",
    "WebConfigRefused",
    "FleetRegression",
)


def run(*command: str) -> tuple[int, str]:
    """Run a tool; return its status and what it said."""
    done = subprocess.run(
        command, check=False, capture_output=True, text=True, timeout=60
    )
    return done.returncode, done.stdout + done.stderr


def blocks(path: Path, kind: str) -> dict[str, str]:
    """Return the text of each alert, or of each record, by its name."""
    text = path.read_text(encoding="utf-8")
    parts = re.split(rf"^      - {kind}: (\S+)$", text, flags=re.MULTILINE)
    return dict(zip(parts[1::2], parts[2::2], strict=True))


def test_rules_are_understood() -> None:
    """By Prometheus and by vmalert."""
    status, said = run("promtool", "check", "rules", str(RULES), str(ALERTS))
    assert (status, said.count("SUCCESS")) == (0, 2), said
    vmalert = ["vmalert", "-dryRun", f"-rule={RULES}", f"-rule={ALERTS}"]
    status, said = run(*vmalert)
    assert status == 0, said


def test_the_example_of_alertmanager_is_understood() -> None:
    """Alertmanager's own tool reads it."""
    config = ROOT / "dashboards" / "alertmanager.yaml"
    status, said = run("amtool", "check-config", str(config))
    assert status == 0, said
    assert "2 inhibit rules" in said


@pytest.mark.parametrize("tests", TESTS, ids=lambda path: path.stem)
def test_rules_do_what_they_must(tests: Path) -> None:
    """Fire where they must and only there, end, and add up right."""
    status, said = run("promtool", "test", "rules", str(tests))
    assert status == 0, said


def test_the_alerts_are_the_ones_agreed_on() -> None:
    """Routes and silences go by these names."""
    assert [f"PciObserver{name}" for name in NAMES] == list(blocks(ALERTS, "alert"))


def mutants() -> list[tuple[str, Path, str, str]]:
    """Return each rule, its file, its expression and one that never has a sample."""
    found = []
    for path, kind in ((RULES, "record"), (ALERTS, "alert")):
        for name, text in blocks(path, kind).items():
            match = re.search(r"expr: (?:\|\n((?:          .*\n)+)|(.*\n))", text)
            assert match, name
            found.append((name, path, match[0], "expr: vector(0) > 1\n"))
    return found


@pytest.mark.parametrize(
    ("name", "path", "before", "after"), mutants(), ids=lambda value: str(value)[:40]
)
def test_no_rule_can_be_left_out(
    name: str, path: Path, before: str, after: str, tmp_path: Path
) -> None:
    """A rule that says nothing is noticed by the tests of rules."""
    for file in (RULES, ALERTS):
        text = file.read_text(encoding="utf-8")
        if file == path:
            head, tail = text.split(f": {name}\n", 1)
            text = f"{head}: {name}\n{tail.replace(before, after, 1)}"
            assert "vector(0) > 1" in text
        (tmp_path / file.name).write_text(text, encoding="utf-8")
    failed = 0
    for tests in TESTS:
        copy = tmp_path / f"{tests.stem}.test"
        copy.write_text(tests.read_text("utf-8").replace("../../dashboards/", ""))
        failed += run("promtool", "test", "rules", str(copy))[0]
    assert failed


@pytest.mark.parametrize("name", NAMES)
def test_each_alert_is_told_in_full(name: str) -> None:
    """Severity, summary, description and a runbook that is there and complete."""
    text = blocks(ALERTS, "alert")[f"PciObserver{name}"]
    assert re.search(r"severity: (critical|warning)$", text, re.MULTILINE)
    for annotation in ("summary", "description"):
        assert re.search(rf"^          {annotation}: \S", text, re.MULTILINE)
    waits = re.search(r"^        for: (\d+)m$", text, re.MULTILINE)
    assert waits
    assert int(waits[1]) >= 2  # scrapes a minute apart
    url = re.search(r"runbook_url: \S+/docs/runbooks/(\S+)$", text, re.MULTILINE)
    assert url
    assert f"PciObserver{name}.md" == url[1]
    page = (RUNBOOKS / url[1]).read_text(encoding="utf-8")
    assert page.startswith(f"# PciObserver{name}\n")
    assert SECTIONS == re.findall(r"^## (.+)$", page, re.MULTILINE)
    assert f"]({url[1]})" in (RUNBOOKS / "README.md").read_text(encoding="utf-8")


def test_metrics_are_exported() -> None:
    """Every metric that rules ask for is one of the daemon's, or is recorded."""
    series = {name for family in families().values() for name in family.series}
    recorded = set(blocks(RULES, "record"))
    for path in (RULES, ALERTS):
        text = path.read_text(encoding="utf-8")
        asked = re.findall(rf"(?<![\w:]){PREFIX}\w+(?!\w*:)", text)
        assert set(asked) <= series, path
        assert set(re.findall(r"\w+:pci_observer_\w+:\w+", text)) <= recorded

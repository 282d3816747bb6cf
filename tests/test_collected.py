"""What the daemon hands over to real collectors: a guest, then a test for each of them.

tests/live/collected.py runs in the guest. Another kernel: PCI_OBSERVER_KERNELS="7.3".
"""

from __future__ import annotations

import json
import os
import subprocess
from typing import Any, Final

import pytest
from live import collected as scenario
from live.boots import Boots, boot, progress
from prometheus_client.parser import text_string_to_metric_families
from test_landing import Page

pytestmark = pytest.mark.guest

KERNELS: Final = os.environ.get("PCI_OBSERVER_KERNELS", "6.1").split()
# What is not there on a machine of which all is well, or that was not upgraded.
EMPTY: Final = {
    *("Bindings that changed, by device and drivers", "Changed devices by kernel"),
    *("Hosts concerned", "Hosts that do not report", "Compared with"),
    *("Devices that changed since another kernel ran", "Dynids"),
}
PRIORITIES: Final = {"debug": "7", "info": "6", "warning": "4", "error": "3"}


@pytest.fixture(scope="session")
def boots(
    tmp_path_factory: pytest.TempPathFactory, pytestconfig: pytest.Config
) -> Boots:
    """All guests; each boots when a test first asks for it."""

    def start(kernel: str) -> dict[str, Any]:
        directory = tmp_path_factory.mktemp(f"collected-{kernel}")
        result: dict[str, Any] = boot(
            kernel, "live.collected", directory, progress(pytestconfig)
        )
        return result

    return Boots(start)


@pytest.fixture(params=KERNELS)
def collected(request: pytest.FixtureRequest, boots: Boots) -> dict[str, Any]:
    """Return what was collected under one kernel."""
    found: dict[str, Any] = boots[request.param]
    return found


def logged(collected: dict[str, Any]) -> list[dict[str, Any]]:
    """Return the log's lines as journalctl -o cat | jq shows them."""
    return [json.loads(line) for line in collected["read"]]


def test_the_journal_holds_json_lines(collected: dict[str, Any]) -> None:
    """One object an entry, from the first line to the last, each with its priority."""
    lines = logged(collected)
    assert ["attaching", "stopped"] == [lines[0]["event"], lines[-1]["event"]]
    expected = [PRIORITIES[line["level"]] for line in lines]
    assert expected == [entry["PRIORITY"] for entry in collected["entries"]]
    assert collected["read"] == [entry["MESSAGE"] for entry in collected["entries"]]


def test_the_journal_has_every_decision_with_a_match(
    collected: dict[str, Any],
) -> None:
    """As many lines as metrics count, and inputs and answer in each."""
    metrics = collected["metrics"]
    counted = sum(
        value
        for name, value in metrics.items()
        if name.startswith("match_decisions_total") and 'result="none"' not in name
    )
    matches = [line for line in logged(collected) if line["event"] == "match"]
    assert 2 <= counted == len(matches)
    edu = collected["places"]["edu"]
    assert {(edu, "pci-stub", "override", "pci-stub")} == {
        (m["address"], m["driver"], m["match"], m["driver_override"]) for m in matches
    }


def test_no_task_forges_an_entry(collected: dict[str, Any]) -> None:
    """A comm with a line's end and a priority in it stays a part of its line."""
    comms = {line["comm"] for line in logged(collected) if "comm" in line}
    assert {'a\\n<0>{"b":1}'} == comms
    priorities = {entry["PRIORITY"] for entry in collected["entries"]}
    assert priorities <= {"7", "6", "4"}
    assert not any("\x1b" in entry["MESSAGE"] for entry in collected["entries"])


def families(text: str) -> set[str]:
    """Return the names of our metrics that have samples in an exposition."""
    metrics = text_string_to_metric_families(text)
    found = {metric.name for metric in metrics if metric.samples}
    return {name for name in found if name.startswith("pci_observer_")}


def test_prometheus_scrapes_the_daemon(collected: dict[str, Any]) -> None:
    """The kernel that runs, within the budget, and the daemon counts right."""
    (kernel,) = collected["kernels"]
    assert (collected["release"], scenario.JOB, scenario.INSTANCE) == (
        kernel["release"],
        kernel["job"],
        kernel["instance"],
    )
    (scraped,) = collected["scraped"]
    lines = collected["scrape"].splitlines()
    series = len([line for line in lines if not line.startswith("#")])
    assert scraped <= 300
    assert series == collected["metrics"]["series"]


def test_promtool_has_nothing_to_say_of_a_live_scrape(
    collected: dict[str, Any],
) -> None:
    """Of the real daemon's names, types and help."""
    done = subprocess.run(
        ["promtool", "check", "metrics"],
        input=collected["scrape"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert (0, "", "") == (done.returncode, done.stdout, done.stderr)


def test_the_dashboards_show_the_daemon(collected: dict[str, Any]) -> None:
    """No query fails, and only those are empty that must be."""
    answers = collected["answers"]
    assert [] == [each for each in answers if "error" in each]
    empty = {each["panel"][1] for each in answers if not each["series"]}
    assert EMPTY >= empty
    assert {"Hosts concerned", "Compared with"} <= empty


def test_alerts_fire_for_the_real_daemon(collected: dict[str, Any]) -> None:
    """For an override that was left behind, and when it is gone."""
    (stale,) = collected["stale_override"]
    assert collected["places"]["edu"] == stale["address"]
    assert [scenario.INSTANCE] == [each["instance"] for each in collected["absent"]]


def test_node_exporter_reads_the_file(collected: dict[str, Any]) -> None:
    """All families, none of the process, without an error; nothing is left behind."""
    text = collected["node_exporter"]
    assert "\nnode_textfile_scrape_error 0\n" in text
    assert families(collected["scrape"]) == families(text)
    assert 'driver="pci-stub",result="override"' in text
    assert [] == collected["left"]


def test_lag_and_life_are_told(collected: dict[str, Any]) -> None:
    """Decisions were judged soon, and the main loop turns."""
    metrics = collected["metrics"]
    assert 0 < metrics["event_lag_seconds_count"]
    mean = metrics["event_lag_seconds_sum"] / metrics["event_lag_seconds_count"]
    assert 0 < mean < 5
    assert (
        metrics["alive_timestamp_seconds"]
        > metrics["observing_since_timestamp_seconds"]
    )
    assert 0 == metrics["hooks_missing"]
    assert 0 == metrics['label_sets_dropped_total{label="address"}']


def test_the_landing_page_of_the_real_machine(collected: dict[str, Any]) -> None:
    """Kernel, device, override as text, finding with cure; and nobody is named."""
    assert len(collected["landing"]) <= 50_000
    page = Page(collected["landing"].encode())
    edu = collected["places"]["edu"]
    for wanted in (
        *(collected["release"], edu, "stale_override", "absent\\x1b[31m<b>"),
        *("attached", f"echo > /sys/bus/pci/devices/{edu}/driver_override"),
    ):
        assert wanted in page.text, wanted
    assert "b" not in page.tags
    assert '"b":1' not in page.text

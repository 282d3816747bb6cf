"""What the daemon hands over to real collectors: a guest, then a test for each of them.

tests/live/collected.py runs in the guest. Another kernel: PCI_OBSERVER_KERNELS="7.3".
"""

from __future__ import annotations

import json
import os
from typing import Any, Final

import pytest
from live.boots import Boots, boot, progress

pytestmark = pytest.mark.guest

KERNELS: Final = os.environ.get("PCI_OBSERVER_KERNELS", "6.1").split()
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

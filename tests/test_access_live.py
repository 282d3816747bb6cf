"""Who may ask a daemon that observes a real kernel: one guest, then a test for each.

tests/live/access.py runs in the guest. Another kernel: PCI_OBSERVER_KERNELS="7.3".
"""

from __future__ import annotations

import json
import os
from typing import Any, Final

import pytest
from live import access as scenario
from live.boots import Boots, boot, progress

pytestmark = pytest.mark.guest

KERNELS: Final = os.environ.get("PCI_OBSERVER_KERNELS", "6.1").split()
RSS_KB: Final = 40 * 1024  # of few devices, as in test_live.py
TLS_KB: Final = 9 * 1024  # more with OpenSSL, YAML and bcrypt


@pytest.fixture(scope="session")
def boots(
    tmp_path_factory: pytest.TempPathFactory, pytestconfig: pytest.Config
) -> Boots:
    """All guests; each boots when a test first asks for it."""

    def start(kernel: str) -> dict[str, Any]:
        directory = tmp_path_factory.mktemp(f"access-{kernel}")
        result: dict[str, Any] = boot(
            kernel, "live.access", directory, progress(pytestconfig)
        )
        return result

    return Boots(start)


@pytest.fixture(params=KERNELS)
def seen(request: pytest.FixtureRequest, boots: Boots) -> dict[str, Any]:
    """Return what was seen under one kernel."""
    found: dict[str, Any] = boots[request.param]
    return found


def test_who_is_answered(seen: dict[str, Any]) -> None:
    """With certificate and password alone: what was decided is told to nobody else."""
    asked = seen["guarded"]["asked"]
    decision = 'match_decisions_total{driver="pci-stub",result="override"}'
    told = {name for name, answer in asked.items() if decision in answer["body"]}
    assert {"right"} == told
    assert {
        "right": 200,
        "wrong password": 401,
        "no password": 401,
        "no certificate": 0,
        "TLS 1.2": 0,
        "no TLS": 0,
    } == {name: answer["status"] for name, answer in asked.items()}


def test_files_that_change(seen: dict[str, Any]) -> None:
    """A new password is taken and a bad file is not, as who gave up root."""
    guarded = seen["guarded"]
    assert (401, 0) == (guarded["old password"], guarded["exit"])
    lines = [json.loads(line) for line in guarded["log"].splitlines()]
    told = [line["event"] for line in lines if "web config" in line["event"]]
    assert ["web config", "web config is read again", "web config refused"] == told
    (metrics,) = {line["metrics"] for line in lines if line["event"] == "observing"}
    assert scenario.URL == metrics


def test_no_secret_is_told(seen: dict[str, Any]) -> None:
    """In the log there is neither password nor hash."""
    for secret in (scenario.PASSWORD, scenario.SECOND, "$2b$", "PRIVATE"):
        assert secret not in seen["guarded"]["log"]


def test_a_unix_socket(seen: dict[str, Any]) -> None:
    """Root may ask there and nobody else; what a killed daemon left is replaced."""
    local = seen["local"]
    for name in ("first", "second"):
        found = local[name]
        assert ("srw-rw----", 0) == (found["mode"], found["uid"])
        assert (200, 7) == (found["asked"], found["nobody"])  # 7: can't connect
    assert (True, 0) == (local["left"], local["exit"])


def test_a_port_that_is_passed_on(seen: dict[str, Any]) -> None:
    """The first scrape, which started the daemon, is answered."""
    lines = seen["passed"]["log"].splitlines()
    told = [json.loads(line) for line in lines if line.startswith("{")]
    (metrics,) = {line["metrics"] for line in told if line["event"] == "observing"}
    assert ("systemd", 0) == (metrics, seen["passed"]["exit"])


def test_memory(seen: dict[str, Any]) -> None:
    """What is not asked for is not paid for."""
    plain = seen["local"]["first"]["rss_kb"]
    assert RSS_KB >= plain
    assert TLS_KB >= seen["guarded"]["rss_kb"] - plain

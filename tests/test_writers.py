"""Who wrote to PCI's files: a guest per kernel, then a test for each thing it saw.

tests/live/writers.py runs in the guest. Other kernels: PCI_OBSERVER_KERNELS="6.1 7.3".
"""

from __future__ import annotations

import json
import os
from typing import TYPE_CHECKING, Any, Final

import pytest
from live import oracle, writers
from live.boots import Boots, boot, progress
from live.steps import by_rules

from observer.hooks import STORES

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.guest

KERNELS: Final = os.environ.get("PCI_OBSERVER_KERNELS", "5.10 6.1 6.12.90 7.3").split()
STORM: Final = writers.THREADS * writers.WRITES


class Written:
    """What happened in one guest."""

    def __init__(self, result: dict[str, Any], directory: Path) -> None:
        """Read what the observer recorded and logged."""
        self.result = result
        header, *lines = oracle.lines(directory / "writes.jsonl.gz")
        self.rules: str = header["layout"]["new_id_rules"]
        everything = [line for line in lines if line["record"] == "write"]
        texts = {text for texts in result["storm"].values() for text in texts}
        self.storm = [line for line in everything if line["text"] in texts]
        last = everything[-1]
        self.writes = [
            line for line in everything if line not in self.storm and line is not last
        ]
        log = (directory / "writes.log").read_text().splitlines()
        self.log: list[dict[str, Any]] = [json.loads(line) for line in log]

    def expected(self) -> list[dict[str, Any]]:
        """Return what the cases must be seen to have done, in order."""
        places = self.result["places"]
        found = []
        for case in writers.CASES:
            for seen in case.seen:
                text = seen.text.format(**places)
                owner = seen.owner and seen.owner.format(**places)
                of_device = seen.file == "driver_override"
                found.append(
                    {
                        "comm": case.comm,
                        "uid": case.uid,
                        "file": seen.file,
                        "driver": None if of_device else owner,
                        "address": owner if of_device else None,
                        "text": text,
                        "size": len(text) if seen.size is None else seen.size,
                        "errno": by_rules(seen.errno, self.rules) or None,
                    }
                )
        return found


@pytest.fixture(scope="session")
def boots(
    tmp_path_factory: pytest.TempPathFactory, pytestconfig: pytest.Config
) -> Boots:
    """All guests; each boots when a test first asks for it."""

    def start(kernel: str) -> dict[str, Any]:
        directory = tmp_path_factory.mktemp(f"writers-{kernel}")
        result = boot(kernel, "live.writers", directory, progress(pytestconfig))
        return {"written": Written(result, directory)}

    return Boots(start)


@pytest.fixture(params=KERNELS)
def written(request: pytest.FixtureRequest, boots: Boots) -> Written:
    """Return what happened under one kernel."""
    found: Written = boots[request.param]["written"]
    return found


def test_every_store_function_is_hooked(written: Written) -> None:
    """By a kprobe at its address, on every kernel."""
    metrics = written.result["metrics"]
    hooked = {
        hook: metrics[f'hook_attached{{hook="{hook}",method="kprobe"}}']
        for hook in STORES.values()
    }
    assert dict.fromkeys(STORES.values(), 1.0) == hooked


def test_every_write_is_seen_once_with_its_writer(written: Written) -> None:
    """Comm, uid, file, owner, text, size and errno of each, and nothing else."""
    expected = written.expected()
    keys = expected[0].keys()
    assert expected == [{key: line[key] for key in keys} for line in written.writes]


def test_the_commands_ended_as_the_errnos_say(written: Written) -> None:
    """A second source: what the writer was told by the kernel itself."""
    ours = writers.CASES[: writers.FOREIGN]
    for case, (status, stderr) in zip(ours, written.result["done"], strict=False):
        failed = any(by_rules(seen.errno, written.rules) for seen in case.seen)
        if case.comm != writers.DRIVERCTL:  # which fails when nothing takes the device
            assert failed == bool(status), stderr


def test_other_buses_were_written_to(written: Written) -> None:
    """The writes that must not be seen did reach their store functions."""
    done = written.result["done"][writers.FOREIGN :]
    assert [True, True, True, False, False] == [not status for status, _ in done]


def test_each_writer_is_a_task_of_its_own(written: Written) -> None:
    """A command is one process with one thread, and took some time to write."""
    commands = len([case for case in writers.CASES if case.seen])
    assert commands == len({line["tgid"] for line in written.writes})
    for line in written.writes:
        assert line["pid"] == line["tgid"]
        assert 0 < line["duration_ns"] < line["ktime_ns"]


def test_the_log_names_the_actor(written: Written) -> None:
    """One line for each write; of bind, unbind and drivers_probe with the device."""
    lines = [line for line in written.log if line["event"] == "write"]
    lines = lines[: len(written.writes)]
    keys = ("file", "driver", "errno", "pid", "tgid", "comm", "cpu", "uid")
    expected = [{key: line[key] for key in keys} for line in written.writes]
    assert expected == [{key: line[key] for key in keys} for line in lines]
    for line in lines:
        if line["file"] in ("bind", "unbind", "driver_override"):
            assert written.result["places"]["edu"] == line["address"]


def test_writes_at_the_same_time(written: Written) -> None:
    """Each text of each thread is seen once, by that thread, in its order.

    A kernel built without preemption has room for one return per CPU and file; what
    it misses while another write waits is known by number.
    """
    by_thread: dict[str, list[str]] = {}
    for line in written.storm:
        by_thread.setdefault(str(line["pid"]), []).append(line["text"])
    seen = {text for texts in by_thread.values() for text in texts}
    assert {
        thread: [text for text in texts if text in seen]
        for thread, texts in written.result["storm"].items()
    } == by_thread
    metrics = written.result["metrics_at_end"]
    entered, left = (
        metrics[f'hooked_calls_total{{at="{at}",call="write"}}']
        for at in ("entry", "return")
    )
    assert STORM - len(written.storm) == entered - left
    if written.result["preemptible"]:
        assert entered == left


def test_nothing_is_lost(written: Written) -> None:
    """No write was missed and no record found no room."""
    metrics = written.result["metrics_at_end"]
    missed = {
        hook: metrics[f'probe_misses_total{{hook="{hook}"}}']
        for hook in STORES.values()
    }
    assert dict.fromkeys(STORES.values(), 0.0) == missed
    assert 0 == metrics['events_lost_total{stage="other"}']
    assert 0 == written.result["stopped"]["status"]

"""Less than all can be hooked: what is done, and where it shows.

tests/live/degraded.py runs in the guest and takes away one thing after the other. Other
kernels: PCI_OBSERVER_KERNELS="5.10 7.3".
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from typing import TYPE_CHECKING, Any, Final

import pytest
from live.boots import Boots, boot, progress
from servers.process import free_port

from observer import hooks
from observer.record import StoreFile

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

KERNELS: Final = os.environ.get("PCI_OBSERVER_KERNELS", "6.1").split()
STORES: Final = {f"{file}_store" for file in StoreFile}
# Neither root's power over the kernel nor anybody's.
POWERLESS: Final = ("setpriv", "--bounding-set=-all", "--inh-caps=-all")
AUDITED: Final = "devices, bindings, overrides and findings come from sysfs"
Told = dict[str, Any]

guest = pytest.mark.guest


@pytest.fixture(scope="session")
def boots(
    tmp_path_factory: pytest.TempPathFactory, pytestconfig: pytest.Config
) -> Boots:
    """All guests; each boots when a test first asks for it."""

    def start(kernel: str) -> Told:
        directory = tmp_path_factory.mktemp(f"degraded-{kernel}")
        result: Told = boot(kernel, "live.degraded", directory, progress(pytestconfig))
        return result

    return Boots(start)


@pytest.fixture(params=KERNELS)
def told(request: pytest.FixtureRequest, boots: Boots) -> Told:
    """Return what was told under one kernel."""
    found: Told = boots[request.param]
    return found


def attached(metrics: dict[str, float]) -> dict[str, str]:
    """Return how each hook is attached, as metrics have it."""
    return {
        name.split('"')[1]: name.split('"')[3]
        for name, value in metrics.items()
        if name.startswith("hook_attached{") and value
    }


def warned(part: Told, event: str) -> dict[str, Told]:
    """Return the log's warnings of one kind by their hook."""
    return {
        line.get("hook", ""): line
        for line in part["log"]
        if line["level"] == "warning" and line["event"] == event
    }


def counted(metrics: dict[str, float], name: str) -> dict[str, int]:
    """Return the samples of a metric that are not 0, by their labels."""
    return {
        key.removeprefix(name): int(value)
        for key, value in metrics.items()
        if key.startswith(f"{name}{{") and value
    }


def planned(told: Told) -> set[str]:
    """Return what should be hooked on this kernel."""
    probe = told["probe_function"]
    return {"pci_match_device", "pci_unregister_driver", probe, *STORES} | (
        {"driver_probe_device"} if probe == "__driver_probe_device" else set()
    )


def stopped_well(part: Told) -> None:
    """Check that it ran to its end, and judged nothing wrong."""
    assert 0 == part["stopped"]["status"]
    assert "stopped" == part["log"][-1]["event"]
    assert 0 == part["log"][-1].get("diverge")


# Where one method is refused.


@guest
def test_one_busy_function_costs_nothing(told: Told) -> None:
    """It is hooked by a kprobe, the others as they would be; and nothing is missing."""
    part, probe = told["busy_probe"], told["probe_function"]
    best = "kprobe" if told["preempts"] else "fentry"
    expected = dict.fromkeys(planned(told), best) | dict.fromkeys(STORES, "kprobe")
    assert expected | {probe: "kprobe"} == attached(part["start"])
    assert 0 == part["start"]["hooks_missing"]
    assert (best == "fentry") == part["start"]["hook_detours"]
    (bound,) = [
        value
        for name, value in part["end"].items()
        if name == 'probe_results_total{driver="pci-stub",result="bound"}'
    ]
    assert 1 == bound
    assert {} == counted(part["end"], "divergences_total")
    stopped_well(part)


@guest
def test_one_busy_function_is_told(told: Told) -> None:
    """One line: which hook, why, what instead; the doctor says the same."""
    part, probe = told["busy_probe"], told["probe_function"]
    lines = warned(part, "hook attached by another method")
    if told["preempts"]:  # a kprobe is the first choice there
        assert {} == lines
        return
    assert {probe} == lines.keys()
    assert "kprobe" == lines[probe]["instead"]
    assert "enter_probe_function" in lines[probe]["error"] or (
        "attaching by fentry" in lines[probe]["error"]
    )
    assert f"--  hooks      {probe} by fentry: " in part["doctor"]["out"]
    assert 0 == part["doctor"]["status"]


@guest
def test_kprobes_that_are_off_cost_the_writes(told: Told) -> None:
    """All else is seen by fentry, on a kernel that preempts itself as well."""
    part = told["no_kprobes"]
    hooked = planned(told) - STORES
    assert dict.fromkeys(hooked, "fentry") == attached(part["start"])
    assert len(STORES) == part["start"]["hooks_missing"]
    lines = warned(part, "hook not attached")
    assert lines.keys() == STORES
    assert "kprobes are switched off" in lines["bind_store"]["error"]
    assert (
        "writes to bind are not seen; sysfs shows what they changed"
        == (lines["bind_store"]["instead"])
    )
    assert (
        "--  kprobe     kprobes are switched off; write 1 to" in (part["doctor"]["out"])
    )
    assert 0 == part["doctor"]["status"]
    stopped_well(part)


# Where both methods are.


@guest
def test_busy_match_and_probe(told: Told) -> None:
    """Their callers are hooked by a kernel that really refuses."""
    part, probe = told["busy_match"], told["probe_function"]
    assert {"pci_bus_match", "pci_device_probe"} < attached(part["start"]).keys()
    assert {"pci_match_device", probe}.isdisjoint(attached(part["start"]))
    assert len(STORES) + 2 == part["start"]["hooks_missing"]
    lines = warned(part, "hook not attached")
    assert {"pci_match_device", probe} | STORES == lines.keys()
    assert "pci_bus_match tells" in lines["pci_match_device"]["instead"]
    assert "pci_device_probe tells" in lines[probe]["instead"]
    end = part["end"]
    assert 1 == end['probe_results_total{driver="pci-stub",result="bound"}']
    assert 1 <= end['match_decisions_total{driver="pci-stub",result="unknown"}']
    agreed = end['judgements_total{judgement="agree"}']
    assert agreed == end['events_total{stage="emitted"}'] > 1
    assert {} == counted(end, "divergences_total")
    assert "pci_match_device is not hooked" in part["status"]["out"]
    assert "pci_bus_match tells whether" in part["doctor"]["out"]
    assert 0 == part["doctor"]["status"]
    stopped_well(part)


@guest
def test_an_inlined_function(told: Told) -> None:
    """A kernel whose types do not have it: its symbol is left alone."""
    part = told["no_function"]
    assert "pci_match_device" not in attached(part["start"])
    assert "pci_bus_match" in attached(part["start"])
    assert 1 == part["start"]["hooks_missing"]
    (line,) = warned(part, "hook not attached").values()
    assert (
        "pci_match_device is no function of its own here, but inlined"
        == (line["error"])
    )
    assert "pci_match_device by kprobe: " in part["doctor"]["out"]
    assert 0 == part["doctor"]["status"]
    stopped_well(part)


@guest
@pytest.mark.parametrize("method", hooks.METHODS)
def test_fallbacks_tell_of_matches_and_probes(told: Told, method: str) -> None:
    """By each method: a bind by override and one by hand, and all other drivers' no."""
    part, edu = told[f"{method}_fallbacks"], told["edu"]
    assert {method} == {part["methods"][hook] for hook in hooks.FALLBACKS}
    # drivers_probe, then bind.
    assert [[edu, "pci-stub"]] * 2 == part["matched"]
    assert {"unknown agree fallback", "none agree fallback"} >= part["matches"].keys()
    assert 2 == part["matches"]["unknown agree fallback"]
    assert [[edu, "pci-stub", "bound", "fallback"]] * 2 == part["probes"]
    assert [None, None] == part["kinds"]  # no probe without a match
    counters = part["counters"]
    assert 0 == counters["match_no_entry"] == counters["match_no_exit"]
    assert counters["match_entered"] == sum(part["matches"].values())
    assert counters["probe_entered"] == counters["probe_left"] == 2


@guest
def test_audit_goes_on(told: Told) -> None:
    """Bindings by uevents, overrides by sysfs, findings; and nothing is made up."""
    part = told["audit"]
    assert {} == attached(part["end"])
    assert len(planned(told)) == part["end"]["hooks_missing"]
    assert 0 == part["end"]["observing_since_timestamp_seconds"]
    assert "pci-stub" == part["driver"]
    assert 1 == part["stale"]
    assert {} == counted(part["end"], "judgements_total")
    assert {} == counted(part["end"], "events_lost_total")
    assert [] == [
        name
        for name, value in part["end"].items()
        if "unexplained_binding" in name and "address" in name and value
    ]
    stopped_well(part)


@guest
def test_audit_is_told(told: Told) -> None:
    """One warning with the reason; status and doctor say it too."""
    part = told["audit"]
    (line,) = [x for x in part["log"] if x["event"] == "audit only"]
    assert "warning" == line["level"]
    # Of two reasons the one that can be cured.
    assert line["error"].startswith("kprobes are switched off; write 1 to ")
    assert AUDITED in line["instead"]
    assert {} == warned(part, "hook not attached")
    assert "audit only, no decision is seen" in part["status"]["out"]
    assert 3 == part["doctor"]["status"]
    assert part["doctor"]["out"].endswith("`run` only audits sysfs.\n")


@guest
@pytest.mark.parametrize(
    ("part", "said"),
    [
        ("no_types", "built with CONFIG_DEBUG_INFO_BTF=y"),
        ("no_programs", "install Debian's package python3-bpfcc"),
        ("locked_down", "boot without lockdown=confidentiality"),
    ],
)
def test_what_is_missing_is_named(told: Told, part: str, said: str) -> None:
    """The daemon audits, and the line says what to do; so does the doctor."""
    (line,) = [x for x in told[part]["log"] if x["event"] == "audit only"]
    assert line["error"].endswith(said)
    assert {} == attached(told[part]["start"])
    assert told[part]["start"]["series"] > 0
    assert 3 == told[part]["doctor"]["status"]
    assert said in told[part]["doctor"]["out"]
    stopped_well(told[part])


# This machine, without any privilege: no kernel lets one trace then.


@pytest.fixture
def powerless(tmp_path: Path) -> Iterator[tuple[int, Path]]:
    """Run a daemon that may not trace; yield its port and its log."""
    port, log = free_port(), tmp_path / "log"
    command = (*POWERLESS, sys.executable, "-m", "observer", "run", "--no-state")
    with log.open("wb") as file:
        process = subprocess.Popen(
            [*command, "--listen", f"127.0.0.1:{port}"],
            stdin=subprocess.DEVNULL,
            stderr=file,
        )
    try:
        until = time.monotonic() + 60
        while time.monotonic() < until and "audit only" not in log.read_text():
            time.sleep(0.1)
        yield port, log
        process.send_signal(signal.SIGTERM)
        assert 0 == process.wait(30)
    finally:
        process.kill()
        process.wait()


def test_nobody_audits(powerless: tuple[int, Path]) -> None:
    """All that sysfs shows to anybody is there, and no decision is."""
    _, log = powerless
    lines = [json.loads(line) for line in log.read_text().splitlines()]
    (line,) = [line for line in lines if line["event"] == "audit only"]
    assert AUDITED in line["instead"]
    assert "observing" == lines[lines.index(line) - 1]["event"]

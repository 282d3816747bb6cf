"""The simulated fleet: what its hosts expose is what a daemon would."""

from __future__ import annotations

import subprocess
import sys
from itertools import pairwise

from exported import families
from fleet import truth
from fleet.exposition import exposition, family_of, samples, series
from fleet.scenario import HOUR, Fleet

FLEET = Fleet(48, 20, 1_800_000_000, 1_800_000_000 + 3 * HOUR, 60)


def test_families_and_labels_are_the_daemons() -> None:
    """No metric and no label that the daemon has not, and each metric is there."""
    exported = families()
    seen: dict[str, set[str]] = {}
    for host in range(FLEET.hosts):
        for name, labels in samples(FLEET, host, FLEET.end):
            if not name.startswith("process_"):
                told = {label for label, _value in labels} - {"le"}
                seen.setdefault(family_of(name), set()).update(told)
    assert exported.keys() == seen.keys()
    for name, labels in seen.items():
        assert labels == exported[name].labels, name


def test_promtool_has_nothing_to_say() -> None:
    """Of the exposition of any host."""
    for host in (0, 1, 3, 6, 11):
        done = subprocess.run(
            ["promtool", "check", "metrics"],
            input=exposition(FLEET, host, FLEET.end),
            capture_output=True,
            text=True,
            check=False,
        )
        assert (0, "", "") == (done.returncode, done.stdout, done.stderr)


def test_everything_happens_somewhere() -> None:
    """Kernels, changes, findings, divergences, losses, silence: none is missing."""
    assert 2 == len(truth.hosts_by_kernel(FLEET))
    assert 3 == len({key[2] for key in truth.changed_devices(FLEET)})
    kinds = {"binding_changed", "orphan", "stale_override", "vf_on_native_driver"}
    assert kinds == {finding for finding, _ in truth.findings(FLEET)}
    assert truth.divergences_of_an_hour(FLEET) > 0
    assert truth.silent(FLEET)
    hosts, end = range(FLEET.hosts), FLEET.end
    assert any(FLEET.lost(host, end) for host in hosts)
    assert any(FLEET.hooks_missing(host, end) for host in hosts)
    assert any(FLEET.store_degraded(host, end) for host in hosts)


def test_books_balance() -> None:
    """At any time: emitted = lost + judged."""
    for time in FLEET.times[::30]:
        for host in range(FLEET.hosts):
            sums = {"lost": 0.0, "judged": 0.0, "emitted": 0.0}
            for (name, labels), value in samples(FLEET, host, time).items():
                if name == "pci_observer_judgements_total":
                    sums["judged"] += value
                elif name == "pci_observer_events_lost_total":
                    sums["lost"] += value
                elif labels == (("stage", "emitted"),):
                    sums["emitted"] += value
            assert sums["emitted"] == sums["lost"] + sums["judged"]


def test_counters_only_fall_at_a_restart() -> None:
    """As a daemon's."""
    for host in (0, 1, 3):
        for (name, _), points in series(FLEET, host).items():
            if not name.endswith("_total") or name == "process_cpu_seconds_total":
                continue
            for (then, before), (now, after) in pairwise(points):
                if after < before:
                    assert FLEET.started_at(host, now) > FLEET.started_at(host, then)


def test_the_command_writes_a_history() -> None:
    """As documented, with progress and help."""
    command = [sys.executable, "-m", "fleet"]
    done = subprocess.run(
        [*command, "--hosts", "2", "--hours", "1", "--devices", "3"],
        env={"PYTHONPATH": ".:tests"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert (0, "") == (done.returncode, done.stderr)
    assert done.stdout.endswith("# EOF\n")
    assert 'instance="host00001:9817"' in done.stdout

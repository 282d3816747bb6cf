"""The observer on real kernels: one boot each, then a test for each thing it saw.

tests/live/scenario.py runs in the guest and writes down what happened. Other kernels:
PCI_OBSERVER_KERNELS="6.1 7.3".
"""

from __future__ import annotations

import json
import os
import subprocess
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import pytest
from lab.machine import REPOSITORY
from live import oracle
from live.boots import Boots, boot, progress
from live.facts import facts
from live.steps import STEPS, WRONG_ERA, Run, Step, Write, expected_errno

if TYPE_CHECKING:
    from collections.abc import Callable

pytestmark = pytest.mark.guest

KERNELS: Final = os.environ.get("PCI_OBSERVER_KERNELS", "5.10 6.1 6.12.90 7.3").split()
METHODS: Final = ("fentry", "kprobe")
RSS_KB: Final = 40 * 1024
BURST_CALLS: Final = 26_000
# Instructions processed by the verifier, by release, method and program.
VERIFIED: Final = Path(__file__).parent / "golden" / "verified.json"

every_method = pytest.mark.parametrize("method", METHODS)
every_step = pytest.mark.parametrize("step", STEPS, ids=lambda step: step.name)
wrong_step = pytest.mark.parametrize("step", WRONG_ERA, ids=lambda step: step.name)


class Seen:
    """What happened in one guest."""

    def __init__(self, result: dict[str, Any], directory: Path) -> None:
        """Read a result; recordings lie beside it."""
        self.result = result
        self.directory = directory

    def part(self, name: str) -> dict[str, Any]:
        """Return the result of a part that came to its end."""
        part: dict[str, Any] = self.result["parts"][name]
        assert "error" not in part or not part["error"], part["error"]
        return part

    def step(self, part: str, name: str) -> tuple[dict[str, Any], dict[str, Any]]:
        """Return the totals before a step, and what was seen after it."""
        whole = self.part(part)
        steps = whole["steps"]
        at = [step["name"] for step in steps].index(name)
        return (steps[at - 1] if at else whole["start"]), steps[at]

    def recording(self, name: str) -> Path:
        """Return the path of a recording."""
        return self.directory / f"{name}.jsonl.gz"

    @property
    def layout(self) -> dict[str, Any]:
        """Return the layout that the observer found."""
        layout: dict[str, Any] = next(oracle.lines(self.recording("fentry")))["layout"]
        return layout

    @property
    def preempts(self) -> bool:
        """Whether this kernel preempts a task inside the kernel."""
        return self.result["preemption"] in {"full", "lazy"}

    @property
    def flagged(self) -> bool:
        """Whether this kernel knows override_only."""
        return self.layout["semantics"] == "linux-5.15"


@pytest.fixture(scope="session")
def boots(
    tmp_path_factory: pytest.TempPathFactory,
    pytestconfig: pytest.Config,
    record_testsuite_property: Callable[[str, object], None],
) -> Boots:
    """All guests; each boots when a test first asks for it.

    What `make matrix` makes its table of is told in JUnit's XML, of one kernel a run.
    """

    def start(kernel: str) -> dict[str, Any]:
        directory = tmp_path_factory.mktemp(f"live-{kernel}")
        result = boot(kernel, "live.scenario", directory, progress(pytestconfig))
        for name, value in facts(result).items():
            record_testsuite_property(name, value)
        return {"seen": Seen(result, directory)}

    return Boots(start)


@pytest.fixture(params=KERNELS)
def seen(request: pytest.FixtureRequest, boots: Boots) -> Seen:
    """Return what happened under one kernel."""
    found: Seen = boots[request.param]["seen"]
    return found


def delta(before: dict[str, Any], after: dict[str, Any], name: str) -> int:
    """Return by how much a total grew."""
    return int(after[name] - before[name])


def labelled(metrics: dict[str, float], name: str) -> dict[str, int]:
    """Return the samples of a metric that are not 0, by their labels."""
    return {
        key.removeprefix(name): int(value)
        for key, value in metrics.items()
        if key.startswith(f"{name}{{") and value
    }


def skipped(before: dict[str, Any], after: dict[str, Any]) -> dict[str, int]:
    """Return how often the kernel did not run a program, for it was under way."""
    return {
        name: after["runs"][name][1] - before["runs"][name][1] for name in after["runs"]
    }


def assert_exact(before: dict[str, Any], after: dict[str, Any]) -> None:
    """Three counts of the same calls, none of which knows of the others.

    Where the kernel preempts a trampoline's program it skips the same program for
    other tasks, and says how often; the observer can't have seen these.
    """
    calls = delta(before, after, "calls")
    skips = skipped(before, after)
    runs = {
        name: after["runs"][name][0] - before["runs"][name][0] for name in after["runs"]
    }

    assert 0 == delta(before, after, "calls_missed")
    assert {name: calls - skips[name] for name in runs} == runs
    assert calls - skips["leave_pci_match"] == delta(before, after, "accounted")
    assert delta(before, after, "decisions") == delta(before, after, "judged")


def assert_faultless(seen: Seen, method: str, metrics: dict[str, float]) -> None:
    """Nothing lost, nothing missed, nothing diverged, all that came was read."""
    emitted, received, decoded = (
        metrics[f'events_total{{stage="{stage}"}}']
        for stage in ("emitted", "received", "decoded")
    )
    lost = labelled(metrics, "events_lost_total")
    if seen.preempts and method == "fentry":
        # How many exactly, test_what_a_preempted_program_misses_is_counted asks.
        lost.pop('{stage="missed"}', None)
    else:
        assert {} == labelled(metrics, "probe_misses_total")

    assert {} == lost
    assert {} == labelled(metrics, "divergences_total")
    assert emitted == received == decoded
    assert {'{judgement="agree"}': emitted} == labelled(metrics, "judgements_total")


@every_step
@every_method
def test_each_write_ends_as_this_kernel_has_it(
    seen: Seen, method: str, step: Step
) -> None:
    """Errnos follow the rules of the layout, and clients succeed."""
    _, after = seen.step(method, step.name)
    rules = seen.layout["new_id_rules"]

    for action, outcome in zip(step.actions, after["outcomes"], strict=True):
        if isinstance(action, Write):
            assert expected_errno(action, rules) == outcome
        elif isinstance(action, Run) and action.error:
            assert action.error in outcome
        else:
            assert "" == outcome


@every_step
@every_method
def test_each_step_binds_what_sysfs_shows(seen: Seen, method: str, step: Step) -> None:
    """After the step devices have the drivers they must have, and no others."""
    assert step.bound == seen.step(method, step.name)[1]["bound"]


@every_step
@every_method
def test_each_call_of_a_step_is_accounted_for(
    seen: Seen, method: str, step: Step
) -> None:
    """A kprobe, the kernel's count of program runs and the observer agree exactly."""
    before, after = seen.step(method, step.name)

    assert_exact(before, after)
    if step.calls is not None:
        counts = after["counts_before"]
        assert counts.get(step.calls, step.calls) == delta(before, after, "calls")


@every_step
@every_method
def test_no_step_diverges_or_loses_anything(
    seen: Seen, method: str, step: Step
) -> None:
    """An unmodified kernel does what the model says, in every decision."""
    assert_faultless(seen, method, seen.step(method, step.name)[1]["metrics"])


@every_method
def test_new_id_asks_with_a_fake_device_on_kernels_of_its_rules(
    seen: Seen, method: str
) -> None:
    """Only linux-5.11 does, once for each write of fewer than seven fields."""
    whole = seen.part(method)
    writes = [
        action
        for step in STEPS
        for action in step.actions
        if isinstance(action, Write)
        and action.path.endswith("/new_id")
        and len(action.text.split()) < 7
    ]
    fakes = len(writes) if seen.layout["new_id_rules"] == "linux-5.11" else 0

    assert fakes == delta(whole["start"], whole["steps"][-1], "synthetic")


@every_method
def test_the_fake_device_is_no_decision(seen: Seen, method: str) -> None:
    """It has no name and is on no bus: every recorded decision has an address."""
    recorded = oracle.decisions(seen.recording(method))
    addresses = {match["address"] for match, _ in recorded}

    assert all(len(address) == len("0000:00:00.0") for address in addresses)


@every_method
def test_virtual_functions_are_known_as_such(seen: Seen, method: str) -> None:
    """is_virtfn is true for the four functions of the NVMe, and for nothing else."""
    places = seen.result["places"]
    virtual = {
        match["address"]
        for match, _ in oracle.decisions(seen.recording(method))
        if match["is_virtfn"]
    }

    assert {places[f"vf{number}"] for number in range(1, 5)} == virtual


@every_method
def test_recorded_matches_tell_where_the_id_came_from(seen: Seen, method: str) -> None:
    """Each way to bind left its source: dynid, dummy, flagged or plain entry."""
    places = seen.result["places"]
    sources = {
        (driver["name"], match["address"], match["match"], match["index"])
        for match, driver in oracle.decisions(seen.recording(method))
        if match["match"] != "none"
    }
    by_override = ("static", 0) if seen.flagged else ("override", None)

    assert ("pci-stub", places["testdev"], "dynid", 0) in sources
    assert ("pci-stub", places["edu"], "override", None) in sources
    assert ("vfio-pci", places["testdev"], "dynid", 0) in sources
    assert ("vfio-pci", places["edu"], *by_override) in sources
    assert any(source[:3] == ("e1000", places["nic"], "static") for source in sources)


@every_method
def test_a_bind_write_is_told_from_other_probes(seen: Seen, method: str) -> None:
    """From 5.14 on it reaches the probe directly, and says EBUSY to a bound device."""
    edu = seen.result["places"]["edu"]
    probes = [
        line
        for line in oracle.lines(seen.recording(method))
        if line.get("record") == "probe" and line["address"] == edu
    ]
    direct = {probe["result"] for probe in probes if probe["path"] == "direct"}
    split = seen.layout["probe_function"] == "__driver_probe_device"

    assert ({"bound", "busy"} if split else set()) == direct
    assert "bound" in {p["result"] for p in probes if p["path"] != "direct"}


@every_method
def test_the_daemon_is_small_at_rest(seen: Seen, method: str) -> None:
    """40 MB, its ring of 4 MiB mapped and all the steps behind it."""
    assert RSS_KB >= seen.part(method)["state_at_rest"]["rss_kb"]


@every_method
def test_no_thread_of_the_daemon_holds_a_privilege(seen: Seen, method: str) -> None:
    """All five capability sets are empty, nobody runs it, nothing can be regained."""
    threads = seen.part(method)["state_at_rest"]["threads"]

    assert 3 <= len(threads)  # the main loop, the server, one that serves
    for thread in threads:
        assert ["0" * 16] * 5 == [v for k, v in thread.items() if k.startswith("Cap")]
        assert "65534 65534 65534 65534" == thread["Uid"] == thread["Gid"]
        assert "1" == thread["NoNewPrivs"]


@every_method
def test_the_second_source_sees_what_is_attached(seen: Seen, method: str) -> None:
    """Otherwise seeing nothing after the end would say nothing."""
    attached = seen.part(method)["attached"]
    programs = [name for name in attached["programs"] if "_pci_match" in name]

    assert 2 == len(programs)
    assert [name for name in attached["maps"] if " events " in name]
    if method == "kprobe":
        assert [line for line in attached["kprobes"] if " r  pci_match_device" in line]


@every_method
def test_nothing_is_left_behind_after_sigkill(seen: Seen, method: str) -> None:
    """No program, map, link or kprobe outlives the daemon."""
    nothing: dict[str, list[str]] = {
        kind: [] for kind in ("programs", "maps", "links", "kprobe_events", "kprobes")
    }

    assert nothing == seen.part(method)["left_behind"]


@pytest.mark.parametrize(
    ("method", "kind"), [("fentry", "newid"), ("kprobe", "newid"), ("kprobe", "probe")]
)
def test_a_burst_loses_nothing(seen: Seen, method: str, kind: str) -> None:
    """26,000 calls as fast as the kernel makes them, all judged in the end."""
    burst = seen.part(method)[kind]
    before, after = burst["before"], burst["after"]

    assert "" == burst["error"]
    assert BURST_CALLS <= burst["expected_calls"]
    assert burst["expected_calls"] == delta(before, after, "calls")
    assert_exact(before, after)
    assert_faultless(seen, method, after["metrics"])


@every_method
def test_what_a_preempted_program_misses_is_counted(seen: Seen, method: str) -> None:
    """By a kprobe nothing can be missed; by fentry what the kernel admits."""
    whole = seen.part(method)
    skips = skipped(whole["start"], whole["end"])
    missed = whole["end"]["metrics"]['events_lost_total{stage="missed"}']

    if not seen.preempts or method == "kprobe":
        assert {0} == set(skips.values())
    assert max(skips.values()) <= missed <= sum(skips.values())


@wrong_step
def test_the_wrong_era_is_counted_as_exactly(seen: Seen, step: Step) -> None:
    """Another model changes no count, and sysfs shows the same."""
    steps = seen.part("wrong_era")["steps"]
    at = [done["name"] for done in steps].index(step.name)

    assert step.bound == steps[at]["bound"]
    if at:
        assert_exact(steps[at - 1], steps[at])


def test_the_wrong_era_diverges_where_predicted_and_nowhere_else(seen: Seen) -> None:
    """Live: each decision by a flagged entry alone, and none where no entry is."""
    part = seen.part("wrong_era")
    expected = oracle.expected_by_wrong_era(seen.recording("wrong_era"))
    diverged = labelled(part["steps"][-1]["metrics"], "divergences_total")
    kind = '{driver="vfio-pci",kind="expected_not_matched"}'

    assert bool(expected) == seen.flagged
    assert ({kind: len(expected)} if expected else {}) == diverged


@pytest.mark.parametrize("recording", [*METHODS, "wrong_era"])
def test_a_replay_by_the_wrong_era_diverges_where_predicted(
    seen: Seen, recording: str
) -> None:
    """The same decisions, one by one, whether they were captured live or not."""
    path = seen.recording(recording)
    wrong = "linux-3.16" if seen.flagged else "linux-5.15"
    expected = oracle.expected_by_wrong_era(path)
    *lines, summary = replay(path, wrong)
    diverged = [(line["driver"], line["address"], line["ktime_ns"]) for line in lines]

    assert expected == diverged
    assert {"expected_not_matched"} >= {line["kind"] for line in lines}
    assert {"static"} >= {line["model"] for line in lines}
    assert {0} >= {line["model_index"] for line in lines}
    assert len(expected) == summary["summary"]["diverge"]


@pytest.mark.parametrize("recording", METHODS)
def test_a_replay_by_the_own_era_agrees_with_the_live_daemon(
    seen: Seen, recording: str
) -> None:
    """A recording without its end is judged as far as it goes: completely here."""
    own = seen.layout["semantics"]
    last = list(seen.part(recording)[("newid", "probe")[recording == "kprobe"]].items())
    judged = dict(last)["after"]["judged"]
    (summary,) = replay(seen.recording(recording), own)

    assert 0 == summary["summary"]["diverge"] == summary["summary"]["indeterminate"]
    assert judged <= summary["summary"]["agree"]


def replay(path: Path, semantics: str) -> list[dict[str, Any]]:
    """Run `pci-observer replay`; return its lines."""
    done = subprocess.run(
        [
            *(REPOSITORY / ".venv/bin/pci-observer", "replay", path),
            *("--semantics", semantics, "--json"),
        ],
        capture_output=True,
        text=True,
        check=False,
    )
    lines = [json.loads(line) for line in done.stdout.splitlines()]
    assert int(len(lines) > 1) == done.returncode, done.stderr
    return lines


def test_a_ring_that_is_too_small_loses_and_says_so(seen: Seen) -> None:
    """What was emitted is lost or judged, to the unit, and nothing diverges."""
    part = seen.part("small_ring")
    before, after = part["before"], part["after"]
    metrics = after["metrics"]
    lost = labelled(metrics, "events_lost_total")

    assert 0 < lost['{stage="reserve"}']
    assert delta(before, after, "calls") == delta(before, after, "accounted")
    assert metrics['events_total{stage="emitted"}'] == (
        lost['{stage="reserve"}'] + after["judged"]
    )
    assert {} == labelled(metrics, "divergences_total")


def test_devices_were_bound_while_the_ring_was_full(seen: Seen) -> None:
    """Otherwise probes without a match could not have been seen."""
    assert "pci-stub" in seen.part("small_ring")["bound"]


@pytest.mark.parametrize("part", ["wrong_era", "small_ring"])
def test_sigterm_ends_the_daemon_well(seen: Seen, part: str) -> None:
    """Exit status 0, and a last line with the books."""
    stopped = seen.part(part)["stopped"]

    assert 0 == stopped["status"]
    assert "stopped" == json.loads(stopped["last"])["event"]


def grown(part: dict[str, Any], name: str, metric: str) -> dict[str, int]:
    """Return by how much each series of a metric grew while both observed."""
    before, after = (
        labelled(part[when][name]["metrics"], metric) for when in ("before", "after")
    )
    keys = before.keys() | after.keys()
    grew = {key: after.get(key, 0) - before.get(key, 0) for key in keys}
    return {key: number for key, number in grew.items() if number}


@pytest.mark.parametrize(
    "metric",
    [
        *("match_decisions_total", "judgements_total", "divergences_total"),
        *("indeterminate_total", "probe_results_total", "events_total"),
        *("events_lost_total", "hooked_calls_total", "sysfs_writes_total"),
    ],
)
def test_counting_what_repeats_changes_no_number(seen: Seen, metric: str) -> None:
    """Two at once, one of which takes every decision whole, come to the same.

    Writes to sysfs both take whole. One that just reads the device again leaves them
    undecided; how many there were is the same.
    """
    whole, folded = (
        grown(seen.part("both"), name, metric) for name in ("whole", "folded")
    )
    if metric == "sysfs_writes_total":
        whole, folded = by_file(whole), by_file(folded)

    assert whole == folded


def by_file(writes: dict[str, int]) -> dict[str, int]:
    """Add up the writes to each file, however they were judged."""
    files: Counter[str] = Counter()
    for labels, number in writes.items():
        files[labels.partition(",")[0]] += number
    return dict(files)


def test_counting_what_repeats_leaves_no_device_out(seen: Seen) -> None:
    """Devices that would differ are the same, whichever of them was told of."""
    what_if = [
        labelled(seen.part("both")["vfio"][name]["metrics"], "what_if_devices")
        for name in ("whole", "folded")
    ]
    assert what_if[0] == what_if[1]
    assert seen.flagged == ('{semantics="linux-3.16"}' in what_if[0])


def test_a_burst_is_counted_in_a_ring_of_a_megabyte(seen: Seen) -> None:
    """100,000 calls as fast as the kernel can: few are sent, none is lost."""
    part = seen.part("both")
    made = part["made"]["expected_calls"]
    before, after = part["before"]["folded"], part["after"]["folded"]
    repeated, undigested = (
        delta(before["metrics"], after["metrics"], f"{name}_decisions_total")
        for name in ("repeated", "undigested")
    )

    assert 100_000 <= made <= delta(before, after, "decisions")
    assert {} == grown(part, "folded", "events_lost_total")
    assert made * 0.99 < repeated
    assert 0 == undigested
    assert 0 == part["after"]["whole"]["metrics"]["repeated_decisions_total"]


def test_decisions_that_cannot_be_told_apart_are_sent(seen: Seen) -> None:
    """With room for eight, those repeat and are counted; the rest come whole."""
    part = seen.part("few_digests")

    assert 0 < part["repeated"] <= 8
    assert 0 < part["undigested"]
    assert part["emitted"] == part["decoded"] == part["judgements"]["agree"]
    assert 0 == sum(part["lost"].values())


@every_method
def test_programs_that_came_along_are_bccs(seen: Seen, method: str) -> None:
    """The kernel's own hash of each is that of one compiled under it."""
    tags = seen.part("programs")
    shipped, compiled = tags[f"{method} shipped"], tags[f"{method} compiled"]

    assert {"enter_pci_match", "leave_pci_match"} <= shipped.keys()
    assert shipped == compiled


@every_method
def test_the_verifier_has_not_more_to_do(seen: Seen, method: str) -> None:
    """At most a fifth more than what is recorded, of this kernel or of any."""
    found = seen.part("programs")["verified"]
    if os.environ.get("UPDATE_GOLDEN"):
        recorded = json.loads(VERIFIED.read_text()) if VERIFIED.exists() else {}
        recorded[seen.result["release"]] = found
        VERIFIED.write_text(json.dumps(recorded, indent=1, sort_keys=True) + "\n")
    recorded = json.loads(VERIFIED.read_text())
    known = recorded.get(seen.result["release"])
    most: Counter[str] = Counter()
    for each in [known] if known else recorded.values():
        most |= Counter(each[method])
    more = {
        name: (number, most[name])
        for name, number in found[method].items()
        if number > 1.2 * most[name]
    }
    assert {} == more


def test_what_changes_meanwhile_is_never_a_divergence(seen: Seen) -> None:
    """With every snapshot broken no decision is judged, and each says why."""
    part = seen.part("broken_snapshot")
    reasons = {name for name, count in part["indeterminate"].items() if count}

    assert 0 < part["emitted"] == part["decoded"]
    assert part["emitted"] == part["judgements"]["indeterminate"]
    assert reasons <= {"override_changed", "dynids_changed"}
    assert 0 == part["divergences"] == sum(part["lost"].values())


def test_a_table_that_is_cut_decides_as_far_as_it_goes(seen: Seen) -> None:
    """A hit within the first 32 entries is judged; no hit there is indeterminate."""
    part = seen.part("short_tables")
    seen_decisions = list(oracle.decisions(seen.recording("short_tables")))
    cut = [d for d in seen_decisions if oracle.beyond_the_table(*d)]
    hits_in_cut = [
        match
        for match, driver in seen_decisions
        if driver["table_state"] == "truncated" and match["match"] == "static"
    ]

    assert 0 < len(cut) == part["indeterminate"]["table_truncated"]
    assert len(cut) == part["judgements"]["indeterminate"]
    assert len(seen_decisions) - len(cut) == part["judgements"]["agree"]
    assert hits_in_cut
    assert 0 == part["divergences"] == sum(part["lost"].values())

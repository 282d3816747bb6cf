"""What is lost when things go wrong: one boot each, then a test for each fault.

tests/live/faults.py runs in the guest. Other kernels: PCI_OBSERVER_KERNELS="5.10 7.3".
PCI_OBSERVER_SEED chooses the random moments, PCI_OBSERVER_STORM how many seconds the
storm lasts. docs/faults.md lists the faults, also those that are tested elsewhere.
"""

from __future__ import annotations

import json
import os
import re
import secrets
import statistics
from typing import Any, Final

import pytest
from live.boots import TIMEOUT_SECONDS, Boots, boot, progress

pytestmark = pytest.mark.guest

KERNELS: Final = os.environ.get("PCI_OBSERVER_KERNELS", "6.1").split()
SEED: Final = os.environ.get("PCI_OBSERVER_SEED") or str(secrets.randbelow(1 << 32))
STORM_SECONDS: Final = os.environ.get("PCI_OBSERVER_STORM", "60")
KIB_A_MINUTE: Final = 256  # by which memory may grow in a storm
KIB_AT_ONCE: Final = 512  # the allocator takes some 264 KiB at a time
SIGKILLED: Final = -9
NOTHING_LEFT: Final[dict[str, object]] = {
    **{kind: [] for kind in ("programs", "maps", "links", "kprobe_events", "kprobes")},
    "processes": [],
    "answers": False,
}
LOSSLESS: Final = ("second", "clock", "descriptors", "cpus", "unplugged")

every_fault = pytest.mark.parametrize(
    "fault", [*LOSSLESS, "storm", "races", "suspended"]
)


@pytest.fixture(scope="session")
def boots(
    tmp_path_factory: pytest.TempPathFactory, pytestconfig: pytest.Config
) -> Boots:
    """All guests; each boots when a test first asks for it."""

    def start(kernel: str) -> dict[str, Any]:
        directory = tmp_path_factory.mktemp(f"faults-{kernel}")
        say = progress(pytestconfig)
        say(f"what is random is chosen by PCI_OBSERVER_SEED={SEED}")
        words = (SEED, STORM_SECONDS)
        limit = TIMEOUT_SECONDS + float(STORM_SECONDS)
        result: dict[str, Any] = boot(
            *(kernel, "live.faults", directory, say, *words), cpus=2, timeout=limit
        )
        return result

    return Boots(start)


class Faults:
    """What happened in one guest."""

    def __init__(self, result: dict[str, Any]) -> None:
        """Read a result."""
        self.result = result

    def __getitem__(self, name: str) -> Any:  # noqa: ANN401 - JSON
        """Return a part that came to its end."""
        part = self.result["parts"][name]
        assert "error" not in part or not part["error"], part["error"]
        return part

    def grown(self, fault: str) -> dict[str, float]:
        """Return by how much each sample grew, those that did."""
        before, after = (self[fault][when]["metrics"] for when in ("before", "after"))
        grew = {name: after[name] - before.get(name, 0) for name in after}
        return {name: value for name, value in grew.items() if value}

    def delta(self, fault: str, name: str) -> float:
        """Return by how much a total grew."""
        part = self[fault]
        grew: float = part["after"][name] - part["before"][name]
        return grew


@pytest.fixture(params=KERNELS)
def faults(request: pytest.FixtureRequest, boots: Boots) -> Faults:
    """Return what happened under one kernel."""
    return Faults(boots[request.param])


def lost(grown: dict[str, float]) -> dict[str, float]:
    """Return what was lost, by stage."""
    pattern = re.compile(r'events_lost_total\{stage="(\w+)"\}')
    return {
        found[1]: value
        for name, value in grown.items()
        if (found := pattern.fullmatch(name))
    }


def labelled(metrics: dict[str, float], name: str) -> dict[str, float]:
    """Return a metric's samples that are not 0, by their labels."""
    return {k: v for k, v in metrics.items() if k.startswith(f"{name}{{") and v}


@pytest.mark.parametrize("place", range(6))
def test_sigkill_leaves_nothing(faults: Faults, place: int) -> None:
    """Of a daemon or its loader, at a random moment: no program, map, link, process."""
    killed = faults["kills"][place]

    assert NOTHING_LEFT == killed["left"], killed["seconds"]


@pytest.mark.parametrize("place", range(2))
def test_a_killed_daemon_is_gone_at_any_moment_of_its_start(
    faults: Faults, place: int
) -> None:
    """It is the signal that ended it, and it told no half of a line."""
    killed = faults["kills"][place]

    assert ("daemon", SIGKILLED) == (killed["victim"], killed["status"])
    assert all(isinstance(json.loads(line), dict) for line in killed["lines"])


@pytest.mark.parametrize("place", range(2, 4))
def test_a_daemon_whose_loader_is_killed_says_so_in_one_line(
    faults: Faults, place: int
) -> None:
    """With exit status 3, unless the loader had done its work: then it goes on."""
    killed = faults["kills"][place]
    if killed["status"] == SIGKILLED:
        assert [] == [s for s in killed["lines"] if '"level":"error"' in s]
        return
    said = [line for line in killed["lines"] if not line.startswith("{")]

    assert 3 == killed["status"]
    assert ["pci-observer: the loader ended with status -9 and said nothing"] == said


@pytest.mark.parametrize("place", range(4, 6))
def test_a_daemon_that_is_killed_at_work_loses_a_second_of_history(
    faults: Faults, place: int
) -> None:
    """What was written before stands in a file that is whole; no other was begun."""
    killed = faults["kills"][place]

    assert [name for name in killed["attached"] if "_pci_match" in name]
    assert 0 < killed["written"] <= killed["history"]["rows"]
    assert ("ok", []) == (killed["history"]["integrity"], killed["history"]["aside"])


def test_history_grows_over_kills(faults: Faults) -> None:
    """A restart goes on with the file that the killed one left."""
    rows = [killed["history"]["rows"] for killed in faults["kills"]]

    assert sorted(rows) == rows
    assert rows[-2] < rows[-1]


def test_too_little_memory_to_start_with(faults: Faults) -> None:
    """The kernel ends it or its loader; it says so, and nothing is left."""
    told = faults["out_of_memory"]["start"]

    assert told["status"] in {SIGKILLED, 3}
    assert 1 <= told["killed"]
    assert NOTHING_LEFT == told["left"]


def test_memory_that_is_taken_away(faults: Faults) -> None:
    """The kernel ends it; nothing is left, and the history is whole."""
    told = faults["out_of_memory"]["run"]

    assert [name for name in told["attached"] if "_pci_match" in name]
    assert SIGKILLED == told["status"]
    assert 1 <= told["killed"]
    assert NOTHING_LEFT == told["left"]
    assert "ok" == told["history"]["integrity"]


def test_a_full_disk_loses_nothing_for_a_while(faults: Faults) -> None:
    """History and recording wait for room and are written; each decision is judged."""
    told = faults["full_disk"]
    full, after = (told[when]["metrics"] for when in ("full", "after"))
    emitted = after['events_total{stage="emitted"}']

    assert (1, 0) == (full["store_degraded"], after["store_degraded"])
    assert (
        after['store_rows_total{stage="offered"}']
        == after['store_rows_total{stage="written"}']
        > full['store_rows_total{stage="written"}']
    )
    assert {} == labelled(after, "store_rows_dropped_total")
    assert {} == labelled(after, "events_lost_total")
    assert 0 == after["unrecorded_total"]
    assert told["full"]["judged"] < told["after"]["judged"] == emitted


def test_a_full_disk_is_said_and_its_end(faults: Faults) -> None:
    """History, recording and the metrics' file each tell it, and that they go on."""
    told = faults["full_disk"]
    events = {line["event"] for line in told["warnings"]}

    assert {
        *("history is not kept", "history is kept again", "metrics file"),
        *("recording waits", "recording goes on"),
    } <= events
    assert 0 == told["stopped"]["status"]


def test_a_recording_over_a_full_disk_is_whole(faults: Faults) -> None:
    """It replays to the end, with every decision that was judged live."""
    told = faults["full_disk"]
    status, (last,) = told["replayed"]
    summary = json.loads(last)["summary"]

    assert (0, False) == (status, summary["truncated"])
    assert told["after"]["judged"] <= summary["decisions"] == summary["agree"]
    assert told["full"]["recorded"] < told["after"]["recorded"]


def test_the_metrics_file_comes_back(faults: Faults) -> None:
    """A full disk leaves the old file, as whole as it was; then it is written again."""
    before, full, after = (
        faults["full_disk"][when]["written"] for when in ("before", "full", "after")
    )

    assert 0 < before <= full < after


@every_fault
def test_the_books_balance(faults: Faults, fault: str) -> None:
    """Every call that the kernel's own counter saw was judged or counted as lost."""
    part = faults[fault]
    emitted = faults.delta(fault, "decisions")
    missing = lost(faults.grown(fault))
    of_matches = sum(missing.get(stage, 0) for stage in ("reserve", "decode", "queue"))

    assert 0 == faults.delta(fault, "calls_missed")
    assert 0 < faults.delta(fault, "calls") == faults.delta(fault, "accounted")
    assert emitted == faults.delta(fault, "judged") + of_matches
    assert {} == labelled(part["after"]["metrics"], "divergences_total")


@every_fault
def test_the_picture_is_right_afterwards(faults: Faults, fault: str) -> None:
    """The devices that the observer tells of are those that there are."""
    part = faults[fault]

    assert part["there"] == part["known"]


@pytest.mark.parametrize("fault", LOSSLESS)
def test_nothing_is_lost(faults: Faults, fault: str) -> None:
    """Neither a decision nor another event, and nothing is in doubt."""
    grown = faults.grown(fault)
    names = " ".join(grown)

    assert {} == lost(grown)
    assert "store_rows_dropped_total" not in names
    assert "probe_misses_total" not in names


@pytest.mark.parametrize("fault", ["second", "clock", "descriptors", "storm"])
def test_nothing_is_in_doubt(faults: Faults, fault: str) -> None:
    """Every decision agrees with the model: nothing raced with one."""
    grown = labelled(faults.grown(fault), "judgements_total")

    assert ['judgements_total{judgement="agree"}'] == list(grown)


@pytest.mark.parametrize(
    ("what", "sentence"),
    [
        ("port", "Can't listen on 127.0.0.1:9919: the port is in use; "),
        ("socket", "another observer listens on /run/faults.sock; stop it first"),
    ],
)
def test_a_second_instance_is_refused(faults: Faults, what: str, sentence: str) -> None:
    """In one line, as wrong usage, when it wants what the first one has."""
    status, printed, said = faults["second"]["refused"][what]

    assert (2, "") == (status, printed)
    assert 1 == len(said.splitlines())
    assert said.startswith(f"pci-observer: {sentence}")


def test_a_second_instance_with_places_of_its_own_works(faults: Faults) -> None:
    """Both see the same; of the history, which is the first one's, it says so."""
    told = faults["second"]
    before, after = told["both"]
    emitted, judged = (
        [now[name] - then[name] for then, now in zip(before, after, strict=True)]
        for name in ("decisions", "judged")
    )

    assert 0 < emitted[0] == emitted[1] == judged[0] == judged[1]
    assert ["history is not kept"] == [line["event"] for line in told["warnings"]]
    assert [1, 0] == [now["metrics"]["store_up"] for now in after]
    assert 0 == told["stopped"]["status"]


def test_times_are_right_after_clock_jumps(faults: Faults) -> None:
    """Probes took no year, in metrics that never fall; the present is the clock's."""
    told = faults["clock"]
    before = told["before"]["metrics"]
    name = 'probe_duration_seconds_{}{{driver="pci-stub"}}'
    for place, jump in enumerate(told["jumped"], 1):
        metrics = jump["metrics"]
        took, probes = (
            metrics[name.format(kind)] - before.get(name.format(kind), 0)
            for kind in ("sum", "count")
        )
        lag = metrics["event_lag_seconds_sum"] - before["event_lag_seconds_sum"]

        assert place == probes
        assert 0 <= took < 60
        assert 0 <= lag < 600
        assert abs(jump["time"] - metrics["alive_timestamp_seconds"]) < 60
    assert [0, ""] == told["history"]


def test_without_descriptors_it_observes_and_recovers(faults: Faults) -> None:
    """It had used them up, and a device that was plugged in then is known after."""
    told = faults["descriptors"]

    assert 1 <= told["held"] <= 2
    assert {} == labelled(faults.grown("descriptors"), "picture_disagreements_total")


def test_a_suspended_observer_counts_what_it_lost(faults: Faults) -> None:
    """The ring was full: matches and writes are lost, counted, and never diverge."""
    told = faults["suspended"]
    missing = lost(faults.grown("suspended"))

    assert "" == told["error"]
    assert {"reserve", "other"} == missing.keys()


def test_a_suspended_observer_shows_its_lag(faults: Faults) -> None:
    """What was decided at the start of the stop was judged seconds later."""
    late = [each["+Inf"] - each["1.0"] for each in faults["suspended"]["lags"]]

    assert late[0] < late[1]


def test_a_cpu_came_and_went(faults: Faults) -> None:
    """Again and again, while both were busy: otherwise nothing was shown."""
    told = faults["cpus"]

    assert ["0", "1"] * (len(told["switched"]) // 2) == told["switched"]
    assert 40 <= len(told["switched"])
    assert all(told["done"])


def test_devices_and_modules_went_in_the_middle(faults: Faults) -> None:
    """Without an error, many times, while decisions were made about them."""
    told = faults["unplugged"]

    assert [] == told["errors"]
    assert all(4 <= number for number in told["done"])


def test_races_are_indeterminate_and_never_diverge(faults: Faults) -> None:
    """Of thousands some were met in the middle of a decision; none is a divergence."""
    told = faults["races"]
    grown = faults.grown("races")
    doubted = labelled(grown, "judgements_total")

    assert {""} == set(told["errors"])
    assert 10_000 <= told["writes"]
    assert {} == labelled(grown, "divergences_total")
    assert 0 < doubted.get('judgements_total{judgement="indeterminate"}', 0)


def test_memory_is_flat_in_a_storm(faults: Faults) -> None:
    """Of binds and unbinds, as fast as they go: it does not grow with their number."""
    told = faults["storm"]
    seconds, kib = zip(*told["samples"][len(told["samples"]) // 3 :], strict=True)
    slope = statistics.linear_regression(seconds, kib).slope * 60
    minutes = (seconds[-1] - seconds[0]) / 60

    print(f"{told['bound']} binds, {kib[-1]} KiB, {slope:+.1f} KiB a minute")
    assert 500 <= told["bound"]
    assert kib[-1] - kib[0] < KIB_AT_ONCE + KIB_A_MINUTE * minutes


def test_it_ends_well_after_all_that(faults: Faults) -> None:
    """Exit status 0, and a last line with the books."""
    stopped = faults["stopped"]

    assert 0 == stopped["status"]
    assert "stopped" == json.loads(stopped["last"])["event"]

"""The metrics: all names and labels that others rely on, and right under hostility."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

import machines
import pytest
from pictures import pictured
from test_series import changed
from test_standing import finding

from observer.books import Books
from observer.disagreement import Field
from observer.durations import BOUNDS, SERIES, Durations
from observer.findings import Kind as Case
from observer.findings import Name
from observer.labels import LEAST, Labels
from observer.metrics import FIXED, About, Metrics, State
from observer.record import (
    Device,
    Driver,
    Inputs,
    Judged,
    Judgement,
    Kind,
    Loss,
    LossStage,
    Match,
    Outcome,
    Probe,
    Probed,
    ProbeResult,
    Reason,
    Source,
    Task,
)
from observer.record import Path as ProbePath
from observer.ring import Counters
from observer.series import gauges
from observer.store import Counts
from observer.text import printable

if TYPE_CHECKING:
    from collections.abc import Callable

GOLDEN = Path(__file__).parent / "golden" / "metrics.txt"
OPENMETRICS = "application/openmetrics-text;version=1.0.0"
TASK = Task(7, 7, "udevd", 0)
ABOUT = About("0.1.0", "6.12.117+deb13", "linux-5.15", "D", 1795366000.5)
IDLE = State(Counters(), 0, 0, {}, {})
BUSY = State(
    Counters(8, 1, 2, 11, 1, 3, 5, 4, 6),
    received=20,
    decoded=19,
    attached={"pci_match_device": "fentry", "driver_probe_device": "kprobe"},
    misses={"pci_match_device": 8},
    gauges=tuple(
        gauges(
            machines.machine(
                machines.device(bound="e1000"),
                machines.device("0000:00:03.0", driver_override="vfio-pci"),
                baseline=pictured(release="6.1.0-56-amd64"),
            ),
            [
                finding("0000:00:03.0", Name.STALE_OVERRIDE, Case.REFUSES_NATIVE),
                changed("0000:00:03.0", Case.DRIVER_LOST, "e1000", None),
            ],
            [(machines.ADDRESS, "orphan")],
        )
    ),
    disagreements=dict.fromkeys(Field, 0) | {Field.BOUND: 3},
    store=Counts(9, 4, 3, 1, up=True, degraded=True, size_bytes=8192),
    missing=1,
    detours=1,
    alive=1795366009.25,
    devices=2,
)


def judged(
    name: str = "e1000",
    source: Source = Source.NONE,
    judgement: Judgement = Judgement.AGREE,
    kind: Kind | None = None,
    reason: Reason | None = None,
) -> Judged:
    """Make a judged decision of a driver."""
    inputs = Inputs(Device(0x8086, 0x100E, 0, 0, 0x20000), Driver(1, name, ()))
    outcome = Outcome(source)
    match = Match(1, TASK, "0000:00:02.0", False, inputs, outcome)
    return Judged(match, judgement, None, kind, reason)


def probed(
    name: str = "e1000",
    duration_ns: int = 2_000_000,
    result: ProbeResult = ProbeResult.BOUND,
    kind: Kind | None = None,
) -> Probed:
    """Make a probe by a driver."""
    path = ProbePath.DIRECT
    address = "0000:00:02.0"
    probe = Probe(
        1,
        duration_ns,
        TASK,
        address,
        1,
        name,
        True,
        path,
        result,
        None,
    )
    return Probed(probe, kind)


def made(
    *observations: Judged | Probed | Loss, state: State = IDLE, limit: int = 300
) -> Metrics:
    """Return metrics that have seen these observations."""
    books = Books()
    metrics = Metrics(
        books, lambda: state, ABOUT, limit=limit, clock=lambda: 50_000_001
    )
    for observation in observations:
        books(observation)
        metrics(observation)
    return metrics


def text(metrics: Metrics) -> str:
    """Return a scrape as text."""
    return metrics.render("")[0].decode()


def samples(metrics: Metrics, name: str) -> list[str]:
    """Return the lines of one metric, without its prefix."""
    start = f"pci_observer_{name}"
    lines = [line for line in text(metrics).splitlines() if line.startswith(start)]
    return [line.removeprefix("pci_observer_") for line in lines]


def eventful() -> Metrics:
    """Return metrics in which every family has samples."""
    return made(
        judged(),
        judged(source=Source.STATIC),
        judged("vfio-pci", Source.OVERRIDE, Judgement.DIVERGE, Kind.DIFFERENT_SOURCE),
        judged(judgement=Judgement.INDETERMINATE, reason=Reason.DYNIDS_CHANGED),
        probed(),
        probed("ahci", 40_000_000_000, ProbeResult.REFUSED),
        probed("nvme", kind=Kind.PROBE_WITHOUT_MATCH),
        Loss(0, 1, LossStage.DECODE, 1),
        Loss(0, 1, LossStage.OTHER, 6),
        state=BUSY,
    )


def test_what_if() -> None:
    """The devices that would differ are told for each semantics, by whoever knows."""
    state = IDLE._replace(what_if={"rfc-2021-06-17": 3})
    lines = samples(made(state=state), "what_if_devices{")
    assert 'what_if_devices{semantics="rfc-2021-06-17"} 3.0' in lines
    assert 'what_if_devices{semantics="linux-5.15"} 0.0' in lines


def test_golden() -> None:
    """The whole text is as recorded; UPDATE_GOLDEN=1 records it anew."""
    lines = text(eventful()).splitlines(keepends=True)
    actual = "".join(line for line in lines if "process_" not in line)
    if os.environ.get("UPDATE_GOLDEN"):
        GOLDEN.write_text(actual, encoding="utf-8")
    assert GOLDEN.read_text(encoding="utf-8") == actual


@pytest.mark.parametrize("metrics", [made(), eventful()], ids=["idle", "eventful"])
def test_promtool(metrics: Metrics) -> None:
    """Prometheus' own linter has nothing to say, process metrics included."""
    done = subprocess.run(
        ["promtool", "check", "metrics"],
        check=False,
        input=metrics.render("")[0],
        capture_output=True,
        timeout=30,
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, b"", b"")


def test_first_scrape() -> None:
    """All fixed label sets are there at 0 before anything was observed."""
    fixed = [f'judgements_total{{judgement="{word}"}} 0.0' for word in Judgement]
    fixed += [f'indeterminate_total{{reason="{word}"}} 0.0' for word in Reason]
    fixed += [f'events_lost_total{{stage="{word}"}} 0.0' for word in LossStage]
    stages = ("emitted", "received", "decoded")
    fixed += [f'events_total{{stage="{stage}"}} 0.0' for stage in stages]
    hooks = (
        "pci_match_device",
        "driver_probe_device",
        "__driver_probe_device",
        "pci_unregister_driver",
        "new_id_store",
        "remove_id_store",
        "driver_override_store",
        "bind_store",
        "unbind_store",
        "drivers_probe_store",
    )
    fixed += ["hooks_missing 0.0", "hook_detours 0.0"]
    fixed += [f'divergences_total{{driver="other",kind="{k}"}} 0.0' for k in Kind]
    fixed += [f'probe_misses_total{{hook="{hook}"}} 0.0' for hook in hooks]
    fixed += [
        f'hook_attached{{hook="{hook}",method="{method}"}} 0.0'
        for hook in hooks
        for method in ("fentry", "kprobe")
    ]
    lines = text(made()).splitlines()
    assert [line for line in fixed if f"pci_observer_{line}" not in lines] == []


def test_process() -> None:
    """The daemon's own memory is exported."""
    assert "\nprocess_resident_memory_bytes " in text(made())


def test_no_created() -> None:
    """No series doubles another one as its time of creation."""
    assert "_created" not in text(eventful())


def test_openmetrics() -> None:
    """A client that asks for OpenMetrics gets it, and is told so."""
    body, content_type = made().render(OPENMETRICS)
    assert (
        body.endswith(b"# EOF\n"),
        content_type.startswith("application/openmetrics-text; version=1.0.0"),
    ) == (True, True)


@pytest.mark.parametrize(
    "accept", ["", "*/*", "application/openmetrics-text;version=x"]
)
def test_plain_text(accept: str) -> None:
    """Everybody else gets the plain text format, garbage included."""
    assert made().render(accept)[1] == "text/plain; version=0.0.4; charset=utf-8"


@pytest.mark.parametrize("accept", ["", OPENMETRICS])
def test_hostile_name(accept: str) -> None:
    """A driver's name can neither break a line nor the encoding."""
    metrics = made(judged('a"\n\x1b[31m\udcff\\b'))
    expected = rb'{driver="a\"\\n\\x1b[31m\\udcff\\\\b",result="none"} 1.0'
    assert expected in metrics.render(accept)[0]


def full(
    devices: int = 200,
    drivers: int = 300,
    limit: int = 300,
    busy: int = 8,
    wrong: int = 5,
) -> Metrics:
    """Return metrics of a machine on which every driver saw a device, as at boot.

    So many drivers are `busy` with matches, probes and divergences, and so many
    devices are `wrong`.
    """
    nics = [machines.device(f"0000:{n // 8:02x}:{n % 8:02x}.0") for n in range(devices)]
    machine = machines.machine(
        *(nic._replace(driver=f"d{n % 8}") for n, nic in enumerate(nics)),
        drivers=[machines.driver(f"d{n}") for n in range(drivers)],
    )
    findings = [finding(nic.address) for nic in nics[:wrong]]
    ended = [(nic.address, "orphan") for nic in nics[9:10]]
    state = IDLE._replace(
        devices=devices,
        gauges=tuple(gauges(machine, findings, ended)),
        disagreements=dict.fromkeys(Field, 0),
    )
    return made(
        *(judged(f"d{n}") for n in range(drivers)),
        *(judged(f"d{n}", Source.STATIC) for n in range(busy)),
        *(probed(f"d{n}") for n in range(busy)),
        state=state,
        limit=limit,
    )


def test_what_is_there_always_is_reckoned_with() -> None:
    """The room for drivers is what this leaves."""
    assert FIXED == series(full(0, 0, limit=2000, busy=0)) + 1  # a baseline


def series(metrics: Metrics) -> int:
    """Count the series of a scrape, those of the process as well."""
    lines = text(metrics).splitlines()
    return len([line for line in lines if not line.startswith("#")])


@pytest.mark.parametrize(
    ("devices", "drivers", "limit"),
    [(0, 0, 300), (20, 40, 300), (200, 300, 300), (1000, 300, 2000), (9000, 900, 2000)],
)
@pytest.mark.parametrize("wrong", [5, 10_000])
@pytest.mark.parametrize("busy", [8, 300])
def test_the_budget_holds(
    devices: int, drivers: int, limit: int, busy: int, wrong: int
) -> None:
    """200 devices take 300 series by default; and `series` says how many there are."""
    metrics = full(devices, drivers, limit, busy, wrong)
    there = series(metrics)
    assert there <= limit
    (said,) = samples(metrics, "series ")
    assert said == f"series {there}.0"


@pytest.mark.parametrize("busy", [0, 8, 300])
@pytest.mark.parametrize("devices", [0, 5, 40])
def test_the_least_budget_holds(devices: int, busy: int) -> None:
    """The smallest that can be asked for is kept as well."""
    assert series(full(devices, 300, LEAST, busy, 50)) <= LEAST


def test_a_file_has_the_same_without_the_process() -> None:
    """And says how many series those are."""
    text_of_file = full().render("", process=False)[0].decode()
    lines = [line for line in text_of_file.splitlines() if not line.startswith("#")]
    assert not any(line.startswith("process_") for line in lines)
    assert f"pci_observer_series {len(lines)}.0" in lines


def test_a_fallback_has_series_where_it_is_hooked() -> None:
    """And only there: hardly any kernel needs it."""
    hook = 'hook="pci_bus_match"'
    assert hook not in rendered(IDLE)
    text = rendered(
        IDLE._replace(attached={"pci_bus_match": "kprobe"}, missing=1, detours=1)
    )
    for line in (
        f'hook_attached{{{hook},method="kprobe"}} 1.0',
        f'hook_attached{{{hook},method="fentry"}} 0.0',
        f"probe_misses_total{{{hook}}} 0.0",
        'hook_attached{hook="pci_match_device",method="kprobe"} 0.0',
        "hooks_missing 1.0",
        "hook_detours 1.0",
    ):
        assert f"\npci_observer_{line}\n" in text


def rendered(state: State) -> str:
    """Return a scrape in this state."""
    return Metrics(Books(), lambda: state, ABOUT).render("")[0].decode()


def test_no_more_than_the_cap() -> None:
    """2,000 series, whatever is asked for."""
    assert series(full(5000, 300, 100_000, 300, 5000)) <= 2000


def test_a_small_machine_loses_nothing() -> None:
    """Each device, and each driver with all it did, has series of its own."""
    metrics = full(16, 30)
    dropped = samples(metrics, "label_sets_dropped_total")
    for what in ("address", "ids"):
        assert f'label_sets_dropped_total{{label="{what}"}} 0.0' in dropped
    assert len(samples(metrics, "device_driver_info")) == 16
    for name in ("match_decisions_total", "probe_"):
        assert 'driver="other"' not in "".join(samples(metrics, name))


def value(line: str) -> float:
    """Return a line's value."""
    return float(line.rsplit(" ", 1)[1])


def test_what_has_no_series_is_counted() -> None:
    """Nothing is missing in a sum, and what is left out is told."""
    metrics = full()
    decisions = samples(metrics, "match_decisions_total")
    assert sum(map(value, decisions)) == 300 + 8
    assert sum(map(value, samples(metrics, "probe_results_total"))) == 8
    counts = [n for n in samples(metrics, "probe_duration") if "_count" in n]
    assert sum(map(value, counts)) == 8
    assert sum(map(value, samples(metrics, "devices{"))) == 200
    shown = len(samples(metrics, "device_driver_info"))
    dropped = samples(metrics, "label_sets_dropped_total")
    assert f'label_sets_dropped_total{{label="address"}} {200 - shown}.0' in dropped


def test_what_matched_is_told_before_what_did_not() -> None:
    """Hundreds of drivers that match nothing leave room for the few that do."""
    matched = samples(full(), "match_decisions_total")
    for number in range(8):
        expected = f'match_decisions_total{{driver="d{number}",result="static"}} 1.0'
        assert expected in matched


def test_no_counter_moves() -> None:
    """What was counted as other stays there: a counter never goes down."""
    books, metrics = Books(), None
    metrics = Metrics(books, lambda: IDLE, ABOUT, limit=LEAST)
    before: dict[str, float] = {}
    for turn in range(60):
        for observation in (judged(f"d{turn}"), judged("d0"), probed(f"d{turn}")):
            books(observation)
            metrics(observation)
        after = {
            line.rsplit(" ", 1)[0]: value(line)
            for name in ("match_decisions_total", "probe_")
            for line in samples(metrics, name)
        }
        assert [key for key in before if after[key] < before[key]] == []
        before = after
    assert 'match_decisions_total{driver="other",result="none"}' in before


def test_dropped_sets_are_counted_once() -> None:
    """However often it is scraped."""
    metrics = full()
    first, second = (samples(metrics, "label_sets_dropped") for _ in range(2))
    assert first == second


def test_labels_keep() -> None:
    """A name's label does not depend on what was seen after it."""
    labels = Labels(2)
    seen = [labels.of((name,)) for name in ("a", "b", "c", "a", "b")]
    assert seen == [("a",), ("b",), ("other",), ("a",), ("b",)]


def test_labels_cost() -> None:
    """A histogram takes more series than one."""
    labels = Labels(9, cost=8)
    assert [("a",), ("other",)] == [labels.of(("a",)), labels.of(("b",))]


def test_buckets() -> None:
    """A duration is in the bucket whose bound it does not exceed."""
    durations = Durations()
    for duration_ns in (0, 10_000_000, 10_000_001, 10_000_000_000, 10_000_000_001):
        durations(probed("a", duration_ns))
    counts = durations.histograms()["a"].counts
    assert counts == (2, 1, 0, 1, 1)


def test_few_buckets() -> None:
    """A histogram costs what is reckoned with."""
    lines = samples(made(probed()), "probe_duration_seconds_")
    assert len(lines) == len(BOUNDS) + 3 == SERIES


def test_conservation() -> None:
    """At rest, emitted = lost + agree + diverge + indeterminate."""
    metrics = made(
        judged(),
        judged(judgement=Judgement.DIVERGE, kind=Kind.DIFFERENT_ENTRY),
        Loss(0, 1, LossStage.RESERVE, 1),
        state=IDLE._replace(counters=Counters(whole=3, lost_reserve=1)),
    )
    value = {
        line.split()[0]: float(line.split()[1])
        for name in ("events", "judgements")
        for line in samples(metrics, name)
    }
    lost = sum(
        value[f'events_lost_total{{stage="{stage}"}}']
        for stage in ("reserve", "decode", "queue")
    )
    judgements = sum(value[key] for key in value if key.startswith("judgements"))
    assert value['events_total{stage="emitted"}'] == lost + judgements


def test_losses_of_other_records() -> None:
    """Records of drivers and probes count as lost however they were lost."""
    lines = samples(made(Loss(0, 1, LossStage.OTHER, 3)), "events_lost_total")
    assert 'events_lost_total{stage="other"} 3.0' in lines


class Restless(str):
    """A name; when a scrape spells it, the main loop meets another driver."""

    __slots__ = ("meet",)
    meet: Callable[[], None]

    def isprintable(self) -> bool:
        """Interrupt the scrape."""
        self.meet()
        return True


@pytest.mark.parametrize(
    "observed",
    [judged, probed, lambda name: probed(name, kind=Kind.PROBE_WITHOUT_MATCH)],
    ids=["decision", "probe", "divergence"],
)
def test_scrape_during_update(observed: Callable[[str], Judged | Probed]) -> None:
    """A scrape is not disturbed when the main loop meets a driver meanwhile."""
    books = Books()
    metrics = Metrics(books, lambda: IDLE, ABOUT)
    name = Restless("first")
    name.meet = lambda: books(observed("second"))
    books(observed(name))
    assert 'driver="first"' in text(metrics)


def test_printable() -> None:
    """Text that can be printed stays, and no two texts are spelled the same."""
    spelled = [printable(each) for each in ("e1000-µ", "\x1b", r"\x1b", "\n", "\udcff")]
    assert spelled == ["e1000-µ", r"\x1b", r"\\x1b", r"\n", r"\udcff"]

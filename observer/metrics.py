"""The metrics, rendered at each scrape from the books and the kernel's counters.

Names and labels are what users' alerts rely on: they are only added to. A scrape runs
in another thread than the main loop, so everything is copied before it is read.
"""

from __future__ import annotations

from collections import defaultdict
from itertools import islice
from threading import Lock
from time import monotonic_ns
from types import MappingProxyType
from typing import TYPE_CHECKING, NamedTuple, TypeVar

from observer.durations import SERIES, Durations, Histogram
from observer.hooks import FALLBACKS, HOOKS, METHODS
from observer.labels import MOST, OTHER, USUAL, Labels, label
from observer.lag import Lag
from observer.model import SEMANTICS
from observer.record import Kind, LossStage, ProbeResult, Source
from observer.store import Counts
from observer.unimportable import stand_in

# prometheus_client imports these for servers and clients that are not ours.
with (
    stand_in("ssl"),
    stand_in("urllib.request"),
    stand_in("wsgiref.simple_server"),
    stand_in("http.server"),
):
    from prometheus_client.core import (
        CollectorRegistry,
        CounterMetricFamily,
        GaugeMetricFamily,
        HistogramMetricFamily,
    )
    from prometheus_client.exposition import choose_encoder
    from prometheus_client.process_collector import ProcessCollector
    from prometheus_client.registry import Collector

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping

    from prometheus_client import Metric

    from observer.books import Books
    from observer.record import Observation
    from observer.ring import Counters
    from observer.series import Gauge

FIXED = 151  # series that there are always; a test counts them
# Of the limit: the least that drivers have however many devices there are.
_DRIVERS = 0.25
# Series of what has no room: decisions, probes and one histogram of "other".
_OTHER = len(Source) + len(ProbeResult) + SERIES
_FEW = 5  # series that tell of the others
_REMEMBERED = 100_000  # sets that were left out

_Name = TypeVar("_Name", bound=str)


class State(NamedTuple):
    """What the daemon knows at a scrape besides the books."""

    counters: Counters
    received: int  # records taken from the ring
    decoded: int  # of these, understood
    attached: Mapping[str, str]  # method by hook; a hook not in here is not attached
    misses: Mapping[str, int]  # by hook
    what_if: Mapping[str, int] = MappingProxyType({})  # devices by semantics
    gauges: tuple[Gauge, ...] = ()  # of the machine
    disagreements: Mapping[str, int] = MappingProxyType({})  # with sysfs, by field
    store: Counts = Counts()  # of none
    unrecorded: int = 0  # lines
    bound_before: int = 0  # devices whose bind was not seen
    missing: int = 0  # hooks that should be attached and are not
    detours: int = 0  # hooks that are attached by another method than the best
    alive: float = 0  # Unix time of the main loop's last turn
    devices: int = 0  # of the machine
    web_config: bool = True  # what its files say holds, or there are none


class About(NamedTuple):
    """What does not change while the daemon runs."""

    version: str
    release: str  # of the kernel
    semantics: str
    layout: str
    since: float  # Unix time from which on decisions were seen


class _Room(NamedTuple):
    """Which label sets of drivers have series of their own."""

    decisions: Labels  # with a match, divergences and probes
    none: Labels  # decisions without a match: all drivers have them
    durations: Labels

    @classmethod
    def of(cls, limit: int, devices: int) -> _Room:
        """Share what fixed sets and devices leave: a part at least, if it is there."""
        left = max(0, limit - FIXED - _OTHER)
        room = min(left, max(left - devices * 6 // 5, int(limit * _DRIVERS)))
        none, durations = room * 3 // 10, room // 2
        return cls(
            Labels(room - none - durations),
            Labels(none),
            Labels(durations, cost=SERIES),
        )


class Metrics(Collector):
    """Renders all metrics; a sink too, for the durations of probes and the lag."""

    def __init__(
        self,
        books: Books,
        state: Callable[[], State],
        about: About,
        *,
        limit: int = USUAL,
        clock: Callable[[], int] = monotonic_ns,
    ) -> None:
        """Render from `books` and from what `state` returns at each scrape.

        No scrape has more than `limit` series; what is left out is counted.
        """
        self._books = books
        self._state = state
        self._about = about
        self._limit = min(limit, MOST)
        self._durations = Durations()
        self._lag = Lag(clock)
        self._room: _Room | None = None  # until it is known how many devices there are
        self._dropped: defaultdict[str, set[int]] = defaultdict(set)
        self._lock = Lock()  # of all that a scrape changes
        self._process = ProcessCollector(registry=None)
        self._own = 0
        self._of_process = sum(
            len(family.samples) for family in self._process.collect()
        )

    def allow(self, limit: int) -> None:
        """Have so many series at most from now on."""
        with self._lock:
            self._limit, self._room = min(limit, MOST), None

    def __call__(self, observation: Observation) -> None:
        """Enter how long a probe took, or a decision waited."""
        self._durations(observation)
        self._lag(observation)

    def render(self, accept: str, *, process: bool = True) -> tuple[bytes, str]:
        """Return the metrics in the format the Accept header asks for, and its type.

        Without those of the `process`, whose names others use as well.
        """
        try:
            encoder, content_type = choose_encoder(accept)
        except TypeError:  # the client library's, for "version=x"
            encoder, content_type = choose_encoder("")
        registry = CollectorRegistry()
        registry.register(self)
        if process:
            registry.register(self._process)
        with self._lock:
            self._own = self._of_process if process else 0
            return encoder(registry), content_type

    def describe(self) -> list[Metric]:
        """Tell the registry nothing, which would collect to learn the names."""
        return []

    def collect(self) -> Iterator[Metric]:
        """Yield every metric family, for the registry."""
        state = self._state()
        if self._room is None:
            self._room = _Room.of(self._limit, state.devices)
        families = {family.name: family for family in self._always(state, self._room)}
        left = self._limit - _FEW - self._own
        left -= sum(len(family.samples) for family in families.values())
        left -= sum(len(g.samples) for g in state.gauges if not g.bounded)
        for gauge in state.gauges:
            samples = gauge.samples
            if gauge.bounded and len(samples) > left:
                samples = dict(islice(samples.items(), max(left, 0)))
                beyond = islice(gauge.samples, len(samples), None)
                self._drop(gauge.bounded, ((gauge.name, *key) for key in beyond))
            left -= len(samples) if gauge.bounded else 0
            family = _gauge(gauge.name, gauge.text, samples, *gauge.labels)
            there = families.setdefault(family.name, family)
            if there is not family:
                there.samples += family.samples
        yield from families.values()
        yield self._beyond()
        yield _gauge("series_limit", "How many series there may be.", {(): self._limit})
        yield _gauge("series", "How many series there are.", {(): self._limit - left})

    def _drop(self, what: str, keys: Iterable[tuple[str, ...]]) -> None:
        """Count sets that have no series, each once."""
        dropped = self._dropped[what]
        for key in keys:
            if len(dropped) < _REMEMBERED:
                dropped.add(hash(key))

    def _beyond(self) -> Metric:
        counts = {
            what: len(self._dropped[what]) for what in ("address", "driver", "ids")
        }
        counts["driver"] += sum(labels.dropped for labels in self._room or ())
        return _counter(
            "label_sets_dropped_total",
            "Sets of labels without series of their own, by what they are of.",
            _by_name(counts),
            "label",
        )

    def _always(self, state: State, room: _Room) -> Iterator[Metric]:
        """Yield what there always is, and what drivers have room for."""
        yield from self._decisions(room)
        yield _what_if(state)
        yield from self._probes(room)
        yield self._lags()
        yield from self._events(state)
        yield from _hooks(state)
        yield from self._machine(state)
        yield from _store(state.store)
        yield _counter(
            "unrecorded_total",
            "Lines that the recording lacks because they could not be written.",
            {(): state.unrecorded},
        )
        yield from _about(self._about)
        yield _gauge(
            "web_config_reload_success",
            "Whether the files of --web.config.file could be used as they are now.",
            {(): state.web_config},
        )
        yield _gauge(
            "alive_timestamp_seconds",
            "Unix time of the last turn of the main loop.",
            {(): state.alive},
        )

    def _decisions(self, room: _Room) -> Iterator[Metric]:
        books = self._books
        decisions = dict(books.decisions)
        matched = {key: n for key, n in decisions.items() if key[1] is not Source.NONE}
        without = {key: n for key, n in decisions.items() if key[1] is Source.NONE}
        yield _counter(
            "match_decisions_total",
            "Decisions of pci_match_device by where the returned id comes from.",
            _sum(room.decisions.fold(matched), room.none.fold(without)),
            "driver",
            "result",
        )
        yield _counter(
            "judgements_total",
            "Match decisions by how they compare with the model.",
            _by_name(books.judgements),
            "judgement",
        )
        yield _counter(
            "boot_decisions_total",
            "Those of the match decisions that the kernel recorded before the hooks.",
            _by_name(books.boot),
            "judgement",
        )
        yield _counter(
            "divergences_total",
            "Times the kernel did something else than the model expects.",
            _sum(
                {(OTHER, kind): 0 for kind in Kind},
                room.decisions.fold(dict(books.divergences)),
            ),
            "driver",
            "kind",
        )
        yield _counter(
            "indeterminate_total",
            "Match decisions that could not be judged.",
            _by_name(books.indeterminate),
            "reason",
        )

    def _probes(self, room: _Room) -> Iterator[Metric]:
        yield _counter(
            "probe_results_total",
            "Probes of PCI devices by their result.",
            room.decisions.fold(dict(self._books.probes)),
            "driver",
            "result",
        )
        by_label: defaultdict[tuple[str, ...], Histogram] = defaultdict(Histogram)
        for name, histogram in self._durations.histograms().items():
            labels = room.durations.of((name,))
            by_label[labels] = by_label[labels].plus(histogram)
        family = HistogramMetricFamily(
            "pci_observer_probe_duration_seconds",
            "How long probes of PCI devices took.",
            labels=["driver"],
        )
        for labels, histogram in sorted(by_label.items()):
            buckets, seconds = histogram.cumulated(), histogram.sum_ns / 1e9
            family.add_metric(labels, buckets, seconds)
        yield family

    def _lags(self) -> Metric:
        family = HistogramMetricFamily(
            "pci_observer_event_lag_seconds",
            "How long after they were made decisions were judged, but those of boot.",
        )
        family.add_metric([], self._lag.cumulated(), self._lag.seconds)
        return family

    def _events(self, state: State) -> Iterator[Metric]:
        counters = state.counters
        yield _counter(
            "events_total",
            "Match decisions emitted in the kernel, received from it and decoded.",
            {
                ("emitted",): counters.emitted,
                ("received",): state.received,
                ("decoded",): state.decoded,
            },
            "stage",
        )
        lost = dict(self._books.lost)
        # As new as emitted; the books also hold what could not be decoded.
        lost[LossStage.RESERVE] = counters.lost_reserve
        yield _counter(
            "events_lost_total",
            "Events lost; the stages reserve, decode and queue are match decisions.",
            _by_name(lost),
            "stage",
        )
        yield _counter(
            "repeated_decisions_total",
            "Match decisions that repeated an earlier one and were only counted.",
            {(): counters.repeated},
        )
        yield _counter(
            "undigested_decisions_total",
            "Match decisions sent whole because no more can be told apart.",
            {(): counters.no_digest},
        )
        yield _counter(
            "synthetic_matches_total",
            "Matches of the fake device of a new_id write, which decide nothing.",
            {(): counters.synthetic},
        )

    def _machine(self, state: State) -> Iterator[Metric]:
        yield _gauge(
            "bindings_before_observing",
            "PCI devices with a driver of which it was not seen how it was bound.",
            {(): state.bound_before},
        )
        yield _counter(
            "sysfs_writes_total",
            "Writes to PCI's sysfs files by how their errno compares with the model.",
            {(f, j): n for (f, j), n in self._books.writes.items()},
            "file",
            "judgement",
        )
        yield _counter(
            "picture_disagreements_total",
            "Times sysfs showed something else than the events had told.",
            _by_name(state.disagreements),
            "field",
        )


def _sum(*counts: Mapping[tuple[str, ...], int]) -> dict[tuple[str, ...], int]:
    """Add up counts of the same labels, those of the others that are beyond."""
    added: defaultdict[tuple[str, ...], int] = defaultdict(int)
    for each in counts:
        for labels, count in each.items():
            added[labels] += count
    return added


def _by_name(counts: Mapping[_Name, int]) -> dict[tuple[str, ...], int]:
    return {(name,): count for name, count in counts.items()}


def _what_if(state: State) -> Metric:
    return _gauge(
        "what_if_devices",
        "Devices whose outcome would differ under another semantics.",
        {(slug,): state.what_if.get(slug, 0) for slug in SEMANTICS},
        "semantics",
    )


def _hooks(state: State) -> Iterator[Metric]:
    # Fallbacks, which hardly any kernel needs, have no series where they are not.
    hooks = [hook for hook in HOOKS if hook not in FALLBACKS or hook in state.attached]
    yield _gauge(
        "hook_attached",
        "Whether a kernel function is hooked, and by which method.",
        {
            (hook, method): state.attached.get(hook) == method
            for hook in hooks
            for method in METHODS
        },
        "hook",
        "method",
    )
    yield _gauge(
        "hooks_missing",
        "Hooks that this kernel should have and that are not attached.",
        {(): state.missing},
    )
    yield _gauge(
        "hook_detours",
        "Hooks that are attached by another method than the one that was refused.",
        {(): state.detours},
    )
    yield _counter(
        "probe_misses_total",
        "Calls of a hooked function that its program missed.",
        {(hook,): state.misses.get(hook, 0) for hook in hooks},
        "hook",
    )
    counters = state.counters
    yield _counter(
        "hooked_calls_total",
        "Calls of the hooked functions by where they were seen.",
        {
            ("match", "entry"): counters.match_entered,
            ("match", "return"): counters.match_left,
            ("match", "return_without_entry"): counters.match_no_entry,
            ("probe", "entry"): counters.probe_entered,
            ("probe", "return"): counters.probe_left,
            ("write", "entry"): sum(counters.write_entered),
            ("write", "return"): sum(counters.write_left),
        },
        "call",
        "at",
    )


def _store(counts: Counts) -> Iterator[Metric]:
    yield _gauge(
        "store_up", "Whether what is observed is kept in a file.", {(): counts.up}
    )
    yield _gauge(
        "store_degraded",
        "Whether what is observed should be kept in a file and can't be.",
        {(): counts.degraded},
    )
    yield _counter(
        "store_rows_total",
        "Decisions, probes and writes that were offered to the file and written.",
        {("offered",): counts.offered, ("written",): counts.written},
        "stage",
    )
    yield _counter(
        "store_rows_dropped_total",
        "Of these, those that were not written: no room in the queue, or the disk.",
        {("queue",): counts.refused, ("disk",): counts.failed},
        "stage",
    )
    yield _gauge(
        "store_bytes", "How much of the file is in use.", {(): counts.size_bytes}
    )


def _about(about: About) -> Iterator[Metric]:
    yield _gauge(
        "kernel_info",
        "The observed kernel and how it is understood.",
        # A recording may say anything here.
        {(label(about.release), about.semantics, label(about.layout)): 1},
        "release",
        "semantics",
        "layout",
    )
    yield _gauge(
        "observing_since_timestamp_seconds",
        "Unix time from which on decisions were seen.",
        {(): about.since},
    )
    yield _gauge(
        "build_info", "The version that runs.", {(about.version,): 1}, "version"
    )


def _counter(
    name: str, text: str, samples: Mapping[tuple[str, ...], int], *labels: str
) -> Metric:
    family = CounterMetricFamily(f"pci_observer_{name}", text, labels=labels)
    for values, value in sorted(samples.items()):
        family.add_metric(values, value)
    return family


def _gauge(
    name: str, text: str, samples: Mapping[tuple[str, ...], float], *labels: str
) -> Metric:
    family = GaugeMetricFamily(f"pci_observer_{name}", text, labels=labels)
    for values, value in sorted(samples.items()):
        family.add_metric(values, value)
    return family

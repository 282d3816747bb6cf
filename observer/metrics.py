"""The metrics, rendered at each scrape from the books and the kernel's counters.

Names and labels are what users' alerts rely on: they are only added to. A scrape runs
in another thread than the main loop, so everything is copied before it is read.
"""

from __future__ import annotations

from collections import defaultdict
from threading import Lock
from types import MappingProxyType
from typing import TYPE_CHECKING, NamedTuple, TypeVar

from observer.durations import Durations, Histogram
from observer.hooks import HOOKS, METHODS
from observer.labels import Labels
from observer.model import SEMANTICS
from observer.record import LossStage
from observer.store import Counts
from observer.text import printable
from observer.unimportable import stand_in

# prometheus_client imports ssl for servers and clients that are not ours.
with stand_in("ssl"):
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
    from collections.abc import Callable, Iterator, Mapping

    from prometheus_client import Metric

    from observer.books import Books
    from observer.record import Observation
    from observer.ring import Counters
    from observer.series import Gauge

DRIVERS = 500  # with a label of their own; more of them are "other"

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
    bound_before: int = 0  # devices whose bind was not seen


class About(NamedTuple):
    """What does not change while the daemon runs."""

    version: str
    release: str  # of the kernel
    semantics: str
    layout: str
    since: float  # Unix time from which on decisions were seen


class Metrics(Collector):
    """Renders all metrics; a sink too, for the durations of probes."""

    def __init__(
        self,
        books: Books,
        state: Callable[[], State],
        about: About,
        *,
        drivers: int = DRIVERS,
    ) -> None:
        """Render from `books` and from what `state` returns at each scrape."""
        self._books = books
        self._state = state
        self._about = about
        self._durations = Durations()
        self._labels = Labels(drivers)
        self._lock = Lock()  # of _labels
        self._registry = CollectorRegistry()
        self._registry.register(self)
        ProcessCollector(registry=self._registry)

    def __call__(self, observation: Observation) -> None:
        """Enter how long a probe took."""
        self._durations(observation)

    def render(self, accept: str) -> tuple[bytes, str]:
        """Return the metrics in the format the Accept header asks for, and its type."""
        try:
            encoder, content_type = choose_encoder(accept)
        except TypeError:  # the client library's, for "version=x"
            encoder, content_type = choose_encoder("")
        with self._lock:
            return encoder(self._registry), content_type

    def collect(self) -> Iterator[Metric]:
        """Yield every metric family, for the registry."""
        state = self._state()
        yield from self._decisions()
        yield _what_if(state)
        yield from self._probes()
        yield from self._events(state)
        yield from _hooks(state)
        yield from self._machine(state)
        yield from _store(state.store)
        yield from _about(self._about)
        yield _counter(
            "label_sets_dropped_total",
            "Drivers that are counted under the label other, for there are too many.",
            {(): self._labels.dropped()},
        )

    def _decisions(self) -> Iterator[Metric]:
        books = self._books
        yield _counter(
            "match_decisions_total",
            "Decisions of pci_match_device by where the returned id comes from.",
            self._labels.fold(dict(books.decisions)),
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
            self._labels.fold(dict(books.divergences)),
            "driver",
            "kind",
        )
        yield _counter(
            "indeterminate_total",
            "Match decisions that could not be judged.",
            _by_name(books.indeterminate),
            "reason",
        )

    def _probes(self) -> Iterator[Metric]:
        yield _counter(
            "probe_results_total",
            "Probes of PCI devices by their result.",
            self._labels.fold(dict(self._books.probes)),
            "driver",
            "result",
        )
        yield self._probe_durations()

    def _probe_durations(self) -> Metric:
        by_label: defaultdict[str, Histogram] = defaultdict(Histogram)
        for name, histogram in self._durations.histograms().items():
            label = self._labels.of(name)
            by_label[label] = by_label[label].plus(histogram)
        family = HistogramMetricFamily(
            "pci_observer_probe_duration_seconds",
            "How long probes of PCI devices took.",
            labels=["driver"],
        )
        for label, histogram in sorted(by_label.items()):
            buckets, seconds = histogram.cumulated(), histogram.sum_ns / 1e9
            family.add_metric([label], buckets, seconds)
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
        for gauge in state.gauges:
            yield _gauge(gauge.name, gauge.text, gauge.samples, *gauge.labels)
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
    yield _gauge(
        "hook_attached",
        "Whether a kernel function is hooked, and by which method.",
        {
            (hook, method): state.attached.get(hook) == method
            for hook in HOOKS
            for method in METHODS
        },
        "hook",
        "method",
    )
    yield _counter(
        "probe_misses_total",
        "Calls of a hooked function that its program missed.",
        {(hook,): state.misses.get(hook, 0) for hook in HOOKS},
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
        {(printable(about.release), about.semantics, printable(about.layout)): 1},
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

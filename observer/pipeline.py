"""The one way of all data: record, model, judge, sinks. Live and replayed alike."""

from __future__ import annotations

from collections import defaultdict, deque
from collections.abc import Callable

from observer.judge import judge
from observer.model import SEMANTICS, expect
from observer.record import (
    Judged,
    Judgement,
    Kind,
    Loss,
    Match,
    Observation,
    Outcome,
    Probe,
    Probed,
    ProbeResult,
    Reason,
    Record,
    Repeat,
    Repeated,
    Seen,
    Source,
    Unregister,
    Write,
    Wrote,
)

Sink = Callable[[Observation], None]
_Came = tuple[str, Outcome, Judgement, Kind | None, Reason | None, Seen]
OnSinkError = Callable[[object, Exception], None]

LOSSES = 64  # remembered; an older one is followed by others that cover as much
_NONE = Source.NONE


def undecided(write: Write) -> Wrote:
    """Judge a write where nothing is known of what was before it."""
    return Wrote(write, Judgement.INDETERMINATE, None)


def give_up(_sink: object, error: Exception) -> None:
    """Let a sink's error end the pipeline."""
    raise error


class Pipeline:
    """Judges records and hands what comes out to each sink.

    A `Loss` must be fed before the records that were drained before it was counted:
    a probe is judged at once, and a lost match is no missing one.
    """

    def __init__(
        self,
        semantics: str,
        sinks: tuple[Sink, ...],
        *,
        judge_write: Callable[[Write], Wrote] = undecided,
        on_sink_error: OnSinkError = give_up,
    ) -> None:
        """Judge by `semantics`; a write by `judge_write`, before any sink sees it.

        `on_sink_error` hears of the exceptions of sinks and of `judge_write`.
        Raises KeyError when there is no such semantics.
        """
        SEMANTICS[semantics]
        self._semantics = semantics
        self._sinks = sinks
        self._judge_write = judge_write
        self._on_sink_error = on_sink_error
        self._losses: deque[Loss] = deque(maxlen=LOSSES)
        # what a decision came to, by digest; they are many and few of them differ
        self._alike: dict[int, _Came] = {}
        self._shared: dict[_Came, _Came] = {}
        # ktime of the last positive match by driver number and address
        self._matched: defaultdict[int, dict[str, int]] = defaultdict(dict)

    def feed(self, record: Record) -> None:
        """Judge one record; every sink has seen it when this returns."""
        observation = self._observe(record)
        for sink in self._sinks:
            try:
                sink(observation)
            except Exception as error:  # noqa: BLE001 - the other sinks still run
                self._on_sink_error(sink, error)

    def _observe(self, record: Record) -> Observation:
        if isinstance(record, Match):
            if record.outcome.match is not _NONE:
                self._remember(record)
            judged = judge(record, expect(self._semantics, record.inputs))
            if record.digest is not None:
                self._alike[record.digest] = self._repeatable(judged)
            return judged
        if isinstance(record, Repeat):
            return Repeated(record, *self._alike[record.digest])
        if isinstance(record, Probe):
            return Probed(record, self._kind(record))
        if isinstance(record, Write):
            return self._judged_write(record)
        if isinstance(record, Loss):
            self._losses.append(record)
        elif isinstance(record, Unregister):
            self._matched.pop(record.driver, None)
        return record

    def _repeatable(self, judged: Judged) -> _Came:
        match = judged.match
        _, judgement, _, kind, reason = judged
        name = match.inputs.driver.name
        came = (name, match.outcome, judgement, kind, reason, match.seen)
        return self._shared.setdefault(came, came)

    def _judged_write(self, write: Write) -> Wrote:
        """Judge a write; an error of the judge ends nothing."""
        try:
            return self._judge_write(write)
        except Exception as error:  # noqa: BLE001 - decisions are still judged
            self._on_sink_error(self._judge_write, error)
            return undecided(write)

    def _remember(self, match: Match) -> None:
        matched = self._matched[match.inputs.driver.number]
        last = matched.get(match.address, 0)
        matched[match.address] = max(last, match.ktime_ns)

    def _kind(self, probe: Probe) -> Kind | None:
        """Tell whether a driver was bound although its match was not seen before.

        pci_device_probe() asks pci_match_device() once more before it calls the
        driver's probe, so a match must lie between the start and the end of the probe.
        """
        if probe.seen is Seen.FALLBACK:
            return None  # that one is not seen, or when the probe began
        if probe.result is not ProbeResult.BOUND or not (
            probe.has_probe and probe.driver
        ):
            return None
        since_ns = probe.ktime_ns - probe.duration_ns
        matched = self._matched.get(probe.driver, {})
        if matched.get(probe.address, -1) >= since_ns:
            return None
        if any(
            loss.since_ns <= probe.ktime_ns and since_ns <= loss.ktime_ns
            for loss in self._losses
        ):
            return None
        return Kind.PROBE_WITHOUT_MATCH

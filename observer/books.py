"""The totals of everything observed, as a sink."""

from __future__ import annotations

from collections import Counter
from itertools import product

from observer.record import (
    Judged,
    Judgement,
    Kind,
    Loss,
    LossStage,
    Observation,
    Probed,
    ProbeResult,
    Reason,
    Repeated,
    Seen,
    Source,
    StoreFile,
    Wrote,
)


class Books:
    """Counts since the start; what has a fixed set of names begins at 0.

    Another thread may read: take `dict(books.decisions)`, which no update can disturb,
    before iterating.
    """

    def __init__(self) -> None:
        """Begin with nothing observed."""
        self.judgements = dict.fromkeys(Judgement, 0)
        self.boot = dict.fromkeys(Judgement, 0)  # of these, from before the hooks
        self.indeterminate = dict.fromkeys(Reason, 0)
        self.lost = dict.fromkeys(LossStage, 0)
        self.writes: Counter[tuple[StoreFile, Judgement]] = Counter(
            dict.fromkeys(product(StoreFile, Judgement), 0)
        )
        # by name of the driver
        self.decisions: Counter[tuple[str, Source]] = Counter()
        self.divergences: Counter[tuple[str, Kind]] = Counter()
        self.probes: Counter[tuple[str, ProbeResult]] = Counter()

    def __call__(self, observation: Observation) -> None:
        """Enter one observation."""
        if isinstance(observation, Judged):
            self._enter_decision(observation)
        elif isinstance(observation, Repeated):
            self._enter_repeated(observation)
        elif isinstance(observation, Probed):
            self._enter_probe(observation)
        elif isinstance(observation, Wrote):
            self.writes[observation.write.file, observation.judgement] += 1
        elif isinstance(observation, Loss):
            self.lost[observation.stage] += observation.count

    def _enter_decision(self, judged: Judged) -> None:
        name = judged.match.inputs.driver.name
        self.decisions[name, judged.match.outcome.match] += 1
        self.judgements[judged.judgement] += 1
        if judged.match.seen is Seen.BOOT:
            self.boot[judged.judgement] += 1
        if judged.kind is not None:
            self.divergences[name, judged.kind] += 1
        if judged.reason is not None:
            self.indeterminate[judged.reason] += 1

    def _enter_repeated(self, repeated: Repeated) -> None:
        name, count = repeated.driver, repeated.repeat.count
        self.decisions[name, repeated.outcome.match] += count
        self.judgements[repeated.judgement] += count
        if repeated.seen is Seen.BOOT:
            self.boot[repeated.judgement] += count
        if repeated.kind is not None:
            self.divergences[name, repeated.kind] += count
        if repeated.reason is not None:
            self.indeterminate[repeated.reason] += count

    def _enter_probe(self, probed: Probed) -> None:
        name = probed.probe.name
        self.probes[name, probed.probe.result] += 1
        if probed.kind is not None:
            self.divergences[name, probed.kind] += 1

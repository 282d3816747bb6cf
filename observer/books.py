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
    Outcome,
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
            match, judgement, _, kind, reason = observation
            name = match.inputs.driver.name
            self._enter(name, match.outcome, judgement, kind, reason, match.seen)
        elif isinstance(observation, Repeated):
            self._enter(*observation[1:], observation.repeat.count)
        elif isinstance(observation, Probed):
            self._enter_probe(observation)
        elif isinstance(observation, Wrote):
            self.writes[observation.write.file, observation.judgement] += 1
        elif isinstance(observation, Loss):
            self.lost[observation.stage] += observation.count

    def _enter(
        self,
        driver: str,
        outcome: Outcome,
        judgement: Judgement,
        kind: Kind | None,
        reason: Reason | None,
        seen: Seen,
        count: int = 1,
    ) -> None:
        """Enter decisions that came to the same."""
        self.decisions[driver, outcome.match] += count
        self.judgements[judgement] += count
        if seen is Seen.BOOT:
            self.boot[judgement] += count
        if kind is not None:
            self.divergences[driver, kind] += count
        if reason is not None:
            self.indeterminate[reason] += count

    def _enter_probe(self, probed: Probed) -> None:
        name = probed.probe.name
        self.probes[name, probed.probe.result] += 1
        if probed.kind is not None:
            self.divergences[name, probed.kind] += 1

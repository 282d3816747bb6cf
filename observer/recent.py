"""What was seen last, a line each for a person, as a sink."""

from __future__ import annotations

from typing import TYPE_CHECKING

from observer.record import Judged, Judgement, Loss, Probed, Source, Wrote
from observer.status_page import Line

if TYPE_CHECKING:
    from observer.record import Match, Observation, Outcome, Probe, Task, Write

LINES = 50
DIVERGENCES = 10

_SECOND_NS = 1_000_000_000


class Recent:
    """The last matches, divergences, probes, writes and losses.

    Another thread may call `lines` and read `diverged`: what it reads is replaced,
    never changed.
    """

    def __init__(self) -> None:
        """Begin with nothing seen."""
        self._seen: tuple[Judged | Probed | Wrote | Loss, ...] = ()  # oldest first
        self.diverged: tuple[Judged | Probed, ...] = ()  # the last, newest first

    def __call__(self, observation: Observation) -> None:
        """Keep it, if it is of this kind."""
        if isinstance(observation, Probed | Wrote | Loss) or (
            isinstance(observation, Judged) and _tells(observation)
        ):
            self._seen = (*self._seen[1 - LINES :], observation)
        if isinstance(observation, Judged | Probed) and observation.kind is not None:
            self.diverged = (observation, *self.diverged[: DIVERGENCES - 1])

    def lines(self, realtime_offset_ns: int) -> tuple[Line, ...]:
        """Return a line of each, newest first; text in it is as it was seen.

        The offset is Unix time minus CLOCK_MONOTONIC.
        """
        return tuple(_line(each, realtime_offset_ns) for each in reversed(self._seen))


def _tells(judged: Judged) -> bool:
    """Say whether it is more than the usual: no match, as expected."""
    matched = judged.match.outcome.match is not Source.NONE
    return matched or judged.judgement is not Judgement.AGREE


def _line(seen: Judged | Probed | Wrote | Loss, offset_ns: int) -> Line:
    if isinstance(seen, Judged):
        record: Match | Probe | Write | Loss = seen.match
        actor, what = _actor(seen.match.task), _match(seen)
    elif isinstance(seen, Probed):
        record = seen.probe
        actor, what = _actor(seen.probe.task), _probe(seen)
    elif isinstance(seen, Wrote):
        record = seen.write
        actor, what = f"{_actor(record.task)} uid {record.uid}", _write(seen)
    else:
        record, actor = seen, ""
        what = f"{seen.count} events lost ({seen.stage})"
    time = (record.ktime_ns + offset_ns) // _SECOND_NS
    return Line(max(time, 0), actor, what, _alarming(seen))


def _alarming(seen: Judged | Probed | Wrote | Loss) -> bool:
    if isinstance(seen, Probed):
        return seen.kind is not None
    return isinstance(seen, Loss) or seen.judgement is Judgement.DIVERGE


def _actor(task: Task) -> str:
    return f"{task.comm}[{task.tgid}]"


def _match(judged: Judged) -> str:
    match = judged.match
    pair = f"{match.inputs.driver.name} and {match.address}"
    kernel = _answer(match.outcome)
    if judged.reason is not None:
        return f"indeterminate, {judged.reason}: {pair}: {kernel}"
    if judged.kind is not None and judged.expected is not None:
        model = _answer(judged.expected)
        return f"divergence, {judged.kind}: {pair}: {kernel}, not {model}"
    return f"match: {pair}: {kernel}"


def _answer(outcome: Outcome) -> str:
    match, index = outcome
    return str(match) if index is None else f"{match} {index}"


def _probe(probed: Probed) -> str:
    probe = probed.probe
    kind = "probe" if probed.kind is None else f"divergence, {probed.kind}"
    errno = f" {probe.errno}" if probe.errno else ""
    return f"{kind}: {probe.name} and {probe.address}: {probe.result}{errno}"


def _write(wrote: Wrote) -> str:
    write = wrote.write
    whose = write.driver or write.address
    of = f" of {whose}" if whose else ""
    answer = write.errno or "done"
    if wrote.judgement is Judgement.DIVERGE:
        answer += f", not {wrote.expected or 'done'}"
    text = write.text.removesuffix("\n")
    return f"write: '{text}' to {write.file}{of}: {answer}"

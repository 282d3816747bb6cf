"""The kernel's answer against the model's."""

from __future__ import annotations

from observer.record import (
    Indeterminate,
    Judged,
    Judgement,
    Kind,
    Match,
    Outcome,
    Reason,
    Seen,
    Source,
    Verdict,
)

_AGREE = Judgement.AGREE
_NONE = Source.NONE
_UNKNOWN = Source.UNKNOWN


def judge(match: Match, verdict: Verdict) -> Judged:
    """Compare what the kernel answered in `match` with what the model expects.

    A decision whose inputs are in doubt is never called a divergence.
    """
    if match.doubts:
        return _undecided(match, match.doubts[0])
    if isinstance(verdict, Indeterminate):
        return _undecided(match, verdict.reason)
    if match.seen is Seen.FALLBACK:
        return _judged_by_result(match, verdict)
    if match.outcome.match is _UNKNOWN:
        return _undecided(match, Reason.READ_FAULT)
    if match.outcome == verdict:
        return Judged(match, _AGREE, verdict)
    return Judged(match, Judgement.DIVERGE, verdict, _kind(match.outcome, verdict))


def _judged_by_result(match: Match, verdict: Outcome) -> Judged:
    """Compare whether there is a match.

    pci_bus_match answers no without asking where the device may not be bound yet.
    """
    seen = match.outcome.match is not _NONE
    if seen == (verdict.match is not _NONE):
        return Judged(match, _AGREE, verdict)
    if not seen:
        return _undecided(match, Reason.GATE_UNKNOWN)
    return Judged(match, Judgement.DIVERGE, verdict, Kind.MATCHED_NOT_EXPECTED)


def _undecided(match: Match, reason: Reason) -> Judged:
    return Judged(match, Judgement.INDETERMINATE, None, reason=reason)


def _kind(seen: Outcome, expected: Outcome) -> Kind:
    if expected.match is _NONE:
        return Kind.MATCHED_NOT_EXPECTED
    if seen.match is _NONE:
        return Kind.EXPECTED_NOT_MATCHED
    if seen.match is not expected.match:
        return Kind.DIFFERENT_SOURCE
    return Kind.DIFFERENT_ENTRY

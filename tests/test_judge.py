"""observer/judge.py: the kernel's answer against the model's."""

from __future__ import annotations

import pytest
from hypothesis import given
from strategies import decidable_inputs, matches, outcomes

from observer.judge import judge
from observer.model import SEMANTICS, expect
from observer.record import (
    Device,
    Driver,
    Indeterminate,
    Inputs,
    Judged,
    Judgement,
    Kind,
    Match,
    Outcome,
    Reason,
    Seen,
    Source,
    Task,
)

NONE = Outcome(Source.NONE)
DUMMY = Outcome(Source.OVERRIDE)
UNKNOWN = Outcome(Source.UNKNOWN)
STATIC = Outcome(Source.STATIC, 0)
DYNID = Outcome(Source.DYNID, 0)


def match(outcome: Outcome, *doubts: Reason) -> Match:
    """Return a decision with this answer."""
    inputs = Inputs(Device(1, 2, 3, 4, 5), Driver(1, "e1000", ()))
    task = Task(1, 1, "bash", 0)
    return Match(1, task, "0000:00:02.0", False, inputs, outcome, doubts)


@pytest.mark.parametrize("outcome", [NONE, DUMMY, STATIC, DYNID])
def test_agreement(outcome: Outcome) -> None:
    """The same answer is agreement."""
    seen = match(outcome)
    assert Judged(seen, Judgement.AGREE, outcome) == judge(seen, outcome)


@pytest.mark.parametrize(
    ("seen", "expected", "kind"),
    [
        (STATIC, NONE, Kind.MATCHED_NOT_EXPECTED),
        (DUMMY, NONE, Kind.MATCHED_NOT_EXPECTED),
        (NONE, STATIC, Kind.EXPECTED_NOT_MATCHED),
        (NONE, DUMMY, Kind.EXPECTED_NOT_MATCHED),
        (STATIC, DYNID, Kind.DIFFERENT_SOURCE),
        (DUMMY, STATIC, Kind.DIFFERENT_SOURCE),
        (STATIC, Outcome(Source.STATIC, 1), Kind.DIFFERENT_ENTRY),
        (Outcome(Source.DYNID, 1), DYNID, Kind.DIFFERENT_ENTRY),
    ],
)
def test_divergence(seen: Outcome, expected: Outcome, kind: Kind) -> None:
    """Another answer is a divergence of one kind."""
    judged = judge(match(seen), expected)
    assert Judged(match(seen), Judgement.DIVERGE, expected, kind) == judged


@pytest.mark.parametrize(
    ("seen", "verdict", "reason"),
    [
        # the first doubt, whatever else there is
        (match(STATIC, Reason.OVERRIDE_CHANGED), NONE, Reason.OVERRIDE_CHANGED),
        (match(NONE, Reason.READ_FAULT), NONE, Reason.READ_FAULT),
        (
            match(UNKNOWN, Reason.DYNIDS_CHANGED, Reason.READ_FAULT),
            Indeterminate(Reason.TABLE_UNKNOWN),
            Reason.DYNIDS_CHANGED,
        ),
        # what the model lacks tells more than an answer nobody can place
        (
            match(UNKNOWN),
            Indeterminate(Reason.DYNIDS_TRUNCATED),
            Reason.DYNIDS_TRUNCATED,
        ),
        (match(NONE), Indeterminate(Reason.TABLE_UNKNOWN), Reason.TABLE_UNKNOWN),
        (match(UNKNOWN), NONE, Reason.READ_FAULT),
        (match(UNKNOWN), STATIC, Reason.READ_FAULT),
    ],
)
def test_indeterminate(
    seen: Match, verdict: Outcome | Indeterminate, reason: Reason
) -> None:
    """What is in doubt is never a divergence, and nothing is expected of it."""
    judged = judge(seen, verdict)
    assert Judged(seen, Judgement.INDETERMINATE, None, None, reason) == judged


@pytest.mark.parametrize("slug", SEMANTICS)
@given(decision=matches(decidable_inputs))
def test_what_is_expected_is_agreed_with(slug: str, decision: Match) -> None:
    """A kernel that does what the model says agrees with it."""
    verdict = expect(slug, decision.inputs)
    assert isinstance(verdict, Outcome)
    right = decision._replace(outcome=verdict, doubts=())
    assert Judged(right, Judgement.AGREE, verdict) == judge(right, verdict)


@given(matches(), outcomes)
def test_exactly_one_of_kind_and_reason(decision: Match, verdict: Outcome) -> None:
    """A divergence has a kind, what is indeterminate a reason, agreement neither."""
    judged = judge(decision, verdict)
    assert (judged.kind is not None) is (judged.judgement is Judgement.DIVERGE)
    assert (judged.reason is not None) is (judged.judgement is Judgement.INDETERMINATE)


@pytest.mark.parametrize(
    ("outcome", "expected", "judged"),
    [
        (NONE, NONE, (Judgement.AGREE, NONE, None, None)),
        # Which id it was is not known, so not compared.
        (UNKNOWN, STATIC, (Judgement.AGREE, STATIC, None, None)),
        (UNKNOWN, DUMMY, (Judgement.AGREE, DUMMY, None, None)),
        (
            UNKNOWN,
            NONE,
            (Judgement.DIVERGE, NONE, Kind.MATCHED_NOT_EXPECTED, None),
        ),
        # It may not have been asked for.
        (NONE, STATIC, (Judgement.INDETERMINATE, None, None, Reason.GATE_UNKNOWN)),
    ],
)
def test_by_a_fallback(
    outcome: Outcome, expected: Outcome, judged: tuple[object, ...]
) -> None:
    """Only whether there is a match is compared, and a no may have another cause."""
    seen = match(outcome)._replace(seen=Seen.FALLBACK)
    assert (seen, *judged) == judge(seen, expected)


def test_doubts_of_a_fallback() -> None:
    """They come first here as well."""
    seen = match(UNKNOWN, Reason.DYNIDS_CHANGED)._replace(seen=Seen.FALLBACK)
    assert Reason.DYNIDS_CHANGED is judge(seen, NONE).reason

"""observer/pipeline.py and books.py: one way for all data, and balanced books."""

from __future__ import annotations

from itertools import product

import pytest
from hypothesis import given
from hypothesis import strategies as st
from strategies import losses, matches, probes, records, unregisters

from observer.books import Books
from observer.judge import judge
from observer.model import expect
from observer.pipeline import LOSSES, Pipeline, Sink
from observer.record import (
    Device,
    Driver,
    Id,
    Inputs,
    Judged,
    Judgement,
    Kind,
    Loss,
    LossStage,
    Match,
    Observation,
    Outcome,
    Path,
    Probe,
    Probed,
    ProbeResult,
    Reason,
    Record,
    Seen,
    Source,
    StoreFile,
    Task,
    Unregister,
    Write,
    Wrote,
)

SLUG = "linux-5.15"
TASK = Task(1, 1, "modprobe", 0)
ADDRESS = "0000:00:02.0"
DRIVER = Driver(1, "e1000", (Id(1, 2),))
INPUTS = Inputs(Device(1, 2, 3, 4, 5), DRIVER)
STATIC = Outcome(Source.STATIC, 0)
NONE = Outcome(Source.NONE)
MATCH = Match(150, TASK, ADDRESS, False, INPUTS, STATIC)
PROBE = Probe(
    ktime_ns=200,
    duration_ns=100,
    task=TASK,
    address=ADDRESS,
    driver=1,
    name="e1000",
    has_probe=True,
    path=Path.DRIVER_PROBE_DEVICE,
    result=ProbeResult.BOUND,
    errno=None,
)
GONE = Unregister(300, 1, "e1000")
WRITE = Write(
    *(200, 100, TASK, 0, StoreFile.BIND, "e1000", None, ADDRESS, len(ADDRESS), None)
)


def observed(*fed: Record) -> list[Observation]:
    """Return what a pipeline makes of these records."""
    seen: list[Observation] = []
    pipeline = Pipeline(SLUG, (seen.append,))
    for record in fed:
        pipeline.feed(record)
    return seen


def probed(*before: Record, probe: Probe = PROBE) -> Kind | None:
    """Return the kind of a probe after these records."""
    last = observed(*before, probe)[-1]
    assert isinstance(last, Probed)
    return last.kind


def test_match_is_judged() -> None:
    """A match comes out with what the model says of it."""
    wrong = MATCH._replace(outcome=NONE)
    assert [
        Judged(MATCH, Judgement.AGREE, STATIC),
        Judged(wrong, Judgement.DIVERGE, STATIC, Kind.EXPECTED_NOT_MATCHED),
    ] == observed(MATCH, wrong)


def test_semantics_is_the_callers() -> None:
    """The same match under other semantics gets another judgement."""
    override_only = DRIVER._replace(id_table=(Id(1, 2, override_only=1),))
    match = MATCH._replace(inputs=INPUTS._replace(driver=override_only))
    seen: list[Observation] = []
    for slug in ("linux-3.16", "linux-5.15"):
        Pipeline(slug, (seen.append,)).feed(match)
    assert [
        Judged(match, Judgement.AGREE, STATIC),
        Judged(match, Judgement.DIVERGE, NONE, Kind.MATCHED_NOT_EXPECTED),
    ] == seen


def test_unknown_semantics() -> None:
    """A pipeline without a model is refused at once."""
    with pytest.raises(KeyError):
        Pipeline("linux-2.6", ())


def test_write_is_judged_before_any_sink_sees_it() -> None:
    """The judge of writes knows what was before, for it knows it from the sinks."""
    seen: list[Observation] = []
    before: list[list[Observation]] = []

    def judge_write(write: Write) -> Wrote:
        before.append(seen.copy())
        return Wrote(write, Judgement.DIVERGE, "EBUSY")

    pipeline = Pipeline(SLUG, (seen.append,), judge_write=judge_write)
    pipeline.feed(DRIVER)
    pipeline.feed(WRITE)
    assert [[DRIVER]] == before
    assert [DRIVER, Wrote(WRITE, Judgement.DIVERGE, "EBUSY")] == seen


def test_a_judge_of_writes_that_fails_ends_nothing() -> None:
    """It is told, and nothing is said of the write."""
    seen: list[Observation] = []
    told: list[Exception] = []

    def judge_write(_write: Write) -> Wrote:
        raise ZeroDivisionError

    pipeline = Pipeline(
        SLUG,
        (seen.append,),
        judge_write=judge_write,
        on_sink_error=lambda _judge, error: told.append(error),
    )
    pipeline.feed(WRITE)
    assert [Wrote(WRITE, Judgement.INDETERMINATE, None)] == seen
    assert [ZeroDivisionError] == [type(error) for error in told]


def test_write_without_its_judge() -> None:
    """Nothing is said of writes where nobody judges them."""
    assert [Wrote(WRITE, Judgement.INDETERMINATE, None)] == observed(WRITE)


def test_writes_are_counted_by_file_and_judgement() -> None:
    """Every pair is there from the start, and each write is in one."""
    books = Books()
    assert set(product(StoreFile, Judgement)) == books.writes.keys()
    assert {0} == set(books.writes.values())
    books(Wrote(WRITE, Judgement.AGREE, None))
    assert 1 == books.writes[StoreFile.BIND, Judgement.AGREE] == books.writes.total()


def test_other_records_pass() -> None:
    """Drivers, unregistrations and losses reach the sinks as they are."""
    loss = Loss(1, 2, LossStage.QUEUE, 3)
    assert [DRIVER, GONE, loss] == observed(DRIVER, GONE, loss)


@pytest.mark.parametrize("ktime_ns", [100, 150, 200])
def test_probe_after_its_match(ktime_ns: int) -> None:
    """A positive match between start and end of a probe explains it."""
    assert probed(MATCH._replace(ktime_ns=ktime_ns)) is None


@pytest.mark.parametrize(
    "match",
    [
        MATCH._replace(ktime_ns=99),
        MATCH._replace(outcome=NONE),
        MATCH._replace(address="0000:00:03.0"),
        MATCH._replace(inputs=INPUTS._replace(driver=DRIVER._replace(number=2))),
    ],
)
def test_probe_without_match(match: Match) -> None:
    """An older match, a negative one or one of others does not explain a probe."""
    assert probed(match) is Kind.PROBE_WITHOUT_MATCH


def test_probe_that_a_fallback_saw() -> None:
    """Its match is seen before it, or not at all: nothing can be said."""
    assert probed(probe=PROBE._replace(seen=Seen.FALLBACK)) is None


def test_probe_with_nothing_before() -> None:
    """A binding out of nothing is a divergence."""
    assert probed() is Kind.PROBE_WITHOUT_MATCH


def test_matches_may_overtake() -> None:
    """Records of two CPUs may come out of order; the latest match counts."""
    assert probed(MATCH, MATCH._replace(ktime_ns=10)) is None


def test_match_after_the_probe() -> None:
    """A later match hides whether there was one in time: nothing is said."""
    assert probed(MATCH, MATCH._replace(ktime_ns=201)) is None


@pytest.mark.parametrize(
    "probe",
    [
        PROBE._replace(result=ProbeResult.REFUSED),
        PROBE._replace(result=ProbeResult.DEFERRED),
        PROBE._replace(result=ProbeResult.BUSY),
        PROBE._replace(result=ProbeResult.GONE),
        PROBE._replace(has_probe=False),
        PROBE._replace(driver=0),
    ],
)
def test_probe_that_needs_no_match(probe: Probe) -> None:
    """Only a binding by a driver that is known and has a probe method needs one."""
    assert probed(probe=probe) is None


@pytest.mark.parametrize("stage", LossStage)
@pytest.mark.parametrize(("since_ns", "ktime_ns"), [(0, 100), (120, 130), (200, 250)])
def test_loss_may_hide_the_match(
    stage: LossStage, since_ns: int, ktime_ns: int
) -> None:
    """A probe during which something was lost is not called a divergence."""
    assert probed(Loss(since_ns, ktime_ns, stage, 1)) is None


@pytest.mark.parametrize(("since_ns", "ktime_ns"), [(0, 99), (201, 250)])
def test_loss_at_another_time(since_ns: int, ktime_ns: int) -> None:
    """A loss before or after a probe explains nothing."""
    loss = Loss(since_ns, ktime_ns, LossStage.RESERVE, 1)
    assert probed(loss) is Kind.PROBE_WITHOUT_MATCH


def test_losses_are_remembered_in_number() -> None:
    """Memory is bounded: only the latest losses are known."""
    during = Loss(120, 130, LossStage.RESERVE, 1)
    after = Loss(201, 250, LossStage.RESERVE, 1)
    assert probed(during, *[after] * (LOSSES - 1)) is None
    assert probed(during, *[after] * LOSSES) is Kind.PROBE_WITHOUT_MATCH


def test_unregistered_driver_is_forgotten() -> None:
    """A match before the unregistration explains no probe after it."""
    assert probed(MATCH, GONE) is Kind.PROBE_WITHOUT_MATCH


def test_probes_leave_no_trace() -> None:
    """A probe alone makes nothing to remember."""
    pipeline = Pipeline(SLUG, ())
    pipeline.feed(PROBE)
    assert {} == pipeline._matched  # noqa: SLF001 - it would grow unseen


def test_failing_sink_stops_no_other() -> None:
    """Its error is told, the sinks behind it see everything."""
    told: list[tuple[Sink, str]] = []
    seen: list[Observation] = []

    def full(_observation: Observation) -> None:
        raise OSError("disk full")

    pipeline = Pipeline(
        SLUG,
        (full, seen.append),
        on_sink_error=lambda sink, error: told.append((sink, str(error))),
    )
    pipeline.feed(DRIVER)
    pipeline.feed(GONE)
    assert [DRIVER, GONE] == seen
    assert [(full, "disk full")] * 2 == told


def test_unattended_sink_error_ends_all() -> None:
    """Nobody who listens to errors: they are not swallowed."""

    def broken(_observation: Observation) -> None:
        raise ValueError("a bug")

    with pytest.raises(ValueError, match="a bug"):
        Pipeline(SLUG, (broken,)).feed(DRIVER)


def test_sink_is_not_saved_from_interrupts() -> None:
    """Ctrl-C in a sink is no sink's error."""
    told: list[Exception] = []

    def interrupted(_observation: Observation) -> None:
        raise KeyboardInterrupt

    pipeline = Pipeline(
        SLUG, (interrupted,), on_sink_error=lambda _, error: told.append(error)
    )
    with pytest.raises(KeyboardInterrupt):
        pipeline.feed(DRIVER)
    assert [] == told


@given(st.lists(records, max_size=20))
def test_replay_gives_the_same(fed: list[Record]) -> None:
    """The same records give the same observations, one for each."""
    first = observed(*fed)
    assert first == observed(*fed)
    assert len(fed) == len(first)


@given(matches(), st.lists(records, max_size=10))
def test_judgement_needs_no_history(match: Match, before: list[Record]) -> None:
    """A match is judged by itself, whatever came before."""
    assert judge(match, expect(SLUG, match.inputs)) == observed(*before, match)[-1]


@given(st.lists(matches() | probes | losses | unregisters, max_size=30))
def test_books_balance(fed: list[Record]) -> None:
    """Every match is in one judgement, every divergence in one kind, and so on."""
    books = Books()
    pipeline = Pipeline(SLUG, (books,))
    for record in fed:
        pipeline.feed(record)
    decisions = [record for record in fed if isinstance(record, Match)]
    assert len(decisions) == books.decisions.total()
    assert len(decisions) == sum(books.judgements.values())
    assert books.judgements[Judgement.INDETERMINATE] == sum(
        books.indeterminate.values()
    )
    diverged = books.judgements[Judgement.DIVERGE]
    without_match = sum(
        number
        for (_, kind), number in books.divergences.items()
        if kind is Kind.PROBE_WITHOUT_MATCH
    )
    assert diverged + without_match == books.divergences.total()
    assert sum(isinstance(record, Probe) for record in fed) == books.probes.total()
    assert sum(record.count for record in fed if isinstance(record, Loss)) == sum(
        books.lost.values()
    )


def test_books_begin_at_zero() -> None:
    """What has fixed names is there before anything happens."""
    books = Books()
    assert dict.fromkeys(Judgement, 0) == books.judgements
    assert dict.fromkeys(Reason, 0) == books.indeterminate
    assert dict.fromkeys(LossStage, 0) == books.lost


def test_books_by_name() -> None:
    """Decisions, divergences and probes are told apart by driver and what it was."""
    books = Books()
    pipeline = Pipeline(SLUG, (books,))
    doubted = MATCH._replace(doubts=(Reason.READ_FAULT,))
    loss = Loss(400, 500, LossStage.RESERVE, 7)
    for record in (MATCH, MATCH._replace(outcome=NONE), doubted, PROBE, GONE, loss):
        pipeline.feed(record)
    pipeline.feed(PROBE)
    assert {("e1000", Source.STATIC): 2, ("e1000", Source.NONE): 1} == books.decisions
    assert {
        ("e1000", Kind.EXPECTED_NOT_MATCHED): 1,
        ("e1000", Kind.PROBE_WITHOUT_MATCH): 1,
    } == books.divergences
    assert {("e1000", ProbeResult.BOUND): 2} == books.probes
    assert books.indeterminate[Reason.READ_FAULT] == 1
    assert books.lost[LossStage.RESERVE] == 7

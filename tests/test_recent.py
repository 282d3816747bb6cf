"""What was seen last, newest first, in lines for a person."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from observer.recent import LINES, Recent
from observer.record import (
    Action,
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
    Path,
    Probe,
    Probed,
    ProbeResult,
    Reason,
    Source,
    StoreFile,
    Task,
    Uevent,
    Unregister,
    Write,
    Wrote,
)
from observer.status_page import Line

if TYPE_CHECKING:
    from observer.record import Observation

SECOND = 10**9
OFFSET = 1000 * SECOND  # Unix time minus CLOCK_MONOTONIC
TASK = Task(71, 70, "bash", 1)
E1000 = Driver(3, "e1000", ())
STATIC = Outcome(Source.STATIC, 7)
NONE = Outcome(Source.NONE)
MATCH = Match(
    5 * SECOND,
    TASK,
    "0000:00:0a.0",
    is_virtfn=False,
    inputs=Inputs(Device(0x8086, 0x100E, 0, 0, 0), E1000),
    outcome=STATIC,
)
PROBE = Probe(
    *(6 * SECOND, 1, TASK, "0000:00:0a.0", 3, "e1000"),
    has_probe=True,
    path=Path.DIRECT,
    result=ProbeResult.REFUSED,
    errno="ENODEV",
)
WRITE = Write(
    *(7 * SECOND, 1, TASK, 1000, StoreFile.NEW_ID, "e1000", None),
    *("8086 10f5\n", 10, "EEXIST"),
)
AGREE, DIVERGE = Judgement.AGREE, Judgement.DIVERGE
PAIR = "e1000 and 0000:00:0a.0"


def lines(*observations: Observation) -> tuple[Line, ...]:
    """Return the lines after these were seen."""
    recent = Recent()
    for observation in observations:
        recent(observation)
    return recent.lines(OFFSET)


@pytest.mark.parametrize(
    ("observation", "line"),
    [
        (
            Judged(MATCH, AGREE, STATIC),
            Line(1005, "bash[70]", f"match: {PAIR}: static 7", alarming=False),
        ),
        (
            Judged(MATCH, DIVERGE, NONE, Kind.MATCHED_NOT_EXPECTED),
            Line(
                1005,
                "bash[70]",
                f"divergence, matched_not_expected: {PAIR}: static 7, not none",
                alarming=True,
            ),
        ),
        (
            Judged(
                MATCH, Judgement.INDETERMINATE, None, reason=Reason.OVERRIDE_CHANGED
            ),
            Line(
                1005,
                "bash[70]",
                f"indeterminate, override_changed: {PAIR}: static 7",
                alarming=False,
            ),
        ),
        (
            Probed(PROBE),
            Line(1006, "bash[70]", f"probe: {PAIR}: refused ENODEV", alarming=False),
        ),
        (
            Probed(PROBE._replace(errno=None), Kind.PROBE_WITHOUT_MATCH),
            Line(
                1006,
                "bash[70]",
                f"divergence, probe_without_match: {PAIR}: refused",
                alarming=True,
            ),
        ),
        (
            Wrote(WRITE, AGREE, "EEXIST"),
            Line(
                1007,
                "bash[70] uid 1000",
                "write: '8086 10f5' to new_id of e1000: EEXIST",
                alarming=False,
            ),
        ),
        (
            Wrote(
                WRITE._replace(
                    file=StoreFile.DRIVER_OVERRIDE,
                    driver=None,
                    address="0000:00:0a.0",
                    text="",
                    errno=None,
                ),
                DIVERGE,
                "EINVAL",
            ),
            Line(
                1007,
                "bash[70] uid 1000",
                "write: '' to driver_override of 0000:00:0a.0: done, not EINVAL",
                alarming=True,
            ),
        ),
        (
            Wrote(WRITE._replace(file=StoreFile.DRIVERS_PROBE, driver=None), AGREE, ""),
            Line(
                1007,
                "bash[70] uid 1000",
                "write: '8086 10f5' to drivers_probe: EEXIST",
                alarming=False,
            ),
        ),
        (
            Loss(0, 8 * SECOND, LossStage.RESERVE, 12),
            Line(1008, "", "12 events lost (reserve)", alarming=True),
        ),
    ],
)
def test_line(observation: Observation, line: Line) -> None:
    """Each says when, who, what, and whether something is wrong."""
    assert (line,) == lines(observation)


def test_newest_first() -> None:
    """What was seen last comes first."""
    told = lines(Judged(MATCH, AGREE, STATIC), Probed(PROBE), Wrote(WRITE, AGREE, None))
    assert [1007, 1006, 1005] == [line.time for line in told]


def test_the_usual_is_left_out() -> None:
    """Pairs that don't match, as expected, and comings and goings say little."""
    no_match = MATCH._replace(outcome=NONE)
    assert () == lines(
        Judged(no_match, AGREE, NONE),
        E1000,
        Unregister(1, 3, "e1000"),
        Uevent(1, Action.ADD, "0000:00:0a.0", None),
    )


def test_missed_match() -> None:
    """No match where one is expected is told."""
    no_match = MATCH._replace(outcome=NONE)
    (line,) = lines(Judged(no_match, DIVERGE, STATIC, Kind.EXPECTED_NOT_MATCHED))
    assert line.what.endswith(": none, not static 7")


def test_bound() -> None:
    """Only the newest are kept."""
    losses = [Loss(0, n * SECOND, LossStage.QUEUE, 1) for n in range(LINES + 5)]
    told = lines(*losses)
    assert (LINES, 1005) == (len(told), told[-1].time)


def test_expected_success() -> None:
    """A write that failed and should not have says what was expected."""
    (line,) = lines(Wrote(WRITE, DIVERGE, None))
    assert line.what.endswith(": EEXIST, not done")

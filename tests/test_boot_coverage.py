"""observer/boot_coverage.py: what reaches the daemon, and what it leaves out."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st
from observations import match, probe
from strategies import matches, probes

from observer.boot_coverage import (
    NOT_RECORDED,
    TWIN_NS,
    Coverage,
    Twins,
    objects,
    read_coverage,
    read_records,
)
from observer.fields import FieldError
from observer.record import Driver, Id, Loss, LossStage, Seen, TableState

if TYPE_CHECKING:
    from observer.record import Match, Probe

E1000 = Driver(7, "e1000", (Id(1, 2),))
GONE = Driver(8, "gone", None, TableState.UNKNOWN)
coverages = st.builds(
    Coverage,
    st.text(),
    st.none() | st.integers(0, 2**64 - 1),
    *[st.integers(0, 2**63)] * 7,
)
seen_at_boot = (matches() | probes).map(lambda each: each._replace(seen=Seen.BOOT))


@given(coverages, st.lists(seen_at_boot, max_size=5))
def test_round_trip(coverage: Coverage, records: list[Match | Probe]) -> None:
    """What the loader writes is what the daemon reads, drivers and all."""
    values = iter(json.loads(json.dumps([*objects(coverage, records)])))
    assert coverage == read_coverage(next(values))
    assert records == list(read_records(values))


def test_a_driver_is_sent_once() -> None:
    """Before its first match; one that is not known is not sent at all."""
    records = [
        match(1, E1000).match,
        match(2, GONE).match,
        match(3, E1000).match,
        probe(4).probe,
    ]
    kinds = [value.get("record") for value in objects(NOT_RECORDED, records)]
    assert [None, "driver", "match", "match", "match", "probe"] == kinds


@pytest.mark.parametrize("value", [None, [], {}, {"problem": 1}, {"problem": ""}])
def test_no_coverage(value: object) -> None:
    """What is none is refused by name."""
    with pytest.raises(FieldError):
        read_coverage(value)


def test_losses() -> None:
    """What the kernel counted and the ring had not, and probes; none is none."""
    coverage = Coverage("", 5, emitted=10, received=9, decoded=8, probes_lost=3)
    assert [
        Loss(0, 100, LossStage.RESERVE, 2),
        Loss(0, 100, LossStage.OTHER, 3),
    ] == list(coverage.losses(100))
    assert [] == list(NOT_RECORDED.losses(100))


def test_one_less() -> None:
    """A decision that the hooks saw too is in the books once, and no loss."""
    coverage = Coverage("", 5, emitted=10, received=9, decoded=8)
    less = coverage.without_one()
    assert (9, 8, 7) == (less.emitted, less.received, less.decoded)
    assert list(coverage.losses(1)) == list(less.losses(1))


def test_twins() -> None:
    """The same call of the same task: its time is told by two, so it may differ."""
    live = match(5_000_000, E1000).match
    twins = Twins(4_000_000, [live, probe(6_000_000).probe])
    boot = live._replace(seen=Seen.BOOT, ktime_ns=5_000_000 - TWIN_NS + 1)
    assert twins.has(boot)
    assert not twins.has(boot._replace(ktime_ns=5_000_000 + TWIN_NS))
    assert not twins.has(boot._replace(address="0000:00:03.0"))
    assert not twins.has(boot._replace(task=boot.task._replace(pid=11)))
    assert not twins.has(boot._replace(inputs=boot.inputs._replace(driver=GONE)))
    assert twins.has(probe(6_000_000, seen=Seen.BOOT).probe)
    assert not twins.has(probe(5_000_000, seen=Seen.BOOT).probe)
    assert not twins.has(Loss(0, 5_000_000, LossStage.OTHER, 1))


def test_before_the_hooks() -> None:
    """What returned before they were attached has no twin, however alike it is."""
    live = match(5_000_000, E1000).match
    boot = live._replace(seen=Seen.BOOT, ktime_ns=4_999_999)
    assert not Twins(5_000_000, [live]).has(boot)

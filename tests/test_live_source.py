"""observer/live.py: every loss is counted, and said before what it may explain.

Not to be confused with test_live.py, which observes kernels in virtual machines.
"""

from __future__ import annotations

import errno
from typing import TYPE_CHECKING, NamedTuple, cast

import pytest
from encode import (
    encode_driver,
    encode_match,
    encode_probe,
    encode_unregister,
    encode_write,
)
from hypothesis import given
from hypothesis import strategies as st
from scripted_hooks import Hooks
from strategies import drivers, matches, probes, unregisters, writes

from observer.books import Books
from observer.hooks import STORES
from observer.live import MATCH_TICKS, PROBE_TICKS, Floor
from observer.pipeline import Pipeline
from observer.record import (
    Device,
    Driver,
    Id,
    Inputs,
    Judgement,
    Loss,
    LossStage,
    Match,
    Outcome,
    Path,
    Probe,
    ProbeResult,
    Record,
    Repeat,
    Repeated,
    Seen,
    Source,
    Task,
)
from observer.ring import Counters

if TYPE_CHECKING:
    from collections.abc import Iterable

    from observer.live import Live

SECOND = 10**9
DRIVER = Driver(1, "e1000", (Id(1, 2),))
MATCH = Match(
    5,
    Task(1, 1, "modprobe", 0),
    "0000:00:02.0",
    False,
    Inputs(Device(1, 2, 3, 4, 5), DRIVER),
    Outcome(Source.STATIC, 0),
)
PROBE = Probe(
    9,
    4,
    MATCH.task,
    MATCH.address,
    1,
    "e1000",
    True,
    Path.DIRECT,
    ProbeResult.BOUND,
    None,
)
SENT = [*encode_driver(DRIVER), encode_match(MATCH), encode_probe(PROBE, 0)]
READ: list[Record] = [DRIVER, MATCH, PROBE]
BROKEN_MATCH, BROKEN_PROBE = SENT[1][:-1], SENT[2][:-1]


def polled(hooks: Hooks, live: Live, *batch: bytes) -> list[Record]:
    """Return what one poll makes of these bytes in the ring."""
    hooks.waiting.append(list(batch))
    return list(live.poll(0))


def test_records() -> None:
    """What the hooks wrote comes out as records."""
    hooks = Hooks()
    assert READ == polled(hooks, hooks.live(), *SENT)


def test_probe_function() -> None:
    """A probe's return value is read as the layout's function means it."""
    read = {}
    for shape in ("L0", "D"):
        hooks = Hooks(shape=shape)
        (probe,) = polled(hooks, hooks.live(), encode_probe(PROBE, 1))
        read[shape] = cast("Probe", probe).result
    assert {"L0": ProbeResult.BOUND, "D": ProbeResult.REFUSED} == read


def test_fallbacks() -> None:
    """What they tell is marked so, and a missed call is one of theirs."""
    hooks = Hooks()
    hooks.methods = {"pci_bus_match": "kprobe", "pci_device_probe": "kprobe"}
    live = hooks.live()
    read = polled(hooks, live, *SENT[:2], encode_probe(PROBE, -errno.ENODEV))
    assert [
        DRIVER,
        MATCH._replace(seen=Seen.FALLBACK),
        PROBE._replace(result=ProbeResult.REFUSED, errno="ENODEV", seen=Seen.FALLBACK),
    ] == read
    assert {"pci_bus_match", "pci_device_probe", *STORES.values()} == set(live.misses)


@pytest.mark.parametrize(
    ("fallback", "seen"),
    [
        # It does not see the match that belongs to a probe.
        ("pci_bus_match", [Seen.FALLBACK, Seen.FALLBACK]),
        ("pci_device_probe", [Seen.LIVE, Seen.FALLBACK]),
    ],
)
def test_one_fallback(fallback: str, seen: list[Seen]) -> None:
    """Each marks what is not told in full."""
    hooks = Hooks()
    hooks.methods = {fallback: "kprobe"}
    _, *read = polled(hooks, hooks.live(), *SENT)
    assert seen == [cast("Match | Probe", record).seen for record in read]


def test_nothing() -> None:
    """Nothing in the ring, nothing lost: nothing comes."""
    hooks = Hooks()
    assert [] == polled(hooks, hooks.live())


@pytest.mark.parametrize(
    ("counter", "stage"),
    [
        ("lost_reserve", LossStage.RESERVE),
        ("lost_other", LossStage.OTHER),
        ("match_no_entry", LossStage.MISSED),
    ],
)
def test_losses_come_first(counter: str, stage: LossStage) -> None:
    """A loss is said before the records of its batch, with the time it lies in."""
    hooks = Hooks()
    live = hooks.live()
    hooks.count(**{counter: 3})
    hooks.ktime_ns = 2000
    assert [Loss(0, 2000, stage, 3), *READ] == polled(hooks, live, *SENT)


def test_loss_is_said_once() -> None:
    """Only what was lost since the last poll is said."""
    hooks = Hooks()
    live = hooks.live()
    hooks.count(lost_reserve=3)
    polled(hooks, live)
    assert [] == polled(hooks, live)
    hooks.ktime_ns = 3000
    hooks.count(lost_reserve=1)
    assert [Loss(1000, 3000, LossStage.RESERVE, 1)] == polled(hooks, live)


def test_losses_before_the_start() -> None:
    """What was lost between attaching and the first poll is said at the first poll."""
    hooks = Hooks()
    hooks.count(lost_reserve=3, lost_other=2)
    reserve = Loss(0, 1000, LossStage.RESERVE, 3)
    assert [reserve, Loss(0, 1000, LossStage.OTHER, 2)] == polled(hooks, hooks.live())


def test_match_without_its_exit() -> None:
    """An exit that the kernel side found missing is told at once, and only once."""
    hooks = Hooks()
    live = hooks.live()
    hooks.count(match_entered=1, match_no_exit=1)
    (loss,) = polled(hooks, live)
    assert LossStage.MISSED is loss.stage
    assert [] == ticked(hooks, live, MATCH_TICKS)
    assert 1 == live.misses["pci_match_device"]


def test_match_without_its_exit_is_not_counted_twice() -> None:
    """A call given up by its age is the same when its task finds it later."""
    hooks = Hooks()
    live = hooks.live()
    hooks.count(match_entered=1)
    ticked(hooks, live, MATCH_TICKS)
    hooks.count(match_entered=1, whole=1, match_no_exit=1)
    assert [] == ticked(hooks, live, MATCH_TICKS)
    assert 1 == live.misses["pci_match_device"]


@pytest.mark.parametrize(
    ("data", "stage"),
    [
        (BROKEN_MATCH, LossStage.DECODE),
        (BROKEN_PROBE, LossStage.OTHER),
        (b"", LossStage.OTHER),
        (b"\x02", LossStage.OTHER),
    ],
    ids=["match", "probe", "nothing", "half a kind"],
)
def test_broken_record(data: bytes, stage: LossStage) -> None:
    """Bytes that are no record are a loss; only matches are lost decisions."""
    hooks = Hooks()
    assert [Loss(0, 1000, stage, 1), DRIVER] == polled(
        hooks, hooks.live(), data, SENT[0]
    )


def test_broken_match_explains_its_probe() -> None:
    """A match that can't be read may be the one that a probe needs."""
    hooks, books = Hooks(), Books()
    hooks.ktime_ns = PROBE.ktime_ns + SECOND
    pipeline = Pipeline("linux-5.15", (books,))
    for record in polled(hooks, hooks.live(), SENT[0], BROKEN_MATCH, SENT[2]):
        pipeline.feed(record)
    assert {} == books.divergences


def test_received_and_decoded() -> None:
    """Both count match decisions and nothing else."""
    hooks = Hooks()
    live = hooks.live()
    polled(hooks, live, *SENT, BROKEN_MATCH, BROKEN_PROBE)
    assert (2, 1) == (live.received, live.decoded)


def test_counters() -> None:
    """The kernel side's counters are those of now."""
    hooks = Hooks()
    live = hooks.live()
    hooks.count(whole=7, repeated=2, synthetic=1)
    assert Counters(whole=7, repeated=2, synthetic=1) == live.counters
    assert (9, 10) == (live.counters.emitted, live.counters.match_left)


def ticked(hooks: Hooks, live: Live, times: int) -> list[Record]:
    """Poll once a second."""
    said: list[Record] = []
    for _ in range(times):
        hooks.ktime_ns += SECOND
        said += polled(hooks, live)
    return said


@pytest.mark.parametrize(
    ("counter", "ticks", "hook"),
    [
        ("match_entered", MATCH_TICKS, "pci_match_device"),
        ("probe_entered", PROBE_TICKS, "__driver_probe_device"),
    ],
)
def test_call_that_never_leaves(counter: str, ticks: int, hook: str) -> None:
    """A call that is under way for too long was missed, once."""
    hooks = Hooks()
    live = hooks.live()
    hooks.count(**{counter: 1})
    assert [] == ticked(hooks, live, ticks - 1)
    assert 0 == live.misses[hook]
    (loss,) = ticked(hooks, live, ticks)
    assert (LossStage.MISSED, 1) == (cast("Loss", loss).stage, cast("Loss", loss).count)
    assert 1 == live.misses[hook]


def test_write_that_never_leaves() -> None:
    """A store function whose return was missed is one miss of that function."""
    hooks = Hooks()
    live = hooks.live()
    hooks.now = Counters(
        write_entered=(2, 0, 0, 1, 0, 0), write_left=(1, 0, 0, 1, 0, 0)
    )
    assert [] == ticked(hooks, live, PROBE_TICKS - 1)
    (loss,) = ticked(hooks, live, PROBE_TICKS)
    assert (LossStage.MISSED, 1) == (cast("Loss", loss).stage, cast("Loss", loss).count)
    assert {"new_id_store"} == {hook for hook, number in live.misses.items() if number}


def test_every_hook_of_the_metrics_that_can_miss() -> None:
    """The store functions are in the books from the start."""
    assert set(STORES.values()) <= Hooks().live().misses.keys()


def test_slow_call_is_no_miss() -> None:
    """A call that leaves in time was not missed."""
    hooks = Hooks()
    live = hooks.live()
    hooks.count(match_entered=1)
    ticked(hooks, live, MATCH_TICKS - 1)
    hooks.count(whole=1)
    assert [] == ticked(hooks, live, MATCH_TICKS)


def test_polling_often_is_no_tick() -> None:
    """Polls within a second look once: a busy ring does not shorten the wait."""
    hooks = Hooks()
    live = hooks.live()
    hooks.count(match_entered=1)
    for _ in range(20):
        hooks.ktime_ns += SECOND // 20
        assert [] == polled(hooks, live)


def under_way(floor: Floor, counts: Iterable[int]) -> list[int]:
    """Return what is missed after each of these ticks."""
    missed = []
    for count in counts:
        floor.tick(count)
        missed.append(floor.missed)
    return missed


counts = st.lists(st.integers(-2, 5), max_size=20)


@given(st.integers(1, 5), counts)
def test_floor_is_what_stayed(ticks: int, counts: list[int]) -> None:
    """Missed is the most that was under way at every one of so many ticks."""
    windows = [counts[at : at + ticks] for at in range(len(counts) - ticks + 1)]
    expected = max((min(window) for window in windows), default=0)
    floor = Floor(ticks)
    under_way(floor, counts)
    assert max(expected, 0) == floor.missed


@given(st.integers(1, 5), counts)
def test_floor_never_falls(ticks: int, counts: list[int]) -> None:
    """A counter is made of it."""
    missed = under_way(Floor(ticks), counts)
    assert sorted(missed) == missed


class Emitted(NamedTuple):
    """A match decision: in the ring, perhaps damaged, or lost for lack of room."""

    match: Match
    damage: bytes | None = None
    fits: bool = True

    def data(self) -> bytes:
        """Return what lies in the ring; its kind is never damaged."""
        whole = encode_match(self.match)
        return whole if self.damage is None else whole[:2] + self.damage


others = st.one_of(
    drivers.map(encode_driver),
    probes.map(lambda probe: [encode_probe(probe, 0)]),
    unregisters.map(lambda unregister: [encode_unregister(unregister)]),
    writes().map(lambda write: [encode_write(write)]),
    st.binary(max_size=40)
    .filter(lambda data: data[:2] != b"\x02\0")
    .map(lambda d: [d]),
)
# Undecodable names and doubts that no hook can see are not on the wire.
wire_matches = matches(doubted=st.just(()))
emitted = st.builds(
    Emitted, wire_matches, st.none() | st.binary(max_size=120), st.booleans()
)
scripts = st.lists(st.lists(emitted | others, max_size=6), max_size=4)


@given(scripts)
def test_conservation(script: list[list[Emitted | list[bytes]]]) -> None:
    """Emitted = lost + agree + diverge + indeterminate, whatever happens on the way."""
    hooks, books = Hooks(), Books()
    live, pipeline = hooks.live(), Pipeline("linux-5.15", (books,))
    for step in script:
        batch: list[bytes] = []
        for event in step:
            if not isinstance(event, Emitted):
                batch += event
                continue
            hooks.count(whole=1, lost_reserve=not event.fits)
            if event.fits:
                batch.append(event.data())
        for record in polled(hooks, live, *batch):
            pipeline.feed(record)
    lost = books.lost[LossStage.RESERVE] + books.lost[LossStage.DECODE]
    assert live.counters.emitted == lost + sum(books.judgements.values())
    assert live.received - live.decoded == books.lost[LossStage.DECODE]
    assert live.decoded == sum(books.judgements.values())


NOTHING = MATCH._replace(
    inputs=MATCH.inputs._replace(device=Device(9, 9, 9, 9, 9)),
    outcome=Outcome(Source.NONE),
)


def digested(digest: int, *, broken: bool = False) -> bytes:
    """Return a decision that came to nothing; broken: its last byte is no NUL."""
    data = encode_match(NOTHING._replace(digest=digest))
    return data[:-1] + b"x" if broken else data


def test_repeats() -> None:
    """What was only counted comes after the decision that it repeats, with its time."""
    hooks = Hooks()
    live = hooks.live()
    hooks.count(whole=1)
    hooks.repeat(3, 5)
    hooks.ktime_ns = 2000
    assert [DRIVER, NOTHING._replace(digest=3), Repeat(3, 5, 1000, 2000)] == polled(
        hooks, live, *encode_driver(DRIVER), digested(3)
    )
    assert [] == polled(hooks, live)
    hooks.repeat(3, 2)
    hooks.ktime_ns = 3000
    assert [Repeat(3, 2, 2000, 3000)] == polled(hooks, live)
    assert (8, 8) == (live.received, live.decoded)


def test_repeats_of_what_is_still_in_the_ring() -> None:
    """They wait for it."""
    hooks = Hooks()
    live = hooks.live()
    hooks.repeat(3, 5)
    assert [] == polled(hooks, live)
    assert 5 == cast("Repeat", polled(hooks, live, digested(3))[-1]).count


def test_repeats_of_what_was_not_understood() -> None:
    """They are lost as it was."""
    hooks = Hooks()
    live = hooks.live()
    hooks.repeat(3, 5)
    lost = [
        cast("Loss", each) for each in polled(hooks, live, digested(3, broken=True))
    ]
    assert [(LossStage.DECODE, 1), (LossStage.DECODE, 5)] == [
        (each.stage, each.count) for each in lost
    ]
    assert (6, 0) == (live.received, live.decoded)


turns = st.lists(
    st.lists(
        st.tuples(st.integers(0, 5), st.integers(0, 9), st.booleans()), max_size=6
    ),
    max_size=5,
)


@given(turns)
def test_repeats_are_conserved(turns: list[list[tuple[int, int, bool]]]) -> None:
    """Whatever is sent whole or only counted, in any order, is judged or lost."""
    hooks, books = Hooks(), Books()
    live, pipeline = hooks.live(), Pipeline("linux-5.15", (books,))
    sent: set[int] = set()
    for record in polled(hooks, live, *encode_driver(DRIVER)):
        pipeline.feed(record)
    for turn in turns:
        batch = []
        for digest, repeats, broken in turn:
            if digest not in sent or repeats == 0:
                hooks.count(whole=1)
                batch.append(digested(digest, broken=broken))
                sent.add(digest)
            else:
                hooks.repeat(digest, repeats)
        for record in polled(hooks, live, *batch):
            pipeline.feed(record)
    judged = sum(books.judgements.values())
    assert live.counters.emitted == judged + books.lost[LossStage.DECODE]
    assert judged == books.decisions["e1000", Source.NONE]


def test_repeats_count_as_what_they_repeat() -> None:
    """Driver, result, judgement and kind are those of the first, as often as it was."""
    ours = DRIVER._replace(id_table=(Id(9, 9),))
    seen: list[object] = []
    hooks, books = Hooks(), Books()
    live, pipeline = hooks.live(), Pipeline("linux-5.15", (books, seen.append))
    hooks.count(whole=1)
    hooks.repeat(7, 41)
    for record in polled(hooks, live, *encode_driver(ours), digested(7)):
        pipeline.feed(record)
    assert {("e1000", Source.NONE): 42} == dict(books.decisions)
    assert {("e1000", "expected_not_matched"): 42} == dict(books.divergences)
    assert 42 == books.judgements[Judgement.DIVERGE]
    (repeated,) = [each for each in seen if isinstance(each, Repeated)]
    assert (7, 41) == repeated.repeat[:2]

"""observer/store_judge.py: errnos of writes, and never a divergence by a race."""

from __future__ import annotations

from collections import Counter
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from live.generator import Generator
from live.world import Rules
from observations import (
    ADDRESS,
    E1000,
    MACHINE,
    NONE,
    STATIC,
    bind,
    match,
    new_id,
    probe,
    remove_id,
    tracker,
    unbind,
    write,
)
from test_sequences import world
from told import Told

from observer.machine import Origin
from observer.model.hex_fields import Overflow
from observer.record import (
    Action,
    Id,
    Judgement,
    Loss,
    LossStage,
    ProbeResult,
    Seen,
    StoreFile,
    TableState,
    Task,
    Uevent,
    Write,
    Wrote,
)
from observer.store_judge import RECENT, StoreJudge
from observer.tracking import Tracker

AGREE, DIVERGE = Judgement.AGREE, Judgement.DIVERGE
INDETERMINATE = Judgement.INDETERMINATE
NEW, OLD = "__driver_probe_device", "driver_probe_device"
DRIVER = E1000.driver
ABSENT = "0000:00:1f.0"


class Judges:
    """A tracker and a judge that see the same."""

    def __init__(
        self, seen: Tracker, *, rules: str = "linux-7.3", probe_function: str = NEW
    ) -> None:
        """Judge by these rules."""
        self.tracker = seen
        self.judge = StoreJudge(seen, new_id_rules=rules, probe_function=probe_function)

    def of(self, *observations: object) -> tuple[Judgement, str | None]:
        """Feed all, and return what the last one, a write, is judged."""
        for observation in observations:
            result = None
            if isinstance(observation, Wrote):
                result = self.judge.judge(observation.write)
            self.tracker(observation)  # type: ignore[arg-type]
            self.judge(observation)  # type: ignore[arg-type]
        assert result is not None
        return result[1:]


def judged(*observations: object, **rules: str) -> tuple[Judgement, str | None]:
    """Judge the last of these in the small machine."""
    return Judges(tracker(), **rules).of(*observations)


def loss(since_ns: int, until_ns: int) -> Loss:
    """Return a loss of one record."""
    return Loss(since_ns, until_ns, LossStage.RESERVE, 1)


def test_unknown_rules_are_refused() -> None:
    """There is no judging by rules or functions that nobody knows."""
    with pytest.raises(KeyError):
        judged(bind(1020), rules="linux-2.6")
    with pytest.raises(KeyError):
        judged(bind(1020), probe_function="really_probe")


@pytest.mark.parametrize("rules", ["linux-5.11", "linux-7.3"])
def test_new_id_by_dynids(rules: str) -> None:
    """A dynid can be added once."""
    first, again = new_id(1020, "1 2"), new_id(1040, "1 2", errno="EEXIST")
    assert (AGREE, None) == judged(first, rules=rules)
    assert (AGREE, "EEXIST") == judged(first, again, rules=rules)


def test_new_id_by_table() -> None:
    """What the table has is refused, whatever the dynids are."""
    text = "8086 100e"
    agreed = new_id(1020, text, driver="e1000", errno="EEXIST")
    assert (AGREE, "EEXIST") == judged(agreed)
    wrong = new_id(1020, text, driver="e1000")
    assert (DIVERGE, "EEXIST") == judged(wrong)
    assert (DIVERGE, "EEXIST") == judged(loss(0, 1000), wrong)


def test_new_id_with_too_few_fields() -> None:
    """The text alone is wrong: nothing else needs to be known."""
    nobody = tracker(drivers={})
    assert (AGREE, "EINVAL") == Judges(nobody).of(new_id(1020, "zz", errno="EINVAL"))
    assert (DIVERGE, "EINVAL") == Judges(nobody).of(new_id(1020, "zz"))


def test_new_id_of_another_task_at_once() -> None:
    """An id that another write took in or out meanwhile explains any such answer."""
    unseen = new_id(1020, "1 2", errno="EEXIST")
    assert (INDETERMINATE, None) == judged(unseen)
    doubled = new_id(1040, "1 2")
    assert (INDETERMINATE, None) == judged(new_id(1020, "1 2"), doubled)
    neither = new_id(1020, "1 2", errno="EPERM")
    assert (DIVERGE, None) == judged(neither)


def test_new_id_before_what_its_own_matches_showed() -> None:
    """The list at the beginning counts, not the one that the write made."""
    shown = match(1015, E1000.driver._replace(name="pci-stub", id_table=None))
    inputs = shown.match.inputs._replace(dynids=(Id(1, 2),))
    shown = shown._replace(match=shown.match._replace(inputs=inputs))
    assert (AGREE, None) == judged(shown, new_id(1020, "1 2"))


def test_new_id_where_two_rules_are_possible() -> None:
    """Without a trace in BTF a second dynid may be refused or not."""
    first, rules = new_id(1020, "1 2"), "linux-3.16"
    for errno in (None, "EEXIST"):
        again = new_id(1040, "1 2", errno=errno)
        assert (INDETERMINATE, None) == judged(first, again, rules=rules)
    assert (AGREE, None) == judged(new_id(1020, "1 2"), rules=rules)
    table = new_id(1020, "8086 100e", driver="e1000", errno="EEXIST")
    assert (AGREE, "EEXIST") == judged(table, rules=rules)


def test_new_id_of_a_number_beyond_64_bits() -> None:
    """Kernels differ in what they make of it; where that matters is no verdict."""
    wide = "8086 1000000000000100e"
    refused = new_id(1020, wide, driver="e1000", errno="EEXIST")
    assert (INDETERMINATE, None) == judged(refused)
    assert (AGREE, None) == judged(new_id(1020, wide))  # the same in both


@pytest.mark.parametrize("errno", [None, "EEXIST", "EINVAL"])
def test_new_id_of_which_a_part_was_carried(errno: str | None) -> None:
    """Text that is not there can't be judged."""
    assert (INDETERMINATE, None) == judged(new_id(1020, "1 2", errno=errno, size=200))


def test_new_id_of_an_unknown_table() -> None:
    """Nothing is said of a table that nobody read, or only as aliases."""
    unread = E1000.driver._replace(table_state=TableState.UNKNOWN)
    for driver in (
        E1000._replace(origin=Origin.MODULES_ALIAS),
        E1000._replace(driver=unread),
    ):
        seen = tracker(drivers={"e1000": driver})
        wrote = new_id(1020, "5 6", driver="e1000")
        assert (INDETERMINATE, None) == Judges(seen).of(wrote)


def test_new_id_while_dynids_are_unknown() -> None:
    """After a loss an id may be there or not."""
    lost = Loss(0, 1000, LossStage.OTHER, 1)
    assert (INDETERMINATE, None) == judged(lost, new_id(1020, "1 2"))


def test_remove_id() -> None:
    """What is there can be removed, once."""
    first = new_id(1020, "1 2")
    removed, again = remove_id(1040, "1 2"), remove_id(1060, "1 2", errno="ENODEV")
    assert (AGREE, None) == judged(first, removed)
    assert (AGREE, "ENODEV") == judged(first, removed, again)
    assert (INDETERMINATE, None) == judged(
        first, remove_id(1040, "1 2", errno="ENODEV")
    )
    assert (AGREE, "EINVAL") == judged(remove_id(1020, "1", errno="EINVAL"))
    assert (DIVERGE, "EINVAL") == judged(remove_id(1020, "1"))
    assert (DIVERGE, "ENODEV") == judged(remove_id(1020, "1 2", errno="EIO"))


@pytest.mark.parametrize(
    ("size", "errno", "expected"),
    [
        (7, None, (AGREE, None)),
        (4094, None, (AGREE, None)),
        (4095, "EINVAL", (AGREE, "EINVAL")),
        (4095, None, (DIVERGE, "EINVAL")),
        (7, "EINVAL", (DIVERGE, None)),
        (7, "ENOMEM", (INDETERMINATE, None)),
    ],
)
def test_driver_override_by_size(
    size: int, errno: str | None, expected: tuple[Judgement, str | None]
) -> None:
    """Any name is taken that fits into a page."""
    wrote = write(
        *(1020, StoreFile.DRIVER_OVERRIDE, "a-name\n"),
        address=ADDRESS,
        errno=errno,
        size=size,
    )
    assert expected == judged(wrote)


@pytest.mark.parametrize(
    ("result", "seen", "new", "old"),
    [
        (ProbeResult.BOUND, None, None, None),
        (ProbeResult.BUSY, "EBUSY", "EBUSY", None),
        (ProbeResult.GONE, "ENODEV", "ENODEV", "ENODEV"),
        (ProbeResult.DEFERRED, "EPROBE_DEFER", "EAGAIN", None),
        (ProbeResult.REFUSED, "EIO", "EIO", None),
        (ProbeResult.REFUSED, None, None, "ENODEV"),
    ],
)
def test_bind_answers_what_became_of_the_probe(
    result: ProbeResult, seen: str | None, new: str | None, old: str | None
) -> None:
    """Since v5.14 the errno of the probe, before ENODEV whatever it was."""
    before = (match(1012, DRIVER, STATIC), probe(1015, "e1000", result, seen))
    if new or result is ProbeResult.BOUND:
        assert (AGREE, new) == judged(*before, bind(1020, errno=new))
        assert (DIVERGE, new) == judged(*before, bind(1020, errno="EINTR"))
    if old or result is ProbeResult.BOUND:
        assert (AGREE, old) == judged(
            *before, bind(1020, errno=old), probe_function=OLD
        )
        assert (DIVERGE, old) == judged(
            *before, bind(1020, errno="EINTR"), probe_function=OLD
        )


@pytest.mark.parametrize("by_fallback", ["match", "probe"])
def test_bind_that_a_fallback_saw(by_fallback: str) -> None:
    """Not all that decides its answer was seen, so it is not judged."""
    seen = dict.fromkeys(("match", "probe"), Seen.LIVE) | {by_fallback: Seen.FALLBACK}
    before = (
        match(1012, DRIVER, STATIC, seen=seen["match"]),
        probe(1015, "e1000", seen=seen["probe"]),
    )
    assert (INDETERMINATE, None) == judged(*before, bind(1020, errno="EINTR"))


def test_bind_up_to_5_13_may_pass_on_the_core_s_deferral() -> None:
    """It comes out as it is, or not: both were read, so neither is a divergence."""
    deferred = probe(1015, "e1000", ProbeResult.DEFERRED, "EPROBE_DEFER")
    before = (match(1012, DRIVER, STATIC), deferred)
    for errno, expected in (
        ("EPROBE_DEFER", (INDETERMINATE, None)),
        ("ENODEV", (AGREE, "ENODEV")),
    ):
        wrote = bind(1020, errno=errno)
        assert expected == judged(*before, wrote, probe_function=OLD)


@pytest.mark.parametrize("probe_function", [NEW, OLD])
def test_bind_without_a_match(probe_function: str) -> None:
    """No match, none that is positive, none of this task or time: ENODEV."""
    elsewhere = Task(99, 99, "sh", 0)
    for before in (
        (),
        (match(1012, DRIVER, NONE),),
        (match(1012, DRIVER, STATIC, task=elsewhere),),
        (match(1005, DRIVER, STATIC), probe(1006)),
    ):
        wrong = judged(*before, bind(1020), probe_function=probe_function)
        assert (DIVERGE, "ENODEV") == wrong
        right = bind(1020, errno="ENODEV")
        agreed = judged(*before, right, probe_function=probe_function)
        assert (AGREE, "ENODEV") == agreed


def test_bind_with_a_match_and_without_a_probe() -> None:
    """What is missing may be anything."""
    before = match(1012, DRIVER, STATIC)
    assert (INDETERMINATE, None) == judged(before, bind(1020))


def test_bind_while_records_were_lost() -> None:
    """A lost match is no missing one; losses at other times do not matter."""
    assert (INDETERMINATE, None) == judged(loss(1000, 1010), bind(1020))
    assert (INDETERMINATE, None) == judged(loss(1020, 1030), bind(1020))
    assert (DIVERGE, "ENODEV") == judged(loss(1000, 1009), bind(1020))


def test_bind_of_nonsense() -> None:
    """What is no address is no device."""
    for text in ("", "0000:00:02.0 ", "e1000", "0000:00:02.8", f"{ADDRESS}\n\n"):
        assert (AGREE, "ENODEV") == judged(bind(1020, text, errno="ENODEV"))
        assert (DIVERGE, "ENODEV") == judged(bind(1020, text))
    for text in (f"{ADDRESS}\n", f"{ADDRESS}\0junk"):
        before = (match(1012, DRIVER, STATIC), probe(1015))
        assert (AGREE, None) == judged(*before, bind(1020, text))


def test_bind_of_a_busy_device() -> None:
    """EBUSY while it matches, ENODEV when it does so no more."""
    bound = (match(1002, DRIVER, STATIC), probe(1004), bind(1005))
    busy = (
        match(1012, DRIVER, STATIC),
        probe(1015, "e1000", ProbeResult.BUSY, "EBUSY"),
    )
    assert (AGREE, "EBUSY") == judged(*bound, *busy, bind(1020, errno="EBUSY"))
    mismatch = match(1012, DRIVER, NONE, override="vfio-pci")
    assert (AGREE, "ENODEV") == judged(*bound, mismatch, bind(1020, errno="ENODEV"))


def test_unbind() -> None:
    """Only from the driver that has the device."""
    assert (AGREE, None) == judged(probe(1005), unbind(1020))
    assert (AGREE, "ENODEV") == judged(unbind(1020, errno="ENODEV"))
    assert (AGREE, "ENODEV") == judged(
        probe(1005, "pci-stub"), unbind(1020, errno="ENODEV")
    )
    assert (AGREE, "ENODEV") == judged(unbind(1020, ABSENT, errno="ENODEV"))
    assert (AGREE, "ENODEV") == judged(unbind(1020, "junk", errno="ENODEV"))
    assert (DIVERGE, "ENODEV") == judged(unbind(1020, "junk"))
    assert (DIVERGE, None) == judged(probe(1005), unbind(1020, errno="EIO"))


def test_unbind_and_what_is_told_late() -> None:
    """The kernel unbinds and removes by itself, and its uevent comes afterwards."""
    gone = unbind(1020, errno="ENODEV")
    assert (INDETERMINATE, None) == judged(probe(1005), gone)
    assert (INDETERMINATE, None) == judged(probe(1015), unbind(1020))
    own = Uevent(1025, Action.UNBIND, ADDRESS, "e1000")  # of this very write
    assert (AGREE, None) == judged(probe(1005), own, unbind(1020))
    added = Uevent(1005, Action.ADD, ABSENT, None)  # not read yet
    assert (INDETERMINATE, None) == judged(added, unbind(1020, ABSENT))


@pytest.mark.parametrize(
    ("text", "errno", "expected"),
    [
        (ADDRESS, None, (AGREE, None)),
        (ADDRESS, "ENODEV", (INDETERMINATE, None)),  # removed just now
        (ADDRESS, "EINVAL", (INDETERMINATE, None)),  # refused by the core
        (ADDRESS, "EIO", (DIVERGE, None)),
        (ABSENT, "ENODEV", (AGREE, "ENODEV")),
        (ABSENT, None, (INDETERMINATE, None)),  # added just now
        ("junk", "ENODEV", (AGREE, "ENODEV")),
        ("junk", None, (DIVERGE, "ENODEV")),
    ],
)
def test_drivers_probe(
    text: str, errno: str | None, expected: tuple[Judgement, str | None]
) -> None:
    """A device that is there is looked at, whatever comes of it."""
    wrote = write(1020, StoreFile.DRIVERS_PROBE, text, errno=errno)
    assert expected == judged(wrote)


def test_without_a_look_at_the_machine() -> None:
    """In a replay only what was seen counts."""
    nothing = MACHINE._replace(drivers={}, devices={})

    def of(*observations: object) -> tuple[Judgement, str | None]:
        return Judges(Tracker(nothing, devices_known=False)).of(*observations)

    unknown = (INDETERMINATE, None)
    assert unknown == of(unbind(1020))
    assert unknown == of(unbind(1020, errno="ENODEV"))
    assert unknown == of(write(1020, StoreFile.DRIVERS_PROBE, ADDRESS))
    assert unknown == of(new_id(1020, "1 2"))
    assert (AGREE, None) == of(match(1004, DRIVER), new_id(1020, "1 2", driver="e1000"))
    assert (AGREE, None) == of(probe(1005), unbind(1020))


def test_memory_is_bounded() -> None:
    """Of many pairs the last ones are kept; what is forgotten is no evidence."""
    others = [
        match(1012, DRIVER, STATIC, address=f"{number:04x}:00:00.0")
        for number in range(RECENT)
    ]
    first, last = match(1012, DRIVER, STATIC), (probe(1015), bind(1020))
    assert (AGREE, None) == judged(first, *others[1:], *last)
    assert (INDETERMINATE, None) == judged(first, *others, *last)


@given(
    st.integers(),
    st.sampled_from(
        [
            Rules("linux-5.15", "linux-7.3", "linux-5.14", Overflow.SATURATE),
            Rules("linux-5.15", "linux-5.11", "linux-5.14", Overflow.WRAP),
            Rules("linux-3.16", "linux-3.16", "linux-3.16", Overflow.WRAP),
            Rules("linux-3.16", "linux-5.11", "linux-3.16", Overflow.WRAP),
        ]
    ),
)
@settings(max_examples=60, deadline=None)
def test_picture_and_judge_follow_a_bus(seed: int, rules: Rules) -> None:
    """All that random writes change is pictured, and no write is called wrong.

    Uevents come late, in order, and what is stale is read, as the daemon does it.
    """
    random = Random(seed)  # noqa: S311 - no secret
    like = world(rules)
    bus = Told(rules, like.devices, list(like.drivers.values()), like.probe_errnos)
    bus.untold = []
    seen = Tracker(bus.machine())
    judge = StoreJudge(
        seen,
        # all that BTF tells of v5.11 to v5.13
        new_id_rules="linux-3.16" if rules.bind == "linux-3.16" else rules.new_id,
        probe_function=NEW if rules.bind == "linux-5.14" else OLD,
    )
    judgements, unknown = Counter[Judgement](), 0
    generator = Generator(random, bus)
    for _ in range(100):
        bus.write(generator.write())
        for told in (*bus.told, *bus.uevents(random.randrange(4))):
            observation = judge.judge(told) if isinstance(told, Write) else told
            if isinstance(observation, Wrote):
                judgements[observation.judgement] += 1
                assert observation.judgement is not DIVERGE, observation
            seen(observation)
            judge(observation)
        for name, known in seen.machine(0).drivers.items():
            # unknown where kernels read a number differently
            assert known.dynids in (bus.dynids[name], None)
            unknown += known.dynids is None
        while seen.stale:
            address = seen.stale.pop()
            seen.read(address, bus.device(address))
        if not bus.untold:
            assert bus.machine().devices == seen.machine(0).devices
    assert judgements[AGREE] > 60
    assert unknown < 350  # of 700

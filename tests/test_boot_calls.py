"""observer/boot_calls.py: which entry and which return are one call."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from observer.boot_calls import Call, calls
from observer.boot_trace import TraceEvent

STACK = 0x1000


def enter(name: str, ktime_ns: int, pid: int = 1, sp: int = STACK) -> TraceEvent:
    """Return the entry of a function, for a pair that no other test has."""
    return TraceEvent(name, ktime_ns, 0, pid, {"sp": sp, "drv": 5, "dev": 6})


def leave(name: str, ktime_ns: int, pid: int = 1, sp: int = STACK) -> TraceEvent:
    """Return the return of a function that was entered with this stack pointer."""
    return TraceEvent(name, ktime_ns, 0, pid, {"sp": sp + 8})


def outer(ktime_ns: int) -> TraceEvent:
    """Return the entry of driver_probe_device."""
    return TraceEvent("o", ktime_ns, 0, 1, {"drv": 5, "dev": 6})


def test_entry_and_return() -> None:
    """Of the same task with the same stack."""
    entry, exit_ = enter("m", 1), leave("mr", 2)
    assert [Call(entry, exit_)] == calls([entry, exit_])


def test_order_is_that_of_time() -> None:
    """CPUs are read one after the other; the calls come in the order of their ends."""
    first = enter("m", 1, pid=1), leave("mr", 9, pid=1)
    second = enter("m", 2, pid=2), leave("mr", 3, pid=2)
    assert [Call(*second), Call(*first)] == calls([*first, *second])


def test_a_match_within_a_probe() -> None:
    """The probe asks once more: both are under way in one task."""
    probe = enter("d", 1), leave("dr", 4)
    match = enter("m", 2, sp=STACK - 64), leave("mr", 3, sp=STACK - 64)
    assert [Call(*match), Call(*probe)] == calls([*probe, *match])


def test_a_probe_within_a_probe() -> None:
    """One of PCI may register devices that are probed within it."""
    whole = enter("d", 1), leave("dr", 4)
    inner = enter("d", 2, sp=STACK - 64), leave("dr", 3, sp=STACK - 64)
    assert [Call(*inner), Call(*whole)] == calls([*whole, *inner])


def test_a_return_that_was_not_seen() -> None:
    """Its entry stays alone, also when the same stack comes again."""
    lost, entry, exit_ = enter("m", 1), enter("m", 2), leave("mr", 3)
    last = enter("m", 4)
    expected = [Call(entry, exit_), Call(lost, None), Call(last, None)]
    assert expected == calls([lost, entry, exit_, last])


def test_a_return_without_its_entry() -> None:
    """Nothing is known of it: another function, another stack, or another task."""
    entry = enter("m", 1)
    strangers = [
        leave("dr", 2),
        leave("mr", 3, sp=STACK + 8),
        leave("mr", 4, pid=2),
    ]
    assert [Call(entry, None)] == calls([entry, *strangers])


def test_the_way_of_a_probe() -> None:
    """By driver_probe_device once for each time that this was entered."""
    one = enter("d", 2), leave("dr", 3)
    two = enter("d", 4), leave("dr", 5)
    found = calls([outer(1), *one, *two])
    assert [Call(*one, outer=True), Call(*two, outer=False)] == found


@given(
    st.lists(
        st.tuples(
            st.sampled_from(["m", "mr", "d", "dr", "o"]),
            st.integers(0, 50),
            st.integers(1, 2),
            st.sampled_from([STACK, STACK + 8]),
        )
    )
)
def test_any_events(drawn: list[tuple[str, int, int, int]]) -> None:
    """Each entry is in exactly one call, and no return in two."""
    events = [
        leave(*each)
        if each[0] in ("mr", "dr")
        else outer(each[1])
        if each[0] == "o"
        else enter(*each)
        for each in drawn
    ]
    found = calls(events)
    entries = [event for event in events if event.name in ("m", "d")]
    assert sorted(map(id, entries)) == sorted(id(call.entry) for call in found)
    exits = [id(call.exit) for call in found if call.exit is not None]
    assert len(exits) == len(set(exits))
    assert all(c.entry.ktime_ns <= c.exit.ktime_ns for c in found if c.exit)

"""observer/boot_decisions.py: what calls come to, by every layout."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import pytest
from ring_calls import (
    ADDRESS,
    ANY,
    COPY,
    DRIVER,
    ENTRY_NS,
    IDS,
    TABLE,
    match,
    node,
    outer,
    probe,
)
from shapes import all_layouts, layouts
from test_boot_trace import RELEASES, recorded

from observer.boot_args import DYNIDS
from observer.boot_decisions import Known, Registration, Until, decisions
from observer.boot_trace import TraceError
from observer.record import (
    PCI_ANY_ID,
    Driver,
    Id,
    Inputs,
    Match,
    Outcome,
    Path,
    Probe,
    ProbeResult,
    Reason,
    Seen,
    Source,
    TableState,
    Task,
)

if TYPE_CHECKING:
    from collections.abc import Iterable

    from observer.boot_trace import TraceEvent
    from observer.layout import Layout

NIC: Final = Id(0x8086, 0x100E, driver_data=7)
OTHER: Final = Id(0x8086, 0x100F)
E1000: Final = Driver(5, "e1000", (OTHER, NIC))
DYNID: Final = Id(0x1234, 0x11E8)
EVERY: Final = Id(PCI_ANY_ID, PCI_ANY_ID)
LAYOUTS: Final = layouts()
D: Final = LAYOUTS["D"]


@pytest.fixture(params=sorted(LAYOUTS))
def layout(request: pytest.FixtureRequest) -> Layout:
    """Return a kernel of each layout."""
    return LAYOUTS[request.param]


def known(
    layout: Layout, *, dummy: int = ANY, tgids: dict[int, int] | None = None
) -> Known:
    """Return a kernel where e1000 is registered."""
    return Known(layout, {DRIVER: Registration(E1000, TABLE)}, dummy, tgids or {})


def one(events: Iterable[TraceEvent], of: Known) -> Match | Probe:
    """Return the only record of these events."""
    (record,) = decisions(events, of).records
    return record


def only(layout: Layout, events: Iterable[TraceEvent]) -> Match:
    """Return the only match of these events."""
    record = one(events, known(layout))
    assert isinstance(record, Match)
    return record


def entry(layout: Layout, place: int) -> int:
    """Return the address of an entry of the table."""
    return TABLE + place * layout.offsets["ID_SIZE"]


def test_no_match(layout: Layout) -> None:
    """All inputs as they were at the entry; time and CPU of the return."""
    events = match(layout, pid=42)
    assert Match(
        ENTRY_NS + 10,
        Task(42, 40, "swapper/0", 1),
        ADDRESS,
        False,
        Inputs(IDS, E1000),
        Outcome(Source.NONE),
        (),
        Seen.BOOT,
    ) == one(events, known(layout, tgids={42: 40}))


def test_a_thread_of_an_unknown_process(layout: Layout) -> None:
    """Its own number stands for it, which is right for all but further threads."""
    assert 1 == only(layout, match(layout)).task.tgid


def test_static(layout: Layout) -> None:
    """Its place by where the returned entry lies."""
    assert (
        Outcome(Source.STATIC, 1)
        == only(layout, match(layout, entry(layout, 1), found=NIC)).outcome
    )


def test_dynid(layout: Layout) -> None:
    """By the address in the list, or by the copy's content where it is one."""
    ret = COPY if layout.match_args == 3 else node(1) + layout.offsets["DYNID_ID"]
    seen = only(layout, match(layout, ret, found=DYNID, dynids=(OTHER, DYNID)))
    assert Outcome(Source.DYNID, 1) == seen.outcome
    assert (OTHER._replace(driver_data=0), DYNID) == seen.inputs.dynids
    assert seen.inputs.dynids_complete


def test_more_dynids_than_are_fetched(layout: Layout) -> None:
    """They are not all; one that matched among the others is none that is known."""
    many = tuple(Id(1, number) for number in range(DYNIDS + 1))
    place = DYNIDS
    ret = COPY if layout.match_args == 3 else node(place) + layout.offsets["DYNID_ID"]
    seen = only(layout, match(layout, ret, found=many[-1], dynids=many))
    assert many[:-1] == seen.inputs.dynids
    assert not seen.inputs.dynids_complete
    assert Outcome(Source.UNKNOWN) == seen.outcome
    assert (Reason.DYNIDS_TRUNCATED,) == seen.doubts
    assert only(layout, match(layout, dynids=many[:-1])).inputs.dynids_complete


def test_an_empty_head(layout: Layout) -> None:
    """A null where the list should begin was not read: nothing is known of it."""
    assert not only(layout, match(layout, n0=0)).inputs.dynids_complete


def test_override(layout: Layout) -> None:
    """The dummy, by its address."""
    seen = only(layout, match(layout, ANY, found=EVERY, ov="e1000"))
    assert Outcome(Source.OVERRIDE) == seen.outcome
    assert "e1000" == seen.inputs.driver_override


def test_override_where_symbols_are_hidden(layout: Layout) -> None:
    """The dummy, by what it holds."""
    hidden = known(layout, dummy=0)
    events = match(layout, ANY, found=EVERY, ov="e1000")
    record = one(events, hidden)
    assert isinstance(record, Match)
    assert Outcome(Source.OVERRIDE) == record.outcome
    masked = EVERY._replace(class_mask=1)
    for found in (DYNID, masked):
        other = one(match(layout, ANY, found=found), hidden)
        assert isinstance(other, Match)
        assert Outcome(Source.UNKNOWN) == other.outcome


def test_an_id_of_nowhere(layout: Layout) -> None:
    """Neither in the table nor behind it nor between two of its entries."""
    for ret in (entry(layout, 2), entry(layout, 1) + 4, TABLE - 8):
        assert Outcome(Source.UNKNOWN) == only(layout, match(layout, ret)).outcome


def test_an_override_that_was_not_read(layout: Layout) -> None:
    """A pointer without its text: it is set, to what is not known."""
    events = match(layout, ov="x")
    broken = [events[0]._replace(values={**events[0].values, "ov": None}), events[1]]
    assert (Reason.READ_FAULT,) == only(layout, broken).doubts


def test_an_override_without_a_pointer(layout: Layout) -> None:
    """There is none, whatever the fetch of its text gave."""
    seen = only(layout, match(layout, ov="x", ovp=0))
    assert None is seen.inputs.driver_override


@pytest.mark.parametrize("missing", ["name", "addr"])
def test_names_that_were_not_read(missing: str, layout: Layout) -> None:
    """The decision is there and in doubt."""
    events = match(layout, **{missing: None})
    assert (Reason.READ_FAULT,) == only(layout, events).doubts


def test_virtual_function(layout: Layout) -> None:
    """By its bit, among others of the byte."""
    mask = layout.offsets["DEV_IS_VIRTFN_MASK"]
    assert only(layout, match(layout, vf=mask)).is_virtfn
    assert not only(layout, match(layout, vf=0xFF & ~mask)).is_virtfn


def test_a_driver_that_left(layout: Layout) -> None:
    """Its table is unknown, and each registration has a number of its own."""
    gone = decisions(
        [
            *match(layout, drv=DRIVER + 8),
            *match(layout, drv=DRIVER + 8),
            *match(layout, name="other"),
            *match(layout, tbl=TABLE + 8),
        ],
        known(layout),
    ).records
    drivers = [each.inputs.driver for each in gone if isinstance(each, Match)]
    assert [TableState.UNKNOWN] * 4 == [driver.table_state for driver in drivers]
    assert ["e1000", "e1000", "other", "e1000"] == [each.name for each in drivers]
    numbers = [driver.number for driver in drivers]
    assert numbers[0] == numbers[1]
    assert 3 == len({*numbers})
    assert E1000.number not in numbers


def test_a_table_that_holds_something_else(layout: Layout) -> None:
    """An entry was returned that is none of those known: it was another driver."""
    seen = only(layout, match(layout, entry(layout, 1), found=OTHER))
    assert TableState.UNKNOWN is seen.inputs.driver.table_state


def test_no_table(layout: Layout) -> None:
    """A driver without one matches nothing static."""
    bare = Driver(6, "e1000", None)
    without = Known(layout, {DRIVER: Registration(bare, 0)}, ANY)
    record = one(match(layout, 0x40, tbl=0), without)
    assert isinstance(record, Match)
    assert (bare, Outcome(Source.UNKNOWN)) == (record.inputs.driver, record.outcome)


def test_probe(layout: Layout) -> None:
    """Result and errno by the function's rule; time of the return, and since when."""
    bound = 0 if layout.probe_function.startswith("__") else 1
    assert Probe(
        ENTRY_NS + 500,
        500,
        Task(9, 8, "modprobe", 1),
        ADDRESS,
        5,
        "e1000",
        True,
        Path.DRIVER_PROBE_DEVICE,
        ProbeResult.BOUND,
        None,
        Seen.BOOT,
    ) == one([outer(layout), *probe(layout, bound)], known(layout, tgids={9: 8}))


def test_probe_that_fails(layout: Layout) -> None:
    """A device that is bound already is busy, by each function."""
    record = one(probe(layout, -16, probe=0), known(layout))
    assert isinstance(record, Probe)
    assert (ProbeResult.BUSY, "EBUSY") == (record.result, record.errno)
    assert not record.has_probe


def test_a_probe_by_bind() -> None:
    """Where two functions tell the way, the inner one alone is direct."""
    record = one(probe(D, 0), known(D))
    assert isinstance(record, Probe)
    assert Path.DIRECT is record.path


def test_probe_of_a_driver_that_left(layout: Layout) -> None:
    """It has the number of its matches; without any it has none."""
    found = decisions(
        [*match(layout, name="gone"), *probe(layout, 0, name="gone")], known(layout)
    ).records
    seen, probed = found
    assert isinstance(seen, Match)
    assert isinstance(probed, Probe)
    assert seen.inputs.driver.number == probed.driver
    alone = one(probe(layout, 0, name="gone"), known(layout))
    assert isinstance(alone, Probe)
    assert 0 == alone.driver


def test_other_buses(layout: Layout) -> None:
    """Their probes are read, counted, and no records."""
    found = decisions(probe(layout, 0, bus="pnp"), known(layout))
    assert ([], 1, 0) == (found.records, found.probes_begun, found.probes_unended)


def test_the_fake_device_decides_nothing(layout: Layout) -> None:
    """It has no bus; some kernels ask so before they take a new_id."""
    found = decisions(match(layout, bus=0, addr=None), known(layout))
    assert ([], 0, 1) == (found.records, found.begun, found.synthetic)


def test_what_the_hooks_tell() -> None:
    """What began after they were there is theirs, what began before is not."""
    until = Until(0, 2000, 500)
    found = decisions(
        [*match(D), *match(D, ktime_ns=2001), *probe(D, 0)], known(D), until
    )
    assert [Match] == [type(record) for record in found.records]
    assert (1, 1, 1) == (found.begun, found.later, found.probes_begun)


def test_calls_that_did_not_return() -> None:
    """They are counted as begun, so that it shows."""
    found = decisions([match(D)[0], probe(D, 0)[0]], known(D))
    assert ([], 1, 1, 1) == (
        found.records,
        found.begun,
        found.probes_begun,
        found.probes_unended,
    )


def test_an_event_without_a_field() -> None:
    """It is none of ours, and no reason for another error."""
    event, _ = match(D)
    without = {name: value for name, value in event.values.items() if name != "bus"}
    with pytest.raises(TraceError, match="no number bus"):
        decisions([event._replace(values=without)], known(D))


@pytest.mark.parametrize("release", RELEASES)
def test_a_real_boot(release: str) -> None:
    """All decisions of a guest: the first by the kernel itself, for iosf_mbi_pci."""
    events = recorded(release)
    found = decisions(events, Known(all_layouts()[release], {}))
    matches = [each for each in found.records if isinstance(each, Match)]
    assert sum(event.name == "m" for event in events) == len(matches) == found.begun
    assert "iosf_mbi_pci" == matches[0].inputs.driver.name
    assert (1, "swapper/0") == (matches[0].task.pid, matches[0].task.comm)
    assert {True} == {each.inputs.dynids_complete for each in matches}
    bound = {
        each.name
        for each in found.records
        if isinstance(each, Probe) and each.result is ProbeResult.BOUND
    }
    assert {"virtio-pci", "e1000", "ahci"} <= bound

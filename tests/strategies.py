"""Hypothesis strategies for everything that passes through the observer's core.

Ids come from few values, so that random devices and entries often meet.
"""

from __future__ import annotations

from hypothesis import strategies as st

from observer.record import (
    PCI_ANY_ID,
    Action,
    Device,
    Driver,
    Id,
    Inputs,
    Loss,
    LossStage,
    Match,
    Outcome,
    Path,
    Probe,
    ProbeResult,
    Reason,
    Seen,
    Source,
    StoreFile,
    TableState,
    Task,
    Uevent,
    Unregister,
    Write,
)

U16, U32, U64 = 0xFFFF, 0xFFFFFFFF, 0xFFFFFFFFFFFFFFFF
u32 = st.integers(0, U32)
u64 = st.integers(0, U64)


def texts(size: int) -> st.SearchStrategy[str]:
    """Text as it comes off the wire: any bytes but NUL, at most `size` of them."""
    raw = st.binary(max_size=size).filter(lambda data: b"\0" not in data)
    return raw.map(lambda data: data.decode("utf-8", "surrogateescape"))


few_ids = st.sampled_from([0, 1, 2, U16])
entry_ids = st.sampled_from([0, 1, 2, U16, 0x10001, PCI_ANY_ID])
classes = st.sampled_from([0, 0x020000, 0x030000])
masks = st.sampled_from([0, 0, 0xFF0000, 0xFFFFFF])
names = st.sampled_from(["vfio-pci", "e1000", ""]) | texts(62)
overrides = st.none() | st.sampled_from(["vfio-pci", "e1000", ""]) | texts(126)
addresses = st.sampled_from(["0000:00:02.0", "10000:e1:00.7"]) | texts(15)
places = st.integers(0, 0x7FFF)

devices = st.builds(Device, few_ids, few_ids, few_ids, few_ids, classes)
dynid_lists = st.lists(
    st.builds(
        Id,
        *(entry_ids, entry_ids, entry_ids, entry_ids, classes, masks),
        *(st.just(0), st.just(0)),
    ),
    max_size=4,
).map(tuple)
entries = st.builds(
    Id,
    entry_ids,
    entry_ids,
    entry_ids,
    entry_ids,
    classes,
    masks,
    u64,
    st.sampled_from([0, 1]),
)
id_tables = st.lists(entries, max_size=8).map(tuple)
numbers = st.sampled_from([1, 2]) | st.integers(1, U64)

complete_drivers = st.builds(
    Driver,
    *(numbers, names, st.none() | id_tables),
    *(st.just(TableState.COMPLETE), st.booleans()),
)
partial_drivers = st.builds(
    Driver,
    numbers,
    names,
    id_tables,
    st.sampled_from(list(TableState)),
    st.booleans(),
)
drivers = complete_drivers | partial_drivers
inputs = st.builds(Inputs, devices, drivers, dynid_lists, st.booleans(), overrides)
decidable_inputs = st.builds(
    Inputs, devices, complete_drivers, dynid_lists, st.just(value=True), overrides
)
outcomes = st.one_of(
    st.sampled_from([Source.NONE, Source.OVERRIDE, Source.UNKNOWN]).map(
        lambda source: Outcome(source, None)
    ),
    st.builds(Outcome, st.sampled_from([Source.STATIC, Source.DYNID]), places),
)
tasks = st.builds(Task, u32, u32, texts(15), u32)
doubts = st.lists(st.sampled_from(list(Reason)), unique=True, max_size=2).map(tuple)


def matches(
    of: st.SearchStrategy[Inputs] = inputs,
    doubted: st.SearchStrategy[tuple[Reason, ...]] = doubts,
) -> st.SearchStrategy[Match]:
    """Decisions, by default every one that could be recorded."""
    told = (u64, tasks, addresses, st.booleans(), of, outcomes, doubted)
    return st.builds(Match, *told, st.just(Seen.LIVE), st.none())


probes = st.builds(
    Probe,
    u64,
    u64,
    tasks,
    addresses,
    st.just(0) | numbers,
    names,
    st.booleans(),
    st.sampled_from(list(Path)),
    st.sampled_from(list(ProbeResult)),
    st.none() | st.sampled_from(["EBUSY", "EPROBE_DEFER", "1234"]),
    st.just(Seen.LIVE),
)
unregisters = st.builds(Unregister, u64, numbers, names)
losses = st.builds(Loss, u64, u64, st.sampled_from(list(LossStage)), u64)


@st.composite
def writes(draw: st.DrawFn) -> Write:
    """Draw a write as it comes off the wire: of the owner that the file has."""
    file = draw(st.sampled_from(StoreFile))
    text = draw(st.sampled_from([b"", b"0000:00:02.0\n"]) | st.binary(max_size=128))
    more = draw(st.sampled_from([0, 1, 4000]))
    return Write(
        draw(u64),
        draw(u64),
        draw(tasks),
        draw(u32),
        file,
        None
        if file in (StoreFile.DRIVER_OVERRIDE, StoreFile.DRIVERS_PROBE)
        else draw(names),
        draw(addresses) if file is StoreFile.DRIVER_OVERRIDE else None,
        text.decode("utf-8", "surrogateescape"),
        len(text) + more,
        draw(st.none() | st.sampled_from(["EEXIST", "EPROBE_DEFER", "1234"])),
    )


uevents = st.builds(
    Uevent, u64, st.sampled_from(Action), st.none() | addresses, st.none() | names
)
seen_at_boot = (matches() | probes).map(lambda seen: seen._replace(seen=Seen.BOOT))
records = st.one_of(
    drivers,
    matches(),
    probes,
    seen_at_boot,
    unregisters,
    writes(),
    uevents,
    losses,
)

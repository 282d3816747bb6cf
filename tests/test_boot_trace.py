"""observer/boot_trace.py: pages of real kernels, made-up ones, and any bytes."""

from __future__ import annotations

import contextlib
import lzma
import re
import struct
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from observer.boot_trace import (
    PAGE_BYTES,
    TraceError,
    TraceEvent,
    events,
    name_of,
    number_of,
    shape_of,
    shapes_of,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

DIRECTORY = Path(__file__).parent / "boot"
RELEASES = sorted(path.name for path in DIRECTORY.iterdir() if path.is_dir())
WITHOUT_FORMATS = "6.1.0-56-amd64"
# A line of the kernel's own text: comm, pid, cpu, flags, seconds, event, values.
LINE = re.compile(r"\s*.+-\d+\s+\(\s*[-\d]+\) \[(\d+)\] \S+\s+([\d.]+): (\w+): (.*)")
VALUE = re.compile(r' (\w+)=(\{[^}]*\}|"[^"]*"|\S+)')
DEFINITION = "p:g/e f a=%di:x16 t=%si:string b=%dx:s8[3] c=$comm d=%cx"
SIMPLE = shape_of("p:g/e f a=%di")
RECORD = struct.pack("<HBBiQQ", 7, 0, 0, 42, 0xF00, 0xBEEF)


def definitions(release: str) -> list[str]:
    """Return the events that were defined."""
    return (DIRECTORY / release / "kprobe_events").read_text().splitlines()


def formats(release: str) -> dict[str, str]:
    """Return the format files by event."""
    files = (DIRECTORY / release / "events").glob("*/*/format")
    return {path.parent.name: path.read_text() for path in files}


def recorded(release: str) -> list[TraceEvent]:
    """Return the events of a ring."""
    ring = DIRECTORY / release / "per_cpu/cpu0/trace_pipe_raw.xz"
    shapes = shapes_of(definitions(release), formats(release))
    return list(events(lzma.decompress(ring.read_bytes()), 0, shapes))


def spelled(event: TraceEvent) -> dict[str, str]:
    """Spell an event's values as the kernel's text has them."""
    signed = {"ret"} if event.name == "dr" else set()
    found = {}
    for name, value in event.values.items():
        if name.startswith("common_"):
            continue
        if isinstance(value, tuple):
            found[name] = "{" + ",".join(f"0x{each:x}" for each in value) + "}"
        elif isinstance(value, int):
            found[name] = str(value) if name in signed else f"0x{value:x}"
        else:
            found[name] = "(fault)" if value is None else f'"{value}"'
    return found


def told(release: str) -> Iterator[tuple[str, str, dict[str, str]]]:
    """Yield time, event and values as the kernel tells them."""
    text = lzma.decompress((DIRECTORY / release / "trace.xz").read_bytes()).decode()
    for line in text.splitlines():
        if not line.startswith("#"):
            found = LINE.fullmatch(line)
            assert found is not None, line
            values = VALUE.findall(" " + found[4].partition(") ")[2])
            yield found[2], found[3], dict(values)


def page(*records: bytes, ktime_ns: int = 1000, used: int | None = None) -> bytes:
    """Return a page of the ring with these bytes."""
    data = b"".join(records)
    size = len(data) if used is None else used
    return (struct.pack("<QQ", ktime_ns, size) + data).ljust(PAGE_BYTES, b"\0")


def short(record: bytes = RECORD, delta: int = 0) -> bytes:
    """Return a record whose length is in its header."""
    return struct.pack("<I", len(record) // 4 | delta << 5) + record


def times(*records: bytes, ktime_ns: int = 1000) -> list[int]:
    """Return the times of the events in a page."""
    read = events(page(*records, ktime_ns=ktime_ns), 0, {7: SIMPLE})
    return [event.ktime_ns for event in read]


@pytest.mark.parametrize("release", RELEASES)
def test_as_the_kernel_tells_them(release: str) -> None:
    """Each event in its order, with its time and all its values."""
    expected = list(told(release))
    found = [
        (f"{event.ktime_ns / 1e9:.6f}", event.name, spelled(event))
        for event in recorded(release)
    ]
    assert [each[1:] for each in expected] == [each[1:] for each in found]
    for (seconds, *_), (other, *_) in zip(expected, found, strict=True):
        assert abs(float(seconds) - float(other)) < 2e-6


@pytest.mark.parametrize("release", RELEASES)
def test_as_often_as_the_kernel_counted(release: str) -> None:
    """By its own hits."""
    lines = (DIRECTORY / release / "kprobe_profile").read_text().splitlines()
    hits = {name: int(number) for name, number, _ in map(str.split, lines)}
    assert hits == Counter(event.name for event in recorded(release))


def test_events_without_a_format() -> None:
    """The first two of 6.1 have none and are read nevertheless."""
    assert {"d", "dr", "o"} == formats(WITHOUT_FORMATS).keys()
    assert {"m", "mr"} < {event.name for event in recorded(WITHOUT_FORMATS)}


@pytest.mark.parametrize("release", RELEASES)
def test_definitions_suffice(release: str) -> None:
    """One format file is enough, whichever, to read everything alike."""
    whole = recorded(release)
    ring = DIRECTORY / release / "per_cpu/cpu0/trace_pipe_raw.xz"
    pages = lzma.decompress(ring.read_bytes())
    for name, file in formats(release).items():
        shapes = shapes_of(definitions(release), {name: file})
        assert whole == list(events(pages, 0, shapes))


def test_values() -> None:
    """Numbers of each width, arrays, and texts by their place."""
    # 8 and 8 bytes that all have, then 2, 4, 3, 4 and 8: texts follow at 37.
    record = RECORD[:16] + struct.pack(
        "<HI3bIQ", 0xFFFE, 37 | 3 << 16, -1, 0, 1, 0, 2**64 - 1
    )
    assert {
        "common_type": 7,
        "common_pid": 42,
        "a": 0xFFFE,
        "t": "x\udcff",
        "b": (-1, 0, 1),
        "c": None,
        "d": 2**64 - 1,
    } == shape_of(DEFINITION).read(record + b"x\xff\0")


def test_times() -> None:
    """Each record's delta is added; extensions, stamps and padding carry time too."""
    extend = struct.pack("<II", 30 | 5 << 5, 2)
    stamp = struct.pack("<II", 31 | 3 << 5, 1 << 2)
    padding = struct.pack("<III", 29 | 4 << 5, 8, 0)
    assert [1007, 1010] == times(short(delta=7), short(delta=3))
    assert [1005 + (2 << 27)] == times(extend, short())
    assert [(1 << 29) + 4] == times(stamp, short(delta=1))
    above = 1 << 60
    assert [above | (1 << 29) + 3] == times(stamp, short(), ktime_ns=above + 9)
    assert [1004] == times(padding, short())


def test_long_records() -> None:
    """A record of more than 112 bytes has its length in a word of its own."""
    long = RECORD + bytes(120)
    header = struct.pack("<II", 9 << 5, len(long) + 4)
    assert [1009, 1009] == times(header, long, short())


def test_padding_ends_a_page() -> None:
    """What lies behind it is left over from before."""
    assert [1000] == times(short(), struct.pack("<I", 29), short())


def test_pages_follow_each_other() -> None:
    """An empty one between is no end; flags about losses are no length."""
    lost = 1 << 31 | 1 << 30
    pages = page(short()) + page() + page(short(), used=len(short()) | lost)
    assert 2 == len(list(events(pages, 3, {7: SIMPLE})))
    assert {3} == {event.cpu for event in events(pages, 3, {7: SIMPLE})}


def test_other_events_are_left_out() -> None:
    """Those of a number that nobody asked for."""
    assert [] == list(events(page(short()), 0, {8: SIMPLE}))


@pytest.mark.parametrize(
    "data",
    [
        pytest.param(b"\0" * 15, id="less than a head"),
        pytest.param(page(used=PAGE_BYTES), id="longer than a page"),
        pytest.param(page(short(), used=20), id="a record behind the end"),
        pytest.param(page(b"\0" * 4, used=PAGE_BYTES - 16)[:20], id="cut off"),
        pytest.param(page(short(RECORD[:4])), id="too short for an event"),
        pytest.param(page(short(RECORD[:16])), id="too short for this event"),
        pytest.param(page(struct.pack("<II", 0, 999)), id="a long one behind the end"),
    ],
)
def test_broken_pages(data: bytes) -> None:
    """One error, and no other one."""
    with pytest.raises(TraceError):
        list(events(data, 0, {7: SIMPLE}))


@given(st.binary(max_size=300), st.integers(0, 2**64 - 1), st.integers(0, 400))
def test_any_bytes(data: bytes, ktime_ns: int, used: int) -> None:
    """They give events or the one error, and always an end."""
    shapes = {7: shape_of(DEFINITION), 0: SIMPLE}
    try:
        for event in events(page(data, ktime_ns=ktime_ns, used=used), 0, shapes):
            assert event.name == "e"
    except TraceError:
        pass


@given(st.data())
def test_a_real_ring_with_errors(data: st.DataObject) -> None:
    """Changed anywhere it gives events or the one error."""
    release = data.draw(st.sampled_from(RELEASES))
    ring = DIRECTORY / release / "per_cpu/cpu0/trace_pipe_raw.xz"
    pages = bytearray(lzma.decompress(ring.read_bytes())[:PAGE_BYTES])
    for at in data.draw(st.lists(st.integers(0, 600), max_size=4)):
        pages[at] = data.draw(st.integers(0, 255))
    shapes = shapes_of(definitions(release), formats(release))
    with contextlib.suppress(TraceError):
        assert all(event.name for event in events(bytes(pages), 0, shapes))


@given(st.text())
def test_any_definition(text: str) -> None:
    """A text is one, or the one error."""
    for definition in (text, f"p:g/e f {text}", f"r64:g/e f a={text}"):
        with contextlib.suppress(TraceError):
            assert shape_of(definition).name


@pytest.mark.parametrize(
    "definition", ["", "e f", "p:e f", "p:g/e f noequals", "p:g/e f a=%di:x24"]
)
def test_what_defines_no_event(definition: str) -> None:
    """It is refused."""
    with pytest.raises(TraceError):
        shape_of(definition)


def test_group_and_name() -> None:
    """Of an entry and of a return."""
    assert ("g", "e") == name_of("p:g/e f")
    assert ("g_1", "e") == name_of("r64:g_1/e f a=%di")


def test_a_kernel_that_lays_out_events_otherwise() -> None:
    """A format file that contradicts is no event that can be read."""
    file = formats(RELEASES[0])["m"]
    shape = shape_of(definitions(RELEASES[0])[0])
    assert 1276 == number_of(file, shape)
    with pytest.raises(TraceError, match="lays out the event m otherwise"):
        number_of(file.replace("offset:16", "offset:24"), shape)
    with pytest.raises(TraceError, match="has no ID"):
        number_of(file.replace("ID:", "No:"), shape)


def test_numbers_that_are_not_in_order() -> None:
    """Then it can't be told which event is which; nor without any format."""
    release = RELEASES[0]
    files = formats(release)
    moved = files | {"d": files["d"].replace("ID: 1278", "ID: 1288")}
    with pytest.raises(TraceError, match="not in the order"):
        shapes_of(definitions(release), moved)
    with pytest.raises(TraceError, match="not in the order"):
        shapes_of(definitions(release), {})


def test_values_of_another_kind() -> None:
    """Asked for by a name that is not there, or is something else, it says so."""
    event = TraceEvent("e", 1, 0, 1, {"a": 1, "b": (1, 2), "c": "x", "d": None})
    assert (1, (1, 2)) == (event.number("a"), event.numbers("b"))
    assert ("x", None, None) == (event.text("c"), event.text("d"), event.text("e"))
    for ask, name in ((event.number, "c"), (event.numbers, "a"), (event.text, "b")):
        with pytest.raises(TraceError, match=f"no .* {name}"):
            ask(name)

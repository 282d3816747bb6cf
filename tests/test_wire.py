"""observer/wire.py: any bytes are a record, the start of one, or a WireError."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from encode import (
    encode_driver,
    encode_match,
    encode_piece,
    encode_probe,
    encode_unregister,
    encode_write,
    raw,
)
from hypothesis import example, given
from hypothesis import strategies as st
from strategies import (
    devices,
    dynid_lists,
    entries,
    matches,
    names,
    numbers,
    overrides,
    probes,
    unregisters,
    writes,
)

from observer import abi
from observer.record import (
    Device,
    Driver,
    Id,
    Inputs,
    Match,
    Outcome,
    Path,
    Probe,
    ProbeResult,
    Reason,
    Source,
    StoreFile,
    TableState,
    Task,
    Unregister,
    Write,
)
from observer.wire import Decoder, WireError

if TYPE_CHECKING:
    from random import Random

TASK = Task(pid=7, tgid=6, comm="modprobe", cpu=1)
DEVICE = Device(0x8086, 0x100E, 0x1AF4, 0x1100, 0x020000)
E1000 = Driver(1, "e1000", (Id(0x8086, 0x100E), Id(0x8086, 0x100F)))
LONG = Driver(2, "long", tuple(Id(0x8086, device) for device in range(70)))
STATIC = Outcome(Source.STATIC, 0)
MATCH = Match(5, TASK, "0000:00:02.0", False, Inputs(DEVICE, E1000), STATIC)
PROBE = Probe(
    ktime_ns=9,
    duration_ns=4,
    task=TASK,
    address="0000:00:02.0",
    driver=1,
    name="e1000",
    has_probe=True,
    path=Path.DIRECT,
    result=ProbeResult.BOUND,
    errno=None,
)
GONE = Unregister(ktime_ns=9, driver=1, name="e1000")
WRITE = Write(
    ktime_ns=9,
    duration_ns=4,
    task=TASK,
    uid=1000,
    file=StoreFile.NEW_ID,
    driver="pci-stub",
    address=None,
    text="8086 10f5\n",
    size=10,
    errno="EEXIST",
)
VALID = [
    *encode_driver(LONG),
    *encode_driver(Driver(3, "none", None)),
    encode_match(MATCH),
    encode_match(
        MATCH._replace(
            inputs=Inputs(DEVICE, E1000, (Id(1, 2), Id(3, 4)), True, "vfio-pci")
        )
    ),
    encode_probe(PROBE, 0),
    encode_unregister(GONE),
    encode_write(WRITE),
]

wire_doubts = st.sampled_from(
    [(), (Reason.OVERRIDE_CHANGED, Reason.READ_FAULT), (Reason.DYNIDS_CHANGED,)]
)
long_tables = st.lists(entries, max_size=70).map(tuple)
ended = st.sampled_from(
    [TableState.COMPLETE, TableState.TRUNCATED, TableState.UNREADABLE]
)
tableless_drivers = st.builds(
    Driver, numbers, names, st.none(), st.just(TableState.COMPLETE), st.booleans()
)
long_drivers = st.builds(Driver, numbers, names, long_tables, ended, st.booleans())


def decoder() -> Decoder:
    """Return one for kernels since 5.14."""
    return Decoder("__driver_probe_device")


def knowing(*drivers: Driver) -> Decoder:
    """Return a decoder that has seen these drivers."""
    decode = decoder()
    for driver in drivers:
        for piece in encode_driver(driver):
            decode.decode(piece)
    return decode


def patched(data: bytes, at: int, *values: int) -> bytes:
    """Return `data` with other bytes from `at` on."""
    return data[:at] + bytes(values) + data[at + len(values) :]


@given(long_drivers | tableless_drivers)
def test_driver_comes_back(driver: Driver) -> None:
    """A table in pieces becomes the driver that was sent, with its last piece."""
    decode = decoder()
    *early, last = encode_driver(driver)
    assert [None] * len(early) == [decode.decode(piece) for piece in early]
    assert driver == decode.decode(last)


@given(long_drivers, st.randoms(use_true_random=False))
def test_order_of_pieces_is_free(driver: Driver, random: Random) -> None:
    """Pieces of two uploads of a table, in any order, give one driver, once."""
    decode = decoder()
    pieces = encode_driver(driver) * 2
    random.shuffle(pieces)
    assert [driver] == [found for found in map(decode.decode, pieces) if found]


def test_fault_is_mended_by_second_upload() -> None:
    """A table that one CPU could not read and another could becomes complete."""
    decode = decoder()
    table = LONG.id_table or ()
    faulty = encode_piece(LONG, 32, table[32:40], abi.END_FAULT)
    first, second, third = encode_driver(LONG)
    unreadable = LONG._replace(id_table=table[:40], table_state=TableState.UNREADABLE)
    assert [None, unreadable, None, None, LONG] == [
        decode.decode(piece) for piece in (first, faulty, faulty, second, third)
    ]


def test_match_before_its_table() -> None:
    """While a table is under way a match has the prefix that is there."""
    decode = decoder()
    match = MATCH._replace(inputs=Inputs(DEVICE, LONG))
    first, second, _ = encode_driver(LONG)
    seen: list[Driver] = []
    for data in (encode_match(match), first, encode_match(match), second):
        record = decode.decode(data)
        if isinstance(record, Match):
            seen.append(record.inputs.driver)
    prefix = (LONG.id_table or ())[:32]
    assert [
        Driver(2, "long", None, TableState.UNKNOWN),
        Driver(2, "long", prefix, TableState.UNKNOWN),
    ] == seen


def test_missing_first_piece() -> None:
    """Without its beginning nothing of a table is known."""
    decode = decoder()
    _, second, third = encode_driver(LONG)
    assert [None, None] == [decode.decode(second), decode.decode(third)]
    record = decode.decode(encode_match(MATCH._replace(inputs=Inputs(DEVICE, LONG))))
    assert isinstance(record, Match)
    assert ((), TableState.UNKNOWN) == record.inputs.driver[2:4]


def test_another_name_is_another_driver() -> None:
    """A known number with another name means a missed registration: no table."""
    other = MATCH._replace(inputs=Inputs(DEVICE, E1000._replace(name="e1000e")))
    record = knowing(E1000).decode(encode_match(other))
    assert isinstance(record, Match)
    assert Driver(1, "e1000e", None, TableState.UNKNOWN) == record.inputs.driver


def test_unregistered_driver_is_forgotten() -> None:
    """After its unregistration a driver's number says nothing any more."""
    decode = knowing(E1000)
    assert GONE == decode.decode(encode_unregister(GONE))
    record = decode.decode(encode_match(MATCH))
    assert isinstance(record, Match)
    assert Driver(1, "e1000", None, TableState.UNKNOWN) == record.inputs.driver


def test_unregistered_pieces_are_forgotten() -> None:
    """Half a table of a driver that went away completes no other."""
    decode = decoder()
    first, second, third = encode_driver(LONG)
    gone = encode_unregister(Unregister(9, LONG.number, LONG.name))
    for data in (first, second, gone, third):
        assert not isinstance(decode.decode(data), Driver)


@given(
    matches(
        st.builds(
            Inputs, devices, st.just(E1000), dynid_lists, st.booleans(), overrides
        ),
        wire_doubts,
    )
)
def test_match_comes_back(match: Match) -> None:
    """A match of a known driver is decoded as it was written."""
    assert match == knowing(E1000).decode(encode_match(match))


def test_ids_are_unsigned() -> None:
    """PCI_ANY_ID and driver_data keep their top bit."""
    driver = E1000._replace(id_table=(Id(driver_data=0xFFFFFFFF81000000),))
    assert driver == decoder().decode(encode_driver(driver)[0])


def test_32_dynids_fit() -> None:
    """A match carries as many dynids as the hooks read."""
    inputs = Inputs(DEVICE, E1000, (Id(1, 2),) * abi.DYNIDS)
    match = MATCH._replace(inputs=inputs)
    assert match == knowing(E1000).decode(encode_match(match))


def test_noise_behind_the_nul_is_ignored() -> None:
    """What a fixed field holds behind its NUL is not part of the text."""
    data = encode_match(MATCH)
    at = data.index(b"modprobe\0") + len(b"modprobe\0")
    assert MATCH == knowing(E1000).decode(patched(data, at, 0xA5, 0, 0xA5))


def named(name: str, driver_override: str | None) -> Match:
    """Decode a match of a driver and a device with these texts."""
    driver = Driver(1, name, ())
    match = MATCH._replace(inputs=Inputs(DEVICE, driver, (), True, driver_override))
    record = knowing(driver).decode(encode_match(match))
    assert isinstance(record, Match)
    return record


@pytest.mark.parametrize(
    ("driver_override", "doubts"),
    [
        ("n" * 63, (Reason.READ_FAULT,)),
        ("n" * 70, (Reason.READ_FAULT,)),
        ("n" * 62, ()),
        ("vfio-pci", ()),
        (None, ()),
    ],
)
def test_cut_name(driver_override: str | None, doubts: tuple[Reason, ...]) -> None:
    """A name that fills its buffer may go on: equal to an override is unknowable."""
    assert doubts == named("n" * 63, driver_override).doubts


def test_name_cut_inside_a_character() -> None:
    """The comparison of a cut name is one of bytes."""
    name = ("n" * 62 + "é").encode()[:63].decode("utf-8", "surrogateescape")
    assert (Reason.READ_FAULT,) == named(name, "n" * 62 + "é").doubts


def test_cut_override_differs_from_every_name() -> None:
    """An override longer than any name can't equal one, cut or not."""
    assert () == named("n" * 62, "n" * 127).doubts


def test_doubt_is_not_told_twice() -> None:
    """A read fault of the hooks and a cut name are one doubt."""
    driver = Driver(1, "n" * 63, ())
    match = MATCH._replace(
        inputs=Inputs(DEVICE, driver, (), True, "n" * 63), doubts=(Reason.READ_FAULT,)
    )
    assert match == knowing(driver).decode(encode_match(match))


def nameless(flags: int) -> bytes:
    """Return a match without a name."""
    data = encode_match(MATCH)[: abi.MATCH.size]
    data = patched(data, 2, abi.MATCH.size)
    return patched(data, NAME_SIZE_AT - 2, flags, 0, 0)


def test_unreadable_name() -> None:
    """A name that could not be read leaves the driver that the number tells."""
    record = knowing(E1000).decode(nameless(abi.MATCH_READ_FAULT))
    assert MATCH._replace(doubts=(Reason.READ_FAULT,)) == record


def test_unreadable_name_of_unknown_driver() -> None:
    """... or else a driver without a name."""
    record = decoder().decode(nameless(abi.MATCH_READ_FAULT))
    assert isinstance(record, Match)
    assert Driver(1, "", None, TableState.UNKNOWN) == record.inputs.driver


@given(probes.map(lambda p: p._replace(result=ProbeResult.BOUND, errno=None)))
def test_probe_comes_back(probe: Probe) -> None:
    """A probe is decoded as it was written."""
    assert probe == decoder().decode(encode_probe(probe, 0))


def test_probe_is_read_by_the_hooked_function() -> None:
    """The same number means the opposite on kernels up to 5.13."""
    old = Decoder("driver_probe_device")
    assert PROBE == old.decode(encode_probe(PROBE, 1))
    refused = PROBE._replace(result=ProbeResult.REFUSED)
    assert refused == old.decode(encode_probe(PROBE, 0))


@given(unregisters)
def test_unregister_comes_back(unregister: Unregister) -> None:
    """An unregistration is decoded as it was written."""
    assert unregister == decoder().decode(encode_unregister(unregister))


@given(writes())
def test_write_comes_back(write: Write) -> None:
    """A write is decoded as it was written, with its errno by name."""
    assert write == decoder().decode(encode_write(write))


def test_any_success_is_one() -> None:
    """A store function may take fewer bytes than it was given, or none."""
    data = encode_write(WRITE)
    for taken in (0, 1, 10):
        answer = decoder().decode(patched(data, RET_AT, taken, *[0] * 7))
        assert WRITE._replace(errno=None) == answer


def test_unreadable_text() -> None:
    """A text that could not be read is empty, and the size tells that it was not."""
    data = sized(patched(encode_write(WRITE), TEXT_SIZE_AT, 0)[: -len(WRITE.text)])
    assert WRITE._replace(text="") == decoder().decode(data)


def test_unreadable_name_of_a_write() -> None:
    """A driver whose name could not be read has an empty one."""
    name = len("pci-stub") + 1
    data = patched(encode_write(WRITE), WRITE_NAME_SIZE_AT, 0)
    data = sized(data[: abi.WRITE.size] + data[abi.WRITE.size + name :])
    assert WRITE._replace(driver="") == decoder().decode(data)


INDEX_AT, SOURCE_AT = 76, 78
RET_AT, FILE_AT, WRITE_NAME_SIZE_AT, TEXT_SIZE_AT = 48, 76, 77, 78
FLAGS_AT, DYNIDS_AT, NAME_SIZE_AT = 79, 80, 81
FIRST_AT, COUNT_AT, END_AT, DRIVER_FLAGS_AT, DRIVER_NAME_AT = 24, 28, 30, 31, 32
PATH_AT, PROBE_FLAGS_AT, PROBE_NAME_AT = 80, 81, 88
match_bytes = encode_match(MATCH)
piece_bytes = encode_driver(E1000)[0]
none_bytes = encode_driver(Driver(3, "none", None))[0]
probe_bytes = encode_probe(PROBE, 0)
unregister_bytes = encode_unregister(GONE)
write_bytes = encode_write(WRITE)


def sized(data: bytes) -> bytes:
    """Return `data` with its true size in its head."""
    return patched(data, 2, *len(data).to_bytes(2, "little"))


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "0 bytes are no record"),
        (b"\x02" * 23, "23 bytes are no record"),
        (match_bytes + b"\0", "a record of 94 bytes in 95"),
        (match_bytes[:-1], "a record of 94 bytes in 93"),
        (patched(match_bytes, 0, 9), "unknown kind of record 9"),
        (patched(match_bytes, 0, 0), "unknown kind of record 0"),
        (sized(match_bytes[:87]), "a match of 87 bytes"),
        (sized(match_bytes + b"\0"), "not as long as its tail"),
        (patched(match_bytes, DYNIDS_AT, 1), "not as long as its tail"),
        (patched(match_bytes, FLAGS_AT, 0x20), "a match with flags 0x20"),
        (nameless(0), "without its driver's name"),
        (patched(match_bytes, SOURCE_AT, 5), "source 5 and index 0"),
        (patched(match_bytes, INDEX_AT, 0xFE, 0xFF), "source 1 and index -2"),
        (patched(match_bytes, INDEX_AT, 0xFF, 0xFF), "source static and index -1"),
        (patched(match_bytes, SOURCE_AT, 0), "source none and index 0"),
        (patched(match_bytes, SOURCE_AT, 3), "source override and index 0"),
        (patched(match_bytes, len(match_bytes) - 1, 1), "doesn't end at its NUL"),
        (patched(match_bytes, len(match_bytes) - 3, 0), "doesn't end at its NUL"),
        (patched(match_bytes, 48, *b"x" * 16), "a text without its NUL"),
        (sized(piece_bytes[:95]), "a driver of 95 bytes"),
        (sized(piece_bytes + b"\0"), "a driver of 1377 bytes with 2 entries"),
        (sized(piece_bytes[:175]), "a driver of 175 bytes with 2 entries"),
        (patched(piece_bytes, COUNT_AT, 33), "a driver of 1376 bytes with 33 entries"),
        (patched(piece_bytes, FIRST_AT, 0xFF, 0x7F), "an entry at 32768"),
        (patched(piece_bytes, END_AT, 5), "a driver with end 5 and flags 0x1"),
        (patched(piece_bytes, DRIVER_FLAGS_AT, 3), "a driver with end 1 and flags 0x3"),
        (patched(none_bytes, END_AT, abi.END_MORE), "and more to come"),
        (patched(piece_bytes, END_AT, abi.END_NULL), "entries of no table"),
        (patched(piece_bytes, DRIVER_NAME_AT, *b"x" * 64), "a text without its NUL"),
        (sized(probe_bytes + b"\0"), "a probe of 153 bytes"),
        (patched(probe_bytes, PATH_AT, 0), "path 0 and flags 0x1"),
        (patched(probe_bytes, PATH_AT, 3), "path 3 and flags 0x1"),
        (patched(probe_bytes, PROBE_FLAGS_AT, 2), "path 2 and flags 0x2"),
        (patched(probe_bytes, PROBE_NAME_AT, *b"x" * 64), "a text without its NUL"),
        (sized(unregister_bytes[:87]), "an unregister of 87 bytes"),
        (patched(unregister_bytes, 24, *b"x" * 64), "a text without its NUL"),
        (sized(write_bytes[:79]), "a write of 79 bytes"),
        (sized(write_bytes + b"\0"), "a write of 100 bytes with 9 of a name"),
        (sized(write_bytes[:-1]), "a write of 98 bytes with 9 of a name"),
        (patched(write_bytes, FILE_AT, 6), "file 6 that returned -17"),
        (patched(write_bytes, RET_AT, 0, 0xF0), "file 0 that returned -4096"),
        (patched(write_bytes, RET_AT + 7, 0x80), "file 0 that returned -9151"),
        (encode_write(WRITE._replace(size=9)), "of 9 bytes with 10 of text"),
        (
            encode_write(WRITE._replace(size=4096, text="x" * 129)),
            "of 4096 bytes with 129 of text",
        ),
        (encode_write(WRITE._replace(driver="x" * 64)), "with 65 of a name"),
        (patched(write_bytes, 80, *b"x" * 9), "a text that doesn't end at its NUL"),
        (patched(write_bytes, 32, *b"x" * 16), "a text without its NUL"),
    ],
)
def test_what_is_no_record(data: bytes, message: str) -> None:
    """Each broken size, count, tag, flag or text is named."""
    with pytest.raises(WireError, match=message):
        decoder().decode(data)


def long_tail(dynids: int, name: bytes, override: bytes) -> bytes:
    """Return a match with a tail of our making."""
    data = encode_match(MATCH)[: abi.MATCH.size]
    data = patched(data, DYNIDS_AT, dynids, len(name), len(override))
    return sized(data + b"\0" * dynids * abi.ID.size + name + override)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (long_tail(33, b"e1000\0", b""), "a match with 33 dynids"),
        (long_tail(0, b"n" * 64 + b"\0", b""), "texts of 65, 0 bytes"),
        (long_tail(0, b"e1000\0", b"o" * 128 + b"\0"), "texts of 6, 129 bytes"),
    ],
)
def test_more_than_a_match_carries(data: bytes, message: str) -> None:
    """Counts beyond record.h's limits are refused even when the size fits them."""
    with pytest.raises(WireError, match=message):
        decoder().decode(data)


def test_broken_unregister_forgets_nothing() -> None:
    """Only a valid record changes what the decoder knows."""
    decode = knowing(E1000)
    with pytest.raises(WireError):
        decode.decode(patched(unregister_bytes, 24, *b"x" * 64))
    assert MATCH == decode.decode(encode_match(MATCH))


def survives(data: bytes) -> None:
    """Decode twice; only a WireError may come out."""
    decode = knowing(E1000)
    for _ in range(2):
        try:
            decode.decode(data)
        except WireError:
            continue


@given(st.binary(max_size=256))
@example(b"")
def test_any_bytes(data: bytes) -> None:
    """Random bytes are a record or a WireError."""
    survives(data)
    survives(sized(data.ljust(4, b"\0")))


@given(
    st.sampled_from(VALID),
    st.lists(st.tuples(st.integers(0, 1400), st.integers(0, 255)), max_size=8),
    st.integers(0, 1400),
    st.booleans(),
)
def test_mutated_records(
    data: bytes,
    changes: list[tuple[int, int]],
    end: int,
    resized: bool,  # noqa: FBT001 - from Hypothesis
) -> None:
    """Valid records with some bytes changed, cut anywhere, are one or the other."""
    for at, value in changes:
        if at < len(data):
            data = patched(data, at, value)
    data = data[: max(end, 4)]
    survives(sized(data) if resized else data)


def test_text_is_bijective() -> None:
    """Bytes that are no UTF-8 become text from which they can be had again."""
    raw_name = b"\xff\xc3\xa9\x80"
    name = raw_name.decode("utf-8", "surrogateescape")
    assert raw_name + b"\0" == raw(named(name, None).inputs.driver.name)

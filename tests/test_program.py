"""observer/program.py: compiled programs as data, and their maps in and out."""

from __future__ import annotations

import json
import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from observer.program import (
    Code,
    Map,
    Program,
    ProgramError,
    markers,
    put_in_constants,
    put_in_maps,
    take_out_constants,
    take_out_maps,
)

LD_IMM64, MAP_FD = 0x18, 1
EXIT = struct.pack("<BBhi", 0x95, 0, 0, 0)
NAMES = {5: "events", 6: "counters", 1000: "calls"}
DESCRIPTORS = {name: descriptor for descriptor, name in NAMES.items()}

s32 = st.integers(-(1 << 31), (1 << 31) - 1)
s16 = st.integers(-(1 << 15), (1 << 15) - 1)
byte = st.integers(0, 255)


def load_map(descriptor: int, second: bytes = bytes(8)) -> bytes:
    """Return the instruction that loads a map into r1."""
    return struct.pack("<BBhi", LD_IMM64, 1 | MAP_FD << 4, 0, descriptor) + second


ordinary = st.builds(
    lambda opcode, *rest: struct.pack("<BBhi", opcode, *rest),
    byte.filter(lambda opcode: opcode != LD_IMM64),
    *(byte, s16, s32),
)
load_number = st.builds(
    lambda register, number, second: (
        struct.pack("<BBhi", LD_IMM64, register, 0, number) + second
    ),
    *(st.integers(0, 15), s32, st.binary(min_size=8, max_size=8)),
)
load_some_map = st.builds(
    load_map, st.sampled_from(list(NAMES)), st.binary(min_size=8, max_size=8)
)
programs = st.lists(ordinary | load_number | load_some_map, max_size=12).map(b"".join)

maps = st.builds(Map, st.text(max_size=15), *[st.integers(0, 1 << 31)] * 5)
codes = st.builds(
    Code,
    st.binary(max_size=64),
    *[st.lists(st.tuples(st.integers(0, 1 << 16), st.text())).map(tuple)] * 2,
)


@given(programs)
def test_maps_out_and_in(instructions: bytes) -> None:
    """The same descriptors put in give the same instructions."""
    code = take_out_maps(instructions, NAMES)
    assert instructions == put_in_maps(code, DESCRIPTORS)


@given(programs)
def test_nothing_of_a_descriptor_remains(instructions: bytes) -> None:
    """Code does not depend on the numbers that the maps had when it was compiled."""
    code = take_out_maps(instructions, NAMES)
    moved = {descriptor + 40: name for descriptor, name in NAMES.items()}
    elsewhere = put_in_maps(code, {name: number for number, name in moved.items()})
    assert code == take_out_maps(elsewhere, moved)


def test_references() -> None:
    """Each load of a map is noted by its offset, and zeroed."""
    code = take_out_maps(EXIT + load_map(6) + load_map(5) + EXIT, NAMES)
    assert ((8, "counters"), (24, "events")) == code.maps
    assert EXIT + load_map(0) + load_map(0) + EXIT == code.instructions


def test_second_word_is_no_instruction() -> None:
    """A number whose upper half looks like a load of a map is a number."""
    number = struct.pack("<BBhi", LD_IMM64, 1, 0, 0) + load_map(5)[:8]
    assert Code(number, ()) == take_out_maps(number, NAMES)


def test_unknown_map() -> None:
    """A reference to a map that nobody knows is a bug, and seen at once."""
    with pytest.raises(KeyError):
        take_out_maps(load_map(7), NAMES)


@given(st.lists(maps).map(tuple), st.dictionaries(st.text(), codes))
def test_round_trip(maps: tuple[Map, ...], codes: dict[str, Code]) -> None:
    """A program goes through JSON and comes back equal."""
    program = Program(maps, codes)
    assert program == Program.from_dict(json.loads(json.dumps(program.as_dict())))


MARKED = markers(["DRV_NAME", "BUS_NAME"])
MOV, ADD = 0xB7, 0x07


def immediate(opcode: int, value: int) -> bytes:
    """Return an operation on r1 and a number."""
    return struct.pack("<BBhi", opcode, 1, 0, value)


def test_markers_differ() -> None:
    """Each name has its own, whatever the order of names."""
    assert 2 == len(set(MARKED.values()))
    assert MARKED == markers(["BUS_NAME", "DRV_NAME"])


@given(st.integers(-(1 << 31), 0x5EEC_FFFF), st.integers(0, 0x5EEC_FFFF))
def test_constants(name: int, bus: int) -> None:
    """Each value gets where its marker was, as often as it was there."""
    values = {"DRV_NAME": name, "BUS_NAME": bus, "MORE": 1}
    order = ("DRV_NAME", "BUS_NAME", "DRV_NAME")

    def program(numbers: dict[str, int]) -> bytes:
        return b"".join(immediate(MOV, numbers[each]) for each in order) + EXIT

    code = take_out_constants(Code(program(MARKED), ()), MARKED)
    assert tuple(zip((0, 8, 16), order, strict=True)) == code.constants
    assert Code(program(values), ()) == put_in_constants(code, values)


def test_folded_marker() -> None:
    """What the compiler made something else of is no place for a value."""
    for folded in (
        immediate(ADD, MARKED["DRV_NAME"]),
        immediate(MOV, MARKED["DRV_NAME"] + 8),
        struct.pack("<BBhiBBhi", LD_IMM64, 1, 0, 0, 0, 0, 0, MARKED["BUS_NAME"]),
    ):
        with pytest.raises(ProgramError, match="a marker in instruction"):
            take_out_constants(Code(EXIT + folded, ()), MARKED)


def test_marker_that_is_left() -> None:
    """A program with a hole is never loaded."""
    code = Code(immediate(MOV, MARKED["DRV_NAME"]), ())
    with pytest.raises(ProgramError, match="a marker is left in instruction 0"):
        put_in_constants(code, {})
    with pytest.raises(ProgramError, match="no value for BUS_NAME"):
        put_in_constants(code._replace(constants=((0, "BUS_NAME"),)), {"DRV_NAME": 1})

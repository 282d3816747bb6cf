"""observer/model/hex_fields.py: the kernel's sscanf() of "%x %x ..."."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from observer.model.hex_fields import Overflow, scan


@pytest.mark.parametrize(
    ("text", "numbers"),
    [
        ("8086 10f5", (0x8086, 0x10F5)),
        ("8086 10f5\n", (0x8086, 0x10F5)),
        ("0x8086 0X10F5", (0x8086, 0x10F5)),
        ("8086\n10f5", (0x8086, 0x10F5)),
        (" \t\n\v\f\r8086\t \n10f5", (0x8086, 0x10F5)),
        ("\udca08086\udca010f5", (0x8086, 0x10F5)),  # the byte 0xa0
        ("0x 10f5", (0, 0x10F5)),  # a prefix alone is a zero
        ("0x", (0,)),
        ("00000000000000000000000000001", (1,)),
        ("8086 10f5 junk", (0x8086, 0x10F5)),
        ("8086 10f5junk 5", (0x8086, 0x10F5)),
        ("8086 10f5\0 5", (0x8086, 0x10F5)),
        ("8086,10f5", (0x8086,)),
        ("8086:10f5", (0x8086,)),
        ("0x0x5", (0,)),
        ("00x5 6", (0,)),
        ("-1 5", ()),
        ("+1 5", ()),
        ("8086 -5", (0x8086,)),
        ("\u00a08086", ()),  # in UTF-8 it has another byte first
        ("\u0668", ()),  # digits of other scripts are none
        ("", ()),
        (" ", ()),
        ("x", ()),
        ("1 2 3 4 5 6 7 8 9", (1, 2, 3, 4, 5, 6, 7)),
    ],
)
def test_scan(text: str, numbers: tuple[int, ...]) -> None:
    """Hexadecimal numbers apart by blanks, up to what is none."""
    assert numbers == scan(text, 7, Overflow.WRAP)


@pytest.mark.parametrize(
    ("text", "wrapped", "saturated"),
    [
        ("ffffffffffffffff", 0xFFFFFFFFFFFFFFFF, 0xFFFFFFFFFFFFFFFF),
        ("10000000000000000", 0, 0xFFFFFFFFFFFFFFFF),
        ("0x11234567800000001 ", 0x1234567800000001, 0xFFFFFFFFFFFFFFFF),
        ("0" * 40 + "5", 5, 5),
    ],
)
def test_more_than_64_bits(text: str, wrapped: int, saturated: int) -> None:
    """Up to 6.18 the upper bits are lost; in 7.3 all bits are set."""
    assert (wrapped,) == scan(text, 7, Overflow.WRAP)
    assert (saturated,) == scan(text, 7, Overflow.SATURATE)


@given(st.text(), st.integers(0, 7), st.sampled_from(Overflow))
def test_any_text(text: str, most: int, overflow: Overflow) -> None:
    """Any text gives at most as many numbers as were asked for, each of 64 bits."""
    numbers = scan(text, most, overflow)
    assert len(numbers) <= most
    assert all(0 <= number < 1 << 64 for number in numbers)


@given(st.lists(st.integers(0, (1 << 64) - 1), max_size=7), st.sampled_from(Overflow))
def test_numbers_come_back(numbers: list[int], overflow: Overflow) -> None:
    """What is spelled in 64 bits is read as it was meant, on every kernel."""
    text = " ".join(f"{number:x}" for number in numbers)
    assert tuple(numbers) == scan(text, 7, overflow)

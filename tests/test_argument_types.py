"""observer/argument_types.py: what a word means, and what is said of a wrong one."""

from __future__ import annotations

from argparse import ArgumentTypeError
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from observer import argument_types as types

if TYPE_CHECKING:
    from collections.abc import Callable


@pytest.mark.parametrize(
    ("type_", "word", "value"),
    [
        (types.path, "a/b", Path("a/b")),
        (types.address, "[::1]:9817", "[::1]:9817"),
        (types.textfile, "a.prom", Path("a.prom")),
        (types.ring_bytes, "4096", 4096),
        (types.ring_bytes, "1073741824", 1 << 30),
        (types.interval, "0.1", 0.1),
        (types.interval, "3600", 3600),
        (types.number_from(8), "8", 8),
        (types.number_from(8), "1000000", 1_000_000),
        (types.number_within(2, 3), "3", 3),
        (types.class_codes, "02,0C03,010802", ("02", "0c03", "010802")),
        (types.vendor_ids, "0x8086,0x1", (0x8086, 1)),
    ],
)
def test_meant(type_: Callable[[str], object], word: str, value: object) -> None:
    """What is on the edge of a range is within it."""
    assert value == type_(word)


@pytest.mark.parametrize(
    ("type_", "word", "said"),
    [
        (types.path, "", "an empty name is no path"),
        (types.address, "x", "'x' is no address to listen on: "),
        (types.textfile, "a.txt", "a.txt: the collector reads files whose name ends"),
        (types.ring_bytes, "2048", "2048 is no power of two from 4096 to 1073741824"),
        (types.ring_bytes, "4097", "4097 is no power of two from 4096 to 1073741824"),
        (types.ring_bytes, "2147483648", "2147483648 is no power of two from 4096"),
        (types.interval, "0.09", "0.09 is not within 0.1 and 3600"),
        (types.interval, "nan", "nan is not within 0.1 and 3600"),
        (types.number_from(8), "7", "7 is not within 8 and 1000000"),
        (types.number_from(8), "1000001", "1000001 is not within 8 and 1000000"),
        (types.number_within(2, 3), "4", "4 is not within 2 and 3"),
        (types.class_codes, "02,0x03", "'0x03' is no class code: write 02, 0302"),
        (types.vendor_ids, "0x8086,", "'' is no vendor id as 0x8086"),
    ],
)
def test_refused(type_: Callable[[str], object], word: str, said: str) -> None:
    """Said in one line, with the word."""
    with pytest.raises(ArgumentTypeError) as refused:
        type_(word)
    assert str(refused.value).startswith(said)
    assert "\n" not in str(refused.value)

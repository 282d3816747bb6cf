"""The types of the command's arguments: what a word means, or what is wrong with it.

All raise argparse.ArgumentTypeError; ValueError for a number that is none.
"""

from __future__ import annotations

import argparse
import re
from pathlib import Path
from typing import TYPE_CHECKING, Final

from observer import listening

if TYPE_CHECKING:
    from collections.abc import Callable

_PAGE: Final = 4096
_LARGEST_RING: Final = 1 << 30  # bytes
_MOST: Final = 1_000_000  # days or MiB of history


def path(text: str) -> Path:
    """Return a path; the empty one would be the working directory."""
    if not text:
        raise argparse.ArgumentTypeError("an empty name is no path")
    return Path(text)


def address(text: str) -> str:
    """Return an address to listen on."""
    try:
        return listening.check(text)
    except listening.ListenError as e:
        raise argparse.ArgumentTypeError(str(e)) from e


def textfile(text: str) -> Path:
    """Return the path of a file that node_exporter's textfile collector reads."""
    if not text.endswith(".prom"):
        raise argparse.ArgumentTypeError(
            f"{text}: the collector reads files whose name ends in .prom"
        )
    return Path(text)


def ring_bytes(text: str) -> int:
    """Return a ring's size: the kernel takes powers of two from a page on."""
    value = int(text)
    if not _PAGE <= value <= _LARGEST_RING or value & (value - 1):
        raise argparse.ArgumentTypeError(
            f"{text} is no power of two from {_PAGE} to {_LARGEST_RING}"
        )
    return value


def interval(text: str) -> float:
    """Return seconds, from a tenth to an hour."""
    value = float(text)
    if not 0.1 <= value <= 3600:  # noqa: PLR2004 - an hour
        raise argparse.ArgumentTypeError(f"{text} is not within 0.1 and 3600")
    return value


def number_from(least: int) -> Callable[[str], int]:
    """Return the type of whole numbers from `least` on, of days or MiB."""
    return number_within(least, _MOST)


def number_within(least: int, most: int) -> Callable[[str], int]:
    """Return the type of whole numbers within these."""

    def number(text: str) -> int:
        value = int(text)
        if not least <= value <= most:
            raise argparse.ArgumentTypeError(f"{text} is not within {least} and {most}")
        return value

    return number


def class_codes(text: str) -> tuple[str, ...]:
    """Return class codes, of one to three bytes each, in lower case."""
    codes = tuple(text.lower().split(","))
    for code in codes:
        if not re.fullmatch("([0-9a-f]{2}){1,3}", code):
            raise argparse.ArgumentTypeError(
                f"{code!r} is no class code: write 02, 0302 or 010802"
            )
    return codes


def vendor_ids(text: str) -> tuple[int, ...]:
    """Return vendor ids, written as sysfs does."""
    for each in text.split(","):
        if not re.fullmatch("0x[0-9A-Fa-f]{1,4}", each):
            raise argparse.ArgumentTypeError(f"{each!r} is no vendor id as 0x8086")
    return tuple(int(each, 16) for each in text.split(","))

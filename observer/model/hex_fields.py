"""The kernel's sscanf() of hexadecimal fields, as new_id and remove_id use it."""

from __future__ import annotations

import re
from enum import StrEnum
from typing import Final

U32: Final = 0xFFFFFFFF
U64: Final = 0xFFFFFFFFFFFFFFFF

# Blanks are those of C, and the byte 0xa0 (here as Python decodes it); "0x" may stand
# without a digit behind it. No sign: to %x, "-1" is no number.
_FIELD: Final = re.compile(r"[\t-\r \udca0]*(?:0[xX]([0-9a-fA-F]*)|([0-9a-fA-F]+))")


class Overflow(StrEnum):
    """What becomes of a number that is wider than 64 bits."""

    WRAP = "wrap"  # its low 64 bits count
    SATURATE = "saturate"  # all ones: seen in 7.3.4, not yet in 6.18.15


def scan(text: str, most: int, overflow: Overflow) -> tuple[int, ...]:
    """Return the numbers `text` begins with, at most `most`, each 64 bits wide.

    Bytes that are no text are lone surrogates, as of os.fsdecode(). A NUL ends the
    text, as does everything else that is no hexadecimal digit.
    """
    numbers: list[int] = []
    place = 0
    while len(numbers) < most and (field := _FIELD.match(text, place)):
        number = int(field[1] or field[2] or "0", 16)
        if number > U64:
            number = U64 if overflow is Overflow.SATURATE else number & U64
        numbers.append(number)
        place = field.end()
    return tuple(numbers)

"""Write small BTF blobs, so that a test can say what it is about."""

from __future__ import annotations

import struct
from itertools import chain
from typing import NamedTuple

from btf_trim import STRUCT

UNION, ENUM, FWD, TYPEDEF, FUNC, PROTO = 5, 6, 7, 8, 12, 13
INT_32 = 1  # every blob begins with this type


class Kind(NamedTuple):
    """A type to be written, with its elements: tuples, or words that stand alone."""

    kind: int
    name: str = ""
    value: int = 0  # size, or the id of another type
    elements: tuple[tuple[str | int, ...], ...] = ()
    words: tuple[int, ...] = ()
    flag: int = 0  # kind_flag
    linkage: int = 0


def integer(name: str = "int", bits: int = 32, offset: int = 0, size: int = 4) -> Kind:
    """Write an INT."""
    return Kind(1, name, size, words=(offset << 16 | bits,))


def record(name: str, *members: tuple[str | int, ...], flag: int = 0) -> Kind:
    """Write a struct of 64 bytes; a member is (name, type, bits)."""
    return Kind(STRUCT, name, 64, members, flag=flag)


def blob(*kinds: Kind) -> bytes:
    """Write BTF whose type 1 is a plain int, and 2 and so on are `kinds`."""
    text, types = b"\0", b""

    def word(item: str | int) -> int:
        nonlocal text
        if isinstance(item, int):
            return item
        at = len(text) if item else 0
        text += item.encode() + b"\0" if item else b""
        return at

    for kind in (integer(), *kinds):
        info = kind.flag << 31 | kind.kind << 24 | (len(kind.elements) or kind.linkage)
        items = (kind.name, info, kind.value, *chain(*kind.elements), *kind.words)
        types += struct.pack(f"<{len(items)}I", *map(word, items))
    return sections(types, text)


def sections(types: bytes, text: bytes, length: int = 24, *extra: int) -> bytes:
    """Write a header, types and strings."""
    fields = 0xEB9F, 1, 0, length, 0, len(types), len(types), len(text), *extra
    return struct.pack(f"<HBB{5 + len(extra)}I", *fields) + types + text

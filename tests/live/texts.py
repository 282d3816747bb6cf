"""Sequences of writes that were thought out, not drawn: spellings and duplicates."""

from __future__ import annotations

from typing import Final

from live.world import Write

STUB: Final = "pci-stub"

# Each is written to new_id; the model says whether it is taken, and as which id.
SPELLINGS: Final = (
    "",
    "\n",
    "8086",
    "8086 ",
    "8086 10f5\n",
    "8086\n10f5",
    "0x8086 0X10F5",
    "0x 10f5",
    "0x0x5 7",
    "0xg 1",
    "8086,10f5",
    "8086:10f5",
    "-1 5",
    "+1 5",
    "8086 -5",
    "8086 10f5 junk",
    "8086 10f5junk",
    "  \t\v\f\r\n8086 10f5",
    "\udca08086\udca010f5",
    "\u00a08086 10f5",
    "8086 10f5\0 5 6",
    "1123456789abc 1",
    "ffffffff0000abcd 3",
    "ffffffffffffffff 3",
    "11234567800000001 2",
    "10000000000000000a 4",
    "a 10000000000000000",
    "0x00000000000000000000000000000001 7",
    "8086 1 2 3 4 5 6 7 8",
    "8086 1 0x 0x 0x",
    "a" * 4100 + " 5",
    "9" * 20 + " " + "0" * 4060 + "1 5",
    "8086" + " " * 4090 + "10f5",
    "8086" + " " * 4088 + "10f5",
    "0 0",
)

DUPLICATES: Final = (
    ("10de 1", "10de 1", "10de 1 5 6", "10de 1 ffffffff ffffffff 0 0 0"),
    ("10de 1 5 6", "10de 1", "10de 1", "10de 1 5 7", "10de 1 10005 6"),
    ("110de 1", "110de 1", "10de 1", "110de 1"),
    ("10de 1", "110de 1", "10de 10001", "10de 1 10005"),
    ("10de 1 5 6 020000 ffff00", "10de 1 5 6 020001 ffffff", "10de 1 5 6 030000"),
    ("10de ffffffff", "10de 5", "10de ffff", "ffffffff 5", "10df 5", "0 5"),
    ("10de 1 ffff ffff", "10de 1", "10df 1", "10df 1 ffff ffff"),
    ("10de 1 2 3 4 5 6", "10de 1 2 3 4 5 6", "10de 1 2 3 4 5"),
    ("0 0", "0 0", "0 0 0 0 0 0", "0 0 0 0 0 0 0"),
)

TABLES: Final = (
    ("e1000", "8086 100e"),
    ("e1000", "18086 100e"),
    ("e1000", "8086 1100e"),
    ("e1000", "8086 100e 1 2 3"),
    ("e1000", "8086 100e ffffffff ffffffff 0 0"),
    ("e1000", "8086 100e ffffffff ffffffff 0 0 0"),
    ("e1000", "8086 100e ffffffff ffffffff 0 0 5"),
    ("e1000", "8086 9999 0 0 0 0 1"),
    ("ahci", "1 2 3 4 010601"),
    ("ahci", "1 2 3 4 010601 0 ffff"),
    ("ahci", "1 2 3 4 0 0 1"),
    ("ahci", "1 2 3 4 010601 0 1"),
    ("vfio-pci", "1 2 3 4 5 6 7"),
    ("vfio-pci", "1 2 3 4 5 6 0"),
    ("vfio-pci", "1 2"),
    ("virtio-pci", "1af4 ffff"),
    ("virtio-pci", "11af4 ffff"),
    ("shpchp", "1 2 3 4 060400"),
)

# Dynids that are there, then what is written to remove_id.
REMOVALS: Final = (
    (("1 2 3 4", "1 2"), ("1 2", "1 2", "1 2")),
    (("1 2 3 4",), ("1 2 3", "1 2 3 4")),
    (("1 2 3 4",), ("1 2 3 5", "1 2 ffffffff 4")),
    (("1 2",), ("1 2 3 4", "1 ffffffff", "ffffffff 2", "1 2 ffffffff ffffffff")),
    (("1 2 3 4 010600 ffff00",), ("1 2 3 4 010601 ffffff", "1 2 3 4 010601 ffff00")),
    (("1 2 3 4 010600 ffff00",), ("1 2 3 4 5 6 7",)),
    (("1 2 3 4 010600 ffff00",), ("1 2 3 4 020000",)),
    (("1 2",), ("10001 2", "1", "", "\n", "1 -2", "1 2 junk")),
    (("110de 1",), ("10de 1", "110de 1")),
)


def _spellings() -> tuple[tuple[Write, ...], ...]:
    return tuple((Write("new_id", STUB, text),) for text in SPELLINGS)


def _duplicates() -> tuple[tuple[Write, ...], ...]:
    return tuple(
        tuple(Write("new_id", owner, text) for text in texts)
        for texts in DUPLICATES
        for owner in (STUB, "vfio-pci", "ahci")
    )


def _tables() -> tuple[tuple[Write, ...], ...]:
    """Write each twice: the second one finds the first."""
    return tuple((Write("new_id", *case),) * 2 for case in TABLES)


def _removals() -> tuple[tuple[Write, ...], ...]:
    return tuple(
        (
            *(Write("new_id", STUB, text) for text in new),
            *(Write("remove_id", STUB, text) for text in removed),
        )
        for new, removed in REMOVALS
    )


TEXTS: Final = (*_spellings(), *_duplicates(), *_tables(), *_removals())

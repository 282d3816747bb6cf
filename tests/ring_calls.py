"""Events of the tracing ring as a kernel of a layout records them."""

from __future__ import annotations

import struct
from itertools import count
from typing import TYPE_CHECKING, Final

from observer.boot_args import DYNIDS
from observer.boot_trace import TraceEvent
from observer.record import Device, Id

if TYPE_CHECKING:
    from observer.boot_trace import Value
    from observer.layout import Layout

DRIVER: Final = 0xFFFF_8000_0000_1000  # address of a struct pci_driver
TABLE: Final = 0xFFFF_8000_0000_2000
COPY: Final = 0xFFFF_8000_0000_3000
ANY: Final = 0xFFFF_8000_0000_4000
NODES: Final = 0xFFFF_8000_0001_0000  # of dynids, a page each
ADDRESS: Final = "0000:00:02.0"
IDS: Final = Device(0x8086, 0x100E, 0x1AF4, 0x1100, 0x020000)
ENTRY_NS: Final = 1000
NO_ID: Final = Id()
_stacks = count(0x7000, 0x100)


def words(entry: Id) -> tuple[int, ...]:
    """Return the beginning of a struct pci_device_id as three numbers."""
    return struct.unpack("<3Q", struct.pack("<6I", *entry[:6]))


def node(place: int) -> int:
    """Return the address of a dynid in its list."""
    return NODES + place * 0x1000


def match(
    layout: Layout,
    ret: int = 0,
    *,
    found: Id = NO_ID,
    dynids: tuple[Id, ...] = (),
    pid: int = 1,
    **changed: Value,
) -> list[TraceEvent]:
    """Return entry and return of pci_match_device, 10 ns later."""
    stack = next(_stacks)
    override = changed.get("ov")
    values: dict[str, Value] = {
        "sp": stack,
        "drv": DRIVER,
        "dev": 0x5000,
        "comm": "swapper/0",
        "name": "e1000",
        "tbl": TABLE,
        "addr": ADDRESS,
        "bus": 0x6000,
        **dict(zip(("ven", "did", "sven", "sdid", "cls"), IDS, strict=True)),
        "vf": 0,
        "ovp": 0x9000 if override is not None else 0,
        "ov": None,
    }
    if layout.match_args == 3:
        values["copy"] = COPY
    head = DRIVER + layout.offsets["DRV_DYNIDS"]
    ring = [*(node(place) for place in range(len(dynids))), head]
    for place in range(DYNIDS + 1):
        values[f"n{place}"] = ring[place % len(ring)]
        if place < DYNIDS:
            here = place % len(ring)
            values[f"i{place}"] = (
                words(dynids[here]) if here < len(dynids) else (0,) * 3
            )
    entry_ns = changed.pop("ktime_ns", ENTRY_NS)
    assert isinstance(entry_ns, int)
    entry = TraceEvent("m", entry_ns, 0, pid, values | changed)
    answer: dict[str, Value] = {"sp": stack + 8, "ret": ret, "id": words(found)}
    return [entry, TraceEvent("mr", entry_ns + 10, 1, pid, answer)]


def probe(layout: Layout, ret: int, **changed: Value) -> list[TraceEvent]:
    """Return entry and return of the function that probes, 500 ns later."""
    stack = next(_stacks)
    driver = DRIVER + layout.offsets["DRV_DRIVER"]
    values: dict[str, Value] = {
        "sp": stack,
        "drv": driver,
        "dev": 0x50C8,
        "comm": "modprobe",
        "bus": "pci",
        "name": "e1000",
        "addr": ADDRESS,
        "probe": 0xA000,
    }
    entry = TraceEvent("d", ENTRY_NS, 0, 9, values | changed)
    answer: dict[str, Value] = {"sp": stack + 8, "ret": ret}
    return [entry, TraceEvent("dr", ENTRY_NS + 500, 1, 9, answer)]


def outer(layout: Layout) -> TraceEvent:
    """Return the entry of driver_probe_device before that probe."""
    driver = DRIVER + layout.offsets["DRV_DRIVER"]
    values: dict[str, Value] = {"drv": driver, "dev": 0x50C8}
    return TraceEvent("o", ENTRY_NS - 1, 0, 9, values)

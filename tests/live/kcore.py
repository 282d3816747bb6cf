"""The drivers of the PCI bus by /proc/kcore: what the observer says, from elsewhere.

Nothing here is the observer's: memory is read through another file, types by the other
reader of BTF, and the bus is found by its name.
"""

from __future__ import annotations

import os
import re
import struct
from pathlib import Path
from typing import TYPE_CHECKING, Any

from btf_trim import MODIFIERS, STRUCT, UNION, Reader

if TYPE_CHECKING:
    from collections.abc import Iterator


class Types:
    """Offsets and sizes of structs."""

    def __init__(self) -> None:
        """Read the running kernel's BTF."""
        self.reader = Reader(Path("/sys/kernel/btf/vmlinux").read_bytes())
        names = "bus_type kset kobject subsys_private klist klist_node driver_private"
        names += " pci_driver pci_dynid pci_device_id module"
        found = self.reader.find(STRUCT, names.split())
        self.ids = {
            self.reader[i].name: i for i in reversed(found) if self.reader[i].body
        }

    def size(self, name: str) -> int:
        """Return a struct's size."""
        return self.reader[self.ids[name]].value

    def at(self, name: str, path: str) -> int:
        """Return the offset of a.b.c; raise KeyError when there is none."""
        type_id, offset = self.ids[name], 0
        for member in path.split("."):
            while self.reader[type_id].kind in MODIFIERS:
                type_id = self.reader[type_id].value
            members = self._members(type_id)
            type_id, more = {name: (kind, bits) for name, kind, bits in members}[member]
            offset += more
        return offset // 8

    def _members(self, type_id: int) -> Iterator[tuple[str, int, int]]:
        outer = self.reader[type_id]
        for name, inner, bits in struct.iter_unpack("<III", outer.body):
            if outer.info >> 31:
                bits &= 0xFFFFFF  # noqa: PLW2901 - the rest is a bit-field's width
            text = self.reader.text(name)
            kind = self.reader[inner].kind if inner else 0
            if not text and kind in {STRUCT, UNION}:
                for deep, deeper, more in self._members(inner):
                    yield deep, deeper, bits + more
            else:
                yield text, inner, bits


class Kcore:
    """Kernel memory."""

    def __init__(self) -> None:
        """Find the segments."""
        self.file = os.open("/proc/kcore", os.O_RDONLY)
        head = os.pread(self.file, 64, 0)
        (table,) = struct.unpack_from("<Q", head, 32)
        size, count = struct.unpack_from("<HH", head, 54)
        parts = os.pread(self.file, size * count, table)
        self.segments = []
        for at in range(0, size * count, size):
            kind, _, offset, start, _, length = struct.unpack_from("<IIQQQQ", parts, at)
            if kind == 1:
                self.segments.append((start, start + length, offset))

    def bytes(self, at: int, size: int) -> bytes:
        """Read memory."""
        for start, end, offset in self.segments:
            if start <= at and at + size <= end:
                return os.pread(self.file, size, offset + at - start)
        raise LookupError(hex(at))

    def pointer(self, at: int) -> int:
        """Read a pointer."""
        return int.from_bytes(self.bytes(at, 8), "little")

    def text(self, at: int) -> str:
        """Read a text."""
        data = b""
        while b"\0" not in data:
            data += self.bytes(at + len(data), 1)
        return os.fsdecode(data[:-1])


def drivers() -> list[dict[str, Any]]:
    """Read name, module, table and dynids of each driver, in the bus's order."""
    types, memory = Types(), Kcore()

    def chain(head: int) -> Iterator[int]:
        node = memory.pointer(head)
        while node != head:
            yield node
            node = memory.pointer(node)

    size = types.size("pci_device_id")

    def entry(at: int) -> list[int]:
        data = memory.bytes(at, size)
        only = struct.unpack_from("<I", data, 32) if size > 32 else (0,)
        return [*struct.unpack_from("<6IQ", data), *only]

    def table(at: int) -> Iterator[list[int]]:
        while any((found := entry(at))[place] for place in (0, 2, 5)):
            yield found
            at += size

    offset = types.at
    in_driver = offset("pci_driver", "driver")
    head = _bus(types, memory) + offset("subsys_private", "klist_drivers.k_list")
    node_at = offset("driver_private", "knode_bus.n_node")
    result = []
    for node in chain(head):
        device_driver = memory.pointer(
            node - node_at + offset("driver_private", "driver")
        )
        at = device_driver - in_driver
        owner = memory.pointer(at + offset("pci_driver", "driver.owner"))
        ids = memory.pointer(at + offset("pci_driver", "id_table"))
        links = chain(at + offset("pci_driver", "dynids.list"))
        dynid = offset("pci_dynid", "id") - offset("pci_dynid", "node")
        result.append(
            {
                "name": memory.text(memory.pointer(at + offset("pci_driver", "name"))),
                "module": memory.text(owner + offset("module", "name"))
                if owner
                else None,
                "id_table": [*table(ids)] if ids else None,
                "dynids": [entry(link + dynid) for link in links],
                "has_probe": memory.pointer(at + offset("pci_driver", "probe")) != 0,
            }
        )
    return result


def symbols() -> dict[int, list[str]]:
    """Return the kernel's symbols by address."""
    found: dict[int, list[str]] = {}
    for line in Path("/proc/kallsyms").read_text().splitlines():
        address, _, name = line.split()[:3]
        found.setdefault(int(address, 16), []).append(name)
    return found


def _bus(types: Types, memory: Kcore) -> int:
    """Find the private part of the bus called pci."""
    table = Path("/proc/kallsyms").read_text()

    def symbol(name: str) -> int:
        (found,) = re.findall(rf"(?m)^(\w+) \w {name}$", table)
        return int(found, 16)

    try:
        return memory.pointer(symbol("pci_bus_type") + types.at("bus_type", "p"))
    except KeyError:
        pass
    head = memory.pointer(symbol("bus_kset")) + types.at("kset", "list")
    node = memory.pointer(head)
    while node != head:
        entry = types.at("subsys_private", "subsys.kobj") + types.at("kobject", "entry")
        name = types.at("subsys_private", "subsys.kobj") + types.at("kobject", "name")
        if memory.text(memory.pointer(node - entry + name)) == "pci":
            return node - entry
        node = memory.pointer(node)
    raise LookupError("pci")

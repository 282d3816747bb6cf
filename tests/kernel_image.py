"""Kernel memory that a test writes: a PCI bus with drivers, laid out as in some BTF."""

from __future__ import annotations

import struct
from pathlib import Path
from typing import TYPE_CHECKING

from observer.btf import Btf

if TYPE_CHECKING:
    from collections.abc import Sequence

    from observer.record import Id

BTF = Path(__file__).parent / "btf"
PCI_BUS, BUS_KSET = 0xFFFFFFFF82000000, 0xFFFFFFFF82100000
CUT = 0xFFFFFFFFFFFFFFF2  # no address


def btf_of(release: str) -> Btf:
    """Read a fixture."""
    return Btf((BTF / f"{release}.btf").read_bytes())


class Image:
    """Bytes by page. What was never written can't be read."""

    def __init__(self, btf: Btf) -> None:
        """Hold nothing yet."""
        self.btf = btf
        self.pages: dict[int, bytearray] = {}
        self.runs = 0
        self._next = 0xFFFF888000000000

    def allocate(self, size: int, *, before_page_end: int | None = None) -> int:
        """Make room in pages of its own, filled with zeros."""
        at = self._next
        if before_page_end is not None:
            at += 4096 - before_page_end
        self._next += (size // 4096 + 3) * 4096  # the page behind stays unmapped
        self.write(at, bytes(size))
        return at

    def write(self, at: int, data: bytes) -> None:
        """Write, where nothing was mapped too."""
        for place, byte in enumerate(data, at):
            page = self.pages.setdefault(place >> 12, bytearray(4096))
            page[place & 4095] = byte

    def put(self, at: int, *values: int) -> None:
        """Write 64-bit numbers."""
        self.write(at, struct.pack(f"<{len(values)}Q", *values))

    def get(self, at: int) -> int:
        """Read a 64-bit number."""
        (data,) = self.read([(at, 8)])
        assert data is not None
        return int.from_bytes(data, "little")

    def unmap(self, at: int) -> None:
        """Let reads of this page fail."""
        del self.pages[at >> 12]

    def read(self, requests: Sequence[tuple[int, int]]) -> list[bytes | None]:
        """Read as KernelMemory does."""
        self.runs += 1
        return [self._one(at, length) for at, length in requests]

    def _one(self, at: int, length: int) -> bytes | None:
        assert 0 < length <= 4096
        first = self.pages.get(at >> 12)
        second = self.pages.get((at + length - 1) >> 12)
        if first is None or second is None:
            return None
        both = first + second if first is not second else first
        return bytes(both[at & 4095 :][:length])

    def at(self, name: str, *path: str) -> int:
        """Return a member's offset."""
        offset = self.btf.offset(name, *path)
        assert offset is not None
        return offset

    def size(self, name: str) -> int:
        """Return a struct's size."""
        size = self.btf.size(name)
        assert size is not None
        return size

    def text(self, text: bytes) -> int:
        """Write a text; return where."""
        at = self.allocate(len(text) + 1)
        self.write(at, text)
        return at

    def link(self, head: int, nodes: Sequence[int]) -> None:
        """Make a list of these struct list_head."""
        ring = [head, *nodes]
        for place, node in enumerate(ring):
            self.put(node, ring[(place + 1) % len(ring)], ring[place - 1])

    def id(self, entry: Id) -> bytes:
        """Spell a struct pci_device_id."""
        data = struct.pack("<6IQ", *entry[:7])
        if self.btf.has_member("pci_device_id", "override_only"):
            data += struct.pack("<I", entry.override_only)
        return data.ljust(self.size("pci_device_id"), b"\0")


class Bus(Image):
    """A PCI bus; add drivers, then `seal` it."""

    def __init__(self, btf: Btf) -> None:
        """Write the bus, among others where bus_kset leads to it."""
        super().__init__(btf)
        self.drivers: dict[str, int] = {}
        self.privates: dict[str, int] = {}
        self.tables: dict[str, int] = {}
        self.dynids: dict[str, list[int]] = {}
        self.write(PCI_BUS, bytes(512))
        self.subsys = self.allocate(self.size("subsys_private"))
        self.put(self.subsys + self.at("subsys_private", "bus"), PCI_BUS)
        self.symbols = {"pci_bus_type": PCI_BUS}
        if self.btf.has_member("bus_type", "p"):
            self.put(PCI_BUS + self.at("bus_type", "p"), self.subsys)
            return
        self.symbols["bus_kset"] = BUS_KSET
        self.kset = self.allocate(self.size("kset"))
        self.put(BUS_KSET, self.kset)
        other = self.allocate(self.size("subsys_private"))
        entry = self.at("subsys_private", "subsys", "kobj") + self.at(
            "kobject", "entry"
        )
        head = self.kset + self.at("kset", "list")
        self.link(head, [other + entry, self.subsys + entry])

    @property
    def klist(self) -> int:
        """Where klist_drivers is."""
        return self.subsys + self.at("subsys_private", "klist_drivers")

    @property
    def node(self) -> int:
        """Where links are in struct driver_private."""
        return self.at("driver_private", "knode_bus") + self.at("klist_node", "n_node")

    @property
    def list_of_dynids(self) -> int:
        """Where it is in struct pci_driver."""
        return self.at("pci_driver", "dynids", "list")

    def add(
        self,
        name: str,
        table: Sequence[Id] | None = None,
        dynids: Sequence[Id] = (),
        *,
        module: str | None = None,
        probe: bool = True,
    ) -> int:
        """Register a driver."""
        at = self.allocate(self.size("pci_driver"))
        private = self.allocate(self.size("driver_private"))
        self.drivers[name], self.privates[name] = at, private
        self.put(private + self.at("driver_private", "driver"), at + self.driver)
        klist = self.at("driver_private", "knode_bus") + self.at(
            "klist_node", "n_klist"
        )
        self.put(private + klist, self.klist)
        in_driver = {
            "p": private,
            "bus": PCI_BUS,
            "name": self.text(name.encode(errors="surrogateescape")),
            "owner": self.module(module) if module else 0,
        }
        for member, value in in_driver.items():
            self.put(at + self.at("pci_driver", "driver", member), value)
        self.put(at + self.at("pci_driver", "probe"), 0xFFFFFFFF81000000 * probe)
        if table is not None:
            data = b"".join(map(self.id, table)) + bytes(self.size("pci_device_id"))
            self.tables[name] = self.allocate(len(data))
            self.write(self.tables[name], data)
            self.put(at + self.at("pci_driver", "id_table"), self.tables[name])
        self.dynids[name] = [self.dynid(entry) for entry in dynids]
        self.link(at + self.list_of_dynids, self.dynids[name])
        self.seal()
        return at

    @property
    def driver(self) -> int:
        """Where struct device_driver is in struct pci_driver."""
        return self.at("pci_driver", "driver")

    def module(self, name: str) -> int:
        """Load a module."""
        at = self.allocate(self.size("module"))
        self.write(at + self.at("module", "name"), name.encode())
        return at

    def dynid(self, entry: Id) -> int:
        """Make a dynid; return where its links are."""
        at = self.allocate(self.size("pci_dynid"))
        self.write(at + self.at("pci_dynid", "id"), self.id(entry))
        return at + self.at("pci_dynid", "node")

    def seal(self) -> None:
        """Put all drivers on the bus, in the order in which they were added."""
        head = self.klist + self.at("klist", "k_list")
        self.link(head, [private + self.node for private in self.privates.values()])

"""The PCI bus in kernel memory: its drivers, and its own store functions.

Pure: what reads memory is given, so are the types and the addresses of symbols. The
kernel goes on meanwhile, and no lock of its is held. So nothing is believed that does
not point back to where it was found, or that a second look does not confirm.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Generator, Mapping, Sequence
from typing import TYPE_CHECKING, Final, NamedTuple, TypeVar

from observer.machine import Origin, PciDriver
from observer.record import Driver, Id, StoreFile, TableState
from observer.text import printable

if TYPE_CHECKING:
    from observer.btf import Btf

_Result = TypeVar("_Result")

# Reads (address, length) each, at most 4096 bytes; None for what can't be read whole.
# An address may be any number.
Read = Callable[[Sequence[tuple[int, int]]], Sequence[bytes | None]]
# Something that is read step by step: yields a request and is sent its answer.
_Reading = Generator[tuple[int, int], bytes | None, _Result]
# Returns where the end lies in these bytes, at or behind this place; else -1.
_End = Callable[[bytearray, int], int]

# What the functions here want to know the addresses of; not all kernels have each.
SYMBOLS: Final = (
    "pci_bus_type",
    "bus_kset",
    "driver_override_dev_group",
    "driver_attr_bind",
    "driver_attr_unbind",
    "bus_attr_drivers_probe",
)
ATTEMPTS: Final = 5
TABLE_ENTRIES: Final = 65_536  # of an id_table that are read

_PAGE: Final = 4096
_TEXT: Final = 64  # bytes of a text that are read at once
_LONGEST: Final = 4096  # bytes of a text, and of a list of pointers
_LIST: Final = 16_384  # a longer list has no end
_POINTER: Final = struct.Struct("<Q")
_LINKS: Final = struct.Struct("<QQ")  # struct list_head: next, prev
_DYING: Final = 1  # a bit of n_klist


class BusError(Exception):
    """The drivers can't be read at all; the sentence says why."""


class Place(NamedTuple):
    """Where a registered driver is in the kernel: addresses that don't leave root."""

    at: int  # of its struct pci_driver
    private: int  # of its struct driver_private
    id_table: int  # 0: it has none


class Registered(NamedTuple):
    """The drivers in kernel memory."""

    drivers: tuple[PciDriver, ...]  # in the order of registration
    gaps: tuple[str, ...]  # what could not be read, a sentence each
    places: tuple[Place, ...]  # in the same order


def registered(btf: Btf, read: Read, symbols: Mapping[str, int]) -> Registered:
    """Read all registered PCI drivers with their tables and dynids.

    What changes while it is read is read again, a few times. Raises BusError.
    """
    if "pci_bus_type" not in symbols:
        raise BusError(
            "the address of the kernel's symbol pci_bus_type is not known; the sysctl "
            "kernel.kptr_restrict may hide it"
        )
    bus = _Bus(_Shape(btf), read, symbols)
    found, reason = None, ""
    for _ in range(ATTEMPTS):
        try:
            found = bus.look()
        except _RaceError as e:
            reason = str(e)
        else:
            if not found.gaps:
                break
    if found is None:
        raise BusError(f"the kernel's list of PCI drivers can't be followed: {reason}")
    return found


def store_functions(
    btf: Btf, read: Read, symbols: Mapping[str, int]
) -> dict[StoreFile, int]:
    """Find the addresses of the functions that PCI's files of sysfs call on a write.

    Those of bind, unbind and drivers_probe serve every bus; so does driver_override's
    from kernels that have `driver_override_dev_group` on. What can't be found is left
    out.
    """
    try:
        return _together(read, [_stores(btf, symbols)])[0]
    except BusError:
        return {}


def _stores(btf: Btf, symbols: Mapping[str, int]) -> _Reading[dict[StoreFile, int]]:
    attrs, name = _at(btf, "attribute_group", "attrs"), _at(btf, "attribute", "name")
    of_device = _at(btf, "device_attribute", "store")
    of_driver = of_bus = _at(btf, "driver_attribute", "store")  # structs alike
    bus = symbols.get("pci_bus_type", 0)
    drivers = yield from _groups(bus + _at(btf, "bus_type", "drv_groups"))
    devices = yield from _groups(bus + _at(btf, "bus_type", "dev_groups"))
    devices += [symbols.get("driver_override_dev_group", 0)]
    new_ids = yield from _attributes(drivers, attrs)
    overrides = yield from _attributes(devices, attrs)
    found: dict[StoreFile, int] = {}
    for file, attributes, store in (
        (StoreFile.NEW_ID, new_ids, of_driver),
        (StoreFile.REMOVE_ID, new_ids, of_driver),
        (StoreFile.DRIVER_OVERRIDE, overrides, of_device),
        (StoreFile.BIND, [symbols.get("driver_attr_bind", 0)], of_driver),
        (StoreFile.UNBIND, [symbols.get("driver_attr_unbind", 0)], of_driver),
        (StoreFile.DRIVERS_PROBE, [symbols.get("bus_attr_drivers_probe", 0)], of_bus),
    ):
        for attribute in attributes:
            text = yield from _text((yield from _pointer(attribute + name)))
            function = yield from _pointer(attribute + store)
            if text == file and function:
                found.setdefault(file, function)
    return found


def _groups(at: int) -> _Reading[list[int]]:
    return (yield from _pointers((yield from _pointer(at))))


def _attributes(groups: Sequence[int], attrs: int) -> _Reading[list[int]]:
    """Read the attributes of these groups; one of binary ones alone has none."""
    found = []
    for group in groups:
        found += yield from _groups(group + attrs)
    return found


class _RaceError(Exception):
    """What was read does not fit together: it changed meanwhile, or is broken."""


class _Driver(NamedTuple):
    """A struct pci_driver: addresses that tell whether it is still the same."""

    at: int
    name: int
    owner: int
    probe: int
    id_table: int
    dynids: tuple[int, int]  # first and last


class _Bus:
    """The PCI bus of a running kernel."""

    def __init__(self, shape: _Shape, read: Read, symbols: Mapping[str, int]) -> None:
        self._shape = shape
        self._read = read
        self._at = symbols["pci_bus_type"]
        self._kset = symbols.get("bus_kset", 0)

    def look(self) -> Registered:
        """Read the drivers, and believe those that are the same afterwards.

        Raises _RaceError when their list can't be followed.
        """
        before = self._drivers()
        found = _together(self._read, [*map(self._describe, before.values())])
        after = self._drivers()
        drivers: list[PciDriver] = []
        gaps: list[str] = []
        places: list[Place] = []
        for (private, driver), (known, unread) in zip(
            before.items(), found, strict=True
        ):
            if driver is not None and known and driver == after.get(private):
                drivers.append(known)
                gaps += unread
                places.append(Place(driver.at, private, driver.id_table))
        if missing := len(after) - len(drivers):
            gaps.append(
                f"{missing} of {len(after)} registered PCI drivers could not be read "
                "in kernel memory, or came meanwhile."
            )
        return Registered(tuple(drivers), tuple(gaps), tuple(places))

    def _drivers(self) -> dict[int, _Driver | None]:
        """Read the registered drivers by the address of their driver_private."""
        (nodes,) = _together(self._read, [self._nodes()])
        drivers = _together(self._read, [self._driver(*node) for node in nodes])
        return {
            private: driver for (private, _), driver in zip(nodes, drivers, strict=True)
        }

    def _nodes(self) -> _Reading[list[tuple[int, int]]]:
        """Follow the klist: each driver_private and its device_driver."""
        shape = self._shape
        klist = (yield from self._subsys()) + shape.klist
        head = klist + shape.klist_head
        found = []
        for private, data in (yield from _list(head, shape.node, shape.private_bytes)):
            owner = _number(data, shape.node_klist)
            if owner & ~_DYING != klist:
                raise _RaceError("a driver is on another list")
            if not owner & _DYING:
                found.append((private, _number(data, shape.node_driver)))
        return found

    def _subsys(self) -> _Reading[int]:
        """Find the bus's struct subsys_private."""
        shape = self._shape
        if shape.bus_p is not None:
            subsys = yield from _pointer(self._at + shape.bus_p)
            if (yield from _pointer(subsys + shape.subsys_bus)) == self._at:
                return subsys
            raise _RaceError("pci_bus_type's private part does not point back to it")
        head = (yield from _pointer(self._kset)) + shape.kset_list
        size = shape.subsys_bus + _POINTER.size
        for subsys, data in (yield from _list(head, shape.subsys_entry, size)):
            if _number(data, shape.subsys_bus) == self._at:
                return subsys
        raise _RaceError("pci_bus_type is not among the buses in bus_kset")

    def _driver(self, private: int, device_driver: int) -> _Reading[_Driver | None]:
        """Read a struct pci_driver; None for one that doesn't point back."""
        shape = self._shape
        at = device_driver - shape.driver
        data = yield at, shape.driver_bytes
        if data is None:
            return None
        if _number(data, shape.private) != private:
            return None
        if _number(data, shape.bus) != self._at:
            return None
        return _Driver(
            at,
            _number(data, shape.name),
            _number(data, shape.owner),
            _number(data, shape.probe),
            _number(data, shape.id_table),
            _LINKS.unpack_from(data, shape.dynids),
        )

    def _describe(
        self, driver: _Driver | None
    ) -> _Reading[tuple[PciDriver | None, list[str]]]:
        """Read all that a driver points to; what could not be read, a sentence each."""
        if driver is None:
            return None, []
        name = yield from _text(driver.name)
        module = None
        if driver.owner:
            module = yield from _text(driver.owner + self._shape.module_name)
        if name is None or (driver.owner and module is None):
            return None, []
        table, state = yield from self._table(driver.id_table)
        dynids = yield from self._dynids(driver)
        gaps = []
        if state is TableState.UNREADABLE:
            gaps.append(f"The id_table of {printable(name)} could not be read whole.")
        if state is TableState.TRUNCATED:
            gaps.append(
                f"The id_table of {printable(name)} is longer than {TABLE_ENTRIES} "
                "entries; the others are unknown."
            )
        if dynids is None:
            gaps.append(f"The dynids of {printable(name)} could not be read.")
        known = Driver(0, name, table, state, bool(driver.probe))
        return PciDriver(known, Origin.KERNEL_MEMORY, dynids, module), gaps

    def _table(self, at: int) -> _Reading[tuple[tuple[Id, ...] | None, TableState]]:
        if not at:
            return None, TableState.COMPLETE
        limit = (TABLE_ENTRIES + 1) * self._shape.entry.size
        end = self._shape.end_of_table
        data, state = yield from _until(at, end, step=_PAGE, limit=limit)
        return self._shape.ids(data)[:TABLE_ENTRIES], state

    def _dynids(self, driver: _Driver) -> _Reading[tuple[Id, ...] | None]:
        """Read the dynids; None for a list that can't be followed."""
        shape = self._shape
        head = driver.at + shape.dynids
        try:
            nodes = yield from _list(head, shape.dynid_node, shape.dynid_bytes)
        except _RaceError:
            return None
        size = shape.entry.size
        ids = b"".join(data[shape.dynid_id :][:size] for _, data in nodes)
        return shape.ids(ids)


class _Shape:
    """Where things lie in this kernel's structures, in bytes."""

    def __init__(self, btf: Btf) -> None:
        """Raise BusError when something is missing."""
        # Up to 6.2 (upstream) struct bus_type leads to its struct subsys_private.
        self.bus_p = btf.offset("bus_type", "p")
        self.kset_list = _at(btf, "kset", "list")
        kobject = _at(btf, "subsys_private", "subsys", "kobj")
        self.subsys_entry = kobject + _at(btf, "kobject", "entry")
        self.subsys_bus = _at(btf, "subsys_private", "bus")
        self.klist = _at(btf, "subsys_private", "klist_drivers")
        self.klist_head = _at(btf, "klist", "k_list")
        # of struct driver_private
        knode = _at(btf, "driver_private", "knode_bus")
        self.node = knode + _at(btf, "klist_node", "n_node")
        self.node_klist = knode + _at(btf, "klist_node", "n_klist")
        self.node_driver = _at(btf, "driver_private", "driver")
        self.private_bytes = _size(btf, "driver_private")
        # of struct pci_driver
        self.driver = _at(btf, "pci_driver", "driver")
        self.private = _at(btf, "pci_driver", "driver", "p")
        self.bus = _at(btf, "pci_driver", "driver", "bus")
        self.owner = _at(btf, "pci_driver", "driver", "owner")
        self.name = _at(btf, "pci_driver", "driver", "name")
        self.probe = _at(btf, "pci_driver", "probe")
        self.id_table = _at(btf, "pci_driver", "id_table")
        self.dynids = _at(btf, "pci_driver", "dynids", "list")
        self.driver_bytes = _size(btf, "pci_driver")
        self.module_name = _at(btf, "module", "name")
        self.dynid_node = _at(btf, "pci_dynid", "node")
        self.dynid_id = _at(btf, "pci_dynid", "id")
        self.dynid_bytes = _size(btf, "pci_dynid")
        self.entry = _entry(btf)

    def ids(self, data: bytes) -> tuple[Id, ...]:
        """Read the whole struct pci_device_id in `data`."""
        whole = len(data) - len(data) % self.entry.size
        return tuple(Id(*fields) for fields in self.entry.iter_unpack(data[:whole]))

    def end_of_table(self, data: bytearray, start: int) -> int:
        """Find the terminating entry of an id_table."""
        size = self.entry.size
        for at in range(start - start % size, len(data) - size + 1, size):
            vendor, _, subvendor, _, _, mask, *_ = self.entry.unpack_from(data, at)
            if not (vendor or subvendor or mask):
                return at
        return -1


def _entry(btf: Btf) -> struct.Struct:
    """Return struct pci_device_id, and what follows it up to the next one."""
    only = btf.offset("pci_device_id", "override_only")
    form = "<6IQ" if only is None else f"<6IQ{max(0, only - 32)}xI"
    padding = _size(btf, "pci_device_id") - struct.calcsize(form)
    if padding < 0 or _at(btf, "pci_device_id", "driver_data") != struct.calcsize("6I"):
        raise BusError("this kernel's struct pci_device_id is of an unknown shape")
    return struct.Struct(f"{form}{padding}x")


def _at(btf: Btf, name: str, *path: str) -> int:
    offset = btf.offset(name, *path)
    if offset is None:
        member = ".".join((name, *path))
        raise BusError(f"this kernel's type information lacks {member}")
    return offset


def _size(btf: Btf, name: str) -> int:
    size = btf.size(name)
    if size is None or size > _PAGE:
        raise BusError(f"this kernel's type information has no usable struct {name}")
    return size


def _together(read: Read, readings: Sequence[_Reading[_Result]]) -> list[_Result]:
    """Do all these in step, so that one run reads a request of each."""
    results: dict[int, _Result] = {}
    answers: dict[int, bytes | None] = dict.fromkeys(range(len(readings)))
    while answers:
        requests = {}
        for place, answer in answers.items():
            try:
                requests[place] = readings[place].send(answer)
            except StopIteration as end:
                results[place] = end.value
        answers = {}
        if requests:
            answers = dict(zip(requests, read([*requests.values()]), strict=True))
    return [results[place] for place in range(len(readings))]


def _number(data: bytes | bytearray, at: int) -> int:
    return int(_POINTER.unpack_from(data, at)[0])


def _pointer(at: int) -> _Reading[int]:
    """Read a pointer; null where it can't be read."""
    data = yield at, _POINTER.size
    return _number(data, 0) if data else 0


def _list(head: int, links: int, size: int) -> _Reading[list[tuple[int, bytes]]]:
    """Read the structs of a list, their links lying within; raise _RaceError."""
    data = yield head, _LINKS.size
    if data is None:
        raise _RaceError("a list could not be read")
    node, end = _LINKS.unpack(data)
    last = head
    found: list[tuple[int, bytes]] = []
    while node != head:
        data = yield node - links, size
        if data is None or len(found) == _LIST:
            raise _RaceError("a list leads nowhere")
        following, back = _LINKS.unpack_from(data, links)
        if back != last:
            raise _RaceError("the links of a list do not agree")
        found.append((node - links, data))
        last, node = node, following
    if last != end:
        raise _RaceError("a list grew")
    return found


def _text(at: int) -> _Reading[str | None]:
    """Read a text; None where it can't be read up to its NUL."""

    def end(data: bytearray, start: int) -> int:
        return data.find(b"\0", start)

    data, state = yield from _until(at, end, step=_TEXT, limit=_LONGEST)
    if state is not TableState.COMPLETE:
        return None
    return data.decode("utf-8", "surrogateescape")


def _pointers(at: int) -> _Reading[list[int]]:
    """Read pointers up to a null; none where they can't be read up to it."""

    def end(data: bytearray, start: int) -> int:
        size = _POINTER.size
        places = range(start - start % size, len(data) - size + 1, size)
        return next((place for place in places if not _number(data, place)), -1)

    data, state = yield from _until(at, end, step=_TEXT, limit=_LONGEST)
    if state is not TableState.COMPLETE:
        return []
    return [pointer for (pointer,) in _POINTER.iter_unpack(data)]


def _until(
    at: int, find_end: _End, *, step: int, limit: int
) -> _Reading[tuple[bytes, TableState]]:
    """Read up to an end, in steps of which none crosses into another page."""
    data = bytearray()
    while len(data) < limit:
        scanned = len(data)
        length = min(step, _PAGE - (at + scanned) % _PAGE, limit - scanned)
        piece = yield at + scanned, length
        if piece is None:
            return bytes(data), TableState.UNREADABLE
        data += piece
        end = find_end(data, scanned)
        if end >= 0:
            return bytes(data[:end]), TableState.COMPLETE
    return bytes(data), TableState.TRUNCATED

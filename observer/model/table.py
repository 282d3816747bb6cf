"""An id_table, arranged so that few of its entries need to be looked at."""

from __future__ import annotations

from collections import defaultdict
from functools import lru_cache
from typing import TYPE_CHECKING

from observer.record import PCI_ANY_ID, Device, Id

if TYPE_CHECKING:
    from collections.abc import Sequence

TABLES = 512  # kept arranged; a machine has fewer PCI drivers


def is_terminator(entry: Id) -> bool:
    """Tell whether the kernel's walk through a table ends at this entry."""
    return not (entry.vendor or entry.subvendor or entry.class_mask)


class Table:
    """The entries of one id_table up to its terminator."""

    def __init__(self, id_table: tuple[Id, ...]) -> None:
        """Arrange the entries by the vendor and device they name."""
        self.entries = id_table
        self.terminated = False  # by an entry inside the table
        self._exact: defaultdict[tuple[int, int], list[int]] = defaultdict(list)
        self._of_vendor: defaultdict[int, list[int]] = defaultdict(list)
        self._of_any_vendor: list[int] = []
        for place, entry in enumerate(id_table):
            if is_terminator(entry):
                self.terminated = True
                break
            self._places_like(entry).append(place)

    def _places_like(self, entry: Id) -> list[int]:
        if entry.vendor == PCI_ANY_ID:
            return self._of_any_vendor
        if entry.device == PCI_ANY_ID:
            return self._of_vendor[entry.vendor]
        return self._exact[entry.vendor, entry.device]

    def candidates(self, device: Device) -> Sequence[int]:
        """Return the places of all entries that may fit `device`, in table order."""
        exact = self._exact.get((device.vendor, device.device), ())
        of_vendor = self._of_vendor.get(device.vendor, ())
        if not (of_vendor or self._of_any_vendor):
            return exact
        return sorted((*exact, *of_vendor, *self._of_any_vendor))


class _Same:
    """A table as a key that equals only itself, for hashing all entries is slow."""

    __slots__ = ("id_table",)

    def __init__(self, id_table: tuple[Id, ...]) -> None:
        self.id_table = id_table

    def __hash__(self) -> int:
        return id(self.id_table)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Same) and self.id_table is other.id_table


def table_of(id_table: tuple[Id, ...]) -> Table:
    """Return `id_table` arranged, from memory when it was seen not long ago."""
    return _arranged(_Same(id_table))


@lru_cache(maxsize=TABLES)
def _arranged(key: _Same) -> Table:
    return Table(key.id_table)

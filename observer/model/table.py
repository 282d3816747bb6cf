"""An id_table, arranged so that its hits are found without walking through it.

To fit a device is to be equal to it in some bits: all 32 of each field that is no
wildcard, and those of the class that class_mask selects. So each entry is one number of
160 bits and a mask, and the entries of one mask are found together, by one look-up.
"""

from __future__ import annotations

from functools import lru_cache
from itertools import chain
from typing import TYPE_CHECKING

from observer.record import PCI_ANY_ID, Device, Id

if TYPE_CHECKING:
    from collections.abc import Sequence

TABLES = 512  # kept arranged; a machine has fewer PCI drivers

_Masks = dict[int, dict[int, list[int]]]  # places of entries by mask and number


def is_terminator(entry: Id) -> bool:
    """Tell whether the kernel's walk through a table ends at this entry."""
    return not (entry.vendor or entry.subvendor or entry.class_mask)


class Table:
    """The entries of one id_table up to its terminator."""

    def __init__(self, id_table: tuple[Id, ...]) -> None:
        """Arrange the entries by the vendor and device, then by the mask they have."""
        self.entries = id_table
        self.terminated = False  # by an entry inside the table
        self._exact: dict[tuple[int, int], _Masks] = {}
        self._of_vendor: dict[int, _Masks] = {}
        self._of_any_vendor: _Masks = {}
        for place, entry in enumerate(id_table):
            if is_terminator(entry):
                self.terminated = True
                break
            mask = _mask(entry)
            by_number = self._masks_like(entry).setdefault(mask, {})
            by_number.setdefault(_number(entry) & mask, []).append(place)

    def _masks_like(self, entry: Id) -> _Masks:
        if entry.vendor == PCI_ANY_ID:
            return self._of_any_vendor
        if entry.device == PCI_ANY_ID:
            return self._of_vendor.setdefault(entry.vendor, {})
        return self._exact.setdefault((entry.vendor, entry.device), {})

    def hits(self, device: Device) -> Sequence[int]:
        """Return the places of all entries that fit `device`, in table order."""
        exact = self._exact.get(device[:2])
        of_vendor = self._of_vendor.get(device[0])
        if not (exact or of_vendor or self._of_any_vendor):
            return ()
        number = _number(device)
        found: list[list[int]] = []
        for masks in (exact, of_vendor, self._of_any_vendor):
            if masks:
                for mask, by_number in masks.items():
                    places = by_number.get(number & mask)
                    if places:
                        found.append(places)
        if len(found) > 1:
            return sorted(chain.from_iterable(found))
        return found[0] if found else ()


def _number(ids: Id | Device) -> int:
    vendor, device, subvendor, subdevice, class_ = ids[:5]
    return vendor | device << 32 | subvendor << 64 | subdevice << 96 | class_ << 128


def _mask(entry: Id) -> int:
    mask = entry.class_mask << 128
    for place, field in enumerate(entry[:4]):
        if field != PCI_ANY_ID:
            mask |= PCI_ANY_ID << 32 * place
    return mask


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

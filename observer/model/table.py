"""An id_table, arranged so that its hits are found without walking through it.

To fit a device is to be equal to it in some bits: all 32 of each field that is no
wildcard, and those of the class that class_mask selects. So each entry is one number of
160 bits and a mask, and the entries of one mask are found together, by one look-up.
"""

from __future__ import annotations

from functools import lru_cache
from itertools import chain
from typing import TYPE_CHECKING

from observer.model.same import Same
from observer.record import PCI_ANY_ID, Device, Id

if TYPE_CHECKING:
    from collections.abc import Sequence

TABLES = 512  # kept arranged; a machine has fewer PCI drivers
FEW = 4  # entries of one vendor and device are looked through

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
        exact: dict[int, list[int]] = {}
        self._of_vendor: dict[int, _Masks] = {}
        self._of_any_vendor: _Masks = {}
        for place, entry in enumerate(id_table):
            if is_terminator(entry):
                self.terminated = True
                break
            if entry.vendor == PCI_ANY_ID:
                _add(self._of_any_vendor, place, entry)
            elif entry.device == PCI_ANY_ID:
                _add(self._of_vendor.setdefault(entry.vendor, {}), place, entry)
            else:
                key = entry.vendor | entry.device << 32
                exact.setdefault(key, []).append(place)
        # Most ids are listed once: what is looked through costs a tenth of the memory.
        self._exact = {
            key: self._masks(places) if len(places) > FEW else tuple(places)
            for key, places in exact.items()
        }

    def _masks(self, places: list[int]) -> _Masks:
        masks: _Masks = {}
        for place in places:
            _add(masks, place, self.entries[place])
        return masks

    def hits(self, device: Device) -> Sequence[int]:
        """Return the places of all entries that fit `device`, in table order."""
        exact = self._exact.get(device[0] | device[1] << 32)
        of_vendor = self._of_vendor.get(device[0])
        if not (exact or of_vendor or self._of_any_vendor):
            return ()
        found: list[Sequence[int]] = []
        if isinstance(exact, tuple):
            found.append([p for p in exact if _fits(self.entries[p], device)])
            exact = None
        if exact or of_vendor or self._of_any_vendor:
            number = _number(device)
            for masks in (exact, of_vendor, self._of_any_vendor):
                if masks:
                    for mask, by_number in masks.items():
                        places = by_number.get(number & mask)
                        if places:
                            found.append(places)
        if len(found) > 1:
            return sorted(chain.from_iterable(found))
        return found[0] if found else ()


def _fits(entry: Id, device: Device) -> bool:
    """Tell whether the rest of an entry of this vendor and device fits."""
    return (
        entry[2] in (device[2], PCI_ANY_ID)
        and entry[3] in (device[3], PCI_ANY_ID)
        and not (entry[4] ^ device[4]) & entry[5]
    )


def _add(masks: _Masks, place: int, entry: Id) -> None:
    mask = _mask(entry)
    by_number = masks.setdefault(mask, {})
    by_number.setdefault(_number(entry) & mask, []).append(place)


def _number(ids: Id | Device) -> int:
    vendor, device, subvendor, subdevice, class_ = ids[:5]
    return vendor | device << 32 | subvendor << 64 | subdevice << 96 | class_ << 128


def _mask(entry: Id) -> int:
    mask = entry.class_mask << 128
    for place, field in enumerate(entry[:4]):
        if field != PCI_ANY_ID:
            mask |= PCI_ANY_ID << 32 * place
    return mask


def table_of(id_table: tuple[Id, ...]) -> Table:
    """Return `id_table` arranged, from memory when it was seen not long ago."""
    return _arranged(Same(id_table))


@lru_cache(maxsize=TABLES)
def _arranged(key: Same[tuple[Id, ...]]) -> Table:
    return Table(key.value)

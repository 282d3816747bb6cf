"""Kernel addresses that an id's driver_data may hold, which are kept nowhere."""

from __future__ import annotations

from itertools import count
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from observer.record import Id

KERNEL_POINTERS = 0xFFFF800000000000  # and all above, on x86-64
HIDDEN_POINTERS = 0xFFFF000000000000  # in no kernel's use


def hide_pointers(ids: tuple[Id, ...]) -> tuple[Id, ...]:
    """Replace kernel pointers in driver_data by numbers; equal ones stay equal."""
    numbers = count(1)
    hidden: dict[int, int] = {}
    for entry in ids:
        if entry.driver_data >= KERNEL_POINTERS and entry.driver_data not in hidden:
            hidden[entry.driver_data] = HIDDEN_POINTERS + next(numbers)
    if not hidden:
        return ids
    return tuple(
        entry._replace(driver_data=hidden.get(entry.driver_data, entry.driver_data))
        for entry in ids
    )

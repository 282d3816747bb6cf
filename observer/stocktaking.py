"""What the loader reads once the hooks are attached, and takes longer than that.

Where store functions are, which drivers are registered, what was recorded at boot.
"""

from __future__ import annotations

import json
import os
import struct
from contextlib import suppress
from typing import TYPE_CHECKING

from observer import abi, boot_import, bpf, bus, inventory, kernel, tracefs
from observer.boot_coverage import Coverage, objects
from observer.boot_decisions import Until
from observer.boot_import import Imported
from observer.btf import BtfError
from observer.hooking import Stores
from observer.kernel_memory import KernelMemory
from observer.registered import NOT_TAKEN, Inventory, as_object
from observer.text import printable

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from observer.btf import Btf
    from observer.hooking import Attached
    from observer.layout import Layout

DUMMY = "pci_device_id_any"


def symbols() -> dict[str, int]:
    """Return the addresses of all symbols that are needed; none where hidden."""
    return kernel.symbol_addresses((DUMMY, *bus.SYMBOLS))


def find_stores(btf: Btf, symbols: Mapping[str, int]) -> Stores:
    """Find the store functions in kernel memory, by what PCI's attributes point to."""
    if not symbols:
        return Stores({}, "the kernel hides the addresses of its symbols")
    try:
        with KernelMemory() as memory:
            return Stores(bus.store_functions(btf, memory.read, symbols))
    except OSError as e:
        return Stores({}, f"kernel memory can't be read: {e.strerror}")
    except BtfError as e:
        return Stores({}, str(e))


def files(
    btf: Btf, symbols: Mapping[str, int], layout: Layout, attached: Attached
) -> tuple[int, int]:
    """Write drivers and the boot to files in memory, for a message has not the room.

    Returns their descriptors. After the hooks, so that no driver, no dynid and no
    decision falls between.
    """
    drivers = _inventory(btf, symbols)
    boot = _boot(layout, drivers, attached, symbols.get(DUMMY, 0))
    return _in_memory("inventory", [as_object(drivers)]), _in_memory(
        "boot", objects(*boot)
    )


def drivers(btf: Btf | None) -> int:
    """Write the drivers alone to a file in memory; return its descriptor."""
    return _in_memory("inventory", [as_object(_inventory(btf, None))])


def _inventory(btf: Btf | None, symbols: Mapping[str, int] | None) -> Inventory:
    try:
        return inventory.take(btf, symbols)
    except Exception as e:  # noqa: BLE001 - whatever it is, the hooks matter more
        why = printable(f"{type(e).__name__}: {e}")
        return Inventory((), order_known=False, gaps=(f"{NOT_TAKEN.gaps[0]} {why}.",))


def _boot(
    layout: Layout, drivers: Inventory, attached: Attached, pci_device_id_any: int
) -> Imported:
    """Take what the kernel recorded before; that it can't be read ends nothing."""
    try:
        numbers: Mapping[str, int] = {}
        if tracefs.is_armed():
            numbers = number_drivers(attached.maps["registrations"], drivers)
        match_ns = next(iter(attached.times.values()))  # of what tells of decisions
        probe_ns = attached.times.get(layout.probe_function)
        return boot_import.take(
            layout,
            drivers,
            numbers,
            Until(*match_ns, *(probe_ns or ())[1:]),
            pci_device_id_any=pci_device_id_any,
        )
    except Exception as e:  # noqa: BLE001 - whatever it is, the hooks matter more
        return Imported(Coverage(problem=printable(f"{type(e).__name__}: {e}")), [])


def number_drivers(
    registrations: int, drivers: Inventory, *, insert: Callable[..., bytes] = bpf.insert
) -> dict[str, int]:
    """Give the drivers the numbers that the hooks have, or will have: by name.

    The hooks' own numbers are times, so these are none of theirs.
    """
    numbers = {}
    named = zip(drivers.drivers, drivers.places, strict=False)
    for number, (known, place) in enumerate(named, 1):
        fresh = (number, place.id_table, place.private, 0, 0, abi.END_MORE)
        key, value = struct.pack("=Q", place.at), abi.REGISTRATION.pack(*fresh)
        with suppress(OSError):  # its decisions can't be judged then
            there = abi.REGISTRATION.unpack(insert(registrations, key, value))
            if there[1:3] == fresh[1:3]:  # else the hooks saw another one
                numbers[known.driver.name] = there[0]
    return numbers


def _in_memory(name: str, values: Iterable[object]) -> int:
    descriptor = os.memfd_create(name)
    with open(descriptor, "w", encoding="ascii", closefd=False) as file:
        file.writelines(json.dumps(value) + "\n" for value in values)
    return descriptor

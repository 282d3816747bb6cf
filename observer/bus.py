"""The PCI bus in kernel memory: its drivers, and its own store functions.

Pure: what reads memory is given, so are the types and the addresses of symbols. The
kernel goes on meanwhile. So nothing is believed that does not point back to where it
was found, and what was found is compared with a second look.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Final, NamedTuple

if TYPE_CHECKING:
    from observer.btf import Btf
    from observer.machine import PciDriver
    from observer.record import StoreFile

# Reads (address, length) each, at most 4096 bytes; None for what can't be read whole.
# An address may be any number.
Read = Callable[[Sequence[tuple[int, int]]], Sequence[bytes | None]]

# What the functions here want to know the addresses of; not all kernels have each.
SYMBOLS: Final = (
    "pci_bus_type",
    "bus_kset",
    "driver_override_dev_group",
    "driver_attr_bind",
    "driver_attr_unbind",
    "bus_attr_drivers_probe",
)


class BusError(Exception):
    """The bus can't be read at all; the sentence says why."""


class Registered(NamedTuple):
    """The drivers in kernel memory."""

    drivers: tuple[PciDriver, ...]  # in the order of registration
    gaps: tuple[str, ...]  # what could not be read, a sentence each


def registered(btf: Btf, read: Read, symbols: Mapping[str, int]) -> Registered:
    """Read all registered PCI drivers with their tables and dynids.

    Raises BusError.
    """
    raise NotImplementedError


def store_functions(
    btf: Btf, read: Read, symbols: Mapping[str, int]
) -> dict[StoreFile, int]:
    """Find the addresses of the functions that PCI's files of sysfs call on a write.

    Those of bind, unbind and drivers_probe serve every bus; so does driver_override's
    from kernels that have `driver_override_dev_group` on. What can't be found is left
    out.
    """
    raise NotImplementedError

"""The registered PCI drivers of this machine, as far as they can be learned."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING, Final

from observer import bus, kernel, modules_dir, sysfs
from observer.btf import BtfError
from observer.kernel_memory import KernelMemory
from observer.machine import Origin, PciDriver
from observer.record import Driver, TableState
from observer.registered import Inventory
from observer.text import printable

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from observer.btf import Btf

ATTEMPTS: Final = 3
DEFERRED: Final = Path("/sys/kernel/debug/devices_deferred")  # of all buses
_PAUSE_SECONDS: Final = 0.02  # what a driver that comes or goes takes at most, mostly


def take(
    btf: Btf | None,
    symbols: Mapping[str, int] | None = None,
    *,
    memory: Callable[[], KernelMemory] = KernelMemory,
    pci: Path = sysfs.PCI,
    modules: Path = modules_dir.MODULES,
    deferred: Path = DEFERRED,
) -> Inventory:
    """Take the inventory: of kernel memory, else of sysfs and modules.alias.

    `symbols` are the addresses of bus.SYMBOLS, if they were asked for already; without
    `btf` kernel memory is not tried. What can't be learned is a gap, not an error.
    """
    taken = _take(btf, symbols, memory, pci, modules)
    return taken._replace(deferred=_deferred(deferred))


def _take(
    btf: Btf | None,
    symbols: Mapping[str, int] | None,
    memory: Callable[[], KernelMemory],
    pci: Path,
    modules: Path,
) -> Inventory:
    if btf is None:
        return _of_sysfs("this kernel offers no type information", pci, modules)
    if symbols is None:
        symbols = kernel.symbol_addresses(bus.SYMBOLS)
    try:
        with memory() as opened:
            return _of_memory(btf, opened.read, symbols, pci)
    except OSError as e:
        return _of_sysfs(_refusal(e), pci, modules)
    except (bus.BusError, BtfError) as e:
        return _of_sysfs(str(e), pci, modules)


def _of_memory(
    btf: Btf, read: bus.Read, symbols: Mapping[str, int], pci: Path
) -> Inventory:
    """Read kernel memory until sysfs shows the same drivers, a few times."""
    for attempt in range(ATTEMPTS):
        if attempt:
            time.sleep(_PAUSE_SECONDS)
        found = bus.registered(btf, read, symbols)
        here = {known.driver.name for known in found.drivers}
        shown = sysfs.drivers(root=pci).keys()
        if here == shown:
            break
    gaps = found.gaps
    if here != shown:
        names = ", ".join(map(printable, sorted(here ^ shown)))
        gaps += (f"Kernel memory and sysfs differ: {names} came or went meanwhile.",)
    return Inventory(found.drivers, True, gaps, places=found.places)


def _of_sysfs(reason: str, pci: Path, modules: Path) -> Inventory:
    """Name the drivers that sysfs shows, with the ids that their modules ask for."""
    release = kernel.running().release
    aliases, gaps = modules_dir.read_aliases(release, root=modules)
    links = sysfs.module_names(root=pci)
    drivers = []
    for name, module in sysfs.drivers(root=pci).items():
        ids = aliases.ids(links[name]) if name in links else ()
        driver = Driver(0, name, None, TableState.UNKNOWN)
        origin = Origin.NOWHERE
        if ids:
            driver, origin = Driver(0, name, ids), Origin.MODULES_ALIAS
        drivers.append(PciDriver(driver, origin, None, module))
    unknown = [
        printable(known.driver.name)
        for known in drivers
        if known.origin is Origin.NOWHERE
    ]
    gap = (
        f"Kernel memory can't be read ({reason}), so all dynids and the order in which "
        "drivers were registered are unknown; their id_tables are those of "
        "modules.alias, which has neither order nor driver_data and does not tell "
        "apart the drivers of one module"
    )
    if unknown:
        gap += f", and unknown for {', '.join(unknown)}"
    return Inventory(tuple(drivers), order_known=False, gaps=(f"{gap}.", *gaps))


def _deferred(path: Path) -> frozenset[str]:
    """Return the devices whose probe was deferred, as far as root is told."""
    try:
        lines = path.read_text(errors="replace").splitlines()
    except OSError:
        return frozenset()
    return frozenset(line.partition("\t")[0] for line in lines)


def _refusal(error: OSError) -> str:
    """Say why kernel memory can't be read, and what to do."""
    if kernel.lockdown() == "confidentiality":
        return "the kernel is locked down; boot without lockdown=confidentiality"
    return f"{error.strerror}; run as root"

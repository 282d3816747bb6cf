"""Which module has which driver: only a machine on which it runs can tell."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

from observer.module_names import module_name
from observer.record import Id

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from observer.kernel_modules import KernelModules
    from observer.machine import Machine, PciDriver


class Names:
    """Drivers by their modules, and the other way round.

    A driver's name need not be its module's: module vfio_pci has the driver vfio-pci,
    i2c_i801 has i801_smbus.
    """

    def __init__(
        self,
        machine: Machine,
        links: Mapping[str, str],
        kernels: Sequence[KernelModules] = (),
    ) -> None:
        """Take what is registered; `links` has modules of built-in drivers too.

        Where it has not, a module of `kernels` with the same ids is the driver's.
        """
        self._tables = _built_in_tables(kernels)
        self._modules = {}
        for name, known in machine.drivers.items():
            module = module_name(known.module or links.get(name, name))
            if not any(kernel.has(module) for kernel in kernels):
                module = self._like(known) or module
            self._modules[name] = module
        self._drivers: dict[str, list[str]] = {}
        for name, module in self._modules.items():
            self._drivers.setdefault(module, []).append(name)

    def module(self, driver: str) -> str:
        """Name the module of a driver; of one not registered, by its name."""
        return self._modules.get(driver) or module_name(driver)

    def drivers(self, module: str) -> list[str]:
        """Name the drivers of a module that are registered now."""
        return self._drivers.get(module, [])

    def _like(self, known: PciDriver) -> str | None:
        """Return the built-in module that has half of the driver's ids, or more."""
        table = known.driver.id_table or ()
        if known.module is not None or not table:
            return None
        shared: Counter[str] = Counter()
        for entry in table:
            shared.update(self._tables.get(_bare(entry), ()))
        module, number = next(iter(shared.most_common(1)), ("", 0))
        return module if 2 * number >= len(table) else None


def _built_in_tables(kernels: Sequence[KernelModules]) -> dict[Id, set[str]]:
    found: dict[Id, set[str]] = {}
    for module, entries in _entries(kernels):
        for entry in entries:
            found.setdefault(_bare(entry), set()).add(module)
    return found


def _entries(
    kernels: Sequence[KernelModules],
) -> Iterator[tuple[str, tuple[Id, ...]]]:
    """Yield the ids of modules that one of the kernels has built in."""
    built_in = {module for kernel in kernels for module in kernel.built_in}
    for kernel in kernels:
        for module in built_in:
            yield module, kernel.aliases.ids(module)


def _bare(entry: Id) -> Id:
    """Return an entry as far as an alias tells of it: 24 bits of the class."""
    mask = entry.class_mask & 0xFFFFFF
    return Id(*entry[:4], entry.class_ & mask, mask)

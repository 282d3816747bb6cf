"""Which module has which driver: only a machine on which it runs can tell."""

from __future__ import annotations

from typing import TYPE_CHECKING

from observer.aliases import module_name

if TYPE_CHECKING:
    from collections.abc import Mapping

    from observer.machine import Machine


class Names:
    """Drivers by their modules, and the other way round.

    A driver's name need not be its module's: module vfio_pci has the driver vfio-pci,
    i2c_i801 has i801_smbus.
    """

    def __init__(self, machine: Machine, links: Mapping[str, str]) -> None:
        """Take what is registered; `links` has modules of built-in drivers too."""
        self._modules = {
            name: module_name(known.module or links.get(name, name))
            for name, known in machine.drivers.items()
        }
        self._drivers: dict[str, list[str]] = {}
        for name, module in self._modules.items():
            self._drivers.setdefault(module, []).append(name)

    def module(self, driver: str) -> str:
        """Name the module of a driver; of one not registered, by its name."""
        return self._modules.get(driver) or module_name(driver)

    def drivers(self, module: str) -> list[str]:
        """Name the drivers of a module that are registered now."""
        return self._drivers.get(module, [])

"""Builders of kernels and configurations for tests of what an upgrade changes."""

from __future__ import annotations

from typing import TYPE_CHECKING

from observer.boot_config import BootConfig, Override, Stage, module_lines
from observer.kernel_modules import KernelModules
from observer.modprobe_d import ModprobeD, parameters
from observer.preflight import Kernel, Rules

if TYPE_CHECKING:
    from collections.abc import Mapping

E1000_ALIAS = "pci:v00008086d0000100Esv*sd*bc*sc*i*"
ANY_ALIAS = "vfio_pci:v*d*sv*sd*bc*sc*i*"
RULES = Rules("B", "linux-5.15", "linux-5.11")


def modules(
    loadable: Mapping[str, str] | None = None,
    built_in: Mapping[str, str] | None = None,
    *,
    depend: Mapping[str, str] | None = None,
    softdep: str = "",
) -> KernelModules:
    """Return modules with their aliases, each a text of words; depmod's files.

    Of a built-in module without aliases nothing is told.
    """
    loadable, built_in = loadable or {}, built_in or {}
    depend = depend or {}
    return KernelModules.of(
        {
            "modules.alias": "".join(
                f"alias {alias} {module}\n"
                for module, aliases in loadable.items()
                for alias in aliases.split()
            ),
            "modules.dep": "".join(
                f"kernel/{module}.ko.xz: {depend.get(module, '')}\n"
                for module in loadable
            ),
            "modules.builtin": "".join(f"kernel/{module}.ko\n" for module in built_in),
            "modules.builtin.modinfo": "".join(
                f"{module}.alias={alias}\0"
                for module, aliases in built_in.items()
                for alias in aliases.split()
            ),
            "modules.softdep": softdep,
        }
    )


def kernel(
    loadable: Mapping[str, str] | None = None,
    built_in: Mapping[str, str] | None = None,
    *,
    release: str = "7.3",
    rules: Rules | None = RULES,
    config: Mapping[str, str] | None = None,
    depend: Mapping[str, str] | None = None,
    softdep: str = "",
) -> Kernel:
    """Return a kernel with these modules; 6.12.90 is the machine's own."""
    found = modules(loadable, built_in, depend=depend, softdep=softdep)
    return Kernel(release, found, rules, config)


def boot_config(
    *,
    modprobe_d: str = "",
    initramfs: str = "",
    modules_load: str = "",
    command_line: str = "",
    overrides: Mapping[str, str] | None = None,
) -> BootConfig:
    """Return a configuration from texts of its files."""
    named = (
        *module_lines(initramfs, Stage.INITRAMFS, "/etc/initramfs-tools/modules"),
        *module_lines(modules_load, Stage.MODULES_LOAD, "/etc/modules"),
    )
    return BootConfig(
        ModprobeD.read({"/etc/modprobe.d/a.conf": modprobe_d}, command_line),
        named,
        tuple(parameters(command_line)),
        {
            address: Override(driver, f"/etc/driverctl.d/pci-{address}")
            for address, driver in (overrides or {}).items()
        },
    )

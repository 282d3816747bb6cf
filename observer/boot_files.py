"""Reads what a machine's files say about its next boot: see boot_config."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Final

from observer.boot_config import (
    BootConfig,
    Named,
    Override,
    Stage,
    dracut,
    mkinitcpio,
    module_lines,
    named_on_command_line,
    overridden,
)
from observer.modprobe_d import ModprobeD, parameters
from observer.modules_dir import CONFIGURATION, configuration_texts, text_of

if TYPE_CHECKING:
    from collections.abc import Iterator

# Of directories that hide each other's files; and single files.
_MODULES_LOAD_D: Final = tuple(
    f"{directory}/modules-load.d"
    for directory in ("etc", "run", "usr/local/lib", "usr/lib", "lib")
)
_MODULES: Final = "etc/modules"
_INITRAMFS_TOOLS_D: Final = "usr/share/initramfs-tools/modules.d"
_INITRAMFS_TOOLS: Final = "etc/initramfs-tools/modules"
_DRACUT_D: Final = ("etc/dracut.conf.d", "usr/lib/dracut/dracut.conf.d")
_DRACUT: Final = "etc/dracut.conf"
_MKINITCPIO_D: Final = ("etc/mkinitcpio.conf.d",)
_MKINITCPIO: Final = "etc/mkinitcpio.conf"
_DRIVERCTL_D: Final = "etc/driverctl.d"
_COMMAND_LINE: Final = "proc/cmdline"


def read_boot_config(root: Path) -> tuple[BootConfig, tuple[str, ...]]:
    """Read the configuration below `root`, and say what could not be read.

    That a file is not there is usual. The command line is the running kernel's.
    """
    gaps: list[str] = []
    command_line = text_of(root / _COMMAND_LINE, gaps)
    modprobe_d = configuration_texts(
        [root / path.relative_to("/") for path in CONFIGURATION], gaps
    )
    return (
        BootConfig(
            ModprobeD.read(modprobe_d, command_line),
            (
                *_in_initramfs(root, gaps),
                *_modules_load(root, gaps),
                *named_on_command_line(command_line),
            ),
            tuple(parameters(command_line)),
            dict(_overrides(root / _DRIVERCTL_D, gaps)),
        ),
        tuple(gaps),
    )


def _in_initramfs(root: Path, gaps: list[str]) -> Iterator[Named]:
    tools = [root / _INITRAMFS_TOOLS, *_every(root / _INITRAMFS_TOOLS_D)]
    for path in filter(Path.is_file, tools):
        yield from module_lines(text_of(path, gaps), Stage.INITRAMFS, str(path))
    for read, single, directories in (
        (dracut, _DRACUT, _DRACUT_D),
        (mkinitcpio, _MKINITCPIO, _MKINITCPIO_D),
    ):
        texts = configuration_texts([root / name for name in directories], gaps)
        if (root / single).is_file():
            texts[str(root / single)] = text_of(root / single, gaps)
        for place, text in texts.items():
            yield from read(text, place)


def _modules_load(root: Path, gaps: list[str]) -> Iterator[Named]:
    """Read modules-load.d; Debian's has a link to /etc/modules, which counts once."""
    texts = configuration_texts([root / name for name in _MODULES_LOAD_D], gaps)
    modules = root / _MODULES
    if modules.is_file():
        texts[str(modules)] = text_of(modules, gaps)
    for place, text in texts.items():
        if not (Path(place) != modules and _same(Path(place), modules)):
            yield from module_lines(text, Stage.MODULES_LOAD, place)


def _same(path: Path, other: Path) -> bool:
    return other.is_file() and path.samefile(other)


def _every(directory: Path) -> list[Path]:
    return sorted(directory.iterdir()) if directory.is_dir() else []


def _overrides(directory: Path, gaps: list[str]) -> Iterator[tuple[str, Override]]:
    for path in _every(directory):
        address, driver = overridden(path.name), text_of(path, gaps).strip("\n")
        if address and driver:
            yield address, Override(driver, str(path))

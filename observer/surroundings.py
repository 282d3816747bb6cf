"""What `explain` needs to know around one device, read from the running machine."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Final, NamedTuple

from observer.case import Surroundings
from observer.module_names import loadable_modules, module_name
from observer.modules_dir import CONFIGURATION, read_aliases

if TYPE_CHECKING:
    from collections.abc import Iterator

    from observer.machine import PciDevice

__all__ = ["Surroundings", "look"]

ROOT: Final = Path("/")

# Drivers that hold no memory of the device as long as nobody opens it: whoever does
# then is somebody else. Of other drivers the names that they give are not known.
_IDLE: Final = {"vfio-pci", "pci-stub"}
_FRAMEBUFFERS: Final = ("BOOTFB", "simple", "efi", "vesa", "vga")
_FLAGS: Final = {"Y": True, "N": False}


def look(
    device: PciDevice,
    release: str,
    *,
    driver: str | None = None,
    root: Path = ROOT,
) -> Surroundings:
    """Read what surrounds `device` on a machine that runs `release`.

    `driver` is the one that was asked about. What can't be read is left out and said in
    `unknown`; nothing raises.
    """
    unknown: list[str] = []
    around = Surroundings(
        denylist_disabled=_flag(root, "vfio_pci", "disable_denylist"),
        noiommu=_flag(root, "vfio", "enable_unsafe_noiommu_mode"),
    )
    if device.driver is None or driver not in (None, device.driver):
        around = _modules(around, device, release, driver, root, unknown)
    if device.driver is None:
        around = around._replace(deferred=_deferred(root, device.address, unknown))
    else:
        around = around._replace(holders=_holders(root, device, unknown))
    return around._replace(unknown=tuple(unknown))


def _modules(
    around: Surroundings,
    device: PciDevice,
    release: str,
    driver: str | None,
    root: Path,
    unknown: list[str],
) -> Surroundings:
    modules = root / "lib/modules"
    aliases, gaps = read_aliases(
        release,
        root=modules,
        configuration=[root / path.relative_to("/") for path in CONFIGURATION],
        command_line=root / "proc/cmdline",
    )
    unknown += gaps
    there = loadable_modules(_text(modules / release / "modules.dep", unknown))
    names = (driver, device.driver_override)
    providers = {
        name: module
        for name in names
        if name is not None
        and ((module := module_name(name)) in there or aliases.builtin(module))
    }
    would_load = aliases.modules(device.ids)
    concerned = {*would_load, *providers.values()}
    return around._replace(
        aliases_known=not any("/modules.alias " in gap for gap in gaps),
        would_load=would_load,
        override_only=aliases.override_only_modules(device.ids),
        blacklisted={
            module: where
            for module in concerned
            if (where := aliases.blacklisted(module)) is not None
        },
        providers=providers,
        builtin=frozenset(filter(aliases.builtin, concerned)),
    )


def _deferred(root: Path, address: str, unknown: list[str]) -> str | None:
    """Return why the device is deferred, "" where the kernel gives no reason."""
    text = _text(root / "sys/kernel/debug/devices_deferred", unknown)
    for line in text.splitlines():
        name, _, reason = line.partition("\t")
        if name == address:
            return reason.strip()
    return None


class _Range(NamedTuple):
    """A line of /proc/iomem, or a BAR."""

    first: int
    last: int
    name: str


def _holders(root: Path, device: PciDevice, unknown: list[str]) -> tuple[str, ...]:
    """Say who else holds which BAR."""
    text = _text(root / f"sys/bus/pci/devices/{device.address}/resource", unknown)
    bars = [*_bars(text)]
    held = [*_ranges(_text(root / "proc/iomem", unknown))]
    if held and not any(each.last for each in held):
        unknown.append("Who holds the device's memory: /proc/iomem tells root only.")
        return ()
    return tuple(
        dict.fromkeys(
            f"{bar.name} held by {each.name}"
            for bar in bars
            for each in held
            if bar.first <= each.first
            and each.last <= bar.last
            and _somebody_else(each.name, device)
        )
    )


def _somebody_else(name: str, device: PciDevice) -> bool:
    if name in (device.address, device.driver) or name.startswith("PCI "):
        return False
    return device.driver in _IDLE or name.startswith(_FRAMEBUFFERS)


def _bars(text: str) -> Iterator[_Range]:
    """Read the BARs in memory: start, end and flags in each line, zeros if unused."""
    for number, line in enumerate(text.splitlines()[:6]):
        match line.split():
            case first, last, flags if int(flags, 16) & 0x200:  # IORESOURCE_MEM
                yield _Range(int(first, 16), int(last, 16), f"BAR{number}")


_RANGE: Final = re.compile(r"\s*([0-9a-f]+)-([0-9a-f]+) : (.*)")


def _ranges(text: str) -> Iterator[_Range]:
    for line in text.splitlines():
        if found := _RANGE.fullmatch(line):
            yield _Range(int(found[1], 16), int(found[2], 16), found[3])


def _flag(root: Path, module: str, parameter: str) -> bool | None:
    """Read a parameter; None where the module is not there or does not have it."""
    text = _text(root / "sys/module" / module / "parameters" / parameter, [])
    return _FLAGS.get(text.strip())


def _text(path: Path, unknown: list[str]) -> str:
    try:
        return path.read_bytes().decode("utf-8", "surrogateescape")
    except OSError as error:
        unknown.append(f"{path} can't be read ({error.strerror}).")
        return ""

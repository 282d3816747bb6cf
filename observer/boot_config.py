"""What is loaded and set while a machine boots, as its files and command line say."""

from __future__ import annotations

import re
from enum import StrEnum
from typing import TYPE_CHECKING, Final, NamedTuple

from observer.modprobe_d import COMMAND_LINE, ModprobeD, parameters
from observer.module_names import module_name
from observer.record import PCI_ANY_ID, Id

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

_DRACUT: Final = re.compile(
    r"(?m)^[ \t]*(?:force_drivers|add_drivers|drivers)\+?=(\"[^\"]*\"|'[^']*'|\S+)"
)
_MKINITCPIO: Final = re.compile(r"(?m)^[ \t]*MODULES\+?=(\([^)]*\)|\"[^\"]*\"|'[^']*')")
_COMMENT: Final = re.compile(r"#.*")
_IN_INITRAMFS: Final = {"rd.driver.pre", "rd.driver.post", "rd.modules_load"}
_AFTER: Final = {"modules_load"}
_HEX: Final = re.compile("(?:0x)?[0-9A-Fa-f]{1,8}")
# Defaults of the fields of `ids=`, as of new_id: vendor and device must be there.
_FIELDS: Final = range(2, 7)


class Stage(StrEnum):
    """Which list names a module."""

    INITRAMFS = "initramfs"
    MODULES_LOAD = "modules-load"


class Named(NamedTuple):
    """A module that is named to be loaded at boot, whatever devices there are."""

    name: str  # as it is written there
    stage: Stage
    place: str  # path, or the kernel's command line
    parameters: str = ""  # that stand with it


class Override(NamedTuple):
    """A driver_override that driverctl sets at each boot."""

    driver: str
    path: str


class BootConfig(NamedTuple):
    """All that outlives a reboot, and that every kernel of the machine finds."""

    modprobe_d: ModprobeD
    named: tuple[Named, ...]
    command_line: tuple[tuple[str, str], ...]  # parameters: name and value
    overrides: Mapping[str, Override]  # by the device's address

    def loads(self, module: str) -> Named | None:
        """Say what names a module to be loaded; the initramfs first."""
        stages = {Stage.INITRAMFS: 0, Stage.MODULES_LOAD: 1}
        named = [each for each in self.named if module_name(each.name) == module]
        return min(named, key=lambda each: stages[each.stage], default=None)

    def dynids(self, module: str, *, built_in: bool) -> tuple[Id, ...]:
        """Return what `ids=` gives a module's driver: vfio-pci and pci-stub have it.

        What stands elsewhere than on the command line does not reach a built-in one.
        """
        texts = [value for name, value in self.on_command_line(module) if name == "ids"]
        if not built_in:
            words = [
                word for line in self.modprobe_d.options(module) for word in line.words
            ]
            for each in self.named:
                if module_name(each.name) == module:
                    words += each.parameters.split()
            texts += [word[4:] for word in words if word.startswith("ids=")]
        return tuple(dict.fromkeys(entry for text in texts for entry in ids(text)))

    def on_command_line(self, module: str) -> Iterator[tuple[str, str]]:
        """Yield the parameters of a module on the command line."""
        for name, value in self.command_line:
            owner, dot, parameter = name.partition(".")
            if dot and module_name(owner) == module:
                yield module_name(parameter), value


def ids(text: str) -> Iterator[Id]:
    """Yield the ids of an `ids=` of vfio-pci or pci-stub; what is no id is left out.

    As ``10de:13c2,10de:0fbb``; up to six fields: vendor, device, subvendor, subdevice,
    class, class_mask.
    """
    for one in text.strip("\"'").split(","):
        fields = one.split(":")
        if len(fields) in _FIELDS and all(map(_HEX.fullmatch, fields)):
            vendor, device, *rest = (int(field, 16) for field in fields)
            defaults = PCI_ANY_ID, PCI_ANY_ID, 0, 0
            yield Id(vendor, device, *rest, *defaults[len(rest) :])


def module_lines(text: str, stage: Stage, place: str) -> Iterator[Named]:
    """Read a list with one module, and its parameters, in each line."""
    for line in text.splitlines():
        match _COMMENT.sub("", line).split(maxsplit=1):
            case [name, *words] if not name.startswith(";"):
                yield Named(name, stage, place, *words)


def dracut(text: str, place: str) -> Iterator[Named]:
    """Read the drivers that a dracut.conf adds to an initramfs."""
    return _listed(_DRACUT, text, place)


def mkinitcpio(text: str, place: str) -> Iterator[Named]:
    """Read the MODULES of a mkinitcpio.conf."""
    return _listed(_MKINITCPIO, text, place)


def _listed(lists: re.Pattern[str], text: str, place: str) -> Iterator[Named]:
    for names in lists.findall(_COMMENT.sub("", text)):
        for name in names.strip("()\"'").split():
            yield Named(name.strip("\"'?"), Stage.INITRAMFS, place)


def named_on_command_line(command_line: str) -> Iterator[Named]:
    """Read what the kernel's command line names to be loaded."""
    for name, value in parameters(command_line):
        key = name.replace("-", "_")
        stage = Stage.INITRAMFS if key in _IN_INITRAMFS else Stage.MODULES_LOAD
        if key in _IN_INITRAMFS | _AFTER:
            for module in filter(None, value.split(",")):
                yield Named(module, stage, COMMAND_LINE)


def overridden(name: str) -> str:
    """Return the address that a file of driverctl.d is about, or ""."""
    return name.removeprefix("pci-") if ":" in name else ""

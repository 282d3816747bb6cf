"""Which modules would be loaded for a device: the aliases that modules have.

An alias is an id_table's entry in text, ``pci:v00008086d0000100Esv*sd*bc*sc*i*``, but
for its driver_data. Those of override_only entries begin with ``vfio_pci:``; no device
asks for them by itself.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final, NamedTuple

from observer.model.table import Table, is_terminator
from observer.record import PCI_ANY_ID, Id

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from observer.record import Device

_ID: Final = r"(\*|[0-9A-F]{8})"
_BYTE: Final = r"(\*|[0-9A-F]{2})"
_PATTERN: Final = re.compile(
    rf"(vfio_)?pci:v{_ID}d{_ID}sv{_ID}sd{_ID}bc{_BYTE}sc{_BYTE}i{_BYTE}\*?"
)
_WORD: Final = re.compile(r"[^ \t]+")
_NOTHING: Final = {"true", "false"}  # programs that stand for not loading
_ON_COMMAND_LINE: Final = ("modprobe.blacklist=", "module_blacklist=")


class Alias(NamedTuple):
    """One alias of a module."""

    module: str
    id: Id


def loadable_aliases(text: str) -> Iterator[Alias]:
    """Yield the PCI aliases of a modules.alias, in its order."""
    for line in text.split("\n"):
        match line.split(" "):
            case "alias", pattern, module:
                yield from _alias(module, pattern)


def built_in_aliases(text: str) -> Iterator[Alias]:
    """Yield the PCI aliases of a modules.builtin.modinfo; not every kernel has them."""
    for line in text.split("\0"):
        module, _, pattern = line.partition(".alias=")
        yield from _alias(module, pattern)


def _alias(module: str, pattern: str) -> Iterator[Alias]:
    match = _PATTERN.fullmatch(pattern)
    if match is not None:
        entry = _entry(*match.groups())
        if not is_terminator(entry):  # the kernel's walk through a table ends at it
            yield Alias(module_name(module), entry)


def _entry(flag: str | None, *fields: str) -> Id:
    vendor, device, subvendor, subdevice = (
        PCI_ANY_ID if field == "*" else int(field, 16) for field in fields[:4]
    )
    class_ = mask = 0
    for byte in fields[4:]:
        any_ = byte == "*"
        class_ = class_ << 8 | (0 if any_ else int(byte, 16))
        mask = mask << 8 | (0 if any_ else 0xFF)
    return Id(vendor, device, subvendor, subdevice, class_, mask, 0, int(bool(flag)))


def built_in_modules(text: str) -> frozenset[str]:
    """Name the modules of a modules.builtin."""
    return frozenset(
        module_name(line.rpartition("/")[2].partition(".")[0])
        for line in text.splitlines()
    )


def module_name(name: str) -> str:
    """Spell a module's name as the kernel does: with underscores."""
    return name.replace("-", "_")


def blacklist(configuration: Mapping[str, str], command_line: str) -> dict[str, str]:
    """Say by module in which file it is blacklisted.

    `configuration` has the text of each file of modprobe.d by its path. A module whose
    `install` command is `/bin/false` or `/bin/true` counts too.
    """
    found: dict[str, str] = {}
    for path, text in configuration.items():
        for line in text.replace("\\\n", "").split("\n"):
            match _WORD.findall(line):
                case ["blacklist", module, *_]:
                    found.setdefault(module_name(module), path)
                case ["install", module, program, *_] if (
                    program.rpartition("/")[2] in _NOTHING
                ):
                    found.setdefault(module_name(module), path)
    for word in command_line.split():
        option, equals, modules = word.partition("=")
        if option + equals in _ON_COMMAND_LINE:
            for module in filter(None, modules.split(",")):
                found.setdefault(module_name(module), "the kernel's command line")
    return found


class Aliases:
    """The PCI aliases of one kernel's modules.

    Modules may be named with - or _ and are returned with _.
    """

    def __init__(
        self,
        loadable: Iterable[Alias] = (),
        built_in: Iterable[Alias] = (),
        *,
        built_in_modules: Iterable[str] = (),
        blacklist: Mapping[str, str] | None = None,
    ) -> None:
        """Take what the functions above understood."""
        loadable = tuple(loadable)
        self._table = Table(tuple(alias.id for alias in loadable))
        self._modules = tuple(alias.module for alias in loadable)
        self._ids: dict[str, list[Id]] = {}
        for module, entry in (*loadable, *built_in):
            self._ids.setdefault(module, []).append(entry)
        self._built_in = frozenset(built_in_modules)
        self._blacklist = blacklist or {}

    def ids(self, module: str) -> tuple[Id, ...]:
        """Return the entries of a module's tables: not in their order, no driver_data.

        Nothing is known of most built-in modules: they have none then.
        """
        return tuple(self._ids.get(module_name(module), ()))

    def modules(self, device: Device) -> tuple[str, ...]:
        """Name what `modprobe` would load for the device, blacklists aside."""
        return self._for(device, override_only=False)

    def override_only_modules(self, device: Device) -> tuple[str, ...]:
        """Name the modules that can drive the device with its driver_override only."""
        return self._for(device, override_only=True)

    def _for(self, device: Device, *, override_only: bool) -> tuple[str, ...]:
        entries = self._table.entries
        return tuple(
            dict.fromkeys(
                self._modules[place]
                for place in self._table.hits(device)
                if bool(entries[place].override_only) == override_only
            )
        )

    def builtin(self, module: str) -> bool:
        """Say whether the module is part of the kernel."""
        return module_name(module) in self._built_in

    def blacklisted(self, module: str) -> str | None:
        """Say where it is forbidden to load it for a device; None: nowhere."""
        return self._blacklist.get(module_name(module))

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
# An alias that a device could ask for, or that stands for vfio.
_OF_PCI: Final = re.compile(r"(?:pci|vfio_pci):|[*?\[]")


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


def odd_aliases(text: str) -> tuple[str, ...]:
    """Return the aliases of a modules.alias that may be PCI's and aren't understood."""
    return tuple(
        pattern
        for line in text.split("\n")
        if line.startswith("alias ")
        and _OF_PCI.match(pattern := line.split(" ")[1])
        and not _PATTERN.fullmatch(pattern)
    )


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


def told_modules(text: str) -> frozenset[str]:
    """Name the modules of a modules.builtin.modinfo: some are in no modules.builtin."""
    return frozenset(
        module_name(each.partition(".")[0]) for each in text.split("\0") if "." in each
    )


def built_in_modules(text: str) -> frozenset[str]:
    """Name the modules of a modules.builtin."""
    return frozenset(map(_of_path, text.splitlines()))


def loadable_modules(text: str) -> dict[str, frozenset[str]]:
    """Name the modules of a modules.dep, with all those that each of them needs."""
    found = {}
    for line in text.splitlines():
        path, _, needs = line.partition(":")
        found[_of_path(path)] = frozenset(map(_of_path, needs.split()))
    return found


def _of_path(path: str) -> str:
    return module_name(path.rpartition("/")[2].partition(".ko")[0])


def modalias(device: Device) -> str:
    """Spell the alias that a device asks for."""
    ids = device._asdict()
    class_ = ids.pop("class_")
    names = zip(("v", "d", "sv", "sd"), ids.values(), strict=True)
    return (
        "pci:"
        + "".join(f"{name}{value:08X}" for name, value in names)
        + f"bc{class_ >> 16:02X}sc{class_ >> 8 & 0xFF:02X}i{class_ & 0xFF:02X}"
    )


def module_name(name: str) -> str:
    """Spell a module's name as the kernel does: with underscores."""
    return name.replace("-", "_")


class _Index:
    """Aliases, arranged so that those of a device are found at once."""

    def __init__(self, aliases: Iterable[Alias]) -> None:
        """Take them in their order."""
        aliases = tuple(aliases)
        self.modules = tuple(alias.module for alias in aliases)
        self._table = Table(tuple(alias.id for alias in aliases))
        self._ids: dict[str, list[Id]] = {}
        for module, entry in aliases:
            self._ids.setdefault(module, []).append(entry)

    def ids(self, module: str) -> tuple[Id, ...]:
        return tuple(self._ids.get(module, ()))

    def of(self, device: Device, *, override_only: bool) -> tuple[str, ...]:
        entries = self._table.entries
        return tuple(
            dict.fromkeys(
                self.modules[place]
                for place in self._table.hits(device)
                if bool(entries[place].override_only) == override_only
            )
        )


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
        self._loadable = _Index(loadable)
        self._built_in = _Index(built_in)
        self._names = frozenset(built_in_modules)
        self._blacklist = blacklist or {}

    def ids(self, module: str) -> tuple[Id, ...]:
        """Return the entries of a module's tables: not in their order, no driver_data.

        Nothing is known of most built-in modules: they have none then.
        """
        name = module_name(module)
        return self._loadable.ids(name) or self._built_in.ids(name)

    def modules(self, device: Device) -> tuple[str, ...]:
        """Name what `modprobe` would load for the device, blacklists aside."""
        return self._loadable.of(device, override_only=False)

    def built_in_modules(self, device: Device) -> tuple[str, ...]:
        """Name the built-in modules that list the device, as far as they tell."""
        return self._built_in.of(device, override_only=False)

    def override_only_modules(self, device: Device) -> tuple[str, ...]:
        """Name the modules that can drive the device with its driver_override only."""
        return self._loadable.of(device, override_only=True)

    def tell_built_in(self) -> bool:
        """Say whether ids of built-in modules are known at all."""
        return bool(self._built_in.modules)

    def builtin(self, module: str) -> bool:
        """Say whether the module is part of the kernel."""
        return module_name(module) in self._names

    def blacklisted(self, module: str) -> str | None:
        """Say where it is forbidden to load it for a device; None: nowhere."""
        return self._blacklist.get(module_name(module))

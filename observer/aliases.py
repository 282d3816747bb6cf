"""Which modules would be loaded for a device: the aliases that modules have.

An alias is an id_table's entry in text, ``pci:v00008086d0000100Esv*sd*bc*sc*i*``, but
for its driver_data. Those of override_only entries begin with ``vfio_pci:``; no device
asks for them by itself.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final, NamedTuple

from observer.model.primitives import id_matches
from observer.model.table import Table, is_terminator
from observer.module_names import module_name
from observer.record import PCI_ANY_ID, Id

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from observer.record import Device

_ID: Final = r"(\*|[0-9A-F]{8})"
_BYTE: Final = r"(\*|[0-9A-F]{2})"
_FIELDS: Final = rf"{_ID}d{_ID}sv{_ID}sd{_ID}bc{_BYTE}sc{_BYTE}i{_BYTE}\*?"
_PATTERN: Final = re.compile(f"(vfio_)?pci:v{_FIELDS}")
_LINE: Final = re.compile(f"{_FIELDS} ([^ ]+)")  # after pci:v
_ANY_CLASS: Final = ["*", "*", "*"]
_KEY: Final = len("00008086d0000100E")
# An alias that a device could ask for, or that stands for vfio; and those of them that
# are understood.
_OF_PCI: Final = re.compile(r"\nalias (?:(?:vfio_)?pci:|[*?\[])")
_UNDERSTOOD: Final = re.compile(rf"\nalias (?:vfio_)?pci:v{_FIELDS} ")


class Alias(NamedTuple):
    """One alias of a module."""

    module: str
    id: Id


def built_in_aliases(text: str) -> Iterator[Alias]:
    """Yield the PCI aliases of a modules.builtin.modinfo; not every kernel has them."""
    for line in text.split("\0"):
        module, _, pattern = line.partition(".alias=")
        yield from _alias(module, pattern)


def odd_aliases(text: str) -> tuple[str, ...]:
    """Return the aliases of a modules.alias that may be PCI's and aren't understood."""
    text = f"\n{text}"
    if len(_OF_PCI.findall(text)) == len(_UNDERSTOOD.findall(text)):
        return ()
    return tuple(
        line.split(" ")[1]
        for line in text.split("\n")
        if _OF_PCI.match(f"\n{line}") and not _UNDERSTOOD.match(f"\n{line} ")
    )


def _alias(module: str, pattern: str) -> Iterator[Alias]:
    match = _PATTERN.fullmatch(pattern)
    if match is not None:
        flag, *fields = match.groups()
        yield from _entry(module, flag, fields)


def _alias_of(flag: str, line: str) -> Iterator[Alias]:
    """Understand a line of modules.alias, which begins after ``pci:v``."""
    match = _LINE.fullmatch(line)
    if match is not None:
        *fields, module = match.groups()
        yield from _entry(module, flag, fields)


def _entry(module: str, flag: str | None, fields: Sequence[str]) -> Iterator[Alias]:
    vendor, device, subvendor, subdevice, *class_bytes = fields
    class_ = mask = 0
    if class_bytes != _ANY_CLASS:
        for byte in class_bytes:
            any_ = byte == "*"
            class_ = class_ << 8 | (0 if any_ else int(byte, 16))
            mask = mask << 8 | (0 if any_ else 0xFF)
    entry = Id(
        PCI_ANY_ID if vendor == "*" else int(vendor, 16),
        PCI_ANY_ID if device == "*" else int(device, 16),
        PCI_ANY_ID if subvendor == "*" else int(subvendor, 16),
        PCI_ANY_ID if subdevice == "*" else int(subdevice, 16),
        class_,
        mask,
        0,
        1 if flag else 0,
    )
    if not is_terminator(entry):  # the kernel's walk through a table ends at it
        yield Alias(module_name(module), entry)


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


class Index:
    """Aliases, arranged so that those of a device are found at once."""

    def __init__(self, aliases: Iterable[Alias]) -> None:
        """Take them in their order."""
        self._aliases = tuple(aliases)
        self._table = Table(tuple(alias.id for alias in self._aliases))
        self._of_module: dict[str, list[Id]] = {}
        for module, entry in self._aliases:
            self._of_module.setdefault(module, []).append(entry)

    def __bool__(self) -> bool:
        return bool(self._aliases)

    def of(self, device: Device) -> list[Alias]:
        """Return those that fit a device, in their order."""
        return [self._aliases[place] for place in self._table.hits(device)]

    def ids(self, module: str) -> Sequence[Id]:
        """Return the entries of a module, in their order."""
        return self._of_module.get(module, ())

    def places(self, device: Device) -> Sequence[int]:
        """Return where those stand that fit a device."""
        return self._table.hits(device)


class _Lines:
    """Some aliases of a modules.alias, each understood only when a device needs it.

    A kernel has ten thousand, a machine few kinds of devices.
    """

    def __init__(self, text: str, prefix: str) -> None:
        """Find those that begin with `prefix`: ``pci:v`` or ``vfio_pci:v``."""
        lines: list[str] = re.findall(rf"\nalias {prefix}([^\n]*)", f"\n{text}")
        self._lines, self._flag = lines, prefix.partition("pci")[0]
        self._places: dict[str, list[int]] = {}  # by vendor and device as written
        for place, line in enumerate(lines):
            key = line[:_KEY]
            if "*" in key:
                key = key[: key.index("*") + 1]
            if key in self._places:
                self._places[key].append(place)
            else:
                self._places[key] = [place]
        self._read: dict[str, list[tuple[int, Alias]]] = {}
        self._of_any_vendor: Index | None = None
        self._of_module: dict[str, list[str]] | None = None

    def of(self, device: Device) -> list[Alias]:
        """Return those that fit a device, in their order."""
        vendor = f"{device.vendor:08X}d"
        found = [
            (place, alias)
            for key in (f"{vendor}{device.device:08X}", f"{vendor}*")
            if key in self._places
            for place, alias in self._near(key)
            if id_matches(alias.id, device)
        ]
        if "*" in self._places:
            near = self._near("*")
            if self._of_any_vendor is None:
                self._of_any_vendor = Index(alias for _place, alias in near)
            found += [near[at] for at in self._of_any_vendor.places(device)]
        if len(found) > 1:
            found.sort()
        return [alias for _place, alias in found]

    def ids(self, module: str) -> Iterator[Id]:
        """Yield the entries of a module, in their order."""
        if self._of_module is None:
            self._of_module = {}
            for line in self._lines:
                name = module_name(line[line.rfind(" ") + 1 :])
                self._of_module.setdefault(name, []).append(line)
        for line in self._of_module.get(module, ()):
            for alias in _alias_of(self._flag, line):
                yield alias.id

    def _near(self, key: str) -> list[tuple[int, Alias]]:
        """Return those whose vendor and device are written so, with their places."""
        known = self._read.get(key)
        if known is None:
            known = self._read[key] = [
                (place, alias)
                for place in self._places[key]
                for alias in _alias_of(self._flag, self._lines[place])
            ]
        return known


class Aliases:
    """The PCI aliases of one kernel's modules.

    Modules may be named with - or _ and are returned with _.
    """

    def __init__(
        self,
        modules_alias: str = "",
        built_in: Iterable[Alias] = (),
        *,
        built_in_modules: Iterable[str] = (),
        blacklist: Mapping[str, str] | None = None,
    ) -> None:
        """Take the text of a modules.alias, and what the functions above understood."""
        self._loadable = _Lines(modules_alias, "pci:v")
        self._override_only = _Lines(modules_alias, "vfio_pci:v")
        self._built_in = Index(built_in)
        self._names = frozenset(built_in_modules)
        self._blacklist = blacklist or {}

    def ids(self, module: str) -> tuple[Id, ...]:
        """Return the entries of a module's tables: not in their order, no driver_data.

        Nothing is known of most built-in modules: they have none then.
        """
        name = module_name(module)
        return (
            *self._loadable.ids(name),
            *self._override_only.ids(name),
            *self._built_in.ids(name),
        )

    def of(self, device: Device) -> list[Alias]:
        """Return all that fit a device: built in, loadable, override_only."""
        return [
            *self._built_in.of(device),
            *self._loadable.of(device),
            *self._override_only.of(device),
        ]

    def modules(self, device: Device) -> tuple[str, ...]:
        """Name what `modprobe` would load for the device, blacklists aside."""
        return _modules(self._loadable.of(device))

    def built_in_modules(self, device: Device) -> tuple[str, ...]:
        """Name the built-in modules that list the device, as far as they tell."""
        return _modules(
            alias for alias in self._built_in.of(device) if not alias.id.override_only
        )

    def override_only_modules(self, device: Device) -> tuple[str, ...]:
        """Name the modules that can drive the device with its driver_override only."""
        return _modules(self._override_only.of(device))

    def tell_built_in(self) -> bool:
        """Say whether ids of built-in modules are known at all."""
        return bool(self._built_in)

    def builtin(self, module: str) -> bool:
        """Say whether the module is part of the kernel."""
        return module_name(module) in self._names

    def blacklisted(self, module: str) -> str | None:
        """Say where it is forbidden to load it for a device; None: nowhere."""
        return self._blacklist.get(module_name(module))


def _modules(aliases: Iterable[Alias]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(alias.module for alias in aliases))

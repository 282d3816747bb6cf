"""What modprobe.d, and the kernel's command line, say about modules."""

from __future__ import annotations

import re
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, Final, NamedTuple

from observer.aliases import modalias
from observer.module_names import module_name

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from observer.record import Device

COMMAND_LINE: Final = "the kernel's command line"
_WORD: Final = re.compile(r"[^ \t]+")
_PARAMETER: Final = re.compile(r'(?:"[^"]*"|[^\s"])+')
_NOTHING: Final = {"true", "false"}  # programs that stand for not loading
_PCI: Final = ("pci:", "*", "?", "[")  # how patterns for PCI devices begin
_BLACKLISTS: Final = {"modprobe.blacklist", "module_blacklist"}


class Line(NamedTuple):
    """One line of modprobe.d, or one module of the command line."""

    directive: str  # "options"
    module: str  # as it is written there; of an alias its target
    words: tuple[str, ...]  # the rest; of an alias its pattern
    path: str


class Softdep(NamedTuple):
    """What is loaded before and after a module, if it is there."""

    pre: frozenset[str]
    post: frozenset[str]


_NO_SOFTDEP: Final = Softdep(frozenset(), frozenset())


def parameters(command_line: str) -> Iterator[tuple[str, str]]:
    """Yield name and value of each parameter; the kernel's end with ``--``."""
    for word in _PARAMETER.findall(command_line):
        if word == "--":
            return
        name, _, value = word.replace('"', "").partition("=")
        yield name, value


def lines_of(configuration: Mapping[str, str]) -> Iterator[Line]:
    """Yield the lines of modprobe.d, whose files' texts stand by their paths."""
    for path, text in configuration.items():
        for line in text.replace("\\\n", "").split("\n"):
            match _WORD.findall(line):
                case ["alias", pattern, module, *_]:
                    yield Line("alias", module, (pattern,), path)
                case [
                    ("blacklist" | "install" | "options" | "softdep") as directive,
                    module,
                    *words,
                ]:
                    yield Line(directive, module, tuple(words), path)


def blacklist(configuration: Mapping[str, str], command_line: str) -> dict[str, str]:
    """Say by module in which file it is blacklisted.

    A module whose `install` command is `/bin/false` or `/bin/true` counts too.
    """
    return ModprobeD.read(configuration, command_line).blacklist


def softdeps(lines: Iterable[Line]) -> dict[str, Softdep]:
    """Return the soft dependencies by module; those of several lines add up."""
    found: dict[str, Softdep] = {}
    for line in lines:
        if line.directive != "softdep":
            continue
        parts: dict[str, set[str]] = {"": set(), "pre:": set(), "post:": set()}
        part = ""
        for word in line.words:
            if word in parts:
                part = word
            else:
                parts[part].add(module_name(word))
        module = module_name(line.module)
        before = found.get(module, _NO_SOFTDEP)
        found[module] = Softdep(
            before.pre | parts["pre:"], before.post | parts["post:"]
        )
    return found


class ModprobeD(NamedTuple):
    """modprobe's configuration, which all kernels of a machine share."""

    lines: tuple[Line, ...]
    blacklist: dict[str, str]  # where, by module
    softdeps: dict[str, Softdep]

    @classmethod
    def read(cls, configuration: Mapping[str, str], command_line: str) -> ModprobeD:
        """Understand the text of each file, by its path."""
        lines = tuple(lines_of(configuration))
        return cls(lines, dict(_blacklisted(lines, command_line)), softdeps(lines))

    def options(self, module: str) -> Iterator[Line]:
        """Yield the lines with options of a module."""
        return (
            line
            for line in self.lines
            if line.directive == "options" and module_name(line.module) == module
        )

    def modules(self, device: Device) -> tuple[str, ...]:
        """Name what an `alias` line makes of the device: instead of modules.alias."""
        name: str | None = None
        found = []
        for line in self.lines:
            if line.directive == "alias" and line.words[0].startswith(_PCI):
                name = name or modalias(device)
                if fnmatchcase(name, line.words[0]):
                    found.append(module_name(line.module))
        return tuple(dict.fromkeys(found))


def _blacklisted(lines: Iterable[Line], command_line: str) -> Iterator[tuple[str, str]]:
    """Yield module and place, the first place of a module last."""
    for name, value in reversed([*parameters(command_line)]):
        if name in _BLACKLISTS:
            for module in filter(None, value.split(",")):
                yield module_name(module), COMMAND_LINE
    for line in reversed([*lines]):
        match line:
            case Line("blacklist", module, _, path):
                yield module_name(module), path
            case Line("install", module, (program, *_), path) if (
                program.rpartition("/")[2] in _NOTHING
            ):
                yield module_name(module), path

"""The modules of one kernel, as the files of its directory list them."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final, NamedTuple

from observer.aliases import Aliases, built_in_aliases
from observer.modprobe_d import Softdep, lines_of, softdeps
from observer.module_names import (
    built_in_modules,
    loadable_modules,
    module_name,
    modules_of,
    told_modules,
)

if TYPE_CHECKING:
    from collections.abc import Mapping

FILES: Final = (
    "modules.alias",
    "modules.builtin.modinfo",
    "modules.builtin",
    "modules.dep",
    "modules.softdep",
)
_LITERAL: Final = re.compile(r"(?m)^alias ([^\s*?\[]+) ")


class KernelModules(NamedTuple):
    """What modules a kernel has, for whom, and in which order some are loaded."""

    aliases: Aliases
    loadable: Mapping[str, str]  # with the paths of all that each needs
    built_in: frozenset[str]
    softdeps: Mapping[str, Softdep]
    literal_aliases: frozenset[str]  # other names of modules

    @classmethod
    def of(cls, files: Mapping[str, str]) -> KernelModules:
        """Understand the texts of FILES, by name."""
        built_in = built_in_modules(files["modules.builtin"])
        return cls(
            Aliases(
                files["modules.alias"],
                built_in_aliases(files["modules.builtin.modinfo"]),
                built_in_modules=built_in,
            ),
            loadable_modules(files["modules.dep"]),
            built_in | told_modules(files["modules.builtin.modinfo"]),
            softdeps(lines_of({"modules.softdep": files["modules.softdep"]})),
            frozenset(map(module_name, _LITERAL.findall(files["modules.alias"]))),
        )

    def needs(self, module: str) -> frozenset[str]:
        """Name all modules that are loaded before this one, for it needs them."""
        return modules_of(self.loadable.get(module, ""))

    @property
    def known(self) -> bool:
        """Tell whether anything could be read."""
        return bool(self.loadable or self.built_in)

    def has(self, module: str) -> bool:
        """Say whether a module of this name is part of the kernel or can be loaded."""
        return module in self.loadable or module in self.built_in

    def knows(self, name: str) -> bool:
        """Say whether a name, of a module or another of its names, means something."""
        return self.has(module_name(name)) or module_name(name) in self.literal_aliases

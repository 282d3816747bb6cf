"""The names of a kernel's modules, as depmod's files list them."""

from __future__ import annotations

import re
from typing import Final

_DEPENDENCIES: Final = re.compile(r"\n(?:[^:\n]*/)?([^/:\n]+)\.ko[^:\n]*:([^\n]*)")


def module_name(name: str) -> str:
    """Spell a module's name as the kernel does: with underscores."""
    return name.replace("-", "_")


def told_modules(text: str) -> frozenset[str]:
    """Name the modules of a modules.builtin.modinfo: some are in no modules.builtin."""
    return frozenset(
        module_name(each.partition(".")[0]) for each in text.split("\0") if "." in each
    )


def built_in_modules(text: str) -> frozenset[str]:
    """Name the modules of a modules.builtin."""
    return frozenset(map(_of_path, text.splitlines()))


def loadable_modules(text: str) -> dict[str, str]:
    """Name the modules of a modules.dep, each with the paths of all that it needs."""
    return {
        module_name(name): needs for name, needs in _DEPENDENCIES.findall(f"\n{text}")
    }


def modules_of(paths: str) -> frozenset[str]:
    """Name the modules of some paths."""
    return frozenset(map(_of_path, paths.split()))


def _of_path(path: str) -> str:
    return module_name(path.rpartition("/")[2].partition(".ko")[0])

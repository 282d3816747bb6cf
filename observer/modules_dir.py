"""The aliases of a kernel's modules: its directory, and modprobe's configuration."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Final

from observer.aliases import (
    Aliases,
    blacklist,
    built_in_aliases,
    built_in_modules,
    loadable_aliases,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

MODULES: Final = Path("/lib/modules")
# A file hides those of the same name in the directories after it.
CONFIGURATION: Final = tuple(
    Path(directory, "modprobe.d")
    for directory in ("/etc", "/run", "/usr/local/lib", "/usr/lib", "/lib")
)
COMMAND_LINE: Final = Path("/proc/cmdline")


def read_aliases(
    release: str,
    *,
    root: Path = MODULES,
    configuration: Sequence[Path] = CONFIGURATION,
    command_line: Path = COMMAND_LINE,
) -> tuple[Aliases, tuple[str, ...]]:
    """Read the aliases of a release's modules, and say what could not be read.

    That older kernels tell no aliases of built-in modules is no gap of the reading:
    `Aliases.ids` is empty for these.
    """
    gaps: list[str] = []
    directory = root / release
    aliases = Aliases(
        loadable_aliases(_text(directory / "modules.alias", gaps)),
        built_in_aliases(_text(directory / "modules.builtin.modinfo", gaps)),
        built_in_modules=built_in_modules(_text(directory / "modules.builtin", gaps)),
        blacklist=blacklist(
            {str(path): _text(path, gaps) for path in _files(configuration, gaps)},
            _text(command_line, gaps),
        ),
    )
    return aliases, tuple(gaps)


def _files(directories: Sequence[Path], gaps: list[str]) -> list[Path]:
    found: dict[str, Path] = {}
    for directory in directories:
        try:
            names = [path.name for path in directory.iterdir()]
        except FileNotFoundError:
            continue
        except OSError as error:
            gaps.append(f"{directory} can't be read ({error.strerror}).")
            continue
        for name in names:
            if name.endswith(".conf") and not name.startswith("."):
                found.setdefault(name, directory / name)
    return [found[name] for name in sorted(found)]


def _text(path: Path, gaps: list[str]) -> str:
    try:
        return path.read_bytes().decode("utf-8", "surrogateescape")
    except OSError as error:
        gaps.append(f"{path} can't be read ({error.strerror}).")
        return ""

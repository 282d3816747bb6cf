"""The aliases of a kernel's modules: its directory, and modprobe's configuration."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Final

from observer.aliases import Aliases, built_in_aliases, odd_aliases
from observer.modprobe_d import blacklist
from observer.module_names import built_in_modules
from observer.text import printable

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
    loadable = text_of(directory / "modules.alias", gaps)
    aliases = Aliases(
        loadable,
        built_in_aliases(text_of(directory / "modules.builtin.modinfo", gaps)),
        built_in_modules=built_in_modules(text_of(directory / "modules.builtin", gaps)),
        blacklist=blacklist(
            configuration_texts(configuration, gaps), text_of(command_line, gaps)
        ),
    )
    tell_odd(directory, loadable, gaps)
    return aliases, tuple(gaps)


def tell_odd(directory: Path, modules_alias: str, gaps: list[str]) -> None:
    """Add a gap where there are aliases that can't be understood."""
    odd = odd_aliases(modules_alias)
    if odd:
        gaps.append(
            f"{directory}/modules.alias: {len(odd)} of its aliases are of a form that "
            f"is not understood and left out, as {printable(odd[0])}."
        )


def configuration_texts(directories: Sequence[Path], gaps: list[str]) -> dict[str, str]:
    """Read the files of configuration directories by path, in modprobe's order."""
    return {str(path): text_of(path, gaps) for path in _files(directories, gaps)}


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


def text_of(path: Path, gaps: list[str]) -> str:
    """Read a file; one that can't be read is empty, and a gap."""
    try:
        return path.read_bytes().decode("utf-8", "surrogateescape")
    except OSError as error:
        gaps.append(f"{path} can't be read ({error.strerror}).")
        return ""

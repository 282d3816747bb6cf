"""Reads what is known of an installed kernel that does not run: see preflight."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Final

from observer.btf import Btf, BtfError
from observer.kernel_image import ImageError, btf_of
from observer.kernel_modules import FILES, KernelModules
from observer.layout import LayoutError, layout_of
from observer.modules_dir import tell_odd, text_of
from observer.preflight.kernels import Kernel, Rules, config_of

if TYPE_CHECKING:
    from collections.abc import Iterator

    from observer.machine import Machine

MODULES: Final = "lib/modules"
_USR_MODULES: Final = "usr/lib/modules"


class TargetError(Exception):
    """No such kernel; the sentence says what there is instead."""


def directory_of(release: str, root: Path) -> Path:
    """Find the modules of an installed kernel. Raises TargetError."""
    for modules in (MODULES, _USR_MODULES):
        directory = root / modules / release
        if "/" not in release and (directory / "modules.dep").is_file():
            return directory
    there = sorted(
        {
            path.parent.name
            for modules in (MODULES, _USR_MODULES)
            for path in (root / modules).glob("*/modules.dep")
        }
    )
    installed = f"installed are {', '.join(there)}" if there else "none is installed"
    raise TargetError(f"{release}: no such kernel below {root / MODULES}; {installed}")


def installed(directory: Path, root: Path, *, image: Path | None = None) -> Kernel:
    """Read the kernel whose modules are in `directory`; its image, or the one named.

    Raises TargetError when this is no directory of modules, or what was named no image.
    """
    if not (directory / "modules.dep").is_file():
        raise TargetError(
            f"{directory}: no directory of modules, for it has no modules.dep; "
            "it should be like /lib/modules/RELEASE"
        )
    release = directory.resolve().name
    modules, gaps = read_modules(directory)
    rules, reason = _rules(image, [*_beside(directory, release, root)])
    return Kernel(
        release, modules, rules, _config(directory, release, root), (*gaps, *reason)
    )


def running(machine: Machine, root: Path) -> Kernel:
    """Read the kernel that runs; what can't be read of it is a gap."""
    release = machine.release
    directory = root / MODULES / release
    modules, gaps = read_modules(directory)
    rules = Rules(machine.layout, machine.semantics, machine.new_id_rules)
    return Kernel(release, modules, rules, _config(directory, release, root), gaps)


def read_modules(directory: Path) -> tuple[KernelModules, tuple[str, ...]]:
    """Read what a directory such as /lib/modules/RELEASE tells of its kernel's modules.

    And what could not be read. Blacklists are no part of it.
    """
    gaps: list[str] = []
    files = {name: text_of(directory / name, gaps) for name in FILES}
    tell_odd(directory, files["modules.alias"], gaps)
    return KernelModules.of(files), tuple(gaps)


def _beside(directory: Path, release: str, root: Path) -> Iterator[Path]:
    """Yield where a kernel's image may be: an unpacked package has its own /boot."""
    yield directory / "vmlinuz"
    for up in ("../../..", "../.."):
        yield directory.resolve() / up / "boot" / f"vmlinuz-{release}"
    yield root / "boot" / f"vmlinuz-{release}"


def _rules(
    image: Path | None, places: list[Path]
) -> tuple[Rules | None, tuple[str, ...]]:
    found = image or next(filter(Path.is_file, places), None)
    if found is None:
        gap = "no kernel image beside its modules; name it with --image"
        return None, (_unknown(gap),)
    try:
        layout = layout_of(Btf(btf_of(found)))
    except (ImageError, BtfError, LayoutError) as error:
        reason = str(error) if isinstance(error, ImageError) else f"{found}: {error}"
        if image is not None:
            raise TargetError(reason) from error
        return None, (_unknown(reason),)
    return Rules(layout.name, layout.semantics, layout.new_id_rules), ()


def _unknown(reason: str) -> str:
    return f"The rules of the target kernel are taken for linux-5.15: {reason}."


def _config(directory: Path, release: str, root: Path) -> dict[str, str] | None:
    for path in (
        directory / "config",
        directory.resolve() / "../../../boot" / f"config-{release}",
        root / "boot" / f"config-{release}",
    ):
        try:
            return config_of(path.read_text(errors="replace"))
        except OSError:
            continue
    return None

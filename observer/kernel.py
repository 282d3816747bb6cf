"""What the running kernel tells about itself in files."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from observer.btf import Btf, BtfError
from observer.layout import Layout, layout_of

if TYPE_CHECKING:
    from collections.abc import Iterable

VMLINUX_BTF = "/sys/kernel/btf/vmlinux"
BOOT_ID = "/proc/sys/kernel/random/boot_id"


class KernelError(Exception):
    """A kernel that can't be observed; the sentence says why and what to do."""


class Kernel(NamedTuple):
    """A kernel's name; never used to decide anything."""

    release: str
    machine: str


def running() -> Kernel:
    """Name the running kernel."""
    uname = os.uname()
    return Kernel(uname.release, uname.machine)


def boot_id(*, path: str | Path = BOOT_ID) -> str:
    """Return the name that the kernel gave this boot. Raises OSError."""
    return Path(path).read_text(encoding="ascii").strip()


def read_btf(path: str | Path = VMLINUX_BTF) -> Btf:
    """Parse a kernel's BTF; raise KernelError when there is none or it is broken."""
    try:
        data = Path(path).read_bytes()
    except FileNotFoundError as e:
        raise KernelError(
            f"this kernel offers no type information ({path} does not exist); "
            "boot one built with CONFIG_DEBUG_INFO_BTF=y"
        ) from e
    except OSError as e:
        raise KernelError(
            f"the kernel's type information {path} can't be read: {e.strerror}; "
            "run as root"
        ) from e
    try:
        return Btf(data)
    except BtfError as e:
        raise KernelError(
            f"the kernel's type information in {path} is no BTF: {e}; "
            "boot a kernel built with CONFIG_DEBUG_INFO_BTF=y"
        ) from e


def running_layout(*, btf: str | Path = VMLINUX_BTF) -> Layout:
    """Choose the layout of the kernel whose BTF this is.

    Raises KernelError, or LayoutError naming the struct and field that is missing.
    """
    return layout_of(read_btf(btf))


def symbol_address(name: str, *, kallsyms: str | Path = "/proc/kallsyms") -> int:
    """Return a symbol's address, 0 where it is absent, hidden or ambiguous."""
    return symbol_addresses([name], kallsyms=kallsyms).get(name, 0)


def symbol_addresses(
    names: Iterable[str], *, kallsyms: str | Path = "/proc/kallsyms"
) -> dict[str, int]:
    """Return these symbols' addresses; what is absent, hidden or ambiguous is left out.

    Reading the table takes a second or more under emulation: ask for all at once.
    """
    try:
        table = Path(kallsyms).read_bytes()
    except OSError:
        return {}
    wanted = b"|".join(re.escape(name.encode()) for name in names)
    found: dict[str, list[int]] = {}
    for line in re.finditer(rb"(?m)^([0-9a-f]+) \w (" + wanted + rb")$", table):
        found.setdefault(line[2].decode(), []).append(int(line[1], 16))
    return {name: at[0] for name, at in found.items() if len(at) == 1 and at[0]}


def command_line(*, path: str | Path = "/proc/cmdline") -> str:
    """Return the words that the kernel was started with; none where it hides them."""
    try:
        return Path(path).read_text(errors="replace").strip()
    except OSError:
        return ""


def lockdown(*, path: str | Path = "/sys/kernel/security/lockdown") -> str:
    """Return the lockdown level: none, integrity or confidentiality."""
    try:
        found = re.search(r"\[(\w+)\]", Path(path).read_text())
    except OSError:
        return "none"  # securityfs is not mounted, or no lockdown in this kernel
    return found[1] if found else "none"


def kprobes_enabled(*, path: str | Path = "/sys/kernel/debug/kprobes/enabled") -> bool:
    """Say whether kprobes fire at all; True where the kernel does not tell.

    While they are switched off they can be attached all the same.
    """
    try:
        return Path(path).read_text().strip() != "0"
    except OSError:
        return True


def preempts(*, path: str | Path = "/sys/kernel/debug/sched/preempt") -> bool:
    """Say whether the kernel may preempt itself; False where it does not tell.

    A trampoline's program that is preempted is skipped for other tasks on its CPU.
    """
    try:
        found = re.search(r"\((\w+)\)", Path(path).read_text())
    except OSError:
        return False
    return found is not None and found[1] in {"full", "lazy"}

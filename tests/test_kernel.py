"""observer/kernel.py: what the kernel's own files tell, and what if they don't."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from observer.kernel import (
    Kernel,
    KernelError,
    lockdown,
    preempts,
    read_btf,
    running,
    running_layout,
    symbol_address,
    symbol_addresses,
)

BTF = Path(__file__).parent / "btf"
KALLSYMS = """\
ffffffff81000000 T _text
ffffffff824c7f40 D pci_device_id_any
ffffffff824c7f60 d twice
ffffffff824c7f80 d twice
ffffffffc0401000 d in_a_module	[vfio_pci]
ffffffff824c8000 D pci_device_id_any_more
"""


def address(tmp_path: Path, name: str, text: str = KALLSYMS) -> int:
    """Look a symbol up in this text."""
    kallsyms = tmp_path / "kallsyms"
    kallsyms.write_text(text)
    return symbol_address(name, kallsyms=kallsyms)


def test_running() -> None:
    """The running kernel is named as uname names it."""
    assert Kernel(os.uname().release, os.uname().machine) == running()


def test_symbol(tmp_path: Path) -> None:
    """A symbol's address is the one of exactly this name."""
    assert 0xFFFFFFFF824C7F40 == address(tmp_path, "pci_device_id_any")


@pytest.mark.parametrize(
    "name", ["absent", "twice", "in_a_module", "device_id_any", "pci_device_id"]
)
def test_no_symbol(tmp_path: Path, name: str) -> None:
    """A symbol that is absent, ambiguous or a module's has no address."""
    assert 0 == address(tmp_path, name)


def test_symbols(tmp_path: Path) -> None:
    """One pass finds several; those without an address are left out."""
    kallsyms = tmp_path / "kallsyms"
    kallsyms.write_text(KALLSYMS)
    names = ["twice", "_text", "absent", "pci_device_id_any", "in_a_module"]
    expected = {"_text": 0xFFFFFFFF81000000, "pci_device_id_any": 0xFFFFFFFF824C7F40}
    assert expected == symbol_addresses(names, kallsyms=kallsyms)


def test_hidden_symbols_are_left_out(tmp_path: Path) -> None:
    """The kernel shows all as 0 to those who may not see them."""
    kallsyms = tmp_path / "kallsyms"
    kallsyms.write_text("0000000000000000 D pci_bus_type\n")
    assert {} == symbol_addresses(["pci_bus_type"], kallsyms=kallsyms)
    assert {} == symbol_addresses(["pci_bus_type"], kallsyms=tmp_path / "none")


def test_hidden_symbol(tmp_path: Path) -> None:
    """With kptr_restrict all addresses read as zeros: none is known."""
    assert 0 == address(tmp_path, "hidden", "0000000000000000 D hidden\n")


def test_no_kallsyms(tmp_path: Path) -> None:
    """A kernel without kallsyms tells no address."""
    assert 0 == symbol_address("_text", kallsyms=tmp_path / "absent")


@pytest.mark.parametrize(
    ("text", "level"),
    [
        ("[none] integrity confidentiality\n", "none"),
        ("none [integrity] confidentiality\n", "integrity"),
        ("none integrity [confidentiality]\n", "confidentiality"),
        ("", "none"),
    ],
)
def test_lockdown(tmp_path: Path, text: str, level: str) -> None:
    """The level in brackets is the one in force."""
    (tmp_path / "lockdown").write_text(text)
    assert level == lockdown(path=tmp_path / "lockdown")


def test_no_lockdown(tmp_path: Path) -> None:
    """Without securityfs or lockdown nothing is locked down."""
    assert "none" == lockdown(path=tmp_path / "absent")


def test_no_btf(tmp_path: Path) -> None:
    """A kernel without BTF can't be observed; the missing option is named."""
    path = tmp_path / "vmlinux"
    with pytest.raises(KernelError) as caught:
        read_btf(path)
    assert (
        f"this kernel offers no type information ({path} does not exist); "
        "boot one built with CONFIG_DEBUG_INFO_BTF=y"
    ) == str(caught.value)


def test_unreadable_btf(tmp_path: Path) -> None:
    """A file that can't be read is no missing one."""
    with pytest.raises(KernelError) as caught:
        read_btf(tmp_path)
    assert (
        f"the kernel's type information {tmp_path} can't be read: Is a directory; "
        "run as root"
    ) == str(caught.value)


def test_broken_btf(tmp_path: Path) -> None:
    """What is no BTF is said to be none, and in which file."""
    path = tmp_path / "vmlinux"
    path.write_bytes(b"\x7fELF")
    with pytest.raises(KernelError, match=f"type information in {path} is no BTF: "):
        read_btf(path)


def test_layout() -> None:
    """The layout is the one of the file."""
    assert "E" == running_layout(btf=BTF / "6.1.0-56-amd64.btf").name


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("none (voluntary) full\n", False),
        ("none voluntary (full)\n", True),
        ("full (lazy)\n", True),
        ("(none) voluntary full\n", False),
        ("", False),
    ],
)
def test_preemption(tmp_path: Path, text: str, *, expected: bool) -> None:
    """The model in parentheses is in force."""
    (tmp_path / "preempt").write_text(text)
    assert expected is preempts(path=tmp_path / "preempt")


def test_preemption_is_not_told(tmp_path: Path) -> None:
    """Without debugfs, or on a kernel that can't change it, nothing is assumed."""
    assert False is preempts(path=tmp_path / "preempt")

"""observer/boot_config.py: what is loaded and set while a machine boots."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from kernels_made import boot_config

from observer.boot_config import (
    Named,
    Stage,
    dracut,
    ids,
    mkinitcpio,
    module_lines,
    named_on_command_line,
    overridden,
)
from observer.modprobe_d import COMMAND_LINE
from observer.record import PCI_ANY_ID, Id

ANY = PCI_ANY_ID
INITRAMFS, MODULES_LOAD = Stage.INITRAMFS, Stage.MODULES_LOAD


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("10de:13c2", [Id(0x10DE, 0x13C2)]),
        ("10de:13c2,10de:0fbb", [Id(0x10DE, 0x13C2), Id(0x10DE, 0x0FBB)]),
        ("'1:2:3:4'", [Id(1, 2, 3, 4)]),
        ("1:2:3", [Id(1, 2, 3, ANY)]),
        ("1:2:3:4:20000:ffff00", [Id(1, 2, 3, 4, 0x20000, 0xFFFF00)]),
        ("ffffffff:ffffffff:ffffffff:ffffffff", [Id(ANY, ANY)]),
        ("0x10de:0x13c2", [Id(0x10DE, 0x13C2)]),
        ("1,1:2:3:4:5:6:7,1:g,,1:2", [Id(1, 2)]),
        ("", []),
    ],
)
def test_ids(text: str, expected: list[Id]) -> None:
    """As vfio-pci and pci-stub read them: two fields to six; the odd are left out."""
    assert expected == list(ids(text))


def test_module_lines() -> None:
    """A module a line, with parameters; comments begin with # or ;."""
    text = "# vfio\nvfio_pci ids=1:2 disable_vga=1 # the card\n\n; no\n  loop\n"
    assert [
        Named("vfio_pci", INITRAMFS, "/m", "ids=1:2 disable_vga=1 "),
        Named("loop", INITRAMFS, "/m"),
    ] == list(module_lines(text, INITRAMFS, "/m"))


def test_dracut() -> None:
    """Drivers that are added or forced, with either quotes."""
    text = """\
add_drivers+=" vfio vfio_pci "
#force_drivers+=" no "
force_drivers+='vfio_iommu_type1'
omit_drivers+=" nouveau "
add_dracutmodules+=" lvm "
"""
    assert ["vfio", "vfio_pci", "vfio_iommu_type1"] == [
        named.name for named in dracut(text, "/d")
    ]


@pytest.mark.parametrize(
    "text",
    [
        "MODULES=(vfio_pci vfio)",
        'MODULES="vfio_pci vfio"',
        "#MODULES=(no)\nMODULES+=(\n  vfio_pci\n  vfio?\n)\nHOOKS=(base)",
    ],
)
def test_mkinitcpio(text: str) -> None:
    """An array or a text; a ? says that it may be missing."""
    assert [Named("vfio_pci", INITRAMFS, "/m"), Named("vfio", INITRAMFS, "/m")] == list(
        mkinitcpio(text, "/m")
    )


@pytest.mark.timeout(10)
def test_empty_lines_take_no_time() -> None:
    """Each is looked at once."""
    lines = "\n" * 100_000
    assert ["a"] == [named.name for named in dracut(f"{lines}x\ndrivers=a", "/d")]
    assert ["a"] == [named.name for named in mkinitcpio(f"{lines}x\nMODULES=(a)", "/m")]


def test_command_line() -> None:
    """Systemd's and dracut's parameters name modules."""
    line = "modules-load=a,b rd.driver.pre=c rd.driver.blacklist=no modules_load= quiet"
    assert [
        Named("a", MODULES_LOAD, COMMAND_LINE),
        Named("b", MODULES_LOAD, COMMAND_LINE),
        Named("c", INITRAMFS, COMMAND_LINE),
    ] == list(named_on_command_line(line))


@pytest.mark.parametrize(
    ("name", "address"),
    [
        ("pci-0000:00:02.0", "0000:00:02.0"),
        ("0000:00:02.0", "0000:00:02.0"),
        ("README", ""),
    ],
)
def test_overridden(name: str, address: str) -> None:
    """A file's name is the device's, with the bus before it."""
    assert address == overridden(name)


def test_loads() -> None:
    """The initramfs comes first, and both spellings are one module."""
    config = boot_config(modules_load="vfio-pci\n", initramfs="vfio_pci\n")
    named = config.loads("vfio_pci")
    assert named is not None
    assert ("vfio_pci", INITRAMFS) == named[:2]
    assert None is config.loads("vfio")


def test_dynids_of_a_loadable_module() -> None:
    """Command line, modprobe.d and the list of the initramfs all reach it."""
    config = boot_config(
        command_line="vfio-pci.ids=1:1 other.ids=9:9",
        modprobe_d="options vfio_pci ids=2:2,1:1\n",
        initramfs="vfio-pci ids=3:3\n",
    )
    assert (Id(1, 1), Id(2, 2), Id(3, 3)) == config.dynids("vfio_pci", built_in=False)
    assert (Id(1, 1),) == config.dynids("vfio_pci", built_in=True)
    assert () == config.dynids("pci_stub", built_in=False)


@given(st.text())
def test_any_text(text: str) -> None:
    """Whatever stands in a file is understood or passed over."""
    for read in (dracut, mkinitcpio):
        assert all(each.name for each in read(text, ""))
    list(ids(text))
    list(module_lines(text, INITRAMFS, ""))
    list(named_on_command_line(text))

"""observer/module_names.py: modules by the names that the kernel spells."""

from __future__ import annotations

from observer.module_names import (
    built_in_modules,
    loadable_modules,
    module_name,
    modules_of,
    told_modules,
)


def test_module_name() -> None:
    """The kernel has underscores only."""
    assert "vfio_pci" == module_name("vfio-pci")


def test_loadable_modules() -> None:
    """Names come without directory and suffix, with _, and with what each needs."""
    text = (
        "kernel/drivers/vfio/pci/vfio-pci.ko.xz: kernel/drivers/vfio/vfio.ko.xz "
        "kernel/drivers/vfio/pci/vfio-pci-core.ko.xz\n"
        "updates/dkms/r8125.ko:\n"
    )
    found = loadable_modules(text)
    assert ["vfio_pci", "r8125"] == [*found]
    assert {"vfio", "vfio_pci_core"} == modules_of(found["vfio_pci"])
    assert set() == modules_of(found["r8125"])


def test_built_in_modules() -> None:
    """A line is a path."""
    text = "kernel/drivers/char/agp/intel-agp.ko\nkernel/fs/ext4/ext4.ko\n"
    assert {"intel_agp", "ext4"} == built_in_modules(text)
    assert set() == built_in_modules("")


def test_told_modules() -> None:
    """Each field begins with its module's name."""
    text = "shpchp.license=GPL\0shpchp.alias=pci:v*\0intel-agp.file=a/b\0\0"
    assert {"shpchp", "intel_agp"} == told_modules(text)

"""observer/surroundings.py: what is read around one device."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from machines import ADDRESS, device

from observer.surroundings import Surroundings, look

if TYPE_CHECKING:
    from pathlib import Path

RELEASE = "6.1.0-56-amd64"
E1000 = "pci:v00008086d0000100Esv*sd*bc*sc*i*"
ANY = "vfio_pci:v*d*sv*sd*bc*sc*i*"
# As the kernel prints them: start, end and flags of each BAR; then what holds what.
RESOURCE = """\
0x00000000fd000000 0x00000000fdffffff 0x0000000000042208
0x0000000000000000 0x0000000000000000 0x0000000000000000
0x00000000febd0000 0x00000000febd0fff 0x0000000000040200
0x000000000000c000 0x000000000000c03f 0x0000000000040101
0x0000000000000000 0x0000000000000000 0x0000000000000000
0x0000000000000000 0x0000000000000000 0x0000000000000000
0x00000000feb80000 0x00000000febbffff 0x0000000000046200
"""
IOMEM = """\
00001000-0009fbff : System RAM
fd000000-febfffff : PCI Bus 0000:00
  fd000000-fdffffff : 0000:00:02.0
    fd000000-fd2fffff : BOOTFB
  febd0000-febd0fff : 0000:00:02.0
    febd0000-febd0fff : ICH HD audio
fee00000-fee00fff : Local APIC
"""


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Return the root of a machine with two modules and a deferred device."""
    files = {
        f"lib/modules/{RELEASE}/modules.alias": (
            f"# comment\nalias {E1000} e1000\nalias {ANY} vfio_pci\n"
        ),
        f"lib/modules/{RELEASE}/modules.dep": (
            "kernel/drivers/net/e1000/e1000.ko:\n"
            "kernel/drivers/vfio/pci/vfio-pci.ko.xz: kernel/drivers/vfio/vfio.ko.xz\n"
        ),
        f"lib/modules/{RELEASE}/modules.builtin": "kernel/drivers/pci/pci-stub.ko\n",
        f"lib/modules/{RELEASE}/modules.builtin.modinfo": "",
        "etc/modprobe.d/no.conf": "blacklist e1000\n",
        "proc/cmdline": "quiet\n",
        "proc/iomem": IOMEM,
        f"sys/bus/pci/devices/{ADDRESS}/resource": RESOURCE,
        "sys/kernel/debug/devices_deferred": (
            f"0000:00:01.0\tother\n{ADDRESS}\ttoy: wait for supplier clk\n"
        ),
        "sys/module/vfio_pci/parameters/disable_denylist": "N\n",
        "sys/module/vfio/parameters/enable_unsafe_noiommu_mode": "Y\n",
    }
    for name, text in files.items():
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return tmp_path


def test_unbound(root: Path) -> None:
    """Modules by alias and by name, where they are blacklisted, and the deferral."""
    found = look(
        device(driver_override="pci-stub"), RELEASE, driver="vfio-pci", root=root
    )
    assert found == Surroundings(
        aliases_known=True,
        would_load=("e1000",),
        override_only=("vfio_pci",),
        blacklisted={"e1000": str(root / "etc/modprobe.d/no.conf")},
        providers={"vfio-pci": "vfio_pci", "pci-stub": "pci_stub"},
        builtin=frozenset({"pci_stub"}),
        deferred="toy: wait for supplier clk",
        denylist_disabled=False,
        noiommu=True,
    )


def test_name_that_nothing_has(root: Path) -> None:
    """No module is named like the driver."""
    assert {} == look(device(), RELEASE, driver="vifo-pci", root=root).providers


def test_not_deferred(root: Path) -> None:
    """The list is about other devices."""
    assert look(device("0000:00:03.0"), RELEASE, root=root).deferred is None


def test_deferred_without_a_reason(root: Path) -> None:
    """The driver gave none."""
    (root / "sys/kernel/debug/devices_deferred").write_text(f"{ADDRESS}\t\n")
    assert "" == look(device(), RELEASE, root=root).deferred


def test_bound_device_asks_for_no_module(root: Path) -> None:
    """Where all is well modules.alias is not even read."""
    found = look(device(bound="e1000"), RELEASE, driver="e1000", root=root)
    assert not found.aliases_known
    assert () == found.unknown


def test_boot_framebuffer_holds_a_bar(root: Path) -> None:
    """Other names may be the driver's own."""
    found = look(device(bound="bochs-drm"), RELEASE, root=root)
    assert ("BAR0 held by BOOTFB",) == found.holders


def test_driver_that_holds_nothing_itself(root: Path) -> None:
    """Then every name is somebody else's."""
    found = look(device(bound="vfio-pci"), RELEASE, root=root)
    assert ("BAR0 held by BOOTFB", "BAR2 held by ICH HD audio") == found.holders


def test_driver_that_holds_its_own_memory(root: Path) -> None:
    """Its own name says nothing."""
    (root / "proc/iomem").write_text(IOMEM.replace("BOOTFB", "vfio-pci"))
    found = look(device(bound="vfio-pci"), RELEASE, root=root)
    assert ("BAR2 held by ICH HD audio",) == found.holders


def test_addresses_hidden(root: Path) -> None:
    """Zeros are no addresses: it is not known who holds what."""
    hidden = "00000000-00000000 : PCI Bus 0000:00\n  00000000-00000000 : BOOTFB\n"
    (root / "proc/iomem").write_text(hidden)
    found = look(device(bound="vfio-pci"), RELEASE, root=root)
    assert () == found.holders
    assert ("Who holds the device's memory: /proc/iomem tells root only.",) == (
        found.unknown
    )


@pytest.mark.parametrize("bound", [None, "e1000"])
def test_nothing_to_read(tmp_path: Path, bound: str | None) -> None:
    """Whatever is missing is named, and nothing raises."""
    found = look(device(bound=bound), RELEASE, driver="vfio-pci", root=tmp_path)
    assert not found.aliases_known
    assert found.denylist_disabled is None
    assert any("modules.alias can't be read" in each for each in found.unknown)

"""observer/kernel_modules.py: what modules a kernel has."""

from __future__ import annotations

from kernels_made import ANY_ALIAS, E1000_ALIAS, modules
from machines import E1000_IDS

from observer.modprobe_d import Softdep


def test_all_files() -> None:
    """Loadable and built in, with aliases, needs and softdeps, by either spelling."""
    found = modules(
        {"e1000": E1000_ALIAS, "vfio-pci": ANY_ALIAS},
        {"virtio-pci": "pci:v00001AF4d*sv*sd*bc*sc*i*", "pci-stub": ""},
        depend={"vfio-pci": "kernel/vfio.ko.xz kernel/vfio-pci-core.ko.xz"},
        softdep="softdep e1000 pre: vfio-pci\n",
    )
    assert ("e1000",) == found.aliases.modules(E1000_IDS)
    assert {"vfio", "vfio_pci_core"} == found.needs("vfio_pci")
    assert set() == found.needs("e1000")
    assert {"virtio_pci", "pci_stub"} == found.built_in
    assert {"e1000": Softdep(frozenset({"vfio_pci"}), frozenset())} == found.softdeps
    assert found.known
    assert not modules().known


def test_names() -> None:
    """A name means something if it is a module's, or an alias without wildcards."""
    found = modules({"aesni-intel": "crypto-aes fs-odd*"}, {"loop": ""})
    assert found.has("aesni_intel")
    assert found.has("loop")
    assert not found.has("crypto_aes")
    for name in ("aesni-intel", "loop", "crypto-aes", "crypto_aes"):
        assert found.knows(name)
    assert not found.knows("fs-odd")


def test_what_is_built_in_without_being_a_module() -> None:
    """Some parts stand in modules.builtin.modinfo alone, as shpchp since 6.12."""
    found = modules(built_in={"shpchp": "pci:v*d*sv*sd*bc06sc04i00*"})
    assert "shpchp" in found.built_in
    assert found.aliases.tell_built_in()

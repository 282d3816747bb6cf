"""One look at the machine, without a daemon."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from machines import E1000

from observer import present
from observer.registered import Inventory

if TYPE_CHECKING:
    from observer.btf import Btf

BTF = Path(__file__).parent / "btf"


def test_no_types(tmp_path: Path) -> None:
    """Without type information the rules are guessed, and that is said."""

    def take(types: Btf | None) -> Inventory:
        assert types is None
        return Inventory((E1000,), order_known=False)

    seen = present.look(btf=tmp_path / "vmlinux", take=take, pci=tmp_path)
    assert ("unknown", "linux-5.15", "linux-7.3") == (
        seen.layout,
        seen.semantics,
        seen.new_id_rules,
    )
    assert {"e1000": E1000} == seen.drivers
    assert seen.gaps[0].startswith("The kernel's rules are taken for linux-5.15: ")


def test_look(tmp_path: Path) -> None:
    """Drivers, devices and what is not known of either come together."""

    def take(_types: Btf | None) -> Inventory:
        return Inventory((E1000,), order_known=True, gaps=("A gap.",))

    seen = present.look(btf=BTF / "6.1.0-56-amd64.btf", take=take, pci=tmp_path)
    assert {"e1000": E1000} == seen.drivers
    assert ("E", "linux-5.15") == (seen.layout, seen.semantics)
    assert ({}, None, None) == (
        seen.devices,
        seen.drivers_autoprobe,
        seen.observed_since_ns,
    )
    assert "A gap." in seen.gaps
    assert seen.realtime_offset_ns > 0

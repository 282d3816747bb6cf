"""The machine as one look shows it, when nobody watched."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Final

from observer import inventory, kernel, sysfs
from observer.layout import LayoutError, layout_of
from observer.machine import Machine

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from observer.btf import Btf
    from observer.registered import Inventory

# Of every kernel since 5.15, and so the likeliest of one that does not tell.
SEMANTICS: Final = "linux-5.15"
NEW_ID_RULES: Final = "linux-7.3"


def look(
    *,
    btf: str | Path = kernel.VMLINUX_BTF,
    take: Callable[[Btf | None], Inventory] = inventory.take,
    pci: Path = sysfs.PCI,
) -> Machine:
    """Look at the drivers, then at the devices; what can't be learned is a gap.

    As root in full, else from sysfs and modules.alias.
    """
    types = layout = None
    unknown: tuple[str, ...] = ()
    try:
        types = kernel.read_btf(btf)
        layout = layout_of(types)
    except (kernel.KernelError, LayoutError) as e:
        unknown = (f"The kernel's rules are taken for {SEMANTICS}: {e}.",)
    registered = take(types if layout else None)
    devices, gaps = sysfs.devices(root=pci)
    now_ns = time.monotonic_ns()
    return Machine(
        release=kernel.running().release,
        layout=layout.name if layout else "unknown",
        semantics=layout.semantics if layout else SEMANTICS,
        new_id_rules=layout.new_id_rules if layout else NEW_ID_RULES,
        drivers_autoprobe=sysfs.drivers_autoprobe(root=pci),
        drivers={each.driver.name: each for each in registered.drivers},
        order_known=registered.order_known,
        devices=devices,
        gaps=(*unknown, *registered.gaps, *gaps),
        now_ns=now_ns,
        realtime_offset_ns=time.time_ns() - now_ns,
        deferred=registered.deferred,
    )

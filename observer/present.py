"""The machine as one look shows it, when nobody watched."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from observer import inventory, kernel, sysfs
from observer.layout import UNKNOWN, LayoutError, layout_of
from observer.machine import Machine

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from observer.btf import Btf
    from observer.registered import Inventory


def look(
    *,
    btf: str | Path = kernel.VMLINUX_BTF,
    take: Callable[[Btf | None], Inventory] = inventory.take,
    pci: Path = sysfs.PCI,
) -> Machine:
    """Look at the drivers, then at the devices; what can't be learned is a gap.

    As root in full, else from sysfs and modules.alias.
    """
    types, layout = None, UNKNOWN
    unknown: tuple[str, ...] = ()
    try:
        types = kernel.read_btf(btf)
        layout = layout_of(types)
    except (kernel.KernelError, LayoutError) as e:
        unknown = (f"The kernel's rules are taken for {UNKNOWN.semantics}: {e}.",)
    registered = take(None if layout is UNKNOWN else types)
    devices, gaps = sysfs.devices(root=pci)
    now_ns = time.monotonic_ns()
    return Machine(
        release=kernel.running().release,
        layout=layout.name,
        semantics=layout.semantics,
        new_id_rules=layout.new_id_rules,
        drivers_autoprobe=sysfs.drivers_autoprobe(root=pci),
        drivers={each.driver.name: each for each in registered.drivers},
        order_known=registered.order_known,
        devices=devices,
        gaps=(*unknown, *registered.gaps, *gaps),
        now_ns=now_ns,
        realtime_offset_ns=time.time_ns() - now_ns,
        deferred=registered.deferred,
    )

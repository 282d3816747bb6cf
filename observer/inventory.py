"""The registered PCI drivers of this machine, as far as they can be learned."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

    from observer.btf import Btf
    from observer.registered import Inventory


def take(btf: Btf | None, symbols: Mapping[str, int] | None = None) -> Inventory:
    """Take the inventory: of kernel memory, else of sysfs and modules.alias.

    `symbols` are the addresses of bus.SYMBOLS, if they were asked for already; without
    `btf` kernel memory is not tried. Never fails: what can't be learned is a gap.
    """
    raise NotImplementedError

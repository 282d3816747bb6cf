"""The kernel's types, and the layout that is made of them."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from fuzz.target import Target
from observer.btf import Btf, BtfError
from observer.layout import Layout, LayoutError, layout_of

if TYPE_CHECKING:
    from collections.abc import Iterable

KERNELS = Path(__file__).parents[2] / "btf"


def run(data: bytes) -> None:
    """Work out a layout; it is the same when it was written and read again."""
    layout = layout_of(Btf(data))
    again = Layout.from_dict(layout.as_dict())
    assert again == layout


def seeds() -> Iterable[bytes]:
    """Yield the types of real kernels, cut down."""
    return (path.read_bytes() for path in sorted(KERNELS.glob("*.btf")))


TARGET = Target(run, (BtfError, LayoutError), seeds, share=2, max_bytes=1 << 14)

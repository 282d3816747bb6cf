"""observer/surroundings.py: what is read around one device."""

from __future__ import annotations

from typing import TYPE_CHECKING

from observer.machine import PciDevice
from observer.record import Device
from observer.surroundings import Surroundings, look

if TYPE_CHECKING:
    from pathlib import Path


def test_nothing_to_read(tmp_path: Path) -> None:
    """An empty root leads to no exception."""
    device = PciDevice("0000:00:02.0", Device(0x8086, 0x100E, 0, 0, 0), None, None)
    assert isinstance(look(device, "6.1", root=tmp_path), Surroundings)

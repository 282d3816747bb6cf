"""The PCI files of sysfs: write, and see what is bound."""

from __future__ import annotations

import errno
import os
from pathlib import Path
from typing import TYPE_CHECKING, Final

from observer.record import Device

if TYPE_CHECKING:
    from live.world import Write
    from observer.model.new_id import Errno

BUS: Final = "/sys/bus/pci"


def path_of(write: Write) -> str:
    """Locate the file of a write."""
    if write.file == "driver_override":
        return f"{BUS}/devices/{write.owner}/{write.file}"
    if write.owner:
        return f"{BUS}/drivers/{write.owner}/{write.file}"
    return f"{BUS}/{write.file}"


def do(write: Write) -> Errno:
    """Write to the real file; return 0 or the name of an errno."""
    descriptor = os.open(path_of(write), os.O_WRONLY)
    try:
        os.write(descriptor, os.fsencode(write.text))
    except OSError as error:
        return errno.errorcode[error.errno or 0]
    finally:
        os.close(descriptor)
    return 0


def driver_of(address: str) -> str | None:
    """Return what is bound to a device."""
    try:
        link = os.readlink(f"{BUS}/devices/{address}/driver")  # noqa: PTH115 - speed
    except FileNotFoundError:
        return None
    return link.rpartition("/")[2]


def override_of(address: str) -> str:
    """Read a device's driver_override as it shows."""
    data = Path(f"{BUS}/devices/{address}/driver_override").read_bytes()
    return os.fsdecode(data).removesuffix("\n")


def devices() -> dict[str, Device]:
    """Read the ids of all PCI devices."""
    names = ("vendor", "device", "subsystem_vendor", "subsystem_device", "class")
    return {
        path.name: Device(*(int((path / name).read_text(), 16) for name in names))
        for path in sorted(Path(BUS, "devices").iterdir())
    }

"""PCI devices and drivers as sysfs has them: the second source, and the levers."""

from __future__ import annotations

import errno
import os
import subprocess
from pathlib import Path
from typing import Final

PCI: Final = Path("/sys/bus/pci")

# The devices of the scenario, by the ids that tests/lab/devices.py gives them.
ROLES: Final = {
    "edu": ("0x1234", "0x11e8"),
    "testdev": ("0x1b36", "0x0005"),
    "nic": ("0x8086", "0x100e"),
    "nvme": ("0x1b36", "0x0010"),
}
COMMAND_SECONDS: Final = 60


def devices() -> list[str]:
    """List the addresses of all PCI devices."""
    return sorted(path.name for path in (PCI / "devices").iterdir())


def drivers() -> list[str]:
    """List the names of all registered PCI drivers."""
    return sorted(path.name for path in (PCI / "drivers").iterdir())


def addresses() -> dict[str, str]:
    """Find the device of each role, and the virtual functions it may get."""
    all_ids = {address: ids(address) for address in devices()}
    found = {
        role: next(address for address in all_ids if all_ids[address] == wanted)
        for role, wanted in ROLES.items()
    }
    slot = found["nvme"].removesuffix(".0")
    return found | {f"vf{number}": f"{slot}.{number}" for number in range(1, 5)}


def ids(address: str) -> tuple[str, str]:
    """Read a device's vendor and device ids."""
    device = PCI / "devices" / address
    return tuple((device / name).read_text().strip() for name in ("vendor", "device"))  # type: ignore[return-value]


def driver_of(address: str) -> str | None:
    """Return the driver a device is bound to: "" for none, None without a device."""
    device = PCI / "devices" / address
    if not device.exists():
        return None
    link = device / "driver"
    return link.readlink().name if link.is_symlink() else ""


def write(path: str, text: str) -> str:
    """Write to a file below /sys/bus/pci; return the errno's name, "" for success."""
    try:
        descriptor = os.open(PCI / path, os.O_WRONLY)
        try:
            os.write(descriptor, text.encode())
        finally:
            os.close(descriptor)
    except OSError as error:
        return errno.errorcode[error.errno or 0]
    return ""


def run(*command: str) -> str:
    """Run a command; return what went wrong, "" for nothing."""
    done = subprocess.run(
        command,
        capture_output=True,
        text=True,
        check=False,
        stdin=subprocess.DEVNULL,
        timeout=COMMAND_SECONDS,
    )
    if done.returncode == 0:
        return ""
    return f"status {done.returncode}: {done.stderr.strip()}"

"""A host that gets a newer kernel, and one more: what changed, and what was foretold.

tests/live/upgrade.py runs in each guest; a disk goes from one to the next.
"""

from __future__ import annotations

import json
import subprocess
from typing import TYPE_CHECKING, Any, Final

import pytest
from lab import devices
from lab.kernels import vmlinuz
from lab.modules import build_toy
from live.boots import boot, progress
from live.upgrade import LABEL, Plan

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.guest

OLD: Final = "6.1"
NEWER: Final = ("6.12.90", "7.3")
DISK_MIB: Final = 64
QEMU_ARGS: Final = (
    *devices.DRIVERLESS,
    *devices.IOMMU,
    *devices.CONTESTED,
    *("-device", "cirrus-vga"),
)
# Both drivers of the contested card are loaded by hand, in an order of our own.
APPEND: Final = f"{devices.IOMMU_APPEND} modprobe.blacklist=8139cp,8139too"


def modules_of(kernel: str) -> Path:
    """Return a kernel's directory of modules."""
    image = vmlinuz(kernel)
    release = image.name.removeprefix("vmlinuz-")
    return image.parents[1] / "lib/modules" / release


def plans(toy: Path) -> dict[str, Plan]:
    """Return what happens under each kernel.

    The toy driver was built for the old kernel alone, as what DKMS builds may be.
    """
    flipped = [["modprobe", "8139cp"], ["modprobe", "8139too"]]
    return {
        OLD: Plan(
            before=[
                ["insmod", str(toy), "claim=1"],
                ["modprobe", "8139too"],
                ["modprobe", "8139cp"],
                ["modprobe", "vfio-pci"],
            ],
            writes=[
                ["devices/{nic}/driver_override", "vfio-pci\n"],
                ["devices/{nic}/driver/unbind", "{nic}"],
                ["drivers_probe", "{nic}"],
            ],
            preflight={kernel: str(modules_of(kernel)) for kernel in NEWER},
            crash=True,
        ),
        NEWER[0]: Plan(before=flipped, writes=[]),
        NEWER[1]: Plan(before=flipped, writes=[], accept=True),
    }


@pytest.fixture(scope="session")
def host(
    tmp_path_factory: pytest.TempPathFactory, pytestconfig: pytest.Config
) -> dict[str, Any]:
    """Boot one kernel after the other, with the same disk."""
    disk = tmp_path_factory.mktemp("upgrade") / "state.img"
    with disk.open("wb") as file:
        file.truncate(DISK_MIB << 20)
    subprocess.run(["mkfs.ext4", "-q", "-L", LABEL, str(disk)], check=True)
    drive = ("-drive", f"file={disk},if=virtio,format=raw")
    seen = {}
    for kernel, plan in plans(build_toy(OLD)).items():
        directory = tmp_path_factory.mktemp(f"upgrade-{kernel}")
        seen[kernel] = boot(
            kernel,
            "live.upgrade",
            directory,
            progress(pytestconfig),
            json.dumps(plan._asdict()),
            qemu_args=(*QEMU_ARGS, *drive),
            append=APPEND,
        )
        seen[kernel]["log"] = (directory / "daemon.log").read_text()
    return seen


def test_done(host: dict[str, Any]) -> None:
    """It was done as meant: otherwise what is seen of it would say nothing."""
    for kernel, result in host.items():
        assert "" == result["mounted"] == result["unmounted"], kernel
        assert [""] * len(result["done"]) == result["done"], kernel
        assert result["steady_seconds"], kernel
        assert result["kept_seconds"] is not None, kernel

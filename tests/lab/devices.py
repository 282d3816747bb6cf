#!/usr/bin/env python3
"""Named sets of QEMU arguments: devices that are worth observing.

    devices.py NAME...      print the arguments of these sets: assorted, iommu, ...

Every set boots with every kernel of the matrix.  Left out on purpose: pvscsi (its
driver panics under emulation) and, beside an IOMMU, the SCSI controllers (the boot
hangs).
"""

import argparse
import sys
from typing import Final

# Slots of the root bus are few, virtme-ng takes nine: a bridge for the rest.
_BRIDGE: Final = ("-device", "pci-bridge,id=lab1,chassis_nr=9")


def _devices(*names: str, bus: str = "") -> tuple[str, ...]:
    suffix = f",bus={bus}" if bus else ""
    return tuple(word for name in names for word in ("-device", f"{name}{suffix}"))


def _cards(*names: str, bus: str = "") -> tuple[str, ...]:
    """Network cards, each with a network of its own: QEMU warns of those without."""
    return tuple(
        word
        for name in names
        for word in (
            *("-netdev", f"user,id=of-{name},restrict=on"),
            *_devices(f"{name},netdev=of-{name}", bus=bus),
        )
    )


# Two devices that no driver of Debian's kernels claims: the ones to bind at will.
DRIVERLESS: Final = _devices("edu", "pci-testdev")

# A dozen devices, one driver each, and the driverless ones; half behind a bridge.
ASSORTED: Final = (
    *("-audiodev", "none,id=silent"),
    *DRIVERLESS,
    *_cards("e1000", "e1000e"),
    *_devices("virtio-rng-pci", "qemu-xhci", "nvme,serial=lab0"),
    *_BRIDGE,
    *_cards("rtl8139", "pcnet", "i82559er", bus="lab1"),
    *_devices(
        "intel-hda", "i6300esb", "sdhci-pci", "usb-ehci", "pci-serial", bus="lab1"
    ),
    *_devices("AC97,audiodev=silent", bus="lab1"),
)

# With these, vfio-pci binds. Without interrupt remapping, which emulation lacks.
IOMMU: Final = _devices("intel-iommu,intremap=off")
IOMMU_APPEND: Final = "iommu=pt"  # of the kernel's command line

# An NVMe controller with up to four virtual functions: `echo 4 > sriov_numvfs`.
SRIOV_NVME: Final = (
    *_devices("nvme-subsys,id=labss", "pcie-root-port,id=labrp,chassis=1,slot=1"),
    *_devices(
        "nvme,serial=lab1,subsys=labss,sriov_max_vfs=4,sriov_vq_flexible=8,"
        "sriov_vi_flexible=4,max_ioqpairs=10,msix_qsize=13",
        bus="labrp",
    ),
)

# A slot to plug devices into while the guest runs: device_add …,bus=labhp.
HOTPLUG: Final = _devices("pcie-root-port,id=labhp,chassis=41,slot=41")

# Two devices behind a bridge, which share an IOMMU group.
TWINS: Final = (
    *_devices("pci-bridge,id=labgroup,chassis_nr=11"),
    *_devices("pci-testdev", "pci-testdev", bus="labgroup"),
)

# A card that two of Debian's drivers list, one of which declines it; and a VGA card,
# whose memory the kernel's own framebuffer holds, given VGA_APPEND.
CONTESTED: Final = (*_cards("e1000", "rtl8139"), *_devices("VGA"))
VGA_APPEND: Final = "vga=0x317 modprobe.blacklist=bochs,bochs_drm"

SETS: Final = {
    "assorted": ASSORTED,
    "contested": CONTESTED,
    "driverless": DRIVERLESS,
    "hotplug": HOTPLUG,
    "iommu": IOMMU,
    "sriov-nvme": SRIOV_NVME,
    "twins": TWINS,
}


def main() -> int:
    """Run the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("names", nargs="+", choices=sorted(SETS), metavar="NAME")
    words = [word for name in parser.parse_args().names for word in SETS[name]]
    sys.stdout.write(" ".join(words) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())

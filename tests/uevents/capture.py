#!/usr/bin/env python3
"""Print, in a guest, the kernel's messages when a device and a driver come and go.

One JSON array a line: what was done, the sender's port, the message as Latin-1.
The files beside this one were made with

    python tests/lab/guest.py KERNEL tests/uevents/capture.sh \
        -- -netdev user,id=lab -device e1000,netdev=lab

by leaving out all lines that are no JSON.
"""

import json
import select
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

PCI = Path("/sys/bus/pci")
NETLINK_KOBJECT_UEVENT = 15
KERNEL_GROUP = 1
QUIET_SECONDS = 1.5
SUBSYSTEMS = (b"\0SUBSYSTEM=pci\0", b"\0SUBSYSTEM=drivers\0", b"\0SUBSYSTEM=module\0")
FORGED = b"add@/x\0ACTION=add\0SUBSYSTEM=pci\0DEVPATH=/x\0PCI_SLOT_NAME=0000:00:00.0\0"


def received(listener: socket.socket) -> Iterator[tuple[bytes, int]]:
    """Yield message and sender until it is quiet."""
    while select.select([listener], [], [], QUIET_SECONDS)[0]:
        data, (port, _groups) = listener.recvfrom(1 << 17)
        if any(subsystem in data for subsystem in SUBSYSTEMS):
            yield data, port


def main() -> None:
    """Do one thing after the other and print what is told of each."""
    nic = next(
        path
        for path in (PCI / "devices").iterdir()
        if (path / "device").read_text() == "0x100e\n"
    )
    e1000 = PCI / "drivers/e1000"
    listener = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, NETLINK_KOBJECT_UEVENT)
    listener.bind((0, KERNEL_GROUP))
    forger = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, NETLINK_KOBJECT_UEVENT)
    uuid = "fe4d7c9d-b8c6-4a70-9ef1-3d8a58d18eed"
    deeds = {
        "unbind": lambda: (e1000 / "unbind").write_text(nic.name),
        "bind": lambda: (e1000 / "bind").write_text(nic.name),
        "rmmod": lambda: subprocess.run(["rmmod", "e1000"], check=True),
        "modprobe": lambda: subprocess.run(["modprobe", "e1000"], check=True),
        "remove": lambda: (nic / "remove").write_text("1"),
        "rescan": lambda: (PCI / "rescan").write_text("1"),
        "trigger add": lambda: (nic / "uevent").write_text("add"),
        "trigger bind": lambda: (nic / "uevent").write_text(f"bind {uuid} A=1"),
        "trigger driver": lambda: (e1000 / "uevent").write_text("remove"),
        "forge to all": lambda: forger.sendto(FORGED, (0, KERNEL_GROUP)),
        "forge to one": lambda: forger.sendto(FORGED, (listener.getsockname()[0], 0)),
    }
    list(received(listener))
    for name, do in deeds.items():
        do()
        for data, port in received(listener):
            print(json.dumps([name, port, data.decode("latin-1")]))
        sys.stdout.flush()


if __name__ == "__main__":
    main()

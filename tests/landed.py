"""A machine of 200 devices as the page at `/` shows it; served for a browser to see."""

from __future__ import annotations

import machines
from test_standing import finding
from test_status_page import GOOD

from observer.findings import Kind, Name
from observer.hooks import HOOKS
from observer.landing import Landing
from observer.record import Device

HOSTILE = "<script>alert(1)</script>\"&'\x1b[31m\u202egnp.exe\n" + "x" * 4000
KINDS = (
    (Device(0x8086, 0x1592, 0x8086, 0x0001, 0x020000), "ice"),
    (Device(0x15B3, 0x101E, 0x15B3, 0x0006, 0x020000), "mlx5_core"),
    (Device(0x144D, 0xA80A, 0x144D, 0xA801, 0x010802), "nvme"),
    (Device(0x8086, 0x347A, 0x8086, 0x0000, 0x060400), "pcieport"),
    (Device(0x8086, 0x09A4, 0x8086, 0x0000, 0x088000), None),
)


def landing(devices: int = 200, findings: int = 3, **more: object) -> Landing:
    """Return what the page tells; `more` are fields of Landing."""
    made = []
    for number in range(devices):
        ids, driver = KINDS[number % len(KINDS)]
        address = f"0000:{number // 8:02x}:{number % 8:02x}.0"
        made.append(machines.device(address, driver, ids=ids))
    found = tuple(
        finding(device.address, Name.STALE_OVERRIDE, Kind.REFUSES_NATIVE)._replace(
            cure=f"echo > /sys/bus/pci/devices/{device.address}/driver_override"
        )
        for device in made[:findings]
    )
    for place in range(len(found)):
        made[place] = made[place]._replace(driver=None, driver_override="vfio-pci")
    status = GOOD._replace(
        judgements={"agree": 9, "diverge": 0, "indeterminate": 0},
        emitted=9,
        since=1_795_500_000,
        kernel="6.12.90+deb13-amd64",
        hooks=dict.fromkeys(HOOKS[:-1], "") | {HOOKS[-1]: "Device or resource busy"},
    )
    told = Landing(
        status=status,
        received=9,
        decoded=9,
        boot={"agree": 4, "diverge": 0, "indeterminate": 0},
        lost={"reserve": 0, "decode": 0, "uevent": 1},
        kept_bytes=9 << 20,
        degraded=False,
        machine=machines.machine(*made),
        findings=found,
        diverged=(),
        bound_before=12,
        now_ns=1_795_600_000_000_000_000,
    )
    return told._replace(**more)

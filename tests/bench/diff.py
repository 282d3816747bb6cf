"""How fast two snapshots are compared: PYTHONPATH=. python tests/bench/diff.py.

Of `pci-observer diff` the whole process is measured, from its start to its end.
"""

from __future__ import annotations

import json
import tempfile
from pathlib import Path
from typing import Final

from rows import ROUNDS, Row, observer_seconds

from observer.audit import as_object, audit
from observer.machine import Machine, Origin, PciDevice, PciDriver
from observer.record import Device, Driver, Id

DEVICES: Final = 1000
DRIVERS: Final = 100
KINDS: Final = 250  # of devices; four are alike
EVERY: Final = 10  # device that changed its driver, lost it or moved


def rows() -> list[Row]:
    """Measure everything."""
    with tempfile.TemporaryDirectory() as directory:
        names = []
        for name, machine in (("before", machine_of(0)), ("after", machine_of(1))):
            path = Path(directory, name)
            path.write_text(json.dumps(as_object(audit(machine)), indent=2), "utf-8")
            names.append(str(path))
        command = ("diff", *names)
        spent = min(observer_seconds(*command, status=1) for _ in range(ROUNDS))
    return [Row(f"diff, {DEVICES} devices, end to end", "diffs/s", 1 / spent, None, 2)]


def machine_of(boot: int) -> Machine:
    """Return a machine with many devices; in another boot some are otherwise."""
    drivers = [
        Driver(0, f"driver{number}", tuple(_ids(number))) for number in range(DRIVERS)
    ]
    devices = [_device(number, boot) for number in range(DEVICES)]
    return Machine(
        release=f"6.{boot + 1}",
        layout="D",
        semantics="linux-5.15",
        new_id_rules="linux-7.3",
        drivers_autoprobe=True,
        drivers={
            driver.name: PciDriver(driver, Origin.KERNEL_MEMORY, (), driver.name)
            for driver in drivers[boot:]
        },
        order_known=True,
        devices={device.address: device for device in devices},
        gaps=(),
        now_ns=1,
        realtime_offset_ns=1,
    )


def _ids(number: int) -> list[Id]:
    """Return the entries of a driver; each device has two drivers that match."""
    return [
        Id(0x8086, kind)
        for kind in range(KINDS)
        if number in (kind % DRIVERS, (kind + 1) % DRIVERS)
    ]


def _device(number: int, boot: int) -> PciDevice:
    kind = number % KINDS
    bus = number // 32 + (boot if number % EVERY == 1 else 0) * 64
    changed = boot and number % EVERY == 0
    return PciDevice(
        f"0000:{bus:02x}:{number % 32:02x}.0",
        Device(0x8086, kind, 0x1AF4, 0x1100, 0x020000),
        None if changed else f"driver{kind % DRIVERS}",
        "vfio-pci" if boot and number % EVERY == 2 else None,
    )

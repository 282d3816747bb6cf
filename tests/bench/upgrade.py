"""How fast an upgrade is predicted. The peer is modprobe, called for each device.

modprobe answers less: which modules a device asks for, of one kernel. It is timed for
some of the devices, with what starting it costs.
"""

from __future__ import annotations

import random
from typing import TYPE_CHECKING

from lab.kernels import vmlinuz
from rows import Row, child_seconds, rate

from observer.aliases import Aliases, modalias
from observer.boot_config import BootConfig
from observer.machine import Machine, Origin, PciDevice, PciDriver
from observer.modprobe_d import ModprobeD
from observer.preflight import Kernel, Preflight, Rules, preflight
from observer.record import PCI_ANY_ID, Device, Driver, Id
from observer.target import read_modules

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

DEVICES = 1000
ASKED = 200  # of modprobe
RUNNING, TARGET = "6.1", "7.3"
SEED = 1
NOTHING = BootConfig(ModprobeD.read({}, ""), (), (), {})
RULES = Rules("D", "linux-5.15", "linux-7.3")


def rows() -> list[Row]:
    """Measure the look-up alone, and the whole prediction; files are read each time."""
    running, target = directory(RUNNING), directory(TARGET)
    found = machine(running)
    devices = [device.ids for device in found.devices.values()]
    asked = ASKED / sum(_modprobe(target, ids) for ids in devices[:ASKED])
    looked_up = DEVICES * rate(lambda path: _modules(path, devices), [target])
    predicted = DEVICES * rate(lambda path: _predict(found, running, path), [target])
    return [
        Row(f"modules of {DEVICES} devices", "devices/s", looked_up, asked, None, 100),
        # Of both kernels modprobe would have to be asked.
        Row(f"preflight of {DEVICES} devices", "devices/s", predicted, asked / 2, 1000),
    ]


def directory(kernel: str) -> Path:
    """Return where a kernel's modules are."""
    image = vmlinuz(kernel)
    release = image.name.removeprefix("vmlinuz-")
    return image.parents[1] / "lib/modules" / release


def machine(running: Path) -> Machine:
    """Make a machine with a device, bound, for each of some of a kernel's aliases."""
    modules, _gaps = read_modules(running)
    drivers = {
        name: PciDriver(
            Driver(0, name, modules.aliases.ids(name)), Origin.KERNEL_MEMORY, (), name
        )
        for name in modules.loadable
        if modules.aliases.ids(name)
    }
    source = random.Random(SEED)  # noqa: S311 - no secret
    entries = [
        (name, entry)
        for name, known in drivers.items()
        for entry in known.driver.id_table or ()
        if not entry.override_only
    ]
    devices = {
        device.address: device
        for device in _devices(source.sample(entries, DEVICES), source)
    }
    bound = {device.driver for device in devices.values()}
    return Machine(
        running.name,
        *RULES,
        drivers_autoprobe=True,
        drivers={name: known for name, known in drivers.items() if name in bound},
        order_known=True,
        devices=devices,
        gaps=(),
        now_ns=0,
        realtime_offset_ns=0,
    )


def _devices(
    entries: list[tuple[str, Id]], source: random.Random
) -> Iterator[PciDevice]:
    for number, (name, entry) in enumerate(entries):
        ids = (
            source.randrange(1 << 16) if field == PCI_ANY_ID else field & 0xFFFF
            for field in entry[:4]
        )
        class_ = entry.class_ | source.randrange(1 << 24) & ~entry.class_mask
        address = f"{number >> 8:04x}:{number & 0xFF:02x}:00.0"
        yield PciDevice(address, Device(*ids, class_), name, None)  # type: ignore[call-arg]


def _modules(target: Path, devices: list[Device]) -> None:
    aliases = Aliases((target / "modules.alias").read_text(encoding="utf-8"))
    for device in devices:
        aliases.modules(device)


def _predict(found: Machine, running: Path, target: Path) -> Preflight:
    here, there = (
        Kernel(path.name, read_modules(path)[0], RULES) for path in (running, target)
    )
    return preflight(found, NOTHING, here, there, {})


def _modprobe(target: Path, device: Device) -> float:
    return child_seconds(
        *("modprobe", "--config", "/dev/null", "--dirname", target.parents[2]),
        *("--set-version", target.name, "--resolve-alias", modalias(device)),
        status=1,  # nothing is loaded for the device
    )

"""What the model takes as given, asked of the running kernel.

The drivers' tables and the order of their registration are what our hooks see.
"""

from __future__ import annotations

import subprocess
import time
from typing import TYPE_CHECKING, Final

from live.generator import BINDERS, PLAYERS
from live.sysfs import devices, do, driver_of
from live.world import Rules, World, Write
from observer.attachment import attach
from observer.live import Live
from observer.model.hex_fields import Overflow
from observer.record import Device, Driver, Match, TableState

if TYPE_CHECKING:
    from collections.abc import Iterable

    from observer.layout import Layout

MODULES: Final = ("pci-stub", "vfio-pci", "e1000", "ahci", "virtio-pci")
TESTED: Final = {(0x1234, 0x11E8), (0x1B36, 0x0005), (0x1498, 0x30C8), (0x1AF4, 0x1110)}
QUIET_SECONDS: Final = 1.0


def prepare() -> dict[str, Device]:
    """Load drivers, keep all others' devices out of this; return those to test with."""
    for module in MODULES:
        subprocess.run(["modprobe", module], check=True)
    subprocess.run(["udevadm", "control", "--exit"], check=False)
    subprocess.run(["dmesg", "-n", "1"], check=False)
    found = devices()
    tested = {a: ids for a, ids in found.items() if ids[:2] in TESTED}
    for address in found.keys() - tested.keys():
        do(Write("driver_override", address, "none"))
    for address in tested:
        if driver_of(address):
            do(Write("unbind", str(driver_of(address)), address))
    return tested


def make_world(tested: dict[str, Device]) -> World:
    """Ask this kernel for all that the model takes as given."""
    layout, drivers = drivers_by_hooks(next(iter(tested)))
    missing = {player.name for player in PLAYERS} - {driver.name for driver in drivers}
    if missing:
        raise LookupError(f"not registered: {missing}")
    bind = "linux-5.14" if layout.probe_function.startswith("__") else "linux-3.16"
    rules = Rules(layout.semantics, layout.new_id_rules, bind, overflow_kind())
    return World(rules, tested, drivers, probe_errnos(tested))


def drivers_by_hooks(address: str) -> tuple[Layout, list[Driver]]:
    """Let an unbound device be offered to all drivers; return them in that order."""
    attachment = attach(("--attach", "auto"))
    live, tables, order = Live(attachment), {}, []
    do(Write("drivers_probe", "", address))
    last = time.monotonic()
    while time.monotonic() - last < QUIET_SECONDS:
        for record in live.poll(QUIET_SECONDS / 5):
            last = time.monotonic()
            if isinstance(record, Driver):
                tables[record.name] = record
            elif isinstance(record, Match) and record.address == address:
                order.append(record.inputs.driver.name)
    attachment.detach()
    found = [tables[name] for name in dict.fromkeys(order)]
    if any(driver.table_state is not TableState.COMPLETE for driver in found):
        raise LookupError("a driver's id_table was not seen whole")
    return attachment.layout, found


def overflow_kind() -> Overflow:
    """Find out what this kernel makes of a number beyond 64 bits: no type tells it."""
    do(Write("new_id", "pci-stub", "10000000000000abc 77"))
    wrapped = do(Write("remove_id", "pci-stub", "abc 77")) == 0
    if not wrapped:
        do(Write("remove_id", "pci-stub", "ffffffff 77"))
    return Overflow.WRAP if wrapped else Overflow.SATURATE


def probe_errnos(addresses: Iterable[str]) -> dict[tuple[str, str], str | None]:
    """Ask each driver's probe method about each device, by hand."""
    found: dict[tuple[str, str], str | None] = {}
    for address in addresses:
        for name in sorted({player.name for player in BINDERS}):
            do(Write("driver_override", address, name))
            answer = do(Write("bind", name, address))
            found[name, address] = str(answer) if answer else None
            do(Write("unbind", name, address))
        do(Write("driver_override", address, "\n"))
    return found

"""In a guest: thousands of random sequences of writes, each answer as the model says.

python -m live.sequences DIRECTORY SEED COUNT leaves DIRECTORY/result.json. The drivers'
tables and the order of their registration are what the observer's hooks see.
"""

from __future__ import annotations

import errno
import json
import os
import subprocess
import sys
import time
from pathlib import Path
from random import Random
from typing import TYPE_CHECKING, Final, NamedTuple

from live.generator import BINDERS, PLAYERS, Generator
from live.texts import TEXTS
from live.world import Rules, World, Write
from observer import kernel
from observer.attachment import attach
from observer.live import Live
from observer.model.hex_fields import U32, Overflow, scan
from observer.model.new_id import ALL_FIELDS
from observer.record import Device, Driver, Match, TableState

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from observer.layout import Layout
    from observer.model.new_id import Errno

BUS: Final = "/sys/bus/pci"
MODULES: Final = ("pci-stub", "vfio-pci", "e1000", "ahci", "virtio-pci")
TESTED: Final = {(0x1234, 0x11E8), (0x1B36, 0x0005), (0x1498, 0x30C8), (0x1AF4, 0x1110)}
QUIET_SECONDS: Final = 1.0
MOST_MISMATCHES: Final = 3


class Mismatch(NamedTuple):
    """The kernel did what the model did not expect."""

    place: int  # of the write in its sequence
    what: str
    expected: object
    actual: object


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


class Runner:
    """Does sequences, in the kernel and in the model, and compares."""

    def __init__(self, world: World) -> None:
        """Let `world` be what the kernel is compared with."""
        self.world = world
        self.writes = 0
        self.errnos: dict[str, int] = {}
        self.bindings = 0  # that came about
        self._written: set[tuple[str, int, int]] = set()  # ids that may be there

    def step(self, place: int, write: Write) -> Mismatch | None:
        """Do one write; return what differs afterwards."""
        self.writes += 1
        before = dict(self.world.bound)
        self._remember(write)
        expected, actual = self.world.write(write), do(write)
        key = f"{write.file} {expected}"
        self.errnos[key] = self.errnos.get(key, 0) + 1
        if expected != actual:
            return Mismatch(place, "errno", expected, actual)
        bound = {address: driver_of(address) for address in before}
        if self.world.bound != bound:
            return Mismatch(place, "bound", self.world.bound, bound)
        self.bindings += sum(
            name is not None and name != before[address]
            for address, name in bound.items()
        )
        if write.file == "driver_override":
            shown, actual_shown = (
                self.world.shown(write.owner),
                override_of(write.owner),
            )
            if shown != actual_shown:
                return Mismatch(place, "driver_override", shown, actual_shown)
        return None

    def run(self, writes: Sequence[Write]) -> Mismatch | None:
        """Do a sequence that is known, from and to a clean state."""
        for place, write in enumerate(writes):
            mismatch = self.step(place, write)
            if mismatch:
                self.wipe()
                return mismatch
        return self.clean()

    def invent(self, generator: Generator) -> tuple[list[Write], Mismatch | None]:
        """Make up a sequence while doing it."""
        writes: list[Write] = []
        for place in range(generator.length()):
            writes.append(generator.write())
            mismatch = self.step(place, writes[-1])
            if mismatch:
                self.wipe()
                return writes, mismatch
        return writes, self.clean()

    def clean(self) -> Mismatch | None:
        """Undo everything: what is there must be all that the model knows of."""
        undo = [
            Write("remove_id", name, f"{dynid.vendor:x} {dynid.device:x}")
            for name, dynids in self.world.dynids.items()
            for dynid in dynids
        ]
        undo += dict.fromkeys(undo)  # once more: nothing may be left of any
        undo += [
            Write("unbind", name, address)
            for address, name in self.world.bound.items()
            if name
        ]
        undo += [
            Write("driver_override", address, "\n")
            for address, name in self.world.overrides.items()
            if name is not None
        ]
        for write in undo:
            mismatch = self.step(-1, write)
            if mismatch:
                self.wipe()
                return mismatch._replace(what=f"at the end, {write}: {mismatch.what}")
        self._written.clear()
        return None

    def wipe(self) -> None:
        """Undo everything, whatever there is."""
        for name, vendor, device in self._written:
            while do(Write("remove_id", name, f"{vendor:x} {device:x}")) == 0:
                pass
        for address in self.world.devices:
            name = driver_of(address)
            if name:
                do(Write("unbind", name, address))
            do(Write("driver_override", address, "\n"))
        world = self.world
        world.bound = dict.fromkeys(world.devices)
        world.overrides = dict.fromkeys(world.devices)
        world.dynids = dict.fromkeys(world.drivers, ())
        self._written.clear()

    def smallest(self, writes: list[Write]) -> tuple[list[Write], Mismatch | None]:
        """Leave out what is not needed for the mismatch."""
        found = self.run(writes)
        place = 0
        while place < len(writes):
            fewer = writes[:place] + writes[place + 1 :]
            mismatch = self.run(fewer)
            if mismatch:
                writes, found = fewer, mismatch
            else:
                place += 1
        return writes, found

    def _remember(self, write: Write) -> None:
        if write.file != "new_id":
            return
        for overflow in Overflow:
            vendor, device, *_ = *scan(write.text, ALL_FIELDS, overflow), 0, 0
            self._written.add((write.owner, vendor & U32, device & U32))


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


def main(directory: str, seed: str, count: str) -> None:
    """Run the command line."""
    begin = time.monotonic()
    world = make_world(prepare())
    runner = Runner(world)
    print(f"{kernel.running().release}: {world.rules}, seed {seed}", flush=True)
    directed = time.monotonic()
    mismatches = []
    for writes in TEXTS:
        if runner.run(writes):
            smaller, mismatch = runner.smallest(list(writes))
            mismatches.append({"writes": smaller, "mismatch": mismatch})
    start = time.monotonic()
    generator = Generator(Random(seed), world)  # noqa: S311 - no secret
    done = 0
    while done < int(count) and len(mismatches) < MOST_MISMATCHES:
        writes, mismatch = runner.invent(generator)
        done += 1
        if mismatch:
            print(f"sequence {done}: {mismatch}", flush=True)
            smaller, smallest = runner.smallest(writes)
            mismatches.append(
                {"sequence": done, "writes": smaller, "mismatch": smallest or mismatch}
            )
    end = time.monotonic()
    result = {
        "release": kernel.running().release,
        "rules": world.rules._asdict(),
        "drivers": {d.name: len(d.id_table or ()) for d in world.drivers.values()},
        "probe_errnos": {" ".join(k): v for k, v in world.probe_errnos.items()},
        "devices": world.devices,
        "seed": seed,
        "directed": len(TEXTS),
        "sequences": done,
        "writes": runner.writes,
        "errnos": dict(sorted(runner.errnos.items())),
        "bindings": runner.bindings,
        "mismatches": mismatches,
        "seconds": {
            "preparing": directed - begin,
            "directed": start - directed,
            "random": end - start,
        },
    }
    Path(directory, "result.json").write_text(json.dumps(result, indent=1))


if __name__ == "__main__":
    main(*sys.argv[1:])

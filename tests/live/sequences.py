"""In a guest: thousands of random sequences of writes, each answer as the model says.

python -m live.sequences DIRECTORY SEED COUNT leaves DIRECTORY/result.json.
"""

from __future__ import annotations

import json
import sys
import time
from itertools import islice
from pathlib import Path
from random import Random
from typing import TYPE_CHECKING, Final, NamedTuple

from live.generator import Generator
from live.given import make_world, prepare
from live.sysfs import do, driver_of, override_of
from live.texts import TEXTS
from live.world import World, Write
from observer import kernel
from observer.model.hex_fields import U32, Overflow, scan
from observer.model.new_id import ALL_FIELDS

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

MOST_FAILURES: Final = 3


class Mismatch(NamedTuple):
    """The kernel did what the model did not expect."""

    place: int  # of the write in its sequence
    what: str
    expected: object
    actual: object


class Failure(NamedTuple):
    """A sequence that shows a mismatch, as short as it gets."""

    sequence: int | None  # None: one that was thought out
    writes: list[Write]
    mismatch: Mismatch


class Runner:
    """Does sequences, in the kernel and in the model, and compares."""

    def __init__(self, world: World) -> None:
        """Let `world` be what the kernel is compared with."""
        self.world = world
        self.sequences = 0
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
            bound = driver_of(address)
            if bound:
                do(Write("unbind", bound, address))
            do(Write("driver_override", address, "\n"))
        world = self.world
        world.bound = dict.fromkeys(world.devices)
        world.overrides = dict.fromkeys(world.devices)
        world.dynids = dict.fromkeys(world.drivers, ())
        self._written.clear()

    def smallest(
        self, writes: list[Write], found: Mismatch
    ) -> tuple[list[Write], Mismatch]:
        """Leave out what is not needed for a mismatch."""
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


def directed(runner: Runner) -> Iterator[Failure]:
    """Do the sequences that were thought out."""
    for writes in TEXTS:
        mismatch = runner.run(writes)
        if mismatch:
            yield Failure(None, *runner.smallest([*writes], mismatch))


def drawn(runner: Runner, seed: str, count: int) -> Iterator[Failure]:
    """Do sequences made up by chance."""
    generator = Generator(Random(seed), runner.world)  # noqa: S311 - no secret
    for number in range(count):
        writes, mismatch = runner.invent(generator)
        runner.sequences += 1
        if mismatch:
            yield Failure(number, *runner.smallest(writes, mismatch))


def timed(failures: Iterator[Failure]) -> tuple[list[Failure], float]:
    """Collect a few failures, each said at once; return them and the seconds."""
    begin, found = time.monotonic(), []
    for failure in islice(failures, MOST_FAILURES):
        print(failure, flush=True)
        found.append(failure)
    return found, time.monotonic() - begin


def main(directory: str, seed: str, count: str) -> None:
    """Run the command line."""
    begin = time.monotonic()
    world = make_world(prepare())
    preparing_seconds = time.monotonic() - begin
    runner = Runner(world)
    print(f"{kernel.running().release}: {world.rules}, seed {seed}", flush=True)
    by_text, directed_seconds = timed(directed(runner))
    by_chance, drawn_seconds = timed(drawn(runner, seed, int(count)))
    result = {
        "release": kernel.running().release,
        "rules": world.rules._asdict(),
        "drivers": {d.name: len(d.id_table or ()) for d in world.drivers.values()},
        "probe_errnos": {" ".join(k): v for k, v in world.probe_errnos.items()},
        "devices": world.devices,
        "seed": seed,
        "directed": len(TEXTS),
        "sequences": runner.sequences,
        "writes": runner.writes,
        "errnos": dict(sorted(runner.errnos.items())),
        "bindings": runner.bindings,
        "failures": [failure._asdict() for failure in (*by_text, *by_chance)],
        "seconds": {
            "preparing": preparing_seconds,
            "directed": directed_seconds,
            "random": drawn_seconds,
        },
    }
    Path(directory, "result.json").write_text(json.dumps(result, indent=1))


if __name__ == "__main__":
    main(*sys.argv[1:])

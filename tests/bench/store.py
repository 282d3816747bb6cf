"""How fast the store writes: rows for the table of `make bench`.

A rate is what the file has at the end over the time until then, its fsyncs included,
while the thread that offers decisions takes its share of the processor as well.
"""

from __future__ import annotations

import tempfile
import time
from pathlib import Path
from typing import Final

from rows import Row

from observer.record import (
    Device,
    Driver,
    Id,
    Inputs,
    Judged,
    Judgement,
    Match,
    Outcome,
    Source,
    Task,
)
from observer.store import FILE, Archive, Running, Store

SECONDS: Final = 5.0  # of each measurement
PACED: Final = 500  # decisions a second
CORE_SHARE: Final = 0.10  # of one core that these may take
WAITING: Final = 4000  # decisions that are offered ahead of the disk
DRIVERS: Final = 20

_RUNNING: Final = Running(
    "boot", "6.1.0-56-amd64", "x86_64", "E", "linux-5.15", "linux-5.11", "0"
)


def rows() -> list[Row]:
    """Measure everything. Raises RuntimeError where not all of it was kept."""
    return [_sustained(), _paced()]


def _decisions() -> list[Judged]:
    """Return decisions as a coldplug makes them: many drivers, none matches."""
    entries = tuple(Id(0x8086, 0x1000 + place) for place in range(100))
    return [
        Judged(
            Match(
                1_000_000 + number,
                Task(1234, 1234, "(udev-worker)", 1),
                f"0000:00:{number % 32:02x}.0",
                False,
                Inputs(Device(0x8086, 0x100E, 0x1AF4, 0x1100, 0x020000), driver),
                Outcome(Source.NONE),
            ),
            Judgement.AGREE,
            Outcome(Source.NONE),
        )
        for number in range(50)
        for driver in (Driver(n + 1, f"driver{n}", entries) for n in range(DRIVERS))
    ]


def _sustained() -> Row:
    """Offer as many as the store takes, and no more."""
    decisions = _decisions()
    with tempfile.TemporaryDirectory() as directory:
        store = Store(Path(directory, FILE), _RUNNING)
        store.start()
        start = time.monotonic()
        while time.monotonic() - start < SECONDS:
            counts = store.counts()
            if counts.offered - counts.written > WAITING:
                time.sleep(0.001)
                continue
            for decision in decisions:
                store(decision)
        store.close()
        spent = time.monotonic() - start
        kept = _kept(directory, store)
    return Row("store, flat out", "decisions/s", kept / spent, None, 5000)


def _paced() -> Row:
    """Offer so many a second, as a busy machine does."""
    decisions = _decisions()[: PACED // 10]
    with tempfile.TemporaryDirectory() as directory:
        store = Store(Path(directory, FILE), _RUNNING)
        store.start()
        start, used = time.monotonic(), time.process_time()
        for tenth in range(int(SECONDS * 10)):
            for decision in decisions:
                store(decision)
            time.sleep(max(0.0, start + (tenth + 1) / 10 - time.monotonic()))
        store.close()
        spent, used = time.monotonic() - start, time.process_time() - used
        kept = _kept(directory, store)
    # As the rate at which a core would be full, for larger is better in the table.
    name = f"store, {PACED}/s, for a whole core"
    return Row(name, "decisions/s", kept / used, None, kept / spent / CORE_SHARE)


def _kept(directory: str, store: Store) -> int:
    with Archive(Path(directory, FILE)) as archive:
        kept = sum(archive.counts("decisions").values())
    if kept != store.counts().offered:
        raise RuntimeError(f"of {store.counts()} only {kept} were kept")
    return kept

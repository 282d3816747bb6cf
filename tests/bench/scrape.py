"""What a scrape costs: time, bytes, and how long the main loop stands still for it."""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING, Final

import machines
from rows import Row

from observer.books import Books
from observer.labels import MOST, USUAL
from observer.metrics import About, Metrics, State
from observer.record import Device, Source
from observer.ring import Counters
from observer.series import gauges

if TYPE_CHECKING:
    from collections.abc import Iterator

DEVICES: Final = (50, 200, 1000)
DRIVERS: Final = 300
ROUNDS: Final = 20


def rows() -> Iterator[Row]:
    """Measure with the usual limit of series, and with the highest."""
    for limit in (USUAL, MOST):
        for devices in DEVICES:
            metrics = made(devices, limit)
            best = min(spent(metrics) for _ in range(ROUNDS))
            what = f"scrape, {devices} devices, at most {limit} series"
            yield Row(what, "ms", best * 1e3)
            yield Row(what, "bytes", len(metrics.render("")[0]))
    metrics = made(DEVICES[-1], MOST)
    yield Row("longest stall meanwhile", "ms", stalled(metrics) * 1e3, most=50)


def made(devices: int, limit: int) -> Metrics:
    """Return the metrics of a machine on which every driver was asked."""
    books = Books()
    for number in range(DRIVERS):
        books.decisions[f"driver{number}", Source.NONE] += devices
    there = machines.machine(
        *(
            machines.device(
                f"0000:{n >> 8:02x}:{n & 0xFF:02x}.0",
                ids=Device(0x8086, n, 0x1AF4, n, 0x020000),
                bound=f"driver{n % DRIVERS}",
            )
            for n in range(devices)
        )
    )
    state = State(
        Counters(),
        0,
        0,
        {},
        {},
        gauges=tuple(gauges(there, [], [])),
        devices=devices,
    )
    about = About("0", "6.1", "linux-5.15", "E", 0)
    return Metrics(books, lambda: state, about, limit=limit)


def spent(metrics: Metrics) -> float:
    """Return the processor time of one."""
    begin = time.process_time()
    metrics.render("")
    return time.process_time() - begin


def stalled(metrics: Metrics) -> float:
    """Return the longest time between two turns of a loop while scrapes go on.

    Of several rounds the best: another process may have had the processor.
    """
    return min(_stalled(metrics) for _ in range(5))


def _stalled(metrics: Metrics) -> float:
    done = threading.Event()

    def scrape() -> None:
        for _ in range(3):
            metrics.render("")
        done.set()

    thread = threading.Thread(target=scrape)
    thread.start()
    longest, last = 0.0, time.perf_counter()
    while not done.is_set():
        now = time.perf_counter()
        longest, last = max(longest, now - last), now
    thread.join()
    return longest

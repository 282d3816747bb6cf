"""A store for tests: at a path of theirs, with a clock that they set."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import machines
import observations

from observer.record import Driver, Id
from observer.store import FILE, Limits, Moment, Running, Store

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from observer.record import Observation

OFFSET_NS = machines.seconds(1_000_000)
RUNNING = Running(
    "0a1b2c3d-0000-4000-8000-000000000001",
    *("6.1.0-56-amd64", "x86_64", "E", "linux-5.15", "linux-5.11", "0.1.0"),
)
LATER = RUNNING._replace(
    boot_id="0a1b2c3d-0000-4000-8000-000000000002", release="6.12.90"
)


class Clock:
    """Both clocks, as the test sets them."""

    def __init__(self, seconds: float = 100) -> None:
        self.ktime_ns = machines.seconds(seconds)
        self.offset_ns = OFFSET_NS

    def __call__(self) -> Moment:
        """Tell them."""
        return Moment(self.ktime_ns, self.offset_ns)

    def go_on(self, seconds: float) -> None:
        """Let time pass."""
        self.ktime_ns += machines.seconds(seconds)


def store(
    directory: Path,
    running: Running = RUNNING,
    limits: Limits | None = None,
    *,
    clock: Clock | None = None,
) -> Store:
    """Return a store without a thread: `step` writes."""
    path = directory / FILE
    return Store(path, running, limits or Limits(), clock=clock or Clock())


def fill(
    directory: Path, *observations: Observation, running: Running = RUNNING
) -> Store:
    """Keep these; return the store, closed."""
    made = store(directory, running)
    for observation in observations:
        made(observation)
    made.close()
    return made


DRIVER = Driver(1, "e1000", (Id(0x8086, 0x100E),))
JUDGED = observations.match(machines.seconds(99), DRIVER, observations.STATIC)
PROBED = observations.probe(machines.seconds(99))
WROTE = observations.bind(machines.seconds(99))


def deadline(seconds: float) -> Callable[[], None]:
    """Return what waits a moment each time, and fails when the time is over."""
    end = time.monotonic() + seconds

    def wait() -> None:
        assert time.monotonic() < end
        time.sleep(0.005)

    return wait


def let_in(directory: Path) -> None:
    """Let other users reach a directory of pytest's."""
    for path in (directory, directory.parent, directory.parent.parent):
        path.chmod(0o755)

"""What a benchmark measures: rates of ours and of a peer, in processor time.

A busy machine is no slow program, so the best of some rounds counts.
"""

from __future__ import annotations

import resource
import subprocess
import sys
import time
from typing import TYPE_CHECKING, NamedTuple, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

SECONDS = 0.2  # of a round
ROUNDS = 7

_Case = TypeVar("_Case")


class Row(NamedTuple):
    """One measurement, as `make bench` prints and keeps it.

    Rates are the better the higher they are, times and sizes the lower.
    """

    name: str
    unit: str
    ours: float
    peer: float | None = None
    target: float | None = None  # ours must reach it
    target_ratio: float | None = None  # ... and this many times the peer's
    most: float | None = None  # ... and not exceed this
    most_ratio: float | None = None  # ... nor this many times the peer's

    @property
    def ratio(self) -> float | None:
        """Tell how many times faster ours is."""
        return self.ours / self.peer if self.peer else None

    @property
    def missed(self) -> bool:
        """Tell whether a target was not reached."""
        if self.most is not None and self.ours > self.most:
            return True
        if self.most_ratio is not None and (self.ratio or 0) > self.most_ratio:
            return True
        return self.ours < (self.target or 0) or (self.ratio or 0) < (
            self.target_ratio or 0
        )


def rate(work: Callable[[_Case], object], cases: Sequence[_Case]) -> float:
    """Return how many cases a second are worked on."""
    return max(_round(work, cases) for _ in range(ROUNDS))


def _round(work: Callable[[_Case], object], cases: Sequence[_Case]) -> float:
    done = 0
    start = time.process_time()
    while (spent := time.process_time() - start) < SECONDS:
        for case in cases:
            work(case)
        done += len(cases)
    return done / spent


def child_seconds(*command: str | Path, status: int = 0) -> float:
    """Return what a command that ends with this status, or 0, costs itself and us."""
    before = _seconds()
    done = subprocess.run(
        command, check=False, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    if done.returncode not in (0, status):
        raise AssertionError(done)
    return _seconds() - before


def observer_seconds(*arguments: str, status: int = 0) -> float:
    """Return what a verb costs from its start to its end."""
    return child_seconds(sys.executable, "-m", "observer", *arguments, status=status)


def _seconds() -> float:
    ours, theirs = (
        resource.getrusage(who)
        for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)
    )
    return ours.ru_utime + ours.ru_stime + theirs.ru_utime + theirs.ru_stime

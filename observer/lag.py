"""How long after they were made live decisions were judged, as a sink."""

from __future__ import annotations

from bisect import bisect_left
from itertools import accumulate
from typing import TYPE_CHECKING, Final

from observer.record import Judged, Seen

if TYPE_CHECKING:
    from collections.abc import Callable

    from observer.record import Observation

BOUNDS: Final = (0.01, 0.1, 1.0, 10.0)  # seconds, inclusive
_BOUNDS_NS: Final = tuple(round(bound * 1e9) for bound in BOUNDS)


class Lag:
    """A histogram. Another thread may read it."""

    def __init__(self, clock: Callable[[], int]) -> None:
        """Begin with no decision; `clock` is CLOCK_MONOTONIC in ns."""
        self._clock = clock
        self._counts = [0] * (len(BOUNDS) + 1)  # the last: above all bounds
        self._sum_ns = 0

    def __call__(self, observation: Observation) -> None:
        """Enter a decision; those of the boot waited for the daemon to start."""
        if not isinstance(observation, Judged):
            return
        match = observation.match
        if match.seen is not Seen.BOOT:
            lag_ns = self._clock() - match.ktime_ns
            self._counts[bisect_left(_BOUNDS_NS, lag_ns)] += 1
            self._sum_ns += lag_ns

    def cumulated(self) -> list[tuple[str, float]]:
        """Return how many waited no longer than each bound, as Prometheus wants it."""
        bounds = (*map(str, BOUNDS), "+Inf")
        return list(zip(bounds, accumulate(self._counts), strict=True))

    @property
    def seconds(self) -> float:
        """How long all of them waited together."""
        return self._sum_ns / 1e9

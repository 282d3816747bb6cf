"""How long probes took, by driver, as a sink."""

from __future__ import annotations

from bisect import bisect_left
from collections import defaultdict
from itertools import accumulate
from typing import TYPE_CHECKING, NamedTuple

from observer.record import Probed

if TYPE_CHECKING:
    from observer.record import Observation

# Seconds, inclusive. Few, since each is a series of each driver.
BOUNDS = (0.01, 0.1, 1.0, 10.0)
SERIES = len(BOUNDS) + 3  # of one histogram: the bucket +Inf, sum and count as well

_BOUNDS_NS = tuple(round(bound * 1e9) for bound in BOUNDS)


class Histogram(NamedTuple):
    """Durations of one driver's probes."""

    counts: tuple[int, ...] = (0,) * (len(BOUNDS) + 1)  # the last: above all bounds
    sum_ns: int = 0

    def plus(self, other: Histogram) -> Histogram:
        """Add up two drivers."""
        counts = zip(self.counts, other.counts, strict=True)
        return Histogram(tuple(map(sum, counts)), self.sum_ns + other.sum_ns)

    def cumulated(self) -> list[tuple[str, int]]:
        """Return how many took no longer than each bound, as Prometheus wants it."""
        bounds = (*map(str, BOUNDS), "+Inf")
        return list(zip(bounds, accumulate(self.counts), strict=True))


class Durations:
    """Histograms by driver. Another thread may read `histograms`."""

    def __init__(self) -> None:
        """Begin with no probe."""
        self._seen: defaultdict[str, list[int]] = defaultdict(_nothing)

    def __call__(self, observation: Observation) -> None:
        """Enter how long a probe took."""
        if isinstance(observation, Probed):
            probe = observation.probe
            seen = self._seen[probe.name]
            seen[bisect_left(_BOUNDS_NS, probe.duration_ns)] += 1
            seen[-1] += probe.duration_ns

    def histograms(self) -> dict[str, Histogram]:
        """Return the histogram of each driver that was probed."""
        copies = {name: tuple(seen) for name, seen in dict(self._seen).items()}
        return {name: Histogram(seen[:-1], seen[-1]) for name, seen in copies.items()}


def _nothing() -> list[int]:
    """Return counts by bucket, and last the sum of all durations."""
    return [*Histogram().counts, 0]

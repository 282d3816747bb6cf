"""With which earlier picture the machine is compared, and from when on.

At boot devices are bound late. Until the machine has come to rest, what is not bound
yet looks as if it had lost its driver.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from observer.record import Probed, ProbeResult, StoreFile, Uevent, Wrote

if TYPE_CHECKING:
    from observer.pictured import Pictured
    from observer.record import Observation

BOOTED_NS: Final = 60_000_000_000  # CLOCK_MONOTONIC
REST_NS: Final = 10_000_000_000  # without a bind, an unbind, a device or driver
PATIENCE_NS: Final = 600_000_000_000  # with a machine that never rests
_BINDS: Final = (StoreFile.BIND, StoreFile.UNBIND)


class Regression:
    """The baseline, and whether it is time to compare; a sink, to see what happens.

    Another thread may call `compared_with`.
    """

    def __init__(self, release: str, now_ns: int) -> None:
        """Begin to watch a machine whose kernel is `release`, without a baseline."""
        self._release = release
        self._began_ns = self._last_ns = now_ns
        self._rested = False
        self._baseline: Pictured | None = None

    def __call__(self, observation: Observation) -> None:
        """Notice what may change a binding, or did."""
        if isinstance(observation, Uevent):
            self._happened(observation.ktime_ns)
        elif isinstance(observation, Probed):
            if observation.probe.result is ProbeResult.BOUND:
                self._happened(observation.probe.ktime_ns)
        elif isinstance(observation, Wrote):
            write = observation.write
            if write.file in _BINDS and write.errno is None:
                self._happened(write.ktime_ns)

    def _happened(self, ktime_ns: int) -> None:
        self._last_ns = max(self._last_ns, ktime_ns)

    def rebase(self, baseline: Pictured | None) -> None:
        """Compare with this picture from now on; None: with none."""
        self._baseline = baseline

    def compared_with(self, now_ns: int) -> Pictured | None:
        """Return the baseline if it is to be compared with now.

        It is not while its own kernel runs: then it is just an earlier state.
        """
        return None if self.waits(now_ns) else self._other()

    def waits(self, now_ns: int) -> bool:
        """Tell whether there is something to compare with, and it is not time yet."""
        self._rested = self._rested or self._at_rest(now_ns)
        return self._other() is not None and not self._rested

    def _other(self) -> Pictured | None:
        """Return the baseline if another kernel made it."""
        baseline = self._baseline
        own = baseline is None or baseline.release == self._release
        return None if own else baseline

    def _at_rest(self, now_ns: int) -> bool:
        rested = now_ns - self._last_ns >= REST_NS
        waited = now_ns - self._began_ns >= PATIENCE_NS
        return now_ns >= BOOTED_NS and (rested or waited)

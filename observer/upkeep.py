"""Keeps the picture of the machine current and judges it, step by step of the daemon.

Events change it at once. Sysfs is looked at where they can't tell (a device that was
added), and once in a while altogether, which shows what they missed.
"""

from __future__ import annotations

from time import monotonic_ns, time_ns
from typing import TYPE_CHECKING, Final

from observer.audit import audit
from observer.findings.picture import unix_time
from observer.series import Selection, gauges
from observer.standing import Standing

if TYPE_CHECKING:
    from collections.abc import Callable

    from observer.audit import Audit
    from observer.disagreement import Disagreement
    from observer.findings import Clock, Finding
    from observer.looking import Look, Looker
    from observer.machine import Machine
    from observer.pictured import Pictured
    from observer.regression import Regression
    from observer.series import Gauge
    from observer.standing import Change
    from observer.tracking import Tracker

RECONCILE_NS: Final = 300_000_000_000
RETRY_NS: Final = 1_000_000_000  # when too much happened during a look
AGAIN_NS: Final = 1_000_000_000  # more than an event takes that sysfs came before
AUDIT_NS: Final = 1_000_000_000  # between two audits of a picture that changes
# ... and of one that does not: some findings end with time.
AGED_NS: Final = 300_000_000_000


def realtime_offset() -> int:
    """Return Unix time minus CLOCK_MONOTONIC, which stands still in a suspend."""
    return time_ns() - monotonic_ns()


class Upkeep:
    """The machine now, and what is wrong with it.

    Other threads may call `machine`, `findings` and `gauges`.
    """

    def __init__(  # noqa: PLR0913 - who hears of what, by name
        self,
        tracker: Tracker,
        looker: Looker,
        *,
        complete: bool,
        on_change: Callable[[Change], None],
        on_disagreements: Callable[[list[Disagreement]], None],
        on_audit: Callable[[Audit, tuple[Finding, ...]], None],
        clock: Callable[[], int] = monotonic_ns,
        offset: Callable[[], int] = realtime_offset,
        spell: Clock = unix_time,
        regression: Regression | None = None,
        selection: Selection = Selection(),  # noqa: B008 - a value
        reconcile_ns: int = RECONCILE_NS,
    ) -> None:
        """Keep `tracker`; if it is not `complete`, a look at all is under way.

        `on_audit` hears of each audit and of the findings that stand after it.
        `regression` has what the machine is compared with.
        """
        self._tracker = tracker
        self._looker = looker
        self._on_change = on_change
        self._on_disagreements = on_disagreements
        self._on_audit = on_audit
        self._clock = clock
        self._offset = offset
        self._spell = spell
        self._regression = regression
        self._selection = selection
        self._reconcile_ns = reconcile_ns
        self._complete = complete
        self._standing = Standing()
        self._look: Look | None = None  # at everything, to be compared
        self._suspected: list[Disagreement] = []  # by the last look
        self._asked_version = -1  # of the tracker, when everything was asked for
        self._next_ns = clock() + reconcile_ns
        self._audited_ns = 0
        self._audited_version = -1
        self._audited: Machine | None = None
        self.looks = 0  # at everything, that were compared

    def select(self, selection: Selection) -> None:
        """Have other devices in the metrics from the next audit on."""
        self._selection = selection

    def hurry(self) -> None:
        """Look at everything with the next step; from any thread."""
        self._next_ns = 0

    def step(self) -> None:
        """Go on; to be called after everything that was seen has been fed."""
        now_ns = self._clock()
        # It was answered before the last step, so all that it can show has been fed.
        look, self._look = self._look, None
        if look is not None:
            self._compare(look, now_ns)
        for look in self._looker.answers():
            if look.whole and self._complete:
                self._look = look
            elif not (look.whole or look.devices):  # it failed
                self._next_ns = min(self._next_ns, now_ns + RETRY_NS)
            else:
                self._read(look)
        if not self._looker.busy() and self._look is None:
            self._ask(now_ns)
        self._audit(now_ns)

    def machine(self) -> Machine:
        """Return the machine as it is known now."""
        return self._machine(self._clock())

    def _machine(self, now_ns: int) -> Machine:
        """Return it with the clock as it is now: at boot it may be wrong for long."""
        machine = self._tracker.machine(now_ns)
        return machine._replace(
            realtime_offset_ns=self._offset(), baseline=self._baseline(now_ns)
        )

    def _baseline(self, now_ns: int) -> Pictured | None:
        regression = self._regression
        return None if regression is None else regression.compared_with(now_ns)

    def findings(self) -> tuple[Finding, ...]:
        """Return the findings that stand."""
        return self._standing.findings

    def gauges(self) -> tuple[Gauge, ...]:
        """Return the machine as metrics, as of the last audit."""
        audited, standing = self._audited, self._standing
        if audited is None:
            return ()
        return tuple(
            gauges(audited, standing.findings, standing.ended, self._selection)
        )

    def _read(self, look: Look) -> None:
        """Take over what was looked at, but for what changed since."""
        self._complete = self._complete or look.whole
        for address, device in look.devices.items():
            if self._tracker.last_event_ns(address) < look.began_ns:
                self._tracker.read(address, device)
            else:
                self._tracker.stale.add(address)

    def _compare(self, look: Look, now_ns: int) -> None:
        """Compare, unless something changed since the look was asked for.

        A look that shows no device or no driver at all is one that failed. Sysfs shows
        a change before its event is sent: what two looks find was told by none.
        """
        suspected, self._suspected = self._suspected, []
        changed = self._tracker.version != self._asked_version
        if changed or not look.devices or not look.drivers:
            self._next_ns = now_ns + RETRY_NS
            return
        devices, drivers = look.devices_there(), look.drivers
        autoprobe = look.drivers_autoprobe
        found = self._tracker.disagreements_with(
            devices, drivers, drivers_autoprobe=autoprobe
        )
        if found != suspected and found:
            self._suspected = found
            self._next_ns = now_ns + AGAIN_NS
            return
        self._tracker.reconcile(devices, drivers, drivers_autoprobe=autoprobe)
        if found:
            self._on_disagreements(found)
        self.looks += 1

    def _ask(self, now_ns: int) -> None:
        if self._tracker.stale:
            self._looker.ask(frozenset(self._tracker.stale))
        elif now_ns >= self._next_ns:
            self._next_ns = now_ns + self._reconcile_ns
            self._asked_version = self._tracker.version
            self._looker.ask()

    def _audit(self, now_ns: int) -> None:
        version = self._tracker.version
        same = version == self._audited_version and not self._standing.waiting()
        if self._audited is not None:
            same &= self._audited.baseline is self._baseline(now_ns)
        pause_ns = AGED_NS if same else AUDIT_NS
        if not self._complete or now_ns - self._audited_ns < pause_ns:
            return
        self._audited_ns, self._audited_version = now_ns, version
        self._audited = self._machine(now_ns)
        audited = audit(self._audited, clock=self._spell)
        change = self._standing.look(audited.findings, now_ns)
        if change.begun or change.ended:
            self._on_change(change)
        self._on_audit(audited, self._standing.findings)

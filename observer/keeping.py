"""What of the machine goes to the store and when, and what it is compared with."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from observer import document
from observer.audit import as_object
from observer.fields import FieldError
from observer.findings import Name
from observer.lasting import Lasting
from observer.standing import HOLD_NS
from observer.store import Counts

if TYPE_CHECKING:
    from observer.audit import Audit
    from observer.findings import Finding
    from observer.log import Logger
    from observer.regression import Regression
    from observer.store import Kept, Limits, Store

# After a restart the same findings must stand again before those of before can end.
SETTLED_NS: Final = HOLD_NS + 2_000_000_000


class Keeping:
    """Gives bindings, findings and the picture that lasted to the store."""

    def __init__(
        self, store: Store | None, logger: Logger, regression: Regression
    ) -> None:
        """Keep it in `store`, or nowhere; tell `regression` what is the baseline."""
        self.regression = regression
        self._store = store
        self._logger = logger
        self._lasting = Lasting()
        self._first_ns: int | None = None  # from when on findings could stand
        self._standing: tuple[Finding, ...] | None = None  # not yet kept
        self._baseline: Kept | None = None
        self._unchanged = False  # against the baseline, at the last audit

    def start(self) -> None:
        """Begin to keep; privileges must be dropped before."""
        if self._store is not None:
            self._store.start()

    def limit(self, limits: Limits) -> None:
        """Keep so much from now on."""
        if self._store is not None:
            self._store.limit(limits)

    def sinks(self) -> tuple[Store | Regression, ...]:
        """Return where observations are to go."""
        return () if self._store is None else (self.regression, self._store)

    def counts(self) -> Counts:
        """Return what became of the observations so far."""
        return Counts() if self._store is None else self._store.counts()

    def audited(self, audit: Audit, standing: tuple[Finding, ...]) -> None:
        """Take an audit, and the findings that stand after it."""
        if self._store is None:
            return
        self._store.keep_bindings(audit.machine)
        self._lasting.look(audit)
        # What became unknown is no proof that nothing changed.
        known = audit.machine.order_known and not any(d.possible for d in audit.devices)
        self._unchanged = (
            known
            and audit.machine.baseline is not None
            and not any(f.finding is Name.BINDING_CHANGED for f in audit.findings)
        )
        self._standing = standing
        if self._first_ns is None:
            self._first_ns = audit.machine.now_ns

    def step(self, now_ns: int) -> None:
        """Go on, for some things are kept only after a while; tell what is wrong."""
        if self._store is None:
            return
        self._tell(self._store)
        self._rebase(self._store)
        if self._first_ns is not None and self.regression.waits(now_ns):
            self._first_ns = now_ns  # those that are regressions can't stand yet
        if self._first_ns is None or now_ns - self._first_ns < SETTLED_NS:
            return
        if self._standing is not None:
            self._store.keep_findings(self._standing)
            self._standing = None
        audit = self._lasting.lasted(now_ns)
        if audit is not None:
            machine = audit.machine
            unix_ns = machine.now_ns + machine.realtime_offset_ns
            self._store.keep_picture(as_object(audit), unix_ns)
        if self._unchanged and self._lasting.lasts(now_ns):
            self._roll(self._store)

    def close(self) -> None:
        """Write the rest."""
        if self._store is not None:
            self._store.close()
            self._tell(self._store)

    def _rebase(self, store: Store) -> None:
        """Compare with the baseline that the store has, or the operator accepted."""
        kept = store.accepted() or store.before()
        if kept is self._baseline:
            return
        self._baseline, baseline = kept, None
        if kept is not None:
            try:
                baseline = document.from_object(kept.document)
            except FieldError as e:
                self._logger.warning("baseline not understood", error=str(e))
        self.regression.rebase(baseline)

    def _roll(self, store: Store) -> None:
        """Make the picture of this kernel the baseline: it is as that of another one.

        The picture was kept, for these bindings lasted.
        """
        self._unchanged = False
        store.accept_picture()
        self.regression.rebase(None)

    def _tell(self, store: Store) -> None:
        for notice in store.notices():
            self._logger.warning(notice.event, error=notice.error)

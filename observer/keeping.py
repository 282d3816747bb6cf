"""What of the machine goes to the store, and when."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from observer.audit import as_object
from observer.lasting import Lasting
from observer.standing import HOLD_NS
from observer.store import Counts

if TYPE_CHECKING:
    from observer.audit import Audit
    from observer.findings import Finding
    from observer.log import Logger
    from observer.store import Store

# After a restart the same findings must stand again before those of before can end.
SETTLED_NS: Final = HOLD_NS + 2_000_000_000


class Keeping:
    """Gives bindings, findings and the picture that lasted to the store."""

    def __init__(self, store: Store | None, logger: Logger) -> None:
        """Keep it in `store`, or nowhere."""
        self._store = store
        self._logger = logger
        self._lasting = Lasting()
        self._first_ns: int | None = None
        self._standing: tuple[Finding, ...] | None = None  # not yet kept

    def start(self) -> None:
        """Begin to keep; privileges must be dropped before."""
        if self._store is not None:
            self._store.start()

    def sinks(self) -> tuple[Store, ...]:
        """Return where observations are to go."""
        return () if self._store is None else (self._store,)

    def counts(self) -> Counts:
        """Return what became of the observations so far."""
        return Counts() if self._store is None else self._store.counts()

    def audited(self, audit: Audit, standing: tuple[Finding, ...]) -> None:
        """Take an audit, and the findings that stand after it."""
        if self._store is None:
            return
        self._store.keep_bindings(audit.machine)
        self._lasting.look(audit)
        self._standing = standing
        if self._first_ns is None:
            self._first_ns = audit.machine.now_ns

    def step(self, now_ns: int) -> None:
        """Go on, for some things are kept only after a while; tell what is wrong."""
        if self._store is None:
            return
        self._tell(self._store)
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

    def close(self) -> None:
        """Write the rest."""
        if self._store is not None:
            self._store.close()
            self._tell(self._store)

    def _tell(self, store: Store) -> None:
        for notice in store.notices():
            self._logger.warning(notice.event, error=notice.error)

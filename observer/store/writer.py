"""The daemon's end of the store: a queue, and a thread that writes it to the file.

Nothing here makes the caller wait for a disk. What can't be kept is counted, and the
thread goes on trying.
"""

from __future__ import annotations

import os
from collections import deque
from contextlib import suppress
from threading import Event, Thread
from time import monotonic_ns, time_ns
from typing import TYPE_CHECKING, Final

from observer.record import Judged, Probed, Wrote
from observer.store.database import (
    CorruptError,
    NewerError,
    RowError,
    StoreError,
    TakenError,
    lock,
    set_aside,
)
from observer.store.rows import packed
from observer.store.session import Picture, Session, Standing, Wanted
from observer.store.shape import Counts, Limits, Moment, Notice

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from observer.findings import Finding
    from observer.machine import Machine
    from observer.record import Observation
    from observer.store.shape import Document, Kept, Running

QUEUE: Final = 8192  # observations that wait
HASTE: Final = 500  # so many are written before the second is over
BATCH: Final = 2000  # are written at once at most, as when the disk was slow
COMMIT_SECONDS: Final = 1.0
RETRY_NS: Final = 5_000_000_000  # after the file could not be opened or written
CLOSE_SECONDS: Final = 10.0  # for the rest; a disk may hang
TELL_NS: Final = 60_000_000_000  # before another problem is told
SET_ASIDE: Final = 3  # files of one run; then something else is to blame
NOTICES: Final = 100  # that wait to be told

_ROWS: Final = (Judged, Probed, Wrote)


def now() -> Moment:
    """Return the time by both clocks."""
    ktime_ns = monotonic_ns()
    return Moment(ktime_ns, time_ns() - ktime_ns)


class Store:
    """Keeps what is observed, as a sink, and what the machine was like.

    `step` is the writer's; without `start` whoever calls it is that. Of the rest only
    `close` waits.
    """

    def __init__(
        self,
        path: Path,
        running: Running,
        limits: Limits = Limits(),  # noqa: B008 - immutable
        *,
        clock: Callable[[], Moment] = now,
        commit_seconds: float = COMMIT_SECONDS,
    ) -> None:
        """Keep it at `path`, whose directory is there; nothing runs before `start`.

        A crash can cost what was offered in the last `commit_seconds`.
        """
        self._path = path
        self._running = running
        self._limits = limits
        self._clock = clock
        self._commit_seconds = commit_seconds
        self._queue: deque[Observation] = deque()
        self._batch: list[Observation] = []  # out of the queue and not written yet
        self._wanted = Wanted()
        self._notices: deque[Notice] = deque(maxlen=NOTICES)
        self._wake = Event()
        self._closing = False
        self._thread = Thread(target=self._run, name="store", daemon=True)
        self._lock: int | None = None
        self._session: Session | None = None
        self._before: Kept | None = None
        self._accepted: Kept | None = None
        self._ready = self._off = self._opened = False
        self._set_aside = 0
        self._problem: str | None = None
        self._retry_ns = self._tell_ns = 0
        self._offered = self._refused = 0  # by the caller's thread
        self._written = self._failed = 0  # by the writer's

    def __call__(self, observation: Observation) -> None:
        """Keep a decision, a probe or a write, unless too many wait."""
        if not isinstance(observation, _ROWS):
            return
        self._offered += 1
        waiting = len(self._queue)
        if self._off or waiting >= QUEUE:
            self._refused += 1
            return
        self._queue.append(observation)
        if waiting == HASTE:
            self._wake.set()

    def limit(self, limits: Limits) -> None:
        """Keep so much, from the next commit on."""
        self._limits = limits

    def keep_bindings(self, machine: Machine) -> None:
        """Keep what is bound now."""
        self._wanted = self._wanted._replace(machine=machine)

    def keep_findings(self, standing: tuple[Finding, ...]) -> None:
        """Keep which findings stand now."""
        at = self._clock()
        self._wanted = self._wanted._replace(standing=Standing(standing, at))

    def keep_picture(self, document: Document, unix_ns: int) -> None:
        """Keep the last good picture of this boot instead of the one before.

        It becomes the baseline where there is none, or one of the same kernel.
        """
        picture = Picture(packed(document), unix_ns)
        self._wanted = self._wanted._replace(picture=picture)

    def accept_picture(self) -> None:
        """Make the last good picture of this boot the baseline, if there is one."""
        self._wanted = self._wanted._replace(accepted=self._wanted.picture)

    def ready(self) -> bool:
        """Tell whether what `before` returns is final."""
        return self._ready

    def before(self) -> Kept | None:
        """Return the baseline that stood when the daemon started."""
        return self._before

    def accepted(self) -> Kept | None:
        """Return the baseline that another process made since then."""
        return self._accepted

    def notices(self) -> list[Notice]:
        """Return what is to be told since the last call."""
        told: list[Notice] = []
        with suppress(IndexError):
            while True:
                told.append(self._notices.popleft())
        return told

    def counts(self) -> Counts:
        """Return what became of the rows so far."""
        session = self._session
        return Counts(
            offered=self._offered,
            written=self._written,
            refused=self._refused,
            failed=self._failed,
            up=self._problem is None and session is not None,
            degraded=self._problem is not None,
            size_bytes=0 if session is None else session.size_bytes,
        )

    def start(self) -> None:
        """Start the thread; privileges must be dropped before."""
        self._thread.start()

    def close(self) -> None:
        """Write the rest, if the disk lets it, and close the file."""
        self._closing = True
        self._wake.set()
        if self._thread.ident is None:
            self._run()
        else:
            self._thread.join(CLOSE_SECONDS)

    def _run(self) -> None:
        while not self._off:
            closing = self._closing  # before the last look at the queue
            self.step()
            more = self._session is not None and len(self._queue) > 0
            if closing and not more:
                break
            if not (closing or (more and len(self._queue) >= HASTE)):
                self._wake.wait(self._commit_seconds)
                self._wake.clear()
        self._end()

    def step(self) -> None:
        """Open the file unless it is open, and write what waits."""
        moment = self._clock()
        if self._session is None and moment.ktime_ns < self._retry_ns:
            return
        try:
            session = self._session or self._open(moment)
            self._write(session, moment)
        except CorruptError as error:
            self._begin_anew(error, moment)
        except StoreError as error:
            self._fail(str(error), moment)
        except Exception as error:  # noqa: BLE001 - told; the thread goes on
            self._drop_batch()
            self._fail(f"{self._path}: {error!r}", moment)
        self._ready = True

    def _open(self, moment: Moment) -> Session:
        """Open the file. Raises StoreError."""
        try:
            if self._lock is None:
                self._lock = lock(self._path)
            self._session = Session(self._path, self._running, moment)
        except (NewerError, TakenError):
            self._off = True
            raise
        if self._opened:  # what was accepted while it was closed
            self._accepted = self._session.before or self._accepted
        else:
            self._before = self._session.before
        self._opened = True
        return self._session

    def _write(self, session: Session, moment: Moment) -> None:
        """Write what waits. Raises StoreError."""
        while self._queue and len(self._batch) < BATCH:
            self._batch.append(self._queue.popleft())
        try:
            session.write(self._batch, self._wanted, self._limits, moment)
        except RowError:
            self._drop_batch()
            raise
        self._written += len(self._batch)
        self._batch = []
        self._accepted = session.accepted() or self._accepted
        if self._problem is not None:
            self._notices.append(Notice("history is kept again", self._problem))
            self._problem = None

    def _begin_anew(self, error: CorruptError, moment: Moment) -> None:
        """Set the file aside; a new one is made at the next step."""
        self._close_session()
        self._set_aside += 1
        if self._set_aside > SET_ASIDE:
            self._off = True
            self._fail(f"{error}; it is given up, for it is not the first", moment)
            return
        try:
            aside = set_aside(self._path)
        except StoreError as e:
            self._fail(str(e), moment)
            return
        told = f"{error}; it was renamed to {aside}"
        self._notices.append(Notice("history begun anew", told))
        self._wake.set()

    def _fail(self, problem: str, moment: Moment) -> None:
        """Try again later; what was not written waits for that."""
        self._close_session()
        self._retry_ns = moment.ktime_ns + RETRY_NS
        if self._problem is None or (
            problem != self._problem and moment.ktime_ns >= self._tell_ns
        ):
            self._problem = problem
            self._tell_ns = moment.ktime_ns + TELL_NS
            self._notices.append(Notice("history is not kept", problem))

    def _drop_batch(self) -> None:
        self._failed += len(self._batch)
        self._batch = []

    def _close_session(self) -> None:
        if self._session is not None:
            self._session.close()
            self._session = None

    def _end(self) -> None:
        """Close the file; what could not be written is lost."""
        self._drop_batch()
        with suppress(IndexError):
            while True:
                self._queue.popleft()
                self._failed += 1
        self._close_session()
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None

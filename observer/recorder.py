"""Keeps what is seen in a recording, if it is to be kept, whatever the disk does."""

from __future__ import annotations

import time
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING, Final

from observer.record import Loss, LossStage, Match

if TYPE_CHECKING:
    from collections.abc import Callable

    from observer.log import Logger
    from observer.record import Record
    from observer.recording import Writer

FLUSH_NS: Final = 1_000_000_000  # what a crash can cost a recording
RETRY_NS: Final = 5_000_000_000  # after it could not be written
WAITING: Final = 8192  # lines that wait for the disk


class Recorder:
    """Writes what it is given; a full disk holds that up, not the rest.

    Until the disk takes it, some lines wait. What comes when too many do is counted,
    and so is how much was lost in the recording itself, where it goes on.
    """

    def __init__(
        self,
        writer: Writer | None,
        logger: Logger,
        *,
        clock: Callable[[], int] = time.monotonic_ns,
    ) -> None:
        """Write to `writer`, or nowhere."""
        self._writer = writer
        self._logger = logger
        self._clock = clock
        self._flushed_ns = clock()
        self._missing = {LossStage.QUEUE: 0, LossStage.OTHER: 0}  # since _missing_ns
        self._missing_ns = 0
        self._ended = False  # before the time
        self.dropped = 0  # lines

    def record(self, record: Record) -> None:
        """Add a record."""
        writer = self._writer
        if writer is None:
            self.dropped += self._ended
        elif writer.holding and writer.waiting >= WAITING:
            self._drop(record)
        else:
            self._attempt(writer, partial(writer.write, record))

    def flush(self) -> None:
        """Give what was added to the system, once a second."""
        writer, now_ns = self._writer, self._clock()
        if writer is None:
            return
        pause_ns = RETRY_NS if writer.holding else FLUSH_NS
        if now_ns - self._flushed_ns < pause_ns:
            return
        self._flushed_ns = now_ns
        if self._attempt(writer, writer.flush) and writer.holding:
            writer.holding = False
            self._tell_missing(writer)
            self._logger.warning("recording goes on", dropped=self.dropped)

    def close(self) -> None:
        """Write the rest."""
        writer, self._writer = self._writer, None
        if writer is None:
            return
        self._tell_missing(writer)
        try:
            writer.close()
        except OSError as e:
            self._end(writer, e)

    def _attempt(self, writer: Writer, write: Callable[[], None]) -> bool:
        try:
            write()
        except OSError as e:
            if not writer.can_go_on:
                self._writer, self._ended = None, True
                self._end(writer, e)
                with suppress(OSError):  # what does not fit still does not
                    writer.close()
            elif not writer.holding:
                writer.holding = True
                self._flushed_ns = self._clock()
                self._logger.warning("recording waits", error=e.strerror)
            return False
        return True

    def _end(self, writer: Writer, error: OSError) -> None:
        self.dropped += writer.waiting
        self._logger.warning(
            "recording ended", error=error.strerror, dropped=self.dropped
        )

    def _drop(self, record: Record) -> None:
        self.dropped += 1
        self._missing_ns = self._missing_ns or self._clock()
        is_match = isinstance(record, Match)
        self._missing[LossStage.QUEUE if is_match else LossStage.OTHER] += 1

    def _tell_missing(self, writer: Writer) -> None:
        """Say in the recording what is not in it; the drivers are told anew."""
        if not self._missing_ns:
            return
        since_ns, self._missing_ns = self._missing_ns, 0
        writer.forget()
        for stage, count in self._missing.items():
            if count:
                writer.write(Loss(since_ns, self._clock(), stage, count))
            self._missing[stage] = 0

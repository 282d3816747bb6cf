"""Build the daemon, run it, take it down."""

from __future__ import annotations

import os
import signal
import time
from contextlib import ExitStack, suppress
from functools import partial
from typing import TYPE_CHECKING, Final, NamedTuple

from observer import __version__, kernel, log, privileges
from observer.attachment import AttachError, Attachment, attach
from observer.books import Books
from observer.hooks import method_of
from observer.live import Live
from observer.metrics import About, Metrics, State
from observer.model import why, why_not_live
from observer.pages import Facts, routes
from observer.pipeline import Pipeline, Sink
from observer.recording import Header, Writer
from observer.server import Server, listen
from observer.what_if import WhatIf

if TYPE_CHECKING:
    import socket
    from collections.abc import Callable
    from pathlib import Path

    from observer.log import Logger
    from observer.record import Record

_POLL_SECONDS: Final = 0.5  # also how late a signal may be noticed
_DRAIN_SECONDS: Final = 30.0  # for what is in the ring at the end
_FLUSH_SECONDS: Final = 1.0  # what a crash can cost a recording


class Options(NamedTuple):
    """What an operator can choose."""

    address: str | None = None  # to serve metrics on; None: no server
    method: str = "auto"
    semantics: str = "auto"
    recording: Path | None = None
    log_level: str = "info"
    log_form: str = "auto"
    ring_bytes: int | None = None
    table_chunks: int | None = None


def run(
    options: Options,
    *,
    attach_hooks: Callable[[tuple[str, ...]], Attachment] = attach,
) -> None:
    """Observe until SIGINT or SIGTERM.

    What can fail comes first: the port (ListenError), the hooks (AttachError), the
    recording (OSError). Nothing stays attached then, nor when a signal comes before
    anything is observed (KeyboardInterrupt).
    """
    logger = log.configure(level=options.log_level, form=options.log_form)
    os.umask(0o077)  # a recording is for its owner alone
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.default_int_handler)
    with ExitStack() as exits:
        listener = None
        if options.address is not None:
            listener = exits.enter_context(listen(options.address))
        logger.info("attaching", method=options.method)
        attachment = attach_hooks(_loader_arguments(options))
        exits.callback(attachment.detach)
        semantics = _semantics(options, attachment)
        recorder = _recorder(options, attachment, semantics, logger)
        exits.callback(recorder.close)
        for kept in _drop_privileges():
            logger.warning("privilege kept", held=kept)
        daemon = Daemon(attachment, semantics, recorder, logger)
        if listener is not None:
            exits.callback(daemon.serve(listener).stop)
        daemon.announce(options.address)
        daemon.run()


class Recorder:
    """Keeps what is seen, if it is to be kept; a full disk ends that, not the rest."""

    def __init__(self, writer: Writer | None, logger: Logger) -> None:
        """Write to `writer`, or nowhere."""
        self._writer = writer
        self._logger = logger
        self._flushed = time.monotonic()

    def record(self, record: Record) -> None:
        """Add a record."""
        if self._writer:
            self._attempt(partial(self._writer.write, record))

    def flush(self) -> None:
        """Give what was added to the system, once a second."""
        now = time.monotonic()
        if self._writer and now - self._flushed >= _FLUSH_SECONDS:
            self._flushed = now
            self._attempt(self._writer.flush)

    def close(self) -> None:
        """Write the rest."""
        if self._writer:
            self._attempt(self._writer.close)

    def _attempt(self, write: Callable[[], None]) -> None:
        try:
            write()
        except OSError as e:
            self._logger.warning("recording ended", error=e.strerror)
            if self._writer:
                with suppress(OSError):  # what does not fit still does not
                    self._writer.close()
            self._writer = None


class Daemon:
    """The attached hooks, and where what they say goes."""

    def __init__(
        self,
        attachment: Attachment,
        semantics: str,
        recorder: Recorder,
        logger: Logger,
    ) -> None:
        """Judge by `semantics` what `attachment` sees."""
        self._attachment = attachment
        self._semantics = semantics
        self._recorder = recorder
        self._logger = logger
        self._stopping = False
        self._live = Live(attachment)
        self._books = Books()
        self._release = kernel.running().release
        self._metrics = Metrics(self._books, self._state, self._about())
        own = attachment.layout.semantics
        self._what_if = WhatIf(own if why_not_live(own) is None else semantics)
        self._log = log.LogSink(logger, partial(why, semantics))
        self._pipeline = Pipeline(
            semantics,
            (self._books, self._metrics, self._what_if, self._log),
            on_sink_error=self._sink_failed,
        )

    def serve(self, listener: socket.socket) -> Server:
        """Start the HTTP server, in threads that hold no privilege either."""
        pages = routes(
            facts=self._facts,
            metrics=self._metrics.render,
            ready=lambda: not self._stopping,
        )
        server = Server(listener, pages)
        server.start()
        return server

    def announce(self, address: str | None) -> None:
        """Say what is attached, and what is not."""
        layout = self._attachment.layout
        self._logger.info(
            "observing",
            kernel=self._release,
            layout=layout.name,
            semantics=self._semantics,
            method=self._attachment.method,
            metrics=f"http://{address}/metrics" if address else None,
        )
        for hook, problem in self._attachment.hooks.items():
            if problem:
                self._logger.warning("hook not attached", hook=hook, error=problem)

    def run(self) -> None:
        """Observe until SIGINT or SIGTERM; then detach and read the rest."""
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, self._stop)
        while not self._stopping:
            self._step(_POLL_SECONDS)
        self._attachment.detach()
        until = time.monotonic() + _DRAIN_SECONDS
        while self._live.pending() and time.monotonic() < until:
            self._step(0)
        self._log.flush()
        judgements = {str(k): v for k, v in self._books.judgements.items()}
        counters = self._live.counters
        self._logger.info(
            "stopped",
            emitted=counters.emitted,
            lost=counters.lost_reserve,
            **judgements,
        )

    def _step(self, timeout_seconds: float) -> None:
        for record in self._live.poll(timeout_seconds):
            self._recorder.record(record)
            self._pipeline.feed(record)
        self._recorder.flush()

    def _stop(self, *_: object) -> None:
        self._stopping = True

    def _sink_failed(self, sink: Sink, error: Exception) -> None:
        self._logger.error("sink failed", sink=type(sink).__name__, exc_info=error)

    def _state(self) -> State:
        return State(
            counters=self._live.counters,
            received=self._live.received,
            decoded=self._live.decoded,
            attached={
                hook: method_of(hook, self._attachment.method)
                for hook, problem in self._attachment.hooks.items()
                if not problem
            },
            misses=self._live.misses,
            what_if=self._what_if.devices(),
        )

    def _about(self) -> About:
        return About(
            version=__version__,
            release=self._release,
            semantics=self._semantics,
            layout=self._attachment.layout.name,
            since=time.time(),
        )

    def _facts(self) -> Facts:
        judged = sum(self._books.judgements.values())
        diverged = sum(self._books.divergences.values())
        return Facts(
            version=__version__,
            kernel=self._release,
            state=f"{judged} decisions judged, {diverged} divergences.",
        )


def _loader_arguments(options: Options) -> tuple[str, ...]:
    arguments: tuple[str, ...] = ("--attach", options.method)
    if options.ring_bytes is not None:
        arguments += ("--ring-bytes", str(options.ring_bytes))
    if options.table_chunks is not None:
        arguments += ("--table-chunks", str(options.table_chunks))
    return arguments


def _semantics(options: Options, attachment: Attachment) -> str:
    if options.semantics != "auto":
        return options.semantics
    slug = attachment.layout.semantics
    problem = why_not_live(slug)
    if problem is not None:
        raise AttachError(
            f"this kernel decides by {slug}, {problem}; "
            "choose another one with --semantics"
        )
    return slug


def _recorder(
    options: Options,
    attachment: Attachment,
    semantics: str,
    logger: Logger,
) -> Recorder:
    if options.recording is None:
        return Recorder(None, logger)
    running = kernel.running()
    layout = attachment.layout.as_dict()
    header = Header(running.release, running.machine, layout, semantics)
    return Recorder(Writer(options.recording, header), logger)


def _drop_privileges() -> tuple[str, ...]:
    if os.geteuid() == 0:
        return privileges.drop(*privileges.unprivileged_ids())
    return privileges.drop(os.getuid(), os.getgid())

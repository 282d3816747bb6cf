"""Build the daemon, run it, take it down."""

from __future__ import annotations

import os
import signal
import time
from contextlib import ExitStack
from functools import partial
from itertools import chain
from threading import Condition
from types import MappingProxyType
from typing import TYPE_CHECKING, Final, NamedTuple

from observer import (
    __version__,
    control,
    kernel,
    log,
    memory,
    privileges,
    snapshot,
    state_directory,
)
from observer.abi import DIGESTS
from observer.attachment import Attachment, attach
from observer.books import Books
from observer.boot_coverage import Twins, times
from observer.exchange import Open
from observer.hooks import instead
from observer.keeping import Keeping
from observer.landing import Landing, render
from observer.listening import NONE, ListenError, chosen, leave, listen, unlink, url
from observer.live import Live
from observer.loading import AttachError
from observer.looking import Looker
from observer.machine import Machine
from observer.metrics import About, Metrics, State
from observer.model import why, why_not_live
from observer.notify import Notify
from observer.pages import routes
from observer.pipeline import Pipeline
from observer.recent import Recent
from observer.record import Loss, LossStage, Match
from observer.recorder import Recorder
from observer.recording import Header, Writer
from observer.regression import Regression
from observer.reloading import Reloading
from observer.series import Selection
from observer.server import Server
from observer.status_page import Status
from observer.store import FILE, Limits, Running, Store
from observer.store_judge import StoreJudge
from observer.textfile import Textfile
from observer.tracking import Tracker
from observer.uevents import Uevents
from observer.upkeep import RECONCILE_NS, Upkeep, realtime_offset
from observer.waking import Waker
from observer.what_if import WhatIf

if TYPE_CHECKING:
    import socket
    from collections.abc import Callable, Iterator, Mapping
    from pathlib import Path

    from observer.access import Access
    from observer.boot_coverage import Coverage
    from observer.log import Logger
    from observer.record import Device, Record
    from observer.ring import Counters

_POLL_SECONDS: Final = 0.5
_IDLE_SECONDS: Final = 5.0  # instead, once nothing has happened for long
_QUIET_NS: Final = 60_000_000_000  # which is more than anything is waited for
_CURRENT_SECONDS: Final = 3.0  # that a verb waits for sysfs, which a probe can hold up
_LOOKING_SECONDS: Final = 0.02  # between two turns meanwhile
_REFRESH_SECONDS: Final = 0.2  # that a scrape waits for what is only counted
_DRAIN_SECONDS: Final = 30.0  # for what is in the ring at the end
_FAILURE_SECONDS: Final = 60.0
_LOOK_SECONDS: Final = 5.0  # for the first look at sysfs; a probe can hold it up

_AUDIT_NS: Final = 10_000_000_000  # between looks that nothing but they can replace
_AUDIT_ONLY: Final = (
    "devices, bindings, overrides and findings come from sysfs; no decision is seen"
)


class Options(NamedTuple):
    """What an operator can choose."""

    address: str = NONE  # to serve metrics on, as --listen
    web_config: Path | None = None  # who may ask for them; None: everybody
    answer: bool = True  # the verbs that ask
    socket: Path | None = None  # on this one; None: the usual one, if possible
    textfile: Path | None = None  # for node_exporter
    selection: Selection = Selection()  # of what has series
    semantics: str = "auto"
    recording: Path | None = None
    state: Path | None = None  # directory; None: nothing is kept
    limits: Limits = Limits()
    log_level: str = "info"
    log_form: str = "auto"
    given: Mapping[str, object] = MappingProxyType({})  # as chosen, by option


def run(
    options: Options,
    *,
    attach_hooks: Callable[[], Attachment] = attach,
    read: Callable[[], Options] | None = None,
) -> None:
    """Observe until SIGINT or SIGTERM; on SIGHUP `read` the options again.

    What can fail comes first: the port and who may ask there (ListenError), the
    socket (ControlError), the hooks (AttachError), the recording (OSError), the file
    of metrics (TextfileError). Nothing stays attached then, nor when a signal comes
    before anything is observed (KeyboardInterrupt).
    """
    logger = log.configure(level=options.log_level, form=options.log_form)
    os.umask(0o077)  # a recording is for its owner alone
    _signals(again=read is not None)
    with ExitStack() as exits:
        address = chosen(options.address)
        access = _access(options.web_config, address, logger)
        listener = _listener(address, exits)
        asked, problem = _asked(options)
        if asked is not None:
            exits.enter_context(asked)
            exits.callback(unlink, options.socket or control.SOCKET)
        logger.info("attaching")
        attachment = attach_hooks()
        exits.callback(attachment.detach)
        if problem is not None:  # not before: a refusal to attach is one line
            logger.warning("no socket for the verbs", error=problem)
        uevents = Uevents()  # with a large buffer, as long as we may
        exits.callback(uevents.close)
        waker = Waker()
        exits.callback(waker.close)
        for wakes in (uevents, waker):
            attachment.ring.watch(wakes.fileno())
        semantics = _semantics(options, attachment)
        recorder = _recorder(options, attachment, semantics, logger)
        exits.callback(recorder.close)
        ids = _ids()
        keeping = Keeping(
            _store(options, attachment, ids, logger),
            logger,
            Regression(kernel.running().release, time.monotonic_ns()),
        )
        _give_up(*ids, logger)
        notify = Notify()
        exits.callback(notify.close)
        _tell_unreadable(access, logger)
        keeping.start()
        exits.callback(keeping.close)
        looker = Looker()
        looker.start()
        daemon = Daemon(
            *(attachment, semantics, recorder, logger, looker, uevents, keeping),
            selection=options.selection,
            waker=waker,
            notify=notify,
        )
        daemon.announce(address, access)
        daemon.begin()
        if asked is not None:
            exits.callback(daemon.answer(asked).stop)
        if options.textfile is not None:
            exits.callback(daemon.write(options.textfile).stop)
        if listener is not None:  # the last: it says that all is well
            exits.callback(daemon.serve(listener, access).stop)
        if read is not None:
            daemon.reload_on_hangup(options, read)
        memory.give_back()
        daemon.run()


class Daemon:
    """The attached hooks, and where what they say goes."""

    def __init__(  # noqa: PLR0913 - the parts, and two that few give
        self,
        attachment: Attachment,
        semantics: str,
        recorder: Recorder,
        logger: Logger,
        looker: Looker,
        uevents: Uevents,
        keeping: Keeping,
        *,
        selection: Selection = Selection(),  # noqa: B008 - a value
        waker: Waker | None = None,
        notify: Notify | None = None,
    ) -> None:
        """Judge by `semantics` what `attachment` sees; `looker` is started already.

        By `waker` a scrape gets what is only counted as it is then. `notify` tells
        the service manager.
        """
        self._waker = waker
        self._notify = notify or Notify({})
        self._reloading: Reloading[Options] | None = None
        self._hung_up = False
        self._access: Access | None = None
        self._undigested = False
        self._turns = 0
        self._turned = Condition()
        self._busy_ns = time.monotonic_ns()  # when something happened last
        self._attachment = attachment
        self._semantics = semantics
        self._recorder = recorder
        self._logger = logger
        self._uevents = uevents
        self._keeping = keeping
        self._uevents_lost = 0
        self._tell_failure_at = 0.0
        self._stopping = False
        self._coverage = attachment.coverage
        self._since = _since(attachment)
        self._live = Live(attachment)
        self._books = Books()
        self._release = kernel.running().release
        own = attachment.layout.semantics
        self._what_if = WhatIf(
            own if why_not_live(own) is None else semantics, self._kinds
        )
        self._log = log.LogSink(logger, partial(why, semantics))
        self._recent = Recent()
        start, complete = self._start(looker)
        self._devices = len(start.devices)
        watched = not attachment.problem
        tracker = Tracker(start, watched=watched)
        self._alive = time.time()
        self._metrics = Metrics(
            self._books, self._state, self._about(), limit=selection.limit
        )
        self._upkeep = Upkeep(
            tracker,
            looker,
            complete=complete,
            on_change=self._log.findings,
            on_disagreements=self._log.disagreements,
            on_audit=keeping.audited,
            spell=log.spelled_time,
            regression=keeping.regression,
            selection=selection,
            reconcile_ns=RECONCILE_NS if watched else _AUDIT_NS,
        )
        store_judge = StoreJudge(
            tracker,
            new_id_rules=attachment.layout.new_id_rules,
            probe_function=attachment.layout.probe_function,
        )
        self._tracker = tracker
        self._disagreements = tracker.disagreements
        self._pipeline = Pipeline(
            semantics,
            (
                self._books,
                self._metrics,
                self._what_if,
                self._log,
                self._recent,
                store_judge,
                tracker,
                *keeping.sinks(),
            ),
            judge_write=store_judge.judge,
            on_sink_error=self._sink_failed,
        )

    def serve(self, listener: socket.socket, access: Access | None = None) -> Server:
        """Start the HTTP server, in threads that hold no privilege either."""
        self._access = access
        pages = routes(
            landing=self._landing,
            metrics=self._metrics.render,
            ready=lambda: not self._stopping,
        )
        server = Server(listener, pages, rules=access.rules if access else Open)
        server.start()
        return server

    def answer(self, listener: socket.socket) -> Server:
        """Answer the verbs that ask on a unix socket."""
        pages = control.routes(
            machine=lambda: snapshot.as_object(self._current()),
            status=lambda: self._status().as_object(),
        )
        server = Server(listener, pages)
        server.start()
        return server

    def write(self, path: Path) -> Textfile:
        """Start to write the metrics to a file. Raises TextfileError."""
        textfile = Textfile(
            path,
            lambda: self._metrics.render("", process=False)[0],
            partial(self._textfile_trouble, path),
        )
        textfile.start()
        return textfile

    def _textfile_trouble(self, path: Path, trouble: str | None) -> None:
        if trouble is None:
            self._logger.info("metrics file is written again", file=str(path))
        else:
            self._logger.warning("metrics file", file=str(path), error=trouble)

    def announce(self, address: str | None, access: Access | None = None) -> None:
        """Say what is attached, and what is not."""
        attachment, layout = self._attachment, self._attachment.layout
        self._logger.info(
            "observing",
            kernel=self._release,
            layout=layout.name,
            semantics=self._semantics,
            method=attachment.method,
            programs=attachment.programs,
            metrics=url(address, tls=access is not None and access.encrypted)
            if address
            else None,
        )
        if attachment.problem:
            self._logger.warning(
                "audit only", error=attachment.problem, instead=_AUDIT_ONLY
            )
            return
        for hook, problem in attachment.hooks.items():
            if problem:
                self._logger.warning(
                    "hook not attached",
                    hook=hook,
                    error=problem,
                    instead=instead(layout, hook, attachment.methods),
                )
        for hook, problem in attachment.detours.items():
            self._logger.warning(
                "hook attached by another method",
                hook=hook,
                error=problem,
                instead=attachment.methods[hook],
            )

    def begin(self) -> None:
        """Judge what the kernel recorded before the hooks were there.

        While they were attached both may have seen the same.
        """
        before = self._coverage
        if before.problem:
            problem = before.problem
            self._logger.warning("decisions at boot are not known", reason=problem)
        if before.since_ns is None:
            return
        hooked = self._hooked(before)
        twins = Twins(before.hooked_ns, hooked)
        # Not later than the look at the machine, which shows what they changed.
        until_ns = max(before.hooked_ns, before.last_ns)
        for record in chain(before.losses(until_ns), self._attachment.before):
            if not twins.has(record):
                self._feed(record)
            elif isinstance(record, Match):
                self._coverage = self._coverage.without_one()
        self._logger.info(
            "boot",
            since=log.spelled_time(int(self._since * 1e9)),
            decisions=self._coverage.emitted,
            lost=self._coverage.emitted - self._coverage.decoded,
            **{str(k): n for k, n in self._books.boot.items()},
        )
        for record in hooked:
            self._feed(record)

    def _hooked(self, before: Coverage) -> list[Record]:
        """Return what the hooks told up to the last that was recorded."""
        told: list[Record] = []
        done = before.last_ns < before.hooked_ns
        while not done and self._live.pending():
            batch = [*self._live.poll(0)]
            done = any(ktime_ns > before.last_ns for ktime_ns in times(batch))
            told += batch
        return told

    def run(self) -> None:
        """Observe until SIGINT or SIGTERM; then detach and read the rest."""
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, self._stop)
        if self._reloading is not None:
            signal.signal(signal.SIGHUP, self._hang_up)
        if self._waker is not None:
            self._waker.on_signals()
        self._notify.ready(self._sentence())
        while not self._stopping:
            self._notify.alive()
            self._step(self._patience_seconds())
            if self._hung_up:
                self._reload()
        self._notify.stopping()
        self._attachment.detach()
        until = time.monotonic() + _DRAIN_SECONDS
        while self._live.pending() and time.monotonic() < until:
            self._step(0)
        self._log.flush()
        judgements = {str(k): v for k, v in self._books.judgements.items()}
        counters = self._counters()
        self._logger.info(
            "stopped",
            emitted=counters.emitted,
            lost=counters.lost_reserve,
            **judgements,
        )

    def _step(self, timeout_seconds: float) -> None:
        self._alive = time.time()
        for record in self._records(timeout_seconds):
            self._feed(record)
            self._busy_ns = time.monotonic_ns()
        self._recorder.flush()
        self._tell_undigested()
        try:
            self._upkeep.step()
            self._keeping.step(time.monotonic_ns())
        except Exception as error:  # noqa: BLE001 - decisions are still judged
            self._picture_failed(error)
        with self._turned:
            self._turns += 1
            self._turned.notify_all()

    def _tell_undigested(self) -> None:
        """Tell once that new decisions are sent whole from now on."""
        if self._undigested or not self._live.counters.no_digest:
            return
        self._undigested = True
        self._logger.warning(
            "no more decisions can be told apart", kept=DIGESTS, others="sent whole"
        )

    def _patience_seconds(self) -> float:
        """Return how long to wait: what happens in the ring ends that at once."""
        if self._waker is None or self._live.under_way:
            return _POLL_SECONDS
        quiet = time.monotonic_ns() - self._busy_ns > _QUIET_NS
        return _IDLE_SECONDS if quiet else _POLL_SECONDS

    def _refresh(self) -> None:
        """Have the main loop take a turn, as far as it has time for one."""
        if self._waker is None:
            return
        with self._turned:
            turns = self._turns
            self._waker.wake()
            self._turned.wait_for(lambda: self._turns > turns, _REFRESH_SECONDS)

    def _current(self) -> Machine:
        """Return the machine as sysfs shows it now, unless that takes too long.

        Not everything that changes is told by an event.
        """
        looks, until = self._upkeep.looks, time.monotonic() + _CURRENT_SECONDS
        if self._waker is not None:
            self._upkeep.hurry()
            while self._upkeep.looks == looks and time.monotonic() < until:
                self._refresh()
                time.sleep(_LOOKING_SECONDS)
        return self._upkeep.machine()

    def _feed(self, record: Record) -> None:
        self._recorder.record(record)
        self._pipeline.feed(record)

    def _records(self, timeout_seconds: float) -> Iterator[Record]:
        yield from self._live.poll(timeout_seconds)
        if self._waker is not None:
            self._waker.rest()
        yield from self._uevents.read()
        lost = self._uevents.lost - self._uevents_lost
        if lost:
            self._uevents_lost += lost
            now_ns = time.monotonic_ns()
            yield Loss(0, now_ns, LossStage.UEVENT, lost)

    def _kinds(self) -> dict[str, tuple[Device, str | None]]:
        """Return what drivers tell the devices apart by, for another thread."""
        devices = self._upkeep.machine().devices
        return {
            address: (device.ids, device.driver_override)
            for address, device in devices.items()
        }

    def _start(self, looker: Looker) -> tuple[Machine, bool]:
        """Put together what the loader read and what sysfs shows, if that is at hand.

        No event of before is missing, and what comes again changes nothing.
        """
        now_ns = time.monotonic_ns()
        looker.ask()
        seen = looker.wait(_LOOK_SECONDS)
        layout, inventory = self._attachment.layout, self._attachment.inventory
        machine = Machine(
            release=self._release,
            layout=layout.name,
            semantics=layout.semantics,
            new_id_rules=layout.new_id_rules,
            drivers_autoprobe=seen.drivers_autoprobe if seen else None,
            drivers={known.driver.name: known for known in inventory.drivers},
            order_known=inventory.order_known,
            devices=seen.devices_there() if seen else {},
            gaps=(*inventory.gaps, *(seen.gaps if seen else ())),
            now_ns=now_ns,
            realtime_offset_ns=realtime_offset(),
            deferred=inventory.deferred,
            recorded_since_ns=self._coverage.since_ns,
        )
        return machine, seen is not None and seen.whole

    def _stop(self, *_: object) -> None:
        self._stopping = True

    def _hang_up(self, *_: object) -> None:
        self._hung_up = True

    def reload_on_hangup(self, options: Options, read: Callable[[], Options]) -> None:
        """Read the options again on SIGHUP; `read` raises ConfigError."""
        self._reloading = Reloading(options, read, self._take, self._logger)

    def _take(self, options: Options) -> None:
        self._metrics.allow(options.selection.limit)
        self._upkeep.select(options.selection)
        self._keeping.limit(options.limits)

    def _reload(self) -> None:
        self._hung_up = False
        self._notify.reloading()
        done = self._reloading is None or self._reloading()
        if self._access is not None:
            done &= self._access.reload()
        self._notify.ready(
            self._sentence() if done else "the configuration was refused; see the log"
        )

    def _sentence(self) -> str:
        """Say in a few words what is observed, for the service manager."""
        if self._attachment.problem:
            return f"no decision is seen, {self._devices} devices; see the log"
        problems = self._attachment.hooks.values()
        attached = sum(not problem for problem in problems)
        return (
            f"observing by {self._attachment.method}, {attached} of {len(problems)} "
            f"hooks, {self._devices} devices"
        )

    def _sink_failed(self, sink: object, error: Exception) -> None:
        self._logger.error("sink failed", sink=type(sink).__name__, exc_info=error)

    def _picture_failed(self, error: Exception) -> None:
        """Tell it once a minute, for it may fail at each step."""
        now = time.monotonic()
        if now >= self._tell_failure_at:
            self._tell_failure_at = now + _FAILURE_SECONDS
            self._logger.error("picture failed", exc_info=error)

    def _state(self) -> State:
        self._refresh()
        return State(
            counters=self._counters(),
            received=self._live.received + self._coverage.received,
            decoded=self._live.decoded + self._coverage.decoded,
            attached=self._attachment.methods,
            misses=self._live.misses,
            what_if=self._what_if.devices(),
            gauges=self._upkeep.gauges(),
            disagreements={str(k): n for k, n in self._disagreements.items()},
            store=self._keeping.counts(),
            unrecorded=self._recorder.dropped,
            bound_before=self._tracker.bound_before,
            missing=sum(why != "" for why in self._attachment.hooks.values()),
            detours=len(self._attachment.detours),
            alive=self._alive,
            devices=self._devices,
            web_config=self._access is None or self._access.up_to_date,
        )

    def _counters(self) -> Counters:
        """Return the hooks' counters and what was counted before them."""
        counters, before = self._live.counters, self._coverage
        return counters._replace(
            whole=counters.whole + before.emitted,
            lost_reserve=counters.lost_reserve + before.emitted - before.decoded,
            synthetic=counters.synthetic + before.synthetic,
        )

    def _status(self) -> Status:
        self._refresh()
        counters = self._counters()
        return Status(
            version=__version__,
            kernel=self._release,
            layout=self._attachment.layout.name,
            semantics=self._semantics,
            method=self._attachment.method,
            since=int(self._since),
            judgements={str(k): n for k, n in self._books.judgements.items()},
            emitted=counters.emitted,
            lost=counters.lost_reserve,
            misses=self._live.misses,
            hooks=self._attachment.hooks,
            divergences=sum(self._books.divergences.values()),
            last=self._recent.lines(realtime_offset()),
        )

    def _about(self) -> About:
        return About(
            version=__version__,
            release=self._release,
            semantics=self._semantics,
            layout=self._attachment.layout.name,
            since=self._since,
        )

    def _landing(self) -> bytes:
        state = self._state()
        landing = Landing(
            status=self._status(),
            received=state.received,
            decoded=state.decoded,
            boot={str(k): n for k, n in self._books.boot.items()},
            lost={str(k): n for k, n in self._books.lost.items()},
            kept_bytes=state.store.size_bytes if state.store.up else None,
            degraded=state.store.degraded,
            machine=self._upkeep.machine(),
            findings=self._upkeep.findings(),
            diverged=self._recent.diverged,
            bound_before=state.bound_before,
            now_ns=time.time_ns(),
        )
        return render(landing, log.spelled_time)


def _signals(*, again: bool) -> None:
    """Let signals end it until the main loop runs, which takes them itself."""
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.default_int_handler)
    if again:  # what was read is new
        signal.signal(signal.SIGHUP, signal.SIG_IGN)


def _give_up(uid: int, gid: int, logger: Logger) -> None:
    """Drop all privileges and tell of what remains."""
    for kept in privileges.drop(uid, gid):
        # Without CAP_SETPCAP it stays, and no_new_privs takes its effect.
        tell = logger.info if kept.startswith("CapBnd") else logger.warning
        tell("privilege kept", held=kept)


def _access(file: Path | None, address: str | None, logger: Logger) -> Access | None:
    """Read who may ask for metrics. Raises ListenError."""
    if file is None:
        return None
    if address is None:
        raise ListenError("--web.config.file is of no use with --listen none")
    # With YAML, bcrypt and OpenSSL: memory that no other daemon has.
    from observer.access import Access  # noqa: PLC0415

    access = Access(
        file,
        on_change=lambda told: logger.info("web config is read again", **told),
        on_trouble=lambda why: logger.warning("web config refused", error=why),
    )
    logger.info("web config", **access.told())
    return access


def _tell_unreadable(access: Access | None, logger: Logger) -> None:
    """Tell of what root could read and the daemon, as who it is now, can't."""
    for file in access.unreadable() if access is not None else ():
        logger.warning("a change of this file needs a restart", unreadable=str(file))


def _listener(address: str | None, exits: ExitStack) -> socket.socket | None:
    """Listen for those who ask for metrics. Raises ListenError."""
    if address is None:
        return None
    gid = _ids()[1]  # whose members may open a unix socket
    own = os.geteuid() == 0 and gid != privileges.NOBODY
    listener = listen(address, group=gid if own else None)
    exits.enter_context(listener)
    exits.callback(leave, address)
    return listener


def _asked(options: Options) -> tuple[socket.socket | None, str | None]:
    """Make the socket for the verbs, or say why there is none.

    Raises ControlError if it must be there.
    """
    if options.socket is not None:
        return control.listen(options.socket), None
    if not options.answer:
        return None, None
    try:
        return control.listen(), None
    except control.ControlError as e:
        return None, str(e)


def _since(attachment: Attachment) -> float:
    """Return the Unix time from which on decisions are seen; 0: never."""
    if attachment.problem:
        return 0
    since_ns = attachment.coverage.since_ns
    return time.time() if since_ns is None else (since_ns + realtime_offset()) / 1e9


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


def _ids() -> tuple[int, int]:
    """Return the uid and gid to run as."""
    if os.geteuid() == 0:
        return privileges.unprivileged_ids()
    return os.getuid(), os.getgid()


def _store(
    options: Options,
    attachment: Attachment,
    ids: tuple[int, int],
    logger: Logger,
) -> Store | None:
    """Prepare where history is kept; without that the rest is done all the same."""
    if options.state is None:
        return None
    try:
        boot_id = kernel.boot_id()
        state_directory.prepare(options.state, *ids)
    except (OSError, state_directory.StateDirectoryError) as e:
        logger.warning("history is not kept", error=str(e))
        return None
    layout = attachment.layout
    running = Running(
        boot_id,
        *kernel.running(),
        layout.name,
        layout.semantics,
        layout.new_id_rules,
        __version__,
    )
    return Store(options.state / FILE, running, options.limits)

"""The log: for a person on a terminal, else one JSON object a line.

Whatever comes from outside, names and comms above all, is spelled so that it can
neither forge a line nor speak to a terminal.
"""

from __future__ import annotations

import logging
import os
import sys
import traceback
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, TextIO, TypeAlias, cast

from observer import log_fields
from observer.pace import Pace
from observer.record import (
    Driver,
    Judged,
    Judgement,
    Loss,
    Probed,
    Repeated,
    Seen,
    Source,
    Unregister,
    Write,
    Wrote,
)
from observer.text import printable
from observer.unimportable import stand_in, unimportable

# structlog takes rich where it is there, for tracebacks that we don't print: 4 MB. It
# needs asyncio in coroutines only: 3 MB.
with unimportable("rich"), stand_in("asyncio"):
    import structlog
    from structlog.processors import ExceptionRenderer

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from structlog.typing import (
        EventDict,
        ExcInfo,
        FilteringBoundLogger,
        Processor,
        WrappedLogger,
    )

    from observer.disagreement import Disagreement
    from observer.record import Inputs, Match, Observation, Probe
    from observer.standing import Change

Logger: TypeAlias = "FilteringBoundLogger"

DECISIONS = 50  # lines a second
LOSSES = 5
DISAGREEMENTS = 20  # lines at once

_PRIORITIES = {"critical": 2, "error": 3, "warning": 4, "info": 6, "debug": 7}


def configure(
    stream: TextIO | None = None,
    level: str = "info",
    *,
    form: str = "auto",
    environ: Mapping[str, str] = os.environ,
) -> Logger:
    """Return a logger to `stream`, by default stderr, from `level` on.

    `form` is console, json, or auto: console on a terminal, JSON otherwise.
    """
    stream = stream or sys.stderr or Path(os.devnull).open("w")  # noqa: SIM115
    person = stream.isatty() if form == "auto" else form == "console"
    processors = _for_terminal(environ) if person else _for_machine()
    if _is_journal(stream, environ):
        processors.append(_prefix)
    logger: Logger = structlog.wrap_logger(
        structlog.WriteLogger(cast("TextIO", _Unfailing(stream))),
        processors=processors,
        wrapper_class=structlog.make_filtering_bound_logger(level),
        context_class=dict,
    ).bind()
    return logger


def spelled_time(unix_ns: int) -> str:
    """Spell a time within a sentence as the lines spell theirs."""
    return datetime.fromtimestamp(unix_ns // 10**9, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


class _Unfailing:
    """A stream that forgets what it can't write: a full disk ends no observation."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def write(self, text: str) -> None:
        with suppress(OSError, ValueError):
            self._stream.write(text)

    def flush(self) -> None:
        with suppress(OSError, ValueError):
            self._stream.flush()


class LogSink:
    """One warning for each divergence, never held back; less for the rest."""

    def __init__(self, log: Logger, why: Callable[[Inputs], str]) -> None:
        """Log to `log`; `why` explains the model's answer in one sentence."""
        self._log = log
        self._why = why
        self._pace = Pace(DECISIONS)
        self._loss_pace = Pace(LOSSES)
        self._debug = log.is_enabled_for(logging.DEBUG)

    def __call__(self, observation: Observation) -> None:
        """Write at most one line, and one about lines that were held back."""
        if isinstance(observation, Judged):
            self._judged(observation)
        elif isinstance(observation, Repeated):
            self._repeated(observation)
        elif isinstance(observation, Probed):
            self._probed(observation)
        elif isinstance(observation, Wrote):
            self._wrote(observation)
        elif isinstance(observation, Loss):
            self._lost(observation)
        elif self._debug and isinstance(observation, Driver | Unregister):
            self._registration(observation)

    def findings(self, change: Change) -> None:
        """Tell which findings began and which ended."""
        for finding in change.begun:
            self._log.warning("finding", **log_fields.finding_fields(finding))
        for finding in change.ended:
            fields = log_fields.finding_fields(finding)
            self._log.info("finding ended", **fields)

    def disagreements(self, found: list[Disagreement]) -> None:
        """Tell what sysfs showed and no event had told."""
        for each in found[:DISAGREEMENTS]:
            self._log.warning("disagreement with sysfs", **each._asdict())
        if len(found) > DISAGREEMENTS:
            self._log.warning("disagreements held back", count=len(found))

    def flush(self) -> None:
        """Tell what was held back; to be called before the end."""
        if lines := self._pace.take_held_back():
            self._log.info("lines held back", lines=lines)
        if events := self._loss_pace.take_held_back():
            self._log.warning("losses held back", events=events)

    def _judged(self, judged: Judged) -> None:
        match = judged.match
        if judged.judgement is Judgement.DIVERGE:
            why = self._why(match.inputs)
            fields = log_fields.divergence_fields(judged)
            self._log.warning("divergence", why=why, **fields)
        elif judged.judgement is Judgement.INDETERMINATE:
            if self._admits(match):
                fields = log_fields.match_fields(match)
                self._log.info("indeterminate", reason=judged.reason, **fields)
        elif match.outcome.match is not Source.NONE:
            if self._admits(match):
                self._log.info("match", **log_fields.match_fields(match))
        elif self._debug:
            self._log.debug("no match", **log_fields.match_fields(match))

    def _repeated(self, repeated: Repeated) -> None:
        driver, count = repeated.driver, repeated.repeat.count
        if repeated.kind is not None:
            self._log.warning(
                "divergence repeated", driver=driver, kind=repeated.kind, count=count
            )
        elif self._debug:
            fields = {"judgement": repeated.judgement, "reason": repeated.reason}
            self._log.debug("no match repeated", driver=driver, count=count, **fields)

    def _probed(self, probed: Probed) -> None:
        probe = probed.probe
        if probed.kind is not None:
            fields = log_fields.probe_fields(probe)
            self._log.warning("divergence", kind=probed.kind, **fields)
        elif self._admits(probe):
            self._log.info("probe", **log_fields.probe_fields(probe))

    def _wrote(self, wrote: Wrote) -> None:
        fields = log_fields.write_fields(wrote.write)
        if wrote.judgement is Judgement.DIVERGE:
            self._log.warning("divergence", expected_errno=wrote.expected, **fields)
        elif self._admits(wrote.write):
            self._log.info("write", **fields)

    def _lost(self, loss: Loss) -> None:
        if self._loss_pace.admits(loss.ktime_ns, loss.count):
            self.flush()
            self._log.warning("loss", **log_fields.loss_fields(loss))

    def _registration(self, observation: Driver | Unregister) -> None:
        if isinstance(observation, Driver):
            size = len(observation.id_table or ())
            self._log.debug("driver", driver=observation.name, id_table_size=size)
        else:
            self._log.debug("unregister", driver=observation.name)

    def _admits(self, record: Match | Probe | Write) -> bool:
        """Tell whether to write a line; what was seen at boot is told in one line."""
        if not isinstance(record, Write) and record.seen is Seen.BOOT:
            return self._debug
        admitted = self._pace.admits(record.ktime_ns)
        if admitted:
            self.flush()
        return admitted


def _for_machine() -> list[Processor]:
    transform = structlog.tracebacks.ExceptionDictTransformer(
        show_locals=False, use_rich=False
    )
    return [
        *_stamped(),
        ExceptionRenderer(transform),
        _spell,
        structlog.processors.JSONRenderer(),
    ]


def _for_terminal(environ: Mapping[str, str]) -> list[Processor]:
    colors = "NO_COLOR" not in environ and environ.get("TERM") != "dumb"
    renderer = structlog.dev.ConsoleRenderer(
        pad_event_to=14,
        colors=colors,
        sort_keys=False,
        exception_formatter=structlog.dev.plain_traceback,
    )
    return [*_stamped(), ExceptionRenderer(_traceback_lines), _spell, _indent, renderer]


def _stamped() -> list[Processor]:
    return [
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
    ]


def _traceback_lines(exc_info: ExcInfo) -> list[str]:
    return "".join(traceback.format_exception(*exc_info)).split("\n")


def _indent(_logger: WrappedLogger, _method: str, event: EventDict) -> EventDict:
    """Keep a traceback's lines from looking like lines of the log."""
    if lines := event.get("exception"):
        event["exception"] = "\n".join(f"    {line}" for line in lines).rstrip()
    return event


def _spell(_logger: WrappedLogger, _method: str, event: EventDict) -> EventDict:
    """Make all text printable, and begin with what each line has."""
    first = {key: event.pop(key) for key in ("timestamp", "level", "event")}
    return {key: _spelled(value) for key, value in (first | dict(event)).items()}


def _spelled(value: object) -> object:
    if value is None or isinstance(value, int | float):
        return value
    if isinstance(value, dict):
        return {printable(str(key)): _spelled(each) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [_spelled(each) for each in value]
    return printable(str(value))


def _is_journal(stream: TextIO, environ: Mapping[str, str]) -> bool:
    """Tell whether systemd reads the stream, as JOURNAL_STREAM says."""
    try:
        status = os.fstat(stream.fileno())
    except OSError:  # no file behind it
        return False
    return environ.get("JOURNAL_STREAM") == f"{status.st_dev}:{status.st_ino}"


def _prefix(_logger: WrappedLogger, method: str, line: EventDict | str) -> str:
    """Begin the line with its priority, as sd-daemon(3) has it."""
    level = "error" if method == "exception" else method
    return f"<{_PRIORITIES.get(level, 6)}>{line}"

"""The log: what is said of each observation, and that nobody can forge it."""

from __future__ import annotations

import errno
import io
import json
import os
import re
from typing import TYPE_CHECKING

import pytest

from observer.log import LogSink, configure
from observer.log_fields import ENTRIES
from observer.pace import Pace
from observer.record import (
    Device,
    Driver,
    Id,
    Inputs,
    Judged,
    Judgement,
    Kind,
    Loss,
    LossStage,
    Match,
    Outcome,
    Path,
    Probe,
    Probed,
    ProbeResult,
    Reason,
    Repeat,
    Repeated,
    Seen,
    Source,
    StoreFile,
    Task,
    Unregister,
    Write,
    Wrote,
)

if TYPE_CHECKING:
    import pathlib

    from observer.record import Observation

HOSTILE = 'a\n\x1b[31m\udcff<0>"'
SPELLED = 'a\\n\\x1b[31m\\udcff<0>"'
SECOND = 10**9

TABLE = (
    Id(0x8086, 0x100E),
    Id(0x10EC, 0x8139),
    Id(0x8086, 0x100E, override_only=1),
)
INPUTS = Inputs(
    Device(0x8086, 0x100E, 0x1AF4, 0x1100, 0x20000),
    Driver(3, "e1000", TABLE),
    (Id(0x8086, 0x10F5),),
)
TASK = Task(71, 70, "bash", 1)
MATCH = Match(
    5 * SECOND,
    TASK,
    "0000:00:02.0",
    False,
    INPUTS,
    Outcome(Source.STATIC, 2),
)
DIVERGENCE = Judged(
    MATCH, Judgement.DIVERGE, Outcome(Source.STATIC, 0), Kind.DIFFERENT_ENTRY
)
PROBE = Probe(
    5 * SECOND,
    1_234_567,
    TASK,
    "0000:00:02.0",
    3,
    "e1000",
    True,
    Path.DIRECT,
    ProbeResult.REFUSED,
    "EIO",
)
WRITE = Write(
    5 * SECOND,
    1_234_567,
    TASK,
    1000,
    StoreFile.NEW_ID,
    "pci-stub",
    None,
    "8086 10f5\n",
    10,
    "EEXIST",
)
LOSS = Loss(4 * SECOND, 5 * SECOND, LossStage.RESERVE, 7)

Line = dict[str, object]


class Terminal(io.StringIO):
    """A stream that says it is a terminal."""

    def isatty(self) -> bool:
        """Say so."""
        return True


def agreed(ktime_ns: int = 0, source: Source = Source.STATIC) -> Judged:
    """Make a decision that is as expected."""
    match = MATCH._replace(outcome=Outcome(source), ktime_ns=ktime_ns)
    return Judged(match, Judgement.AGREE, match.outcome)


def logged(*observations: Observation, level: str = "info") -> list[Line]:
    """Return the lines written for these observations."""
    stream = io.StringIO()
    sink = LogSink(configure(stream, level), lambda _inputs: "Because.")
    for observation in observations:
        sink(observation)
    sink.flush()
    return [json.loads(line) for line in stream.getvalue().splitlines()]


def events(lines: list[Line]) -> list[tuple[object, object]]:
    """Return level and event of each line."""
    return [(line["level"], line["event"]) for line in lines]


def test_divergence() -> None:
    """A divergence is one warning with both answers and everything they depend on."""
    (line,) = logged(DIVERGENCE)
    del line["timestamp"]
    entry = {"vendor": "0x8086", "device": "0x100e"}
    any_sub = {"subvendor": "0xffffffff", "subdevice": "0xffffffff"}
    no_class = {"class": "0x000000", "class_mask": "0x000000"}
    expected = {
        "level": "warning",
        "event": "divergence",
        "why": "Because.",
        "kind": "different_entry",
        "address": "0000:00:02.0",
        "driver": "e1000",
        "kernel": "static",
        "kernel_index": 2,
        "model": "static",
        "model_index": 0,
        "vendor_id": "0x8086",
        "device_id": "0x100e",
        "subvendor_id": "0x1af4",
        "subdevice_id": "0x1100",
        "class_id": "0x020000",
        "is_virtfn": False,
        "driver_override": None,
        "dynids": [entry | {"device": "0x10f5"} | any_sub | no_class],
        "dynids_complete": True,
        "id_table": [
            {"index": 0} | entry | any_sub | no_class | {"override_only": 0},
            {"index": 2} | entry | any_sub | no_class | {"override_only": 1},
        ],
        "id_table_hits": 2,
        "id_table_size": 3,
        "table_state": "complete",
        "pid": 71,
        "tgid": 70,
        "comm": "bash",
        "cpu": 1,
        "ktime_ns": 5 * SECOND,
    }
    assert expected == line


def indices(table: tuple[Id, ...] | None, kernel: Outcome) -> list[int]:
    """Return which entries of a table a divergence shows."""
    inputs = INPUTS._replace(driver=Driver(3, "e1000", table))
    match = MATCH._replace(inputs=inputs, outcome=kernel)
    (line,) = logged(DIVERGENCE._replace(match=match, expected=Outcome(Source.NONE)))
    entries = line["id_table"]
    assert isinstance(entries, list)
    return [entry["index"] for entry in entries]


def test_entry_without_hit() -> None:
    """The entry that the kernel names is shown even if it does not fit the device."""
    assert indices(TABLE, Outcome(Source.STATIC, 1)) == [0, 1, 2]


def test_many_hits() -> None:
    """Of many entries that fit, the first ones and the named one are shown."""
    expected = [*range(ENTRIES), 699]
    assert expected == indices(TABLE[:1] * 700, Outcome(Source.STATIC, 699))


def test_impossible_index() -> None:
    """An answer that names no entry of the table breaks nothing."""
    assert indices(TABLE, Outcome(Source.STATIC, 7)) == [0, 2]


def test_no_table() -> None:
    """A driver without a table has no entry to show."""
    assert indices(None, Outcome(Source.OVERRIDE)) == []


def test_other_levels() -> None:
    """Each kind of observation has its level and its name."""
    undecided = Judged(
        MATCH, Judgement.INDETERMINATE, None, reason=Reason.DYNIDS_CHANGED
    )
    lines = logged(
        agreed(),
        agreed(source=Source.NONE),
        undecided,
        Probed(PROBE),
        Probed(PROBE, Kind.PROBE_WITHOUT_MATCH),
        LOSS,
        INPUTS.driver,
        Unregister(1, 3, "e1000"),
        level="debug",
    )
    expected = [
        ("info", "match"),
        ("debug", "no match"),
        ("info", "indeterminate"),
        ("info", "probe"),
        ("warning", "divergence"),
        ("warning", "loss"),
        ("debug", "driver"),
        ("debug", "unregister"),
    ]
    assert expected == events(lines)


def test_level() -> None:
    """What is below the level is not written."""
    assert logged(agreed(source=Source.NONE), INPUTS.driver) == []


def test_indeterminate_reason() -> None:
    """A decision that was not judged says why."""
    judged = Judged(MATCH, Judgement.INDETERMINATE, None, reason=Reason.DYNIDS_CHANGED)
    assert [line["reason"] for line in logged(judged)] == ["dynids_changed"]


def test_probe() -> None:
    """A probe tells its result, error, duration and path."""
    (line,) = logged(Probed(PROBE))
    actual = [line[key] for key in ("result", "errno", "duration_ms", "path")]
    assert actual == ["refused", "EIO", 1.235, "direct"]


def test_write() -> None:
    """A write tells what was written where, what came of it and who did it."""
    (line,) = logged(Wrote(WRITE, Judgement.AGREE, "EEXIST"))
    del line["timestamp"]
    assert {
        "level": "info",
        "event": "write",
        "file": "new_id",
        "driver": "pci-stub",
        "address": None,
        "text": "8086 10f5\\n",
        "size": 10,
        "errno": "EEXIST",
        "uid": 1000,
        "duration_ms": 1.235,
        "pid": 71,
        "tgid": 70,
        "comm": "bash",
        "cpu": 1,
        "ktime_ns": 5 * SECOND,
    } == line


@pytest.mark.parametrize(
    ("file", "address", "text", "expected"),
    [
        (StoreFile.BIND, None, "0000:00:02.0\n", "0000:00:02.0"),
        (StoreFile.UNBIND, None, "0000:00:02.0", "0000:00:02.0"),
        (StoreFile.DRIVERS_PROBE, None, "x y\n\n", "x y\\n"),
        (StoreFile.DRIVER_OVERRIDE, "0000:00:02.0", "vfio-pci\n", "0000:00:02.0"),
        (StoreFile.REMOVE_ID, None, "8086 10f5\n", None),
    ],
)
def test_address_of_a_write(
    file: StoreFile, address: str | None, text: str, expected: str | None
) -> None:
    """The device is the one whose file it is, or the one that the text names."""
    write = WRITE._replace(file=file, address=address, text=text)
    (line,) = logged(Wrote(write, Judgement.INDETERMINATE, None))
    assert expected == line["address"]


@pytest.mark.parametrize("expected", [None, "EINVAL"])
def test_write_that_diverges(expected: str | None) -> None:
    """An errno that the model does not expect is a warning with both."""
    (line,) = logged(Wrote(WRITE, Judgement.DIVERGE, expected))
    actual = [line[key] for key in ("level", "event", "errno", "expected_errno")]
    assert ["warning", "divergence", "EEXIST", expected] == actual
    assert ("new_id", "bash") == (line["file"], line["comm"])


def test_writes_are_held_back() -> None:
    """A script that writes without end fills no disk; what diverges is told."""
    wrote = Wrote(WRITE, Judgement.AGREE, "EEXIST")
    assert 50 == events(logged(*[wrote] * 60)).count(("info", "write"))
    diverged = wrote._replace(judgement=Judgement.DIVERGE)
    assert 60 == len(logged(*[diverged] * 60))


def test_hostile_write() -> None:
    """What was written may be anything."""
    write = WRITE._replace(file=StoreFile.BIND, text=HOSTILE, driver=HOSTILE)
    (line,) = logged(Wrote(write, Judgement.AGREE, None))
    assert [SPELLED] * 3 == [line[key] for key in ("text", "address", "driver")]


@pytest.mark.parametrize("judgement", [Judgement.AGREE, Judgement.INDETERMINATE])
def test_what_was_seen_at_boot(judgement: Judgement) -> None:
    """It is told one by one to who asks for everything; divergences to everybody."""
    match, probe = (each._replace(seen=Seen.BOOT) for each in (MATCH, PROBE))
    seen = Judged(match, judgement, None)
    probed = Probed(probe)
    assert [] == logged(seen, probed)
    assert 2 == len(logged(seen, probed, level="debug"))
    diverging = DIVERGENCE._replace(match=match)
    missing = Probed(probe, Kind.PROBE_WITHOUT_MATCH)
    assert 2 == len(logged(diverging, missing))


def test_held_back() -> None:
    """Beyond 50 a second, matches are held back and counted in the next second."""
    lines = logged(*[agreed()] * 60, agreed(SECOND), agreed(SECOND))
    assert events(lines[:50]) == [("info", "match")] * 50
    expected = [("info", "lines held back"), ("info", "match"), ("info", "match")]
    assert (expected, 10) == (events(lines[50:]), lines[50]["lines"])


def test_held_back_at_the_end() -> None:
    """What was held back last is told by flush, once."""
    stream = io.StringIO()
    sink = LogSink(configure(stream), lambda _inputs: "")
    for _ in range(60):
        sink(agreed())
    sink.flush()
    sink.flush()
    assert stream.getvalue().count("held back") == 1


def test_divergences_are_never_held_back() -> None:
    """All divergences of one second are written, probes without a match included."""
    several: list[Observation] = [DIVERGENCE] * 200
    several += [Probed(PROBE, Kind.PROBE_WITHOUT_MATCH)] * 200
    assert events(logged(*several)) == [("warning", "divergence")] * 400


def test_losses_are_held_back() -> None:
    """Beyond 5 a second, losses are held back; the events of them are counted."""
    lines = logged(*[LOSS] * 8)
    expected = [("warning", "loss")] * 5 + [("warning", "losses held back")]
    assert (expected, 21) == (events(lines), lines[-1]["events"])


def test_pace_of_late_records() -> None:
    """A record older than the last one, of another CPU, opens no new second."""
    pace = Pace(1)
    times = (2 * SECOND, SECOND, 2 * SECOND, 3 * SECOND)
    assert [pace.admits(time) for time in times] == [True, False, False, True]


def hostile(text: str) -> Judged:
    """Make a divergence with this text wherever text comes from outside."""
    driver = INPUTS.driver._replace(name=text)
    inputs = INPUTS._replace(driver=driver, driver_override=text)
    match = MATCH._replace(inputs=inputs, task=TASK._replace(comm=text))
    return DIVERGENCE._replace(match=match)


def test_hostile_text() -> None:
    """Control characters are spelled out even after the JSON was parsed."""
    (line,) = logged(hostile(HOSTILE))
    actual = [line[key] for key in ("driver", "driver_override", "comm")]
    assert actual == [SPELLED] * 3


@pytest.mark.parametrize("text", [HOSTILE, "\x1b[2J\x07\u202e\udcff"])
def test_hostile_text_on_a_terminal(text: str) -> None:
    """On a terminal, hostile text stays within its line and sends no escapes."""
    stream = Terminal()
    sink = LogSink(configure(stream, environ={"NO_COLOR": "1"}), lambda _: text)
    sink(hostile(text))
    assert stream.getvalue().removesuffix("\n").isprintable()


def crashed(stream: io.StringIO) -> str:
    """Log an exception with a hostile message from a function with a secret."""
    log = configure(stream, environ={"NO_COLOR": "1"})
    try:
        crash("hunter" + str(2))
    except ValueError:
        log.exception("crash")
    return stream.getvalue()


def crash(secret: str) -> None:
    """Raise an error that forges a line but does not tell the secret."""
    raise ValueError(f"\n2026 [info] forged {len(secret)}\x1b[31m")


def test_hostile_exception() -> None:
    """The message of an exception can't forge a line on a terminal."""
    (_first, *others) = crashed(Terminal()).splitlines()
    assert [line for line in others if not re.fullmatch("    [ -~]*", line)] == []


def test_no_local_variables() -> None:
    """An exception is logged without the values of local variables."""
    text = crashed(io.StringIO())
    assert ("ValueError" in text, "hunter2" in text) == (True, False)


def test_timestamp() -> None:
    """The time is UTC in ISO 8601, and comes first."""
    stream = io.StringIO()
    configure(stream).info("hello")
    pattern = r'\{"timestamp": "\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z", "level": '
    assert re.match(pattern, stream.getvalue())


def test_colors() -> None:
    """A terminal gets colours."""
    stream = Terminal()
    configure(stream, environ={}).info("hello")
    assert "\x1b[" in stream.getvalue()


@pytest.mark.parametrize("environ", [{"NO_COLOR": "1"}, {"TERM": "dumb"}])
def test_no_colors(environ: dict[str, str]) -> None:
    """A terminal that has none, or a person who wants none, gets no colours."""
    stream = Terminal()
    configure(stream, environ=environ).info("hello")
    assert "\x1b" not in stream.getvalue()


def journal(tmp_path: pathlib.Path, *, inode_shift: int = 0) -> str:
    """Return what is written where JOURNAL_STREAM names the stream, or another one."""
    file = tmp_path / "stream"
    with file.open("w", encoding="utf-8") as stream:
        status = os.fstat(stream.fileno())
        name = f"{status.st_dev}:{status.st_ino + inode_shift}"
        log = configure(stream, "debug", environ={"JOURNAL_STREAM": name})
        for method in ("debug", "info", "warning", "error", "critical"):
            getattr(log, method)("hello")
        try:
            crash("")
        except ValueError:
            log.exception("crash")
    return file.read_text(encoding="utf-8")


def test_journal(tmp_path: pathlib.Path) -> None:
    """Under systemd each line begins with its priority."""
    priorities = [line[:4] for line in journal(tmp_path).splitlines()]
    assert priorities == ["<7>{", "<6>{", "<4>{", "<3>{", "<2>{", "<3>{"]


def test_other_journal(tmp_path: pathlib.Path) -> None:
    """A stream that was sent elsewhere than to the journal has no priorities."""
    lines = journal(tmp_path, inode_shift=1).splitlines()
    assert [line[0] for line in lines] == ["{"] * 6


class Full(io.StringIO):
    """A stream to a full disk."""

    def write(self, _text: str) -> int:
        """Fail as the kernel would."""
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def test_stream_that_fails() -> None:
    """A log that can't be written is no error of who logs."""
    log = configure(Full())
    log.info("first")
    log.warning("second")


def repeated(judgement: Judgement, kind: Kind | None = None) -> Repeated:
    """Return repeats of a decision that came to nothing."""
    repeat = Repeat(3, 41, SECOND, 2 * SECOND)
    return Repeated(
        repeat, "e1000", Outcome(Source.NONE), judgement, kind, None, Seen.LIVE
    )


def test_repeated_divergence() -> None:
    """What was only counted is told with how often, never held back."""
    again = repeated(Judgement.DIVERGE, Kind.EXPECTED_NOT_MATCHED)
    lines = logged(*[again] * 50)
    assert [("warning", "divergence repeated")] * 50 == events(lines)
    kept = ("driver", "kind", "count")
    assert ["e1000", "expected_not_matched", 41] == [lines[0][key] for key in kept]


def test_repeated_nothing() -> None:
    """What came to nothing as expected is for debugging."""
    again = repeated(Judgement.AGREE)
    assert [] == logged(again)
    assert [("debug", "no match repeated")] == events(logged(again, level="debug"))

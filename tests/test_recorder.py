"""observer/recorder.py: what is seen is kept, or it is counted what is not."""

from __future__ import annotations

import io
import json
import random
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from observations import probe, write
from room import room_for

from observer import log
from observer.record import (
    Device,
    Driver,
    Id,
    Inputs,
    Loss,
    LossStage,
    Match,
    Outcome,
    Source,
    StoreFile,
    Task,
)
from observer.recorder import RETRY_NS, WAITING, Recorder
from observer.recording import BATCH, Header, Recording, Writer

if TYPE_CHECKING:
    from observer.record import Record

DRIVER = Driver(1, "e1000", (Id(1, 2),))
MATCH = Match(
    ktime_ns=5,
    task=Task(7, 7, "modprobe", 0),
    address="0000:00:02.0",
    is_virtfn=False,
    inputs=Inputs(Device(1, 2, 3, 4, 5), DRIVER, (), False, None),
    outcome=Outcome(Source.STATIC, 0),
    doubts=(),
)
HEADER = Header("6.1.0-56-amd64", "x86_64", {}, "linux-5.15")
FULL = Path("/dev/full")
resumable = pytest.mark.parametrize("name", ["r", "r.gz"])


class Kept:
    """A recorder, its clock and what it says."""

    def __init__(self, path: Path) -> None:
        self.now_ns = 1
        self._stream = io.StringIO()
        writer, logger = Writer(path, HEADER), log.configure(self._stream)
        self.recorder = Recorder(writer, logger, clock=lambda: self.now_ns)

    def record(self, *records: Record) -> None:
        """Add records."""
        for record in records:
            self.recorder.record(record)

    def flush(self) -> None:
        """Let enough time pass, and flush."""
        self.now_ns += RETRY_NS
        self.recorder.flush()

    def said(self) -> list[str]:
        """Return what it said, with how much it dropped or why."""
        lines = map(json.loads, self._stream.getvalue().splitlines())
        return [
            ": ".join(str(line[k]) for k in ("event", "error", "dropped") if k in line)
            for line in lines
        ]


def read(path: Path) -> list[Record]:
    """Read a recording that is whole."""
    with Recording(path) as recording:
        records = list(recording)
        assert not recording.truncated
    return records


def test_recording(tmp_path: Path) -> None:
    """What is seen is kept."""
    kept = Kept(tmp_path / "r")
    kept.record(MATCH)
    kept.recorder.close()
    assert [DRIVER, MATCH] == read(tmp_path / "r")
    kept.record(MATCH)
    assert ([], 0) == (kept.said(), kept.recorder.dropped)


def test_it_is_flushed_once_a_second(tmp_path: Path) -> None:
    """Not more often, for that costs, nor less, for a crash would cost more."""
    kept = Kept(tmp_path / "r")
    kept.record(MATCH)
    kept.now_ns += 999_999_999
    kept.recorder.flush()
    assert 0 == (tmp_path / "r").stat().st_size
    kept.now_ns += 1
    kept.recorder.flush()
    assert [DRIVER, MATCH] == read(tmp_path / "r")
    kept.recorder.close()


@resumable
def test_nothing_is_lost_when_there_is_room_again_in_time(
    tmp_path: Path, name: str
) -> None:
    """What came while the disk was full waited, and is there in order."""
    kept = Kept(tmp_path / name)
    records = [probe(ktime_ns=at).probe for at in range(2 * BATCH)]
    kept.record(records[0])
    kept.flush()
    with room_for((tmp_path / name).stat().st_size + 100):
        kept.record(*records[1:])
        kept.flush()
    kept.flush()
    kept.record(MATCH)
    kept.recorder.close()
    assert [*records, DRIVER, MATCH] == read(tmp_path / name)
    assert ["recording waits: File too large", "recording goes on: 0"] == kept.said()
    assert 0 == kept.recorder.dropped


@resumable
def test_what_is_lost_is_counted_in_the_recording(tmp_path: Path, name: str) -> None:
    """And where it goes on, a driver that was told in what is lost is told again."""
    kept = Kept(tmp_path / name)
    kept.flush()
    with room_for((tmp_path / name).stat().st_size):
        kept.record(*[probe(ktime_ns=at).probe for at in range(WAITING)])
        kept.record(MATCH, MATCH, probe(ktime_ns=7).probe)
        kept.now_ns += 10
        kept.flush()
    kept.flush()
    kept.record(MATCH)
    kept.recorder.close()
    since_ns, until_ns = 1 + RETRY_NS, kept.now_ns
    assert [
        probe(ktime_ns=WAITING - 1).probe,
        Loss(since_ns, until_ns, LossStage.QUEUE, 2),
        Loss(since_ns, until_ns, LossStage.OTHER, 1),
        DRIVER,
        MATCH,
    ] == read(tmp_path / name)[-5:]
    assert ["recording waits: File too large", "recording goes on: 3"] == kept.said()
    assert 3 == kept.recorder.dropped


def test_a_full_disk_is_not_tried_at_each_record(tmp_path: Path) -> None:
    """There is room again, but it is looked for every few seconds alone."""
    kept = Kept(tmp_path / "r")
    with room_for(0):
        kept.record(*[MATCH] * BATCH)
    kept.record(*[MATCH] * BATCH)
    kept.now_ns += RETRY_NS - 1
    kept.recorder.flush()
    assert 0 == (tmp_path / "r").stat().st_size
    kept.now_ns += 1
    kept.recorder.flush()
    assert [DRIVER, *[MATCH] * (2 * BATCH)] == read(tmp_path / "r")
    kept.recorder.close()


@pytest.mark.parametrize("name", ["r", "r.gz"])
def test_a_disk_that_stays_full(tmp_path: Path, name: str) -> None:
    """It is told once, and at the end how much is missing; nothing else ends."""
    (tmp_path / name).symlink_to(FULL)
    kept = Kept(tmp_path / name)
    kept.record(*[MATCH] * 1000)
    kept.flush()
    kept.flush()
    kept.recorder.close()
    kept.recorder.close()
    assert [
        "recording waits: No space left on device",
        # The header and the driver are lines as well.
        "recording ended: No space left on device: 1002",
    ] == kept.said()


def test_an_xz_recording_ends(tmp_path: Path) -> None:
    """Its compressor can't take a step back; what comes later is counted."""
    (tmp_path / "r.xz").symlink_to(FULL)
    kept = Kept(tmp_path / "r.xz")
    made = random.Random(1)  # noqa: S311 - so that it does not compress
    for at in range(20_000):
        text = made.randbytes(64).hex()
        kept.record(write(at, StoreFile.NEW_ID, text).write)
        if kept.said():
            break
    dropped = kept.recorder.dropped
    kept.record(MATCH)
    kept.flush()
    kept.recorder.close()
    assert [f"recording ended: No space left on device: {dropped}"] == kept.said()
    assert (BATCH, dropped + 1) == (dropped, kept.recorder.dropped)


def test_nothing_to_record() -> None:
    """Without a file nothing is kept, and nothing said."""
    stream = io.StringIO()
    made = Recorder(None, log.configure(stream))
    made.record(MATCH)
    made.flush()
    made.close()
    assert ("", 0) == (stream.getvalue(), made.dropped)

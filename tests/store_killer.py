"""Kills a process that writes to a store, again and again: DIRECTORY ROUNDS.

Prints what was found after each kill, a JSON object a line. Runs in a process of its
own, for it forks.
"""

from __future__ import annotations

import json
import os
import random
import signal
import struct
import sys
import time
from contextlib import closing
from pathlib import Path
from typing import NamedTuple

import observations
import stores

from observer.store import FILE, Limits, Store
from observer.store.database import open_archive
from observer.store.writer import QUEUE

COMMIT_SECONDS = 0.1
SHORTEST = 0.02  # life in seconds, from the first commit on
MARK = struct.Struct("=dqq")  # time, rows offered, rows written
EACH = 10_000_000  # rows of a round at most, by which their numbers tell it
LIMITS = Limits(size_bytes=8 << 20)  # so that rows are deleted as well


class Marks(NamedTuple):
    """What the process told before it was killed."""

    written: int  # rows that it knew to be written
    promised: int  # rows that it had offered a second before


def write(path: Path, first: int, told: int) -> None:
    """Write decisions flat out, and tell how far that got."""
    store = Store(path, stores.RUNNING, LIMITS, commit_seconds=COMMIT_SECONDS)
    store.start()
    offered = 0
    while True:
        if store.counts().offered - store.counts().written < QUEUE // 2:
            for _ in range(500):
                store(observations.match(first + offered, stores.DRIVER))
                offered += 1
        os.write(told, MARK.pack(time.monotonic(), offered, store.counts().written))
        time.sleep(0.001)


def read(marks: bytes, killed: float) -> Marks:
    """Return what was told until a process was killed."""
    whole = len(marks) - len(marks) % MARK.size
    told = [*MARK.iter_unpack(marks[:whole])]
    promised = [offered for at, offered, _ in told if at < killed - 1]
    return Marks(told[-1][2] if told else 0, max(promised, default=0))


def killed_round(path: Path, first: int, seconds: float) -> Marks:
    """Let a process write for so long and kill it."""
    reader, writer = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.close(reader)
        write(path, first, writer)
    os.close(writer)
    marks = bytearray()
    end = None
    while end is None or time.monotonic() < end:
        marks += os.read(reader, 1 << 16)
        if end is None and read(bytes(marks), 0).written:
            end = time.monotonic() + seconds
    os.kill(pid, signal.SIGKILL)
    killed = time.monotonic()
    os.waitpid(pid, 0)
    while chunk := os.read(reader, 1 << 16):
        marks += chunk
    os.close(reader)
    return read(bytes(marks), killed)


def found(path: Path, first: int) -> dict[str, object]:
    """Look at the file as the verbs do; the next daemon finds it so."""
    with closing(open_archive(path)) as connection:  # which leaves the WAL there
        ((checked,),) = connection.execute("PRAGMA quick_check").fetchall()
        rows, least, most = connection.execute(
            "SELECT count(*), min(ktime_ns), max(ktime_ns) FROM decisions "
            "WHERE ktime_ns BETWEEN ? AND ?",
            (first, first + EACH - 1),
        ).fetchone()
        boots = connection.execute("SELECT count(*) FROM boots").fetchone()[0]
    return {
        "checked": checked,
        "kept": most - first + 1,  # rows up to the last, those deleted included
        "gaps": most - least + 1 - rows,
        "boots": boots,
    }


def main(directory: str, rounds: str, longest: str) -> None:
    """Kill so many times."""
    path = Path(directory, FILE)
    source = random.Random(1)  # noqa: S311 - no secret
    for number in range(int(rounds)):
        first = number * EACH
        seconds = source.uniform(SHORTEST, float(longest))
        marks = killed_round(path, first, seconds)
        print(json.dumps(found(path, first) | marks._asdict()), flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])

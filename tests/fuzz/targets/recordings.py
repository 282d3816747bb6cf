"""Recordings, plain and compressed: read, judged as `replay` does, and told."""

from __future__ import annotations

import gzip
import json
import lzma
from pathlib import Path
from typing import TYPE_CHECKING

from fuzz.json_tree import mutate
from fuzz.scratch import SCRATCH
from fuzz.target import Target
from observer import replay
from observer.recording import Recording, RecordingError, Writer

if TYPE_CHECKING:
    from collections.abc import Iterable

GOLDEN = Path(__file__).parents[2] / "golden"
COMPRESSED = {b"\x1f": SCRATCH / "r.jsonl.gz", b"\xfd": SCRATCH / "r.jsonl.xz"}
PLAIN, SECOND, THIRD = (SCRATCH / f"{name}.jsonl" for name in "abc")


def run(data: bytes) -> None:
    """Judge a recording and tell it all; what was written anew is the same."""
    path = COMPRESSED.get(data[:1], PLAIN)
    path.write_bytes(data)
    copy(path, SECOND)
    copy(SECOND, THIRD)
    assert SECOND.read_bytes() == THIRD.read_bytes()
    replayed = replay.replay(path)
    for line in replay.lines(replayed, what_if=True):
        json.dumps(line)
    for _ in replay.sentences(replayed, what_if=True):
        pass


def copy(path: Path, to: Path) -> None:
    """Write a recording anew."""
    with Recording(path) as recording, Writer(to, recording.header) as writer:
        for record in recording:
            writer.write(record)


def seeds() -> Iterable[bytes]:
    """Yield the first lines of real recordings, and one of each kind from them."""
    for path in sorted(GOLDEN.glob("*.jsonl.xz")):
        lines = lzma.decompress(path.read_bytes()).splitlines(keepends=True)
        short = [line for line in lines[1:] if len(line) < 1000]
        kinds = {line[:18]: line for line in short}
        plain = b"".join([lines[0], *short[:5], *kinds.values()])
        yield plain
        yield gzip.compress(plain, mtime=0)
        yield lzma.compress(plain, preset=0)


TARGET = Target(
    run, (RecordingError,), seeds, share=2, max_bytes=1 << 13, mutate=mutate
)

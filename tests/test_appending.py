"""observer/appending.py: a file in which no write is half done."""

from __future__ import annotations

import gzip
import random
from pathlib import Path

import pytest
from room import room_for

from observer.appending import Appending

FULL = Path("/dev/full")
either = pytest.mark.parametrize("compress", [False, True])


def content(path: Path, *, compress: bool) -> bytes:
    """Read it all."""
    return gzip.decompress(path.read_bytes()) if compress else path.read_bytes()


@either
def test_all_of_it(tmp_path: Path, *, compress: bool) -> None:
    """What was written can be read, and what was there before can't."""
    path = tmp_path / "a"
    path.write_bytes(bytes(10_000))
    file = Appending(path, compress=compress)
    file.write(b"one\n")
    file.write(b"two\n")
    file.close()
    file.close()
    assert b"one\ntwo\n" == content(path, compress=compress)


@either
def test_a_write_is_there_before_the_end(tmp_path: Path, *, compress: bool) -> None:
    """Whoever reads after a crash finds it."""
    path = tmp_path / "a"
    file = Appending(path, compress=compress)
    file.write(b"one\n")
    file.flush()
    with gzip.open(path) if compress else path.open("rb") as read:
        assert b"one\n" == read.read(4)
    file.close()


@either
def test_what_does_not_fit_is_taken_back(tmp_path: Path, *, compress: bool) -> None:
    """Some of many writes fail, part of the way: the others are whole, in order."""
    path, kept = tmp_path / "a", b""
    made = random.Random(1)  # noqa: S311
    file = Appending(path, compress=compress)
    failed = 0
    for _ in range(100):
        data = made.randbytes(made.randrange(1, 3000))
        with room_for(path.stat().st_size + made.randrange(4000)):
            try:
                file.write(data)
            except OSError:
                failed += 1
            else:
                kept += data
    file.close()
    assert 10 < failed < 90
    assert kept == content(path, compress=compress)


@either
def test_an_end_that_does_not_fit(tmp_path: Path, *, compress: bool) -> None:
    """It is an error once; the file is closed all the same."""
    file = Appending(FULL, compress=compress)
    with pytest.raises(OSError, match="No space left"):
        file.write(b"one\n")
    if compress:
        with pytest.raises(OSError, match="No space left"):
            file.close()
    file.close()
    assert file.closed
    with pytest.raises(IsADirectoryError):
        Appending(tmp_path, compress=compress)

"""observer/textfile.py: the metrics as a file, whole or not at all."""

from __future__ import annotations

import os
import threading
from typing import TYPE_CHECKING

import pytest

from observer.textfile import Textfile, TextfileError

if TYPE_CHECKING:
    from pathlib import Path

WAIT_SECONDS = 30


def deaf(_: str | None) -> None:
    """Hear of no trouble."""


def test_the_file_is_there_at_once_for_all_to_read(tmp_path: Path) -> None:
    """Under its name alone, and gone after the end."""
    path = tmp_path / "pci.prom"
    umask = os.umask(0o077)
    try:
        textfile = Textfile(path, lambda: b"a 1\n", deaf)
        textfile.start()
    finally:
        os.umask(umask)
    assert [path] == list(tmp_path.iterdir())
    assert b"a 1\n" == path.read_bytes()
    assert 0o644 == path.stat().st_mode & 0o777
    textfile.stop()
    assert [] == list(tmp_path.iterdir())


def test_the_file_is_replaced(tmp_path: Path) -> None:
    """A reader that has it open goes on reading the old one."""
    path, rendered = tmp_path / "pci.prom", threading.Semaphore(0)
    bodies = iter([b"old\n", *[b"new\n"] * 10_000])

    def render() -> bytes:
        rendered.release()
        return next(bodies)

    textfile = Textfile(path, render, deaf, seconds=0.01)
    textfile.start()
    with path.open("rb") as opened:
        for _ in range(3):  # the third begins when the second is in place
            assert rendered.acquire(timeout=WAIT_SECONDS)
        assert b"old\n" == opened.read()
        assert b"new\n" == path.read_bytes()
    textfile.stop()


def test_no_directory(tmp_path: Path) -> None:
    """One sentence: which file, who can't write it, why, what to do."""
    path = tmp_path / "none" / "pci.prom"
    with pytest.raises(TextfileError) as caught:
        Textfile(path, bytes, deaf).start()
    expected = (
        f"{path} can't be written by the user with id {os.geteuid()}, as which the "
        f"daemon runs (No such file or directory): let it write to {path.parent}."
    )
    assert expected == str(caught.value)


def test_trouble_is_told_once_and_ends(tmp_path: Path) -> None:
    """A directory that goes and comes back."""
    directory = tmp_path / "d"
    directory.mkdir()
    told: list[str | None] = []
    heard = threading.Semaphore(0)

    def hear(trouble: str | None) -> None:
        told.append(trouble)
        heard.release()

    rendered = threading.Semaphore(0)

    def render() -> bytes:
        rendered.release()
        return b""

    textfile = Textfile(directory / "p.prom", render, hear, seconds=0.01)
    textfile.start()
    directory.rename(tmp_path / "e")
    assert heard.acquire(timeout=WAIT_SECONDS)
    while rendered.acquire(blocking=False):
        pass
    for _ in range(3):
        assert rendered.acquire(timeout=WAIT_SECONDS)
    (tmp_path / "e").rename(directory)
    assert heard.acquire(timeout=WAIT_SECONDS)
    textfile.stop()
    assert ["No such file or directory", None] == told


def test_an_error_ends_nothing(tmp_path: Path) -> None:
    """Whatever goes wrong once is told, and the file is written the next time."""
    told: list[str | None] = []
    heard = threading.Semaphore(0)
    bodies = iter([b"a 1\n", RuntimeError("broken"), b"a 2\n", *[b"a 3\n"] * 10_000])

    def render() -> bytes:
        body = next(bodies)
        if isinstance(body, Exception):
            raise body
        return body

    def hear(trouble: str | None) -> None:
        told.append(trouble)
        heard.release()

    textfile = Textfile(tmp_path / "p.prom", render, hear, seconds=0.01)
    textfile.start()
    assert heard.acquire(timeout=WAIT_SECONDS)
    assert heard.acquire(timeout=WAIT_SECONDS)
    textfile.stop()
    assert ["RuntimeError: broken", None] == told


def test_a_link_that_was_put_there_is_not_followed(tmp_path: Path) -> None:
    """Who may write to the directory must not have another file overwritten."""
    other = tmp_path / "other"
    other.write_bytes(b"mine")
    (tmp_path / ".p.prom.new").symlink_to(other)
    textfile = Textfile(tmp_path / "p.prom", lambda: b"a 1\n", deaf)
    textfile.start()
    textfile.stop()
    assert b"mine" == other.read_bytes()

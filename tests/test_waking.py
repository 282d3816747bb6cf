"""observer/waking.py: a wait ends when somebody wants it to, and by signals."""

from __future__ import annotations

import os
import select
import signal
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from observer.waking import Waker

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture
def waker() -> Iterator[Waker]:
    """Return one, closed at the end."""
    made = Waker()
    yield made
    made.close()


def wanted(waker: Waker) -> bool:
    """Say whether a wait would end at once."""
    return bool(select.select([waker], [], [], 0)[0])


def test_wake(waker: Waker) -> None:
    """However often it is wanted, to rest once is enough."""
    assert not wanted(waker)
    for _ in range(100_000):
        waker.wake()
    assert wanted(waker)
    waker.rest()
    assert not wanted(waker)
    waker.rest()


def test_signals(waker: Waker) -> None:
    """A signal that has a handler wakes as well."""
    before = signal.signal(signal.SIGUSR1, lambda *_: None)
    try:
        waker.on_signals()
        os.kill(os.getpid(), signal.SIGUSR1)
        assert wanted(waker)
    finally:
        signal.signal(signal.SIGUSR1, before)


def test_closed() -> None:
    """Nothing is left open, and signals go nowhere."""
    before = set(Path("/proc/self/fd").iterdir())
    waker = Waker()
    waker.on_signals()
    waker.close()
    assert before == set(Path("/proc/self/fd").iterdir())
    assert -1 == signal.set_wakeup_fd(-1)

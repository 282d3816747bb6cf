"""observer/ring.py: every record once, whole and in order, and its room given back."""

from __future__ import annotations

import mmap
import os
import struct
import threading
import time
from collections import deque

import pytest
from hypothesis import given
from hypothesis import strategies as st
from kernel_ring import BUSY, DISCARD, PAGE, KernelRing

from observer import bpf
from observer.program import Map
from observer.ring import CounterMap, Counters, Ring

RINGBUF, ARRAY, MMAPABLE = 27, 2, 1 << 10
HEAD = 8  # bytes before each record's data


def test_nothing() -> None:
    """An empty ring has no records."""
    with KernelRing() as kernel:
        assert [] == kernel.ring.batch()


def test_order() -> None:
    """Records come as they were written, without the padding to 8 bytes."""
    with KernelRing() as kernel:
        for data in (b"a", b"twelve bytes", b""):
            kernel.write(data)
        assert [b"a", b"twelve bytes", b""] == kernel.ring.batch()


def test_once() -> None:
    """What was read is not read again."""
    with KernelRing() as kernel:
        kernel.write(b"a")
        kernel.ring.batch()
        assert [] == kernel.ring.batch()


def test_room_is_given_back() -> None:
    """After a batch the kernel may write as much again."""
    with KernelRing() as kernel:
        full = b"x" * (kernel.size - 8)
        assert [0, None] == [kernel.write(full), kernel.write(b"")]
        kernel.ring.batch()
        assert kernel.size == kernel.write(full)


def test_busy() -> None:
    """A record that is still being written stops the batch, those behind it too."""
    with KernelRing() as kernel:
        kernel.write(b"before")
        place = kernel.write(b"during", BUSY)
        kernel.write(b"after")
        assert place is not None
        assert [b"before"] == kernel.ring.batch()
        assert place == kernel.consumed
        kernel.submit(place, len(b"during"))
        assert [b"during", b"after"] == kernel.ring.batch()


def test_discarded() -> None:
    """A discarded record is skipped, its room given back."""
    with KernelRing() as kernel:
        kernel.write(b"discarded", DISCARD)
        kernel.write(b"kept")
        assert [b"kept"] == kernel.ring.batch()
        assert kernel.produced == kernel.consumed


def test_limit() -> None:
    """A batch is bounded; the rest is left for the next one."""
    with KernelRing() as kernel:
        for data in (b"a", b"b", b"c"):
            kernel.write(data)
        assert [[b"a", b"b"], [b"c"]] == [kernel.ring.batch(2), kernel.ring.batch(2)]


@pytest.mark.parametrize("behind_the_end", range(0, 24, 8))
def test_wrap_around(behind_the_end: int) -> None:
    """A record over the ring's end is put together, also when its head is last."""
    with KernelRing() as kernel:
        record = bytes(range(1, 25))
        room = HEAD + len(record) - behind_the_end
        kernel.write(b"x" * (kernel.size - room - HEAD))
        kernel.ring.batch()
        kernel.write(record)
        assert [record] == kernel.ring.batch()


sizes = st.integers(0, 200) | st.sampled_from([PAGE // 2, PAGE - 8])
writes = st.tuples(sizes, st.booleans())


@given(st.lists(writes | st.integers(0, 20), max_size=60))
def test_no_record_is_lost(steps: list[tuple[int, bool] | int]) -> None:
    """Whatever is written, read with any limits, comes out as a queue gives it."""
    with KernelRing() as kernel:
        expected: deque[bytes] = deque()
        for number, step in enumerate(steps):
            if isinstance(step, int):
                limit = min(step, len(expected))
                taken = [expected.popleft() for _ in range(limit)]
                assert taken == kernel.ring.batch(step)
            else:
                size, discarded = step
                data = bytes([number]) * size
                place = kernel.write(data, discarded * DISCARD)
                if place is not None and not discarded:
                    expected.append(data)
        assert list(expected) == kernel.ring.batch()
        assert kernel.produced == kernel.consumed


def test_wait() -> None:
    """Waiting ends with a wake-up and says so."""
    with KernelRing() as kernel:
        assert not kernel.ring.wait(0)
        kernel.wake()
        assert kernel.ring.wait(0)


def test_what_follows_the_first_is_gathered(monkeypatch: pytest.MonkeyPatch) -> None:
    """A wait that was woken leaves a burst time to gather; one that was not, none."""
    with KernelRing() as kernel:
        gathered: list[float] = []
        monkeypatch.setattr(time, "sleep", gathered.append)
        waker = threading.Timer(0.05, kernel.wake)
        waker.start()
        assert kernel.ring.wait(60)
        waker.join()
        assert 1 == len(gathered)
        assert kernel.ring.wait(60)
        assert 1 == len(gathered)


def test_what_else_wakes_is_not_kept_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    """Only the ring's records gather: a signal or a client is attended to at once."""
    with KernelRing() as kernel:
        gathered: list[float] = []
        monkeypatch.setattr(time, "sleep", gathered.append)
        readable, writable = os.pipe()
        kernel.ring.watch(readable)
        waker = threading.Timer(0.05, os.write, (writable, b"x"))
        waker.start()
        assert not kernel.ring.wait(60)
        waker.join()
        assert [] == gathered
        os.close(readable)
        os.close(writable)


def test_real_ring() -> None:
    """A ring of the running kernel's can be mapped, read and waited for."""
    descriptor = bpf.create_map(Map("events", RINGBUF, 0, 0, PAGE, 0))
    try:
        ring = Ring(descriptor, PAGE)
        assert ([], False) == (ring.batch(), ring.wait(0))
        # A consumer that is elsewhere than the producer: there is something to read.
        # epoll asks the ring when it is registered, and then waits for a wake-up.
        struct.pack_into("<Q", mmap.mmap(descriptor, PAGE), 0, 8)
        assert Ring(descriptor, PAGE).wait(0)
    finally:
        os.close(descriptor)


def test_no_ring() -> None:
    """What can't be mapped is refused at once."""
    descriptor = os.eventfd(0)
    try:
        with pytest.raises(OSError, match="No such device"):
            Ring(descriptor, PAGE)
    finally:
        os.close(descriptor)


def test_counters() -> None:
    """The counters are read where the kernel writes them, each time anew."""
    file = os.memfd_create("counters")
    os.ftruncate(file, PAGE)
    memory = mmap.mmap(file, PAGE)
    counters = CounterMap(file)
    os.close(file)
    assert Counters() == counters.read()
    struct.pack_into("<9Q", memory, 0, *range(1, 9), 1 << 63)
    assert Counters(1, 2, 3, 4, 5, 6, 7, 8, 1 << 63) == counters.read()


def test_real_counters() -> None:
    """An array of the running kernel's begins at zero."""
    descriptor = bpf.create_map(Map("counters", ARRAY, 4, 8, 16, MMAPABLE))
    try:
        assert Counters() == CounterMap(descriptor).read()
    finally:
        os.close(descriptor)

"""The daemon's end of the hooks: the ring buffer and the counters, by mmap alone.

Neither needs a privilege nor a library once the descriptors are here. The ring relies
on x86-64's memory order: loads are not reordered with loads, nor stores with stores.
"""

from __future__ import annotations

import mmap
import platform
import select
import time
from typing import Final, NamedTuple

from observer import abi

_PAGE: Final = mmap.PAGESIZE
_BUSY, _DISCARD = 1 << 31, 1 << 30
_LENGTH: Final = _DISCARD - 1
_HEADER_BYTES: Final = 8
_BATCH: Final = 4096  # records
_FILES: Final = len(abi.FILES)
# What follows the first of a burst is left to gather so long: it costs the task that
# makes the calls one wake-up of ours and not one for every few calls.
_GATHER_SECONDS: Final = 0.01


class Counters(NamedTuple):
    """The kernel side's books; ``enum counter`` of bpf/record.h."""

    whole: int = 0  # match decisions that were to be sent
    lost_reserve: int = 0
    synthetic: int = 0
    match_entered: int = 0
    repeated: int = 0  # other match decisions, that were only counted
    match_no_entry: int = 0
    probe_entered: int = 0
    probe_left: int = 0
    lost_other: int = 0
    match_no_exit: int = 0
    write_entered: tuple[int, ...] = (0,) * _FILES  # by place in abi.FILES
    write_left: tuple[int, ...] = (0,) * _FILES
    no_digest: int = 0  # match decisions that were sent for want of a digest

    @property
    def emitted(self) -> int:
        """Match decisions."""
        return self.whole + self.repeated

    @property
    def match_left(self) -> int:
        """Exits with their entry: each is a decision or was of new_id's fake device."""
        return self.emitted + self.synthetic


_SINGLE: Final = Counters._fields.index("write_entered")  # before: one place each


_COUNTERS: Final = _SINGLE + 2 * _FILES + 1


class CounterMap:
    """A BPF array of u64 that is mapped, so that reading it is no system call."""

    def __init__(self, descriptor: int) -> None:
        mapped = mmap.mmap(descriptor, _PAGE, mmap.MAP_SHARED, mmap.PROT_READ)
        self._values = memoryview(mapped).cast("Q")

    def read(self) -> Counters:
        """Return all counters. Each is exact, together they are not one instant."""
        values = self._values[:_COUNTERS].tolist()
        entered, left = _SINGLE + _FILES, _SINGLE + 2 * _FILES
        by_file = tuple(values[_SINGLE:entered]), tuple(values[entered:left])
        return Counters._make((*values[:_SINGLE], *by_file, values[left]))


class RepeatMap:
    """How often the decision of each digest was repeated; a mapped array as well."""

    def __init__(self, descriptor: int) -> None:
        """Map it. Raises OSError when that is refused."""
        size = abi.DIGESTS * 8
        mapped = mmap.mmap(descriptor, size, mmap.MAP_SHARED, mmap.PROT_READ)
        self._values = memoryview(mapped).cast("Q")

    def __getitem__(self, digest: int) -> int:
        """Return how often, since the hooks were attached."""
        return self._values[digest]


class Ring:
    """A BPF ring buffer's consumer.

    Raises OSError when the descriptor can't be mapped, NotImplementedError on machines
    with a weaker memory order.
    """

    def __init__(
        self, descriptor: int, size_bytes: int, *, wake_up: int | None = None
    ) -> None:
        """Map a ring; `wake_up` can be read when the ring can, by default it itself."""
        if platform.machine() != "x86_64":
            raise NotImplementedError(
                f"reading the ring on {platform.machine()} is not supported yet"
            )
        read, write = mmap.PROT_READ, mmap.PROT_WRITE
        consumer = mmap.mmap(descriptor, _PAGE, mmap.MAP_SHARED, read | write)
        # The kernel offers the data twice in a row, so that no record wraps around.
        # Mapped once it counts but once in RSS, and joining the rare one costs little.
        self._data = mmap.mmap(
            descriptor, _PAGE + size_bytes, mmap.MAP_SHARED, read, offset=_PAGE
        )
        self._mask = size_bytes - 1
        self._consumed = memoryview(consumer).cast("Q")
        self._produced = memoryview(self._data)[:8].cast("Q")
        self._headers = memoryview(self._data)[_PAGE:].cast("I")
        self._poller = select.epoll()
        self._wakes = descriptor if wake_up is None else wake_up
        self._poller.register(self._wakes, select.EPOLLIN)

    def watch(self, descriptor: int) -> None:
        """Let a wait end as well when there is something to read from this one."""
        self._poller.register(descriptor, select.EPOLLIN)

    def wait(self, timeout_seconds: float) -> bool:
        """Wait until there is something to read; say whether it is in the ring.

        A lost wake-up heals with the next call, so keep the timeout at some seconds.
        """
        ready = self._poller.poll(0)
        woken = not ready
        if woken:
            ready = self._poller.poll(timeout_seconds)
        in_ring = any(descriptor == self._wakes for descriptor, _ in ready)
        if in_ring and woken:
            time.sleep(_GATHER_SECONDS)
        return in_ring

    def batch(self, limit: int = _BATCH) -> list[bytes]:
        """Take at most ``limit`` records and give their room back."""
        records: list[bytes] = []
        at, end = self._consumed[0], self._produced[0]
        data, headers, mask = self._data, self._headers, self._mask
        while at < end and len(records) < limit:
            place = at & mask
            header = headers[place >> 2]
            if header & _BUSY:
                break
            length = header & _LENGTH
            if not header & _DISCARD:
                start = _PAGE + place + _HEADER_BYTES
                record = data[start : start + length]
                if len(record) < length:
                    record += data[_PAGE : _PAGE + length - len(record)]
                records.append(record)
            at += (length + _HEADER_BYTES + 7) & ~7
        self._consumed[0] = at
        return records

"""A BPF ring buffer as the kernel writes it, in a file in memory."""

from __future__ import annotations

import mmap
import os
import struct
from typing import Self

from observer.ring import Ring

PAGE = mmap.PAGESIZE
BUSY, DISCARD = 1 << 31, 1 << 30
HEADER = struct.Struct("<II")


class KernelRing:
    """The producer's end; `ring` is a consumer of it."""

    def __init__(self, size_bytes: int = PAGE) -> None:
        self.size = size_bytes
        self._file = os.memfd_create("ring")
        os.ftruncate(self._file, 2 * PAGE + size_bytes)
        self._memory = mmap.mmap(self._file, 2 * PAGE + size_bytes)
        self._wake_up = os.eventfd(0)
        self.ring = Ring(self._file, size_bytes, wake_up=self._wake_up)
        self.produced = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        os.close(self._file)
        os.close(self._wake_up)

    @property
    def consumed(self) -> int:
        """Where the consumer is."""
        return int(struct.unpack_from("<Q", self._memory, 0)[0])

    def write(self, data: bytes, flags: int = 0) -> int | None:
        """Write a record and return its place; None when there is no room."""
        length = HEADER.size + len(data) + 7 & ~7
        if self.produced + length - self.consumed > self.size:
            return None
        place = self.produced
        record = HEADER.pack(len(data) | flags, 0) + data
        for offset, byte in enumerate(record):
            self._memory[2 * PAGE + (place + offset) % self.size] = byte
        self.produced += length
        struct.pack_into("<Q", self._memory, PAGE, self.produced)
        return place

    def submit(self, place: int, length: int) -> None:
        """Finish a record that was busy."""
        HEADER.pack_into(self._memory, 2 * PAGE + place % self.size, length, 0)

    def wake(self) -> None:
        """Say that there is something to read."""
        os.eventfd_write(self._wake_up, 1)

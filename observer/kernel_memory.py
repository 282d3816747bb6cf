"""Kernel memory, read by a BPF program of our own: an address that is bad is told.

The program is run by BPF_PROG_TEST_RUN, so nothing is attached, and assembled here, so
no compiler is needed. Requests and answers lie in maps that are mapped into this
process: one system call a batch.
"""

from __future__ import annotations

import errno
import mmap
import os
import struct
from typing import TYPE_CHECKING, Final, Self

from observer import bpf
from observer.program import Map

if TYPE_CHECKING:
    from collections.abc import Sequence

PIECE: Final = 4096  # bytes of the longest request
_REQUESTS: Final = 256  # in one run
_ROOM: Final = 1 << 16  # of the answers, but for the last one's end
_REQUEST: Final = struct.Struct("<QII")  # address, length, place; then the error there
_ADDRESSES: Final = 1 << 64
_ARRAY, _MMAPABLE = 2, 1 << 10


class KernelMemory:
    """A reader of kernel memory; close it, or use it as a context manager."""

    def __init__(self) -> None:
        """Load the program. Raises BpfError where the kernel refuses it."""
        self.runs = 0  # so far
        bpf.lift_memory_limit()
        requests_bytes = _REQUESTS * _REQUEST.size
        requests = bpf.create_map(_map("requests", requests_bytes))
        try:
            answers = bpf.create_map(_map("answers", _ROOM + PIECE))
            try:
                code = _instructions(requests, answers)
                self._requests = mmap.mmap(requests, requests_bytes)
                self._answers = mmap.mmap(answers, _ROOM + PIECE)
                self._program = bpf.load(
                    "read_memory", code, method="raw_tracepoint", leave=False
                )
            finally:
                os.close(answers)
        finally:
            os.close(requests)

    def read(self, requests: Sequence[tuple[int, int]]) -> list[bytes | None]:
        """Read all of these (address, length); None for what can't be read whole.

        A length is 1 to PIECE; an address any number. Raises BpfError.
        """
        answers: list[bytes | None] = []
        batch: list[tuple[int, int, int]] = []
        place = 0
        for address, length in requests:
            if not 0 < length <= PIECE:
                raise ValueError(f"{length} bytes can't be read at once")
            if len(batch) == _REQUESTS or place > _ROOM:
                answers += self._run(batch)
                batch, place = [], 0
            # What no address can be is asked as 0, which is none either.
            known = address if 0 <= address < _ADDRESSES else 0
            batch.append((known, length, place))
            place += length
        return answers + self._run(batch)

    def _run(self, batch: Sequence[tuple[int, int, int]]) -> list[bytes | None]:
        if not batch:
            return []
        asked = b"".join(_REQUEST.pack(*request) for request in batch)
        whole = _REQUESTS * _REQUEST.size
        self._requests[:] = asked.ljust(whole, b"\0")
        self.runs += 1
        done = bpf.run(self._program)
        if done != len(batch):
            sentence = f"reading kernel memory: {done} of {len(batch)} requests done"
            raise bpf.BpfError(errno.EIO, sentence)
        errors = _REQUEST.iter_unpack(self._requests[: len(asked)])
        return [
            None if error else self._answers[place : place + length]
            for (_, length, place), (_, _, error) in zip(batch, errors, strict=True)
        ]

    def close(self) -> None:
        """Free the program and its maps."""
        if self._program >= 0:
            os.close(self._program)
            self._program = -1
            self._requests.close()
            self._answers.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _map(name: str, size: int) -> Map:
    return Map(name, _ARRAY, 4, size, 1, _MMAPABLE)


def _instructions(requests: int, answers: int) -> bytes:
    """Assemble the program for maps with these descriptors.

    It works off requests up to the first empty one, and returns how many.
    """
    code = (  # 2 in 0x26 is BPF_PSEUDO_MAP_VALUE
        (0x18, 0x26, 0, requests),  # r6 = the first request
        (0, 0, 0, 0),
        (0x18, 0x27, 0, answers),  # r7 = the answers
        (0, 0, 0, 0),
        (0xB7, 0x08, 0, 0),  # r8 = 0
        # next:
        (0x61, 0x69, 8, 0),  # r9 = request.length
        (0x15, 0x09, 11, 0),  # if r9 == 0 goto end
        (0x25, 0x09, 10, PIECE),  # if r9 > PIECE goto end
        (0x61, 0x61, 12, 0),  # r1 = request.place
        (0x25, 0x01, 8, _ROOM),  # if r1 > _ROOM goto end
        (0x0F, 0x71, 0, 0),  # r1 += r7
        (0xBF, 0x92, 0, 0),  # r2 = r9
        (0x79, 0x63, 0, 0),  # r3 = request.address
        (0x85, 0x00, 0, 113),  # call bpf_probe_read_kernel
        (0x63, 0x06, 12, 0),  # request.error = r0
        (0x07, 0x06, 0, _REQUEST.size),  # r6 += the size of a request
        (0x07, 0x08, 0, 1),  # r8 += 1
        (0xA5, 0x08, -13, _REQUESTS),  # if r8 < _REQUESTS goto next
        # end:
        (0xBF, 0x80, 0, 0),  # r0 = r8
        (0x95, 0x00, 0, 0),  # exit
    )
    return b"".join(struct.pack("<BBhi", *instruction) for instruction in code)

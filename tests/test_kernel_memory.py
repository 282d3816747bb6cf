"""observer/kernel_memory.py: where the kernel refuses; what it reads, guests test."""

from __future__ import annotations

import errno
from pathlib import Path

import pytest

from observer import bpf, kernel_memory
from observer.kernel_memory import PIECE, KernelMemory


class Kernel:
    """A kernel that runs no program: a test says what it would answer."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Take the place of the real one; maps are real."""
        self.memory: KernelMemory
        self.stop_after = 1 << 30
        self.batches: list[list[tuple[int, int, int]]] = []
        monkeypatch.setattr(bpf, "load", lambda *_, **__: descriptor())
        monkeypatch.setattr(bpf, "run", self.run)

    def run(self, _program: int) -> int:
        """Answer each request with its address's last byte; 0 is no address."""
        requests = self.memory._requests  # noqa: SLF001 - what the program sees
        answers = self.memory._answers  # noqa: SLF001
        entry = kernel_memory._REQUEST  # noqa: SLF001
        batch = []
        for at in range(0, len(requests), entry.size):
            address, length, place = entry.unpack_from(requests, at)
            if not length or len(batch) == self.stop_after:
                break
            batch.append((address, length, place))
            answers[place : place + length] = bytes([address & 0xFF]) * length
            error = 0 if address else 0xFFFFFFF2
            entry.pack_into(requests, at, address, length, error)
        self.batches.append(batch)
        return len(batch)


def descriptor() -> int:
    """Open something that can be closed."""
    return bpf.create_map(kernel_memory._map("any", 8))  # noqa: SLF001


@pytest.fixture
def kernel(monkeypatch: pytest.MonkeyPatch) -> Kernel:
    """Return a kernel whose memory can be read."""
    kernel = Kernel(monkeypatch)
    kernel.memory = KernelMemory()
    return kernel


def test_answers_come_in_the_order_of_the_requests(kernel: Kernel) -> None:
    """However long each of them is."""
    answers = kernel.memory.read([(0xFF01, 3), (0xFF02, 1), (0xFF03, 2)])
    assert [b"\1\1\1", b"\2", b"\3\3"] == answers
    assert 1 == kernel.memory.runs


@pytest.mark.parametrize("address", [0, -1, 1 << 64, -(1 << 70)])
def test_a_fault_is_none_and_never_zeros(kernel: Kernel, address: int) -> None:
    """So is an address that no address can be; others are read all the same."""
    assert [b"\1", None, b"\2"] == kernel.memory.read([(1, 1), (address, 8), (2, 1)])


def test_many_requests_take_few_runs(kernel: Kernel) -> None:
    """And no answer lies on another."""
    requests = [(at, 1 + at % PIECE) for at in range(1, 3000)]
    expected = [bytes([at & 0xFF]) * length for at, length in requests]
    assert expected == kernel.memory.read(requests)
    assert len(kernel.batches) == kernel.memory.runs < 100
    for batch in kernel.batches:
        ends = [place + length for _, length, place in batch]
        assert [0, *ends[:-1]] == [place for _, _, place in batch]


def test_an_earlier_batch_leaves_nothing_behind(kernel: Kernel) -> None:
    """A short batch after a long one asks for no more than it says."""
    kernel.memory.read([(1, 8)] * 200)
    kernel.memory.read([(2, 8)])
    assert [(2, 8, 0)] == kernel.batches[-1]


def test_nothing_asked_nothing_run(kernel: Kernel) -> None:
    """No request is no reason for a system call."""
    assert [] == kernel.memory.read([])
    assert 0 == kernel.memory.runs


@pytest.mark.parametrize("length", [-1, 0, PIECE + 1])
def test_a_length_that_cannot_be_read_at_once(kernel: Kernel, length: int) -> None:
    """It is the caller's mistake, and told before anything is run."""
    with pytest.raises(ValueError, match=f"^{length} bytes"):
        kernel.memory.read([(1, length)])
    assert 0 == kernel.memory.runs


def test_a_run_that_stops_early_is_an_error(kernel: Kernel) -> None:
    """What it left in the map is taken for no answer."""
    kernel.stop_after = 1
    with pytest.raises(bpf.BpfError, match="1 of 2 requests done"):
        kernel.memory.read([(1, 8), (2, 8)])


def test_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """The kernel's refusal is told; no descriptor and no mapping remains."""

    def refuse(*_: object, **__: object) -> int:
        raise bpf.BpfError(errno.EPERM, "loading: no")

    monkeypatch.setattr(bpf, "load", refuse)
    before = sorted(Path("/proc/self/fd").iterdir())
    with pytest.raises(bpf.BpfError, match="loading: no"):
        KernelMemory()
    assert before == sorted(Path("/proc/self/fd").iterdir())


def test_closed_twice(monkeypatch: pytest.MonkeyPatch) -> None:
    """A with statement closes it; nothing stays open."""
    Kernel(monkeypatch)
    before = sorted(Path("/proc/self/fd").iterdir())
    with KernelMemory() as memory:
        assert before != sorted(Path("/proc/self/fd").iterdir())
    memory.close()
    assert before == sorted(Path("/proc/self/fd").iterdir())

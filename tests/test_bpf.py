"""observer/bpf.py: the system calls, as far as a machine allows that can't trace."""

from __future__ import annotations

import errno
import os
import struct
from pathlib import Path

import pytest

from observer import bpf
from observer.program import Map

HASH, ARRAY, RINGBUF = 1, 2, 27  # enum bpf_map_type
RETURN_0 = struct.pack("<BBhiBBhi", 0xB7, 0, 0, 0, 0x95, 0, 0, 0)
RETURN_7 = struct.pack("<BBhiBBhi", 0xB7, 0, 0, 7, 0x95, 0, 0, 0)
RETURN_NOTHING = struct.pack("<BBhi", 0x95, 0, 0, 0)  # exit, and r0 was never set


@pytest.fixture(autouse=True)
def _root() -> None:
    """Fail, not skip: without root nothing here is tested."""
    assert os.geteuid() == 0, "These tests need root: run them as make test does."


def descriptors() -> set[str]:
    """Return what is open now."""
    return {
        f"{fd.name}: {fd.readlink()}"
        for fd in Path("/proc/self/fd").iterdir()
        if fd.is_symlink()
    }


def fdinfo(descriptor: int) -> dict[str, str]:
    """Return what the kernel says of a descriptor, and close it."""
    text = Path(f"/proc/self/fdinfo/{descriptor}").read_text("ascii")
    os.close(descriptor)
    return dict(line.split(":\t") for line in text.splitlines())


@pytest.mark.parametrize(
    "wanted",
    [
        Map("a_hash", HASH, 8, 24, 100, 0),
        Map("counters", ARRAY, 4, 8, 16, 1 << 10),
        Map("events", RINGBUF, 0, 0, 4096, 0),
    ],
)
def test_create_map(wanted: Map) -> None:
    """A map is created as described."""
    info = fdinfo(bpf.create_map(wanted))
    keys = ("map_type", "key_size", "value_size", "max_entries", "map_flags")
    assert list(wanted[1:]) == [int(info[key], 0) for key in keys]


def test_no_child_gets_a_map() -> None:
    """A descriptor is closed when another program is started."""
    descriptor = bpf.create_map(Map("counters", ARRAY, 4, 8, 16, 0))
    inheritable = os.get_inheritable(descriptor)
    os.close(descriptor)
    assert not inheritable


def test_refused_map() -> None:
    """The error names the map and the kernel's reason."""
    with pytest.raises(bpf.BpfError) as caught:
        bpf.create_map(Map("odd", ARRAY, 3, 8, 1, 0))
    expected = (errno.EINVAL, "creating the BPF map odd: Invalid argument")
    assert expected == (caught.value.errno, caught.value.strerror)


def test_load() -> None:
    """A program for kprobes is loaded as one."""
    program = bpf.load("nothing", RETURN_0, method="kprobe", leave=False)
    assert "2" == fdinfo(program)["prog_type"]


def test_run() -> None:
    """A program that is only run answers by what it returns."""
    program = bpf.load("seven", RETURN_7, method="raw_tracepoint", leave=False)
    assert 7 == bpf.run(program)
    assert "17" == fdinfo(program)["prog_type"]


def test_refused_run() -> None:
    """Of what is no program, nothing runs."""
    descriptor = bpf.create_map(Map("counters", ARRAY, 4, 8, 16, 0))
    try:
        with pytest.raises(bpf.BpfError, match="running a BPF program: "):
            bpf.run(descriptor)
    finally:
        os.close(descriptor)


def test_refused_program() -> None:
    """The error names the program and tells what the verifier said."""
    with pytest.raises(bpf.BpfError) as caught:
        bpf.load("bad", RETURN_NOTHING, method="kprobe", leave=False)
    sentence = str(caught.value.strerror)
    assert sentence.startswith("loading the BPF program bad: ")
    assert "R0 !read_ok" in sentence


def test_program_of_the_wrong_type() -> None:
    """What was loaded for a kprobe can't be attached by fentry."""
    program = bpf.load("nothing", RETURN_0, method="kprobe", leave=False)
    try:
        with pytest.raises(bpf.BpfError, match="attaching by fentry: "):
            bpf.attach(program, "pci_match_device", method="fentry", leave=False)
    finally:
        os.close(program)


def test_kprobe_on_nothing() -> None:
    """A function that does not exist, or no kprobes at all: an error, no crash."""
    program = bpf.load("nothing", RETURN_0, method="kprobe", leave=False)
    try:
        with pytest.raises(
            bpf.BpfError, match="attaching a kprobe to no_such_function: "
        ):
            bpf.attach(program, "no_such_function", method="kprobe", leave=False)
    finally:
        os.close(program)


@pytest.mark.parametrize("leave", [False, True])
def test_kprobe_at_no_function(leave: bool) -> None:  # noqa: FBT001
    """An address where no kernel code lies, or no kprobes at all: the hook is named."""
    program = bpf.load("nothing", RETURN_0, method="kprobe", leave=leave)
    try:
        with pytest.raises(bpf.BpfError, match="attaching a kprobe to new_id_store: "):
            bpf.attach(
                program, "new_id_store", method="kprobe", leave=leave, address=0x1000
            )
    finally:
        os.close(program)


@pytest.mark.parametrize("method", ["fentry", "kprobe"])
def test_refused_attempt_leaves_nothing(method: str) -> None:
    """After an attempt that can't succeed all descriptors are closed."""
    before = descriptors()
    with pytest.raises(bpf.BpfError):
        bpf.try_attach("no_such_function", method=method)
    assert before == descriptors()

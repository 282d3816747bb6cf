"""observer/compiler.py: the programs compile for every layout, and why if they don't.

The BPF text, bcc's and the kernel's verifier are the real ones: the root that the
tests run as may load programs, even where nothing may be attached.
"""

from __future__ import annotations

import os
import sys
from functools import cache
from types import ModuleType
from typing import TYPE_CHECKING

import pytest
from shapes import layouts

from observer import bpf, hooks
from observer.compiler import (
    BPF_DIR,
    CompileError,
    compile_program,
    source,
    unavailable,
)
from observer.hooks import METHODS
from observer.program import Map, Program, put_in_maps

if TYPE_CHECKING:
    from pathlib import Path

SHAPES = layouts()
RINGBUF, ARRAY = 27, 2  # enum bpf_map_type


@cache
def compiled(shape: str, method: str, table_chunks: int = 2) -> Program:
    """Compile for a layout, once for all tests; for short id_tables, as a rule."""
    return compile_program(
        hooks.constants(SHAPES[shape]), hooks.defines(method, table_chunks=table_chunks)
    )


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("shape", SHAPES)
def test_every_hook_has_its_programs(shape: str, method: str) -> None:
    """What the plan names was compiled, for each layout and method."""
    program = compiled(shape, method)
    planned = {
        name
        for hook in hooks.plan(SHAPES[shape])
        for name in (hook.enter, hook.leave)
        if name is not None
    }
    assert set() == planned - set(program.codes)


@pytest.mark.parametrize("shape", SHAPES)
def test_verifier_accepts(shape: str) -> None:
    """Each program for kprobes loads with full id_tables, its maps created anew."""
    program = compiled(shape, "kprobe", hooks.TABLE_CHUNKS).with_ring(1 << 16)
    maps = {m.name: bpf.create_map(m) for m in program.maps}
    try:
        for name, code in program.codes.items():
            os.close(
                bpf.load(name, put_in_maps(code, maps), method="kprobe", leave=False)
            )
    finally:
        for descriptor in maps.values():
            os.close(descriptor)


def test_ring() -> None:
    """The ring is as long as asked for, and has neither key nor value."""
    program = compiled("A", "kprobe").with_ring(1 << 16)
    rings = [m for m in program.maps if m.name == "events"]
    assert [Map("events", RINGBUF, 0, 0, 1 << 16, 0)] == rings


def test_counters() -> None:
    """The counters are an array that can be mapped."""
    mmapable = 1 << 10
    found = [m for m in compiled("A", "kprobe").maps if m.name == "counters"]
    assert [Map("counters", ARRAY, 4, 8, 32, mmapable)] == found


def test_compiling_is_reproducible() -> None:
    """The same constants give the same program, whatever descriptors bcc got."""
    spare = [os.open(os.devnull, os.O_RDONLY) for _ in range(3)]
    again = compiled.__wrapped__("A", "kprobe")
    for descriptor in spare:
        os.close(descriptor)
    assert compiled("A", "kprobe") == again


def test_source() -> None:
    """All files are in the text, each under its name for the compiler's messages."""
    lines = source().splitlines()
    assert [f'#line 1 "{name}"' for name in hooks.SOURCES] == [
        line for line in lines if line.startswith("#line")
    ]


def test_broken_text(tmp_path: Path) -> None:
    """What bcc refuses is one error that says so."""
    for name in ("record.h", *hooks.SOURCES):
        (tmp_path / name).write_text("this is no C\n")
    (tmp_path / "stub").symlink_to(BPF_DIR / "stub")
    with pytest.raises(CompileError, match="bcc could not compile the programs: "):
        compile_program({}, {}, tmp_path)


def test_available() -> None:
    """The tests run where bcc is installed, so nothing is said to be missing."""
    assert "" == unavailable()


def test_what_is_left_of_bcc_is_no_bcc(monkeypatch: pytest.MonkeyPatch) -> None:
    """A directory without files can be imported, and is said to be missing."""
    monkeypatch.setitem(sys.modules, "bcc", ModuleType("bcc"))
    assert "bcc can't be imported" in unavailable()

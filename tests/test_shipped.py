"""observer/shipped.py: what came along is what this kernel's compiler would make.

bcc and the files are the real ones: a stale file fails here, and so in CI.
"""

from __future__ import annotations

import os
import subprocess
import sys
from functools import cache
from typing import TYPE_CHECKING

import pytest
from shapes import all_layouts

from observer import hooks, shipped
from observer.compiler import compile_program
from observer.shipped import BPF_DIR, ShippedError

if TYPE_CHECKING:
    from pathlib import Path

    from observer.program import Program

KERNELS = all_layouts()
MACHINE = os.uname().machine
RELEASE = "6.1.0-56-amd64"


@cache
def compiled(release: str, method: str) -> Program:
    """Compile for a kernel, here and now."""
    return compile_program(
        hooks.constants(KERNELS[release]),
        hooks.defines(method),
    )


def read(directory: Path = BPF_DIR) -> Program:
    """Return the shipped programs for one kernel."""
    values = hooks.constants(KERNELS[RELEASE])
    return shipped.read("kprobe", MACHINE, values, directory)


@pytest.mark.parametrize("method", hooks.METHODS)
@pytest.mark.parametrize("release", KERNELS)
def test_same_as_compiled(release: str, method: str) -> None:
    """Byte for byte, for each kernel of which the types are here."""
    values = hooks.constants(KERNELS[release])
    program = shipped.read(method, MACHINE, values)
    assert compiled(release, method).codes == program.codes
    by_name = {each.name: each for each in compiled(release, method).maps}
    assert by_name == {each.name: each for each in program.maps}


def test_not_stale(tmp_path: Path) -> None:
    """The sources give the files that are here: else run `make bpf`."""
    generate = BPF_DIR / "generate.py"
    subprocess.run([sys.executable, generate, tmp_path], check=True)
    for method in hooks.METHODS:
        name = shipped.name(method, MACHINE)
        assert (tmp_path / name).read_text() == (BPF_DIR / name).read_text()


def test_kernels_differ() -> None:
    """The test above compares something: another kernel's programs are others."""
    other = compiled("5.10.0-46-amd64", "kprobe")
    assert other.codes != read().codes


def test_ring() -> None:
    """The ring gets its size when the programs are loaded; nothing else changes."""
    sized = read().with_ring(1 << 16)
    assert [1 << 16] == [m.max_entries for m in sized.maps if m.name == "events"]
    assert sized.codes == read().codes


def refused(directory: Path, text: str | None) -> str:
    """Return what is said of a file with this text, or of none."""
    path = directory / shipped.name("kprobe", MACHINE)
    if text is not None:
        path.write_text(text)
    with pytest.raises(ShippedError) as caught:
        read(directory)
    return str(caught.value).replace(str(path), "FILE")


def test_no_file(tmp_path: Path) -> None:
    """Another machine has none."""
    assert "FILE: No such file or directory" == refused(tmp_path, None)


HEAD = '{"format": "pci-observer-programs", "version": 1, "maps": [], "codes": '


@pytest.mark.parametrize(
    "text",
    [
        *("", "{", "[]", "{}", "null", "[" * 100_000),
        HEAD + '[["match", "0", [], []]]}',
        HEAD + '[["match", "00", [], []]]}',
        HEAD + '[["match", "", [], [[18446744073709551616, "DRV_NAME"]]]]}',
        HEAD + '[["match", "", [], [["a", "DRV_NAME"]]]]}',
        HEAD + '[["match", "", [], [[8, "DRV_NAME"]]]]}',
        HEAD + '[["match", 1, [], []]]}',
    ],
)
def test_no_programs(tmp_path: Path, text: str) -> None:
    """What is no such file is said to be none."""
    assert "FILE holds no programs" == refused(tmp_path, text)


def test_other_version(tmp_path: Path) -> None:
    """What a later version wrote is not guessed at."""
    text = (BPF_DIR / shipped.name("kprobe", MACHINE)).read_text()
    later = text.replace('"version": 1', '"version": 2')
    assert "FILE is of another version" == refused(tmp_path, later)


def test_kernel_that_lacks_something() -> None:
    """A kernel without one of the values is for the compiler."""
    values = hooks.constants(KERNELS[RELEASE])
    del values["DEV_OVERRIDE"]
    with pytest.raises(ShippedError, match="no value for DEV_OVERRIDE"):
        shipped.read("kprobe", MACHINE, values)

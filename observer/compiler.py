"""Compile the BPF programs with bcc, against our own stub headers.

The only importer of bcc, and only when it compiles: nobody else may hold LLVM.
"""

from __future__ import annotations

import ctypes as ct
import os
import sys
from typing import TYPE_CHECKING, Any, cast

from observer.hooks import SOURCES
from observer.program import RINGBUF, Map, Program, take_out_maps
from observer.shipped import BPF_DIR

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path
    from types import ModuleType


class CompileError(Exception):
    """The programs could not be compiled; the sentence says why and what to do."""


def source(bpf_dir: Path = BPF_DIR) -> str:
    """Return the program text. bcc rewrites only what is in the main text."""
    parts = ['#include <linux/types.h>\n#include "record.h"\n']
    for name in SOURCES:
        parts.append(f'#line 1 "{name}"\n')
        try:
            parts.append((bpf_dir / name).read_text())
        except OSError as e:
            raise CompileError(
                f"the BPF source {bpf_dir / name} can't be read ({e.strerror}); "
                "install pci-observer with its bpf directory"
            ) from e
    return "".join(parts)


def _bcc() -> ModuleType:
    if "site" not in sys.modules:  # the loader starts without
        import site  # noqa: PLC0415

        site.main()
    try:
        import bcc  # noqa: PLC0415 - see the module's first lines

        # What is left of a removed package is a directory, which can be imported.
        from bcc import BPF  # noqa: F401, PLC0415
    except (ImportError, OSError) as e:  # OSError: its library does not load
        raise CompileError(
            f"the Python package bcc can't be imported ({e}); "
            "install Debian's package python3-bpfcc"
        ) from e
    return cast("ModuleType", bcc)


def unavailable() -> str:
    """Say why nothing can be compiled here, or nothing."""
    try:
        _bcc()
    except CompileError as e:
        return str(e)
    return ""


def compile_program(
    constants: Mapping[str, int],
    defines: Mapping[str, int | None],
    bpf_dir: Path = BPF_DIR,
) -> Program:
    """Compile all programs with a kernel's constants and the other -D constants.

    Raises CompileError when bcc is absent or refuses the text.
    """
    os.environ["BCC_KERNEL_SOURCE"] = str(bpf_dir / "stub")
    bcc = _bcc()
    flags = [f"-I{bpf_dir}", "-Wall", "-Wno-unused-function", "-Werror"]
    flags += [f"-D{name}=KERNEL({value:#x}u)" for name, value in constants.items()]
    flags += [f"-D{k}" if v is None else f"-D{k}={v:#x}u" for k, v in defines.items()]
    try:
        module = bcc.BPF(text=source(bpf_dir).encode(), cflags=flags)
    except Exception as e:
        raise CompileError(f"bcc could not compile the programs: {e}") from e
    return _extract(module, bcc.lib)


def _extract(module: Any, lib: Any) -> Program:  # noqa: ANN401 - bcc has no types
    pointer, size = ct.c_void_p, ct.c_size_t
    for name, result in {
        "bpf_num_tables": size,
        "bpf_table_name": ct.c_char_p,
        "bpf_table_fd_id": ct.c_int,
        "bpf_table_type_id": ct.c_int,
        "bpf_table_key_size_id": size,
        "bpf_table_leaf_size_id": size,
        "bpf_table_max_entries_id": size,
        "bpf_table_flags_id": ct.c_int,
    }.items():
        function = getattr(lib, name)
        function.restype = result
        function.argtypes = [pointer] if name == "bpf_num_tables" else [pointer, size]
    maps, names = [], {}
    for i in range(lib.bpf_num_tables(module.module)):
        table = _table(module.module, lib, i)
        maps.append(table)
        names[lib.bpf_table_fd_id(module.module, i)] = table.name
    functions = (
        lib.bpf_function_name(module.module, i)
        for i in range(lib.bpf_num_functions(module.module))
    )
    codes = {
        name.decode(): take_out_maps(module.dump_func(name), names)
        for name in functions
    }
    return Program(tuple(maps), codes)


def _table(module: ct.c_void_p, lib: Any, i: int) -> Map:  # noqa: ANN401
    kind = lib.bpf_table_type_id(module, i)
    ring = kind == RINGBUF  # bcc gives it a key and a value that the kernel refuses
    return Map(
        name=lib.bpf_table_name(module, i).decode(),
        type=kind,
        key_size=0 if ring else lib.bpf_table_key_size_id(module, i),
        value_size=0 if ring else lib.bpf_table_leaf_size_id(module, i),
        max_entries=lib.bpf_table_max_entries_id(module, i),
        flags=lib.bpf_table_flags_id(module, i),
    )

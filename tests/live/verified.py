"""How many instructions the verifier looks at for each program, as it tells itself."""

from __future__ import annotations

import ctypes as ct
import os
import re
import struct
from typing import TYPE_CHECKING, Final

from observer import bpf, hooks, kernel, shipped
from observer.layout import layout_of
from observer.program import put_in_maps

if TYPE_CHECKING:
    from observer.btf import Btf
    from observer.layout import Layout

_LOG_BYTES: Final = 1 << 16
_LOG_STATS: Final = 4  # BPF_LOG_STATS
_LOG_LEVEL_AT: Final = 24  # in union bpf_attr of BPF_PROG_LOAD
_PROCESSED: Final = re.compile(rb"processed (\d+) insns")


def verified() -> dict[str, dict[str, int]]:
    """Load every shipped program once; return the numbers by method and program."""
    bpf.lift_memory_limit()
    btf = kernel.read_btf()
    layout = layout_of(btf)
    return {method: _of(method, layout, btf) for method in hooks.METHODS}


def _of(method: str, layout: Layout, btf: Btf) -> dict[str, int]:
    values = hooks.constants(layout)
    program = shipped.read(method, os.uname().machine, values).with_ring(1 << 16)
    maps = {each.name: bpf.create_map(each) for each in program.maps}
    found = {}
    try:
        planned = hooks.plan(layout)
        fallbacks = (hook.fallback for hook in planned if hook.fallback is not None)
        for hook in (*planned, *fallbacks):
            how = hooks.method_of(hook.function, method)
            function_id = btf.function(hook.function) if how == "fentry" else 0
            for name, leave in ((hook.enter, False), (hook.leave, True)):
                if name is not None:
                    code = put_in_maps(program.codes[name], maps)
                    found[name] = _processed(
                        *(name, code, how, function_id or 0), leave=leave
                    )
    finally:
        for descriptor in maps.values():
            os.close(descriptor)
    return found


def _processed(
    name: str, code: bytes, method: str, function_id: int, *, leave: bool
) -> int:
    log = ct.create_string_buffer(_LOG_BYTES)
    kinds = bpf.kind_of(method, leave=leave)
    command, attr = bpf.prog_attr(name, code, *kinds, function_id, log)
    buffer = bytearray(attr)
    struct.pack_into("<I", buffer, _LOG_LEVEL_AT, _LOG_STATS)
    os.close(bpf.call(command, bytes(buffer), f"loading {name}"))
    told = _PROCESSED.search(log.value)
    if told is None:
        raise LookupError(log.value)
    return int(told[1])

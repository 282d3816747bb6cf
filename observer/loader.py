"""The privileged process: compile, load, attach, hand the descriptors over, leave.

observer/loading.py starts it with one end of a socket pair. Only descriptors keep the
hooks alive, so whatever kills it leaves nothing behind.
"""

from __future__ import annotations

import argparse
import array
import errno
import json
import os
import socket
import sys
from contextlib import suppress
from typing import TYPE_CHECKING, Any, TypeVar

from observer import abi, bpf, compiler, hooks, kernel, shipped
from observer.hooking import Attached, LoaderError, Stores, attach, refusal
from observer.hooks import METHODS
from observer.layout import Layout, LayoutError, layout_of

if TYPE_CHECKING:
    from collections.abc import Callable

    from observer.program import Program


_Attempted = TypeVar("_Attempted")

SHIPPED, COMPILED = "shipped", "compiled"  # where the programs come from


def preferred(*, preempts: Callable[[], bool] = kernel.preempts) -> tuple[str, ...]:
    """Return the attach methods, the best one for this kernel first.

    fentry costs less, but where the kernel preempts it misses calls; kprobes do not.
    """
    return METHODS[::-1] if preempts() else METHODS


def first_that_works(
    wanted: str,
    attempt: Callable[[str], _Attempted],
    *,
    preempts: Callable[[], bool] = kernel.preempts,
) -> tuple[str, _Attempted]:
    """Return the wanted attach method, or the best that works, and what it gave.

    Raises LoaderError when the kernel refuses.
    """
    refused: list[OSError] = []
    methods = preferred(preempts=preempts) if wanted == "auto" else (wanted,)
    for method in methods:
        try:
            return method, attempt(method)
        except OSError as e:
            refused.append(e)
    # Of several reasons the one that an operator can cure.
    curable = [e for e in refused if e.errno in {errno.EPERM, errno.EACCES}]
    raise LoaderError(refusal((curable or refused)[0]))


def load(
    options: argparse.Namespace, on_hooked: Callable[[], None]
) -> tuple[dict[str, Any], list[int]]:
    """Do all of it; return the message for the daemon and its descriptors.

    `on_hooked` hears when decisions are seen and the rest is still to be done.
    """
    bpf.lift_memory_limit()
    btf = kernel.read_btf()
    layout = layout_of(btf)
    symbols: dict[str, int] = {}

    def stores() -> Stores:
        on_hooked()
        from observer import stocktaking  # noqa: PLC0415 - what decides comes first

        symbols.update(stocktaking.symbols())
        return stocktaking.find_stores(btf, symbols)

    def attempt(method: str) -> tuple[Attached, str]:
        program, origin = programs(layout, method, options)
        return attach(program, layout, btf, method, stores), origin

    method, (attached, origin) = first_that_works(options.attach, attempt)
    from observer import stocktaking  # noqa: PLC0415

    message = {
        "layout": layout.as_dict(),
        "method": method,
        "programs": origin,
        "hooks": attached.hooks,
        "ring_bytes": options.ring_bytes,
    }
    maps = attached.maps
    files = stocktaking.files(btf, symbols, layout, attached)
    # Now that no decision can be in the kernel's record of the boot as well.
    dummy = symbols.get(stocktaking.DUMMY, 0)
    bpf.put(maps["settings"], abi.SETTINGS.pack(options.digests, dummy))
    held = (maps["events"], maps["counters"], maps["repeats"])
    return message, [*held, *files, *attached.links]


def programs(
    layout: Layout, method: str, options: argparse.Namespace
) -> tuple[Program, str]:
    """Return the programs for this kernel, and whether they were shipped or compiled.

    Raises CompileError when none were shipped for it and bcc is of no help.
    """
    values = hooks.constants(layout)
    problem = ""
    as_shipped = options.table_chunks == hooks.TABLE_CHUNKS and not options.define
    if as_shipped and not options.compile:
        try:
            program = shipped.read(method, os.uname().machine, values)
            return program.with_ring(options.ring_bytes), SHIPPED
        except shipped.ShippedError as e:
            problem = f"{e}; "
    chunks, extra = options.table_chunks, options.define
    defines = hooks.defines(method, table_chunks=chunks, extra=extra)
    try:
        program = compiler.compile_program(values, defines)
    except compiler.CompileError as e:
        raise compiler.CompileError(f"{problem}{e}") from e
    return program.with_ring(options.ring_bytes), COMPILED


def main(arguments: list[str] | None = None) -> None:
    """Load, send the outcome over the socket, and leave without any clean-up."""
    parser = argparse.ArgumentParser(prog="observer.loader")
    parser.add_argument("--fd", type=int, required=True)
    parser.add_argument("--attach", choices=("auto", *METHODS), default="auto")
    parser.add_argument("--ring-bytes", type=int)
    parser.add_argument("--table-chunks", type=int, default=hooks.TABLE_CHUNKS)
    parser.add_argument("--no-digests", dest="digests", action="store_false")
    parser.add_argument("--compile", action="store_true")
    parser.add_argument("--define", action="append", default=[], help="for tests")
    options = parser.parse_args(arguments)
    if options.ring_bytes is None:
        sizes = (hooks.RING_BYTES_OF_ALL, hooks.RING_BYTES)
        options.ring_bytes = sizes[options.digests]
    channel = socket.socket(fileno=options.fd)
    descriptors: list[int] = []

    def hooked() -> None:
        channel.send(b'{"hooked": true}')

    try:
        message, descriptors = load(options, hooked)
    except (LoaderError, LayoutError, kernel.KernelError, compiler.CompileError) as e:
        message = {"error": str(e)}
    except ConnectionError:  # the daemon has ended meanwhile: nobody to tell
        os._exit(1)
    rights = array.array("i", descriptors)
    with suppress(ConnectionError):
        channel.sendmsg(
            [json.dumps(message).encode()],
            [(socket.SOL_SOCKET, socket.SCM_RIGHTS, rights)] if descriptors else [],
        )
    sys.stderr.flush()
    os._exit(0)  # no destructor of bcc's may detach or close anything

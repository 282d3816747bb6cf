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
from typing import TYPE_CHECKING, Any

from observer import abi, bpf, compiler, hooks, kernel, shipped
from observer.hooking import CurableError, LoaderError, Stores, attach
from observer.hooks import METHODS
from observer.layout import LayoutError, layout_of

if TYPE_CHECKING:
    from collections.abc import Callable

    from observer.btf import Btf
    from observer.layout import Layout
    from observer.program import Program


SHIPPED, COMPILED = "shipped", "compiled"  # where the programs come from


def preferred(*, preempts: Callable[[], bool] = kernel.preempts) -> tuple[str, ...]:
    """Return the attach methods, the best one for this kernel first.

    fentry costs less, but where the kernel preempts it misses calls; kprobes do not.
    """
    return METHODS[::-1] if preempts() else METHODS


def methods(
    wanted: str, *, preempts: Callable[[], bool] = kernel.preempts
) -> tuple[str, ...]:
    """Return the attach methods to be tried: one that was named is not replaced."""
    return preferred(preempts=preempts) if wanted == "auto" else (wanted,)


class Supply:
    """The programs for a kernel, fetched for each method once."""

    def __init__(self, layout: Layout, options: argparse.Namespace) -> None:
        """Fetch nothing yet."""
        self._layout = layout
        self._options = options
        self._fetched: dict[str, tuple[Program, str]] = {}

    def __call__(self, method: str) -> Program:
        """Return those for a method. Raises CurableError."""
        if method not in self._fetched:
            try:
                fetched = programs(self._layout, method, self._options)
            except compiler.CompileError as e:
                raise CurableError(errno.ENOENT, str(e)) from e
            self._fetched[method] = fetched
        return self._fetched[method][0]

    def origin(self, method: str) -> str:
        """Return where they came from: shipped or compiled."""
        return self._fetched[method][1]


def load(
    options: argparse.Namespace,
    btf: Btf,
    layout: Layout,
    on_hooked: Callable[[], None],
) -> tuple[dict[str, Any], list[int]]:
    """Do all of it; return the message for the daemon and its descriptors.

    `on_hooked` hears when decisions are seen and the rest is still to be done. Raises
    LoaderError.
    """
    bpf.lift_memory_limit()
    symbols: dict[str, int] = {}

    def stores() -> Stores:
        on_hooked()
        from observer import stocktaking  # noqa: PLC0415 - what decides comes first

        symbols.update(stocktaking.symbols())
        return stocktaking.find_stores(btf, symbols)

    supply = Supply(layout, options)
    attached = attach(supply, layout, btf, methods(options.attach), stores)
    from observer import stocktaking  # noqa: PLC0415

    method = next(iter(attached.methods.values()))  # of what tells of decisions
    message = {
        "layout": layout.as_dict(),
        "method": method,
        "programs": supply.origin(method),
        "hooks": attached.hooks,
        "methods": attached.methods,
        "detours": attached.detours,
        "ring_bytes": options.ring_bytes,
    }
    maps = attached.maps
    files = stocktaking.files(btf, symbols, layout, attached)
    # Now that no decision can be in the kernel's record of the boot as well.
    dummy = symbols.get(stocktaking.DUMMY, 0)
    bpf.put(maps["settings"], abi.SETTINGS.pack(options.digests, dummy))
    held = (maps["events"], maps["counters"], maps["repeats"])
    return message, [*held, *files, *attached.links]


def look(
    options: argparse.Namespace, on_hooked: Callable[[], None]
) -> tuple[dict[str, Any], list[int]]:
    """Attach; where that can't be, tell why and what is known all the same.

    That is the layout, unless it is unknown, and the drivers.
    """
    btf = layout = None
    try:
        btf = kernel.read_btf()
        layout = layout_of(btf)
        return load(options, btf, layout, on_hooked)
    except (LoaderError, LayoutError, kernel.KernelError) as e:
        problem = str(e)
    from observer import stocktaking  # noqa: PLC0415

    message = {"error": problem, "layout": layout.as_dict() if layout else None}
    return message, [stocktaking.drivers(btf if layout else None)]


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

    def hooked() -> None:
        channel.send(b'{"hooked": true}')

    try:
        message, descriptors = look(options, hooked)
    except ConnectionError:  # the daemon has ended meanwhile: nobody to tell
        os._exit(1)
    rights = array.array("i", descriptors)
    with suppress(ConnectionError):
        channel.sendmsg(
            [json.dumps(message).encode()],
            [(socket.SOL_SOCKET, socket.SCM_RIGHTS, rights)],
        )
    sys.stderr.flush()
    os._exit(0)  # no destructor of bcc's may detach or close anything

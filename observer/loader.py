"""The privileged process: compile, load, attach, hand the descriptors over, leave.

It runs as ``python -m observer.loader`` with one end of a socket pair. Only
descriptors keep the hooks alive, so whatever kills it leaves nothing behind.
"""

from __future__ import annotations

import argparse
import array
import errno
import json
import os
import socket
import struct
import sys
import time
from contextlib import suppress
from typing import TYPE_CHECKING, Any, NamedTuple

from observer import (
    abi,
    boot_import,
    bpf,
    bus,
    compiler,
    hooks,
    inventory,
    kernel,
    shipped,
    tracefs,
)
from observer.boot_coverage import Coverage, objects
from observer.boot_decisions import Until
from observer.boot_import import Imported
from observer.btf import BtfError
from observer.hooks import METHODS
from observer.kernel_memory import KernelMemory
from observer.layout import Layout, LayoutError, layout_of
from observer.program import Program, put_in_maps
from observer.registered import NOT_TAKEN, Inventory, as_object
from observer.text import printable

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from observer.btf import Btf
    from observer.record import StoreFile


SHIPPED, COMPILED = "shipped", "compiled"  # where the programs come from


class Stores(NamedTuple):
    """Where the functions that sysfs calls on a write are in the kernel."""

    addresses: Mapping[StoreFile, int]
    problem: str = "its address in the kernel could not be found"  # of the others


class LoaderError(Exception):
    """The observer can't be attached; the sentence says why and what to do."""


class Attached(NamedTuple):
    """What is attached now, and the descriptors that keep it so."""

    maps: dict[str, int]
    links: list[int]
    hooks: dict[str, str]  # function -> "" when attached, else why not
    # CLOCK_MONOTONIC before and after the entry was attached, by function
    times: dict[str, tuple[int, int]]


def refusal(
    error: OSError,
    *,
    lockdown: Callable[[], str] = kernel.lockdown,
    euid: Callable[[], int] = os.geteuid,
) -> str:
    """Turn a kernel's refusal to trace into a sentence for an operator."""
    if lockdown() == "confidentiality":
        return (
            "the kernel is locked down (confidentiality), which forbids programs "
            "to read kernel memory; boot without lockdown=confidentiality"
        )
    if error.errno in {errno.EPERM, errno.EACCES}:
        if euid() != 0:
            return (
                f"no permission to trace the kernel ({error.strerror}); run as root, "
                "or with CAP_BPF and CAP_PERFMON, for kprobes CAP_SYS_ADMIN"
            )
        return (
            f"this kernel refuses tracing even to root ({error.strerror}); a "
            "container, seccomp, a missing capability or its configuration forbids it"
        )
    return f"this kernel can't be hooked ({error.strerror})"


def preferred(*, preempts: Callable[[], bool] = kernel.preempts) -> tuple[str, ...]:
    """Return the attach methods, the best one for this kernel first.

    fentry costs less, but where the kernel preempts it misses calls; kprobes do not.
    """
    return METHODS[::-1] if preempts() else METHODS


def choose_method(
    btf: Btf,
    wanted: str,
    *,
    attempt: Callable[..., None] = bpf.try_attach,
    preempts: Callable[[], bool] = kernel.preempts,
) -> str:
    """Return the attach method to use: the wanted one, or the best that works.

    Raises LoaderError when the kernel refuses.
    """
    function = hooks.PCI_MATCH_DEVICE
    refused: list[OSError] = []
    methods = preferred(preempts=preempts) if wanted == "auto" else (wanted,)
    for method in methods:
        try:
            attempt(function, method=method, function_id=btf.function(function) or 0)
        except OSError as e:
            refused.append(e)
        else:
            return method
    # Of several reasons the one that an operator can cure.
    curable = [e for e in refused if e.errno in {errno.EPERM, errno.EACCES}]
    raise LoaderError(refusal((curable or refused)[0]))


def find_stores(btf: Btf, symbols: Mapping[str, int]) -> Stores:
    """Find the store functions in kernel memory, by what PCI's attributes point to."""
    if not symbols:
        return Stores({}, "the kernel hides the addresses of its symbols")
    try:
        with KernelMemory() as memory:
            return Stores(bus.store_functions(btf, memory.read, symbols))
    except OSError as e:
        return Stores({}, f"kernel memory can't be read: {e.strerror}")
    except BtfError as e:
        return Stores({}, str(e))


def attach(
    program: Program,
    layout: Layout,
    btf: Btf,
    method: str,
    stores: Stores,
) -> Attached:
    """Create the maps, load and attach every hook, returns before entries.

    Only pci_match_device is indispensable: for it LoaderError is raised, any other
    hook that fails is noted.
    """
    try:
        maps = {m.name: bpf.create_map(m) for m in program.maps}
    except OSError as e:
        raise LoaderError(refusal(e)) from e
    attached = Attached(maps, [], {}, {})
    for hook in hooks.plan(layout):
        try:
            links, times = _attach_hook(hook, program, maps, btf, method, stores)
        except OSError as e:
            if hook.function == hooks.PCI_MATCH_DEVICE:
                raise LoaderError(refusal(e)) from e
            attached.hooks[hook.function] = str(e.strerror)
        else:
            attached.links.extend(links)
            attached.hooks[hook.function] = ""
            attached.times[hook.function] = times
    return attached


def _attach_hook(
    hook: hooks.Hook,
    program: Program,
    maps: dict[str, int],
    btf: Btf,
    method: str,
    stores: Stores,
) -> tuple[list[int], tuple[int, int]]:
    links: list[int] = []
    times = (0, 0)
    function_id = btf.function(hook.function) or 0
    method = hooks.method_of(hook.function, method)
    address = 0
    if hook.file is not None:
        address = stores.addresses.get(hook.file, 0)
        if not address:
            raise bpf.BpfError(errno.ENOENT, stores.problem)
    try:
        # The return first: an entry without its return would look like a loss.
        for name, leave in ((hook.leave, True), (hook.enter, False)):
            if name is None:
                continue
            code = put_in_maps(program.codes[name], maps)
            fd = bpf.load(
                name, code, method=method, leave=leave, function_id=function_id
            )
            before_ns = time.monotonic_ns()
            link = bpf.attach(
                fd, hook.function, method=method, leave=leave, address=address
            )
            times = (before_ns, time.monotonic_ns())
            links.append(link)
            os.close(fd)  # the link holds the program
    except OSError:
        for link in links:
            os.close(link)
        raise
    return links, times


def load(options: argparse.Namespace) -> tuple[dict[str, Any], list[int]]:
    """Do all of it; return the message for the daemon and its descriptors."""
    bpf.lift_memory_limit()
    btf = kernel.read_btf()
    layout = layout_of(btf)
    method = choose_method(btf, options.attach)
    symbols = kernel.symbol_addresses(("pci_device_id_any", *bus.SYMBOLS))
    program, origin = programs(layout, method, options)
    attached = attach(program, layout, btf, method, find_stores(btf, symbols))
    message = {
        "layout": layout.as_dict(),
        "method": method,
        "programs": origin,
        "hooks": attached.hooks,
        "ring_bytes": options.ring_bytes,
    }
    maps = attached.maps
    # After the hooks, so that no driver, no dynid and no decision falls between.
    drivers = _inventory(btf, symbols)
    dummy = symbols.get("pci_device_id_any", 0)
    boot = _boot(layout, drivers, attached, dummy)
    # Now that no decision can be in the kernel's record as well.
    bpf.put(maps["settings"], abi.SETTINGS.pack(options.digests, dummy))
    files = (
        _in_memory("inventory", [as_object(drivers)]),
        _in_memory("boot", objects(*boot)),
    )
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


def _inventory(btf: Btf, symbols: dict[str, int]) -> Inventory:
    try:
        return inventory.take(btf, symbols)
    except Exception as e:  # noqa: BLE001 - whatever it is, the hooks matter more
        why = printable(f"{type(e).__name__}: {e}")
        return Inventory((), order_known=False, gaps=(f"{NOT_TAKEN.gaps[0]} {why}.",))


def _boot(
    layout: Layout, drivers: Inventory, attached: Attached, pci_device_id_any: int
) -> Imported:
    """Take what the kernel recorded before; that it can't be read ends nothing."""
    try:
        numbers: Mapping[str, int] = {}
        if tracefs.is_armed():
            numbers = number_drivers(attached.maps["registrations"], drivers)
        match_ns = attached.times[hooks.PCI_MATCH_DEVICE]
        probe_ns = attached.times.get(layout.probe_function)
        return boot_import.take(
            layout,
            drivers,
            numbers,
            Until(*match_ns, *(probe_ns or ())[1:]),
            pci_device_id_any=pci_device_id_any,
        )
    except Exception as e:  # noqa: BLE001 - whatever it is, the hooks matter more
        return Imported(Coverage(problem=printable(f"{type(e).__name__}: {e}")), [])


def number_drivers(
    registrations: int, drivers: Inventory, *, insert: Callable[..., bytes] = bpf.insert
) -> dict[str, int]:
    """Give the drivers the numbers that the hooks have, or will have: by name.

    The hooks' own numbers are times, so these are none of theirs.
    """
    numbers = {}
    named = zip(drivers.drivers, drivers.places, strict=False)
    for number, (known, place) in enumerate(named, 1):
        fresh = (number, place.id_table, place.private, 0, 0, abi.END_MORE)
        key, value = struct.pack("=Q", place.at), abi.REGISTRATION.pack(*fresh)
        with suppress(OSError):  # its decisions can't be judged then
            there = abi.REGISTRATION.unpack(insert(registrations, key, value))
            if there[1:3] == fresh[1:3]:  # else the hooks saw another one
                numbers[known.driver.name] = there[0]
    return numbers


def _in_memory(name: str, values: Iterable[object]) -> int:
    """Write values to a file in memory, for a message has not the room."""
    descriptor = os.memfd_create(name)
    with open(descriptor, "w", encoding="ascii", closefd=False) as file:
        file.writelines(json.dumps(value) + "\n" for value in values)
    return descriptor


def main(arguments: list[str] | None = None) -> None:
    """Load, send the outcome over the socket, and leave without any clean-up."""
    parser = argparse.ArgumentParser(prog="python -m observer.loader")
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
    try:
        message, descriptors = load(options)
    except (LoaderError, LayoutError, kernel.KernelError, compiler.CompileError) as e:
        message = {"error": str(e)}
    rights = array.array("i", descriptors)
    channel.sendmsg(
        [json.dumps(message).encode()],
        [(socket.SOL_SOCKET, socket.SCM_RIGHTS, rights)] if descriptors else [],
    )
    sys.stderr.flush()
    os._exit(0)  # no destructor of bcc's may detach or close anything


if __name__ == "__main__":
    main()

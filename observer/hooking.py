"""Load the programs and attach them, one hook after the other."""

from __future__ import annotations

import errno
import os
import time
from typing import TYPE_CHECKING, NamedTuple

from observer import bpf, hooks, kernel
from observer.program import put_in_maps

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from observer.btf import Btf
    from observer.layout import Layout
    from observer.program import Program
    from observer.record import StoreFile


class Stores(NamedTuple):
    """Where the functions that sysfs calls on a write are in the kernel."""

    addresses: Mapping[StoreFile, int]
    problem: str = "its address in the kernel could not be found"  # of the others

    def address(self, file: StoreFile) -> int:
        """Return where a function is. Raises BpfError where that is not known."""
        address = self.addresses.get(file, 0)
        if not address:
            raise bpf.BpfError(errno.ENOENT, self.problem)
        return address


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


def attach(
    program: Program,
    layout: Layout,
    btf: Btf,
    method: str,
    find_stores: Callable[[], Stores],
) -> Attached:
    """Create the maps, load and attach every hook, returns before entries.

    Only pci_match_device is indispensable: for it OSError is raised, any other hook
    that fails is noted. `find_stores` is asked when the other hooks are attached,
    for it takes longer than that.
    """
    attached = Attached({}, [], {}, {})
    maps = attached.maps
    try:
        maps.update((m.name, bpf.create_map(m)) for m in program.maps)
        _attach_all(attached, program, layout, btf, method, find_stores)
    except OSError:
        for descriptor in maps.values():
            os.close(descriptor)
        raise
    return attached


def _attach_all(
    attached: Attached,
    program: Program,
    layout: Layout,
    btf: Btf,
    method: str,
    find_stores: Callable[[], Stores],
) -> None:
    stores: Stores | None = None
    for hook in hooks.plan(layout):
        address = 0
        try:
            if hook.file is not None:
                stores = stores or find_stores()
                address = stores.address(hook.file)
            links, times = _attach_hook(
                hook, program, attached.maps, btf, method, address
            )
        except OSError as e:
            if hook.function == hooks.PCI_MATCH_DEVICE:
                raise
            attached.hooks[hook.function] = str(e.strerror)
        else:
            attached.links.extend(links)
            attached.hooks[hook.function] = ""
            attached.times[hook.function] = times


def _attach_hook(
    hook: hooks.Hook,
    program: Program,
    maps: dict[str, int],
    btf: Btf,
    method: str,
    address: int,
) -> tuple[list[int], tuple[int, int]]:
    links: list[int] = []
    times = (0, 0)
    function_id = btf.function(hook.function) or 0
    method = hooks.method_of(hook.function, method)
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

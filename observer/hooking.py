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


class CurableError(OSError):
    """A method can't be used here; strerror says why, and what to do about it."""


class Attached(NamedTuple):
    """What is attached now, and the descriptors that keep it so."""

    maps: dict[str, int]
    links: list[int]
    hooks: dict[str, str]  # function -> "" when attached, else why not
    methods: dict[str, str]  # how, by function; of those that are attached
    detours: dict[str, str]  # function -> why it is not attached by a better method
    # CLOCK_MONOTONIC before and after the entry was attached, by function
    times: dict[str, tuple[int, int]]

    @classmethod
    def nothing(cls) -> Attached:
        """Begin."""
        return cls({}, [], {}, {}, {}, {})


def refusal(
    error: OSError,
    *,
    lockdown: Callable[[], str] = kernel.lockdown,
    euid: Callable[[], int] = os.geteuid,
) -> str:
    """Turn a kernel's refusal to trace into a sentence for an operator."""
    if isinstance(error, CurableError):
        return str(error.strerror)
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


def check_method(
    method: str, *, kprobes_enabled: Callable[[], bool] = kernel.kprobes_enabled
) -> None:
    """Raise CurableError where what is attached by a method would never run."""
    if method == "kprobe" and not kprobes_enabled():
        raise CurableError(
            errno.ENODEV,
            "kprobes are switched off; write 1 to /sys/kernel/debug/kprobes/enabled",
        )


def function_id(btf: Btf, function: str) -> int:
    """Return a function's id in BTF. Raises BpfError where it is not there.

    A symbol of its name may be there all the same, and miss the calls that are inlined.
    """
    number = btf.function(function)
    if number is None:
        raise bpf.BpfError(
            errno.ENOENT, f"{function} is no function of its own here, but inlined"
        )
    return number


class _Target(NamedTuple):
    """What hooks are attached to, and with what."""

    btf: Btf
    programs: Callable[[str], Program]  # for a method
    methods: tuple[str, ...]  # the better ones first


def attach(
    programs: Callable[[str], Program],
    layout: Layout,
    btf: Btf,
    methods: tuple[str, ...],
    find_stores: Callable[[], Stores],
) -> Attached:
    """Create the maps, load and attach every hook, returns before entries.

    Each hook is attached by the first of the methods that works for it, or else its
    fallback is. Only pci_match_device, or pci_bus_match, is indispensable: LoaderError
    is raised without it, any other hook that fails is noted. `find_stores` is asked
    when the other hooks are attached, for it takes longer than that. `programs` may
    raise CurableError.
    """
    attached = Attached.nothing()
    try:
        _attach_all(attached, layout, _Target(btf, programs, methods), find_stores)
    except LoaderError:
        for descriptor in attached.maps.values():
            os.close(descriptor)
        raise
    return attached


def _attach_all(
    attached: Attached,
    layout: Layout,
    target: _Target,
    find_stores: Callable[[], Stores],
) -> None:
    stores: Stores | None = None
    for hook in hooks.plan(layout):
        address = 0
        try:
            if hook.file is not None:
                stores = stores or find_stores()
                address = stores.address(hook.file)
        except OSError as e:
            attached.hooks[hook.function] = str(e.strerror)
            continue
        refused = _attach_by_any(hook, attached, target, address)
        if hook.function in attached.methods:
            continue
        error = _most_telling(refused)
        attached.hooks[hook.function] = str(error.strerror)
        if hook.fallback is not None:
            _attach_by_any(hook.fallback, attached, target, 0)
        if not attached.methods:
            raise LoaderError(refusal(error))


def _most_telling(refused: list[OSError]) -> OSError:
    """Choose, of several reasons, the one that an operator can cure."""
    for e in refused:
        if isinstance(e, CurableError) or e.errno in {errno.EPERM, errno.EACCES}:
            return e
    return refused[0]


def _attach_by_any(
    hook: hooks.Hook, attached: Attached, target: _Target, address: int
) -> list[OSError]:
    """Attach a hook by the first method that works; return why others do not.

    That of pci_match_device comes first: where it is livepatched or busy, say, all are
    hooked alike.
    """
    refused: list[OSError] = []
    first = next(iter(attached.methods.values()), "")
    methods = sorted(target.methods, key=lambda method: method != first)
    # The programs of stores are the same for all methods.
    for method in methods[:1] if hook.file else methods:
        way = hooks.method_of(hook.function, method)
        try:
            program = target.programs(method)
            links, times = _attach_hook(
                hook, program, attached.maps, target.btf, way, address
            )
        except OSError as e:
            refused.append(e)
            continue
        attached.links.extend(links)
        attached.hooks[hook.function] = ""
        attached.methods[hook.function] = way
        attached.times[hook.function] = times
        if refused:
            attached.detours[hook.function] = str(refused[0].strerror)
        break
    return refused


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
    # What is hooked at an address needs none.
    number = 0 if hook.file else function_id(btf, hook.function)
    check_method(method)
    for each in program.maps:  # which the programs of all methods share
        if each.name not in maps:
            maps[each.name] = bpf.create_map(each)
    try:
        # The return first: an entry without its return would look like a loss.
        for name, leave in ((hook.leave, True), (hook.enter, False)):
            if name is None:
                continue
            code = put_in_maps(program.codes[name], maps)
            fd = bpf.load(name, code, method=method, leave=leave, function_id=number)
            before_ns = time.monotonic_ns()
            try:
                link = bpf.attach(
                    fd, hook.function, method=method, leave=leave, address=address
                )
            finally:
                os.close(fd)  # the link holds the program
            times = (before_ns, time.monotonic_ns())
            links.append(link)
    except OSError:
        for link in links:
            os.close(link)
        raise
    return links, times

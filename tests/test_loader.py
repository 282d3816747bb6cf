"""observer/loader.py: its sentences and its choice; what it attaches, guests test."""

from __future__ import annotations

import errno
import os
import socket
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from shapes import layouts
from test_layout import renamed

from observer import hooks
from observer.abi import REGISTRATION
from observer.bpf import BpfError
from observer.btf import Btf
from observer.bus import Place
from observer.hooking import (
    Attached,
    CurableError,
    LoaderError,
    Stores,
    attach,
    check_method,
    refusal,
)
from observer.kernel import kprobes_enabled
from observer.layout import layout_of
from observer.loader import methods
from observer.loading import LOADER
from observer.machine import Origin, PciDriver
from observer.program import Code, Map, Program
from observer.record import Driver, StoreFile
from observer.registered import Inventory
from observer.stocktaking import find_stores, number_drivers

if TYPE_CHECKING:
    from observer.layout import Layout

BTF = Btf((Path(__file__).parent / "btf" / "6.1.0-56-amd64.btf").read_bytes())
LOCKED = (
    "the kernel is locked down (confidentiality), which forbids programs to read "
    "kernel memory; boot without lockdown=confidentiality"
)
UNKNOWN = "its address in the kernel could not be found"
RETURN_NOTHING = bytes([0x95, 0, 0, 0, 0, 0, 0, 0])  # refused: r0 was never set


def said(number: int, lockdown: str = "none", euid: int = 0) -> str:
    """Return the sentence about this error."""
    error = BpfError(number, f"attaching: {os.strerror(number)}")
    return refusal(error, lockdown=lambda: lockdown, euid=lambda: euid)


@pytest.mark.parametrize("number", [errno.EPERM, errno.EACCES])
def test_refused_to_a_user(number: int) -> None:
    """A user is told which privileges are missing."""
    assert (
        f"no permission to trace the kernel (attaching: {os.strerror(number)}); "
        "run as root, or with CAP_BPF and CAP_PERFMON, for kprobes CAP_SYS_ADMIN"
    ) == said(number, euid=1000)


@pytest.mark.parametrize("number", [errno.EPERM, errno.EACCES])
def test_refused_to_root(number: int) -> None:
    """Root is told where to look instead."""
    assert (
        "this kernel refuses tracing even to root "
        f"(attaching: {os.strerror(number)}); "
        "a container, seccomp, a missing capability or its configuration forbids it"
    ) == said(number)


def test_not_possible() -> None:
    """Other errors are the kernel's own words."""
    assert "this kernel can't be hooked (attaching: No such device)" == said(
        errno.ENODEV
    )


@pytest.mark.parametrize("number", [errno.EPERM, errno.EINVAL])
def test_lockdown(number: int) -> None:
    """Lockdown shows as more than one error, and is the cause of all."""
    assert LOCKED == said(number, "confidentiality")


def test_integrity() -> None:
    """The lesser lockdown does not forbid it, so it is not blamed."""
    assert said(errno.EPERM) == said(errno.EPERM, "integrity")


COUNTERS = Map("counters", 2, 4, 8, 16, 1 << 10)


@pytest.mark.parametrize(
    ("wanted", "preempts", "tried"),
    [
        ("auto", False, ("fentry", "kprobe")),
        # Where the kernel preempts itself fentry would miss calls.
        ("auto", True, ("kprobe", "fentry")),
        # A method that was named is not replaced by another one.
        ("kprobe", False, ("kprobe",)),
        ("fentry", True, ("fentry",)),
    ],
)
def test_methods(wanted: str, preempts: bool, tried: tuple[str, ...]) -> None:  # noqa: FBT001
    """The wanted method is tried, or all, the best one first."""
    assert tried == methods(wanted, preempts=lambda: preempts)


def test_indispensable_hook() -> None:
    """Nothing is observed when the programs of pci_match_device are refused."""
    layout = layouts()["E"]
    program = Program(
        (COUNTERS,), {name: Code(RETURN_NOTHING, ()) for name in program_names(layout)}
    )
    before = set(Path("/proc/self/fd").iterdir())
    with pytest.raises(LoaderError, match="leave_pci_match_device"):
        attach(lambda _method: program, layout, BTF, ("kprobe",), lambda: Stores({}))
    assert before == set(Path("/proc/self/fd").iterdir())


def program_names(layout: Layout) -> set[str]:
    """Return the names of all programs that may be attached."""
    planned = hooks.plan(layout)
    every = (*planned, *(hook.fallback for hook in planned if hook.fallback))
    return {name for hook in every for name in (hook.enter, hook.leave) if name}


class Attaching:
    """A kernel to which everything can be attached, but for some.

    Those that are refused are addresses, and functions with a method and the errno.
    """

    def __init__(
        self, *refused: int, by: dict[tuple[str, str], int] | None = None
    ) -> None:
        self.refused = refused
        self.by = by or {}
        self.attached: list[tuple[str, str, bool, int]] = []
        self.loaded: list[tuple[str, str]] = []

    def load(self, name: str, _code: bytes, *, method: str, **_: object) -> int:
        """Take a program."""
        self.loaded.append((name, method))
        return os.open(os.devnull, os.O_RDONLY)

    def attach(
        self, _program: int, function: str, *, method: str, leave: bool, address: int
    ) -> int:
        """Attach a program, or refuse."""
        if address in self.refused:
            raise BpfError(errno.EINVAL, "no function there")
        # The first of two programs may be attached already.
        if (function, method) in self.by and not leave:
            raise BpfError(self.by[function, method], f"{method} is refused")
        self.attached.append((function, method, leave, address))
        return os.open(os.devnull, os.O_RDONLY)


def attached_to(
    monkeypatch: pytest.MonkeyPatch,
    kernel: Attaching,
    stores: dict[StoreFile, int],
    problem: str = UNKNOWN,
    methods: tuple[str, ...] = ("fentry",),
) -> Attached:
    """Attach all hooks to such a kernel."""
    monkeypatch.setattr("observer.bpf.load", kernel.load)
    monkeypatch.setattr("observer.bpf.attach", kernel.attach)
    layout = layouts()["E"]
    names = program_names(layout)
    program = Program((), {name: Code(RETURN_NOTHING, ()) for name in names})
    attached = attach(
        lambda _method: program, layout, BTF, methods, lambda: Stores(stores, problem)
    )
    for link in attached.links:
        os.close(link)
    return attached


BUSY = {("__driver_probe_device", "fentry"): errno.EBUSY}
ALL_STORES = {file: 0x1000 + at for at, file in enumerate(StoreFile)}


def test_one_hook_by_the_next_method(monkeypatch: pytest.MonkeyPatch) -> None:
    """What one method can't hook the other one does, that hook alone."""
    before = len([*Path("/proc/self/fd").iterdir()])
    attached = attached_to(
        monkeypatch, Attaching(by=BUSY), ALL_STORES, methods=("fentry", "kprobe")
    )
    assert {
        "pci_match_device": "fentry",
        "pci_unregister_driver": "fentry",
        "__driver_probe_device": "kprobe",
        "driver_probe_device": "fentry",
        **dict.fromkeys(hooks.STORES.values(), "kprobe"),
    } == attached.methods
    assert {"__driver_probe_device": "fentry is refused"} == attached.detours
    assert {""} == set(attached.hooks.values())
    # The program of its return was attached already.
    assert before == len([*Path("/proc/self/fd").iterdir()])


def test_the_others_follow_the_first_hook(monkeypatch: pytest.MonkeyPatch) -> None:
    """How pci_match_device could be hooked is tried first for the others."""
    kernel = Attaching(by={("pci_match_device", "fentry"): errno.EBUSY})
    attached = attached_to(
        monkeypatch, kernel, ALL_STORES, methods=("fentry", "kprobe")
    )
    assert {"kprobe"} == set(attached.methods.values())
    assert {"pci_match_device": "fentry is refused"} == attached.detours


def test_a_hook_that_no_method_attaches(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is missing, and why is what an operator can cure."""
    refused = BUSY | {("__driver_probe_device", "kprobe"): errno.EPERM}
    refused |= dict.fromkeys([("pci_device_probe", m) for m in hooks.METHODS], 1)
    attached = attached_to(
        monkeypatch, Attaching(by=refused), ALL_STORES, methods=("fentry", "kprobe")
    )
    assert {"__driver_probe_device", "pci_device_probe"}.isdisjoint(attached.methods)
    assert {"__driver_probe_device": "kprobe is refused"} == {
        hook: why for hook, why in attached.hooks.items() if why
    }


@pytest.mark.parametrize(
    ("function", "fallback"),
    [
        ("pci_match_device", "pci_bus_match"),
        ("__driver_probe_device", "pci_device_probe"),
    ],
)
def test_fallbacks(
    monkeypatch: pytest.MonkeyPatch, function: str, fallback: str
) -> None:
    """What no method can hook is missing, and its caller is hooked instead."""
    refused = {(function, method): errno.EBUSY for method in hooks.METHODS}
    refused |= {(fallback, "fentry"): errno.EBUSY}
    attached = attached_to(
        monkeypatch, Attaching(by=refused), ALL_STORES, methods=("fentry", "kprobe")
    )
    assert function not in attached.methods
    assert "kprobe" == attached.methods[fallback]
    assert ("fentry is refused", "") == (
        attached.hooks[function],
        attached.hooks[fallback],
    )
    assert fallback in attached.detours


def test_a_named_method_is_not_replaced(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nor are stores affected, which are hooked by kprobes always."""
    attached = attached_to(monkeypatch, Attaching(by=BUSY), ALL_STORES)
    assert "fentry is refused" == attached.hooks["__driver_probe_device"]
    assert "kprobe" == attached.methods["bind_store"]


def test_function_that_is_inlined(monkeypatch: pytest.MonkeyPatch) -> None:
    """Not even a kprobe is put on a symbol of its name: it would miss calls."""
    kernel = Attaching()
    monkeypatch.setattr("observer.bpf.load", kernel.load)
    monkeypatch.setattr("observer.bpf.attach", kernel.attach)
    types = (Path(__file__).parent / "btf" / "6.1.0-56-amd64.btf").read_bytes()
    btf = Btf(renamed(types, "pci_match_device", "pci_match_inlined"[:16]))
    layout = layout_of(btf)
    program = Program(
        (), {name: Code(RETURN_NOTHING, ()) for name in program_names(layout)}
    )
    attached = attach(
        lambda _method: program, layout, btf, hooks.METHODS, lambda: Stores({})
    )
    for link in attached.links:
        os.close(link)
    assert "pci_match_device" not in {function for function, *_ in kernel.attached}
    assert "fentry" == attached.methods["pci_bus_match"]
    assert (
        "pci_match_device is no function of its own here, but inlined"
        == (attached.hooks["pci_match_device"])
    )


@pytest.mark.parametrize(
    ("errnos", "told"),
    [
        (
            (errno.EBUSY, errno.EINVAL),
            "this kernel can't be hooked (fentry is refused)",
        ),
        ((errno.EBUSY, errno.EPERM), "(kprobe is refused)"),
    ],
)
def test_no_method_for_the_indispensable_hook(
    monkeypatch: pytest.MonkeyPatch, errnos: tuple[int, int], told: str
) -> None:
    """The sentence is about the best one, or the one that can be cured."""
    by = {
        ("pci_match_device", method): number
        for method, number in zip(hooks.METHODS, errnos, strict=True)
    }
    by |= {("pci_bus_match", method): errno.ENOENT for method in hooks.METHODS}
    with pytest.raises(LoaderError) as caught:
        attached_to(monkeypatch, Attaching(by=by), {}, methods=hooks.METHODS)
    assert told in str(caught.value)


def test_programs_of_one_method_are_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    """Then the other method's are taken; without any it is told what to install."""
    kernel = Attaching()
    monkeypatch.setattr("observer.bpf.load", kernel.load)
    monkeypatch.setattr("observer.bpf.attach", kernel.attach)
    layout = layouts()["E"]
    names = program_names(layout)

    def programs(method: str) -> Program:
        if method == "fentry":
            raise CurableError(errno.ENOENT, "none; install python3-bpfcc")
        return Program((), {name: Code(RETURN_NOTHING, ()) for name in names})

    attached = attach(programs, layout, BTF, hooks.METHODS, lambda: Stores({}))
    for link in attached.links:
        os.close(link)
    assert "kprobe" == attached.methods["pci_match_device"]
    with pytest.raises(LoaderError) as caught:
        attach(programs, layout, BTF, ("fentry",), lambda: Stores({}))
    assert "none; install python3-bpfcc" == str(caught.value)


def test_missing_programs_can_be_cured(monkeypatch: pytest.MonkeyPatch) -> None:
    """What to install is told rather than what the kernel refused."""
    kernel = Attaching(by={("pci_match_device", "fentry"): errno.EBUSY})
    monkeypatch.setattr("observer.bpf.load", kernel.load)
    monkeypatch.setattr("observer.bpf.attach", kernel.attach)
    layout = layouts()["E"]

    def programs(method: str) -> Program:
        if method == "kprobe":
            raise CurableError(errno.ENOENT, "none; install python3-bpfcc")
        names = {"enter_pci_match_device", "leave_pci_match_device"}
        names |= {"enter_pci_bus_match", "leave_pci_bus_match"}
        return Program((), {name: Code(RETURN_NOTHING, ()) for name in names})

    kernel.by["pci_bus_match", "fentry"] = errno.EBUSY
    with pytest.raises(LoaderError) as caught:
        attach(programs, layout, BTF, hooks.METHODS, lambda: Stores({}))
    assert "none; install python3-bpfcc" == str(caught.value)


def test_kprobes_that_would_not_run(tmp_path: Path) -> None:
    """Where they are switched off they are no method, though they can be attached."""
    switch = tmp_path / "enabled"
    switch.write_text("0\n")
    check_method("fentry", kprobes_enabled=lambda: False)
    check_method("kprobe", kprobes_enabled=lambda: True)
    with pytest.raises(CurableError, match="kprobes are switched off; write 1"):
        check_method("kprobe", kprobes_enabled=lambda: kprobes_enabled(path=switch))
    assert kprobes_enabled(path=tmp_path / "none")


def test_stores_by_address(monkeypatch: pytest.MonkeyPatch) -> None:
    """A store function is hooked at its address, by kprobes, the return first."""
    kernel = Attaching()
    attached = attached_to(monkeypatch, kernel, {StoreFile.BIND: 0xFFFFFFFF81000000})
    assert [
        ("bind_store", "kprobe", True, 0xFFFFFFFF81000000),
        ("bind_store", "kprobe", False, 0xFFFFFFFF81000000),
    ] == [each for each in kernel.attached if each[3]]
    assert ("enter_bind_store", "kprobe") in kernel.loaded
    assert "" == attached.hooks["bind_store"]


def test_store_without_address(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where it lies is not known: that hook is not attached, the others are."""
    attached = attached_to(monkeypatch, Attaching(), {StoreFile.BIND: 0x1000})
    problems = {hook: why for hook, why in attached.hooks.items() if why}
    unknown = set(hooks.STORES.values()) - {"bind_store"}
    assert dict.fromkeys(unknown, UNKNOWN) == problems


def test_store_that_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """A kprobe that the kernel refuses there costs that hook only."""
    stores = {file: 0x1000 + at for at, file in enumerate(StoreFile)}
    attached = attached_to(monkeypatch, Attaching(0x1000), stores)
    problems = {hook: why for hook, why in attached.hooks.items() if why}
    assert {"new_id_store": "no function there"} == problems


def test_stores_of_a_kernel_that_hides_its_symbols() -> None:
    """Where to look is not known, and nothing is looked at."""
    assert Stores({}, "the kernel hides the addresses of its symbols") == find_stores(
        BTF, {}
    )


def test_stores_of_a_kernel_that_hides_its_memory(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A refusal is no end: the sentence goes to each hook that it costs."""

    def refuse() -> None:
        raise BpfError(errno.EPERM, "loading the BPF program read_memory: no")

    monkeypatch.setattr("observer.stocktaking.KernelMemory", refuse)
    problem = "kernel memory can't be read: loading the BPF program read_memory: no"
    assert Stores({}, problem) == find_stores(BTF, {"pci_bus_type": 1})
    attached = attached_to(monkeypatch, Attaching(), {}, problem)
    assert problem == attached.hooks["drivers_probe_store"]


def test_drivers_get_the_hooks_numbers() -> None:
    """Numbers of ours, unless the hooks saw a driver first: then theirs."""
    names = ("new", "seen", "other")
    inventory = Inventory(
        tuple(
            PciDriver(Driver(0, name, None), Origin.KERNEL_MEMORY, (), None)
            for name in names
        ),
        order_known=True,
        places=tuple(Place(at, at + 1, at + 2) for at in (0x10, 0x20, 0x30)),
    )
    there = {
        0x20: REGISTRATION.pack(1 << 40, 0x22, 0x21, 7, 9, 1),
        0x30: REGISTRATION.pack(1 << 41, 0x99, 0x31, 7, 9, 1),
    }
    filled = {}

    def insert(_descriptor: int, key: bytes, value: bytes) -> bytes:
        at = int.from_bytes(key, "little")
        filled[at] = value
        return there.get(at, value)

    assert {"new": 1, "seen": 1 << 40} == number_drivers(5, inventory, insert=insert)
    assert REGISTRATION.pack(1, 0x12, 0x11, 0, 0, 0) == filled[0x10]


def test_drivers_that_get_no_number() -> None:
    """A map that takes nothing costs the numbers only."""

    def refuse(_descriptor: int, _key: bytes, _value: bytes) -> bytes:
        raise BpfError(errno.E2BIG, "filling a BPF map: no room")

    known = PciDriver(Driver(0, "new", None), Origin.KERNEL_MEMORY, (), None)
    inventory = Inventory((known,), order_known=True, places=(Place(1, 2, 3),))
    assert {} == number_drivers(5, inventory, insert=refuse)


def test_a_daemon_that_is_gone() -> None:
    """The loader has nobody to tell how it went, and says nothing of that either."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with theirs:
        ours.close()
        done = subprocess.run(
            [*LOADER, "--fd", str(theirs.fileno())],
            pass_fds=[theirs.fileno()],
            capture_output=True,
            text=True,
            check=False,
        )
    assert ("", "") == (done.stdout, done.stderr)

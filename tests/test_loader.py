"""observer/loader.py: its sentences and its choice; what it attaches, guests test."""

from __future__ import annotations

import errno
import os
import socket
import subprocess
from pathlib import Path

import pytest
from shapes import layouts

from observer import hooks
from observer.abi import REGISTRATION
from observer.bpf import BpfError
from observer.btf import Btf
from observer.bus import Place
from observer.hooking import Attached, LoaderError, Stores, attach, refusal
from observer.loader import first_that_works
from observer.loading import LOADER
from observer.machine import Origin, PciDriver
from observer.program import Code, Map, Program
from observer.record import Driver, StoreFile
from observer.registered import Inventory
from observer.stocktaking import find_stores, number_drivers

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


class Kernel:
    """A kernel that offers some methods, and notes what was tried."""

    def __init__(self, *methods: str) -> None:
        self.methods = methods
        self.tried: list[str] = []

    def __call__(self, method: str) -> int:
        """Attach, or refuse."""
        self.tried.append(method)
        if method not in self.methods:
            raise BpfError(errno.ENODEV, f"no {method} here")
        return len(self.tried)


@pytest.mark.parametrize(
    ("wanted", "offered", "chosen"),
    [
        ("auto", ("fentry", "kprobe"), "fentry"),
        ("auto", ("kprobe",), "kprobe"),
        ("kprobe", ("fentry", "kprobe"), "kprobe"),
        ("fentry", ("fentry",), "fentry"),
    ],
)
def test_choice(wanted: str, offered: tuple[str, ...], chosen: str) -> None:
    """The wanted method is taken, or the best that works."""
    kernel = Kernel(*offered)
    found = first_that_works(wanted, kernel, preempts=lambda: False)
    assert (chosen, len(kernel.tried)) == found
    assert chosen == kernel.tried[-1]


def test_curable() -> None:
    """Of several refusals the one is told that an operator can do something about."""

    def refuse(method: str) -> None:
        number = errno.EPERM if method == "kprobe" else errno.EINVAL
        raise BpfError(number, f"no {method}")

    with pytest.raises(LoaderError, match="no kprobe"):
        first_that_works("auto", refuse, preempts=lambda: False)


def test_no_second_best() -> None:
    """A method that was named is not replaced by another one."""
    with pytest.raises(LoaderError, match="no fentry here"):
        first_that_works("fentry", Kernel("kprobe"))


def test_no_method() -> None:
    """When all fail, the sentence is about the best one."""
    with pytest.raises(LoaderError, match="no fentry here"):
        first_that_works("auto", Kernel(), preempts=lambda: False)


def test_indispensable_hook() -> None:
    """Nothing is observed when the programs of pci_match_device are refused."""
    layout = layouts()["E"]
    planned = hooks.plan(layout)[0]
    codes = {
        name: Code(RETURN_NOTHING, ()) for name in (planned.enter, str(planned.leave))
    }
    before = set(Path("/proc/self/fd").iterdir())
    with pytest.raises(OSError, match="leave_pci_match_device"):
        attach(Program((COUNTERS,), codes), layout, BTF, "kprobe", lambda: Stores({}))
    assert before == set(Path("/proc/self/fd").iterdir())


@pytest.mark.parametrize(("preempts", "method"), [(False, "fentry"), (True, "kprobe")])
def test_preempting_kernel(preempts: bool, method: str) -> None:  # noqa: FBT001
    """Where the kernel preempts itself fentry would miss calls, so kprobe is first."""
    kernel = Kernel("fentry", "kprobe")
    chosen = first_that_works("auto", kernel, preempts=lambda: preempts)
    assert (method, 1) == chosen


class Attaching:
    """A kernel to which everything can be attached, but for some addresses."""

    def __init__(self, *refused: int) -> None:
        self.refused = refused
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
        self.attached.append((function, method, leave, address))
        return os.open(os.devnull, os.O_RDONLY)


def attached_to(
    monkeypatch: pytest.MonkeyPatch,
    kernel: Attaching,
    stores: dict[StoreFile, int],
    problem: str = UNKNOWN,
) -> Attached:
    """Attach all hooks by fentry to such a kernel."""
    monkeypatch.setattr("observer.bpf.load", kernel.load)
    monkeypatch.setattr("observer.bpf.attach", kernel.attach)
    layout = layouts()["E"]
    names = {n for h in hooks.plan(layout) for n in (h.enter, h.leave) if n}
    program = Program((), {name: Code(RETURN_NOTHING, ()) for name in names})
    attached = attach(program, layout, BTF, "fentry", lambda: Stores(stores, problem))
    for link in attached.links:
        os.close(link)
    return attached


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

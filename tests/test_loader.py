"""observer/loader.py: its sentences and its choice; what it attaches, guests test."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest
from shapes import layouts

from observer import hooks
from observer.bpf import BpfError
from observer.btf import Btf
from observer.loader import LoaderError, attach, choose_method, refusal
from observer.program import Code, Program

BTF = Btf((Path(__file__).parent / "btf" / "6.1.0-56-amd64.btf").read_bytes())
LOCKED = (
    "the kernel is locked down (confidentiality), which forbids programs to read "
    "kernel memory; boot without lockdown=confidentiality"
)
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


class Kernel:
    """A kernel that offers some methods, and notes what was tried."""

    def __init__(self, *methods: str) -> None:
        self.methods = methods
        self.tried: list[tuple[str, str, int]] = []

    def __call__(self, function: str, *, method: str, function_id: int) -> None:
        """Attach, or refuse."""
        self.tried.append((function, method, function_id))
        if method not in self.methods:
            raise BpfError(errno.ENODEV, f"no {method} here")


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
    assert chosen == choose_method(BTF, wanted, attempt=Kernel(*offered))


def test_attempt() -> None:
    """It is tried on the function that matters, by its id in the kernel's BTF."""
    kernel = Kernel("fentry")
    choose_method(BTF, "auto", attempt=kernel)
    function_id = BTF.function("pci_match_device")
    assert [("pci_match_device", "fentry", function_id)] == kernel.tried


def test_no_second_best() -> None:
    """A method that was named is not replaced by another one."""
    with pytest.raises(LoaderError, match="no fentry here"):
        choose_method(BTF, "fentry", attempt=Kernel("kprobe"))


def test_no_method() -> None:
    """When all fail, the sentence is about the best one."""
    with pytest.raises(LoaderError, match="no fentry here"):
        choose_method(BTF, "auto", attempt=Kernel())


def test_indispensable_hook() -> None:
    """Nothing is observed when the programs of pci_match_device are refused."""
    layout = layouts()["E"]
    planned = hooks.plan(layout)[0]
    codes = {
        name: Code(RETURN_NOTHING, ()) for name in (planned.enter, str(planned.leave))
    }
    with pytest.raises(LoaderError, match="leave_pci_match_device"):
        attach(Program((), codes), layout, BTF, "kprobe")


@pytest.mark.parametrize(("preempts", "method"), [(False, "fentry"), (True, "kprobe")])
def test_preempting_kernel(preempts: bool, method: str) -> None:  # noqa: FBT001
    """Where the kernel preempts itself fentry would miss calls, so kprobe is first."""
    chosen = choose_method(
        BTF, "auto", attempt=lambda *_, **__: None, preempts=lambda: preempts
    )
    assert method == chosen

"""Can this kernel be observed, how, and what to do if it can't."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING, NamedTuple

from observer import bpf, compiler, hooks, kernel, shipped, tracefs
from observer.hooking import check_method, function_id, refusal
from observer.layout import LayoutError, layout_of
from observer.loader import preferred
from observer.model import why_not_live

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from observer.btf import Btf
    from observer.layout import Layout


_NEEDED = ("machine", "types", "semantics", "programs")


class Check(NamedTuple):
    """One thing the observer needs, or could use."""

    name: str
    good: bool
    finding: str  # what is, or what is missing and what to do about it


class Diagnosis(NamedTuple):
    """All checks, and what they come to."""

    observable: bool
    method: str | None  # how it would attach
    checks: list[Check]
    layout: dict[str, object] | None


def examine(
    *,
    btf_file: str | Path = kernel.VMLINUX_BTF,
    attempt: Callable[..., None] = bpf.try_attach,
) -> Diagnosis:
    """Look at the running kernel and at this installation; nothing is left behind."""
    running = kernel.running()
    name = f"{running.release} {running.machine}"
    checks = [Check("kernel", good=True, finding=name), _machine(running.machine)]
    layout = method = None
    try:
        btf = kernel.read_btf(btf_file)
        layout = layout_of(btf)
    except (kernel.KernelError, LayoutError) as e:
        checks.append(Check("types", good=False, finding=str(e)))
    else:
        checks += [_types(layout), _semantics(layout)]
        method = _attachable(btf, layout, checks, attempt)
        checks += [_dummy(), _boot()]
    checks.append(_programs(layout, running.machine))
    return Diagnosis(
        observable=method is not None
        and all(check.good for check in checks if check.name in _NEEDED),
        method=method,
        checks=checks,
        layout=layout.as_dict() if layout else None,
    )


def _machine(machine: str) -> Check:
    if machine == "x86_64":
        return Check("machine", good=True, finding=machine)
    return Check(
        "machine",
        good=False,
        finding=f"{machine} is not supported yet; only x86_64 is",
    )


def _types(layout: Layout) -> Check:
    finding = (
        f"layout {layout.name}, {layout.match_args} arguments, "
        f"driver_override in {layout.override_field}"
    )
    return Check("types", good=True, finding=finding)


def _semantics(layout: Layout) -> Check:
    slug = layout.semantics
    problem = why_not_live(slug)
    if problem is None:
        return Check("semantics", good=True, finding=slug)
    return Check("semantics", good=False, finding=f"{slug}, {problem}")


def _attachable(
    btf: Btf, layout: Layout, checks: list[Check], attempt: Callable[..., None]
) -> str | None:
    """Try each way to attach; return the best by which decisions are seen."""
    methods = preferred()
    refused = {m: _refused(hooks.PCI_MATCH_DEVICE, m, btf, attempt) for m in methods}
    for method, problem in refused.items():
        finding = problem or f"can hook {hooks.PCI_MATCH_DEVICE}"
        checks.append(Check(method, good=not problem, finding=finding))
    # As the loader does: by the method of pci_match_device first.
    methods = tuple(sorted(methods, key=lambda method: refused[method] != ""))
    attached: dict[str, str] = {}
    told = [*_other_hooks(btf, layout, methods, attempt, attached), *_stores()]
    finding = "; ".join(told) or "the others can be hooked as well"
    checks.append(Check("hooks", good=not told, finding=finding))
    match, _ = hooks.told_by(layout, attached)
    return attached.get(match)


def _refused(function: str, method: str, btf: Btf, attempt: Callable[..., None]) -> str:
    """Say why a function can't be hooked by a method, or nothing."""
    try:
        check_method(method)
        attempt(function, method=method, function_id=function_id(btf, function))
    except OSError as e:
        return refusal(e)
    return ""


def _other_hooks(
    btf: Btf,
    layout: Layout,
    methods: tuple[str, ...],
    attempt: Callable[..., None],
    attached: dict[str, str],
) -> Iterator[str]:
    """Try all hooks, but for those at an address; say which are not as they should be.

    What works goes into `attached`, with its method.
    """

    def hook_by_any(function: str) -> str:
        """Return why it can't be hooked by the first method, or nothing."""
        problems = []
        for method in methods:
            problem = _refused(function, method, btf, attempt)
            if not problem:
                attached[function] = method
                break
            problems.append(f"{function} by {method}: {problem}")
        return "; ".join(problems)

    for hook in hooks.plan(layout):
        if hook.file is not None:
            continue
        problem = hook_by_any(hook.function)
        if problem:
            yield problem
        if hook.function not in attached:
            if hook.fallback is not None:
                hook_by_any(hook.fallback.function)
            yield hooks.instead(layout, hook.function, attached)


def _stores() -> Iterator[str]:
    """Say why the functions that sysfs calls on a write can't be hooked."""
    try:
        check_method("kprobe")
    except OSError as e:
        yield f"writes to PCI's files in sysfs are not seen: {refusal(e)}"


def _dummy() -> Check:
    if kernel.symbol_address("pci_device_id_any"):
        return Check("kallsyms", good=True, finding="pci_device_id_any is there")
    return Check(
        "kallsyms",
        good=False,
        finding="addresses are hidden: an override's dummy id is told by its content, "
        "and writes to PCI's files in sysfs are not seen",
    )


def _boot() -> Check:
    if tracefs.is_armed():
        found = "decisions are recorded since the boot; the next start takes them"
        return Check("boot", good=True, finding=found)
    if tracefs.is_asked_for():
        found = (
            "the recording of the boot is not there, or was taken by an earlier start"
        )
        return Check("boot", good=True, finding=found)
    return Check(
        "boot",
        good=False,
        finding="decisions before the start are not recorded: `pci-observer boot-args` "
        "prints what the kernel must be told for that",
    )


def _programs(layout: Layout | None, machine: str) -> Check:
    """Tell where the programs for this kernel come from."""
    if layout is not None:
        for method in hooks.METHODS:
            with suppress(shipped.ShippedError):
                shipped.read(method, machine, hooks.constants(layout))
                return Check("programs", good=True, finding="they came along")
    problem = compiler.unavailable()
    found = problem or "bcc compiles them, which takes a while"
    return Check("programs", good=not problem, finding=found)

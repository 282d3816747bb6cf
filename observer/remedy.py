"""The one shell command that would give a device its driver, or the one asked about.

The model is asked about what each command leads to: none is offered that would not
make the driver match under the machine's own semantics.
"""

from __future__ import annotations

import re
import shlex
from typing import TYPE_CHECKING

from observer.candidates import Matching, matches
from observer.case import (
    DENYLISTED,
    Case,
    hopeless,
    kept_by_pf,
    left_to_vfio,
    user_owns_pf,
)
from observer.model import expect
from observer.record import Driver, Inputs, ProbeResult

if TYPE_CHECKING:
    from collections.abc import Iterable

_BUS = "/sys/bus/pci"
_DRIVERS_PROBE = f"{_BUS}/drivers_probe"


def remedy(case: Case) -> str | None:
    """Return the command; None: nothing is to be done, or nothing is known to help."""
    if not case.waits or (case.asked and left_to_vfio(case, case.asked)):
        return None
    case = case._replace(matching=Matching(case.machine))  # of the kernel that runs
    steps = _any(case) if case.asked is None else _this(case, case.asked)
    return " && ".join(steps) or None


def _this(case: Case, name: str) -> list[str]:
    """Bind it to the driver `name`."""
    reason = hopeless(case, name)
    if reason is not None:
        return _past_denylist(case, name) if reason == DENYLISTED else []
    driver, override = case.machine.drivers.get(name), case.device.driver_override
    if driver is None:
        return _load_and_bind(case, name)
    if kept_by_pf(case):
        return _with_override(case, name)
    if case.matches(name, override):
        return [*_unbind(case), *_bind(case, name)]
    if case.matches(name, None) and not kept_by_pf(_cleared(case)):
        return [_clear(case), *_unbind(case), *_bind(case, name)]
    return _with_override(case, name)


def _any(case: Case) -> list[str]:
    """Give it a driver, the one that driver_override names first."""
    override = case.device.driver_override
    if override is None:
        return _native(case)
    natives = [
        name
        for name in _matching(case, None)
        if name != override and not left_to_vfio(case, name)
    ]
    if natives:
        return [_clear(case), *_native(_cleared(case))]
    if override not in case.machine.drivers:
        module = _loadable(case, override)
        return _load(case, module) if module is not None else []
    if hopeless(case, override) or _was_refused(case, [override]):
        return []
    return [_probe(case)] if case.matches(override, override) else []


def _native(case: Case) -> list[str]:
    names = _matching(case, None)
    if user_owns_pf(case):
        return []
    if not names:
        if case.possible:  # one may match; then it is no matter of loading
            return []
        loadable = [
            module
            for module in case.surroundings.would_load
            if module not in case.surroundings.builtin
        ]
        # One that somebody does not want loaded only if there is no other.
        loadable.sort(key=case.surroundings.blacklisted.__contains__)
        return _load(case, loadable[0]) if loadable else []
    if kept_by_pf(case):
        switch = f"{_device(case.device.physfn or '')}/sriov_drivers_autoprobe"
        return [f"echo 1 > {shlex.quote(switch)}", _probe(case)]
    return [] if _was_refused(case, names) else [_probe(case)]


def _cleared(case: Case) -> Case:
    return case._replace(device=case.device._replace(driver_override=None))


def _matching(case: Case, driver_override: str | None) -> list[str]:
    return [
        name for name in case.machine.drivers if case.matches(name, driver_override)
    ]


def _was_refused(case: Case, names: Iterable[str]) -> bool:
    """Tell whether each of them was asked and refused or deferred: asking is no use."""
    last = [case.last_probe(name) for name in names]
    unwilling = (ProbeResult.REFUSED, ProbeResult.DEFERRED)
    return all(probe is not None and probe.result in unwilling for probe in last)


def _load_and_bind(case: Case, name: str) -> list[str]:
    """Load the module of a driver; of its table nothing is known before."""
    module = _loadable(case, name)
    if module is None:
        return []
    listed = module in case.surroundings.would_load
    override = case.device.driver_override
    if case.device.driver is None and (
        override == name or (override is None and listed and not kept_by_pf(case))
    ):
        return _load(case, module)
    inputs = Inputs(case.device.ids, Driver(0, name, None), driver_override=name)
    if not matches(expect(case.machine.semantics, inputs)):
        return []
    write = _override(case, name)
    if not write:
        return []
    return [_modprobe(case, module), *write, *_unbind(case), _probe(case)]


def _loadable(case: Case, name: str) -> str | None:
    module = case.surroundings.providers.get(name)
    return None if module in case.surroundings.builtin else module


def _load(case: Case, module: str) -> list[str]:
    """Load a module whose driver then takes the device by itself, if it may."""
    if case.machine.drivers_autoprobe is False:
        return [_modprobe(case, module), _probe(case)]
    return [_modprobe(case, module)]


def _modprobe(case: Case, module: str) -> str:
    option = "--ignore-install " if module in case.surroundings.blacklisted else ""
    return f"modprobe {option}{shlex.quote(module)}"


def _past_denylist(case: Case, name: str) -> list[str]:
    driver = case.machine.drivers.get(name)
    if driver is None or driver.module is None or not _override(case, name):
        return []
    module = shlex.quote(driver.module)
    load = f"modprobe -r {module} && modprobe {module} disable_denylist=1"
    return [load, *_override(case, name), *_unbind(case), _probe(case)]


def _with_override(case: Case, name: str) -> list[str]:
    override = _override(case, name)
    if not override or not case.matches(name, name):
        return []
    return [*override, *_unbind(case), _probe(case)]


def _override(case: Case, name: str) -> list[str]:
    """Return the write; none where a shell can't write the name."""
    path = f"{_device(case.device.address)}/driver_override"
    if re.fullmatch(r"[A-Za-z0-9][\w.:+-]*", name, re.ASCII):
        return [f"echo {name} > {path}"]
    return [f"printf %s {shlex.quote(name)} > {path}"] if name.isprintable() else []


def _clear(case: Case) -> str:
    return f"echo > {_device(case.device.address)}/driver_override"


def _unbind(case: Case) -> list[str]:
    if case.device.driver is None:
        return []
    address = case.device.address
    return [f"echo {address} > {_device(address)}/driver/unbind"]


def _bind(case: Case, name: str) -> list[str]:
    if not name.isprintable():
        return []
    directory = shlex.quote(f"{_BUS}/drivers/{name.replace('/', '!')}/bind")
    return [f"echo {case.device.address} > {directory}"]


def _probe(case: Case) -> str:
    return f"echo {case.device.address} > {_DRIVERS_PROBE}"


def _device(address: str) -> str:
    return f"{_BUS}/devices/{address}"

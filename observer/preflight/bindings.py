"""What would become of one device's binding."""

from __future__ import annotations

import shlex
from typing import TYPE_CHECKING, Final

from observer.model.explanation import spelled
from observer.preflight.candidates import Comes
from observer.preflight.shape import Change, Kind, Note
from observer.record import PCI_ANY_ID, Id
from observer.text import printable, quoted

if TYPE_CHECKING:
    from observer.machine import PciDevice
    from observer.preflight.outlook import Outlook
    from observer.preflight.view import View

IDLE: Final = {"vfio-pci", "pci-stub"}  # they keep a device for others to use


def binding(
    view: View, device: PciDevice, now: Outlook, then: Outlook
) -> Change | Note | None:
    """Say what changes, or what to know; None: all stays."""
    if device.physfn is not None:
        return _virtual_function(view, device)
    if device.driver is None:
        return _without_driver(view, device, now, then)
    difference = _candidates_changed(view, device, now, then)
    if any(view.is_its(device, each) for each in then.candidates):
        if view.is_its(device, then.winner):
            return _note(device, difference)
        if then.winner is None:
            if difference:
                text = f"{difference}; {_clause(then.reason)}"
                return _change(Kind.MAY_CHANGE, device, text)
            return _note(device, f"as now, {_clause(then.reason)}")
    return _loss(view, device, now, then)


def _candidates_changed(
    view: View, device: PciDevice, now: Outlook, then: Outlook
) -> str:
    """Say which drivers come to match and which no longer do, "" if the same.

    Nothing is said where the modules of the running kernel are not known.
    """
    if not view.here.modules.known:
        return ""
    before = {each.module: each.label for each in now.candidates}
    after = {each.module: each.label for each in then.candidates}
    if device.driver is not None:
        before.setdefault(view.names.module(device.driver), quoted(device.driver))
    new = [f"+{label}" for module, label in after.items() if module not in before]
    old = [f"-{label}" for module, label in before.items() if module not in after]
    return f"candidate set changed: {', '.join(new + old)}" if new or old else ""


def _virtual_function(view: View, device: PciDevice) -> Change | None:
    """Say no more than that the driver is gone: VFs are made anew after each boot."""
    module = None if device.driver is None else view.names.module(device.driver)
    if module is None or view.then.has(module):
        return None
    return _change(
        Kind.LOSES_DRIVER, device, _absent(view, device.driver or "", module)
    )


def _without_driver(
    view: View, device: PciDevice, now: Outlook, then: Outlook
) -> Change | Note | None:
    override = device.driver_override
    if not then.candidates:
        return _note(device, _candidates_changed(view, device, now, then))
    if override is not None and view.then.override(device) is None:
        text = (
            f"no driver, for driver_override={quoted(override)}, which is not "
            f"persistent; {_outcome(now, then)}"
        )
        return _change(
            Kind.OVERRIDE_NOT_PERSISTENT, device, text, _persist(device, override)
        )
    if now.candidates:
        return _note(device, _candidates_changed(view, device, now, then))
    changed = _candidates_changed(view, device, now, then)
    text = f"no driver now; {changed}; {_outcome(now, then)}"
    return _change(Kind.GAINS_DRIVER, device, text)


def _loss(view: View, device: PciDevice, now: Outlook, then: Outlook) -> Change:
    driver, override = device.driver or "", device.driver_override
    expected = f"{quoted(driver)} now; {_outcome(now, then)}"
    if override is not None and view.then.override(device) != override:
        text = f"{expected}: driver_override={quoted(override)} is not persistent"
        return _change(
            Kind.OVERRIDE_NOT_PERSISTENT, device, text, _persist(device, override)
        )
    module = view.names.module(driver)
    dynid = view.dynid(device)
    if dynid is not None and view.then.has(module):
        text = f"{expected}: {_dynid(view, driver, dynid)}"
        return _change(Kind.DYNID_NOT_PERSISTENT, device, text)
    kind = Kind.OTHER_DRIVER if then.candidates else Kind.LOSES_DRIVER
    why = f"nothing that outlives a reboot gives it to {quoted(driver)}"
    known = (*now.candidates, *then.candidates, *then.kept_out)
    if not view.then.has(module) or any(each.module == module for each in known):
        why = _why(view, device, then)
    return _change(kind, device, f"{expected}: {why}")


def _outcome(now: Outlook, then: Outlook) -> str:
    """Say who has it then, and whether that is the kernel's doing."""
    after = ", as after any reboot" if _alike(now, then) else ""
    if then.winner is not None:
        return f"then {then.winner.label}{after}"
    names = ", ".join(each.label for each in then.candidates)
    if len(then.candidates) > 1:
        return f"then one of {names}{after}"
    return f"then perhaps {names}{after}" if names else f"then no driver{after}"


def _alike(now: Outlook, then: Outlook) -> bool:
    """Tell whether both kernels lead to the same."""
    modules = [
        (each.winner and each.winner.module, {one.module for one in each.candidates})
        for each in (now, then)
    ]
    return modules[0] == modules[1]


def _why(view: View, device: PciDevice, then: Outlook) -> str:
    driver = device.driver or ""
    module = view.names.module(driver)
    if not view.then.has(module):
        return _absent(view, driver, module)
    if view.then.override(device) not in {None, driver}:
        return _clause(then.reason)
    for each in then.kept_out:
        if each.module == module:
            if each.comes is Comes.BLACKLISTED:
                return f"module {quoted(module)} is blacklisted in {each.where}"
            return f"nothing loads module {quoted(module)} at boot"
    if any(each.module == module for each in then.candidates):
        return _clause(then.reason)
    ids = device.ids
    return (
        f"module {quoted(module)} of {printable(view.there.release)} does not list "
        f"{ids.vendor:04x}:{ids.device:04x}"
    )


def _absent(view: View, driver: str, module: str) -> str:
    release = printable(view.there.release)
    return f"{quoted(driver)} (module {quoted(module)}) is absent from {release}"


def _dynid(view: View, driver: str, dynid: Id) -> str:
    """Say why a dynid would be missing, and what makes it stay."""
    module = view.names.module(driver)
    built_in = view.then.built_in(module)
    if dynid in view.config.dynids(module, built_in=built_in):
        return f"nothing loads module {quoted(module)} at boot"
    text = f"its dynid {spelled(dynid)} is not persistent"
    if dynid in view.config.dynids(module, built_in=False):
        text = (
            f"{quoted(driver)} is built in in the target kernel; modprobe.d options do "
            "not apply"
        )
    if driver not in IDLE:
        return text
    text += f"; use {driver}.ids={_as_parameter(dynid)} on the command line"
    if not built_in and view.config.loads(module) is None:
        text += f", and name {quoted(module)} in modules-load.d"
    return text


def _as_parameter(dynid: Id) -> str:
    """Spell it for `ids=`, without what is any."""
    fields = [*dynid[:6]]
    defaults = [PCI_ANY_ID, PCI_ANY_ID, 0, 0]
    while defaults and fields[-1] == defaults.pop():
        fields.pop()
    return ":".join(f"{field:04x}" for field in fields)


def _persist(device: PciDevice, override: str) -> str:
    address = printable(device.address)
    return f"driverctl set-override {address} {shlex.quote(printable(override))}"


def _change(
    kind: Kind, device: PciDevice, text: str, cure: str | None = None
) -> Change:
    return Change(kind, device.address, text, cure)


def _note(device: PciDevice, text: str) -> Note | None:
    return Note(device.address, text) if text else None


def _clause(reason: str) -> str:
    """Return the first sentence without its full stop."""
    return reason.partition(". ")[0].removesuffix(".")

"""What the two kernels do differently, apart from single devices."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from observer.preflight.shape import Change, Kind, Note
from observer.terminal import counted
from observer.text import quoted

if TYPE_CHECKING:
    from collections.abc import Iterator

    from observer.preflight.view import View

_SEMANTICS: Final = {
    "linux-3.15": "there is no driver_override",
    "linux-3.16": "there are no override_only entries",
    "linux-5.15": "override_only entries count only with driver_override",
}
_NEW_ID: Final = {
    "linux-3.16": "an id that was added before is added once more",
    "linux-5.11": "an id that a dynid or the id_table has is refused with EEXIST",
    "linux-7.3": "EINVAL for driver_data comes before EEXIST for a dynid",
}


def rules(view: View) -> Iterator[Change | Note]:
    """Yield how matching and new_id would change, and what becomes built in."""
    machine, rules = view.machine, view.there.rules
    if rules is None:
        return
    if rules.semantics != machine.semantics:
        text = f"semantics {machine.semantics} -> {rules.semantics}"
        yield Note(None, _with(text, _SEMANTICS.get(rules.semantics)))
    if rules.new_id_rules != machine.new_id_rules:
        text = f"new_id rules {machine.new_id_rules} -> {rules.new_id_rules}"
        text = _with(text, _NEW_ID.get(rules.new_id_rules))
        used = [name for name, each in machine.drivers.items() if each.dynids]
        if used:
            names = ", ".join(map(quoted, used))
            yield Change(Kind.NEW_ID_RULES, None, f"{text}; {names} has dynids now")
        else:
            yield Note(None, text)


def modules(view: View) -> Iterator[Note]:
    """Yield drivers in use that become built in, or no longer are."""
    users: dict[str, int] = {}
    for device in view.machine.devices.values():
        if device.driver is not None:
            users[device.driver] = users.get(device.driver, 0) + 1
    here, there = view.here.modules, view.there.modules
    for driver, number in users.items():
        module = view.names.module(driver)
        of = f"{quoted(driver)} (module {quoted(module)}, {number} bound)"
        if module in here.loadable and module in there.built_in:
            yield Note(None, f"{of} is built in in the target kernel")
        elif module in here.built_in and module in there.loadable:
            yield Note(None, f"{of} is a module in the target kernel, and built in now")


def override_only(view: View) -> Iterator[Note]:
    """Yield modules that match with driver_override only, where that is new."""
    if not view.here.modules.known:
        return
    found: dict[str, int] = {}
    for device in view.machine.devices.values():
        before = view.here.modules.aliases.override_only_modules(device.ids)
        for module in view.there.modules.aliases.override_only_modules(device.ids):
            if module not in before:
                found[module] = found.get(module, 0) + 1
    for module, number in found.items():
        devices = counted(number, "device")
        yield Note(
            None,
            f"module {quoted(module)} is new for {devices}, with driver_override "
            "only (alias vfio_pci:)",
        )


def _with(text: str, consequence: str | None) -> str:
    return f"{text}: {consequence}" if consequence else text

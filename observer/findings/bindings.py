"""Bindings that nothing explains, and one that must not be."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from observer.findings.picture import Picture, by, file_of, shell, unbind
from observer.findings.shape import Actor, Finding, Kind, Name
from observer.machine import Decision, Origin
from observer.model.explanation import spelled
from observer.model.new_id import remove_id
from observer.record import StoreFile, TableState, Write
from observer.text import printable, quoted

if TYPE_CHECKING:
    from observer.machine import PciDevice

_COMPLETE: Final = TableState.COMPLETE
_NOT_READ: Final = (Origin.MODULES_ALIAS, Origin.NOWHERE)


def unexplained_binding(picture: Picture, device: PciDevice) -> Finding | None:
    """Find a binding that nothing explains now, and what explained it once."""
    if explained(picture, device) or why_unknown(picture, device) is not None:
        return None
    driver = device.driver or ""
    decision = _decision(picture, device)
    details: dict[str, object] = {"driver": driver}
    kind, told, actor = Kind.UNSEEN, _unseen(picture), None
    if decision is not None:
        details["decision"] = _decision_object(decision)
        if decision.driver_override == driver:
            kind = Kind.OVERRIDE_CLEARED
            told, actor = _override_story(picture, device, decision, details)
        elif decision.dynid is not None:
            kind = Kind.DYNID_REMOVED
            told, actor = _dynid_story(picture, driver, decision, details)
    name = quoted(driver)
    return Finding(
        device.address,
        Name.UNEXPLAINED_BINDING,
        kind,
        f"{printable(device.address)} is bound to {name}, and neither id_table, dynid "
        f"nor driver_override explains it now: {told}",
        f"echo {shell(driver)} > {file_of(device, 'driver_override')}",
        None if decision is None else decision.ktime_ns,
        actor,
        details,
    )


def explained(picture: Picture, device: PciDevice) -> bool:
    """Tell whether table, dynid or override makes the bound driver match.

    An override that names another driver was set later and unbinds nothing.
    """
    if device.driver is None:
        return True
    matching = picture.matches(device) + picture.native(device)
    return any(each.driver == device.driver for each in matching)


def why_unknown(picture: Picture, device: PciDevice) -> str | None:
    """Return why nobody can tell whether the binding is explained; None: one can."""
    name = quoted(device.driver or "")
    driver = picture.machine.drivers.get(device.driver or "")
    if driver is None:
        return f"bound to {name}, which is not among the drivers that were found"
    if not driver.driver.has_probe:
        return f"bound to {name}, which has no probe method: a bind needs no match"
    if driver.origin in _NOT_READ or driver.driver.table_state is not _COMPLETE:
        return f"bound to {name}, whose id_table is not known to its end"
    if driver.dynids is None:
        return f"bound to {name}, whose dynids are unknown"
    return None


def _decision(picture: Picture, device: PciDevice) -> Decision | None:
    """Return the last match of the driver that is bound, if it was seen."""
    events = picture.events(device.address)
    return next(
        (
            event
            for event in reversed(events)
            if isinstance(event, Decision) and event.driver == device.driver
        ),
        None,
    )


def _unseen(picture: Picture) -> str:
    since_ns = picture.machine.decided_since_ns
    if since_ns is None:
        return "nobody watched when it was bound"
    return f"what bound it was not seen since {picture.time(since_ns)}"


def _override_story(
    picture: Picture, device: PciDevice, decision: Decision, details: dict[str, object]
) -> tuple[str, Actor | None]:
    """Tell who set the override, and who cleared it after the match."""
    writes = [
        event
        for event in picture.events(device.address)
        if isinstance(event, Write)
        and event.file is StoreFile.DRIVER_OVERRIDE
        and event.errno is None
    ]
    sets = [write for write in writes if write.ktime_ns <= decision.ktime_ns]
    clears = [write for write in writes if write.ktime_ns > decision.ktime_ns]
    told = [f"bound at {picture.time(decision.ktime_ns)}"]
    actors = []
    if sets:
        actors.append(Actor(sets[-1].task, sets[-1].uid))
        told.insert(0, f"set at {picture.time(sets[-1].ktime_ns)}")
        details["set_ktime_ns"] = sets[-1].ktime_ns
    if clears:
        actors.append(Actor(clears[0].task, clears[0].uid))
        told.append(f"cleared at {picture.time(clears[0].ktime_ns)}")
        details["cleared_ktime_ns"] = clears[0].ktime_ns
    who = " and ".join(dict.fromkeys(map(by, actors))) or by(None)
    story = f"driver_override was {', '.join(told)} by {who}"
    return story, (actors[-1] if actors else None)


def _dynid_story(
    picture: Picture, driver: str, decision: Decision, details: dict[str, object]
) -> tuple[str, Actor | None]:
    """Tell by which dynid it was bound, and who removed that."""
    dynid = decision.dynid
    if dynid is None:
        return "", None
    details["dynid"] = spelled(dynid)
    told = f"bound at {picture.time(decision.ktime_ns)} by dynid {spelled(dynid)}, "
    for write in reversed(picture.machine.driver_events.get(driver, ())):
        if (
            isinstance(write, Write)
            and write.file is StoreFile.REMOVE_ID
            and write.errno is None
            and write.ktime_ns > decision.ktime_ns
            and not remove_id(write.text, (dynid,), picture.machine.new_id_rules).dynids
        ):
            actor = Actor(write.task, write.uid)
            details["removed_ktime_ns"] = write.ktime_ns
            told += f"removed at {picture.time(write.ktime_ns)} by {by(actor)}"
            return told, actor
    return f"{told}since removed", None


def _decision_object(decision: Decision) -> dict[str, object]:
    return {
        "ktime_ns": decision.ktime_ns,
        "match": str(decision.match),
        "driver_override": decision.driver_override,
        "dynid": None if decision.dynid is None else spelled(decision.dynid),
        "comm": decision.task.comm,
        "pid": decision.task.tgid,
    }


def vf_on_native_driver(picture: Picture, device: PciDevice) -> Finding | None:
    """Find a VF that the host drives though its PF belongs to a user of vfio."""
    physfn = picture.vfio_pf(device)
    if physfn is None or device.driver is None or picture.is_vfio(device.driver):
        return None
    past = picture.past(device.address)
    address, driver = printable(device.address), quoted(device.driver)
    text = f"ALERT: VF {address} of a vfio-owned PF bound to {driver}"
    if past.bound_ns is not None:
        text += f" at {picture.time(past.bound_ns)} by {by(past.binder)}"
    return Finding(
        device.address,
        Name.VF_ON_NATIVE_DRIVER,
        Kind.VF_ON_NATIVE_DRIVER,
        text,
        unbind(device),
        past.bound_ns,
        past.binder,
        {
            "driver": device.driver,
            "physfn": physfn.address,
            "pf_driver": physfn.driver,
        },
    )

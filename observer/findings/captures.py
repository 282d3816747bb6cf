"""What concerns several devices: a dynid that takes too many, a group half on vfio."""

from __future__ import annotations

from collections import defaultdict
from typing import TYPE_CHECKING

from observer.findings.picture import (
    Picture,
    by,
    few,
    file_of,
    file_of_driver,
    id_fields,
    is_bridge,
    listed,
    shell,
    unbind,
)
from observer.findings.shape import Actor, Finding, Kind, Name
from observer.model.explanation import spelled
from observer.model.new_id import new_id
from observer.model.primitives import id_matches
from observer.record import Driver, Id, StoreFile, Write
from observer.text import quoted

if TYPE_CHECKING:
    from collections.abc import Iterator

    from observer.machine import Machine, PciDevice

_NO_TABLE = Driver(0, "", None)  # accepts any driver_data


def greedy_dynids(picture: Picture) -> Iterator[Finding]:
    """Find dynids that match several devices, not all of them bound to the driver."""
    for name, driver in picture.machine.drivers.items():
        for dynid in dict.fromkeys(driver.dynids or ()):
            captured = _captured(picture, name, dynid)
            others = [device for device in captured if device.driver != name]
            if len(captured) > 1 and others:
                yield _greedy(picture, name, dynid, captured, others)


def shared_dynids(picture: Picture, device: PciDevice) -> Iterator[str]:
    """Say which dynids of its driver it shares with others that have it too.

    Whoever wrote such an id may have meant all of these devices, or one.
    """
    driver = picture.machine.drivers.get(device.driver or "")
    if driver is None:
        return
    name = driver.driver.name
    for dynid in dict.fromkeys(driver.dynids or ()):
        captured = _captured(picture, name, dynid)
        bound = all(each.driver == name for each in captured)
        if bound and device in captured and len(captured) > 1:
            yield (
                f"dynid {spelled(dynid)} of {quoted(name)} matches {len(captured)} "
                "devices, all of them bound to it: "
                + listed(each.address for each in captured)
            )


def _captured(picture: Picture, driver: str, dynid: Id) -> list[PciDevice]:
    """Return the devices that a dynid matches and no override keeps from it."""
    return [
        device
        for device in picture.machine.devices.values()
        if id_matches(dynid, device.ids) and device.driver_override in (None, driver)
    ]


def _greedy(
    picture: Picture,
    driver: str,
    dynid: Id,
    captured: list[PciDevice],
    others: list[PciDevice],
) -> Finding:
    text = f"dynid {spelled(dynid)} of {quoted(driver)} matches {len(captured)} "
    text += f"devices, {len(others)} of them not bound to it: "
    text += listed(device.address for device in others)
    write = added(picture.machine, driver, dynid)
    actor = None
    if write is not None:
        actor = Actor(write.task, write.uid)
        text += f"; added at {picture.time(write.ktime_ns)} by {by(actor)}"
    first, *also = (device.address for device in others)
    path = file_of_driver(driver, "remove_id")
    # Those that were meant keep an explanation, and their driver when bound again.
    keep = [
        f"echo {shell(driver)} > {file_of(device, 'driver_override')}"
        for device in captured
        if device.driver == driver and device.driver_override is None
    ]
    return Finding(
        first,
        Name.GREEDY_DYNID,
        Kind.GREEDY_DYNID,
        text,
        " && ".join((*keep, f'echo "{id_fields(dynid)}" > {path}')),
        write and write.ktime_ns,
        actor,
        {
            "driver": driver,
            "dynid": spelled(dynid),
            "matches": [device.address for device in captured],
        },
        tuple(also),
    )


def added(machine: Machine, driver: str, dynid: Id) -> Write | None:
    """Return the write that added a dynid, the last of several, if it was seen."""
    rules = machine.new_id_rules
    for event in reversed(machine.driver_events.get(driver, ())):
        if (
            isinstance(event, Write)
            and event.file is StoreFile.NEW_ID
            and event.errno is None
            and (dynid,) == new_id(event.text, _NO_TABLE, (), rules).dynids
        ):
            return event
    return None


def partial_groups(picture: Picture) -> Iterator[Finding]:
    """Find IOMMU groups on vfio in part, which no user of vfio can open."""
    groups: defaultdict[int, list[PciDevice]] = defaultdict(list)
    for device in picture.machine.devices.values():
        if device.iommu_group is not None and _is_endpoint(device):
            groups[device.iommu_group].append(device)
    for group, endpoints in sorted(groups.items()):
        on_vfio = [each for each in endpoints if picture.is_vfio(each.driver)]
        missing = [each for each in endpoints if not _is_viable(picture, each)]
        if on_vfio and missing:
            yield _partial(group, endpoints, on_vfio, missing)


def _is_endpoint(device: PciDevice) -> bool:
    return not (is_bridge(device) and device.driver in (None, "pcieport"))


def _is_viable(picture: Picture, device: PciDevice) -> bool:
    """Tell whether vfio puts up with the device in a group of its own."""
    return device.driver in (None, "pci-stub") or picture.is_vfio(device.driver)


def _of_a_card(on_vfio: list[PciDevice], missing: list[PciDevice]) -> bool:
    """Tell whether what is missing are functions of the devices that are on vfio.

    Other devices of the group may be what the host runs on, such as its disk.
    """
    slots = {each.address.partition(".")[0] for each in on_vfio}
    return all(each.address.partition(".")[0] in slots for each in missing)


def _partial(
    group: int,
    endpoints: list[PciDevice],
    on_vfio: list[PciDevice],
    missing: list[PciDevice],
) -> Finding:
    drivers = listed(dict.fromkeys(device.driver or "" for device in on_vfio))
    text = f"group {group}: {len(on_vfio)} of {len(endpoints)} functions on {drivers}; "
    text += "missing: " + few(
        f"{quoted(device.address)} ({quoted(device.driver or '')})"
        for device in missing
    )
    first, *also = (device.address for device in on_vfio + missing)
    return Finding(
        first,
        Name.PARTIAL_GROUP,
        Kind.PARTIAL_GROUP,
        text,
        "; ".join(map(unbind, missing if _of_a_card(on_vfio, missing) else on_vfio)),
        None,
        None,
        {
            "iommu_group": group,
            "on_vfio": [device.address for device in on_vfio],
            "missing": {device.address: device.driver for device in missing},
        },
        tuple(also),
    )

"""What is worth knowing of a device besides what is in the way of its driver."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from observer.case import VFIO_PCI, Case, Obstacle, kept_by_pf
from observer.findings.captures import added
from observer.model.explanation import spelled
from observer.model.primitives import id_matches
from observer.record import ProbeResult
from observer.text import printable, quoted

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from observer.machine import PciDriver
    from observer.record import Id


def circumstances(case: Case) -> tuple[Obstacle, ...]:
    """Name them."""
    return tuple(found for each in _CIRCUMSTANCES for found in each(case))


def _rivals(case: Case) -> Iterator[Obstacle]:
    """Say who of several candidates wins, and why."""
    names = [candidate.driver for candidate in case.candidates]
    if len(names) < 2 or kept_by_pf(case):  # noqa: PLR2004 - rivals
        return
    declined = [
        f"{quoted(name)} declined ({_errno(probe.errno)})"
        for name in names
        if (probe := case.last_probe(name)) is not None
        and probe.result is ProbeResult.REFUSED
    ]
    if declined:
        both = "both match" if len(names) == 2 else "all match"  # noqa: PLR2004
        listed = ", ".join(map(quoted, names))
        text = f"{len(names)} candidates ({listed}): {both}; {'; '.join(declined)}"
        yield Obstacle("declined", text)
    elif case.machine.order_known:
        yield Obstacle("rivals", _order(case, names))


def _errno(errno: str | None) -> str:
    return f"-{errno}" if errno else "errno not known"


def _order(case: Case, names: list[str]) -> str:
    first, *others = (_registered(case, name) for name in names)
    text = f"{len(names)} candidates; winner by registration order: {first}"
    for other in others:
        text += f", {other}"
    if case.device.driver in names[1:]:
        text += f"; {quoted(case.device.driver or '')} was bound otherwise"
    return text


def _registered(case: Case, name: str) -> str:
    registered_ns = case.machine.drivers[name].registered_ns
    if registered_ns is None:
        return f"{quoted(name)} (before observing)"
    return f"{quoted(name)} registered at {case.time(registered_ns)}"


def _built_in(case: Case) -> Iterator[Obstacle]:
    driver = case.machine.drivers.get(case.asked or "")
    if driver is not None and driver.module is None:
        name = quoted(driver.driver.name)
        option = "ids" if name in (VFIO_PCI, "pci-stub") else "param"
        yield Obstacle(
            "built_in",
            f"{name} is built into this kernel; modprobe.d options do not apply; "
            f"use {name}.{option}= on the command line",
        )


def _held(case: Case) -> Iterator[Obstacle]:
    if case.device.driver is None or case.waits or not case.surroundings.holders:
        return
    text = f"binding correct; {', '.join(map(printable, case.surroundings.holders))}"
    if case.device.boot_vga is not None:
        text += f"; boot_vga={int(case.device.boot_vga)}"
    yield Obstacle("resource_held", text)


def _regrouped(case: Case) -> Iterator[Obstacle]:
    group, before = case.device.iommu_group, case.device.iommu_group_before
    if before is not None:
        yield Obstacle(
            "regrouped", f"IOMMU group {before} -> {group} since it was first seen"
        )


def _dynid_there(case: Case) -> Iterator[Obstacle]:
    driver = case.machine.drivers.get(case.asked or "")
    if driver is None or not case.waits:
        return
    name = quoted(driver.driver.name)
    for dynid in driver.dynids or ():
        if id_matches(dynid, case.device.ids):
            yield Obstacle(
                "dynid_there",
                f"dynid {spelled(dynid)} is already on {name} "
                f"({_added(case, driver, dynid)}); new_id is not idempotent; write the "
                "address to bind, or use driver_override",
            )
            return


def _added(case: Case, driver: PciDriver, dynid: Id) -> str:
    write = added(case.machine, driver.driver.name, dynid)
    if write is not None:
        who = printable(write.task.comm) or "(no name)"
        when = case.time(write.ktime_ns)
        return f"added {when} by {who}, pid {write.task.tgid}"
    if case.machine.observed_since_ns is None:
        return "nobody watched when it was added"
    return "added before observing, or by its module"


_CIRCUMSTANCES: Final[tuple[Callable[[Case], Iterator[Obstacle]], ...]] = (
    _rivals,
    _dynid_there,
    _regrouped,
    _built_in,
    _held,
)

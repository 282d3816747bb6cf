"""A driver_override that was left behind."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from observer.findings.picture import (
    Picture,
    by,
    clear_override,
    drivers_of,
    listed,
)
from observer.findings.shape import Actor, Finding, Kind, Name
from observer.text import printable, quoted

if TYPE_CHECKING:
    from observer.machine import PciDevice


_OPT_OUT: Final = "none"  # as the kernel's ABI documentation has it


def stale_override(picture: Picture, device: PciDevice) -> Finding | None:
    """Find an override that names no driver, keeps one away, or is not obeyed."""
    override = device.driver_override
    if override is None or override == device.driver or by_kernel(picture, device):
        return None
    native = drivers_of(picture.native(device))
    bound = "no driver" if device.driver is None else f"driver={quoted(device.driver)}"
    name = quoted(override)
    if override not in picture.machine.drivers:
        kind = Kind.NAMES_NO_DRIVER
        text = f"override names {name}, which is not registered"
        if override == _OPT_OUT:
            text += " (the usual way to keep all drivers away; if meant, leave it)"
        text += f"; {bound}"
    elif device.driver is not None:
        kind = Kind.DIFFERS
        text = f"override={name}, but bound to {quoted(device.driver)}"
    elif native:
        kind = Kind.REFUSES_NATIVE
        text = f"override={name}, no driver"
    else:
        return None
    if native and device.driver is None:
        several = "s" if len(native) > 1 else ""
        text += f"; native candidate{several} {listed(native)} rejected by it"
    since_ns, actor = set_by(picture, device)
    if since_ns is not None:
        text += f"; set at {picture.time(since_ns)} by {by(actor)}"
    return Finding(
        device.address,
        Name.STALE_OVERRIDE,
        kind,
        f"STALE OVERRIDE {printable(device.address)}: {text}; clear driver_override",
        clear_override(device),
        since_ns,
        actor,
        {"driver": device.driver, "driver_override": override, "rejected": native},
    )


def by_kernel(picture: Picture, device: PciDevice) -> bool:
    """Tell whether vfio set the override itself, as it does for the VFs of its PFs."""
    override = device.driver_override
    return picture.is_vfio(override) and picture.vfio_pf(device) is not None


def set_by(picture: Picture, device: PciDevice) -> tuple[int | None, Actor | None]:
    """Return when and by whom the override was set, if that was seen."""
    write = picture.past(device.address).override
    if write is None or write.text.partition("\n")[0] != device.driver_override:
        return None, None
    return write.ktime_ns, Actor(write.task, write.uid)

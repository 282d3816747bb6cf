"""The gates around a match, in the kernel's order: which one stops a bind.

A match is only one of the things that must be right before a driver gets a device.
"""

from __future__ import annotations

from enum import StrEnum
from typing import TYPE_CHECKING, Final, NamedTuple

from observer.record import Inputs, Outcome, Source

if TYPE_CHECKING:
    from collections.abc import Callable


class Trigger(StrEnum):
    """What makes the kernel bring a device and a driver together."""

    DEVICE_ADDED = "device_added"  # at boot, by hotplug, by a rescan
    DRIVER_ADDED = "driver_added"  # its module was loaded
    NEW_ID = "new_id"
    BIND = "bind"
    DRIVERS_PROBE = "drivers_probe"


class Gate(StrEnum):
    """What can stand between a device and a driver."""

    DRIVERS_AUTOPROBE = "drivers_autoprobe"  # of the bus, switched off
    HAS_DRIVER = "has_driver"  # only devices without one are looked at
    BINDING_NOT_ALLOWED = "binding_not_allowed"  # the device is not ready to match
    NODE_DISABLED = "node_disabled"  # in the device tree
    NO_MATCH = "no_match"
    GONE = "gone"  # the device is being removed
    BUSY = "busy"  # bound, found out after the match
    NOT_READY = "not_ready"  # suppliers, or the device itself: the core defers
    SRIOV_DRIVERS_AUTOPROBE = "sriov_drivers_autoprobe"  # of the PF, switched off
    DEFERRED = "deferred"  # by the driver's probe method
    REFUSED = "refused"  # by the driver's probe method


class Situation(NamedTuple):
    """What the gates depend on; the defaults leave them all open."""

    trigger: Trigger
    drivers_autoprobe: bool = True
    # PCI looked at drivers_autoprobe for added devices not before about v6.19
    # Linux kernel commit ea34511aaf75
    added_devices_heed_autoprobe: bool = True
    has_driver: bool = False
    binding_allowed: bool = True  # match_driver, since about v6.16 ALLOW_BINDING
    node_disabled: bool = False
    gone: bool = False
    ready: bool = True
    is_virtfn: bool = False
    sriov_drivers_autoprobe: bool = True
    probe_errno: str | None = None  # what the driver's probe method answers; None: 0


class Attempt(NamedTuple):
    """One device, one driver, and whether they match."""

    situation: Situation
    inputs: Inputs
    outcome: Outcome


def stopped_by(attempt: Attempt) -> Gate | None:
    """Return the first gate that is closed; None: the driver gets the device."""
    return next((gate for gate, closed in GATES.items() if closed(attempt)), None)


def _drivers_autoprobe(attempt: Attempt) -> bool:
    situation = attempt.situation
    if situation.drivers_autoprobe:
        return False
    if situation.trigger is Trigger.DEVICE_ADDED:
        return situation.added_devices_heed_autoprobe
    return situation.trigger is Trigger.DRIVER_ADDED


def _has_driver(attempt: Attempt) -> bool:
    situation = attempt.situation
    return situation.has_driver and situation.trigger in (
        Trigger.DEVICE_ADDED,
        Trigger.DRIVERS_PROBE,
    )


def _no_match(attempt: Attempt) -> bool:
    return attempt.outcome.match in (Source.NONE, Source.UNKNOWN)


# Linux kernel commit 2d2f4273cbe9: an override of any name lifts it
def _sriov_drivers_autoprobe(attempt: Attempt) -> bool:
    situation, inputs = attempt.situation, attempt.inputs
    return (
        situation.is_virtfn
        and not situation.sriov_drivers_autoprobe
        and inputs.driver_override is None
    )


def _probe_errno(attempt: Attempt) -> str | None:
    """Return what the probe method answers; a driver without one takes any device."""
    has_probe = attempt.inputs.driver.has_probe
    return attempt.situation.probe_errno if has_probe else None


GATES: Final[dict[Gate, Callable[[Attempt], bool]]] = {
    Gate.DRIVERS_AUTOPROBE: _drivers_autoprobe,
    Gate.HAS_DRIVER: _has_driver,
    Gate.BINDING_NOT_ALLOWED: lambda attempt: not attempt.situation.binding_allowed,
    Gate.NODE_DISABLED: lambda attempt: attempt.situation.node_disabled,
    Gate.NO_MATCH: _no_match,
    Gate.GONE: lambda attempt: attempt.situation.gone,
    Gate.BUSY: lambda attempt: attempt.situation.has_driver,
    Gate.NOT_READY: lambda attempt: not attempt.situation.ready,
    Gate.SRIOV_DRIVERS_AUTOPROBE: _sriov_drivers_autoprobe,
    Gate.DEFERRED: lambda attempt: _probe_errno(attempt) == "EPROBE_DEFER",
    Gate.REFUSED: lambda attempt: _probe_errno(attempt) is not None,
}


# Linux kernel commit 45ddcb42949f (in v5.14) ended this
def bind_errno_3_16(attempt: Attempt) -> int | str:
    """Return what a write to a driver's bind answers: ENODEV, whatever stopped it."""
    return 0 if stopped_by(attempt) is None else "ENODEV"


# Linux kernel commit 45ddcb42949f (in v5.14)
def bind_errno_5_14(attempt: Attempt) -> int | str:
    """Return what a write to a driver's bind answers: the errno of what stopped it."""
    gate = stopped_by(attempt)
    if gate is None:
        return 0
    if gate is Gate.REFUSED:
        return attempt.situation.probe_errno or 0
    return _BIND_ERRNO.get(gate, "ENODEV")


_BIND_ERRNO: Final = {
    Gate.BUSY: "EBUSY",
    Gate.NOT_READY: "EAGAIN",
    Gate.DEFERRED: "EAGAIN",
}

BIND_RULES: Final[dict[str, Callable[[Attempt], int | str]]] = {
    "linux-3.16": bind_errno_3_16,
    "linux-5.14": bind_errno_5_14,
}

"""pci_match_device() of the kernel's releases, as truth functions."""

from __future__ import annotations

from observer.model.primitives import dynid_hit, static_hits
from observer.record import Inputs, Outcome, Source

NO_MATCH = Outcome(Source.NONE)
DUMMY = Outcome(Source.OVERRIDE)  # pci_device_id_any


# Linux kernel commit 7461b60afa62 (in v2.6.20)
def linux_3_15(inputs: Inputs) -> Outcome:
    """Take the first dynid, else the first entry; nobody has a driver_override yet."""
    dynid = dynid_hit(inputs)
    if dynid is not None:
        return Outcome(Source.DYNID, dynid)

    for index, _entry in static_hits(inputs):
        return Outcome(Source.STATIC, index)

    return NO_MATCH


# Linux kernel commit 782a985d7af2 (in v3.16)
def linux_3_16(inputs: Inputs) -> Outcome:
    """Let driver_override keep other drivers away, and its own match without an id."""
    driver_override = inputs.driver_override
    if driver_override is not None and driver_override != inputs.driver.name:
        return NO_MATCH

    dynid = dynid_hit(inputs)
    if dynid is not None:
        return Outcome(Source.DYNID, dynid)

    for index, _entry in static_hits(inputs):
        return Outcome(Source.STATIC, index)

    return NO_MATCH if driver_override is None else DUMMY


# Linux kernel commit 343b7258687e (in v5.15)
# Linux kernel commit cc6711b0bf36 (in v5.15)
def linux_5_15(inputs: Inputs) -> Outcome:
    """Do as `linux_3_16`, but pass over override_only entries without an override."""
    driver_override = inputs.driver_override
    if driver_override is not None and driver_override != inputs.driver.name:
        return NO_MATCH

    dynid = dynid_hit(inputs)
    if dynid is not None:
        return Outcome(Source.DYNID, dynid)

    for index, entry in static_hits(inputs):
        if not entry.override_only or driver_override is not None:
            return Outcome(Source.STATIC, index)

    return NO_MATCH if driver_override is None else DUMMY

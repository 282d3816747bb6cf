"""What the linux-pci and kvm lists discussed in June 2021, as truth functions.

The question was how an id_table entry can say that its driver takes the device only
when driver_override names it (PCI_ID_F_DRIVER_OVERRIDE). None of these was merged;
`linux_5_15` is what came of them. An entry's flag is its override_only.
"""

from __future__ import annotations

from observer.model.primitives import (
    dynid_hit,
    dynid_hits,
    first_static_hit,
    static_hits,
)
from observer.model.releases import DUMMY, NO_MATCH
from observer.record import Inputs, Outcome, Source

HANG = Outcome(Source.HANG)


# Message-ID: <20210603160809.15845-10-mgurtovoy@nvidia.com>
def rfc_2021_06_03(inputs: Inputs) -> Outcome:
    """Take the first hit of all; then its flag and driver_override must agree.

    There is no dummy id any more, and a dynid is a hit without a flag.
    """
    driver_override = inputs.driver_override
    if driver_override is not None and driver_override != inputs.driver.name:
        return NO_MATCH

    dynid = dynid_hit(inputs)
    if dynid is not None:
        return Outcome(Source.DYNID, dynid) if driver_override is None else NO_MATCH

    hit = first_static_hit(inputs)
    if hit is None:
        return NO_MATCH
    index, entry = hit
    if entry.override_only and driver_override is None:
        return NO_MATCH
    if driver_override is not None and not entry.override_only:
        return NO_MATCH
    return Outcome(Source.STATIC, index)


# Message-ID: <117a5e68-d16e-c146-6d37-fcbfe49cb4f8@nvidia.com>
# The conditions are named in
# Message-ID: <20210614124250.0d32537c.alex.williamson@redhat.com>
def rfc_2021_06_14(inputs: Inputs) -> Outcome:
    """Judge the first static hit alone, by conditions (b) and (c)."""
    driver_override = inputs.driver_override
    if driver_override is not None and driver_override != inputs.driver.name:
        return NO_MATCH

    dynid = dynid_hit(inputs)
    if dynid is not None:  # (a) a dynid matches, whatever the flag of an entry
        return Outcome(Source.DYNID, dynid)

    hit = first_static_hit(inputs)
    if hit is None:
        return NO_MATCH if driver_override is None else DUMMY
    index, entry = hit
    if entry.override_only and driver_override is None:  # (b) a flag needs an override
        return NO_MATCH
    if driver_override is not None and not entry.override_only:  # (c) and it a flag
        return NO_MATCH
    return Outcome(Source.STATIC, index)


# Message-ID: <20210614124250.0d32537c.alex.williamson@redhat.com>
# and the question and answer of 15 June 2021 that follow it
def rfc_2021_06_14_without_c(inputs: Inputs) -> Outcome:
    """Do as `rfc_2021_06_14`, but let an override take an entry without a flag."""
    driver_override = inputs.driver_override
    if driver_override is not None and driver_override != inputs.driver.name:
        return NO_MATCH

    dynid = dynid_hit(inputs)
    if dynid is not None:  # (a)
        return Outcome(Source.DYNID, dynid)

    hit = first_static_hit(inputs)
    if hit is None:
        return NO_MATCH if driver_override is None else DUMMY
    index, entry = hit
    if entry.override_only and driver_override is None:  # (b)
        return NO_MATCH
    return Outcome(Source.STATIC, index)


# Message-ID: <cd95b92c-a23b-03a7-1dd3-9554b9d22955@nvidia.com> ("untested")
def rfc_2021_06_17(inputs: Inputs) -> Outcome:
    """Search on after a flagged entry, as posted: from that same entry again."""
    driver_override = inputs.driver_override
    if driver_override is not None and driver_override != inputs.driver.name:
        return NO_MATCH

    dynid = dynid_hit(inputs)
    if dynid is not None:
        return Outcome(Source.DYNID, dynid)

    for index, entry in static_hits(inputs):
        if entry.override_only and driver_override is None:
            return HANG  # the next round finds this entry, and the next one
        return Outcome(Source.STATIC, index)

    return NO_MATCH if driver_override is None else DUMMY


# Alex Williamson's counter-suggestion in the thread of
# Message-ID: <20210614124250.0d32537c.alex.williamson@redhat.com>
# never posted as code; this is how we read it
def rfc_flagged_dynids(inputs: Inputs) -> Outcome:
    """Do as `linux_5_15`, and let new_id flag a dynid as a table flags an entry."""
    driver_override = inputs.driver_override
    if driver_override is not None and driver_override != inputs.driver.name:
        return NO_MATCH

    for index, dynid in dynid_hits(inputs):
        if not dynid.override_only or driver_override is not None:
            return Outcome(Source.DYNID, index)

    for index, entry in static_hits(inputs):
        if not entry.override_only or driver_override is not None:
            return Outcome(Source.STATIC, index)

    return NO_MATCH if driver_override is None else DUMMY

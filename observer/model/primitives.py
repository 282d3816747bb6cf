"""What every semantics is made of: the comparison of one id, and the two searches."""

from __future__ import annotations

from typing import TYPE_CHECKING

from observer.model.table import table_of
from observer.record import PCI_ANY_ID, Device, Id, Inputs, Reason, TableState

if TYPE_CHECKING:
    from collections.abc import Iterator

_COMPLETE = TableState.COMPLETE
_REASONS = {
    TableState.TRUNCATED: Reason.TABLE_TRUNCATED,
    TableState.UNREADABLE: Reason.READ_FAULT,
    TableState.UNKNOWN: Reason.TABLE_UNKNOWN,
}


class Undecided(Exception):  # noqa: N818 - an answer, not an error
    """The decision hangs on something that was not captured."""

    def __init__(self, reason: Reason) -> None:
        """Say what is missing."""
        super().__init__(reason)
        self.reason = reason


def id_matches(entry: Id, device: Device) -> bool:
    """Tell whether one id, of a table or a dynid, fits the device.

    An entry's fields are 32 bits wide and the device's ids 16, so 0xffff is no wildcard
    and an entry with higher bits never fits.
    """
    return (
        entry.vendor in (device.vendor, PCI_ANY_ID)
        and entry.device in (device.device, PCI_ANY_ID)
        and entry.subvendor in (device.subvendor, PCI_ANY_ID)
        and entry.subdevice in (device.subdevice, PCI_ANY_ID)
        and not (entry.class_ ^ device.class_) & entry.class_mask
    )


def dynid_hits(inputs: Inputs) -> Iterator[tuple[int, Id]]:
    """Yield place and id of each dynid that fits, in the order of insertion.

    Raises Undecided when all captured ones were taken, and there are more.
    """
    for place, dynid in enumerate(inputs.dynids):
        if id_matches(dynid, inputs.device):
            yield place, dynid
    if not inputs.dynids_complete:
        raise Undecided(Reason.DYNIDS_TRUNCATED)


def dynid_hit(inputs: Inputs) -> int | None:
    """Return the place of the first dynid that fits.

    Raises Undecided when none of the captured ones does, and there are more.
    """
    if not inputs.dynids and inputs.dynids_complete:  # as in most decisions
        return None
    return next((place for place, _dynid in dynid_hits(inputs)), None)


def static_hits(inputs: Inputs) -> Iterator[tuple[int, Id]]:
    """Yield place and entry of each hit in the id_table, in table order.

    Raises Undecided when all hits of the known part were taken, and there may be more.
    """
    driver = inputs.driver
    table = table_of(driver.id_table or ())
    for place in table.hits(inputs.device):
        yield place, table.entries[place]
    if driver.table_state is not _COMPLETE and not table.terminated:
        raise Undecided(_REASONS[driver.table_state])


def first_static_hit(inputs: Inputs) -> tuple[int, Id] | None:
    """Return place and entry of the first hit in the id_table, None if there is none.

    Raises Undecided when the known part has none, and there may be more.
    """
    return next(static_hits(inputs), None)

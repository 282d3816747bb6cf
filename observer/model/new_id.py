"""What a write to new_id or remove_id answers, and what it leaves in the dynids.

The dynids are a list in the kernel that no file shows. Three sets of rules were in
force, told apart by what counts as a duplicate and what is looked at first.
"""

from __future__ import annotations

from itertools import takewhile
from typing import TYPE_CHECKING, Final, NamedTuple

from observer.model.hex_fields import U32, Overflow, scan
from observer.model.primitives import dynid_hit, static_hits
from observer.model.table import is_terminator
from observer.record import PCI_ANY_ID, Device, Driver, Id, Inputs

if TYPE_CHECKING:
    from collections.abc import Callable

PAGE_SIZE: Final = 4096  # sysfs hands no more of one write to the kernel
ALL_FIELDS: Final = 7
FEWEST_FIELDS: Final = 2

Dynids = tuple[Id, ...]
Errno = int | str  # 0, or a name such as "EEXIST"


class Written(NamedTuple):
    """The result of one write."""

    errno: Errno
    dynids: Dynids  # afterwards


class Candidate(NamedTuple):
    """An id that asks to be taken in."""

    entry: Id
    driver: Driver
    dynids: Dynids

    @property
    def narrow(self) -> Inputs:
        """The id as a device, whose ids have 16 bits: the kernel made one to ask."""
        vendor, device, subvendor, subdevice = (
            part & 0xFFFF for part in self.entry[:4]
        )
        return self._inputs(
            Device(vendor, device, subvendor, subdevice, self.entry.class_)
        )

    @property
    def wide(self) -> Inputs:
        """The id as it was written, in the place of a device."""
        return self._inputs(Device(*self.entry[:5]))

    def _inputs(self, device: Device) -> Inputs:
        return Inputs(device, self.driver, self.dynids)


class Rules(NamedTuple):
    """How a kernel takes in a new id."""

    check: Callable[[Candidate], Errno]  # of an id written in fewer than seven fields
    overflow: Overflow  # stable trees differ: they got the checks alone
    rule: str  # one sentence
    source: str


def new_id(
    text: str,
    driver: Driver,
    dynids: Dynids,
    rules: str,
    *,
    overflow: Overflow | None = None,
) -> Written:
    """Write `text` to the driver's new_id.

    Raises Undecided when it hangs on a part of the id_table that was not captured, and
    KeyError when there are no such rules.
    """
    check, usual_overflow, *_ = RULES[rules]
    if not text:  # the write gets no further than sysfs
        return Written(0, dynids)
    numbers = scan(text[:PAGE_SIZE], ALL_FIELDS, overflow or usual_overflow)
    if len(numbers) < FEWEST_FIELDS:
        return Written("EINVAL", dynids)
    entry = _entry(numbers)
    candidate = Candidate(entry, driver, dynids)
    errno = driver_data(candidate) if len(numbers) == ALL_FIELDS else check(candidate)
    return Written(errno, dynids if errno else (*dynids, entry))


def remove_id(
    text: str,
    dynids: Dynids,
    rules: str,
    *,
    overflow: Overflow | None = None,
) -> Written:
    """Write `text` to the driver's remove_id: the first dynid that fits goes.

    Here what was written is the pattern: fields left out fit anything, and the class
    is compared under the mask that was written. Raises KeyError as `new_id`.
    """
    usual_overflow = RULES[rules].overflow
    if not text:
        return Written(0, dynids)
    numbers = scan(text[:PAGE_SIZE], ALL_FIELDS - 1, overflow or usual_overflow)
    if len(numbers) < FEWEST_FIELDS:
        return Written("EINVAL", dynids)
    pattern = _entry(numbers)
    for place, dynid in enumerate(dynids):
        if _fits(dynid, pattern):
            return Written(0, dynids[:place] + dynids[place + 1 :])
    return Written("ENODEV", dynids)


def _entry(numbers: tuple[int, ...]) -> Id:
    """Cut all numbers but driver_data to 32 bits and fill in the rest."""
    return Id(*(number & U32 for number in numbers[:6]), *numbers[6:])


def _fits(dynid: Id, pattern: Id) -> bool:
    return (
        dynid[:2] == pattern[:2]  # PCI_ANY_ID is a number like others here
        and pattern.subvendor in (dynid.subvendor, PCI_ANY_ID)
        and pattern.subdevice in (dynid.subdevice, PCI_ANY_ID)
        and not (dynid.class_ ^ pattern.class_) & pattern.class_mask
    )


# Linux kernel commit 8895d3bcb8ba (in v3.16)
def linux_3_16(candidate: Candidate) -> Errno:
    """Refuse what the id_table has, then wrong driver_data; dynids may be doubled."""
    if any(True for _ in static_hits(candidate.narrow)):
        return "EEXIST"
    return driver_data(candidate)


# Linux kernel commit 3853f9123c18 (in v5.11)
def linux_5_11(candidate: Candidate) -> Errno:
    """Refuse what would match already, by dynid or id_table; then wrong driver_data."""
    inputs = candidate.narrow
    if dynid_hit(inputs) is not None or _in_table(inputs):
        return "EEXIST"
    return driver_data(candidate)


# Linux kernel commit 04fde70f782b (in v7.3)
def linux_7_3(candidate: Candidate) -> Errno:
    """Refuse what the id_table has, wrong driver_data, and what the dynids have."""
    inputs = candidate.wide
    if _in_table(inputs):
        return "EEXIST"
    errno = driver_data(candidate)
    if not errno and dynid_hit(inputs) is not None:
        return "EEXIST"
    return errno


def _in_table(inputs: Inputs) -> bool:
    return any(not entry.override_only for _, entry in static_hits(inputs))


def driver_data(candidate: Candidate) -> Errno:
    """Refuse driver_data that no entry of the id_table has; without a table, none."""
    id_table = candidate.driver.id_table
    known = takewhile(_counts, id_table or ())
    if any(entry.driver_data == candidate.entry.driver_data for entry in known):
        return 0
    list(static_hits(candidate.wide))  # Undecided unless the table is known to its end
    return 0 if id_table is None else "EINVAL"


def _counts(entry: Id) -> bool:
    return not is_terminator(entry)


RULES: dict[str, Rules] = {
    "linux-3.16": Rules(
        linux_3_16,
        Overflow.WRAP,
        "EEXIST where the id_table matches the id; then EINVAL where no entry has its "
        "driver_data. Dynids may be there twice.",
        "Linux v3.16 to v5.10, commit 8895d3bcb8ba",
    ),
    "linux-5.11": Rules(
        linux_5_11,
        Overflow.WRAP,
        "EEXIST where a dynid or the id_table, override_only entries aside, matches "
        "the id cut to 16 bits; then EINVAL where no entry has its driver_data.",
        "Linux v5.11 to v7.2, commit 3853f9123c18",
    ),
    "linux-7.3": Rules(
        linux_7_3,
        Overflow.SATURATE,
        "EEXIST where the id_table, override_only entries aside, matches the id; then "
        "EINVAL where no entry has its driver_data; then EEXIST where a dynid matches "
        "the id. All 32 bits count.",
        "Linux v7.3 and its stable backports, commit 04fde70f782b",
    ),
}

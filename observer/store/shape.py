"""What the store keeps, as plain values."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple

if TYPE_CHECKING:
    from observer.record import Device

FILE: Final = "history.sqlite"
DAY_NS: Final = 86_400_000_000_000
MIB: Final = 1 << 20

Document = dict[str, object]  # the JSON object of `audit --json`


class Moment(NamedTuple):
    """A time by both clocks."""

    ktime_ns: int  # CLOCK_MONOTONIC
    offset_ns: int  # Unix time minus CLOCK_MONOTONIC

    @property
    def unix_ns(self) -> int:
        """The time by the wall clock."""
        return self.ktime_ns + self.offset_ns


class Running(NamedTuple):
    """The boot that is observed."""

    boot_id: str  # of /proc/sys/kernel/random/boot_id
    release: str  # of the kernel
    machine: str
    layout: str
    semantics: str  # slug of the kernel's own
    new_id_rules: str  # slug
    version: str  # of the observer


class Boot(NamedTuple):
    """A boot that was observed; times of the first and the last row about it."""

    seq: int  # boots in the order in which they were observed
    boot_id: str
    release: str
    machine: str
    layout: str
    semantics: str
    new_id_rules: str
    version: str  # of the observer that saw it last
    first_unix_ns: int
    last_unix_ns: int
    first_ktime_ns: int  # CLOCK_MONOTONIC
    last_ktime_ns: int


class Kept(NamedTuple):
    """The picture of a boot."""

    boot_id: str
    release: str  # of the kernel
    unix_ns: int  # when it was taken
    document: Document


class Who(NamedTuple):
    """The process that did it."""

    comm: str
    tgid: int
    uid: int | None  # None: probes do not tell it


class Bound(NamedTuple):
    """What is kept of a device as long as it does not change."""

    address: str
    ids: Device
    driver: str | None  # None: no driver was bound
    driver_override: str | None  # None: not set


class Binding(NamedTuple):
    """A device from one change of driver or driver_override to the next."""

    boot: int  # Boot.seq
    bound: Bound
    since_ktime_ns: int  # CLOCK_MONOTONIC
    since_unix_ns: int
    until_ktime_ns: int | None  # None: it was so when that boot was last observed
    until_unix_ns: int | None
    seen: bool  # the change to it was; else it was found so by a look
    who: Who | None  # caused it; None: not seen


class KeptFinding(NamedTuple):
    """A finding from its begin to its end."""

    boot: int  # Boot.seq
    address: str
    also: tuple[str, ...]
    finding: str
    kind: str
    text: str
    cure: str
    begin_ktime_ns: int
    begin_unix_ns: int
    end_ktime_ns: int | None  # None: it stood when that boot was last observed
    end_unix_ns: int | None


class Limits(NamedTuple):
    """How much is kept."""

    age_ns: int = 30 * DAY_NS  # of decisions and probes, while the machine ran
    size_bytes: int = 256 * MIB  # of the file

    @classmethod
    def of(cls, *, days: int, mib: int) -> Limits:
        """Return the limits as an operator spells them."""
        return cls(days * DAY_NS, mib * MIB)


class Notice(NamedTuple):
    """What is to be told in the log."""

    event: str
    error: str


class Counts(NamedTuple):
    """What became of the decisions, probes and writes that the store was offered.

    At rest offered = written + refused + failed.
    """

    offered: int = 0
    written: int = 0
    refused: int = 0  # there was no room in the queue
    failed: int = 0  # the file could not be written
    up: bool = False  # what is offered now is kept
    degraded: bool = False  # it should be and can't
    size_bytes: int = 0  # of the file, as far as it is in use

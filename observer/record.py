"""What the observer knows about one decision, as plain values.

Everything here is immutable and free of I/O. Names are the kernel's
(``struct pci_device_id``, ``id_table``, ``dynids``, ``driver_override``).
"""

from __future__ import annotations

from enum import StrEnum
from typing import NamedTuple

PCI_ANY_ID = 0xFFFFFFFF


class Id(NamedTuple):
    """A ``struct pci_device_id``: an entry of an id_table, or a dynid."""

    vendor: int = 0
    device: int = 0
    subvendor: int = PCI_ANY_ID
    subdevice: int = PCI_ANY_ID
    class_: int = 0  # 24-bit class code
    class_mask: int = 0
    driver_data: int = 0
    override_only: int = 0  # the flag as the kernel stores it; a dynid has none


class Device(NamedTuple):
    """The ids of a device that take part in a match."""

    vendor: int  # 16 bits, as the next three
    device: int
    subvendor: int
    subdevice: int
    class_: int  # 24-bit class code


class TableState(StrEnum):
    """How much of a driver's id_table is known."""

    COMPLETE = "complete"  # up to its terminating entry; or there is no table
    TRUNCATED = "truncated"  # longer than the hooks carry
    UNREADABLE = "unreadable"  # the kernel could not be read somewhere in it
    UNKNOWN = "unknown"  # never received


class Driver(NamedTuple):
    """A driver from its registration to its unregistration."""

    number: int  # of the registration; two drivers never share one
    name: str
    id_table: tuple[Id, ...] | None  # without its terminator; None: no table
    table_state: TableState = TableState.COMPLETE
    has_probe: bool = True  # without a probe method a bind needs no match


class Inputs(NamedTuple):
    """All that a decision depends on. The outcome is not in here."""

    device: Device
    driver: Driver
    dynids: tuple[Id, ...] = ()
    dynids_complete: bool = True
    driver_override: str | None = None  # None: not set


class Source(StrEnum):
    """Where the id that ``pci_match_device`` returns comes from."""

    NONE = "none"  # it returned null
    STATIC = "static"
    DYNID = "dynid"
    OVERRIDE = "override"  # pci_device_id_any, the dummy
    UNKNOWN = "unknown"  # seen in the kernel only: none of the above
    HANG = "hang"  # of the model only: pci_match_device never returns


class Outcome(NamedTuple):
    """An answer, the kernel's or the model's."""

    match: Source
    # place in id_table or in the dynid list
    index: int | None = None  # type: ignore[assignment]


class Reason(StrEnum):
    """Why a decision could not be judged."""

    OVERRIDE_CHANGED = "override_changed"
    DYNIDS_CHANGED = "dynids_changed"
    DYNIDS_TRUNCATED = "dynids_truncated"
    TABLE_TRUNCATED = "table_truncated"
    TABLE_UNKNOWN = "table_unknown"
    READ_FAULT = "read_fault"
    GATE_UNKNOWN = "gate_unknown"  # the match may not have been asked for


class Task(NamedTuple):
    """The thread in which the hooked function ran."""

    pid: int  # the thread
    tgid: int  # the process
    comm: str
    cpu: int


class Seen(StrEnum):
    """Where an event was seen."""

    LIVE = "live"  # by the hooks
    BOOT = "boot"  # in the kernel's tracing ring, before the hooks were there
    # By a hook that tells less: of a match not by which id, of probes not all, nor
    # the match that belongs to each.
    FALLBACK = "fallback"


class Match(NamedTuple):
    """One decision: what it was made from and what the kernel answered."""

    ktime_ns: int  # CLOCK_MONOTONIC at the function's return
    task: Task
    address: str  # "0000:00:02.0"
    is_virtfn: bool
    inputs: Inputs
    outcome: Outcome
    doubts: tuple[Reason, ...] = ()  # what the hooks saw change or fail to read
    seen: Seen = Seen.LIVE
    # Those that repeat it are only counted, under this number; None: all come whole.
    digest: int | None = None


class Repeat(NamedTuple):
    """Decisions without a match that were made from the same as an earlier one.

    Of a driver, ids, an override and dynids that are alike; the device may be another.
    """

    digest: int  # of the earlier one
    count: int  # type: ignore[assignment]
    since_ns: int  # CLOCK_MONOTONIC: none is older
    ktime_ns: int  # ... or newer


class Path(StrEnum):
    """How a probe was reached."""

    DRIVER_PROBE_DEVICE = "driver_probe_device"
    DIRECT = "direct"  # __driver_probe_device called by a bind write


class ProbeResult(StrEnum):
    """What became of a probe."""

    BOUND = "bound"
    DEFERRED = "deferred"
    REFUSED = "refused"
    BUSY = "busy"
    GONE = "gone"


class Probe(NamedTuple):
    """One probe of a PCI device by a PCI driver."""

    ktime_ns: int  # CLOCK_MONOTONIC at the function's return
    duration_ns: int
    task: Task
    address: str
    driver: int  # the registration's number; 0: no match was seen before
    name: str  # the driver's
    has_probe: bool
    path: Path
    result: ProbeResult
    errno: str | None  # "EBUSY"; None: no error, or the kernel does not tell it
    seen: Seen = Seen.LIVE


class Unregister(NamedTuple):
    """A driver went away; its number will not be used again."""

    ktime_ns: int
    driver: int
    name: str


class StoreFile(StrEnum):
    """A file of sysfs whose writes change what is bound; a store function's name."""

    NEW_ID = "new_id"
    REMOVE_ID = "remove_id"
    DRIVER_OVERRIDE = "driver_override"
    BIND = "bind"
    UNBIND = "unbind"
    DRIVERS_PROBE = "drivers_probe"


class Write(NamedTuple):
    """One write to one of these files, of PCI: one return of its store function."""

    ktime_ns: int  # CLOCK_MONOTONIC at the function's return
    duration_ns: int
    task: Task  # who wrote
    uid: int
    file: StoreFile
    driver: str | None  # whose new_id, remove_id, bind or unbind; None: another file
    address: str | None  # whose driver_override; None: another file
    text: str  # what was written, as far as it is carried
    size: int  # bytes written; more than text has: the rest was not carried
    errno: str | None  # "EEXIST"; None: success


class Action(StrEnum):
    """What a uevent tells."""

    ADD = "add"
    REMOVE = "remove"
    BIND = "bind"
    UNBIND = "unbind"
    CHANGE = "change"  # of a device: something else, as a link that is new


class Uevent(NamedTuple):
    """The kernel tells that a PCI device or driver came, went, was bound or changed.

    Of a device: `address`, and `driver` where the message names it. Of a driver, which
    is added and removed only: `driver` alone.
    """

    ktime_ns: int  # CLOCK_MONOTONIC when it was received
    action: Action
    address: str | None
    driver: str | None


class LossStage(StrEnum):
    """Where events went missing."""

    RESERVE = "reserve"  # no room in the ring, at boot the kernel's: match decisions
    DECODE = "decode"  # bytes that are no record
    QUEUE = "queue"
    OTHER = "other"  # no room in the ring: driver, probe, unregister, write records
    UEVENT = "uevent"  # times that uevents were dropped; how many is not known
    MISSED = "missed"  # a hooked function returned unseen


class Loss(NamedTuple):
    """Events that were counted but can't be judged."""

    since_ns: int  # CLOCK_MONOTONIC: nothing of this loss is older
    ktime_ns: int  # ... or newer
    stage: LossStage
    count: int  # type: ignore[assignment]


Record = Driver | Match | Repeat | Probe | Unregister | Write | Uevent | Loss


class Indeterminate(NamedTuple):
    """The model can't answer from what was captured."""

    reason: Reason


Verdict = Outcome | Indeterminate


class Judgement(StrEnum):
    """Whether the kernel did what the model expects."""

    AGREE = "agree"
    DIVERGE = "diverge"
    INDETERMINATE = "indeterminate"


class Kind(StrEnum):
    """How the kernel's answer differs from the model's."""

    MATCHED_NOT_EXPECTED = "matched_not_expected"
    EXPECTED_NOT_MATCHED = "expected_not_matched"
    DIFFERENT_SOURCE = "different_source"
    DIFFERENT_ENTRY = "different_entry"
    PROBE_WITHOUT_MATCH = "probe_without_match"


class Judged(NamedTuple):
    """A match decision with its judgement; exactly one of kind, reason or none."""

    match: Match
    judgement: Judgement
    expected: Outcome | None  # None: indeterminate
    kind: Kind | None = None
    reason: Reason | None = None


class Repeated(NamedTuple):
    """What repeats a decision that was judged, and what that came to."""

    repeat: Repeat
    driver: str  # its name
    outcome: Outcome  # the kernel's
    judgement: Judgement
    kind: Kind | None
    reason: Reason | None
    seen: Seen


class Probed(NamedTuple):
    """A probe, and whether no match was seen before it although one must be."""

    probe: Probe
    kind: Kind | None = None


class Wrote(NamedTuple):
    """A write, and whether its errno is the one that the model expects."""

    write: Write
    judgement: Judgement
    expected: str | None  # errno's name, None: success; only where it was judged


Observation = Judged | Repeated | Probed | Wrote | Driver | Unregister | Uevent | Loss

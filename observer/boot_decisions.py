"""Calls that the tracing ring tells of to the decisions and probes that they are."""

from __future__ import annotations

import struct
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import TYPE_CHECKING, Final, NamedTuple

from observer.boot_args import DYNIDS, MATCH, PROBE
from observer.boot_calls import Call, calls
from observer.hooks import INNER_PROBE
from observer.probe_result import PROBE_RULES
from observer.record import (
    PCI_ANY_ID,
    Device,
    Driver,
    Id,
    Inputs,
    Match,
    Outcome,
    Path,
    Probe,
    Reason,
    Seen,
    Source,
    TableState,
    Task,
)

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from observer.boot_trace import TraceEvent
    from observer.layout import Layout

FOREVER_NS: Final = 1 << 64

# Numbers of drivers that are registered no more; smaller ones are of those that are,
# larger ones the hooks give.
_GONE: Final = 1 << 32
_LONGEST_TABLE: Final = 32767  # entries, as the hooks have it
_PCI: Final = "pci"


class Registration(NamedTuple):
    """A registered driver, and where its id_table is in the kernel."""

    driver: Driver
    id_table: int


class Known(NamedTuple):
    """What is known of the kernel at the end."""

    layout: Layout
    drivers: Mapping[int, Registration]  # by the address of struct pci_driver
    pci_device_id_any: int = 0  # address; 0: not known
    # Process by thread, as far as the kernel noted it.
    tgids: Mapping[int, int] = MappingProxyType({})


class Until(NamedTuple):
    """When hooks were attached; CLOCK_MONOTONIC."""

    match_from_ns: int = FOREVER_NS  # from then on they may see what begins
    match_ns: int = FOREVER_NS  # from then on they do
    probe_ns: int = FOREVER_NS


ALWAYS: Final = Until()


@dataclass
class Decisions:
    """What the events come to; all but `records` counts match decisions."""

    records: list[Match | Probe] = field(default_factory=list)  # by ktime_ns
    begun: int = 0  # entries that were read, but for the next two
    later: int = 0  # of these the hooks tell
    synthetic: int = 0  # of the fake device of a new_id write: no decisions
    probes_begun: int = 0  # of all buses
    probes_unended: int = 0  # of PCI


def decisions(
    events: Iterable[TraceEvent], known: Known, until: Until = ALWAYS
) -> Decisions:
    """Make records of the events of all CPUs, for what began before `until`.

    Raises TraceError when an event lacks a field.
    """
    found = Decisions()
    reading = _Reading(known)
    for call in calls(events):
        if call.entry.name == MATCH:
            if _counts(call.entry, found, until) and call.exit is not None:
                found.records.append(reading.match(call.entry, call.exit))
        elif call.entry.name == PROBE:
            found.probes_begun += 1
            is_pci = call.entry.text("bus") == _PCI
            if not is_pci or call.entry.ktime_ns > until.probe_ns:
                continue
            if call.exit is None:
                found.probes_unended += 1
            else:
                found.records.append(reading.probe(call, call.exit))
    return found


def _counts(entry: TraceEvent, found: Decisions, until: Until) -> bool:
    """Count a match that began; say whether it is a decision that is ours to tell."""
    if not entry.number("bus"):
        found.synthetic += 1
    elif entry.ktime_ns > until.match_ns:
        found.later += 1
    else:
        found.begun += 1
        return True
    return False


class _Reading:
    """Makes records, and remembers the drivers that are there no more."""

    def __init__(self, known: Known) -> None:
        self._known = known
        self._gone: dict[tuple[int, str | None, int], Driver] = {}

    def match(self, entry: TraceEvent, exit_: TraceEvent) -> Match:
        """Return the decision of a call of pci_match_device."""
        name, address = entry.text("name"), entry.text("addr")
        driver = self._driver(entry, exit_)
        dynids, complete = _dynids(entry, self._known.layout)
        outcome = self._outcome(entry, exit_, driver, dynids)
        override = entry.text("ov") if entry.values.get("ovp") else None
        doubts = []
        unread = bool(entry.values.get("ovp")) and override is None
        if unread or name is None or address is None:
            doubts.append(Reason.READ_FAULT)
        if outcome.match is Source.UNKNOWN and not complete:
            doubts.append(Reason.DYNIDS_TRUNCATED)
        mask = self._known.layout.offsets["DEV_IS_VIRTFN_MASK"]
        return Match(
            exit_.ktime_ns,
            self._task(entry, exit_),
            address or "",
            bool(entry.number("vf") & mask),
            Inputs(_device(entry), driver, dynids, complete, override),
            outcome,
            tuple(doubts),
            Seen.BOOT,
        )

    def probe(self, call: Call, exit_: TraceEvent) -> Probe:
        """Return the probe of a call that has ended."""
        entry, known = call.entry, self._known
        outer = call.outer or known.layout.probe_function != INNER_PROBE
        rule = PROBE_RULES[known.layout.probe_function]  # type: ignore[index]
        at = entry.number("drv") - known.layout.offsets["DRV_DRIVER"]
        name = entry.text("name")
        return Probe(
            exit_.ktime_ns,
            exit_.ktime_ns - entry.ktime_ns,
            self._task(entry, exit_),
            entry.text("addr") or "",
            self._number(at, name),
            name or "",
            bool(entry.number("probe")),
            Path.DRIVER_PROBE_DEVICE if outer else Path.DIRECT,
            *rule(exit_.number("ret")),
            Seen.BOOT,
        )

    def _task(self, entry: TraceEvent, exit_: TraceEvent) -> Task:
        tgid = self._known.tgids.get(entry.pid, entry.pid)
        return Task(entry.pid, tgid, entry.text("comm") or "", exit_.cpu)

    def _driver(self, entry: TraceEvent, exit_: TraceEvent) -> Driver:
        """Return the driver as it is known; one that went away had a table too."""
        at, name, id_table = (
            entry.number("drv"),
            entry.text("name"),
            entry.number("tbl"),
        )
        known = self._known.drivers.get(at)
        if known is not None and known.id_table == id_table:
            driver = known.driver
            if driver.name == name and _confirms(exit_, known, self._known.layout):
                return driver
        number = _GONE + len(self._gone)
        gone = Driver(number, name or "", None, TableState.UNKNOWN)
        return self._gone.setdefault((at, name, id_table), gone)

    def _number(self, at: int, name: str | None) -> int:
        """Return the number of the driver at this address, as its matches have it."""
        for (place, named, _), driver in self._gone.items():
            if (place, named) == (at, name):
                return driver.number
        known = self._known.drivers.get(at)
        return known.driver.number if known and known.driver.name == name else 0

    def _outcome(
        self,
        entry: TraceEvent,
        exit_: TraceEvent,
        driver: Driver,
        dynids: tuple[Id, ...],
    ) -> Outcome:
        """Tell where the returned id comes from, as bpf/match.bpf.c does."""
        ret, offsets = exit_.number("ret"), self._known.layout.offsets
        dummy, found = self._known.pci_device_id_any, _id(exit_.numbers("id"))
        if not ret:
            return Outcome(Source.NONE)
        if ret == dummy:
            return Outcome(Source.OVERRIDE)
        copied = ret == entry.values.get("copy")
        for place, dynid in enumerate(dynids):
            at = entry.number(f"n{place}") + offsets["DYNID_ID"]
            if dynid == found if copied else ret == at:
                return Outcome(Source.DYNID, place)
        static = _place(ret, entry.number("tbl"), driver, offsets["ID_SIZE"])
        if static is not None:
            return Outcome(Source.STATIC, static)
        is_dummy = not dummy and not copied and _is_any(found)
        return Outcome(Source.OVERRIDE if is_dummy else Source.UNKNOWN)


def _device(entry: TraceEvent) -> Device:
    return Device(
        *(entry.number(name) for name in ("ven", "did", "sven", "sdid", "cls"))
    )


def _dynids(entry: TraceEvent, layout: Layout) -> tuple[tuple[Id, ...], bool]:
    """Return the dynids that were fetched, and whether these are all."""
    head = entry.number("drv") + layout.offsets["DRV_DYNIDS"]
    found: list[Id] = []
    for place in range(DYNIDS):
        node = entry.number(f"n{place}")
        if node in (0, head):
            return tuple(found), node == head
        found.append(_id(entry.numbers(f"i{place}")))
    return tuple(found), entry.number(f"n{DYNIDS}") == head


def _id(words: tuple[int, ...]) -> Id:
    """Read the first 24 bytes of a struct pci_device_id."""
    return Id(*struct.unpack("<6I", struct.pack("<3Q", *words)))


def _is_any(entry: Id) -> bool:
    ids = (entry.vendor, entry.device, entry.subvendor, entry.subdevice)
    return set(ids) == {PCI_ANY_ID} and not entry.class_mask


def _place(ret: int, id_table: int, driver: Driver, size: int) -> int | None:
    """Return the place in the id_table at this address, if it lies there."""
    entries = _LONGEST_TABLE
    if driver.table_state is TableState.COMPLETE:
        entries = len(driver.id_table or ())
    place, rest = divmod(ret - id_table, size)
    return place if id_table and not rest and 0 <= place < entries else None


def _confirms(exit_: TraceEvent, known: Registration, layout: Layout) -> bool:
    """Tell whether a returned entry of the table is what is known to be there.

    Another module may have been at the same address before.
    """
    driver = known.driver
    place = _place(
        exit_.number("ret"), known.id_table, driver, layout.offsets["ID_SIZE"]
    )
    if place is None or place >= len(driver.id_table or ()):
        return True
    return (driver.id_table or ())[place][:6] == _id(exit_.numbers("id"))[:6]

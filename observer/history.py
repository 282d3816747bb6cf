"""What was bound under which kernel: `history [ADDRESS]`."""

from __future__ import annotations

from collections import defaultdict
from typing import TYPE_CHECKING, Final, NamedTuple

from observer.happenings import named, told_of
from observer.notation import device_object, record_object
from observer.record import Probe, StoreFile, Task, Write
from observer.terminal import counted
from observer.text import printable, quoted
from observer.tracking import named_address

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from observer.findings import Clock
    from observer.store import Archive, Binding, Boot, KeptFinding, Who

FORMAT: Final = "pci-observer-history"
VERSION: Final = 1

_COUNTED: Final = ("decisions", "probes", "writes", "findings")


class Event(NamedTuple):
    """A probe of the device or a write about it."""

    boot: int  # Boot.seq
    unix_ns: int
    event: Probe | Write


class History(NamedTuple):
    """All boots, and what was bound in them: one device or all."""

    address: str | None  # of the one device
    boots: tuple[Boot, ...]
    counts: Mapping[str, Mapping[int, int]]  # rows by table and Boot.seq
    pictures: Mapping[int, int]  # Unix time in ns of the one that is kept, by Boot.seq
    bindings: tuple[Binding, ...]  # oldest first, as the next two
    findings: tuple[KeptFinding, ...]
    events: tuple[Event, ...]  # of one device only


def read(archive: Archive, address: str | None) -> History:
    """Read the history of one device or of all. Raises StoreError."""
    return History(
        address,
        tuple(archive.boots()),
        {table: archive.counts(table) for table in _COUNTED},
        archive.pictures(),
        tuple(archive.bindings(address)),
        tuple(archive.findings(address)),
        () if address is None else tuple(_events(archive, address)),
    )


def _events(archive: Archive, address: str) -> Iterator[Event]:
    probes = (
        Event(boot, unix_ns, probed.probe)
        for boot, unix_ns, probed in archive.probes(address)
    )
    writes = (
        Event(boot, unix_ns, wrote.write)
        for boot, unix_ns, wrote in archive.writes()
        if address_of(wrote.write) == address
    )
    yield from sorted(
        (*probes, *writes), key=lambda each: (each.boot, each.event.ktime_ns)
    )


def address_of(write: Write) -> str | None:
    """Return the device that a write is about, if it is about one."""
    if write.file is StoreFile.DRIVER_OVERRIDE:
        return write.address
    if write.file in (StoreFile.NEW_ID, StoreFile.REMOVE_ID):
        return None
    return named_address(write.text)


def as_object(history: History) -> dict[str, object]:
    """Return the history for programs."""
    return {
        "format": FORMAT,
        "version": VERSION,
        "address": history.address,
        "boots": [_boot_object(history, boot) for boot in history.boots],
        "bindings": [*map(_binding_object, history.bindings)],
        "findings": [finding._asdict() for finding in history.findings],
        "events": [
            {"boot": boot, "unix_ns": unix_ns, **record_object(event)}
            for boot, unix_ns, event in history.events
        ],
    }


def _boot_object(history: History, boot: Boot) -> dict[str, object]:
    counts = {name: rows.get(boot.seq, 0) for name, rows in history.counts.items()}
    picture = {"picture_unix_ns": history.pictures.get(boot.seq)}
    return {**boot._asdict(), **counts, **picture}


def _binding_object(binding: Binding) -> dict[str, object]:
    fields = binding._asdict()
    address, ids, driver, driver_override = fields.pop("bound")
    return {
        "address": address,
        "ids": device_object(ids),
        "driver": driver,
        "driver_override": driver_override,
        **fields,
        "who": None if binding.who is None else binding.who._asdict(),
    }


def as_text(history: History, clock: Clock) -> Iterator[str]:
    """Yield lines for a terminal, the newest last; `clock` spells Unix times."""
    for boot in history.boots:
        yield _boot(history, boot, clock)
    of_device: defaultdict[str, list[Binding]] = defaultdict(list)
    for binding in history.bindings:
        of_device[binding.bound.address].append(binding)
    if not of_device:
        yield ""
        whose = "any device" if history.address is None else history.address
        yield f"Nothing is known of {whose}."
    for address, bindings in sorted(of_device.items()):
        yield ""
        yield _headline(address, bindings[-1])
        for boot in history.boots:
            yield from _of_boot(history, boot, bindings, clock)


def _boot(history: History, boot: Boot, clock: Clock) -> str:
    counts = ", ".join(
        _counted(rows.get(boot.seq, 0), table) for table, rows in history.counts.items()
    )
    return (
        f"boot {boot.seq}: Linux {printable(boot.release)}, "
        f"{clock(boot.first_unix_ns)} to {clock(boot.last_unix_ns)}, {counts}, "
        f"id {printable(boot.boot_id)}"
    )


def _counted(number: int, table: str) -> str:
    return counted(number, table.removesuffix("s"))


def _headline(address: str, binding: Binding) -> str:
    ids = binding.bound.ids
    named = f"{ids.vendor:04x}:{ids.device:04x}, class {ids.class_:06x}"
    return f"{printable(address)} ({named})"


class _Line(NamedTuple):
    """A line of a device's past in one boot."""

    ktime_ns: int
    unix_ns: int
    text: str


def _of_boot(
    history: History, boot: Boot, bindings: Iterable[Binding], clock: Clock
) -> Iterator[str]:
    lines = [*_bound([each for each in bindings if each.boot == boot.seq])]
    if history.address is not None:
        lines += _happened(each for each in history.events if each.boot == boot.seq)
        lines += _found(each for each in history.findings if each.boot == boot.seq)
    if lines:
        yield f"  boot {boot.seq}, Linux {printable(boot.release)}:"
    for line in sorted(lines, key=lambda line: line.ktime_ns):
        yield f"    {clock(line.unix_ns)}  {line.text}"


def _bound(bindings: list[Binding]) -> Iterator[_Line]:
    """Tell what was bound, and where the device was gone afterwards."""
    begins = [each.since_ktime_ns for each in bindings[1:]]
    for each, next_ns in zip(bindings, [*begins, None], strict=False):
        yield _Line(each.since_ktime_ns, each.since_unix_ns, _binding(each))
        until_ns, until_unix_ns = each.until_ktime_ns, each.until_unix_ns
        if until_ns is not None and until_unix_ns is not None and until_ns != next_ns:
            yield _Line(until_ns, until_unix_ns, "the device is gone")


def _binding(binding: Binding) -> str:
    driver, override = binding.bound.driver, binding.bound.driver_override
    text = "no driver" if driver is None else f"driver {quoted(driver)}"
    if override is not None:
        text += f", driver_override {quoted(override)}"
    if not binding.seen:
        return f"{text}; found so"
    return text if binding.who is None else f"{text}; by {_named(binding.who)}"


def _named(who: Who) -> str:
    return named(Task(who.tgid, who.tgid, who.comm, 0), who.uid)


def _happened(events: Iterable[Event]) -> Iterator[_Line]:
    for _, unix_ns, event in events:
        for happened in told_of([event]):
            earlier_ns = event.ktime_ns - happened.ktime_ns
            yield _Line(happened.ktime_ns, unix_ns - earlier_ns, happened.text)


def _found(findings: Iterable[KeptFinding]) -> Iterator[_Line]:
    for each in findings:
        told = f"{printable(each.finding)}: {printable(each.text)}"
        yield _Line(each.begin_ktime_ns, each.begin_unix_ns, told)
        if each.end_ktime_ns is not None and each.end_unix_ns is not None:
            over = f"{printable(each.finding)} is over"
            yield _Line(each.end_ktime_ns, each.end_unix_ns, over)

"""Two pictures compared, for a person and for programs: `diff A B`."""

from __future__ import annotations

from itertools import groupby
from typing import TYPE_CHECKING, Final, NamedTuple

from observer.difference import difference
from observer.findings.picture import unix_time
from observer.fingerprint import fingerprint
from observer.terminal import counted, wrapped
from observer.text import printable, quoted

if TYPE_CHECKING:
    from collections.abc import Iterator

    from observer.change import Change
    from observer.findings import Clock
    from observer.pictured import Pictured, PicturedDevice

FORMAT: Final = "pci-observer-diff"
VERSION: Final = 1


class Side(NamedTuple):
    """One of both pictures."""

    name: str  # as who asked calls it
    picture: Pictured


class Comparison(NamedTuple):
    """Two pictures and what changed from one to the other."""

    before: Side
    after: Side
    changes: tuple[Change, ...]


def compare(before: Side, after: Side) -> Comparison:
    """Compare two pictures, of one machine or of two."""
    return Comparison(before, after, difference(before.picture, after.picture))


def as_object(compared: Comparison) -> dict[str, object]:
    """Return the comparison for programs."""
    return {
        "format": FORMAT,
        "version": VERSION,
        "before": side_object(compared.before),
        "after": side_object(compared.after),
        "changes": [change._asdict() for change in compared.changes],
    }


def side_object(side: Side) -> dict[str, object]:
    """Return what a picture is, without its devices."""
    picture = side.picture
    return {
        "name": side.name,
        "release": picture.release,
        "layout": picture.layout,
        "semantics": picture.semantics,
        "new_id_rules": picture.new_id_rules,
        "judged_by": picture.judged_by,
        "unix_ns": picture.unix_ns,
        "devices": len(picture.devices),
        "bound": bound(picture),
        "fingerprint": fingerprint(picture.devices.values()),
    }


def bound(picture: Pictured) -> int:
    """Count the devices with a driver."""
    return sum(each.driver is not None for each in picture.devices.values())


def as_text(compared: Comparison, clock: Clock = unix_time) -> Iterator[str]:
    """Yield lines for a terminal: both pictures, then what changed by device.

    `clock` spells Unix times.
    """
    yield f"before  {described(compared.before, clock)}"
    yield f"after   {described(compared.after, clock)}"
    yield from _headers(compared.before.picture, compared.after.picture)
    if not compared.changes:
        yield "No difference."
        return
    yield from change_lines(compared)
    yield ""
    yield counted(len(compared.changes), "difference") + "."


def described(side: Side, clock: Clock) -> str:
    """Say in a line what a picture is."""
    picture = side.picture
    return (
        f"{printable(side.name)}: Linux {printable(picture.release)}, "
        f"{clock(picture.unix_ns)}, {counted(len(picture.devices), 'device')}, "
        f"{bound(picture)} bound, {fingerprint(picture.devices.values())}"
    )


def change_lines(compared: Comparison) -> Iterator[str]:
    """Yield a heading for each device or driver, and what changed of it."""
    for _key, group in groupby(compared.changes, key=_about):
        changes = [*group]
        yield ""
        yield _heading(compared, changes[0])
        for change in changes:
            because = f"; {change.cause}" if change.cause else ""
            yield from wrapped(f"    {change}{because}", " " * 8)


def _about(change: Change) -> tuple[str | None, str | None, str | None]:
    return change.address, change.address_before, change.driver


def _heading(compared: Comparison, change: Change) -> str:
    if change.driver is not None:
        return f"driver {quoted(change.driver)}"
    devices = compared.after.picture.devices
    if change.address is None:
        devices = compared.before.picture.devices
    return f"{printable(change.subject)} ({_named(devices[change.subject])})"


def _named(device: PicturedDevice) -> str:
    ids = device.ids
    return f"{ids.vendor:04x}:{ids.device:04x}, class {ids.class_:06x}"


def _headers(before: Pictured, after: Pictured) -> Iterator[str]:
    """Say what is otherwise around the devices; it is no difference of bindings."""
    for name in ("layout", "semantics", "new_id_rules", "judged_by"):
        old, new = getattr(before, name), getattr(after, name)
        if old != new:
            yield f"{name}: {printable(old)} -> {printable(new)}"

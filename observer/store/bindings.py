"""What is bound in one boot, from change to change, within a transaction."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from observer.findings import Actor
from observer.findings.past import past_of
from observer.store.rows import cell, insert, text_of, text_or_null
from observer.store.shape import Moment

if TYPE_CHECKING:
    from observer.findings.past import Past
    from observer.machine import Machine, PciDevice
    from observer.store.database import Connection
    from observer.store.rows import Cell


class _Open(NamedTuple):
    """A row of a device as it is now, as far as the file knows."""

    id: int
    since_ns: int
    ids: tuple[int, ...]
    driver: str | None
    driver_override: str | None

    def is_of(self, device: PciDevice) -> bool:
        """Tell whether nothing changed since."""
        now = (tuple(device.ids), device.driver, device.driver_override)
        return now == (self.ids, self.driver, self.driver_override)


class _Change(NamedTuple):
    """When a device came to be bound as it is, and by whom."""

    at: Moment
    seen: bool
    actor: Actor | None


def enter_bindings(connection: Connection, boot: int, machine: Machine) -> None:
    """Bring the open rows of the boot in line with the machine."""
    rows = _open_bindings(connection, boot)
    for address, device in machine.devices.items():
        before = rows.pop(address, None)
        if before is not None and before.is_of(device):
            continue
        change = _change(machine, device, before)
        if before is not None:
            _end_binding(connection, before, change.at)
        _begin_binding(connection, boot, device, change)
    now = Moment(machine.now_ns, machine.realtime_offset_ns)
    for gone in rows.values():
        _end_binding(connection, gone, now)


def _open_bindings(connection: Connection, boot: int) -> dict[str, _Open]:
    query = (
        "SELECT address, id, since_ktime_ns, vendor, device, subvendor, subdevice, "
        "class, driver, driver_override FROM bindings "
        "WHERE boot = ? AND until_ktime_ns IS NULL"
    )
    return {
        text_of(address): _Open(
            number, since_ns, tuple(ids), text_or_null(driver), text_or_null(override)
        )
        for address, number, since_ns, *ids, driver, override in connection.execute(
            query, (boot,)
        )
    }


def _change(machine: Machine, device: PciDevice, before: _Open | None) -> _Change:
    """Tell it from the device's events, as far as they were seen.

    One from before the row that it would end explains another change.
    """
    past = past_of(machine.device_events.get(device.address, ()))
    at_ns, actor = _cause(past, device, before)
    offset_ns = machine.realtime_offset_ns
    if at_ns is None or (before is not None and at_ns < before.since_ns):
        return _Change(Moment(machine.now_ns, offset_ns), False, None)
    return _Change(Moment(at_ns, offset_ns), True, actor)


def _cause(
    past: Past, device: PciDevice, before: _Open | None
) -> tuple[int | None, Actor | None]:
    if before is not None and before.driver == device.driver:
        write = past.override
        if write is None:
            return None, None
        return write.ktime_ns, Actor(write.task, write.uid)
    if device.driver is None:
        return past.unbound_ns, past.unbinder
    if past.driver != device.driver:
        return None, None
    return past.bound_ns, past.binder


def _begin_binding(
    connection: Connection, boot: int, device: PciDevice, change: _Change
) -> None:
    connection.execute(
        insert("bindings", 18),
        (
            *(None, boot, cell(device.address), *device.ids),
            *(cell(device.driver), cell(device.driver_override)),
            *(change.at.ktime_ns, change.at.unix_ns, None, None),
            *(int(change.seen), *_who(change.actor)),
        ),
    )


def _who(actor: Actor | None) -> tuple[Cell, ...]:
    """Return comm, tgid and uid."""
    if actor is None:
        return None, None, None
    return cell(actor.task.comm), actor.task.tgid, actor.uid


def _end_binding(connection: Connection, row: _Open, at: Moment) -> None:
    connection.execute(
        "UPDATE bindings SET until_ktime_ns = ?, until_unix_ns = ? WHERE id = ?",
        (at.ktime_ns, at.unix_ns, row.id),
    )

"""What is written to the tables, within a transaction of the caller's."""

from __future__ import annotations

from collections import OrderedDict
from typing import TYPE_CHECKING, Final, NamedTuple

from observer.findings import Actor
from observer.findings.past import past_of
from observer.record import Judged, Probed, Wrote
from observer.standing import key_of
from observer.store.rows import (
    cell,
    decision_row,
    driver_row,
    probe_row,
    signed,
    text_of,
    text_or_null,
    write_row,
)
from observer.store.shape import Moment

if TYPE_CHECKING:
    from collections.abc import Iterable

    from observer.findings import Finding
    from observer.findings.past import Past
    from observer.machine import Machine, PciDevice
    from observer.record import Driver, Observation
    from observer.store.database import Connection
    from observer.store.rows import Cell
    from observer.store.shape import Running

DRIVERS: Final = 512  # whose rows are remembered


def _insert(table: str, cells: int) -> str:
    places = ", ".join("?" * cells)
    return f"INSERT INTO {table} VALUES ({places})"  # noqa: S608 - names of ours


_DECISION: Final = _insert("decisions", 27)
_PROBE: Final = _insert("probes", 17)
_WRITE: Final = _insert("writes", 18)


def enter_boot(connection: Connection, running: Running, now: Moment) -> int:
    """Return the number of the boot, a new one where it was not seen before."""
    texts = tuple(map(cell, running))
    found = connection.execute(
        "SELECT boot FROM boots WHERE boot_id = ?", texts[:1]
    ).fetchone()
    if found is not None:
        connection.execute(
            "UPDATE boots SET release = ?, machine = ?, layout = ?, semantics = ?, "
            "new_id_rules = ?, version = ? WHERE boot = ?",
            (*texts[1:], *found),
        )
        touch_boot(connection, found[0], now)
        return int(found[0])
    times = (now.unix_ns, now.unix_ns, now.ktime_ns, now.ktime_ns)
    made = connection.execute(_insert("boots", 12), (None, *texts, *times))
    return int(made.lastrowid or 0)


def touch_boot(connection: Connection, boot: int, now: Moment) -> None:
    """Note that the boot was observed now."""
    connection.execute(
        "UPDATE boots SET last_unix_ns = ?, last_ktime_ns = ? WHERE boot = ?",
        (now.unix_ns, now.ktime_ns, boot),
    )


class Journal:
    """Appends decisions, probes and writes of one boot."""

    def __init__(self, connection: Connection, boot: int) -> None:
        """Append to this boot."""
        self._connection = connection
        self._execute = connection.cursor().execute
        self._boot = boot
        # By number: the driver as it is known, and the id of its row.
        self._drivers: OrderedDict[int, tuple[Driver, int]] = OrderedDict()
        (last,) = connection.execute(
            "SELECT max(coalesce((SELECT max(id) FROM decisions), 0), "
            "coalesce((SELECT max(decision) FROM drivers), 0))"
        ).fetchone()
        self._decision = int(last)  # id of the last one, which may be deleted

    def forget_drivers(self) -> None:
        """Look their rows up again: some were deleted."""
        self._drivers.clear()

    def append(self, observations: Iterable[Observation], offset_ns: int) -> int:
        """Append what is a row of one of the tables; return how many were.

        Row by row: as a list they would take more memory than what they are made of.
        """
        rows = 0
        used: dict[int, int] = {}
        for seen in observations:
            if isinstance(seen, Judged):
                self._decision += 1
                driver = self._driver(seen.match.inputs.driver)
                used[driver] = self._decision
                unix_ns = _unix(seen.match.ktime_ns, offset_ns)
                place = (self._decision, self._boot, unix_ns)
                self._execute(_DECISION, (*place, *decision_row(seen, driver)))
            elif isinstance(seen, Probed):
                unix_ns = _unix(seen.probe.ktime_ns, offset_ns)
                self._execute(_PROBE, (None, self._boot, unix_ns, *probe_row(seen)))
            elif isinstance(seen, Wrote):
                unix_ns = _unix(seen.write.ktime_ns, offset_ns)
                self._execute(_WRITE, (None, self._boot, unix_ns, *write_row(seen)))
            else:
                continue
            rows += 1
        self._connection.executemany(
            "UPDATE drivers SET decision = ? WHERE id = ?",
            [(decision, driver) for driver, decision in used.items()],
        )
        return rows

    def _driver(self, driver: Driver) -> int:
        """Return the id of a driver's row, which is made where there is none."""
        known = self._drivers.get(driver.number)
        if known is not None and (known[0] is driver or known[0] == driver):
            return known[1]
        row = driver_row(driver)
        found = self._connection.execute(
            "SELECT id FROM drivers WHERE boot = ? AND number = ? AND name = ? "
            "AND table_state = ? AND has_probe = ? AND id_table IS ?",
            (self._boot, *row),
        ).fetchone()
        if found is None:
            made = self._connection.execute(
                _insert("drivers", 8), (None, self._boot, self._decision, *row)
            )
            found = (made.lastrowid or 0,)
        self._drivers[driver.number] = (driver, found[0])
        if len(self._drivers) > DRIVERS:
            self._drivers.popitem(last=False)
        return int(found[0])


def _unix(ktime_ns: int, offset_ns: int) -> int:
    return signed((ktime_ns + offset_ns) % (1 << 64))


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
        _insert("bindings", 18),
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


def enter_findings(
    connection: Connection, boot: int, standing: Iterable[Finding], now: Moment
) -> None:
    """Bring the open rows of the boot in line with the findings that stand."""
    there = {
        tuple(map(text_of, key)): number
        for number, *key in connection.execute(
            "SELECT id, address, finding, kind, which FROM findings "
            "WHERE boot = ? AND end_ktime_ns IS NULL",
            (boot,),
        )
    }
    for finding in standing:
        if there.pop(tuple(map(str, key_of(finding))), None) is None:
            _begin_finding(connection, boot, finding, now)
    connection.executemany(
        "UPDATE findings SET end_ktime_ns = ?, end_unix_ns = ? WHERE id = ?",
        [(now.ktime_ns, now.unix_ns, number) for number in there.values()],
    )


def _begin_finding(
    connection: Connection, boot: int, finding: Finding, now: Moment
) -> None:
    address, name, kind, which = key_of(finding)
    connection.execute(
        _insert("findings", 13),
        (
            *(None, boot, cell(address), cell(" ".join(finding.also))),
            *(str(name), str(kind), cell(which), cell(finding.text)),
            *(cell(finding.cure), now.ktime_ns, now.unix_ns, None, None),
        ),
    )


def enter_picture(
    connection: Connection, boot: int, document: bytes, unix_ns: int
) -> None:
    """Keep the good picture of the boot instead of the one before.

    It becomes the baseline where there is none, or one of the same kernel.
    """
    connection.execute(
        "INSERT OR REPLACE INTO pictures VALUES (?, ?, ?)",
        (boot, unix_ns, document),
    )
    connection.execute(
        f"{_BASELINE_OF_BOOT} AND NOT EXISTS "  # noqa: S608 - a constant
        "(SELECT 1 FROM baseline WHERE baseline.release != boots.release)",
        (boot,),
    )


def accept_picture(connection: Connection, boot: int) -> None:
    """Make the good picture of the boot the baseline, if there is one."""
    connection.execute(_BASELINE_OF_BOOT, (boot,))


_BASELINE_OF_BOOT: Final = (
    "INSERT OR REPLACE INTO baseline "
    "SELECT 1, boot_id, release, pictures.unix_ns, document "
    "FROM pictures JOIN boots USING (boot) WHERE boot = ?"
)

"""Decisions, probes and writes of one boot, appended within a transaction."""

from __future__ import annotations

from collections import OrderedDict
from typing import TYPE_CHECKING, Final

from observer.record import Judged, Probed, Wrote
from observer.store.rows import (
    decision_row,
    driver_row,
    insert,
    probe_row,
    signed,
    write_row,
)

if TYPE_CHECKING:
    from collections.abc import Iterable

    from observer.record import Driver, Observation
    from observer.store.database import Connection

DRIVERS: Final = 512  # whose rows are remembered

_DECISION: Final = insert("decisions", 28)
_PROBE: Final = insert("probes", 18)
_WRITE: Final = insert("writes", 18)


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
                insert("drivers", 8), (None, self._boot, self._decision, *row)
            )
            found = (made.lastrowid or 0,)
        self._drivers[driver.number] = (driver, found[0])
        if len(self._drivers) > DRIVERS:
            self._drivers.popitem(last=False)
        return int(found[0])


def _unix(ktime_ns: int, offset_ns: int) -> int:
    return signed((ktime_ns + offset_ns) % (1 << 64))

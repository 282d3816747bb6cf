"""The drivers of one ring by number, put together from pieces of their tables."""

from __future__ import annotations

from typing import NamedTuple

from observer.abi import END_FAULT, END_MORE, END_NULL, END_SENTINEL, END_TRUNCATED
from observer.record import Driver, Id, TableState

_COMPLETE = TableState.COMPLETE
_UNKNOWN = TableState.UNKNOWN
_STATES = {
    END_MORE: _UNKNOWN,
    END_SENTINEL: _COMPLETE,
    END_NULL: _COMPLETE,
    END_FAULT: TableState.UNREADABLE,
    END_TRUNCATED: TableState.TRUNCATED,
}


class Piece(NamedTuple):
    """One record about a driver: its name and some entries of its id_table."""

    number: int  # of the registration
    name: str
    has_probe: bool
    first: int  # place of entries[0] in id_table
    entries: tuple[Id, ...]  # at least one when END_MORE
    end: int  # enum rec_end


class Drivers:
    """What is known of each driver.

    Pieces may come in any order and twice: two CPUs that see a driver for the first
    time both send its table.
    """

    def __init__(self) -> None:
        """Know no driver."""
        self._drivers: dict[int, Driver] = {}
        self._pieces: dict[int, dict[int, Piece]] = {}  # by number, by first

    def add(self, piece: Piece) -> Driver | None:
        """Take a piece; return its driver when this makes more of it known.

        None while a part of the table is still to come.
        """
        known = self._drivers.get(piece.number)
        if known is not None and known.table_state is _COMPLETE:
            return None
        pieces = self._pieces.setdefault(piece.number, {})
        pieces[piece.first] = piece
        driver = _assembled(piece, pieces)
        self.learn(driver)
        if driver.table_state is _COMPLETE:
            del self._pieces[piece.number]
        return None if driver.table_state is _UNKNOWN or driver == known else driver

    def learn(self, driver: Driver) -> None:
        """Know `driver` from now on."""
        self._drivers[driver.number] = driver

    def find(self, number: int, name: str) -> Driver:
        """Return the driver with this number, as far as it is known.

        A name that is not the one of first sight means that a registration was missed;
        an empty one that it could not be read.
        """
        driver = self._drivers.get(number)
        if driver is not None and (driver.name == name or not name):
            return driver
        return Driver(number, name, None, _UNKNOWN)

    def forget(self, number: int) -> None:
        """Drop a driver that was unregistered."""
        self._drivers.pop(number, None)
        self._pieces.pop(number, None)


def _assembled(piece: Piece, pieces: dict[int, Piece]) -> Driver:
    """Return the driver with all entries from the first on that follow each other."""
    entries: list[Id] = []
    end = END_MORE
    while end == END_MORE and (step := pieces.get(len(entries))) is not None:
        entries += step.entries
        end = step.end
    table = None if end == END_NULL else tuple(entries)
    return Driver(piece.number, piece.name, table, _STATES[end], piece.has_probe)

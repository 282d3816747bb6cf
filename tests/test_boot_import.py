"""observer/boot_import.py: counts that balance, and failures that end nothing."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from ring_calls import DRIVER, TABLE, match, probe
from shapes import layouts

from observer.boot_coverage import NOT_RECORDED, Coverage
from observer.boot_decisions import Until
from observer.boot_import import Imported, take
from observer.bus import Place
from observer.machine import Origin, PciDriver
from observer.record import Driver, Id, Match, TableState
from observer.registered import NOT_TAKEN, Inventory
from observer.tracefs import Recorded, TracefsError

if TYPE_CHECKING:
    from observer.boot_trace import TraceEvent
    from observer.layout import Layout

D: Final = layouts()["D"]
E1000: Final = Driver(0, "e1000", (Id(0x8086, 0x100E),))
INVENTORY: Final = Inventory(
    (PciDriver(E1000, Origin.KERNEL_MEMORY, (), "e1000"),),
    order_known=True,
    places=(Place(DRIVER, 0x77, TABLE),),
)
NUMBERS: Final = {"e1000": 3}


def imported(
    events: list[TraceEvent],
    *,
    hits: dict[str, int] | None = None,
    inventory: Inventory = INVENTORY,
    until: Until | None = None,
) -> Imported:
    """Import these events."""
    counted = hits or {name: _count(events, name) for name in ("m", "d")}
    recorded = Recorded(events, counted, {})
    return take(
        *(D, inventory, NUMBERS, until or Until()), record=lambda _layout: recorded
    )


def _count(events: list[TraceEvent], name: str) -> int:
    return sum(event.name == name for event in events)


def test_nothing_recorded() -> None:
    """That is nothing to speak of."""
    found = take(D, INVENTORY, NUMBERS, Until(), record=lambda _layout: None)
    assert Imported(NOT_RECORDED, []) == found


def test_whole() -> None:
    """All that was recorded came through."""
    events = [*match(D), *probe(D, 0)]
    found = imported(events)
    hooked_ns = Until().match_from_ns
    assert Coverage("", 1000, hooked_ns, 1500, 1, 1, 1) == found.coverage
    assert ["Match", "Probe"] == [type(record).__name__ for record in found.records]


def test_drivers_have_the_hooks_numbers() -> None:
    """And the tables of the inventory, of the driver that was at this address."""
    (record,) = imported(match(D)).records
    assert isinstance(record, Match)
    assert E1000._replace(number=3) == record.inputs.driver


def test_without_kernel_memory() -> None:
    """No driver's address is known then, so no table is."""
    (record,) = imported(match(D), inventory=NOT_TAKEN).records
    assert isinstance(record, Match)
    assert TableState.UNKNOWN is record.inputs.driver.table_state


def test_what_went_missing() -> None:
    """By the kernel's hits: entries that had no room, and calls that did not end."""
    events = [*match(D), match(D)[0], *probe(D, 0), probe(D, 0)[0]]
    found = imported(events, hits={"m": 7, "d": 4}).coverage
    assert (7, 2, 1) == (found.emitted, found.received, found.decoded)
    assert 3 == found.probes_lost


def test_what_is_none_of_ours() -> None:
    """The fake device and what the hooks tell are in no count."""
    events = [*match(D), *match(D, bus=0), *match(D, ktime_ns=2001)]
    found = imported(events, until=Until(1500, 2000, 2000)).coverage
    assert (1, 1, 1, 1) == found[4:8]
    assert 1500 == found.hooked_ns


def test_refused() -> None:
    """The sentence goes on, fit to be printed."""

    def refuse(_layout: Layout) -> Recorded:
        raise TracefsError("not today\x1b")

    found = take(D, INVENTORY, NUMBERS, Until(), record=refuse)
    assert Imported(Coverage(problem="not today\\x1b"), []) == found


def test_not_understood() -> None:
    """An event that lacks what it must have ends the import, and nothing else."""
    event = match(D)[0]
    found = imported([event._replace(values={"sp": 1, "drv": 1, "dev": 1})])
    assert Imported(Coverage(problem="the event m has no number bus"), []) == found

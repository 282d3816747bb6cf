"""Take over what the kernel recorded at boot: the loader's part, as root."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from observer import boot_args, tracefs
from observer.boot_coverage import NOT_RECORDED, Coverage
from observer.boot_decisions import Known, Registration, decisions
from observer.boot_trace import TraceError
from observer.record import Match
from observer.text import printable
from observer.tracefs import TracefsError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from observer.boot_decisions import Decisions, Until
    from observer.layout import Layout
    from observer.record import Probe
    from observer.registered import Inventory
    from observer.tracefs import Recorded


class Imported(NamedTuple):
    """What was recorded, and how much of it came through."""

    coverage: Coverage
    records: list[Match | Probe]


def take(
    layout: Layout,
    inventory: Inventory,
    numbers: Mapping[str, int],
    until: Until,
    *,
    pci_device_id_any: int = 0,
    record: Callable[[Layout], Recorded | None] = tracefs.take,
) -> Imported:
    """Stop the recording at boot, if there is one, and make records of it.

    `numbers` are those of the drivers' registrations, by name. It must come after the
    hooks, so that nothing falls between, and after the inventory.
    """
    try:
        recorded = record(layout)
        if recorded is None:
            return Imported(NOT_RECORDED, [])
        drivers = _registrations(inventory, numbers)
        known = Known(layout, drivers, pci_device_id_any, recorded.tgids)
        found = decisions(recorded.events, known, until)
    except (TracefsError, TraceError) as e:
        return Imported(Coverage(problem=printable(str(e))), [])
    return Imported(_coverage(recorded, found, until), found.records)


def _registrations(
    inventory: Inventory, numbers: Mapping[str, int]
) -> dict[int, Registration]:
    named = zip(inventory.drivers, inventory.places, strict=False)
    return {
        place.at: Registration(
            known.driver._replace(number=numbers[known.driver.name]), place.id_table
        )
        for known, place in named
        if known.driver.name in numbers
    }


def _coverage(recorded: Recorded, found: Decisions, until: Until) -> Coverage:
    """Count by the kernel's own hits, which tell also what the ring had no room for."""
    hits = recorded.hits.get
    probes = hits(boot_args.PROBE, 0) - found.probes_begun
    return Coverage(
        since_ns=min((event.ktime_ns for event in recorded.events), default=None),
        hooked_ns=until.match_from_ns,
        last_ns=max((record.ktime_ns for record in found.records), default=0),
        emitted=hits(boot_args.MATCH, 0) - found.synthetic - found.later,
        received=found.begun,
        decoded=sum(isinstance(record, Match) for record in found.records),
        synthetic=found.synthetic,
        probes_lost=max(0, probes) + found.probes_unended,
    )

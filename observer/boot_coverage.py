"""What is known of the time before the hooks were there, on its way to the daemon."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple

from observer.drivers import Drivers
from observer.fields import Fields
from observer.notation import read_record, record_object
from observer.record import Loss, LossStage, Match, Probe

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from observer.record import Record

TWIN_NS: Final = 1_000_000  # between the times of one return, told by two
_U64: Final = 0xFFFFFFFFFFFFFFFF


class Coverage(NamedTuple):
    """How much of the boot was recorded; counts are of match decisions."""

    problem: str = ""  # a sentence: it should have been, and was not
    since_ns: int | None = None  # CLOCK_MONOTONIC of the first event; None: nothing
    hooked_ns: int = 0  # from then on the hooks may have seen the same
    last_ns: int = 0  # of the last record
    emitted: int = 0  # that the kernel made
    received: int = 0  # of these, in the ring
    decoded: int = 0  # of these, understood
    synthetic: int = 0  # of new_id's fake device, not in the other counts
    probes_lost: int = 0

    def without_one(self) -> Coverage:
        """Leave out a decision that the hooks saw as well."""
        return self._replace(
            emitted=self.emitted - 1,
            received=self.received - 1,
            decoded=self.decoded - 1,
        )

    def losses(self, now_ns: int) -> Iterator[Loss]:
        """Yield what went missing."""
        for stage, count in (
            (LossStage.RESERVE, self.emitted - self.decoded),
            (LossStage.OTHER, self.probes_lost),
        ):
            if count > 0:
                yield Loss(0, now_ns, stage, count)


NOT_RECORDED: Final = Coverage()


def objects(
    coverage: Coverage, records: Iterable[Match | Probe]
) -> Iterator[dict[str, object]]:
    """Yield it all as JSON objects: the coverage, then each driver before its match."""
    yield coverage._asdict()
    known = Drivers()
    for record in records:
        if isinstance(record, Match):
            driver = record.inputs.driver
            if driver != known.find(driver.number, driver.name):
                known.learn(driver)
                yield record_object(driver)
        yield record_object(record)


def read_coverage(value: object) -> Coverage:
    """Read the first of the objects. Raises FieldError."""
    fields = Fields(value, "coverage")
    unseen = fields.value("since_ns") is None
    numbers = {
        name: fields.integer(name, _U64)
        for name in Coverage._fields
        if name not in {"problem", "since_ns"}
    }
    since_ns = None if unseen else fields.integer("since_ns", _U64)
    return Coverage(fields.text("problem"), since_ns, **numbers)


def read_records(values: Iterable[object]) -> Iterator[Record]:
    """Yield the matches and probes of all further objects. Raises FieldError."""
    drivers = Drivers()
    for value in values:
        record = read_record(Fields(value), drivers)
        if isinstance(record, Match | Probe):
            yield record


def times(records: Iterable[Record]) -> Iterator[int]:
    """Yield when each match returned, and each probe."""
    return (each.ktime_ns for each in records if isinstance(each, Match | Probe))


class Twins:
    """Knows what the hooks told of the time in which they were attached."""

    def __init__(self, since_ns: int, live: Iterable[Record]) -> None:
        """Take the first records of the hooks."""
        self._since_ns = since_ns
        self._live: dict[tuple[object, ...], list[int]] = {}
        for record in live:
            if isinstance(record, Match | Probe):
                self._live.setdefault(_call(record), []).append(record.ktime_ns)

    def has(self, record: Record) -> bool:
        """Tell whether the hooks saw the same call return."""
        if not isinstance(record, Match | Probe) or record.ktime_ns < self._since_ns:
            return False
        return any(
            abs(ktime_ns - record.ktime_ns) < TWIN_NS
            for ktime_ns in self._live.get(_call(record), ())
        )


def _call(record: Match | Probe) -> tuple[object, ...]:
    driver = record.inputs.driver.name if isinstance(record, Match) else record.name
    return type(record), record.task.pid, record.address, driver

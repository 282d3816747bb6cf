"""Records of the ring, as a sequence: a match refers to a driver before it."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Final

import observations
import stores
from encode import (
    encode_driver,
    encode_match,
    encode_probe,
    encode_unregister,
    encode_write,
)

from fuzz.target import Target
from observer.drivers import Drivers
from observer.fields import Fields
from observer.judge import judge
from observer.model import expect
from observer.notation import read_record, record_object
from observer.record import Driver, Match, Record, TableState, Unregister
from observer.wire import Decoder, WireError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from observer.probe_result import ProbeFunction

FUNCTIONS: Final[tuple[ProbeFunction, ...]] = (
    "__driver_probe_device",
    "driver_probe_device",
)
LONG = Driver(1, "long", stores.DRIVER.id_table, TableState.TRUNCATED)
MATCH = stores.JUDGED.match


def framed(*records: bytes) -> bytes:
    """Put records behind each other, each with its size before it."""
    return b"\0" + b"".join(len(each).to_bytes(2) + each for each in records)


def cut(data: bytes) -> Iterator[bytes]:
    """Take them apart again; the last may be cut short."""
    at = 1
    while at < len(data):
        size = int.from_bytes(data[at : at + 2])
        yield data[at + 2 : at + 2 + size]
        at += 2 + size


def run(data: bytes) -> None:
    """Decode and judge; a record is the same when it was written and read again."""
    decoder, drivers = Decoder(FUNCTIONS[data[:1] == b"\1"]), Drivers()
    for each in cut(data):
        try:
            record = decoder.decode(each)
        except WireError:
            continue
        if record is not None:
            check(record, drivers)


def check(record: Record, drivers: Drivers) -> None:
    """Judge it, and write and read it as recordings do."""
    if isinstance(record, Match):
        judge(record, expect("linux-5.15", record.inputs))
        drivers.learn(record.inputs.driver)
        record = record._replace(digest=None)
    written = json.loads(json.dumps(record_object(record)))
    again = read_record(Fields(written), drivers)
    assert again == record, (again, record)


def seeds() -> Iterable[bytes]:
    """Yield each kind of record alone, and a ring's beginning."""
    records = [
        *encode_driver(stores.DRIVER),
        *encode_driver(LONG),
        *encode_driver(Driver(2, "none", None)),
        encode_match(MATCH),
        encode_match(
            MATCH._replace(
                inputs=MATCH.inputs._replace(
                    dynids=(observations.DYNID,) * 2, driver_override="e1000"
                )
            )
        ),
        encode_probe(stores.PROBED.probe, 0),
        encode_probe(stores.PROBED.probe, -16),
        encode_write(stores.WROTE.write),
        encode_unregister(Unregister(9, 1, "e1000")),
    ]
    yield from map(framed, records)
    yield framed(*records)


TARGET = Target(run, (), seeds, share=5, max_bytes=1 << 13)

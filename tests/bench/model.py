"""How fast the model answers. Its peer is the plain walk through the table.

As in the kernel, but in Python.
"""

from __future__ import annotations

import json
import random
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from rows import Row, observer_seconds, rate

from observer.model import expect
from observer.model.primitives import id_matches
from observer.model.table import is_terminator
from observer.record import PCI_ANY_ID, Device, Driver, Id, Inputs, Outcome, Source

if TYPE_CHECKING:
    from collections.abc import Callable

ENTRIES = 500
DEVICES = 1000
CASES = 100_000
SEED = 1


def rows() -> list[Row]:
    """Measure everything."""
    return [*map(_evaluations, TABLES), _predictions()]


def exact(_: random.Random) -> tuple[Id, ...]:
    """Like a network driver's: vendor and device."""
    return tuple(Id(0x8086, 0x1000 + place) for place in range(ENTRIES))


def subsystems(_: random.Random) -> tuple[Id, ...]:
    """Like a sound or TV card driver's: one chip, many boards."""
    return tuple(Id(0x8086, 0x1000, 0x1AF4, place) for place in range(ENTRIES))


def classes(_: random.Random) -> tuple[Id, ...]:
    """Many classes of one vendor's devices."""
    return tuple(
        Id(0x8086, PCI_ANY_ID, class_=place << 8, class_mask=0xFFFFFF)
        for place in range(ENTRIES)
    )


def wildcard(_: random.Random) -> tuple[Id, ...]:
    """As a vfio variant driver's: listed devices, then an override_only wildcard."""
    any_device = Id(PCI_ANY_ID, PCI_ANY_ID, override_only=1)
    return (*exact(_)[:-1], any_device)


def mixed(source: random.Random) -> tuple[Id, ...]:
    """Wildcards and masks as they come, some entries flagged."""
    return tuple(
        Id(
            source.choice([0x8086, 0x10DE, 0x1AF4]),
            source.choice([0x1000 + source.randrange(700)] * 9 + [PCI_ANY_ID]),
            source.choice([PCI_ANY_ID, PCI_ANY_ID, 0x1AF4]),
            PCI_ANY_ID,
            *source.choice([(0, 0), (0, 0), (0x020000, 0xFF0000)]),
            0,
            source.randrange(2),
        )
        for _ in range(ENTRIES)
    )


TABLES = (exact, subsystems, classes, wildcard, mixed)


def plain_walk(inputs: Inputs) -> Outcome:
    """Decide as linux-5.15 does, entry by entry."""
    driver_override = inputs.driver_override
    if driver_override is not None and driver_override != inputs.driver.name:
        return Outcome(Source.NONE)
    for index, entry in enumerate(inputs.driver.id_table or ()):
        if is_terminator(entry):
            break
        if id_matches(entry, inputs.device) and (
            not entry.override_only or driver_override is not None
        ):
            return Outcome(Source.STATIC, index)
    return Outcome(Source.NONE if driver_override is None else Source.OVERRIDE)


def _evaluations(make: Callable[[random.Random], tuple[Id, ...]]) -> Row:
    source = random.Random(SEED)  # noqa: S311 - no secret
    driver = Driver(1, "driver", make(source))
    cases = [
        Inputs(
            Device(
                0x8086,
                0x1000 + source.randrange(700),
                0x1AF4,
                source.randrange(700),
                source.randrange(700) << 8,
            ),
            driver,
            driver_override=source.choice([None, None, None, "driver"]),
        )
        for _ in range(DEVICES)
    ]
    for case in cases:
        if expect("linux-5.15", case) != plain_walk(case):
            raise AssertionError(case)
    ours = rate(lambda case: expect("linux-5.15", case), cases)
    peer = rate(plain_walk, cases)
    name = f"model, {ENTRIES} entries, {make.__name__}"
    return Row(name, "evaluations/s", ours, peer, 300_000)


def _predictions() -> Row:
    """Measure `pci-observer predict` from its start to its end."""
    listed = {"vendor": 0x8086, "device": 0x100E}
    ids = {"subvendor": 0x1AF4, "subdevice": 0x1100, "class": 0x020000}
    case = {
        "device": listed | ids,
        "driver": {"name": "e1000", "id_table": [listed], "dynids": []},
        "driver_override": None,
    }
    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory) / "cases"
        path.write_text((json.dumps(case) + "\n") * CASES, encoding="utf-8")
        spent = observer_seconds("predict", str(path))
    return Row("predict, end to end", "cases/s", CASES / spent, None, 20_000)

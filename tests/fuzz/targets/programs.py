"""The compiled programs that come along, as JSON."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from fuzz.json_tree import mutate
from fuzz.scratch import SCRATCH
from fuzz.target import Target
from observer import shipped
from observer.program import Code, Map, Program
from observer.shipped import ShippedError

if TYPE_CHECKING:
    from collections.abc import Iterable

FILE = SCRATCH / shipped.name("fentry", "x86_64")


def run(data: bytes) -> None:
    """Read them and put a kernel's values in."""
    FILE.write_bytes(data)
    program = shipped.read("fentry", "x86_64", {"DRV_NAME": 104}, SCRATCH)
    json.dumps(program.as_dict())


def seeds() -> Iterable[bytes]:
    """Yield a small program with a map and a value of the kernel in it."""
    code = Code(bytes(24), ((0, "ring"),), ((16, "DRV_NAME"),))
    program = Program((Map("ring", 27, 0, 0, 4096, 0),), {"match": code})
    yield shipped.text(program).replace("\n", "").encode()


TARGET = Target(run, (ShippedError,), seeds, share=15, mutate=mutate)

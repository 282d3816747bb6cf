"""Fills the file system of a store and makes room again: DIRECTORY rlimit|filler.

Prints the stages, a JSON object a line. The limit is one on the size of files; the
filler is for a file system of 1 MiB. Runs in a process of its own, for both concern all
of it.
"""

from __future__ import annotations

import json
import resource
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import machines
import stores

from observer.store import FILE, Archive
from observer.store.writer import QUEUE, RETRY_NS

if TYPE_CHECKING:
    from collections.abc import Callable

    from observer.store import Store

LIMIT_BYTES = 700_000  # less than the decisions below take


def limit(_directory: Path) -> Callable[[], None]:
    """Let no file grow further; return what makes room."""
    _, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (LIMIT_BYTES, hard))
    return lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (hard, hard))


def fill(directory: Path) -> Callable[[], None]:
    """Fill the file system; return what makes room."""
    filler = directory / "filler"
    with filler.open("wb", buffering=0) as file:
        try:
            while True:
                file.write(bytes(4096))
        except OSError:
            pass
    return filler.unlink


FULL = {"rlimit": limit, "filler": fill}


def tell(stage: str, store: Store) -> None:
    """Print what the store says of itself."""
    notices = [notice._asdict() for notice in store.notices()]
    counts = store.counts()._asdict() | {"size_bytes": 0}
    print(json.dumps({"stage": stage, "notices": notices, **counts}))


def offer(store: Store, number: int) -> None:
    """Offer decisions, and give the store a step for each thousand."""
    for at in range(number):
        store(stores.JUDGED)
        if at % 1000 == 0:
            store.step()


def main(name: str, way: str) -> None:
    """Fill it while a store is written to, and make room."""
    directory = Path(name)
    clock = stores.Clock()
    store = stores.store(directory, clock=clock)
    device = machines.device(bound="e1000")
    store.keep_bindings(machines.machine(device))
    offer(store, 500)
    store.step()
    tell("room", store)
    make_room = FULL[way](directory)
    store.keep_bindings(machines.machine(device._replace(driver=None)))
    for _ in range(3):
        offer(store, QUEUE)
        clock.ktime_ns += RETRY_NS
    tell("full", store)
    make_room()
    for _ in range(QUEUE // 2000 + 2):
        clock.ktime_ns += RETRY_NS
        store.step()
    tell("room again", store)
    store.close()
    tell("closed", store)
    with Archive(directory / FILE) as archive:
        rows = sum(archive.counts("decisions").values())
        drivers = [row.bound.driver for row in archive.bindings()]
        print(json.dumps({"whole": archive.whole(), "rows": rows, "drivers": drivers}))


if __name__ == "__main__":
    main(*sys.argv[1:])

"""What the loader attached, in the daemon's hands."""

from __future__ import annotations

import json
import os
from typing import TYPE_CHECKING, NamedTuple

from observer.boot_coverage import NOT_RECORDED, read_coverage, read_records
from observer.layout import Layout
from observer.loading import LOADER, Loading
from observer.registered import NOT_TAKEN, Inventory, from_object
from observer.ring import CounterMap, RepeatMap, Ring

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from observer.boot_coverage import Coverage
    from observer.record import Record


class Attachment(NamedTuple):
    """Attached hooks. They go when the links are closed, or with this process."""

    layout: Layout
    method: str  # fentry or kprobe
    programs: str  # shipped or compiled
    hooks: Mapping[str, str]  # function -> "" when attached, else why not
    ring: Ring
    counters: CounterMap
    repeats: RepeatMap
    links: list[int]
    inventory: Inventory = NOT_TAKEN  # of the drivers, once the hooks were attached
    coverage: Coverage = NOT_RECORDED  # of the time before the hooks
    before: Iterable[Record] = ()  # what was recorded then; to be read once

    def detach(self) -> None:
        """Take all hooks away; what is in the ring can still be read.

        In the order of attaching: a return that is seen without its entry is a miss.
        """
        while self.links:
            os.close(self.links.pop(0))


def attach(
    arguments: tuple[str, ...] = (), *, command: tuple[str, ...] = LOADER
) -> Attachment:
    """Run the loader and take over what it attached. Raises AttachError."""
    return take_over(Loading(arguments, command=command))


def take_over(loading: Loading) -> Attachment:
    """Wait for the loader and take over what it attached. Raises AttachError."""
    message, descriptors = loading.finish()
    events, counters, repeats, drivers, boot, *links = descriptors
    before = _objects(boot)
    attachment = Attachment(
        layout=Layout.from_dict(message["layout"]),
        method=message["method"],
        programs=message["programs"],
        hooks=message["hooks"],
        ring=Ring(events, message["ring_bytes"]),
        counters=CounterMap(counters),
        repeats=RepeatMap(repeats),
        links=links,
        inventory=from_object(next(_objects(drivers))),
        coverage=read_coverage(next(before)),
        before=read_records(before),
    )
    # All are mapped; the ring's descriptor stays open for its wake-ups.
    os.close(counters)
    os.close(repeats)
    return attachment


def _objects(descriptor: int) -> Iterator[object]:
    """Read a JSON object a line of one of the loader's files; close it at its end."""
    with open(descriptor, "rb") as file:
        file.seek(0)
        yield from map(json.loads, file)

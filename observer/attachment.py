"""What the loader attached, in the daemon's hands."""

from __future__ import annotations

import json
import mmap
import os
from types import MappingProxyType
from typing import TYPE_CHECKING, Final, NamedTuple

from observer import abi
from observer.boot_coverage import NOT_RECORDED, read_coverage, read_records
from observer.hooks import PCI_MATCH_DEVICE, plan
from observer.layout import UNKNOWN, Layout
from observer.loading import LOADER, AttachError, Loading
from observer.registered import NOT_TAKEN, Inventory, from_object
from observer.ring import CounterMap, RepeatMap, Ring

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from observer.boot_coverage import Coverage
    from observer.record import Record

NO_METHOD: Final = "none"
# Of a file that stands for all maps of the hooks: the ring's and the repeats'.
_NOTHING_BYTES: Final = max(3 * mmap.PAGESIZE, abi.DIGESTS * 8)


class Attachment(NamedTuple):
    """Attached hooks. They go when the links are closed, or with this process."""

    layout: Layout
    method: str  # of what tells of decisions: fentry or kprobe, or NO_METHOD
    programs: str  # shipped or compiled, or NO_METHOD
    hooks: Mapping[str, str]  # function -> "" when attached, else why not
    ring: Ring
    counters: CounterMap
    repeats: RepeatMap
    links: list[int]
    methods: Mapping[str, str] = MappingProxyType({})  # of the attached, by function
    # function -> why it is not attached by a better method
    detours: Mapping[str, str] = MappingProxyType({})
    problem: str = ""  # why nothing is attached: an audit is all that can be done
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


def take_over(loading: Loading, *, required: bool = True) -> Attachment:
    """Wait for the loader and take over what it attached.

    Where nothing could be attached, AttachError is raised, or if that is not `required`
    an attachment is returned that never tells anything.
    """
    try:
        message, descriptors = loading.finish()
    except AttachError as e:
        if required:
            raise
        return unhooked(str(e), UNKNOWN, NOT_TAKEN)
    if "error" in message:
        inventory = from_object(next(_objects(*descriptors)))
        if required:
            raise AttachError(message["error"])
        known = message["layout"]
        layout = Layout.from_dict(known) if known else UNKNOWN
        return unhooked(message["error"], layout, inventory)
    events, counters, repeats, drivers, boot, *links = descriptors
    before = _objects(boot)
    attachment = Attachment(
        layout=Layout.from_dict(message["layout"]),
        method=message["method"],
        programs=message["programs"],
        hooks=message["hooks"],
        methods=message["methods"],
        detours=message["detours"],
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


def unhooked(problem: str, layout: Layout, inventory: Inventory) -> Attachment:
    """Return an attachment of nothing: its ring stays empty, its counters at 0.

    Of the drivers nothing is known that can change without a trace.
    """
    nothing = os.memfd_create("nothing")
    os.truncate(nothing, _NOTHING_BYTES)
    rest = f"nothing is hooked without {PCI_MATCH_DEVICE}"
    hooks = {hook.function: rest for hook in plan(layout)}
    drivers = tuple(known._replace(dynids=None) for known in inventory.drivers)
    try:
        wake_up = os.eventfd(0, os.EFD_CLOEXEC)
        ring = Ring(nothing, mmap.PAGESIZE, wake_up=wake_up)
    except NotImplementedError:  # of another machine
        raise AttachError(problem) from None
    attachment = Attachment(
        layout=layout,
        method=NO_METHOD,
        programs=NO_METHOD,
        hooks=hooks | {PCI_MATCH_DEVICE: problem},
        ring=ring,
        counters=CounterMap(nothing),
        repeats=RepeatMap(nothing),
        links=[],
        problem=problem,
        inventory=inventory._replace(
            drivers=drivers, gaps=(f"Nothing is hooked: {problem}.", *inventory.gaps)
        ),
    )
    os.close(nothing)
    return attachment


def _objects(descriptor: int) -> Iterator[object]:
    """Read a JSON object a line of one of the loader's files; close it at its end."""
    with open(descriptor, "rb") as file:
        file.seek(0)
        yield from map(json.loads, file)

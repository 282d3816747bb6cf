"""The daemon's side of the loader: start it, take its descriptors, see it leave."""

from __future__ import annotations

import array
import json
import os
import socket
import subprocess
import sys
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from observer.boot_coverage import NOT_RECORDED, read_coverage, read_records
from observer.layout import Layout
from observer.registered import NOT_TAKEN, Inventory, from_object
from observer.ring import CounterMap, RepeatMap, Ring

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from observer.boot_coverage import Coverage
    from observer.record import Record

# -P: nothing is imported from the directory that we happen to be in.
LOADER: Final = (sys.executable, "-P", "-m", "observer.loader")

_MESSAGE_BYTES: Final = 1 << 18
_DESCRIPTORS: Final = 64


class AttachError(Exception):
    """The observer could not be attached; the sentence says why and what to do."""


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
    """Run the loader with these arguments and take over what it attached.

    Raises AttachError with the loader's sentence, or with one about its end.
    """
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with ours:
        with theirs:
            whole = [*command, "--fd", str(theirs.fileno()), *arguments]
            # A group of its own keeps a terminal's Ctrl-C away from it.
            loader = subprocess.Popen(
                whole, pass_fds=[theirs.fileno()], process_group=0
            )
        try:
            message, descriptors = _receive(ours)
        except BaseException:  # told to stop, perhaps: nothing may be attached then
            loader.kill()
            raise
        finally:
            status = loader.wait()
    if not message:
        raise AttachError(f"the loader ended with status {status} and said nothing")
    if "error" in message:
        raise AttachError(message["error"])
    return _take_over(message, descriptors)


def _receive(channel: socket.socket) -> tuple[dict[str, Any], list[int]]:
    room = socket.CMSG_SPACE(_DESCRIPTORS * array.array("i").itemsize)
    # No child may inherit a descriptor: it would keep the hooks alive.
    data, ancillary, flags, _ = channel.recvmsg(
        _MESSAGE_BYTES, room, socket.MSG_CMSG_CLOEXEC
    )
    descriptors = array.array("i")
    for level, kind, rights in ancillary:
        if (level, kind) == (socket.SOL_SOCKET, socket.SCM_RIGHTS):
            descriptors.frombytes(rights)
    if flags & (socket.MSG_CTRUNC | socket.MSG_TRUNC):
        for descriptor in descriptors:
            os.close(descriptor)
        raise AttachError("the loader's message did not come whole")
    return (json.loads(data) if data else {}), descriptors.tolist()


def _take_over(message: dict[str, Any], descriptors: list[int]) -> Attachment:
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

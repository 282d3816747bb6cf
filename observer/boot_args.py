"""Kernel command line words that record decisions made before user space runs.

The kernel's own kprobe events write them to the tracing ring, from the first PCI
driver on. Their definitions hold offsets, so they belong to one kernel image; the name
of their group tells which definitions they are.
"""

from __future__ import annotations

from hashlib import sha256
from typing import TYPE_CHECKING, Final, NamedTuple

from observer.hooks import DRIVER_PROBE_DEVICE, INNER_PROBE, PCI_MATCH_DEVICE

if TYPE_CHECKING:
    from collections.abc import Iterator

    from observer.layout import Layout

PREFIX: Final = "pobs_"  # of the group's name
CLOCK: Final = "mono"  # CLOCK_MONOTONIC, as the hooks tell the time
DYNIDS: Final = 4  # of a driver, carried by one match

# Events by what they record; each at the entry or the return of a function.
MATCH, MATCH_RETURN = "m", "mr"
PROBE, PROBE_RETURN, OUTER_PROBE = "d", "dr", "o"

# Of one CPU. Without `ftrace=nop` the ring stays at a few KiB until user space asks for
# more, whatever its size is to be.
_WORDS: Final = (
    f"trace_buf_size=2M trace_clock={CLOCK} trace_options=record-tgid ftrace=nop"
)
_HASH_DIGITS: Final = 8
_RETURNS: Final = 64  # calls of a function under way at once, so that none is missed

# The kernel takes 2,047 characters altogether and cuts the rest off.
LINE_BYTES: Final = 2047


class Event(NamedTuple):
    """A kprobe event: what it is called, where it is, and what it fetches."""

    name: str
    function: str
    returns: bool
    fetches: tuple[str, ...]

    def definition(self, group: str) -> str:
        """Spell it as `kprobe_events` wants it and shows it."""
        probe = f"r{_RETURNS}" if self.returns else "p"
        return " ".join((f"{probe}:{group}/{self.name}", self.function, *self.fetches))


def events(layout: Layout) -> tuple[Event, ...]:
    """List what must be recorded of a kernel with this layout."""
    found: tuple[Event, ...] = (
        Event(MATCH, PCI_MATCH_DEVICE, returns=False, fetches=tuple(_match(layout))),
        Event(
            MATCH_RETURN,
            PCI_MATCH_DEVICE,
            returns=True,
            fetches=("sp=%sp", "ret=$retval", "id=+0($retval):x64[3]"),
        ),
        Event(
            PROBE, layout.probe_function, returns=False, fetches=tuple(_probe(layout))
        ),
        Event(
            PROBE_RETURN,
            layout.probe_function,
            returns=True,
            fetches=("sp=%sp", "ret=$retval:s32"),
        ),
    )
    if layout.probe_function == INNER_PROBE:
        fetches = ("drv=%di", "dev=%si")
        found += (
            Event(OUTER_PROBE, DRIVER_PROBE_DEVICE, returns=False, fetches=fetches),
        )
    return found


def group(layout: Layout) -> str:
    """Name the group of events of this layout, and of no other."""
    spelled = ";".join(event.definition(PREFIX) for event in events(layout))
    return PREFIX + sha256(spelled.encode("ascii")).hexdigest()[:_HASH_DIGITS]


def definitions(layout: Layout) -> list[str]:
    """Spell the events as `kprobe_events` shows them."""
    name = group(layout)
    return [event.definition(name) for event in events(layout)]


def command_line(layout: Layout) -> str:
    """Return the words for the kernel command line, in one line."""
    spelled = ";".join(definitions(layout)).replace(" ", ",")
    return f"kprobe_event={spelled} {_WORDS}"


def without(command_line: str) -> str:
    """Return a kernel command line without such words."""
    ours = {*_WORDS.split()}
    words = command_line.split()
    return " ".join(w for w in words if w not in ours and f":{PREFIX}" not in w)


def _match(layout: Layout) -> Iterator[str]:
    at = layout.offsets
    yield from ("sp=%sp", "drv=%di", "dev=%si")
    if layout.match_args > 2:  # noqa: PLR2004 - driver and device come first
        yield "copy=%dx"
    yield "comm=$comm"
    yield f"name=+0(+{at['DRV_NAME']}(%di)):string"
    yield f"tbl=+{at['DRV_ID_TABLE']}(%di)"
    yield f"addr=+0(+{at['DEV_NAME']}(%si)):string"
    yield f"bus=+{at['DEV_BUS']}(%si)"
    yield f"ven=+{at['DEV_VENDOR']}(%si):x16"
    yield f"did=+{at['DEV_DEVICE_ID']}(%si):x16"
    yield f"sven=+{at['DEV_SUBVENDOR']}(%si):x16"
    yield f"sdid=+{at['DEV_SUBDEVICE']}(%si):x16"
    yield f"cls=+{at['DEV_CLASS']}(%si):x32"
    yield f"vf=+{at['DEV_IS_VIRTFN_BYTE']}(%si):x8"
    if "DEV_OVERRIDE" in at:
        yield f"ovp=+{at['DEV_OVERRIDE']}(%si)"
        yield f"ov=+0(+{at['DEV_OVERRIDE']}(%si)):string"
    node = f"+{at['DRV_DYNIDS']}(%di)"
    for place in range(DYNIDS):
        yield f"n{place}={node}"
        yield f"i{place}=+{at['DYNID_ID']}({node}):x64[3]"
        node = f"+0({node})"
    yield f"n{DYNIDS}={node}"


def _probe(layout: Layout) -> Iterator[str]:
    """List what is fetched at a probe, which may be one of any bus."""
    at = layout.offsets
    yield from ("sp=%sp", "drv=%di", "dev=%si", "comm=$comm")
    yield f"bus=+0(+{at['BUS_NAME']}(+{at['DEVICE_BUS']}(%si))):string"
    yield f"name=+0(+{at['DRIVER_NAME']}(%di)):string"
    yield f"addr=+0(+{at['DEV_NAME'] - at['DEV_DEVICE']}(%si)):string"
    yield f"probe={at['DRV_PROBE'] - at['DRV_DRIVER']:+d}(%di)"

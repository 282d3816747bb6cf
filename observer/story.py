"""Why a device is, or is not, bound to a driver: `explain ADDRESS`."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, NamedTuple

from observer.obstacles import Obstacle, Sentence, Surroundings
from observer.text import printable

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from observer.machine import Machine, PciDevice

NOTHING_AROUND = Surroundings()


class StoryError(ValueError):
    """There is no story of this address; one sentence says why."""


class Candidate(NamedTuple):
    """A driver and what the model says of it and the device."""

    driver: str
    matches: bool | None  # None: can't be told
    match: str  # static, dynid, override, none, or unknown
    index: int | None  # type: ignore[assignment]
    rule: str
    why: str
    opposite: str
    registered_ns: int | None  # CLOCK_MONOTONIC; None: before anything was seen
    result: str | None  # of the last probe that was seen: bound, refused, ...
    errno: str | None


class Happened(NamedTuple):
    """Something that was seen."""

    ktime_ns: int
    text: str


class Story(NamedTuple):
    """All there is to say of one device, in the order in which it is told."""

    address: str
    headline: str
    bound: str | None
    asked: str | None  # the driver that --driver names
    semantics: str  # by which the candidates were judged
    candidates: tuple[Candidate, ...]  # in the order of registration
    gates: tuple[Obstacle, ...]
    events: tuple[Happened, ...]  # oldest first
    findings: tuple[object, ...]
    command: str | None  # that would change it
    unknown: tuple[Sentence, ...]
    realtime_offset_ns: int  # Unix time minus CLOCK_MONOTONIC


def story(
    machine: Machine,
    address: str,
    *,
    driver: str | None = None,
    semantics: str | None = None,
    surroundings: Surroundings = NOTHING_AROUND,
) -> Story:
    """Tell why the device is bound as it is, or why not to `driver`.

    `semantics` judges instead of the kernel's own. Raises StoryError when `address` is
    none or no device has it, and KeyError when there is no such semantics.
    """
    del surroundings
    device = find(machine, address)
    return Story(
        device.address,
        _headline(device, driver),
        device.driver,
        driver,
        semantics or machine.semantics,
        (),
        (),
        (),
        (),
        None,
        (),
        machine.realtime_offset_ns,
    )


def find(machine: Machine, address: str) -> PciDevice:
    """Return the device with this address. Raises StoryError."""
    normal = normalised(address)
    try:
        return machine.devices[normal]
    except KeyError:
        near = ", ".join(_nearest(machine, normal)) or "none at all"
        raise StoryError(f"{normal}: no such device; the nearest: {near}") from None


_ADDRESS = re.compile(r"(?:([0-9a-f]{4,8}):)?([0-9a-f]{2}):([0-9a-f]{2})\.([0-7])")


def normalised(address: str) -> str:
    """Return an address as the kernel spells it: "00:02.0" is 0000:00:02.0.

    Raises StoryError.
    """
    found = _ADDRESS.fullmatch(address.strip().lower())
    if found is None:
        raise StoryError(
            f"{printable(address)!s} is no address of a PCI device; "
            "write it as 0000:00:02.0 or 00:02.0"
        )
    domain, bus, device, function = found.groups()
    return f"{domain or '0000'}:{bus}:{device}.{function}"


def as_object(story: Story, clock: Callable[[int], str]) -> dict[str, object]:
    """Return the story for a machine; `clock` spells a Unix time given in ns."""
    del clock
    return {"address": story.address, "bound": story.bound}


def as_text(story: Story, clock: Callable[[int], str]) -> Iterator[str]:
    """Yield the story line by line; `clock` spells a Unix time given in ns."""
    del clock
    yield story.headline


def _nearest(machine: Machine, address: str) -> list[str]:
    """Return up to three addresses with the longest common beginning."""

    def common(other: str) -> int:
        pairs = zip(address, other, strict=False)
        return next((at for at, (a, b) in enumerate(pairs) if a != b), len(address))

    return sorted(machine.devices, key=common, reverse=True)[:3]


def _headline(device: PciDevice, asked: str | None) -> str:
    ids = device.ids
    state = f"is bound to {device.driver}" if device.driver else "has no driver"
    named = f"{ids.vendor:04x}:{ids.device:04x}, class {ids.class_:06x}"
    wanted = f", not {asked}" if asked and asked != device.driver else ""
    return printable(f"{device.address} ({named}) {state}{wanted}")

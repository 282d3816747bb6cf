"""What stands between a device and a driver, before the match and after it."""

from __future__ import annotations

from types import MappingProxyType
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Mapping

# A sentence: its words and, as numbers, the times in it (CLOCK_MONOTONIC, ns).
Sentence = tuple[str | int, ...]


class Surroundings(NamedTuple):
    """What is known around one device beyond the machine's picture; pure values.

    The defaults are what is there to say when nothing could be looked at.
    """

    # Modules that modules.alias would load for the device, in the order of the file.
    would_load: tuple[str, ...] = ()
    # Modules with an override_only alias (vfio_pci:) for it: never loaded unasked.
    override_only: tuple[str, ...] = ()
    blacklisted: Mapping[str, str] = MappingProxyType({})  # module: file that does
    disabled: Mapping[str, str] = MappingProxyType({})  # ... that has an install line
    # What provides a driver of a name: the module as its file is called.
    providers: Mapping[str, str] = MappingProxyType({})
    builtin: frozenset[str] = frozenset()  # those of all these that are built in
    deferred: str | None = None  # devices_deferred on the device; None: not in there
    holders: tuple[str, ...] = ()  # who else holds its BARs: "BAR0 held by BOOTFB"
    denylist_disabled: bool | None = None  # vfio-pci's disable_denylist; None: unknown
    unknown: tuple[str, ...] = ()  # what could not be read, a sentence each


class Obstacle(NamedTuple):
    """Something that keeps, or kept, a driver from the device."""

    gate: str  # a word of its own for programs: "not_registered"
    text: Sentence

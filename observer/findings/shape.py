"""The shape of findings, and their kinds."""

from __future__ import annotations

from collections.abc import Callable
from enum import StrEnum
from typing import TYPE_CHECKING, NamedTuple

Clock = Callable[[int], str]  # spells a Unix time given in ns

if TYPE_CHECKING:
    from collections.abc import Mapping

    from observer.record import Task


class Name(StrEnum):
    """A finding's name, as the metrics have it."""

    STALE_OVERRIDE = "stale_override"
    ORPHAN = "orphan"
    UNEXPLAINED_BINDING = "unexplained_binding"
    BINDING_CHANGED = "binding_changed"  # since another kernel ran
    DEFERRED = "deferred"
    GREEDY_DYNID = "greedy_dynid"
    PARTIAL_GROUP = "partial_group"
    VF_ON_NATIVE_DRIVER = "vf_on_native_driver"
    FLAPPING = "flapping"


class Kind(StrEnum):
    """Which case of a finding it is; findings with one case have their name here."""

    # stale_override
    NAMES_NO_DRIVER = "names_no_driver"
    REFUSES_NATIVE = "refuses_native"  # no driver, and a native candidate is kept away
    DIFFERS = "differs"  # from the driver that is bound
    # orphan
    NEVER_BOUND = "never_bound"
    UNBOUND = "unbound"
    UNBOUND_AND_BIND_FAILED = "unbound_and_bind_failed"
    PROBE_REFUSED = "probe_refused"
    CANDIDATE_GONE = "candidate_gone"
    # unexplained_binding
    OVERRIDE_CLEARED = "override_cleared"
    DYNID_REMOVED = "dynid_removed"
    UNSEEN = "unseen"  # no event tells
    # binding_changed
    VANISHED = "vanished"
    APPEARED = "appeared"
    MOVED = "moved"
    DRIVER_CHANGED = "driver_changed"
    DRIVER_LOST = "driver_lost"
    DRIVER_GAINED = "driver_gained"
    OVERRIDE_CHANGED = "override_changed"
    OVERRIDE_LOST = "override_lost"
    OVERRIDE_SET = "override_set"
    CANDIDATES_CHANGED = "candidates_changed"
    ORDER_FLIPPED = "order_flipped"
    BUILT_IN = "built_in"  # the driver of some devices
    MODULAR = "modular"
    # one case each
    DEFERRED = "deferred"
    GREEDY_DYNID = "greedy_dynid"
    PARTIAL_GROUP = "partial_group"
    VF_ON_NATIVE_DRIVER = "vf_on_native_driver"
    FLAPPING = "flapping"


class Actor(NamedTuple):
    """Who did it."""

    task: Task
    uid: int | None  # None: of a probe or match, which do not tell it


class Finding(NamedTuple):
    """Something that is wrong, and what would change it."""

    address: str  # of the device, or of the first of those concerned
    finding: Name
    kind: Kind
    text: str  # one printable sentence
    cure: str  # one shell command
    since_ns: int | None  # CLOCK_MONOTONIC; None: not seen
    actor: Actor | None  # who caused it; None: not seen
    details: Mapping[str, object]  # fit for JSON
    also: tuple[str, ...] = ()  # further devices concerned


class Note(NamedTuple):
    """Something about a device that is worth saying and not wrong."""

    kind: str  # slug
    text: str  # one printable sentence

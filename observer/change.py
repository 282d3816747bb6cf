"""One thing that changed between two pictures of a machine, and in words."""

from __future__ import annotations

from enum import StrEnum
from typing import Final, NamedTuple

from observer.text import quoted


class Kind(StrEnum):
    """What changed; of a device, but for the last three, which are a driver's."""

    VANISHED = "vanished"
    APPEARED = "appeared"
    MOVED = "moved"  # to another address
    DRIVER_CHANGED = "driver_changed"
    DRIVER_LOST = "driver_lost"
    DRIVER_GAINED = "driver_gained"
    OVERRIDE_CHANGED = "override_changed"
    OVERRIDE_LOST = "override_lost"  # it did not persist
    OVERRIDE_SET = "override_set"
    CANDIDATES_CHANGED = "candidates_changed"  # the set of drivers that match
    ORDER_FLIPPED = "order_flipped"  # in which those that match were registered
    BUILT_IN = "built_in"  # it was a module
    MODULAR = "modular"  # it was built in
    DYNIDS_CHANGED = "dynids_changed"


Value = str | tuple[str, ...] | None


class Change(NamedTuple):
    """One thing that changed."""

    kind: Kind
    address: str | None  # of the device; None: it vanished, or a driver changed
    address_before: str | None  # None: the device appeared, or a driver changed
    driver: str | None  # that changed; None: a device did
    # What it is by the kind: address, driver, driver_override, module or, in order,
    # candidates or dynids.
    before: Value
    after: Value
    cause: str = ""  # a part of a sentence; empty: nothing tells
    devices: tuple[str, ...] = ()  # of a driver, with it as candidate then or now

    @property
    def subject(self) -> str:
        """The device's address, where it vanished the last; or the driver's name."""
        named = (self.address, self.address_before, self.driver)
        return next((name for name in named if name is not None), "")

    def __str__(self) -> str:
        """Say what changed, in a part of a sentence that follows the subject."""
        before, after = self.before, self.after
        if isinstance(before, tuple) and isinstance(after, tuple):
            return _lists(self.kind, before, after)
        text, absent = _WORDS[self.kind]
        return text.format(before=_name(before, absent), after=_name(after, absent))


_REBOUND: Final = ("{before} -> {after}", "no driver")
_OVERRIDDEN: Final = ("driver_override {before} -> {after}", "unset")
_WORDS: Final = {
    Kind.VANISHED: ("vanished, had {before}", "no driver"),
    Kind.APPEARED: ("appeared, has {after}", "no driver"),
    Kind.MOVED: ("moved, was at {before}", ""),
    Kind.DRIVER_CHANGED: _REBOUND,
    Kind.DRIVER_LOST: _REBOUND,
    Kind.DRIVER_GAINED: _REBOUND,
    Kind.OVERRIDE_CHANGED: _OVERRIDDEN,
    Kind.OVERRIDE_LOST: _OVERRIDDEN,
    Kind.OVERRIDE_SET: _OVERRIDDEN,
    Kind.BUILT_IN: ("module {before} -> built in", "of an unknown name"),
    Kind.MODULAR: ("built in -> module {after}", "of an unknown name"),
}


def _name(name: Value, absent: str) -> str:
    return quoted(name) if isinstance(name, str) else absent


def _lists(kind: Kind, before: tuple[str, ...], after: tuple[str, ...]) -> str:
    if kind is Kind.CANDIDATES_CHANGED:
        more = [f"+{quoted(name)}" for name in after if name not in before]
        less = [f"-{quoted(name)}" for name in before if name not in after]
        return f"candidate set changed: {', '.join(more + less)}"
    if kind is Kind.ORDER_FLIPPED:
        then, now = (", ".join(map(quoted, names)) for names in (before, after))
        return f"order of registration changed: {then} -> {now}"
    then, now = (", ".join(ids) or "none" for ids in (before, after))
    return f"dynids {then} -> {now}"

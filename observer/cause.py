"""Why a binding is another one in a later picture, as far as two pictures can tell.

Each answer is a part of a sentence, empty where nothing tells.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from observer.model.explanation import spelled
from observer.model.primitives import id_matches
from observer.text import printable, quoted

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from observer.pictured import Pictured, PicturedDevice, PicturedDriver


class Pair(NamedTuple):
    """A device in two pictures."""

    before: Pictured
    after: Pictured
    old: PicturedDevice
    new: PicturedDevice


def of_driver(pair: Pair) -> str:
    """Say why another driver is bound, or none, or one at all."""
    if pair.old.driver_override != pair.new.driver_override:
        return _of_overridden(pair)
    if not (pair.before.drivers and pair.after.drivers):
        return ""
    return _of_matches(pair, pair.old.driver, pair.new.driver)


def _of_matches(pair: Pair, old: str | None, new: str | None) -> str:
    then, now = _matching(pair.old), _matching(pair.new)
    if old is not None and old in then and old not in now:
        return _gone(pair, old)
    if new is not None and new in now and new not in then:
        return _come(pair, new)
    if old is not None and new is not None:
        return _both_match(pair, old, new) if {old, new} <= {*now} else ""
    if old in now:
        return (
            f"{quoted(old or '')} still matches; it was unbound, or its probe refused"
        )
    return f"{quoted(new or '')} matched before, too" if new in then else ""


def of_override(pair: Pair) -> str:
    """Say what is behind another driver_override, or what comes of it."""
    new = pair.new.driver_override
    if new is None:
        return "it does not survive a reboot unless something sets it again"
    known = new in pair.after.drivers or not pair.after.drivers
    return "" if known else f"{quoted(new)} is not registered"


def _of_overridden(pair: Pair) -> str:
    old, new = pair.old.driver_override, pair.new.driver_override
    if new is None:
        return f"driver_override={quoted(old or '')} is not set any more"
    return f"driver_override={quoted(new)} is set now"


def of_candidates(pair: Pair, gone: Iterable[str], come: Iterable[str]) -> str:
    """Say why these drivers match no more, and those match now."""
    told = [
        *(_gone(pair, name) for name in gone),
        *(_come(pair, name) for name in come),
    ]
    return "; ".join(told)


def of_order(pair: Pair, then: Sequence[str], now: Sequence[str]) -> str:
    """Say which of those that match, then and now, was registered first."""
    old, new = next(
        (old, new) for old, new in zip(then, now, strict=True) if old != new
    )
    many = "both" if len(now) == 2 else "all"  # noqa: PLR2004 - a pair
    told = f"{many} match; {quoted(old)} was registered first before, now {quoted(new)}"
    return told + (", which is built in now" if _became_built_in(pair, new) else "")


def of_built_in(name: str) -> str:
    """Say what it means that a driver is no module any more."""
    return (
        f"{quoted(name)} is part of the kernel now: modprobe.d does not apply to it, "
        "its parameters are given on the command line"
    )


def of_presence(device: PicturedDevice) -> str:
    """Say what a device that came or went hangs on."""
    if device.physfn is None:
        return ""
    return f"a VF of {printable(device.physfn)}: as many as its sriov_numvfs are there"


def _both_match(pair: Pair, old: str, new: str) -> str:
    """Say which of two drivers that match was first then and now, if that is known."""
    then, now = (
        [name for name in device.candidates if name in (old, new)]
        for device in (pair.old, pair.new)
    )
    known = pair.before.order_known and pair.after.order_known
    if not known or not {*then} == {*now} == {old, new}:
        return "both match"
    if then != now and now[0] == new:
        return of_order(pair, then, now)
    return (
        f"both match, {quoted(now[0])} was registered first: the other was bound by "
        "hand, or after a probe refused"
    )


def _gone(pair: Pair, name: str) -> str:
    """Say why a driver that matched does not."""
    if name not in pair.after.drivers:
        return f"{quoted(name)} is not registered any more"
    dynid = _dynid(pair.before.drivers.get(name), pair.old)
    if dynid is not None:
        return f"the dynid {dynid} of {quoted(name)} is gone: new_id does not persist"
    return f"{quoted(name)} does not match any more"


def _come(pair: Pair, name: str) -> str:
    """Say why a driver matches that did not."""
    if name not in pair.before.drivers:
        return f"{quoted(name)} is registered now and was not before"
    dynid = _dynid(pair.after.drivers.get(name), pair.new)
    if dynid is not None:
        return f"the dynid {dynid} of {quoted(name)} was not there before"
    return f"{quoted(name)} matches now and did not before"


def _dynid(driver: PicturedDriver | None, device: PicturedDevice) -> str | None:
    """Spell the first dynid that matches."""
    for dynid in (driver.dynids if driver else None) or ():
        if id_matches(dynid, device.ids):
            return spelled(dynid)
    return None


def _matching(device: PicturedDevice) -> tuple[str, ...]:
    return (*device.candidates, *device.possible)


def _became_built_in(pair: Pair, name: str) -> bool:
    then, now = pair.before.drivers.get(name), pair.after.drivers.get(name)
    return bool(then and now and then.built_in is False and now.built_in)

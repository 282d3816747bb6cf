"""Who will have a device under a kernel, and how sure that is."""

from __future__ import annotations

from enum import StrEnum
from typing import TYPE_CHECKING, NamedTuple

from observer.preflight.candidates import Comes
from observer.text import printable, quoted

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from observer.machine import PciDevice
    from observer.preflight.candidates import Candidate, Prospects

_BROUGHT = {
    Comes.BUILT_IN: "it is built in",
    Comes.ALIAS: "the device asks for its module",
    Comes.NEEDED: "another module brings it",
    Comes.OVERRIDE: "driverctl sets driver_override to it",
}


class Certainty(StrEnum):
    """How sure a prediction is."""

    CERTAIN = "certain"  # it is the first that matches; its probe may still refuse
    RACE = "race"  # several match, and which is registered first is not determined
    UNKNOWN = "unknown"  # too much can't be known


class Outlook(NamedTuple):
    """What a boot of one kernel leads to for one device."""

    candidates: tuple[Candidate, ...]  # that are registered
    kept_out: tuple[Candidate, ...]  # that would match, but nothing registers them
    winner: Candidate | None  # None: no driver, or a race that nobody leads
    certainty: Certainty
    reason: str  # one printable sentence


def outlook(
    prospects: Prospects,
    device: PciDevice,
    is_its: Callable[[Candidate], bool],
    declined: Callable[[Candidate], bool],
) -> Outlook:
    """Predict; `is_its`: drives the device now, `declined`: had its chance and did not.

    Who had the chance before is likely to refuse again.
    """
    every = [
        each._replace(driver=device.driver) if is_its(each) else each
        for each in prospects.of(device)
    ]
    there = tuple(each for each in every if each.registered)
    kept_out = tuple(each for each in every if not each.registered)
    winner, certainty, reason = _winner(prospects, device, there, is_its, declined)
    return Outlook(there, kept_out, winner, certainty, reason)


def _winner(
    prospects: Prospects,
    device: PciDevice,
    there: Sequence[Candidate],
    is_its: Callable[[Candidate], bool],
    declined: Callable[[Candidate], bool],
) -> tuple[Candidate | None, Certainty, str]:
    if not there:
        return None, *_nobody(prospects, device)
    willing = [each for each in there if not declined(each)]
    if not willing:
        reason = f"{_list(there)} matches now as well, and has not the device."
        return None, Certainty.UNKNOWN, reason
    first = _first(prospects, willing)
    if first is None:
        return _race(there, willing, is_its)
    if len(willing) < len(there):
        others = _list([each for each in there if declined(each)])
        reason = f"{others} matches now as well, and left it to {first.label}."
        return first, Certainty.UNKNOWN, reason
    if not first.certain:
        return first, Certainty.UNKNOWN, _unsure(prospects, first)
    reason = _sure(first, willing)
    if not is_its(first):
        reason += " Its probe may refuse."
    return first, Certainty.CERTAIN, reason


def _nobody(prospects: Prospects, device: PciDevice) -> tuple[Certainty, str]:
    override = prospects.override(device)
    if override is not None:
        return Certainty.CERTAIN, f"driver_override is {quoted(override)}."
    if prospects.tells_built_in:
        return Certainty.CERTAIN, "Nothing that matches is registered."
    return (
        Certainty.UNKNOWN,
        "Nothing that matches is known, but not all built-in drivers tell their ids.",
    )


def _first(prospects: Prospects, willing: Sequence[Candidate]) -> Candidate | None:
    """Return the one that is surely registered before all others."""
    for each in willing:
        if all(other is each or prospects.precedes(each, other) for other in willing):
            return each
    return None


def _race(
    there: Sequence[Candidate],
    willing: Sequence[Candidate],
    is_its: Callable[[Candidate], bool],
) -> tuple[Candidate | None, Certainty, str]:
    built_in = [each for each in willing if each.comes is Comes.BUILT_IN]
    if built_in:
        winner = next(filter(is_its, built_in), None)
        reason = f"{_list(built_in)} are built in; nothing tells their order."
        return winner, Certainty.UNKNOWN, reason
    reason = (
        f"{len(there)} candidates, {_list(there)}; winner by registration order, which "
        "is a race"
    )
    named = [each for each in willing if each.place]
    if len(named) == 1:
        place = named[0].place or ""
        reason += (
            f"; {named[0].label} is likely the first, for {printable(place)} has it"
        )
    return None, Certainty.RACE, f"{reason}."


def _unsure(prospects: Prospects, first: Candidate) -> str:
    release = printable(prospects.kernel.release)
    return (
        f"{first.label} is built in, and {release} does not tell the ids of what is "
        "built in: those of now are taken."
    )


def _sure(first: Candidate, willing: Sequence[Candidate]) -> str:
    brought = _BROUGHT.get(first.comes) or f"{first.where} names its module"
    others = [each for each in willing if each is not first]
    if not others:
        return f"{first.label} alone matches; {brought}."
    if first.comes is Comes.BUILT_IN:
        return f"{first.label} is built in, so it is registered before all modules."
    return (
        f"{first.label} is loaded before {_list(others)}, by a softdep or because it "
        "is needed."
    )


def _list(candidates: Sequence[Candidate]) -> str:
    return " and ".join(each.label for each in candidates)

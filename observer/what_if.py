"""What would be otherwise under another semantics, as sinks: devices and decisions."""

from __future__ import annotations

from collections import Counter, defaultdict
from typing import TYPE_CHECKING, NamedTuple

from observer.model import SEMANTICS, expect
from observer.model.others import differing
from observer.record import Device, Judged, Outcome, Repeated, Unregister

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from observer.record import Match, Observation

KINDS = 16384  # of decisions remembered; then the oldest is forgotten

_Kind = tuple[Device, str | None]  # of devices: those that no driver can tell apart


class WhatIf:
    """Knows the devices of which some driver's last decision would have differed.

    Devices of the same ids and driver_override are decided alike, so one decision
    tells of all of them. It counts if its inputs were beyond doubt, until its driver
    is unregistered. The answers that are compared are both the model's: what the
    kernel answered matters to the judge alone.

    Another thread may call `devices`.
    """

    def __init__(
        self,
        semantics: str,
        there: Callable[[], Mapping[str, _Kind]] | None = None,
        *,
        kinds: int = KINDS,
    ) -> None:
        """Compare with `semantics`, the kernel's own.

        `there` tells ids and driver_override of each address; by default they are what
        its last decision was made from. Raises KeyError for an unknown semantics.
        """
        SEMANTICS[semantics]
        self._semantics = semantics
        self._limit = kinds
        # by number of the driver; what differs nowhere is not in here
        self._differing: dict[tuple[int, _Kind], tuple[str, ...]] = {}
        self._seen: dict[str, _Kind] = {}
        self._there = there or self._seen.copy
        self._remembers = there is None

    def __call__(self, observation: Observation) -> None:
        """Enter one observation."""
        if isinstance(observation, Judged):
            if not observation.match.doubts:
                self._enter(observation.match)
        elif isinstance(observation, Unregister):
            for key in list(self._differing):
                if key[0] == observation.driver:
                    del self._differing[key]

    def devices(self) -> dict[str, int]:
        """Return how many addresses would see another outcome under each semantics."""
        slugs_of: defaultdict[_Kind, set[str]] = defaultdict(set)
        for (_number, kind), slugs in list(self._differing.items()):
            slugs_of[kind].update(slugs)
        counts = Counter(
            slug for kind in self._there().values() for slug in slugs_of.get(kind, ())
        )
        return {slug: counts[slug] for slug in SEMANTICS}

    def _enter(self, match: Match) -> None:
        inputs = match.inputs
        kind = (inputs.device, inputs.driver_override)
        if self._remembers:
            self._seen[match.address] = kind
        key = (inputs.driver.number, kind)
        self._differing.pop(key, None)
        slugs = tuple(differing(self._semantics, inputs))
        if slugs:
            self._differing[key] = slugs
            if len(self._differing) > self._limit:
                del self._differing[next(iter(self._differing))]


class Difference(NamedTuple):
    """A decision and what it would have been."""

    driver: str
    address: str
    expected: Outcome
    others: tuple[tuple[str, Outcome], ...]  # by slug, those that differ


class Differences:
    """Counts the decisions that would have differed, alike ones together."""

    def __init__(self, semantics: str) -> None:
        """Compare with `semantics`, the kernel's own."""
        self._semantics = semantics
        self._counts: Counter[Difference] = Counter()
        self._repeatable: dict[int, Difference] = {}  # by digest

    def __call__(self, observation: Observation) -> None:
        """Enter one observation."""
        if isinstance(observation, Judged) and not observation.match.doubts:
            match = observation.match
            others = differing(self._semantics, match.inputs)
            expected = expect(self._semantics, match.inputs)
            if others and isinstance(expected, Outcome):
                difference = Difference(
                    match.inputs.driver.name,
                    match.address,
                    expected,
                    tuple(others.items()),
                )
                self._counts[difference] += 1
                if match.digest is not None:
                    self._repeatable[match.digest] = difference
        elif isinstance(observation, Repeated):
            repeat = observation.repeat
            if repeat.digest in self._repeatable:
                self._counts[self._repeatable[repeat.digest]] += repeat.count

    def lines(self) -> Iterator[dict[str, object]]:
        """Yield one object for all decisions that are alike, in order of the first."""
        for difference, decisions in self._counts.items():
            yield {
                "address": difference.address,
                "driver": difference.driver,
                "decisions": decisions,
                "semantics": self._semantics,
                "outcome": _spelled(difference.expected),
                "what_if": {
                    slug: _spelled(outcome) for slug, outcome in difference.others
                },
            }


def _spelled(outcome: Outcome) -> str:
    """Return an answer with the place of the entry: static 2."""
    match, index = outcome
    return str(match) if index is None else f"{match} {index}"

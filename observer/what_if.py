"""What would be otherwise under another semantics, as sinks: devices and decisions."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, NamedTuple

from observer.model import SEMANTICS, expect
from observer.model.others import differing
from observer.record import Judged, Outcome, Unregister

if TYPE_CHECKING:
    from collections.abc import Iterator

    from observer.record import Match, Observation

PAIRS = 16384  # of driver and device remembered; then the oldest is forgotten


class WhatIf:
    """Knows the pairs of driver and device whose last decision would have differed.

    A pair counts by its last decision with inputs beyond doubt, until its driver is
    unregistered. The answers that are compared are both the model's: what the kernel
    answered matters to the judge alone.

    Another thread may read `devices`.
    """

    def __init__(self, semantics: str, *, pairs: int = PAIRS) -> None:
        """Compare with `semantics`, the kernel's own.

        Raises KeyError when there is no such semantics.
        """
        SEMANTICS[semantics]
        self._semantics = semantics
        self._limit = pairs
        # by driver number and address; a pair that differs nowhere is not in here
        self._differing: dict[tuple[int, str], tuple[str, ...]] = {}

    def __call__(self, observation: Observation) -> None:
        """Enter one observation."""
        if isinstance(observation, Judged):
            if not observation.match.doubts:
                self._enter(observation.match)
        elif isinstance(observation, Unregister):
            for pair in list(self._differing):
                if pair[0] == observation.driver:
                    del self._differing[pair]

    def devices(self) -> dict[str, int]:
        """Return how many addresses would see another outcome under each semantics."""
        addresses: dict[str, set[str]] = {slug: set() for slug in SEMANTICS}
        for (_number, address), slugs in list(self._differing.items()):
            for slug in slugs:
                addresses[slug].add(address)
        return {slug: len(found) for slug, found in addresses.items()}

    def _enter(self, match: Match) -> None:
        pair = (match.inputs.driver.number, match.address)
        self._differing.pop(pair, None)
        slugs = tuple(differing(self._semantics, match.inputs))
        if slugs:
            self._differing[pair] = slugs
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

    def __call__(self, observation: Observation) -> None:
        """Enter one observation."""
        if isinstance(observation, Judged) and not observation.match.doubts:
            match = observation.match
            others = differing(self._semantics, match.inputs)
            expected = expect(self._semantics, match.inputs)
            if others and isinstance(expected, Outcome):
                self._counts[
                    Difference(
                        match.inputs.driver.name,
                        match.address,
                        expected,
                        tuple(others.items()),
                    )
                ] += 1

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

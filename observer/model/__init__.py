"""The reference model: what pci_match_device() must answer.

It computes from `Inputs` alone; the kernel's answer never comes in here.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from observer.model.explanation import explain
from observer.model.primitives import Undecided
from observer.model.releases import linux_3_16, linux_5_15
from observer.record import Indeterminate, Inputs, Outcome, Verdict

if TYPE_CHECKING:
    from collections.abc import Callable


class Semantics(NamedTuple):
    """A truth function and where it comes from."""

    decide: Callable[[Inputs], Outcome]  # raises Undecided
    rule: str  # one sentence
    source: str


SEMANTICS: dict[str, Semantics] = {
    "linux-3.16": Semantics(
        linux_3_16,
        "A driver_override naming another driver: none. Else the first dynid, else the "
        "first id_table entry that matches, else the dummy id if driver_override is "
        "set.",
        "Linux v3.16 to v5.14, commit 782a985d7af2",
    ),
    "linux-5.15": Semantics(
        linux_5_15,
        "As linux-3.16, but an override_only entry counts only when driver_override "
        "names the driver; otherwise the search goes on after it.",
        "Linux v5.15 and later, commits 343b7258687e and cc6711b0bf36",
    ),
}


def expect(slug: str, inputs: Inputs) -> Verdict:
    """Return what the kernel must answer, or why that can't be known.

    Raises KeyError when there is no such semantics.
    """
    try:
        return SEMANTICS[slug].decide(inputs)
    except Undecided as undecided:
        return Indeterminate(undecided.reason)


def why(slug: str, inputs: Inputs) -> str:
    """Return one sentence for a person: which rule and which entry decided.

    Raises KeyError when there is no such semantics.
    """
    return explain(inputs, expect(slug, inputs))

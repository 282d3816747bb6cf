"""Every semantics by its slug: the releases, and what was proposed in June 2021."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from observer.model.primitives import Undecided
from observer.model.proposals import (
    rfc_2021_06_03,
    rfc_2021_06_14,
    rfc_2021_06_14_without_c,
    rfc_2021_06_17,
    rfc_flagged_dynids,
)
from observer.model.releases import linux_3_15, linux_3_16, linux_5_15
from observer.record import Indeterminate, Inputs, Outcome, Source, Verdict

if TYPE_CHECKING:
    from collections.abc import Callable

_NOWHERE: frozenset[Source] = frozenset()
_STATIC = frozenset({Source.STATIC})
_BOTH = frozenset({Source.STATIC, Source.DYNID})


class Semantics(NamedTuple):
    """A truth function and where it comes from."""

    decide: Callable[[Inputs], Outcome]  # raises Undecided
    era: str  # in which kernels it was in force
    rule: str  # one sentence
    source: str
    has_override: bool = True  # a device has a driver_override
    flags: frozenset[Source] = _STATIC  # the lists in which override_only counts


SEMANTICS: dict[str, Semantics] = {
    "linux-3.15": Semantics(
        linux_3_15,
        "Linux up to v3.15",
        "The first dynid, else the first id_table entry that matches; there is no "
        "driver_override.",
        "commit 7461b60afa62",
        has_override=False,
        flags=_NOWHERE,
    ),
    "linux-3.16": Semantics(
        linux_3_16,
        "Linux v3.16 to v5.14",
        "A driver_override naming another driver: none. Else the first dynid, else the "
        "first id_table entry that matches, else the dummy id if driver_override is "
        "set.",
        "commit 782a985d7af2",
        flags=_NOWHERE,
    ),
    "linux-5.15": Semantics(
        linux_5_15,
        "Linux v5.15 and later",
        "As linux-3.16, but an override_only entry counts only when driver_override "
        "names the driver; otherwise the search goes on after it.",
        "commits 343b7258687e and cc6711b0bf36",
    ),
    "rfc-2021-06-03": Semantics(
        rfc_2021_06_03,
        "never in a kernel",
        "The first dynid, else the first id_table entry that matches, but none if it "
        "is flagged and driver_override is not set, or not flagged and driver_override "
        "is set; there is no dummy id.",
        "Message-ID <20210603160809.15845-10-mgurtovoy@nvidia.com>",
    ),
    "rfc-2021-06-14": Semantics(
        rfc_2021_06_14,
        "never in a kernel",
        "(a) The first dynid. Else the first id_table entry that matches, but none "
        "(b) if it is flagged and driver_override is not set, or (c) if driver_override"
        " is set and it is not flagged. If no entry matches, the dummy id if "
        "driver_override is set.",
        "Message-IDs <117a5e68-d16e-c146-6d37-fcbfe49cb4f8@nvidia.com> and "
        "<20210614124250.0d32537c.alex.williamson@redhat.com>",
    ),
    "rfc-2021-06-14-without-c": Semantics(
        rfc_2021_06_14_without_c,
        "never in a kernel",
        "As rfc-2021-06-14 without (c): a flagged first entry hides all entries after "
        "it while driver_override is not set.",
        "question and answer of 15 June 2021 after Message-ID "
        "<20210614124250.0d32537c.alex.williamson@redhat.com>",
    ),
    "rfc-2021-06-17": Semantics(
        rfc_2021_06_17,
        "never in a kernel",
        "As linux-5.15, but as posted the search goes on from the flagged entry "
        "itself and never ends.",
        "Message-ID <cd95b92c-a23b-03a7-1dd3-9554b9d22955@nvidia.com>",
    ),
    "rfc-flagged-dynids": Semantics(
        rfc_flagged_dynids,
        "never in a kernel",
        "As linux-5.15, and new_id can flag a dynid, which then counts only when "
        "driver_override names the driver.",
        "counter-suggestion in the thread of Message-ID "
        "<20210614124250.0d32537c.alex.williamson@redhat.com>",
        flags=_BOTH,
    ),
}


def why_not_live(slug: str) -> str | None:
    """Say why a kernel that can be traced is not judged by this; None if it is.

    One without driver_override is older than all type information. So where the types
    show none, it has moved to where we don't look, and every verdict would be wrong.
    """
    if slug not in SEMANTICS:
        return "which the model does not know"
    if not SEMANTICS[slug].has_override:
        return "for no driver_override was found, but one must be there"
    return None


def expect(slug: str, inputs: Inputs) -> Verdict:
    """Return what the kernel must answer, or why that can't be known.

    Raises KeyError when there is no such semantics.
    """
    try:
        return SEMANTICS[slug].decide(inputs)
    except Undecided as undecided:
        return Indeterminate(undecided.reason)

"""What a run of the live scenario comes to, for the table of kernels in the docs."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

METHODS: Final = ("fentry", "kprobe")
_LAYOUT: Final = re.compile(r'kernel_info\{.*layout="([^"]*)"')
_MISSED: Final = 'events_lost_total{stage="missed"}'

Metrics = dict[str, float]


def facts(result: Mapping[str, Any]) -> dict[str, str | int | float]:
    """Sum up what was seen; what is missing did not come to its end.

    Only the parts in which nothing is meant to go wrong count: neither the wrong era
    nor the ring that is too small.
    """
    parts: dict[str, Any] = result["parts"]
    found: dict[str, str | int | float] = {
        "release": result["release"],
        "preemption": result["preemption"],
    }
    for method in METHODS:
        part = parts.get(method, {})
        if "attach_seconds" in part:
            found[f"{method}_seconds"] = round(part["attach_seconds"], 1)
    ends = list(_ends(parts))
    for layout in filter(None, (_LAYOUT.match(name) for end in ends for name in end)):
        found["layout"] = layout[1]
    return found | {
        "decisions": _sum(ends, "judgements_total"),
        "divergences": _sum(ends, "divergences_total"),
        "lost": _sum(ends, "events_lost_total") - _sum(ends, _MISSED),
        "missed": _sum(ends, _MISSED),
    }


def _ends(parts: Mapping[str, Any]) -> Iterator[Metrics]:
    """Yield what the observer counted in all, part by part."""
    for method in METHODS:
        if "end" in (part := parts.get(method, {})):
            yield part["end"]["metrics"]
    if "after" in (both := parts.get("both", {})):
        yield both["after"]["whole"]["metrics"]


def _sum(ends: list[Metrics], name: str) -> int:
    """Add up a metric, all labels together."""
    return sum(
        int(value)
        for end in ends
        for key, value in end.items()
        if name in (key, key.partition("{")[0])
    )

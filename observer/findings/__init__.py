"""What is wrong with a machine, in an operator's words, and what would change it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from observer.findings.bindings import unexplained_binding, vf_on_native_driver
from observer.findings.captures import greedy_dynids, partial_groups
from observer.findings.changes import binding_changes
from observer.findings.flapping import flapping
from observer.findings.notes import notes
from observer.findings.orphans import orphan
from observer.findings.overrides import stale_override
from observer.findings.picture import Picture
from observer.findings.shape import Actor, Clock, Finding, Kind, Name, Note

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = [
    "Actor",
    "Clock",
    "Finding",
    "Kind",
    "Name",
    "Note",
    "Picture",
    "findings",
    "notes",
]

_OF_A_DEVICE = (
    vf_on_native_driver,
    stale_override,
    orphan,
    unexplained_binding,
    flapping,
)
_OF_ALL = (binding_changes, partial_groups, greedy_dynids)


def findings(picture: Picture) -> Iterator[Finding]:
    """Yield all findings: those of each device by address, then those of several."""
    for device in picture.machine.devices.values():
        for of_a_device in _OF_A_DEVICE:
            finding = of_a_device(picture, device)
            if finding is not None:
                yield finding
    for of_all in _OF_ALL:
        yield from of_all(picture)

"""The picture that other kernels are compared with: `baseline`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple

from observer import audit, comparison, kernel, pictures
from observer.comparison import Side
from observer.difference import difference
from observer.findings.picture import unix_time
from observer.state_directory import as_owner
from observer.store import Kept, StoreError
from observer.store import accept as keep
from observer.terminal import counted

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from observer.change import Change
    from observer.findings import Clock
    from observer.machine import Machine

FORMAT: Final = "pci-observer-baseline"
VERSION: Final = 1


class Standing(NamedTuple):
    """The baseline beside the machine as it is now."""

    baseline: Side | None  # None: there is none yet
    now: Side
    changes: tuple[Change, ...]


def show(state: Path, machine: Machine) -> Standing:
    """Compare the machine with the baseline. Raises PictureError."""
    kept = pictures.baseline(state)
    now = Side(pictures.NOW, pictures.of_machine(machine))
    if kept is None:
        return Standing(None, now, ())
    name = pictures.BASELINE
    then = Side(name, pictures.of_kept(name, kept))
    return Standing(then, now, difference(then.picture, now.picture))


def accept(state: Path, machine: Machine) -> Standing:
    """Make the machine as it is the baseline. Raises PictureError."""
    document = audit.as_object(audit.audit(machine))
    unix_ns = machine.now_ns + machine.realtime_offset_ns
    kept = Kept(kernel.boot_id(), machine.release, unix_ns, document)
    try:
        with as_owner(state.parent):
            keep(state, kept)
    except StoreError as e:
        raise pictures.PictureError(str(e)) from e
    return show(state, machine)


def as_object(told: Standing) -> dict[str, object]:
    """Return it for programs."""
    then = told.baseline
    return {
        "format": FORMAT,
        "version": VERSION,
        "baseline": then and comparison.side_object(then),
        "now": comparison.side_object(told.now),
        "differences": len(told.changes),
    }


def as_text(told: Standing, clock: Clock = unix_time) -> Iterator[str]:
    """Yield lines for a terminal; `clock` spells Unix times."""
    if told.baseline is None:
        yield "There is no baseline yet: the daemon keeps a picture once bindings rest."
        return
    yield comparison.described(told.baseline, clock)
    yield comparison.described(told.now, clock)
    number = counted(len(told.changes), "difference")
    hint = "; pci-observer diff baseline now lists them" if told.changes else ""
    yield f"{number}{hint}."

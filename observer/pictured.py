"""What a picture of a machine tells: what is bound, and what could be.

A picture is what `audit --json` writes. Plain values, as few as a comparison needs.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Mapping

    from observer.record import Device, Id


class PicturedDriver(NamedTuple):
    """A driver that was registered."""

    name: str
    module: str | None  # None: built into the kernel, or unknown
    built_in: bool | None  # None: unknown
    dynids: tuple[Id, ...] | None  # None: unknown


class PicturedDevice(NamedTuple):
    """A device, and the drivers that match it."""

    address: str
    ids: Device
    driver: str | None  # bound to it
    driver_override: str | None  # None: not set
    physfn: str | None  # address of the PF; None: no VF
    candidates: tuple[str, ...]  # that match, in the order of registration
    possible: tuple[str, ...]  # too much is unknown to tell


class Pictured(NamedTuple):
    """A machine at one time."""

    release: str  # of the kernel
    layout: str
    semantics: str  # slug of the kernel's own
    new_id_rules: str  # slug
    judged_by: str  # slug of the semantics that told the candidates
    unix_ns: int  # when
    order_known: bool  # else drivers and candidates stand by name
    drivers: Mapping[str, PicturedDriver]  # by name; none: they are unknown
    devices: Mapping[str, PicturedDevice]  # by address

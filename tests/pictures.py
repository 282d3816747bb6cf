"""Builders of pictures for tests, by way of machines."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import machines
from hypothesis import strategies as st

from observer.audit import as_object, audit
from observer.candidates import Matching
from observer.depict import depict

if TYPE_CHECKING:
    from observer.machine import Machine, PciDevice
    from observer.pictured import Pictured


def pictured(*devices: PciDevice, **more: object) -> Pictured:
    """Return the picture of a machine with these devices."""
    return of(machines.machine(*devices, **more))


def of(machine: Machine) -> Pictured:
    """Return the picture of a machine."""
    return depict(machine, Matching(machine))


def file_of(machine: Machine) -> dict[str, Any]:
    """Return what `audit --json` writes of a machine, as a reader gets it."""
    read: dict[str, Any] = json.loads(json.dumps(as_object(audit(machine))))
    return read


# Any picture at all; two of them often share addresses, ids and names of drivers.
pictures = st.builds(
    lambda machine, order_known: of(machine._replace(order_known=order_known)),
    machines.machines,
    st.booleans(),
)

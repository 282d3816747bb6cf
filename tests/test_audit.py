"""observer/audit.py: every device judged, as data, as JSON and as text."""

from __future__ import annotations

from machines import device, machine

from observer.audit import audit, has_findings


def test_healthy() -> None:
    """A device bound to the driver that lists it is no finding."""
    found = audit(machine(device(bound="e1000")))
    assert not has_findings(found)
    (audited,) = found.devices
    assert ["e1000"] == [each.driver for each in audited.candidates]

"""The picture of the machine that lasted, which is worth keeping of a boot.

What a shutdown or a tool takes apart for a moment never is.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Mapping

    from observer.audit import Audit
    from observer.machine import Machine, PciDevice, PciDriver

LASTING_NS: Final = 30_000_000_000

_Seen = tuple["Mapping[str, PciDevice]", "Mapping[str, PciDriver]"]


class Lasting:
    """Tells which audits show bindings that lasted."""

    def __init__(self, *, lasting_ns: int = LASTING_NS) -> None:
        """Let bindings last that are the same for `lasting_ns`."""
        self._lasting_ns = lasting_ns
        self._bindings: dict[str, object] | None = None
        self._since_ns = 0
        self._audit: Audit | None = None  # the last
        self._told: _Seen | None = None

    def look(self, audit: Audit) -> None:
        """Take an audit of the machine as it is now."""
        bindings = _bindings(audit.machine)
        if bindings != self._bindings:
            self._bindings, self._since_ns = bindings, audit.machine.now_ns
        self._audit = audit

    def lasts(self, now_ns: int) -> bool:
        """Tell whether the bindings of the last audit have lasted."""
        return now_ns - self._since_ns >= self._lasting_ns

    def lasted(self, now_ns: int) -> Audit | None:
        """Return the last audit once, if what it shows is new and has lasted."""
        audit = self._audit
        if audit is None or not self.lasts(now_ns):
            return None
        self._audit = None
        seen = (audit.machine.devices, audit.machine.drivers)
        if seen == self._told:
            return None
        self._told = seen
        return audit


def _bindings(machine: Machine) -> dict[str, object]:
    return {
        address: (device.ids, device.driver, device.driver_override)
        for address, device in machine.devices.items()
    }

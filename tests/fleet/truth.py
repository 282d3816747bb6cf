"""What the fleet's dashboard must show at the fleet's end, counted from the scenario.

Nothing of this looks at what hosts expose.
"""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

from fleet.scenario import HOUR

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from fleet.scenario import Device, Fleet

Key = tuple[str, ...]


def present(fleet: Fleet) -> list[int]:
    """Return the hosts that report."""
    return [h for h in range(fleet.hosts) if not fleet.silent(h, fleet.end)]


def silent(fleet: Fleet) -> list[int]:
    """Return the hosts that do not."""
    return [h for h in range(fleet.hosts) if fleet.silent(h, fleet.end)]


def hosts_by_kernel(fleet: Fleet) -> Mapping[str, int]:
    """Count hosts by release."""
    return Counter(fleet.release(host, fleet.end) for host in present(fleet))


def changed(fleet: Fleet) -> Iterator[tuple[int, Device]]:
    """Yield each device that is not as before."""
    for host in present(fleet):
        for device in fleet.machine(host, fleet.end):
            if device.regression is not None:
                yield host, device


def pair(fleet: Fleet, host: int, device: Device) -> Key:
    """Return vendor, device, change, driver before, driver, kernel."""
    assert device.regression is not None
    kind = device.kind
    return (
        *(kind.vendor_id, kind.device_id, device.regression.change),
        *(kind.driver, device.driver, fleet.release(host, fleet.end)),
    )


def changed_devices(fleet: Fleet) -> Mapping[Key, int]:
    """Count devices by pair."""
    return Counter(pair(fleet, host, device) for host, device in changed(fleet))


def changed_hosts(fleet: Fleet) -> Mapping[Key, int]:
    """Count hosts by pair."""
    found = {(pair(fleet, host, device), host) for host, device in changed(fleet)}
    return Counter(pair for pair, _host in found)


def findings(fleet: Fleet) -> Mapping[Key, int]:
    """Count findings by (finding, kernel)."""
    return Counter(
        (finding, fleet.release(host, fleet.end))
        for host in present(fleet)
        for _address, finding in fleet.findings(host, fleet.end)
    )


def finding_hosts(fleet: Fleet) -> Mapping[Key, int]:
    """Count hosts by (finding, kernel)."""
    return Counter(
        (finding, fleet.release(host, fleet.end))
        for host in present(fleet)
        for finding in {f for _address, f in fleet.findings(host, fleet.end)}
    )


def divergences_of_an_hour(fleet: Fleet) -> int:
    """Count the divergences of the last hour, those before a restart as well."""
    count = 0
    for host in present(fleet):
        for time in range(fleet.end - HOUR + fleet.step, fleet.end + 1, fleet.step):
            now = fleet.divergences(host, time)
            before = fleet.divergences(host, time - fleet.step)
            count += now - before if now >= before else now
    return count


def devices(fleet: Fleet) -> Mapping[Key, int]:
    """Count devices by (vendor, device, driver, kernel)."""
    return Counter(
        (
            *(device.kind.vendor_id, device.kind.device_id, device.driver),
            fleet.release(host, fleet.end),
        )
        for host in present(fleet)
        for device in fleet.machine(host, fleet.end)
        if device.there
    )

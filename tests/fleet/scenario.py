"""What happens on each host of the fleet and when: the simulator's own truth.

Everything is a function of the host's number and the time, so that two ways to count
it can be compared: from what a host exposes, and from here.
"""

from __future__ import annotations

from typing import Final, NamedTuple

BEFORE: Final = "6.1.0-56-amd64"
AFTER: Final = "6.12.90+deb13-amd64"
JOB: Final = "pci-observer"
WAVES: Final = (0.25, 0.5, 0.75)  # of the time; every fourth host is never upgraded
HOUR: Final = 3600


class Kind(NamedTuple):
    """A kind of device, and its driver before any upgrade."""

    vendor_id: str
    device_id: str
    class_id: str
    driver: str  # "": none
    driver_override: str = ""


class Regression(NamedTuple):
    """What an upgrade does to one kind of device, on a share of the hosts."""

    kind: Kind
    change: str
    driver: str  # afterwards
    every: int  # one host of so many
    first: int  # host

    def on(self, host: int) -> bool:
        """Tell whether the host is one of those."""
        return host % self.every == self.first


ICE: Final = Kind("0x8086", "0x1592", "0x020000", "ice")
MLX5: Final = Kind("0x15b3", "0x101d", "0x020000", "mlx5_core")
GPU: Final = Kind("0x10de", "0x20b0", "0x030200", "vfio-pci", "vfio-pci")
NVME: Final = Kind("0x144d", "0xa80a", "0x010802", "nvme")
RAID: Final = Kind("0x1000", "0x0016", "0x010700", "megaraid_sas")
BRIDGE: Final = Kind("0x8086", "0x347a", "0x060400", "pcieport")
UNCORE: Final = Kind("0x8086", "0x09a4", "0x088000", "")
KINDS: Final = (ICE, MLX5, GPU, NVME, RAID, BRIDGE, UNCORE, NVME, ICE, MLX5)
DRIVERS: Final = tuple(sorted({kind.driver for kind in KINDS} - {""}))

REGRESSIONS: Final = (
    Regression(ICE, "driver_lost", "", 5, 0),
    Regression(GPU, "driver_changed", "nouveau", 10, 3),
    Regression(RAID, "vanished", "", 20, 6),
)


class Device(NamedTuple):
    """A device at one time."""

    address: str
    kind: Kind
    driver: str
    regression: Regression | None  # by which it is not as before
    there: bool = True


class Fleet(NamedTuple):
    """So many hosts, from `start` to `end`, both included."""

    hosts: int
    devices: int  # of each host
    start: int  # Unix time
    end: int
    step: int = 240  # seconds from sample to sample

    @property
    def times(self) -> range:
        """Return the times of the samples."""
        return range(self.start, self.end + 1, self.step)

    def instance(self, host: int) -> str:
        """Return the host's name as a target's."""
        return f"host{host:05}:9817"

    def upgraded_at(self, host: int) -> int | None:
        """Return when the host was booted with the other kernel."""
        wave = host % (len(WAVES) + 1)
        if wave == len(WAVES):
            return None
        return int(self.start + (self.end - self.start) * WAVES[wave])

    def upgraded(self, host: int, time: int) -> bool:
        """Tell whether the host runs the other kernel."""
        at = self.upgraded_at(host)
        return at is not None and time >= at

    def release(self, host: int, time: int) -> str:
        """Return the kernel that runs."""
        return AFTER if self.upgraded(host, time) else BEFORE

    def started_at(self, host: int, time: int) -> int:
        """Return when the daemon started: at boot; on every third host, every 6 h."""
        at = self.upgraded_at(host)
        began = at if at is not None and time >= at else self.start
        return (
            began + (time - began) // (6 * HOUR) * 6 * HOUR if host % 3 == 0 else began
        )

    def silent(self, host: int, time: int) -> bool:
        """Tell whether it does not answer: some do not in the last tenth."""
        return host % 24 == 9 and time > self.end - (self.end - self.start) // 10

    def machine(self, host: int, time: int) -> list[Device]:
        """Return all devices, those that vanished as well."""
        upgraded = self.upgraded(host, time)
        return [
            _device(number, host, upgraded=upgraded) for number in range(self.devices)
        ]

    def findings(self, host: int, time: int) -> list[tuple[str, str]]:
        """Return (address, finding) of all that is wrong."""
        devices = self.machine(host, time)
        found = []
        for device in devices:
            if device.regression is not None:
                found.append((device.address, "binding_changed"))
            if (
                device.regression is not None
                and device.regression.change == "driver_lost"
            ):
                found.append((device.address, "orphan"))
        if host % 8 == 1 and devices:
            found.append((devices[-1].address, "stale_override"))
        if host % 40 == 11 and devices:
            found.append((devices[0].address, "vf_on_native_driver"))
        return found

    def divergences(self, host: int, time: int) -> int:
        """Count those since the daemon started: one an hour under the new kernel."""
        if host % 20 != 0 or not self.upgraded(host, time):
            return 0
        return (time - self.started_at(host, time)) // HOUR

    def lost(self, host: int, time: int) -> int:
        """Count events lost in the boot of the new kernel."""
        return 5 if host % 30 == 2 and self.upgraded(host, time) else 0

    def hooks_missing(self, host: int, time: int) -> int:
        """Count hooks that the new kernel does not let us have."""
        return int(host % 33 == 5 and self.upgraded(host, time))

    def store_degraded(self, host: int, time: int) -> bool:
        """Tell whether the disk is full: of some hosts in the last quarter."""
        return host % 50 == 4 and time > self.end - (self.end - self.start) // 4

    def decisions(self, host: int, time: int) -> int:
        """Count rounds since the daemon started: each driver sees each device."""
        return 1 + (time - self.started_at(host, time)) // (HOUR // 2)


def _device(number: int, host: int, *, upgraded: bool) -> Device:
    kind = KINDS[number % len(KINDS)]
    address = f"0000:{number // 8 + 1:02x}:{number % 8:02x}.0"
    if upgraded:
        for regression in REGRESSIONS:
            if regression.kind == kind and regression.on(host):
                there = regression.change != "vanished"
                return Device(address, kind, regression.driver, regression, there)
    return Device(address, kind, kind.driver, None)

"""The machine as metrics: what each device and driver is, as labels and values.

Labels hold text of the kernel and of users; it is spelled printable and cut.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple

from observer.findings import Name
from observer.fingerprint import fingerprint
from observer.text import printable

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from observer.findings import Finding
    from observer.machine import Machine, PciDevice

LABEL_CHARACTERS: Final = 128  # driver_override may hold 4,094 bytes

_DEVICE_LABELS: Final = (
    "address",
    "vendor_id",
    "device_id",
    "class_id",
    "driver",
    "driver_override",
)


class Gauge(NamedTuple):
    """One metric family: a value for each tuple of label values."""

    name: str
    text: str
    labels: tuple[str, ...]
    samples: Mapping[tuple[str, ...], float]


def gauges(
    machine: Machine,
    findings: Iterable[Finding],
    ended: Iterable[tuple[str, str]],
) -> Iterator[Gauge]:
    """Yield all gauges of a machine; `ended` are (address, finding) that stood once."""
    standing = tuple(findings)
    yield Gauge(
        "device_driver_info",
        "PCI devices with the driver that is bound to them, empty for none.",
        _DEVICE_LABELS,
        {_device(device): 1 for device in machine.devices.values()},
    )
    yield Gauge(
        "binding_fingerprint_info",
        "The same on two machines when their bindings are.",
        ("fingerprint",),
        {(fingerprint(machine.devices.values()),): 1},
    )
    yield Gauge(
        "baseline_info",
        "The kernel whose bindings those of now are compared with; no sample: none.",
        ("release",),
        {(printable(machine.baseline.release),): 1} if machine.baseline else {},
    )
    yield Gauge(
        "device_finding",
        "Whether something is wrong with a PCI device; 0 when it was and is no more.",
        ("address", "finding"),
        _by_device(standing, ended),
    )
    yield Gauge(
        "findings",
        "Findings that stand now.",
        ("finding",),
        {
            (name,): sum(finding.finding is name for finding in standing)
            for name in Name
        },
    )
    yield Gauge(
        "driver_dynids",
        "Ids added by new_id or by the driver itself; no sample: not known.",
        ("driver",),
        {
            (printable(name)[:LABEL_CHARACTERS],): len(driver.dynids)
            for name, driver in machine.drivers.items()
            if driver.dynids is not None
        },
    )
    yield Gauge(
        "inventory_gaps",
        "Things about the machine that could not be learned.",
        (),
        {(): len(machine.gaps)},
    )


def _by_device(
    standing: Iterable[Finding], ended: Iterable[tuple[str, str]]
) -> dict[tuple[str, ...], float]:
    samples: dict[tuple[str, ...], float] = {}
    samples |= {(printable(address), name): 0.0 for address, name in ended}
    for finding in standing:
        for address in (finding.address, *finding.also):
            samples[printable(address), finding.finding] = 1.0
    return samples


def _device(device: PciDevice) -> tuple[str, ...]:
    ids = device.ids
    return (
        printable(device.address),
        f"0x{ids.vendor:04x}",
        f"0x{ids.device:04x}",
        f"0x{ids.class_:06x}",
        printable(device.driver or "")[:LABEL_CHARACTERS],
        printable(device.driver_override or "")[:LABEL_CHARACTERS],
    )

"""The machine as metrics: what each device and driver is, as labels and values.

Labels hold text of the kernel and of users; it is spelled printable and cut.
"""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Final, NamedTuple

from observer.findings import Kind, Name
from observer.findings.picture import needs_no_driver
from observer.fingerprint import fingerprint
from observer.labels import USUAL, label

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from observer.findings import Finding
    from observer.machine import Machine, PciDevice
    from observer.record import Device

_DEVICE_LABELS: Final = (
    "address",
    "vendor_id",
    "device_id",
    "class_id",
    "driver",
    "driver_override",
)


# Kinds of binding_changed that say another driver, or another device.
CHANGES: Final = (
    Kind.DRIVER_CHANGED,
    Kind.DRIVER_LOST,
    Kind.DRIVER_GAINED,
    Kind.VANISHED,
    Kind.APPEARED,
)


class Selection(NamedTuple):
    """Which devices get series, and how many series there may be in all."""

    limit: int = USUAL
    classes: tuple[str, ...] = ()  # beginnings of the class code, as 02; none: all
    vendors: tuple[int, ...] = ()  # none: all

    def has(self, ids: Device) -> bool:
        """Tell whether a device with these ids is selected."""
        code = f"{ids.class_:06x}"
        return (not self.classes or code.startswith(self.classes)) and (
            not self.vendors or ids.vendor in self.vendors
        )


class Gauge(NamedTuple):
    """One metric family: a value for each tuple of label values.

    Where there is no room for all samples, the last ones are left out. A family can
    come in parts.
    """

    name: str
    text: str
    labels: tuple[str, ...]
    samples: Mapping[tuple[str, ...], float]
    bounded: str = ""  # what its samples are of, as metrics count them; "": always few


def gauges(
    machine: Machine,
    findings: Iterable[Finding],
    ended: Iterable[tuple[str, str]],
    selection: Selection = Selection(),  # noqa: B008 - a value
) -> Iterator[Gauge]:
    """Yield all gauges of a machine, the more important first.

    `ended` are (address, finding) that stood once.
    """
    standing = tuple(findings)
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
        {(label(machine.baseline.release),): 1} if machine.baseline else {},
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
        "inventory_gaps",
        "Things about the machine that could not be learned.",
        (),
        {(): len(machine.gaps)},
    )
    yield Gauge(
        "device_finding",
        "Whether something is wrong with a PCI device; 0 when it was and is no more.",
        ("address", "finding"),
        _by_device(standing, ended),
        "address",
    )
    yield Gauge(
        "device_change_info",
        "PCI devices with another driver than under the kernel before, empty for none.",
        ("address", "vendor_id", "device_id", "change", "driver_before", "driver"),
        dict.fromkeys(_changes(machine, standing), 1),
        "address",
    )
    yield Gauge(
        "devices",
        "PCI devices by their ids and the driver that is bound, empty for none.",
        ("vendor_id", "device_id", "driver"),
        _by_ids(machine),
        "ids",
    )
    dynids = _dynids(machine)
    yield dynids._replace(samples={k: n for k, n in dynids.samples.items() if n})
    yield Gauge(
        "device_driver_info",
        "PCI devices with the driver that is bound to them, empty for none.",
        _DEVICE_LABELS,
        dict.fromkeys(map(_device, _selected(machine, standing, selection)), 1),
        "address",
    )
    yield dynids._replace(samples={k: n for k, n in dynids.samples.items() if not n})


def _by_device(
    standing: Iterable[Finding], ended: Iterable[tuple[str, str]]
) -> dict[tuple[str, ...], float]:
    samples: dict[tuple[str, ...], float] = {}
    for finding in standing:
        for address in (finding.address, *finding.also):
            samples[label(address), finding.finding] = 1.0
    for address, name in ended:
        samples.setdefault((label(address), name), 0.0)
    return samples


def _changes(
    machine: Machine, standing: Iterable[Finding]
) -> Iterator[tuple[str, ...]]:
    """Yield the devices that findings say have another driver."""
    baseline = machine.baseline.devices if machine.baseline else {}
    for finding in standing:
        if finding.finding is not Name.BINDING_CHANGED or finding.kind not in CHANGES:
            continue
        gone = finding.kind is Kind.VANISHED
        device = (baseline if gone else machine.devices).get(finding.address)
        if device is not None:
            vendor_id, device_id, _class_id = _ids(device.ids)
            before, after = (finding.details[key] for key in ("before", "after"))
            yield (
                *(label(finding.address), vendor_id, device_id, str(finding.kind)),
                *(label(str(driver or "")) for driver in (before, after)),
            )


def _by_ids(machine: Machine) -> dict[tuple[str, ...], float]:
    """Count devices, the commonest first."""
    counts = Counter(
        (*_ids(device.ids)[:2], label(device.driver or ""))
        for device in machine.devices.values()
    )
    return dict(counts.most_common())


def _dynids(machine: Machine) -> Gauge:
    return Gauge(
        "driver_dynids",
        "Ids added by new_id or by the driver itself; no sample: not known.",
        ("driver",),
        {
            (label(name),): len(driver.dynids)
            for name, driver in machine.drivers.items()
            if driver.dynids is not None
        },
        "driver",
    )


def _selected(
    machine: Machine, standing: Iterable[Finding], selection: Selection
) -> list[PciDevice]:
    """List the devices that get a series, first those that somebody will ask for.

    What is wrong or overridden is told whatever is selected; bridges come last.
    """
    wrong = {address for f in standing for address in (f.address, *f.also)}

    def place(device: PciDevice) -> int:
        if device.address in wrong or device.driver_override is not None:
            return 0
        return 2 if device.driver is None or needs_no_driver(device) else 1

    ordered = sorted(machine.devices.values(), key=place)
    return [each for each in ordered if not place(each) or selection.has(each.ids)]


def _ids(ids: Device) -> tuple[str, str, str]:
    return f"0x{ids.vendor:04x}", f"0x{ids.device:04x}", f"0x{ids.class_:06x}"


def _device(device: PciDevice) -> tuple[str, ...]:
    return (
        label(device.address),
        *_ids(device.ids),
        label(device.driver or ""),
        label(device.driver_override or ""),
    )

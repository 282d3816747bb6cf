"""observer/series.py: the machine's gauges, their labels and values."""

from __future__ import annotations

import machines
from pictures import pictured
from test_standing import finding

from observer.findings import Finding, Kind, Name
from observer.fingerprint import fingerprint
from observer.labels import LABEL_CHARACTERS
from observer.record import Id
from observer.series import Gauge, Selection, gauges

VF = "0000:00:02.1"


def by_name(*arguments: object) -> dict[str, Gauge]:
    """Return the gauges by their names."""
    found: dict[str, Gauge] = {}
    for gauge in gauges(*arguments):  # type: ignore[arg-type]
        there = found.setdefault(gauge.name, gauge)
        found[gauge.name] = there._replace(samples={**there.samples, **gauge.samples})
    return found


def changed(address: str, kind: Kind, before: str | None, after: str | None) -> Finding:
    """Make the finding that a binding changed."""
    details = {"before": before, "after": after, "driver": None}
    made = finding(address, Name.BINDING_CHANGED, kind)
    return made._replace(details=details)


def test_a_device_with_another_driver_tells_which_it_had() -> None:
    """By the findings that say so; other changes are findings alone."""
    machine = machines.machine(
        machines.device(bound="vfio-pci"),
        machines.device(VF),
        baseline=pictured(machines.device("0000:07:00.0", "e1000")),
    )
    standing = [
        changed(machines.ADDRESS, Kind.DRIVER_CHANGED, "e1000", "vfio-pci"),
        changed(VF, Kind.DRIVER_LOST, "igb", None),
        changed("0000:07:00.0", Kind.VANISHED, "e1000", None),
        changed(VF, Kind.OVERRIDE_LOST, "vfio-pci", None),
    ]

    info = by_name(machine, standing, ())["device_change_info"]

    assert info.labels == (
        *("address", "vendor_id", "device_id", "change", "driver_before", "driver"),
    )
    ids = ("0x8086", "0x100e")
    assert info.samples == {
        (machines.ADDRESS, *ids, "driver_changed", "e1000", "vfio-pci"): 1,
        (VF, *ids, "driver_lost", "igb", ""): 1,
        ("0000:07:00.0", *ids, "vanished", "e1000", ""): 1,
    }


def test_devices_are_counted_by_ids_and_driver() -> None:
    """One series for all that are alike, so that a fleet can be summed up."""
    machine = machines.machine(
        machines.device(bound="e1000"),
        machines.device(VF),
        machines.device("0000:00:02.2"),
    )

    counts = by_name(machine, (), ())["devices"]

    assert counts.labels == ("vendor_id", "device_id", "driver")
    ids = ("0x8086", "0x100e")
    assert counts.samples == {(*ids, ""): 2, (*ids, "e1000"): 1}


def test_devices_are_selected_by_class_and_vendor() -> None:
    """What is wrong or overridden is told all the same, and told first."""
    machine = machines.machine(
        machines.device(bound="e1000"),
        machines.device("0000:00:03.0", driver_override="vfio-pci"),
        machines.device(VF),
    )

    def shown(**selection: object) -> list[str]:
        selected = Selection(**selection)  # type: ignore[arg-type]
        standing = [finding(VF)]
        info = by_name(machine, standing, (), selected)["device_driver_info"]
        return [labels[0] for labels in info.samples]

    special = [VF, "0000:00:03.0"]
    assert sorted(shown()[:2]) == special
    assert shown()[2:] == [machines.ADDRESS]
    assert sorted(shown(classes=("03", "0c03"))) == special
    assert sorted(shown(vendors=(0x10DE,))) == special
    for selection in ({"classes": ("02",)}, {"vendors": (1, 0x8086)}):
        assert machines.ADDRESS in shown(**selection)


def test_each_device_tells_its_driver_as_sysfs_spells_the_ids() -> None:
    """One series a device, the driver empty where there is none."""
    machine = machines.machine(
        machines.device(bound="e1000"),
        machines.device(VF, driver_override="vfio-pci"),
    )

    info = by_name(machine, (), ())["device_driver_info"]

    ids = ("0x8086", "0x100e", "0x020000")
    assert info.labels == (
        *("address", "vendor_id", "device_id", "class_id"),
        *("driver", "driver_override"),
    )
    assert info.samples == {
        (machines.ADDRESS, *ids, "e1000", ""): 1,
        (VF, *ids, "", "vfio-pci"): 1,
    }


def test_hostile_text_is_spelled_and_cut() -> None:
    """Whoever is root chooses a driver_override."""
    hostile = '\x1b[31m"\n' + "x" * 4000
    machine = machines.machine(machines.device(driver_override=hostile))

    (sample,) = by_name(machine, (), ())["device_driver_info"].samples

    assert sample[-1].startswith('\\x1b[31m"\\nxx')
    assert len(sample[-1]) == LABEL_CHARACTERS


def test_a_finding_is_1_on_all_devices_concerned_and_0_when_it_is_over() -> None:
    """Nothing is said of devices that never had one."""
    standing = finding()._replace(also=(VF,))
    over = (VF, "stale_override")

    gauge = by_name(machines.machine(), [standing], [over])["device_finding"]

    assert gauge.samples == {
        (machines.ADDRESS, "orphan"): 1,
        (VF, "orphan"): 1,
        over: 0,
    }


def test_findings_are_counted_by_name_from_0() -> None:
    """All names exist from the first scrape."""
    counts = by_name(machines.machine(), [finding(), finding(VF)], ())["findings"]

    assert counts.samples == {(name,): 0 for name in Name} | {("orphan",): 2}


def test_the_fingerprint_is_of_the_bindings() -> None:
    """One series, another one when a binding changes."""
    bound, unbound = machines.device(bound="e1000"), machines.device()
    for device in (bound, unbound):
        info = by_name(machines.machine(device), (), ())["binding_fingerprint_info"]
        assert info.labels == ("fingerprint",)
        assert info.samples == {(fingerprint([device]),): 1}


def test_the_baseline_is_named_while_it_is_compared_with() -> None:
    """No series: nothing is compared."""
    machine = machines.machine()
    compared = machine._replace(baseline=pictured(release="6.1"))
    assert by_name(machine, (), ())["baseline_info"].samples == {}
    assert by_name(compared, (), ())["baseline_info"].samples == {("6.1",): 1}


def test_dynids_are_counted_where_they_are_known() -> None:
    """Unknown is no 0."""
    machine = machines.machine(
        drivers=(
            machines.driver("a", dynids=(Id(1, 2), Id(3, 4))),
            machines.driver("b", dynids=()),
            machines.driver("c", dynids=None),
        )
    )

    samples = by_name(machine, (), ())["driver_dynids"].samples

    assert samples == {("a",): 2, ("b",): 0}


def test_gaps_are_counted() -> None:
    """How many things could not be learned."""
    machine = machines.machine(gaps=("One thing.", "Another."))

    assert by_name(machine, (), ())["inventory_gaps"].samples == {(): 2}

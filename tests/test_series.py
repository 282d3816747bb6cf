"""observer/series.py: the machine's gauges, their labels and values."""

from __future__ import annotations

import machines
from pictures import pictured
from test_standing import finding

from observer.findings import Name
from observer.fingerprint import fingerprint
from observer.record import Id
from observer.series import LABEL_CHARACTERS, Gauge, gauges

VF = "0000:00:02.1"


def by_name(*arguments: object) -> dict[str, Gauge]:
    """Return the gauges by their names."""
    return {gauge.name: gauge for gauge in gauges(*arguments)}  # type: ignore[arg-type]


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

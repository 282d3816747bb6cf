"""Start-up audit, findings and explanations on real kernels: what users suffer, caused.

tests/live/glance.py runs in the guest and writes down what was seen; what it causes
stands in tests/live/troubles.py. 6.1 has the guest with many devices, and `make matrix`
has all kernels. Others: PCI_OBSERVER_KERNELS="6.1 7.3".
"""

from __future__ import annotations

import json
import os
from typing import TYPE_CHECKING, Any, Final

import pytest
from lab import devices
from lab.functions import functions
from lab.modules import build_toy
from live.boots import Boots, boot, progress
from live.glance import pictured, unsaid
from live.troubles import BEFORE, DYNIDS_BEFORE, TROUBLES, Trouble

from observer.record import StoreFile

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = pytest.mark.guest

KERNELS: Final = os.environ.get("PCI_OBSERVER_KERNELS", "5.10 6.12.90 7.3").split()
TOY_KERNEL: Final = "6.1"  # whose headers the Makefile fetches
FUNCTIONS: Final = 200
QEMU_ARGS: Final = (
    *devices.DRIVERLESS,
    *devices.IOMMU,
    *devices.SRIOV_NVME,
    *devices.TWINS,
    *devices.CONTESTED,
)
MANY_ARGS: Final = (*devices.DRIVERLESS, *functions(FUNCTIONS))

every_trouble = pytest.mark.parametrize("trouble", TROUBLES, ids=lambda each: each.name)
finding_trouble = pytest.mark.parametrize(
    "trouble",
    [trouble for trouble in TROUBLES if trouble.finding],
    ids=lambda each: each.name,
)


class Seen:
    """What was seen in one guest."""

    def __init__(self, result: dict[str, Any]) -> None:
        """Read a result."""
        self.result = result
        self.places: dict[str, str] = result["places"]

    @property
    def log(self) -> list[dict[str, Any]]:
        """Return the daemon's log."""
        return [json.loads(line) for line in self.result["log"].splitlines()]

    def part(self, name: str) -> dict[str, Any]:
        """Return the result of a part that came to its end."""
        part: dict[str, Any] = self.result["parts"][name]
        assert "error" not in part, part["error"]
        return part


@pytest.fixture(scope="session")
def glances(
    tmp_path_factory: pytest.TempPathFactory, pytestconfig: pytest.Config
) -> Boots:
    """All guests; each boots when a test first asks for it."""

    def start(kernel: str) -> dict[str, Any]:
        directory = tmp_path_factory.mktemp(f"glance-{kernel}")
        result = boot(
            kernel,
            "live.glance",
            directory,
            progress(pytestconfig),
            qemu_args=QEMU_ARGS,
            append=f"{devices.IOMMU_APPEND} {devices.VGA_APPEND}",
        )
        result["log"] = (directory / "daemon.log").read_text()
        return {"seen": Seen(result)}

    return Boots(start)


@pytest.fixture(params=KERNELS)
def seen(request: pytest.FixtureRequest, glances: Boots) -> Seen:
    """Return what was seen under one kernel."""
    found: Seen = glances[request.param]["seen"]
    return found


@pytest.fixture(scope="session")
def crowds(
    tmp_path_factory: pytest.TempPathFactory, pytestconfig: pytest.Config
) -> Boots:
    """Boot the guest with many devices when a test first asks for it."""

    def start(kernel: str) -> dict[str, Any]:
        directory = tmp_path_factory.mktemp("many")
        toy = build_toy(kernel)
        result: dict[str, Any] = boot(
            kernel,
            "live.many",
            directory,
            progress(pytestconfig),
            str(toy),
            qemu_args=MANY_ARGS,
            append="",
        )
        return result

    return Boots(start)


@pytest.fixture
def crowd(crowds: Boots) -> dict[str, Any]:
    """Return what was seen of many devices."""
    found: dict[str, Any] = crowds[TOY_KERNEL]
    return found


def outcomes_of(actions: tuple[Any, ...], outcomes: list[str]) -> Iterator[bool]:
    """Tell of each action whether it ended as it must."""
    for action, outcome in zip(actions, outcomes, strict=True):
        expected = getattr(action, "errno", "") or getattr(action, "error", "")
        yield expected in outcome if expected else outcome == ""


def audit_of(asked: dict[str, Any]) -> dict[str, Any]:
    """Read an audit that was asked for with --json."""
    assert asked["status"] in {0, 1}, asked["stderr"]
    audit: dict[str, Any] = json.loads(asked["stdout"])
    assert asked["status"] == bool(audit["findings"])
    return audit


def findings_of(audit: dict[str, Any], address: str) -> dict[str, dict[str, Any]]:
    """Return what an audit found about a device, by the findings' names."""
    return {
        finding["finding"]: finding
        for finding in audit["findings"]
        if address in {finding["address"], *finding["also"]}
    }


def by_address(audit: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """Return an audit's devices."""
    return {device["address"]: device for device in audit["devices"]}


def dynids_of(audit: dict[str, Any]) -> dict[str, list[tuple[int, ...]]]:
    """Return the drivers' dynids, those that have any."""
    names = ("vendor", "device", "subvendor", "subdevice", "class", "class_mask")
    return {
        driver["name"]: [tuple(dynid[name] for name in names) for dynid in dynids]
        for driver in audit["drivers"]
        if (dynids := driver["dynids"])
    }


def test_dynids_from_before_the_start_are_listed(seen: Seen) -> None:
    """No file in sysfs shows them; all fields, in the order of the kernel's list."""
    look = seen.part("start")["look"]

    assert [""] * len(BEFORE) == seen.result["before"]
    assert DYNIDS_BEFORE == dynids_of(audit_of(look["audit"]))


def test_dynids_are_counted_for_each_driver(seen: Seen) -> None:
    """The metric has those that are there, and none when they are gone."""
    start = seen.part("start")
    counts = {driver: len(ids) for driver, ids in DYNIDS_BEFORE.items()}

    assert counts == start["look"]["dynids"]
    assert {} == start["look_after"]["dynids"]
    assert {} == dynids_of(audit_of(start["look_after"]["audit"]))


@pytest.mark.parametrize(
    ("part", "look"), [("start", "look"), ("start", "look_after"), ("current", "look")]
)
def test_the_picture_equals_sysfs(seen: Seen, part: str, look: str) -> None:
    """At the start, after changes, and after hotplug, modules and virtual functions."""
    looked = seen.part(part)[look]

    assert [] == looked["differences"]
    assert looked["sysfs"]


def test_the_inventory_has_no_gap(seen: Seen) -> None:
    """Kernel memory was read: each driver's table, module and dynids are known."""
    audit = audit_of(seen.part("start")["look"]["audit"])
    unknown = [d["name"] for d in audit["drivers"] if d["table_state"] != "complete"]

    assert [] == audit["gaps"]
    assert audit["order_known"]
    assert [] == unknown


def test_a_binding_from_before_the_start_is_unexplained(seen: Seen) -> None:
    """Override set, bound, cleared, all unseen; a dynid that is there explains."""
    start = seen.part("start")
    audit = audit_of(start["look"]["audit"])
    found = findings_of(audit, seen.places["testdev"])["unexplained_binding"]

    assert "unseen" == found["kind"]
    assert found["actor"] is None
    assert "unexplained_binding" not in findings_of(audit, seen.places["edu"])
    assert "bound to pci-stub" in start["explained"]["text"]["stdout"]
    assert start["disappeared"] is not None


@every_trouble
def test_each_trouble_is_caused_and_cured_as_meant(
    seen: Seen, trouble: Trouble
) -> None:
    """Otherwise what is seen of it would say nothing."""
    part = seen.part(trouble.name)

    assert all(outcomes_of(trouble.cause, part["caused"])), part["caused"]
    assert all(outcomes_of(trouble.cure, part["cured"])), part["cured"]


@finding_trouble
def test_each_finding_appears_and_disappears(seen: Seen, trouble: Trouble) -> None:
    """In the metrics and in the audit, with the kind it has, until it is cured."""
    part = seen.part(trouble.name)
    role, name, kind = trouble.finding or ("", "", "")
    address = seen.places[role]
    found = findings_of(audit_of(part["audit"]), address)

    assert part["appeared"] is not None, found
    assert kind == found[name]["kind"], found[name]["text"]
    assert name in by_address(audit_of(part["audit"]))[address]["findings"]
    if not trouble.lasts:
        after = findings_of(audit_of(part["audit_after"]), address)
        assert part["disappeared"] is not None, after
        assert name not in after


@every_trouble
def test_each_trouble_is_explained(seen: Seen, trouble: Trouble) -> None:
    """What `explain` tells a person has what is needed to understand and to act."""
    part = seen.part(trouble.name)
    rules = audit_of(part["audit"])["kernel"]["new_id_rules"]

    for wanted, told in zip(trouble.explained, part["explained"], strict=True):
        if told is None:
            assert rules == wanted.not_on
            continue
        text = told["text"]["stdout"]
        assert [] == unsaid(wanted, text, seen.places), text
        assert told["text"]["status"] == told["json"]["status"], told
        assert json.loads(told["json"]["stdout"])["address"] == seen.places[wanted.role]


def test_an_override_that_the_kernel_set_is_not_stale(seen: Seen) -> None:
    """vfio-pci gives each VF of its PFs one: policy, not a leftover."""
    audit = audit_of(seen.part("vf_of_a_vfio_pf_on_a_host_driver")["audit"])
    vf2 = by_address(audit)[seen.places["vf2"]]

    assert ("vfio-pci", "vfio-pci") == (vf2["driver_override"], vf2["driver"])
    assert [] == vf2["findings"]


@pytest.mark.parametrize(
    ("trouble", "role", "finding", "comm"),
    [
        ("unbound_by_somebody", "nic", "orphan", "python3"),
        ("rebind_half_done", "nic", "orphan", "bash"),
        ("flapping", "edu", "flapping", "bash"),
    ],
)
def test_a_finding_names_who_caused_it(
    seen: Seen, trouble: str, role: str, finding: str, comm: str
) -> None:
    """The process that wrote, and its user."""
    audit = audit_of(seen.part(trouble)["audit"])
    actor = findings_of(audit, seen.places[role])[finding]["actor"]

    assert (comm, 0) == (actor["comm"], actor["uid"])


@pytest.mark.parametrize("comm", ["driverctl", "bash", "python3"])
def test_the_log_names_who_wrote(seen: Seen, comm: str) -> None:
    """One line for a write, with the command."""
    writes = [line for line in seen.log if line.get("comm") == comm]

    assert writes


def test_no_decision_diverges_and_nothing_is_lost(seen: Seen) -> None:
    """Everything that was caused was decided as the model says, and seen."""
    metrics = seen.part("current")["look"]["metrics"]
    lost = {k: v for k, v in metrics.items() if k.startswith("events_lost_total") and v}

    assert 0 == metrics['judgements_total{judgement="diverge"}']
    assert 0 < metrics['judgements_total{judgement="agree"}']
    assert {} == lost


def test_every_write_ends_as_the_model_says(seen: Seen) -> None:
    """Of all files, failing ones among them, and none diverges."""
    metrics = seen.part("current")["look"]["metrics"]
    judged = {k: v for k, v in metrics.items() if k.startswith("sysfs_writes_total{")}
    agreed = {k for k, v in judged.items() if v and 'judgement="agree"' in k}
    diverged = {k: v for k, v in judged.items() if v and 'judgement="diverge"' in k}

    assert len(StoreFile) == len(agreed), judged
    assert {} == diverged


def test_the_picture_never_disagreed_with_sysfs(seen: Seen) -> None:
    """After all that happened, the reconciling pass has found nothing but one field.

    No kernel tells of a write to sriov_drivers_autoprobe: whether the pass comes before
    something else makes the device read again is chance.
    """
    metrics = seen.part("current")["look"]["metrics"]
    name = 'picture_disagreements_total{field="'
    disagreements = {k: v for k, v in metrics.items() if k.startswith(name)}
    untold = disagreements.pop(f'{name}sriov_drivers_autoprobe"}}')
    lines = [line for line in seen.log if line["event"] == "disagreement with sysfs"]

    assert disagreements
    assert {0.0} == set(disagreements.values()), lines
    assert untold <= 2  # times that it is written


def test_without_a_daemon_the_audit_is_the_same(seen: Seen) -> None:
    """It looks by itself; what only events tell is missing, and the picture whole."""
    part = seen.part("blind")
    audit = audit_of(part["seeing"])

    assert part["sysfs"] == {a: pictured(d) for a, d in by_address(audit).items()}
    assert audit["observed_since_unix_ns"] is None
    assert [] == audit["gaps"]


@pytest.mark.parametrize("blinded", ["kptr_restrict", "kallsyms", "nobody"])
def test_what_can_not_be_read_is_said_and_not_invented(
    seen: Seen, blinded: str
) -> None:
    """No addresses, no privileges: sysfs is read, dynids are unknown, gaps say so."""
    part = seen.part("blind")
    audit = audit_of(part[blinded])
    whole = {driver["name"] for driver in audit_of(part["seeing"])["drivers"]}

    assert part["sysfs"] == {a: pictured(d) for a, d in by_address(audit).items()}
    assert whole == {driver["name"] for driver in audit["drivers"]}
    assert {None} == {json.dumps(d["dynids"]) and d["dynids"] for d in audit["drivers"]}
    assert audit["gaps"]
    assert "" == part[blinded]["stderr"]


@pytest.mark.parametrize("moving", ["device", "module"])
def test_what_moves_while_it_is_read_is_no_crash(seen: Seen, moving: str) -> None:
    """A device that comes and goes, a driver's table in a module that is unloaded."""
    part = seen.part("restless")[moving]
    steady = seen.part("blind")["sysfs"]

    assert part["times"]
    devices = by_address(audit_of(part["look"]))
    assert "" == part["look"]["stderr"]
    for address, device in devices.items():
        assert steady[address]["ids"] == pictured(device)["ids"]
    assert steady.keys() - devices.keys() <= {seen.places["testdev"]}


INVENTORY_SECONDS: Final = 2
INVENTORY_BYTES: Final = 5 << 20
IDS: Final = 1200
RSS_KB: Final = 45 * 1024  # the 40 MB of few devices, and the inventory's five


def cost_of(crowd: dict[str, Any]) -> dict[str, Any]:
    """Return what an inventory cost in the guest with many devices."""
    assert ["", ""] == crowd["prepared"]
    cost: dict[str, Any] = json.loads(crowd["cost"]["stdout"])
    assert [] == cost["gaps"]
    return cost


def test_an_inventory_of_many_devices_and_ids_is_quick(crowd: dict[str, Any]) -> None:
    """Two seconds in an emulated guest, all ids read, all devices."""
    cost = cost_of(crowd)

    assert (IDS, len(crowd["devices"])) == (cost["longest"], cost["devices"])
    assert len(crowd["devices"]) > FUNCTIONS
    assert cost["seconds"] <= INVENTORY_SECONDS


def test_an_inventory_of_many_devices_and_ids_is_small(crowd: dict[str, Any]) -> None:
    """Five megabytes more than without, and the daemon as a whole stays small."""
    assert INVENTORY_BYTES >= cost_of(crowd)["bytes"]
    assert RSS_KB >= crowd["state"]["rss_kb"]


def test_a_deferred_device_is_deferred_not_unbound(crowd: dict[str, Any]) -> None:
    """Also if it was deferred before anybody watched."""
    for part in ("at_start", "deferred"):
        text = crowd[part]["explained"]["text"]["stdout"]
        found = findings_of(audit_of(crowd[part]["audit"]), crowd["places"]["testdev"])

        assert ["deferred"] == [*found], found
        assert "has no driver yet: its probe is deferred" in text
        assert "orphan" not in text
    assert crowd["deferred"]["waited"] is not None


def test_a_refusal_is_told_from_a_deferral(crowd: dict[str, Any]) -> None:
    """The same driver declines, then binds; each time it is said."""
    refused, bound = crowd["refused"], crowd["bound"]
    found = findings_of(audit_of(refused["audit"]), crowd["places"]["testdev"])

    assert "probe_refused" == found["orphan"]["kind"]
    assert "deferred" not in found
    assert "toy declined (-ENODEV)" in refused["explained"]["text"]["stdout"]
    assert ("toy", "") == (bound["bound"], "".join(bound["done"]))
    assert "is bound to toy" in bound["explained"]["text"]["stdout"]
    assert bound["waited"] is not None


def test_vfio_without_an_iommu_is_matched_and_refused(crowd: dict[str, Any]) -> None:
    """openvswitch/ovs-issues#191: matched by override, the probe fails, no driver."""
    part = crowd["no_iommu"]

    assert part["waited"] is not None
    assert (
        "match ok, probe=-EINVAL; no IOMMU group" in part["explained"]["text"]["stdout"]
    )


def test_status_counts_many_devices(crowd: dict[str, Any]) -> None:
    """A table for a person."""
    assert 0 == crowd["status"]["status"]
    assert str(len(crowd["devices"])) in crowd["status"]["stdout"]

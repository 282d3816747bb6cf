"""A host that gets a newer kernel, and one more: what changed, and what was foretold.

tests/live/upgrade.py runs in each guest; a disk goes from one to the next.
"""

from __future__ import annotations

import json
import subprocess
from typing import TYPE_CHECKING, Any, Final

import pytest
from lab import devices
from lab.kernels import vmlinuz
from lab.modules import build_toy
from live.boots import boot, progress
from live.upgrade import LABEL, Plan

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.guest

OLD: Final = "6.1"
NEWER: Final = ("6.12.90", "7.3")
DISK_MIB: Final = 64
RSS_KB: Final = 40 * 1024
QEMU_ARGS: Final = (
    *devices.DRIVERLESS,
    *devices.IOMMU,
    *devices.CONTESTED,
    *("-device", "cirrus-vga"),
)


def modules_of(kernel: str) -> Path:
    """Return a kernel's directory of modules."""
    image = vmlinuz(kernel)
    release = image.name.removeprefix("vmlinuz-")
    return image.parents[1] / "lib/modules" / release


def plans(toy: Path) -> dict[str, Plan]:
    """Return what happens under each kernel.

    The toy driver was built for the old kernel alone, as what DKMS builds may be. Which
    driver of the contested card is loaded first is chance, so it is done anew.
    """
    unloaded = ["modprobe", "-r", "8139cp", "8139too"]
    flipped = [unloaded, ["modprobe", "8139cp"], ["modprobe", "8139too"]]
    return {
        OLD: Plan(
            before=[
                ["insmod", str(toy), "claim=1"],
                unloaded,
                ["modprobe", "8139too"],
                ["modprobe", "8139cp"],
                ["modprobe", "vfio-pci"],
            ],
            writes=[
                ["devices/{nic}/driver_override", "vfio-pci\n"],
                ["devices/{nic}/driver/unbind", "{nic}"],
                ["drivers_probe", "{nic}"],
            ],
            preflight={kernel: str(modules_of(kernel)) for kernel in NEWER},
            keep=True,
            crash=True,
        ),
        NEWER[0]: Plan(before=flipped, writes=[]),
        NEWER[1]: Plan(before=flipped, writes=[], accept=True),
    }


@pytest.fixture(scope="session")
def host(
    tmp_path_factory: pytest.TempPathFactory, pytestconfig: pytest.Config
) -> dict[str, Any]:
    """Boot one kernel after the other, with the same disk."""
    disk = tmp_path_factory.mktemp("upgrade") / "state.img"
    with disk.open("wb") as file:
        file.truncate(DISK_MIB << 20)
    subprocess.run(["mkfs.ext4", "-q", "-L", LABEL, str(disk)], check=True)
    drive = ("-drive", f"file={disk},if=virtio,format=raw")
    seen = {}
    for kernel, plan in plans(build_toy(OLD)).items():
        directory = tmp_path_factory.mktemp(f"upgrade-{kernel}")
        seen[kernel] = boot(
            kernel,
            "live.upgrade",
            directory,
            progress(pytestconfig),
            json.dumps(plan._asdict()),
            qemu_args=(*QEMU_ARGS, *drive),
            append=devices.IOMMU_APPEND,
        )
        seen[kernel]["log"] = (directory / "daemon.log").read_text()
    return seen


def output(asked: dict[str, Any]) -> dict[str, Any]:
    """Read what a verb told as JSON."""
    assert "" == asked["stderr"]
    told: dict[str, Any] = json.loads(asked["stdout"])
    return told


def expected(kernel: str, places: dict[str, str]) -> set[tuple[str, str]]:
    """Return what was provoked, and what Debian changed besides: kind and subject."""
    changes = {
        ("driver_lost", places["testdev"]),  # there is no toy
        ("candidates_changed", places["testdev"]),
        ("driver_changed", places["nic"]),  # its override did not persist
        ("override_lost", places["nic"]),
        ("order_flipped", places["realtek"]),
        ("built_in", "virtio-pci"),
    }
    if kernel == "7.3":  # cirrus is called cirrus-qemu there
        changes.add(("driver_changed", places["vga"]))
        changes.add(("candidates_changed", places["vga"]))
    return changes


newer = pytest.mark.parametrize("kernel", NEWER)


def test_done(host: dict[str, Any]) -> None:
    """It was done as meant: otherwise what is seen of it would say nothing."""
    for kernel, result in host.items():
        assert "" == result["mounted"] == result["unmounted"], kernel
        assert [""] * len(result["done"]) == result["done"], kernel
        assert result["steady_seconds"] is not None, kernel
    assert host[OLD]["kept_seconds"] is not None
    assert [] == host[OLD]["findings"]


@newer
def test_regressions_are_those_provoked(host: dict[str, Any], kernel: str) -> None:
    """Each difference from the picture of the old kernel, and no other.

    Under the second kernel too, as nobody accepted what the first one changed. The
    observer of the old kernel was killed.
    """
    result = host[kernel]
    told = output(result["diff"])
    found = [(c["kind"], c["driver"] or c["address"]) for c in told["changes"]]

    assert expected(kernel, result["places"]) == set(found)
    assert len(set(found)) == len(found)
    assert 1 == result["diff"]["status"]
    assert host[OLD]["release"] == told["before"]["release"]
    assert result["release"] == told["after"]["release"]


@newer
def test_regressions_are_findings(host: dict[str, Any], kernel: str) -> None:
    """In the audit, in the metrics and in the log, with their cause."""
    result = host[kernel]
    audit = output(result["audit"])
    found = [f for f in audit["findings"] if f["finding"] == "binding_changed"]
    concerned = sorted({a for f in found for a in (f["address"], *f["also"])})
    logged = [*map(json.loads, result["log"].splitlines())]

    assert sorted(kind for kind, _ in expected(kernel, result["places"])) == sorted(
        f["kind"] for f in found
    )
    assert concerned == result["findings"]
    assert {f["text"] for f in found} <= {
        line["text"] for line in logged if line["event"] == "finding"
    }
    texts = "\n".join(f["text"] for f in found)
    assert f"since kernel {host[OLD]['release']} -> {result['release']}" in texts
    assert "driver_override vfio-pci -> unset; it does not survive a reboot" in texts
    assert "toy is not registered any more" in texts
    assert "8139too was registered first before, now 8139cp" in texts


@newer
def test_explained(host: dict[str, Any], kernel: str) -> None:
    """Whoever asks about the device is told what it had before."""
    assert "vfio-pci -> e1000" in host[kernel]["explained"]["nic"]["stdout"]


@newer
def test_preflight_had_foretold_it(host: dict[str, Any], kernel: str) -> None:
    """Under the old kernel: all that can be known of it, and no other device."""
    asked = host[OLD]["preflight"][kernel]["json"]
    places = host[OLD]["places"]
    told = output(asked)
    foretold = {(change["kind"], change["address"]) for change in told["changes"]}
    changes = {
        ("loses_driver", places["testdev"]),
        ("override_not_persistent", places["nic"]),
    }
    if kernel == "7.3":
        changes.add(("other_driver", places["vga"]))

    # 8139too matches as well and declined it: which one is registered first can't be
    # told, and that the other will have it again is not sure.
    realtek = next(d for d in told["devices"] if d["address"] == places["realtek"])
    both = {candidate["driver"] for candidate in realtek["then"]["candidates"]}

    assert changes == foretold
    assert ({"8139cp", "8139too"}, "unknown") == (both, realtek["then"]["certainty"])
    assert 1 == asked["status"]
    assert host[kernel]["release"] == told["to"]["release"]
    assert "virtio-pci" in " ".join(note["text"] for note in told["notes"])


def test_the_semantics_of_the_new_kernel_are_read_from_its_image(
    host: dict[str, Any],
) -> None:
    """As it then says itself."""
    for kernel in NEWER:
        foretold = output(host[OLD]["preflight"][kernel]["json"])["to"]
        then = output(host[kernel]["audit"])["kernel"]
        for name in ("release", "layout", "semantics", "new_id_rules"):
            assert foretold[name] == then[name]


def test_accepted(host: dict[str, Any]) -> None:
    """The new picture is the baseline: no difference any more, no finding."""
    result = host[NEWER[-1]]

    assert 0 == result["accepted"]["status"]
    assert result["cured_seconds"] is not None
    assert [] == output(result["diff_after"])["changes"]


def test_history_has_all_boots(host: dict[str, Any]) -> None:
    """Each kernel in its order, also the boot whose observer was killed."""
    boots = output(host[NEWER[-1]]["history"])["boots"]
    releases = [boot["release"] for boot in boots]

    assert [result["release"] for result in host.values()] == releases


def test_the_daemon_stays_small(host: dict[str, Any]) -> None:
    """With what it keeps and compares."""
    assert RSS_KB >= max(result["state"]["rss_kb"] for result in host.values())

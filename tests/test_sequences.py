"""The model against real kernels: every errno and every binding of random sequences.

tests/live/sequences.py does them in the guest. PCI_OBSERVER_SEED draws others,
PCI_OBSERVER_SEQUENCES more of them, `make soak` 2,000; the seed stands in the output
of a failure.
"""

from __future__ import annotations

import json
import os
from random import Random
from typing import TYPE_CHECKING, Final

import pytest
from lab import devices
from live.boots import boot, progress
from live.generator import PLAYERS, Generator
from live.texts import TEXTS
from live.world import Rules, World, Write

from observer.model.hex_fields import Overflow
from observer.record import PCI_ANY_ID, Device, Driver, Id

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

SEED: Final = os.environ.get("PCI_OBSERVER_SEED", "20210603")
COUNT: Final = int(os.environ.get("PCI_OBSERVER_SEQUENCES", "500"))

# Two of a kind, subsystem ids of its own, and one that virtio-pci's table has.
DEVICES: Final = (
    *devices.DRIVERLESS,
    *devices.DRIVERLESS,
    *("-device", "tpci200"),
    *("-object", "memory-backend-ram,id=shm,size=1M,share=on"),
    *("-device", "ivshmem-plain,memdev=shm"),
)


@pytest.mark.guest
@pytest.mark.parametrize(
    ("kernel", "new_id_rules", "iommu"),
    [
        ("5.10", "linux-3.16", False),
        ("6.1", "linux-7.3", False),
        ("6.12.90", "linux-5.11", True),
        ("7.3", "linux-7.3", True),
    ],
)
def test_kernel_does_what_the_model_says(
    kernel: str,
    new_id_rules: str,
    iommu: bool,  # noqa: FBT001 - a parameter
    tmp_path: Path,
    pytestconfig: pytest.Config,
) -> None:
    """Every errno, every binding and every driver_override read back is expected."""
    result = boot(
        kernel,
        "live.sequences",
        tmp_path,
        progress(pytestconfig),
        *(SEED, str(COUNT)),
        qemu_args=(*DEVICES, *(devices.IOMMU if iommu else ())),
        append=devices.IOMMU_APPEND if iommu else "",
    )
    print(json.dumps(result, indent=1))
    assert [] == result["failures"], f"seed {SEED}"
    assert COUNT == result["sequences"]
    assert new_id_rules == result["rules"]["new_id"]
    vfio = {v for k, v in result["probe_errnos"].items() if k.startswith("vfio-pci ")}
    no_group = "ENODEV" if kernel == "5.10" else "EINVAL"
    assert {None if iommu else no_group} == vfio
    assert COUNT / 4 <= result["bindings"]
    assert COUNT / 40 <= result["errnos"]["bind 0"]
    assert COUNT / 10 <= result["errnos"]["new_id EEXIST"]
    assert COUNT / 10 <= result["errnos"]["new_id EINVAL"]


# What follows needs no guest: that these tests would notice.

EDU, TESTDEV = "0000:00:09.0", "0000:00:0a.0"
ALIKE: Final = {
    EDU: Device(0x1234, 0x11E8, 0x1AF4, 0x1100, 0x00FF00),
    TESTDEV: Device(0x1B36, 0x0005, 0x1AF4, 0x1100, 0x00FF00),
}
AHCI_CLASS: Final = Id(PCI_ANY_ID, PCI_ANY_ID, class_=0x010601, class_mask=0xFFFFFF)
SERIAL: Final = (Id(0x9710, 0x9900, driver_data=5), Id(0x9710, 0x9901))
DRIVERS: Final = (
    Driver(1, "serial", SERIAL),
    Driver(2, "shpchp", (AHCI_CLASS._replace(class_=0x060400),)),
    Driver(3, "pci-stub", None),
    Driver(4, "vfio-pci", (Id(PCI_ANY_ID, PCI_ANY_ID, override_only=1),)),
    Driver(5, "e1000", (Id(0x8086, 0x100E),)),
    Driver(6, "ahci", (Id(0x8086, 0x2922, driver_data=3), AHCI_CLASS)),
    Driver(7, "virtio-pci", (Id(0x1AF4, PCI_ANY_ID),)),
)
NEWEST: Final = Rules("linux-5.15", "linux-7.3", "linux-5.14", Overflow.SATURATE)


def world(rules: Rules = NEWEST, **probe_errno: str | None) -> World:
    """Return a world in which any driver takes any device, but for those named."""
    answers = {"e1000": "EIO", "vfio_pci": "EINVAL"} | probe_errno
    named = {name.replace("_", "-"): errno for name, errno in answers.items()}
    return World(
        rules,
        ALIKE,
        DRIVERS,
        {(d.name, at): named.get(d.name) for d in DRIVERS for at in ALIKE},
    )


def invented(seed: str, into: World, count: int) -> Iterator[Write]:
    """Yield writes that were done in this world."""
    generator = Generator(Random(seed), into)  # noqa: S311 - no secret
    for _ in range(count):
        write = generator.write()
        into.write(write)
        yield write


def test_a_seed_gives_the_same_writes() -> None:
    """A failure can be had again."""
    once = list(invented("1", world(), 200))
    assert once == list(invented("1", world(), 200))
    assert once != list(invented("2", world(), 200))


def test_nothing_is_done_that_may_hurt() -> None:
    """Where it must not, no driver ever gets at a device, however probe answers."""
    into = world()
    hands_off = {player.name for player in PLAYERS if not player.binds}
    for write in invented("1", into, 5000):
        assert not hands_off & set(into.bound.values()), write
        for dynid in into.dynids["serial"]:
            assert not dynid.driver_data or dynid.vendor not in (
                PCI_ANY_ID,
                *(device.vendor for device in ALIKE.values()),
            )


@pytest.mark.parametrize(
    "changes",
    [
        {"semantics": "linux-3.16"},
        {"new_id": "linux-3.16"},
        {"new_id": "linux-5.11"},
        {"bind": "linux-3.16"},
        {"overflow": Overflow.WRAP},
    ],
)
def test_other_rules_would_be_noticed(changes: dict[str, str]) -> None:
    """Within a hundred sequences of ten writes a wrong rule gives a wrong answer."""
    random = Random(SEED)  # noqa: S311 - no secret
    noticed = False
    for _ in range(100):
        right, wrong = world(), world(NEWEST._replace(**changes))  # type: ignore[arg-type]
        generator = Generator(random, right)
        for write in (generator.write() for _ in range(10)):
            noticed |= right.write(write) != wrong.write(write)
            noticed |= right.bound != wrong.bound
    assert noticed


def test_texts_reach_every_errno() -> None:
    """The sequences that were thought out have each answer that there is."""
    for rules in ("linux-3.16", "linux-5.11", "linux-7.3"):
        answers = set()
        for writes in TEXTS:
            into = world(NEWEST._replace(new_id=rules))
            answers |= {(write.file, into.write(write)) for write in writes}
        assert {
            *(("new_id", errno) for errno in (0, "EEXIST", "EINVAL")),
            *(("remove_id", errno) for errno in (0, "ENODEV", "EINVAL")),
        } == answers


def test_next_driver_is_tried_after_an_error() -> None:
    """In the order of registration: vfio-pci's probe fails, e1000 comes next."""
    into = world(e1000=None)
    for name in ("e1000", "vfio-pci"):
        assert 0 == into.write(Write("driver_override", EDU, "none"))
        assert 0 == into.write(Write("new_id", name, "1234 11e8"))
    assert 0 == into.write(Write("driver_override", EDU, "\n"))
    assert {EDU: None, TESTDEV: None} == into.bound
    assert 0 == into.write(Write("drivers_probe", "", EDU))
    assert {EDU: "e1000", TESTDEV: None} == into.bound


def test_first_driver_of_two_wins() -> None:
    """pci-stub was registered before vfio-pci."""
    into = world(vfio_pci=None)
    for name in ("vfio-pci", "pci-stub"):
        into.write(Write("driver_override", EDU, "none"))
        into.write(Write("new_id", name, "1234 11e8"))
    into.write(Write("driver_override", EDU, "\n"))
    into.write(Write("drivers_probe", "", EDU))
    assert "pci-stub" == into.bound[EDU]


def test_bind_unbind_and_what_is_busy() -> None:
    """A bound device stays bound whatever is written to driver_override."""
    into = world()
    assert "ENODEV" == into.write(Write("bind", "pci-stub", EDU))
    assert 0 == into.write(Write("driver_override", EDU, "pci-stub\n"))
    assert "pci-stub" == into.shown(EDU)
    assert 0 == into.write(Write("bind", "pci-stub", EDU))
    assert "EBUSY" == into.write(Write("bind", "pci-stub", EDU))
    assert 0 == into.write(Write("driver_override", EDU, "\n"))
    assert "ENODEV" == into.write(Write("bind", "pci-stub", EDU))
    assert "pci-stub" == into.bound[EDU]
    assert "ENODEV" == into.write(Write("unbind", "e1000", EDU))
    assert 0 == into.write(Write("unbind", "pci-stub", EDU))
    assert "ENODEV" == into.write(Write("unbind", "pci-stub", EDU))

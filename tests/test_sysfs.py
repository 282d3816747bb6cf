"""observer/sysfs.py: devices and drivers as sysfs shows them."""

from __future__ import annotations

import errno
import os
import resource
import time
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from observer import sysfs
from observer.machine import PciDevice
from observer.record import Device
from observer.sysfs import devices, drivers, drivers_autoprobe, module_names

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

NIC = "0000:00:03.0"
IDS = Device(0x8086, 0x100E, 0x1AF4, 0x1100, 0x020000)
MODALIAS = "pci:v00008086d0000100Esv00001AF4sd00001100bc02sc00i00\n"
PLAIN = PciDevice(NIC, IDS, driver=None, driver_override=None)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Make an empty bus."""
    for name in ("devices", "drivers"):
        (tmp_path / "bus/pci" / name).mkdir(parents=True)
    return tmp_path / "bus/pci"


def plug(
    root: Path,
    address: str = NIC,
    *,
    links: dict[str, str] | None = None,
    **files: str | bytes,
) -> Path:
    """Add a device with these files and links; return its directory."""
    directory = root / "devices" / address
    directory.mkdir()
    for name, content in ({"modalias": MODALIAS} | files).items():
        data = content.encode() if isinstance(content, str) else content
        (directory / name).write_bytes(data)
    for name, target in (links or {}).items():
        (directory / name).symlink_to(target)
    return directory


def register(root: Path, name: str, module: str | None, *, loaded: bool = True) -> None:
    """Add a driver, linked to its module."""
    driver = root / "drivers" / name
    driver.mkdir()
    if module is not None:
        (driver / "module").symlink_to(f"../../../../module/{module}")
        (root.parents[1] / "module" / module).mkdir(parents=True)
        if loaded:
            (root.parents[1] / "module" / module / "initstate").write_text("live\n")


def only(root: Path) -> tuple[PciDevice, tuple[str, ...]]:
    """Read the one device there is."""
    found, gaps = devices(root=root)
    [device] = found.values()
    return device, gaps


def test_device_with_the_fewest_files(root: Path) -> None:
    """What a device has no file for is None, and that is no gap."""
    plug(root, driver_override="(null)\n")
    assert (PLAIN, ()) == only(root)


def test_device_with_all_files(root: Path) -> None:
    """Every field comes from its own file or link."""
    plug(
        root,
        driver_override="vfio-pci\n",
        sriov_numvfs="4\n",
        sriov_drivers_autoprobe="0\n",
        boot_vga="1\n",
        links={
            "driver": "../../../bus/pci/drivers/i6300ESB timer",
            "physfn": "../0000:00:01.0",
            "iommu_group": "../../../kernel/iommu_groups/17",
        },
    )
    expected = PciDevice(
        address=NIC,
        ids=IDS,
        driver="i6300ESB timer",
        driver_override="vfio-pci",
        physfn="0000:00:01.0",
        sriov_numvfs=4,
        sriov_drivers_autoprobe=False,
        iommu_group=17,
        boot_vga=True,
    )
    assert (expected, ()) == only(root)


def test_class_has_all_three_bytes(root: Path) -> None:
    """Base class, subclass and interface make up the class code."""
    plug(root, modalias=MODALIAS.replace("bc02sc00i00", "bc0Csc03i30"))
    assert 0x0C0330 == only(root)[0].ids.class_


@pytest.mark.parametrize(
    ("text", "override"),
    [
        (b"(null)\n", None),
        (b"\n", None),
        (b"none\n", "none"),
        (b"vfio-pci \n", "vfio-pci "),
        (b" \t\n", " \t"),
        (b"(null) \n", "(null) "),
        (b"\x1b[31m\xff\r\n", "\x1b[31m\udcff\r"),
        (b"x" * 4094 + b"\n", "x" * 4094),
    ],
)
def test_override(root: Path, text: bytes, override: str | None) -> None:
    """An override is the exact text before the newline; nothing else is cut off."""
    plug(root, driver_override=text)
    assert (PLAIN._replace(driver_override=override), ()) == only(root)


def test_devices_are_ordered_by_address(root: Path) -> None:
    """A domain of five digits comes after those of four."""
    ascending = ["0000:00:02.0", "0000:ff:00.0", "2000:00:00.0", "10000:e1:00.0"]
    for address in reversed(ascending):
        plug(root, address)
    assert ascending == list(devices(root=root)[0])


@pytest.mark.parametrize(
    ("name", "text", "field"),
    [
        ("sriov_numvfs", "many\n", "sriov_numvfs"),
        ("sriov_drivers_autoprobe", "2\n", "sriov_drivers_autoprobe"),
        ("boot_vga", "\n", "boot_vga"),
    ],
)
def test_odd_file(root: Path, name: str, text: str, field: str) -> None:
    """One odd file makes its field None and a sentence; the others are read."""
    plug(root, driver_override="e1000\n", **{name: text})
    device, gaps = only(root)
    assert PLAIN._replace(driver_override="e1000") == device
    assert None is getattr(device, field)
    assert (f"{NIC}: {name} reads {text.strip()!r}, so it is unknown.",) == gaps


def test_odd_text_is_printable_in_the_sentence(root: Path) -> None:
    """No control sequence reaches a terminal."""
    plug(root, boot_vga="\x1b[2J\n")
    assert r"'\x1b[2J'" in only(root)[1][0]


def test_odd_link(root: Path) -> None:
    """A group that is no number is unknown; a link that is none can't be read."""
    plug(root, links={"iommu_group": "../../groups/x"}, driver="no link")
    device, gaps = only(root)
    assert PLAIN == device
    assert (
        f"{NIC}: driver can't be read (Invalid argument), so it is unknown.",
        f"{NIC}: iommu_group reads 'x', so it is unknown.",
    ) == gaps


@pytest.mark.parametrize("text", ["", "pci:v00008086\n", "usb" + MODALIAS])
def test_device_without_ids_is_left_out(root: Path, text: str) -> None:
    """Ids can't be invented; the other devices are there."""
    plug(root, modalias=text)
    plug(root, "0000:00:04.0")
    found, gaps = devices(root=root)
    assert ["0000:00:04.0"] == list(found)
    assert (
        f"{NIC}: modalias reads {text.strip()!r}, so the device is left out.",
    ) == gaps


def test_unreadable_ids(root: Path) -> None:
    """A modalias that is no file leaves the device out too, with the reason."""
    directory = plug(root)
    (directory / "modalias").unlink()
    (directory / "modalias").mkdir()
    found, [gap] = devices(root=root)
    assert {} == found
    assert (
        f"{NIC}: modalias can't be read (Is a directory), so the device is left " in gap
    )


def test_no_devices(tmp_path: Path) -> None:
    """Without sysfs there is nothing, and it is said."""
    found, gaps = devices(root=tmp_path)
    assert {} == found
    assert (f"{tmp_path}/devices can't be read (No such file or directory).",) == gaps


def test_device(root: Path) -> None:
    """One device is read as it is among all; an absent one is None."""
    plug(root, boot_vga="no\n")
    gaps: list[str] = []
    assert PLAIN == sysfs.device(NIC, root=root, gaps=gaps)
    assert PLAIN == sysfs.device(NIC, root=root)
    assert 1 == len(gaps)
    assert None is sysfs.device("0000:00:04.0", root=root, gaps=gaps)
    assert 1 == len(gaps)


@pytest.mark.parametrize("address", ["", "..", "../drivers", NIC + "/driver", "x\0"])
def test_no_address(root: Path, address: str) -> None:
    """What is no address is no device, whatever it leads to."""
    plug(root, links={"driver": "../../drivers"})
    assert None is sysfs.device(address, root=root)


def during(
    monkeypatch: pytest.MonkeyPatch, name: str, act: Callable[[], object]
) -> None:
    """Let something happen just before this link of a device is read, once."""
    readlink = os.readlink
    acts = [act]

    def watched(path: str, *, dir_fd: int | None = None) -> str:
        if path == name and acts:
            acts.pop()()
        return readlink(path, dir_fd=dir_fd)

    monkeypatch.setattr(os, "readlink", watched)


def unplug(directory: Path) -> None:
    """Remove a device as the kernel does: its files with it."""
    for path in directory.iterdir():
        path.unlink()
    directory.rmdir()


def test_removed_while_read(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A device that goes away is left out, and not said to be unbound."""
    directory = plug(root, links={"driver": "../../drivers/e1000"})
    plug(root, "0000:00:04.0")
    during(monkeypatch, "driver", lambda: unplug(directory))
    found, gaps = devices(root=root)
    assert ["0000:00:04.0"] == list(found)
    assert (f"{NIC} came or went while it was read: it is left out.",) == gaps


def test_replaced_while_read(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Fields of two devices are never mixed, even at the same address."""
    directory = plug(root, links={"driver": "../../drivers/e1000"})

    def replace() -> None:
        unplug(directory)
        plug(root, driver_override="vfio-pci\n")

    during(monkeypatch, "driver", replace)
    assert None is sysfs.device(NIC, root=root)
    replaced = sysfs.device(NIC, root=root)
    assert PLAIN._replace(driver_override="vfio-pci") == replaced


@pytest.mark.parametrize("number", [errno.ENODEV, errno.EIO, errno.ENOENT])
def test_dying_device(root: Path, monkeypatch: pytest.MonkeyPatch, number: int) -> None:
    """Whatever error a dying device gives, it is gone, and nothing else is said."""
    plug(root)

    def fail(_descriptor: int, _size: int) -> bytes:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(os, "read", fail)
    assert (
        {},
        (f"{NIC} came or went while it was read: it is left out.",),
    ) == devices(root=root)


def descriptors() -> set[str]:
    """List this process's open files, but for the one that lists them."""
    return {path.name for path in Path("/proc/self/fd").iterdir() if path.exists()}


@contextmanager
def left(descriptors: int) -> Iterator[None]:
    """Let this process open so many files more."""
    limit = resource.getrlimit(resource.RLIMIT_NOFILE)
    first = os.dup(0)
    os.close(first)
    resource.setrlimit(resource.RLIMIT_NOFILE, (first + descriptors, limit[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, limit)


@pytest.mark.parametrize("descriptors", [0, 1])
def test_too_many_open_files(root: Path, descriptors: int) -> None:
    """A device whose files can't be opened is not said to be gone, or odd."""
    plug(root)
    with left(descriptors), pytest.raises(OSError, match="Too many open files"):
        sysfs.device(NIC, root=root, gaps=[])
    with left(descriptors), pytest.raises(OSError, match="Too many open files"):
        devices(root=root)


def test_drivers_that_cannot_be_listed_are_not_gone(root: Path) -> None:
    """For want of a descriptor nothing is known."""
    with left(0), pytest.raises(OSError, match="Too many open files"):
        drivers(root=root)
    with left(0), pytest.raises(OSError, match="Too many open files"):
        drivers_autoprobe(root=root)


def test_no_descriptor_is_left_open(root: Path) -> None:
    """Present, odd and absent devices are all closed."""
    plug(root)
    plug(root, "0000:00:04.0", modalias="odd")
    before = descriptors()
    devices(root=root)
    sysfs.device("0000:00:05.0", root=root)
    assert before == descriptors()


def test_reread_reads_what_changes(root: Path) -> None:
    """Driver, override, number of VFs, their probing and the group are read again."""
    directory = plug(root, sriov_numvfs="0\n", sriov_drivers_autoprobe="1\n")
    before, _gaps = only(root)
    (directory / "sriov_numvfs").write_text("2\n")
    (directory / "sriov_drivers_autoprobe").write_text("0\n")
    (directory / "driver_override").write_text("vfio-pci\n")
    (directory / "driver").symlink_to("../../drivers/vfio-pci")
    (directory / "iommu_group").symlink_to("../../groups/3")
    expected = before._replace(
        driver="vfio-pci",
        driver_override="vfio-pci",
        sriov_numvfs=2,
        sriov_drivers_autoprobe=False,
        iommu_group=3,
    )
    assert expected == sysfs.reread(before, root=root)
    assert expected == only(root)[0]


def test_reread_keeps_the_rest(root: Path) -> None:
    """What never changes is not read: the files are not even asked for."""
    plug(root, boot_vga="odd\n", sriov_numvfs="odd\n")
    before = PLAIN._replace(boot_vga=True, physfn="0000:00:01.0")
    gaps: list[str] = []
    assert before == sysfs.reread(before, root=root, gaps=gaps)
    assert [] == gaps


def test_reread_of_another_device(root: Path) -> None:
    """A device with other ids at the address is read entirely."""
    plug(root, boot_vga="0\n")
    before = PLAIN._replace(ids=IDS._replace(device=0x10D3), physfn="0000:00:01.0")
    assert PLAIN._replace(boot_vga=False) == sysfs.reread(before, root=root)


def test_reread_of_a_device_that_is_gone(root: Path) -> None:
    """A device that is gone is None."""
    assert None is sysfs.reread(PLAIN, root=root)


def test_drivers(root: Path) -> None:
    """A module has an initstate when it is loaded; a built-in one has parameters."""
    register(root, "xhci_hcd", "xhci_pci")
    register(root, "shpchp", "shpchp", loaded=False)
    register(root, "pcieport", None)
    assert {"pcieport": None, "shpchp": None, "xhci_hcd": "xhci_pci"} == drivers(
        root=root
    )
    assert {"shpchp": "shpchp", "xhci_hcd": "xhci_pci"} == module_names(root=root)


def test_no_drivers(tmp_path: Path) -> None:
    """Without sysfs there are none."""
    assert {} == drivers(root=tmp_path)


@pytest.mark.parametrize(
    ("text", "expected"), [("1\n", True), ("0\n", False), ("x\n", None), (None, None)]
)
def test_drivers_autoprobe(root: Path, text: str | None, expected: object) -> None:
    """The bus binds by itself, or not; it may be unknown."""
    if text is not None:
        (root / "drivers_autoprobe").write_text(text)
    assert expected is drivers_autoprobe(root=root)


def test_this_machine() -> None:
    """The real sysfs has no file that is not understood."""
    found, gaps = devices()
    assert () == gaps
    assert {path.name for path in sysfs.PCI.glob("devices/*")} == found.keys()
    assert {device.driver for device in found.values()} - {None} <= drivers().keys()


def test_200_devices_take_milliseconds(root: Path) -> None:
    """A look at a large machine is no burden; the best of three is judged."""
    for number in range(200):
        plug(root, f"0000:{number:02x}:00.0", driver_override="(null)\n")

    def measured() -> float:
        begin = time.perf_counter()
        assert 200 == len(devices(root=root)[0])
        return time.perf_counter() - begin

    assert 0.05 > min(measured() for _ in range(3))

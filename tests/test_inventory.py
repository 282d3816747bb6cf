"""observer/inventory.py: drivers out of kernel memory, or what sysfs tells of them."""

from __future__ import annotations

import errno
import os
from pathlib import Path
from typing import TYPE_CHECKING, Self, cast

import pytest
from kernel_image import Bus, btf_of

from observer import inventory
from observer.bpf import BpfError
from observer.inventory import take
from observer.machine import Origin
from observer.record import Id, TableState
from observer.registered import NOT_TAKEN, Inventory, as_object
from observer.stocktaking import _in_memory, _inventory

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from observer.kernel_memory import KernelMemory

NIC = Id(0x8086, 0x100E)
ALIASES = """\
alias pci:v00008086d0000100Esv*sd*bc*sc*i* e1000
alias vfio_pci:v*d*sv*sd*bc*sc*i* vfio_pci
"""


class Machine:
    """A machine whose memory and sysfs a test fills."""

    def __init__(self, directory: Path) -> None:
        """Register three drivers."""
        self.bus = Bus(btf_of("7.3.4+deb13-amd64"))
        self.bus.add("pcieport", [NIC])
        self.bus.add("e1000", [NIC], [NIC], module="e1000")
        self.bus.add("bad\x1b", None, module="bad")
        self.pci, self.modules = directory / "pci", directory / "modules"
        for name, module in (
            ("pcieport", None),
            ("e1000", "e1000"),
            ("bad\x1b", "bad"),
        ):
            self.show(name, module)
        home = self.modules / os.uname().release
        home.mkdir(parents=True)
        (home / "modules.alias").write_text(ALIASES)
        (home / "modules.builtin").write_text("")
        (home / "modules.builtin.modinfo").write_text("")
        self.closed = False

    def show(self, name: str, module: str | None) -> None:
        """Let sysfs show a driver."""
        (self.pci / "drivers" / name).mkdir(parents=True)
        if module:
            loaded = self.pci / "modules" / module
            loaded.mkdir(parents=True)
            (loaded / "initstate").write_text("live\n")
            (self.pci / "drivers" / name / "module").symlink_to(loaded)

    def read(self, requests: Sequence[tuple[int, int]]) -> list[bytes | None]:
        """Read its memory."""
        return self.bus.read(requests)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.closed = True

    def take(
        self,
        error: OSError | None = None,
        *,
        deferred: Path = Path("/nowhere"),
        **symbols: int,
    ) -> Inventory:
        """Take the inventory; `error` is why its memory can't be read."""

        def memory() -> KernelMemory:
            if error:
                raise error
            return cast("KernelMemory", self)

        return take(
            self.bus.btf,
            symbols or self.bus.symbols,
            memory=memory,
            pci=self.pci,
            modules=self.modules,
            deferred=deferred,
        )


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    """Return a machine with three drivers."""
    return Machine(tmp_path)


def names(taken: Inventory) -> list[str]:
    """Return the drivers' names."""
    return [known.driver.name for known in taken.drivers]


def test_kernel_memory_is_the_source(machine: Machine) -> None:
    """Drivers in their order, dynids known, no gap; the reader is closed."""
    taken = machine.take()
    assert (["pcieport", "e1000", "bad\x1b"], True, ()) == (
        names(taken),
        *taken[1:3],
    )
    assert (NIC,) == taken.drivers[1].dynids
    assert machine.closed


def test_devices_whose_probe_was_deferred_are_named(machine: Machine) -> None:
    """Of all buses, with and without a reason; not to be read, none is known."""
    path = machine.pci / "devices_deferred"
    path.write_text("0000:00:02.0\t\n0000:00:03.0\tpci: wait for supplier x\nserial0\n")
    devices = {"0000:00:02.0", "0000:00:03.0", "serial0"}
    assert devices == machine.take(deferred=path).deferred
    assert frozenset() == machine.take(deferred=path / "no").deferred


def refused() -> dict[str, Callable[[Machine], Inventory]]:
    """Return what may keep memory from being read."""
    no = BpfError(errno.EPERM, "creating the BPF map requests: no")
    return {
        "creating the BPF map requests: no; run as root": lambda m: m.take(no),
        "pci_bus_type is not known": lambda m: m.take(bus_kset=1),
        "no type information": lambda m: take(None, pci=m.pci, modules=m.modules),
        "can't be followed": lambda m: m.take(pci_bus_type=1, bus_kset=1),
    }


@pytest.mark.parametrize("why", refused())
def test_else_sysfs_and_aliases_and_a_sentence(machine: Machine, why: str) -> None:
    """What is unknown, why, and for whom; hostile names can't harm a terminal."""
    taken = refused()[why](machine)

    assert not taken.order_known
    assert ["bad\x1b", "e1000", "pcieport"] == names(taken)
    bad, e1000, pcieport = taken.drivers
    assert ((NIC,), TableState.COMPLETE) == e1000.driver[2:4]
    assert (Origin.MODULES_ALIAS, None, "e1000") == e1000[1:4]
    for known, module in ((bad, "bad"), (pcieport, None)):
        assert (None, TableState.UNKNOWN) == known.driver[2:4]
        assert (Origin.NOWHERE, None, module) == known[1:4]
    (gap,) = taken.gaps
    assert why in gap
    assert "all dynids and the order" in gap
    assert gap.endswith("unknown for bad\\x1b, pcieport.")


def test_aliases_that_cannot_be_read_are_a_gap_too(machine: Machine) -> None:
    """Both sentences are given."""
    (machine.modules / os.uname().release / "modules.alias").unlink()
    taken = machine.take(BpfError(errno.EPERM, "no"))
    assert {Origin.NOWHERE} == {known.origin for known in taken.drivers}
    assert ["modules.alias" in gap for gap in taken.gaps] == [True, True]


def test_lockdown_is_named(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    """It shows as an error of the verifier, which helps nobody."""
    monkeypatch.setattr(inventory.kernel, "lockdown", lambda: "confidentiality")
    taken = machine.take(BpfError(errno.EINVAL, "loading: Invalid argument"))
    assert "boot without lockdown=confidentiality" in taken.gaps[0]
    assert "Invalid argument" not in taken.gaps[0]


def test_a_driver_that_comes_is_waited_for(
    machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Sysfs shows it before the bus has it."""
    machine.show("late", None)
    monkeypatch.setattr(inventory.time, "sleep", lambda _: machine.bus.add("late"))
    taken = machine.take()
    assert ("late", ()) == (names(taken)[-1], taken.gaps)


def test_a_built_in_driver_may_have_aliases(machine: Machine) -> None:
    """Recent kernels tell those of built-in modules that sysfs links to."""
    built_in = machine.pci / "modules" / "pcieportdrv"
    built_in.mkdir()
    (machine.pci / "drivers" / "pcieport" / "module").symlink_to(built_in)
    modinfo = machine.modules / os.uname().release / "modules.builtin.modinfo"
    modinfo.write_text("pcieportdrv.alias=pci:v00008086d0000100Esv*sd*bc*sc*i*\0")

    pcieport = machine.take(BpfError(errno.EPERM, "no")).drivers[2]

    assert ("pcieport", (NIC,)) == pcieport.driver[1:3]
    assert (Origin.MODULES_ALIAS, None) == (pcieport.origin, pcieport.module)


def test_a_driver_that_one_side_lacks_is_a_gap(machine: Machine) -> None:
    """It is named, and the others are listed."""
    machine.show("slow\x1b", None)
    taken = machine.take()
    assert 3 == len(taken.drivers)
    (gap,) = taken.gaps
    assert "slow\\x1b came or went meanwhile" in gap


def test_the_loader_survives_whatever_happens(monkeypatch: pytest.MonkeyPatch) -> None:
    """The hooks are worth more than the inventory."""

    def broken(*_: object) -> Inventory:
        raise RuntimeError("odd\x1b")

    monkeypatch.setattr(inventory, "take", broken)
    taken = _inventory(btf_of("7.3.4+deb13-amd64"), {})
    assert ((), False) == taken[:2]
    assert (f"{NOT_TAKEN.gaps[0]} RuntimeError: odd\\x1b.",) == taken.gaps


def test_an_inventory_of_any_size_is_handed_over(machine: Machine) -> None:
    """It lies in a file in memory, from its begin."""
    descriptor = _in_memory("inventory", [as_object(machine.take())])
    try:
        assert os.pread(descriptor, 12, 0) == b'{"drivers": '
    finally:
        os.close(descriptor)

"""The inventory of the drivers on real kernels: all of it true, whatever goes on.

tests/live/inventory.py takes it; tests/live/kcore.py is the second opinion.
"""

from __future__ import annotations

import re
from typing import Any, Final

import pytest
from lab import devices
from live.boots import Boots, boot, progress

from observer.record import StoreFile

pytestmark = pytest.mark.guest

ANY: Final = 0xFFFFFFFF
QEMU_ARGS: Final = (
    *devices.DRIVERLESS,
    *("-netdev", "user,id=of-nic,restrict=on", "-device", "e1000,netdev=of-nic"),
)
SECONDS: Final = 2
MORE_KIB: Final = 5 << 10
every_kernel = pytest.mark.parametrize("kernel", ["5.10", "6.1", "6.12.90", "7.3"])
every_obstacle = pytest.mark.parametrize(
    ("obstacle", "reason"),
    [
        ("nobody", "run as root"),
        ("kptr_restrict", "pci_bus_type is not known"),
        ("no_kallsyms", "pci_bus_type is not known"),
        ("locked_down", "boot without lockdown=confidentiality"),
    ],
)


@pytest.fixture(scope="session")
def inventories(
    tmp_path_factory: pytest.TempPathFactory, pytestconfig: pytest.Config
) -> Boots:
    """Boot a kernel when a test first asks for it."""

    def start(kernel: str) -> dict[str, Any]:
        directory = tmp_path_factory.mktemp(f"inventory-{kernel}")
        say = progress(pytestconfig)
        result: dict[str, Any] = boot(
            kernel, "live.inventory", directory, say, qemu_args=QEMU_ARGS
        )
        say(f"inventory of {kernel}: {result['cost']}")
        return result

    return Boots(start)


@pytest.fixture
def seen(inventories: Boots, kernel: str) -> dict[str, Any]:
    """Return what a kernel showed."""
    found: dict[str, Any] = inventories[kernel]
    return found


def named(taken: dict[str, Any]) -> dict[str, Any]:
    """Return an inventory's drivers by name."""
    return {driver["name"]: driver for driver in taken["drivers"]}


@every_kernel
def test_equals_the_second_opinion(seen: dict[str, Any]) -> None:
    """Order, names, modules, tables, dynids, entry by entry; and nothing is unknown."""
    taken = seen["taken"]
    fields = seen["oracle"][0].keys()

    assert ([], True) == (taken["gaps"], taken["order_known"])
    assert seen["oracle"] == [
        {field: driver[field] for field in fields} for driver in taken["drivers"]
    ]
    assert {("kernel_memory", "complete")} == {
        (driver["origin"], driver["table_state"]) for driver in taken["drivers"]
    }
    assert len(taken["drivers"]) > 10
    assert 1000 < sum(len(driver["id_table"] or ()) for driver in taken["drivers"])


@every_kernel
def test_equals_sysfs(seen: dict[str, Any]) -> None:
    """The same drivers, of the same modules."""
    modules = {driver["name"]: driver["module"] for driver in seen["taken"]["drivers"]}
    assert seen["sysfs"] == modules


@every_kernel
def test_dynids_from_before_are_listed_whole(seen: dict[str, Any]) -> None:
    """In the order of the writes, with class, mask and driver_data."""
    drivers = named(seen["taken"])

    assert ["", "", ""] == seen["written"]
    assert [
        [0x8086, 0x9999, 1, 2, 0x020000, 0xFFFF00, 0, 0],
        [0x1234, 0x5678, ANY, ANY, 0, 0, 0, 0],
    ] == drivers["pci-stub"]["dynids"]
    assert [[0x1234, 0x9ABC, ANY, ANY, 0, 0, 1, 0]] == drivers["ahci"]["dynids"]
    assert [] == drivers["e1000"]["dynids"]


@every_kernel
def test_a_table_equals_modules_alias(seen: dict[str, Any]) -> None:
    """The same ids were read by depmod, from the module's file."""
    table = named(seen["taken"])["e1000"]["id_table"]
    found = re.findall(
        r"(?m)^alias pci:v(\w{8})d(\w{8})sv\*sd\*bc\*sc\*i\* e1000$", seen["aliases"]
    )
    assert sorted((int(v, 16), int(d, 16)) for v, d in found) == sorted(
        (vendor, device) for vendor, device, *_ in table
    )
    assert len(table) == len(found) > 30


@every_kernel
def test_the_daemon_gets_the_same(seen: dict[str, Any]) -> None:
    """The loader takes it, after the hooks, and hands it over."""
    assert seen["taken"] == seen["handed_over"]


@every_kernel
def test_store_functions_are_found(seen: dict[str, Any]) -> None:
    """Each address is that of a function of the right name."""
    assert {file: [f"{file}_store"] for file in StoreFile} == seen["stores"]


@every_kernel
def test_it_costs_little(seen: dict[str, Any]) -> None:
    """Time, memory and runs, beside reading types and symbols."""
    cost = seen["cost"]
    assert cost["inventory_seconds"] < SECONDS
    assert cost["more_kib"] < MORE_KIB
    assert cost["runs"] < 300


@every_kernel
@every_obstacle
def test_without_kernel_memory_nothing_is_made_up(
    seen: dict[str, Any], obstacle: str, reason: str
) -> None:
    """Names and modules of sysfs, ids of modules.alias; the sentence says the rest."""
    taken = seen[obstacle]

    assert "crash" not in taken, taken
    assert not taken["order_known"]
    assert reason in taken["gaps"][0]
    assert "dynids and the order" in taken["gaps"][0]
    assert seen["sysfs"] == {d["name"]: d["module"] for d in taken["drivers"]}
    assert [None] * len(taken["drivers"]) == [d["dynids"] for d in taken["drivers"]]
    whole = named(seen["taken"])
    for name, driver in named(taken).items():
        if driver["origin"] == "nowhere":
            assert (None, "unknown") == (driver["id_table"], driver["table_state"])
            continue
        assert "modules.alias" == driver["origin"]
        asked = {tuple(entry[:6]) for entry in whole[name]["id_table"] or ()}
        if name == "e1000":
            assert asked == {tuple(entry[:6]) for entry in driver["id_table"]}


@every_kernel
def test_while_a_module_comes_and_goes(seen: dict[str, Any]) -> None:
    """It is whole, not there, or a gap; and others never change."""
    race, whole = seen["race"], named(seen["taken"])
    present = 0

    assert race["count"] >= 50
    for taken, times in race["distinct"]:
        drivers = named(taken)
        if "e1000" not in drivers:
            assert whole.keys() - {"e1000"} == drivers.keys()
        else:
            present += times
        for name, driver in drivers.items():
            if driver != whole[name]:
                assert "e1000" == name
                assert "unreadable" == driver["table_state"] or driver["dynids"] is None
                assert taken["gaps"]
    assert 0 < present < race["count"]

"""observer/story.py and what it is made of: what `explain` tells.

Tests whose names begin with a number are about the user problem with that number. Of
the 28, these are not about a machine as it runs now and have no test here:

- 4, 6: a kernel that is to be booted, its built-in drivers and its initramfs;
- 7, 8, 21: what was bound in an earlier boot or under another kernel.

The part of 4 that a running kernel shows is tested. Of 20 the release in which the
winner would change belongs to another kernel as well, as does the group's old number
of 16. 2, 14, 15 and 28 are findings of the audit: here it is tested that they are told.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest
from machines import (
    ADDRESS,
    E1000,
    VFIO_PCI,
    device,
    driver,
    machine,
    probe,
    seconds,
    uevent,
    write,
)

from observer.case import Surroundings
from observer.record import (
    Action,
    Device,
    Id,
    ProbeResult,
    StoreFile,
    Task,
)
from observer.story import StoryError, as_object, as_text, normalised, story

if TYPE_CHECKING:
    from observer.machine import Machine, PciDriver
    from observer.story import Story

BASH = Task(42, 42, "bash", 0)
E1000_DYNID = Id(0x8086, 0x100E)
OTHER = "0000:00:03.0"
ALONE = device(bound="e1000", iommu_group=7)
NO_IOMMU = Surroundings(noiommu=False)
MODULES = Surroundings(aliases_known=True)


def clock(unix_ns: int) -> str:
    """Spell the test machine's time: seconds since its boot."""
    return f"T{(unix_ns - seconds(1_000_000)) / 1e9:g}"


def explain(
    told: Machine, name: str | None = None, around: Surroundings = MODULES
) -> Story:
    """Tell the story of the one device that all tests are about."""
    return story(told, ADDRESS, driver=name, surroundings=around, clock=clock)


def text(told: Story) -> str:
    """Return a story as it is printed."""
    return "\n".join(as_text(told, clock))


def gates(told: Story) -> dict[str, str]:
    """Return the sentences about what is in the way, by gate."""
    return dict(told.gates)


def commands(*steps: str) -> str:
    """Return one command of these steps, addresses and paths filled in."""
    paths = {
        "OVERRIDE": f"/sys/bus/pci/devices/{ADDRESS}/driver_override",
        "UNBIND": f"/sys/bus/pci/devices/{ADDRESS}/driver/unbind",
        "DRIVERS_PROBE": "/sys/bus/pci/drivers_probe",
        "DRIVERS": "/sys/bus/pci/drivers",
        "ADDRESS": ADDRESS,
    }
    command = " && ".join(steps)
    for name, path in paths.items():
        command = command.replace(name, path)
    return command


# Addresses


@pytest.mark.parametrize("text", ["00:02.0", "0000:00:02.0", " 0000:00:02.0\n"])
def test_address_as_people_write_it(text: str) -> None:
    """The domain may be left out."""
    assert ADDRESS == normalised(text)


def test_address_in_upper_case() -> None:
    """As some tools print it."""
    assert "10000:e1:0a.7" == normalised("10000:E1:0A.7")


@pytest.mark.parametrize(
    "text", ["", "e1000", "00:02", "00:02.8", "00:20.0", "0:0:2.0", "\x1b[2J"]
)
def test_no_address(text: str) -> None:
    """Anything else is refused in one printable line."""
    with pytest.raises(StoryError, match=r"write it as 0000:00:02\.0") as error:
        normalised(text)
    assert str(error.value).isprintable()


def test_no_such_device() -> None:
    """The nearest addresses are named."""
    there = machine(
        *(device(f"0000:00:0{n}.0") for n in range(3)), device("0001:00:07.0")
    )
    nearest = r"0000:00:07\.0: no such device; the nearest: 0000:00:00\.0, 0000:00:01"
    with pytest.raises(StoryError, match=nearest):
        story(there, "00:07.0")


def test_no_device_at_all() -> None:
    """A machine without PCI has no nearest address."""
    with pytest.raises(StoryError, match="the nearest: none at all"):
        story(machine(), "00:07.0")


# The user problems


def test_01_new_id_is_not_idempotent() -> None:
    """A second new_id is refused; the story tells who was first, and what to do."""
    vfio = VFIO_PCI._replace(dynids=(E1000_DYNID,))
    writes = (
        write(10, StoreFile.NEW_ID, "8086 100e\n", driver="vfio-pci", task=BASH),
        write(
            20,
            StoreFile.NEW_ID,
            "8086 100e\n",
            driver="vfio-pci",
            errno="EEXIST",
            task=BASH,
        ),
    )
    told = explain(
        machine(ALONE, drivers=(E1000, vfio), driver_events={"vfio-pci": writes}),
        "vfio-pci",
    )
    assert gates(told)["dynid_there"] == (
        "dynid 8086:100e is already on vfio-pci (added T10 by bash, pid 42); new_id is "
        "not idempotent; write the address to bind, or use driver_override"
    )
    assert "T19.999 bash (pid 42, uid 0) wrote '8086 100e' to new_id of vfio-pci: " in (
        text(told)
    )
    assert "failed, EEXIST" in text(told)
    assert told.command == commands(
        "echo ADDRESS > UNBIND", "echo ADDRESS > DRIVERS/vfio-pci/bind"
    )


def test_03_release_left_an_override() -> None:
    """The native driver is kept away; clearing the override brings it back."""
    told = explain(machine(device(driver_override="vfio-pci", iommu_group=7)))
    assert (
        "e1000 does not match: driver_override names 'vfio-pci', not 'e1000'. "
        "To match: clear driver_override"
    ) in text(told)
    assert told.command == commands("echo > OVERRIDE", "echo ADDRESS > DRIVERS_PROBE")


def test_04_built_in() -> None:
    """The part of it that a running kernel shows."""
    vfio = VFIO_PCI._replace(module=None)
    told = explain(machine(ALONE, drivers=(E1000, vfio)), "vfio-pci")
    assert gates(told)["built_in"] == (
        "vfio-pci is built into this kernel; modprobe.d options do not apply; use "
        "vfio-pci.ids= on the command line"
    )


def test_05_held_by_a_framebuffer() -> None:
    """The binding is right, and nothing is to be done about it."""
    around = Surroundings(holders=("BAR0 held by BOOTFB",))
    told = explain(machine(device(bound="e1000", boot_vga=True)), "e1000", around)
    assert gates(told)["resource_held"] == (
        "binding correct; BAR0 held by BOOTFB; boot_vga=1"
    )
    assert told.command is None


def test_09_two_equal_devices() -> None:
    """The second device is explained by the dynid of the first."""
    vfio = VFIO_PCI._replace(dynids=(E1000_DYNID,))
    told = explain(
        machine(
            device(iommu_group=7),
            device(OTHER, "vfio-pci", iommu_group=8),
            drivers=(vfio,),
        ),
        "vfio-pci",
    )
    assert "(added before observing, or by its module)" in gates(told)["dynid_there"]
    assert told.command == commands("echo ADDRESS > DRIVERS/vfio-pci/bind")


def test_09_nobody_watched() -> None:
    """Without a daemon nobody knows when the dynid came."""
    vfio = VFIO_PCI._replace(dynids=(E1000_DYNID,))
    told = explain(machine(ALONE, drivers=(vfio,), observed_since_ns=None), "vfio-pci")
    assert "(nobody watched when it was added)" in gates(told)["dynid_there"]
    assert "unknown: no daemon: only the present is known" in text(told)


def test_10_driver_unloaded() -> None:
    """Devices that named it or that were bound to it just before are counted."""
    other = "0000:00:04.0"
    told = explain(
        machine(
            device(driver_override="vfio-pci"),
            device(OTHER),
            device(other),
            drivers=(),
            device_events={
                OTHER: (
                    probe(5, "vfio-pci"),
                    uevent(49, Action.UNBIND, OTHER),
                ),
                other: (
                    probe(5, "e1000"),
                    uevent(49, Action.UNBIND, other),
                ),
            },
            driver_events={"vfio-pci": (uevent(50, Action.REMOVE, None, "vfio-pci"),)},
        )
    )
    assert gates(told)["unregistered"] == (
        "driver vfio-pci unregistered at T50; 2 devices lost their candidate"
    )


def test_11_override_only_without_override() -> None:
    """Binding fails in silence because the only id wants an override."""
    told = explain(machine(ALONE), "vfio-pci")
    assert gates(told)["override_only"] == (
        "vfio-pci's only static id is override_only and no override is set: no match "
        "(rule of 5.15 and later)"
    )
    assert told.command == commands(
        "echo vfio-pci > OVERRIDE",
        "echo ADDRESS > UNBIND",
        "echo ADDRESS > DRIVERS_PROBE",
    )


def test_12_half_done_rebind() -> None:
    """Who unbound it, and that nothing came after."""
    events = (
        write(10, StoreFile.UNBIND, driver="e1000", task=BASH),
        uevent(10, Action.UNBIND),
    )
    told = explain(machine(device(), device_events={ADDRESS: events}))
    assert told.headline == f"{ADDRESS} (8086:100e, class 020000) has no driver"
    assert [f"bash (pid 42, uid 0) wrote {ADDRESS} to unbind of e1000"] == [
        event.text for event in told.events.shown
    ]
    assert told.command == commands("echo ADDRESS > DRIVERS_PROBE")


def test_13_truth_per_address() -> None:
    """The driver that is bound, and not the one that somebody believes."""
    told = explain(machine(ALONE), "vfio-pci")
    assert told.headline == (
        f"{ADDRESS} (8086:100e, class 020000) is bound to e1000, not vfio-pci"
    )


def test_16_unbound_by() -> None:
    """A link vanished: the actor and the time."""
    events = (write(10, StoreFile.UNBIND, driver="e1000", task=BASH),)
    told = explain(machine(device(), device_events={ADDRESS: events}))
    assert f"T9.999 bash (pid 42, uid 0) wrote {ADDRESS} to unbind of e1000" in (
        text(told)
    )


def test_17_no_iommu_group() -> None:
    """Matched by override, refused by the probe: nothing that is written helps."""
    events = (probe(10, "vfio-pci", ProbeResult.REFUSED, "EINVAL"),)
    told = explain(
        machine(device(driver_override="vfio-pci"), device_events={ADDRESS: events}),
        "vfio-pci",
    )
    assert gates(told)["refused"] == "match ok, probe=-EINVAL; no IOMMU group"
    assert told.command is None


def test_17_errno_that_the_kernel_does_not_tell() -> None:
    """Up to 5.13 a probe's errno never leaves the core."""
    events = (probe(10, "vfio-pci", ProbeResult.REFUSED),)
    told = explain(
        machine(device(driver_override="vfio-pci"), device_events={ADDRESS: events}),
    )
    assert gates(told)["refused"] == (
        "match ok, probe refused, errno not known; no IOMMU group"
    )


def test_17_before_it_is_tried() -> None:
    """No command is offered that must fail."""
    told = explain(machine(device(bound="e1000")), "vfio-pci", NO_IOMMU)
    assert told.command is None
    assert gates(told)["refused"] == "vfio-pci would not take it: no IOMMU group"


def test_17_unsafe_noiommu_mode() -> None:
    """With it vfio-pci takes devices without a group."""
    around = Surroundings(noiommu=True)
    told = explain(machine(device(bound="e1000")), "vfio-pci", around)
    assert told.command is not None


QAT = Device(0x8086, 0x37C9, 0, 0, 0x0B4000)


def test_18_denylist() -> None:
    """vfio-pci refuses QAT devices, unless told otherwise when it is loaded."""
    events = (probe(10, "vfio-pci", ProbeResult.REFUSED, "EINVAL"),)
    qat = device(driver_override="vfio-pci", ids=QAT, iommu_group=7)
    told = explain(machine(qat, device_events={ADDRESS: events}), "vfio-pci")
    assert gates(told)["refused"] == (
        "matched; refused by the driver's denylist (disable_denylist=1)"
    )
    assert told.command == commands(
        "modprobe -r vfio_pci",
        "modprobe vfio_pci disable_denylist=1",
        "echo vfio-pci > OVERRIDE",
        "echo ADDRESS > DRIVERS_PROBE",
    )


def test_18_denylist_switched_off() -> None:
    """Then it is another reason."""
    events = (probe(10, "vfio-pci", ProbeResult.REFUSED, "EINVAL"),)
    qat = device(driver_override="vfio-pci", ids=QAT, iommu_group=7)
    around = Surroundings(denylist_disabled=True)
    told = explain(machine(qat, device_events={ADDRESS: events}), "vfio-pci", around)
    assert gates(told)["refused"] == (
        "match ok, probe=-EINVAL; see the kernel log for its reason"
    )


R8169 = driver("r8169", E1000_DYNID, module="r8169")
R8125 = driver("r8125", E1000_DYNID, module="r8125")._replace(
    registered_ns=seconds(8.7)
)


def test_19_winner_by_registration_order() -> None:
    """Both match, the first to be registered has it."""
    told = explain(machine(device(bound="r8169"), drivers=(R8169, R8125)))
    assert gates(told)["rivals"] == (
        "2 candidates; winner by registration order: r8169 (before observing), r8125 "
        "registered at T8.7"
    )
    assert told.command is None


def test_19_bound_against_the_order() -> None:
    """The winner is not who has it."""
    told = explain(machine(device(bound="r8125"), drivers=(R8169, R8125)))
    assert gates(told)["rivals"].endswith("; r8125 was bound otherwise")


def test_19_order_unknown() -> None:
    """Without kernel memory the order is not known, and no winner is named."""
    told = explain(
        machine(device(bound="r8169"), drivers=(R8125, R8169), order_known=False)
    )
    assert "rivals" not in gates(told)
    assert "unknown: in which order the drivers were registered" in text(told)


def test_20_one_declined() -> None:
    """Both match, one does not want it."""
    drivers = (driver("xe", E1000_DYNID, module="xe"), driver("i915", E1000_DYNID))
    events = (probe(10, "xe", ProbeResult.REFUSED, "ENODEV"), probe(11, "i915"))
    told = explain(
        machine(device(bound="i915"), drivers=drivers, device_events={ADDRESS: events})
    )
    assert gates(told)["declined"] == (
        "2 candidates (xe, i915): both match; xe declined (-ENODEV)"
    )


def test_20_why_not_the_one_that_declined() -> None:
    """Asked about it, the story says that it declined."""
    events = (probe(10, "e1000", ProbeResult.REFUSED, "ENODEV"),)
    told = explain(machine(device(), device_events={ADDRESS: events}), "e1000")
    assert gates(told)["refused"] == "match ok; e1000 declined (-ENODEV)"


def test_22_deferred() -> None:
    """A deferred probe is not called unbound, and the reason is the kernel's."""
    events = (probe(10, "e1000", ProbeResult.DEFERRED, "EPROBE_DEFER"),)
    around = Surroundings(deferred="platform: wait for supplier /soc/clk")
    told = explain(machine(device(), device_events={ADDRESS: events}), None, around)
    assert gates(told)["deferred"] == (
        "deferred: platform: waiting for supplier /soc/clk (probe by e1000)"
    )
    assert told.headline.endswith("has no driver yet: its probe is deferred")
    assert told.command is None


def test_22_deferred_without_a_reason() -> None:
    """The file in debugfs need not be there."""
    events = (probe(10, "e1000", ProbeResult.DEFERRED, "EPROBE_DEFER"),)
    told = explain(machine(device(), device_events={ADDRESS: events}))
    assert gates(told)["deferred"] == (
        "deferred: waiting for a supplier; the kernel tells no more (probe by e1000)"
    )


def test_23_module_never_loaded() -> None:
    """No registered driver matches, and a module would."""
    around = MODULES._replace(would_load=("e1000",))
    told = explain(machine(device(), drivers=()), None, around)
    assert gates(told)["not_loaded"] == (
        "no registered driver matches; modules.alias would load e1000"
    )
    assert told.command == "modprobe e1000"


def test_23_blacklisted() -> None:
    """The file that keeps it out is named; modprobe may be told not to heed it."""
    file = "/etc/modprobe.d/no.conf"
    around = MODULES._replace(would_load=("e1000",), blacklisted={"e1000": file})
    told = explain(machine(device(), drivers=()), None, around)
    assert gates(told)["not_loaded"].endswith(f"; e1000 is blacklisted by {file}")
    assert told.command == "modprobe --ignore-install e1000"


def test_23_no_module_either() -> None:
    """Then nothing can be done; a module that only an override reaches is named."""
    around = MODULES._replace(override_only=("vfio_pci",))
    told = explain(machine(device(), drivers=()), None, around)
    assert gates(told)["not_loaded"] == (
        "no registered driver matches, and nothing in modules.alias does; with "
        "driver_override vfio_pci would take it"
    )
    assert told.command is None


def test_23_modules_alias_not_read() -> None:
    """Nothing is claimed about modules that nobody looked at."""
    told = explain(machine(device(), drivers=()), None, Surroundings())
    assert {} == gates(told)


def test_24_verified_state_per_address() -> None:
    """A script printed success, nothing is bound."""
    told = explain(machine(device()), "vfio-pci")
    assert told.headline == (
        f"{ADDRESS} (8086:100e, class 020000) has no driver; not bound to vfio-pci"
    )


@pytest.mark.parametrize("drivers", [(), (E1000,)])
def test_25_override_names_no_driver(drivers: tuple[PciDriver, ...]) -> None:
    """It works once, then the module is not loaded; loading it is enough."""
    around = MODULES._replace(providers={"vfio-pci": "vfio_pci"})
    there = machine(device(driver_override="vfio-pci", iommu_group=7), drivers=drivers)
    told = explain(there, "vfio-pci", around)
    assert gates(told)["not_registered"] == (
        "override names vfio-pci, which is not registered; module vfio_pci would "
        "provide it"
    )
    assert told.command == "modprobe vfio_pci"
    clear = commands("echo > OVERRIDE", "echo ADDRESS > DRIVERS_PROBE")
    any_driver = explain(there, None, around)
    assert any_driver.command == (clear if drivers else told.command)


def test_25_override_names_nothing() -> None:
    """Then the native driver is what can be had."""
    told = explain(
        machine(device(driver_override="vifo-pci"), drivers=(E1000,)), None, MODULES
    )
    assert gates(told)["not_registered"] == (
        "override names vifo-pci, which is not registered; nothing has that name, no "
        "module either"
    )
    assert told.command == commands("echo > OVERRIDE", "echo ADDRESS > DRIVERS_PROBE")


def test_26_driver_per_device_as_data() -> None:
    """The same as fields, fit for JSON."""
    found = as_object(explain(machine(ALONE)))
    assert json.loads(json.dumps(found)) == {
        "address": ADDRESS,
        "headline": f"{ADDRESS} (8086:100e, class 020000) is bound to e1000",
        "bound": "e1000",
        "driver": None,
        "semantics": "linux-5.15",
        "kernel_semantics": "linux-5.15",
        "candidates": [
            {
                "driver": "e1000",
                "matches": True,
                "match": "static",
                "index": 0,
                "rule": "first_entry",
                "why": "No dynid matches; id_table[0] (8086:100e) does: the first "
                "entry that counts.",
                "opposite": "set driver_override to another name, such as 'none'",
                "registered_unix_ns": None,
                "result": None,
                "errno": None,
            }
        ],
        "gates": [],
        "events": [],
        "earlier_events": 0,
        "findings": [],
        "notes": [],
        "command": None,
        "unknown": ["what was before T1, when observing began"],
    }


def test_27_must_be_detached() -> None:
    """What is bound, and what it takes to change that."""
    ixgbe = driver("ixgbe", E1000_DYNID, module="ixgbe")
    told = explain(
        machine(device(bound="ixgbe", iommu_group=7), drivers=(ixgbe, VFIO_PCI)),
        "vfio-pci",
    )
    assert gates(told)["bound"] == "current driver ixgbe; needs override vfio-pci"

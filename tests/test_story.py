"""observer/story.py and what it is made of: what `explain` tells.

Tests whose names begin with a number are about the user problem with that number. Of
the 28, these are not about a machine as it runs now and have no test here:

- 4, 6: a kernel that is to be booted, its built-in drivers and its initramfs;
- 7, 8, 21: what was bound in an earlier boot or under another kernel.

The part of 4 that a running kernel shows is tested. Of 20 the release in which the
winner would change belongs to another kernel as well, as does the number that a group
of 16 had in an earlier boot. What 2, 14, 15 and 28 say are findings of the audit.
"""

from __future__ import annotations

import json
import shlex
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st
from machines import (
    ADDRESS,
    E1000,
    VFIO_PCI,
    device,
    driver,
    machine,
    machines,
    probe,
    seconds,
    uevent,
    write,
)

from observer.candidates import candidates
from observer.case import Surroundings
from observer.machine import Decision, Origin
from observer.record import (
    Action,
    Device,
    Id,
    ProbeResult,
    Source,
    StoreFile,
    TableState,
    Task,
)
from observer.story import StoryError, as_object, as_text, normalised, story

if TYPE_CHECKING:
    from observer.machine import Event, Machine, PciDriver
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


def test_02_dynid_that_takes_more() -> None:
    """The audit's finding is told of each device that is concerned."""
    vfio = VFIO_PCI._replace(dynids=(E1000_DYNID,))
    there = machine(
        ALONE,
        device(OTHER, "vfio-pci"),
        device("0000:00:04.0", "e1000"),
        drivers=(E1000, vfio),
    )
    assert (
        "greedy_dynid: dynid 8086:100e of vfio-pci matches 3 devices, 2 of them not "
        f"bound to it: {ADDRESS}, 0000:00:04.0"
    ) in text(explain(there))


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


def test_09_recorded_at_boot() -> None:
    """What the kernel recorded is known from then on, but not who wrote."""
    told = explain(machine(ALONE, recorded_since_ns=0), "vfio-pci")
    assert (
        "unknown: what was before T0, when the kernel began to record decisions, "
        "and who wrote to sysfs before T1"
    ) in text(told)


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


def test_14_flapping() -> None:
    """A device that is bound and unbound again and again, and by whom."""
    events = tuple(
        write(at, StoreFile.UNBIND, driver="e1000", task=BASH) for at in range(10, 15)
    )
    there = machine(ALONE, device_events={ADDRESS: events})
    assert f"flapping: {ADDRESS} rebind flapping: 5 times since T10, by comm=bash" in (
        text(explain(there))
    )


def test_15_group_partly_on_vfio() -> None:
    """The others of the group are named."""
    there = machine(ALONE, device(OTHER, "vfio-pci", iommu_group=7))
    assert (
        f"partial_group: group 7: 1 of 2 functions on vfio-pci; missing: {ADDRESS} "
        "(e1000)"
    ) in text(explain(there))


def test_16_unbound_by() -> None:
    """A link vanished: the actor and the time."""
    events = (write(10, StoreFile.UNBIND, driver="e1000", task=BASH),)
    told = explain(machine(device(), device_events={ADDRESS: events}))
    assert f"T9.999 bash (pid 42, uid 0) wrote {ADDRESS} to unbind of e1000" in (
        text(told)
    )


def test_16_group_renumbered() -> None:
    """The group's number is not what it was."""
    told = explain(machine(ALONE._replace(iommu_group=57, iommu_group_before=42)))
    assert {"regrouped": "IOMMU group 42 -> 57 since it was first seen"} == gates(told)


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


def test_20_one_that_was_there_before_declined_nothing() -> None:
    """A device that was taken out and put back is another one."""
    events = (
        probe(10, "xe", ProbeResult.REFUSED, "ENODEV"),
        uevent(11, Action.REMOVE),
        uevent(12, Action.ADD),
    )
    drivers = (driver("xe", E1000_DYNID), driver("i915", E1000_DYNID))
    told = explain(machine(device(), drivers=drivers, device_events={ADDRESS: events}))
    assert "declined" not in gates(told)
    assert "refused" not in gates(told)


def test_20_one_declined_and_the_kernel_does_not_tell_why() -> None:
    """Before 5.14 no errno reaches the hooks."""
    drivers = (driver("xe", E1000_DYNID, module="xe"), driver("i915", E1000_DYNID))
    events = (probe(10, "xe", ProbeResult.REFUSED), probe(11, "i915"))
    told = explain(
        machine(device(bound="i915"), drivers=drivers, device_events={ADDRESS: events})
    )
    assert gates(told)["declined"].endswith("xe declined (errno not known)")


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


def test_23_one_of_two_is_blacklisted() -> None:
    """The one that nobody wants is not loaded where another one is there."""
    around = MODULES._replace(
        would_load=("nouveau", "e1000"), blacklisted={"nouveau": "/etc/modprobe.d/n"}
    )
    told = explain(machine(device(), drivers=()), None, around)
    assert told.command == "modprobe e1000"


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


def test_28_vf_of_a_pf_on_vfio() -> None:
    """It must never be on a driver of the host's."""
    pf = device(OTHER, "vfio-pci", iommu_group=8, sriov_numvfs=1)
    there = machine(pf, ALONE._replace(physfn=OTHER))
    assert f"ALERT: VF {ADDRESS} of a vfio-owned PF bound to e1000" in (
        text(explain(there))
    )


def test_28_override_of_the_kernels() -> None:
    """Then the override is not stale."""
    pf = device(OTHER, "vfio-pci", iommu_group=8, sriov_numvfs=1)
    vf = device(driver_override="vfio-pci", physfn=OTHER, iommu_group=7)
    told = explain(machine(pf, vf))
    assert "override=vfio-pci is the kernel's own" in text(told)
    assert "stale_override" not in text(told)
    assert told.command == commands("echo ADDRESS > DRIVERS_PROBE")


@pytest.mark.parametrize("name", [None, "e1000"])
def test_28_no_command_gives_it_to_the_host(name: str | None) -> None:
    """The story says why not."""
    pf = device(OTHER, "vfio-pci", iommu_group=8, sriov_numvfs=1)
    told = explain(machine(pf, device(physfn=OTHER, iommu_group=7)), name)
    assert gates(told)["pf_on_vfio"] == (
        f"its PF {OTHER} is on vfio: no driver of the host's must take it"
    )
    assert told.command is None


# What is in the way


VF = device(bound=None, physfn=OTHER)
PF = device(OTHER, "igb", sriov_numvfs=1, sriov_drivers_autoprobe=False)


def test_drivers_autoprobe_of_the_bus_is_off() -> None:
    """Nothing is tried by itself, but a write is obeyed."""
    told = explain(machine(device(), drivers_autoprobe=False))
    assert gates(told)["drivers_autoprobe"].startswith(
        "drivers_autoprobe of the bus is off"
    )
    assert told.command == commands("echo ADDRESS > DRIVERS_PROBE")


def test_drivers_autoprobe_is_no_matter_of_a_bound_device() -> None:
    """All is well."""
    assert {} == gates(explain(machine(ALONE, drivers_autoprobe=False)))


def test_module_loaded_while_drivers_autoprobe_is_off() -> None:
    """Then loading is not enough."""
    around = MODULES._replace(would_load=("e1000",))
    told = explain(machine(device(), drivers=(), drivers_autoprobe=False), None, around)
    assert told.command == commands("modprobe e1000", "echo ADDRESS > DRIVERS_PROBE")


def test_vf_that_its_pf_keeps_from_drivers() -> None:
    """The match is there, the driver is not asked: it did not decline."""
    events = (probe(10, "e1000", ProbeResult.REFUSED, "ENODEV"),)
    told = explain(machine(VF, PF, device_events={ADDRESS: events}))
    assert gates(told) == {
        "sriov_drivers_autoprobe": f"sriov_drivers_autoprobe of the PF {OTHER} is off "
        "and no override is set: match ok, probe=-ENODEV without asking the driver"
    }
    assert told.command == commands(
        f"echo 1 > /sys/bus/pci/devices/{OTHER}/sriov_drivers_autoprobe",
        "echo ADDRESS > DRIVERS_PROBE",
    )


def test_vf_and_the_driver_that_was_asked_about() -> None:
    """An override of any name lifts the gate, so the one that is wanted does."""
    told = explain(machine(VF, PF), "e1000")
    assert told.command == commands(
        "echo e1000 > OVERRIDE", "echo ADDRESS > DRIVERS_PROBE"
    )


def test_vf_with_an_override() -> None:
    """It is beyond the gate."""
    overridden = VF._replace(driver_override="e1000")
    assert {} == gates(explain(machine(overridden, PF)))


def test_asked_and_no_match_followed() -> None:
    """Only then is binding that is not allowed a possibility, and no more than that."""
    events = (write(10, StoreFile.DRIVERS_PROBE),)
    told = explain(machine(device(), device_events={ADDRESS: events}))
    assert gates(told)["binding_not_allowed"].startswith(
        "the kernel was asked at T9.999 and no match followed: perhaps binding is not"
    )


@pytest.mark.parametrize(
    ("event", "registered_ns"),
    [
        (probe(10.5, "e1000", ProbeResult.REFUSED, "EIO"), None),
        (write(10.5, StoreFile.DRIVER_OVERRIDE, "\n", address=ADDRESS), None),
        (write(9, StoreFile.UNBIND, driver="e1000"), seconds(11)),
    ],
)
def test_binding_may_have_been_allowed(event: Event, registered_ns: int | None) -> None:
    """A match followed, or there was nothing to match at that time."""
    events = (write(10, StoreFile.DRIVERS_PROBE), event)
    e1000 = E1000._replace(registered_ns=registered_ns)
    told = explain(machine(device(), drivers=(e1000,), device_events={ADDRESS: events}))
    assert "binding_not_allowed" not in gates(told)


def test_driver_that_nobody_has() -> None:
    """A name that is mistyped is no error: the story says what is known of it."""
    told = explain(machine(ALONE), "vifo-pci")
    assert gates(told)["not_registered"] == (
        "vifo-pci is not registered; nothing has that name, no module either"
    )
    assert told.command is None


def test_driver_that_is_not_loaded() -> None:
    """Its module and everything else that it takes."""
    around = MODULES._replace(providers={"vfio-pci": "vfio_pci"})
    told = explain(machine(ALONE, drivers=(E1000,)), "vfio-pci", around)
    assert gates(told)["bound"] == "current driver e1000; needs override vfio-pci"
    assert told.command == commands(
        "modprobe vfio_pci",
        "echo vfio-pci > OVERRIDE",
        "echo ADDRESS > UNBIND",
        "echo ADDRESS > DRIVERS_PROBE",
    )


def test_native_driver_that_is_not_loaded() -> None:
    """Its aliases are enough."""
    around = MODULES._replace(would_load=("e1000",), providers={"e1000": "e1000"})
    told = explain(machine(device(), drivers=()), "e1000", around)
    assert told.command == "modprobe e1000"


def test_module_built_in_whose_driver_is_not_there() -> None:
    """Loading it does nothing."""
    around = MODULES._replace(
        providers={"vfio-pci": "vfio_pci"}, builtin=frozenset({"vfio_pci"})
    )
    told = explain(machine(ALONE, drivers=(E1000,)), "vfio-pci", around)
    assert gates(told)["not_registered"] == (
        "vfio-pci is not registered; vfio_pci is built in, but registered no such "
        "driver"
    )
    assert told.command is None


def test_native_driver_behind_an_override() -> None:
    """The override goes first; bind, for another driver may match as well."""
    told = explain(
        machine(device(bound="vfio-pci", driver_override="vfio-pci")), "e1000"
    )
    assert gates(told)["bound"] == "current driver vfio-pci; driver_override must go"
    assert told.command == commands(
        "echo > OVERRIDE", "echo ADDRESS > UNBIND", "echo ADDRESS > DRIVERS/e1000/bind"
    )


def test_group_in_use() -> None:
    """A driver of the kernel's can't share a group with a user of vfio."""
    events = (probe(10, "e1000", ProbeResult.BUSY, "EBUSY"),)
    told = explain(
        machine(
            device(iommu_group=7),
            device(OTHER, "vfio-pci", iommu_group=7),
            device_events={ADDRESS: events},
        ),
        "e1000",
    )
    assert gates(told)["refused"] == (
        f"match ok, probe=-EBUSY; IOMMU group 7 is in use through {OTHER}"
    )


def test_pf_with_vfs() -> None:
    """They are in the way of vfio-pci."""
    events = (probe(10, "vfio-pci", ProbeResult.REFUSED, "EBUSY"),)
    pf = device(driver_override="vfio-pci", iommu_group=7, sriov_numvfs=4)
    told = explain(machine(pf, device_events={ADDRESS: events}), "vfio-pci")
    assert gates(told)["refused"] == ("match ok, probe=-EBUSY; its 4 VFs must go first")


def test_denylist_of_a_built_in_driver() -> None:
    """It can't be loaded again with another parameter."""
    vfio = VFIO_PCI._replace(module=None)
    qat = device(ids=QAT, iommu_group=7)
    assert explain(machine(qat, drivers=(vfio,)), "vfio-pci").command is None


# Candidates


def test_another_semantics() -> None:
    """It judges; the command is one for the kernel that runs."""
    overridden = device(driver_override="e1000")
    told = story(
        machine(overridden), ADDRESS, driver="e1000", semantics="rfc-2021-06-14"
    )
    assert "judged by rfc-2021-06-14; the kernel's is linux-5.15" in text(told)
    assert [("e1000", False)] == [
        (each.driver, each.matches) for each in told.candidates
    ]
    assert told.command == commands("echo ADDRESS > DRIVERS/e1000/bind")


def test_no_such_semantics() -> None:
    """The command line checks it before."""
    with pytest.raises(KeyError):
        story(machine(device()), ADDRESS, semantics="linux-9")


def test_dynids_unknown() -> None:
    """A table that lists the device is enough to know that it matches."""
    e1000 = E1000._replace(dynids=None)
    told = explain(machine(device(), drivers=(e1000,)))
    (candidate,) = told.candidates
    assert candidate.matches is True
    assert candidate.match is None
    assert f"e1000 matches: {candidate.why}" in text(told)
    assert told.command == commands("echo ADDRESS > DRIVERS_PROBE")


def test_it_may_match() -> None:
    """Where nothing tells, nothing is claimed, and nothing is offered."""
    unknown = driver("e1000", table_state=TableState.UNKNOWN, origin=Origin.NOWHERE)
    told = explain(machine(device(), drivers=(unknown,)))
    assert "e1000 may match: " in text(told)
    assert {} == gates(told)
    assert told.command is None


def test_modules_alias_in_place_of_a_table() -> None:
    """An alias has no place in the table."""
    e1000 = E1000._replace(origin=Origin.MODULES_ALIAS)
    (candidate,) = explain(machine(device(), drivers=(e1000,))).candidates
    assert "modules.alias lists the device for it." == candidate.why
    assert candidate.index is None


# What was seen


def test_no_more_than_eight_events() -> None:
    """The last ones, and how many are left out."""
    writes = tuple(
        write(at, StoreFile.DRIVER_OVERRIDE, f"name{at}", address=ADDRESS)
        for at in range(10, 20)
    )
    told = explain(machine(ALONE, device_events={ADDRESS: writes}))
    assert [
        f"tee (pid 123, uid 0) wrote name{at} to driver_override"
        for at in range(12, 20)
    ] == [event.text for event in told.events.shown]
    assert "seen, after 2 not shown:" in text(told)


def test_causes_come_before_effects() -> None:
    """A write ends after all that it led to; what follows from it is not repeated."""
    events = (
        Decision(seconds(10), BASH, "e1000", Source.STATIC, 0, None, None),
        Decision(seconds(10), BASH, "e1000", Source.STATIC, 0, None, None),
        probe(10, "e1000"),
        uevent(10, Action.BIND, driver="e1000"),
        write(10.0005, StoreFile.BIND, driver="e1000", task=BASH),
    )
    told = explain(machine(ALONE, device_events={ADDRESS: events}))
    assert [event.text for event in told.events.shown] == [
        f"bash (pid 42, uid 0) wrote {ADDRESS} to bind of e1000",
        "bound to e1000, in tee (pid 123)",
    ]


def test_events_without_a_visible_cause() -> None:
    """Uevents that nothing else tells, and a match that no probe followed."""
    events = (
        uevent(5, Action.ADD),
        Decision(seconds(6), BASH, "r8125", Source.DYNID, 0, None, E1000_DYNID),
        uevent(7, Action.BIND, driver="e1000"),
        uevent(9, Action.UNBIND),
        uevent(20, Action.REMOVE),
    )
    told = explain(machine(ALONE, device_events={ADDRESS: events}))
    assert [event.text for event in told.events.shown] == [
        "added",
        "r8125 matched (dynid), in bash (pid 42)",
        "bound to e1000",
        "unbound from its driver",
        "removed",
    ]


def test_override_cleared() -> None:
    """An empty line is not shown as a text."""
    events = (write(5, StoreFile.DRIVER_OVERRIDE, "\n", address=ADDRESS),)
    told = explain(machine(ALONE, device_events={ADDRESS: events}))
    assert "tee (pid 123, uid 0) cleared driver_override" == told.events.shown[0].text


def test_text_that_was_not_carried_whole() -> None:
    """Dots stand for the rest."""
    long = write(5, StoreFile.DRIVER_OVERRIDE, "x" * 9, address=ADDRESS)
    events = (long._replace(size=4000, errno="EINVAL"),)
    told = explain(machine(ALONE, device_events={ADDRESS: events}))
    assert told.events.shown[0].text == (
        "tee (pid 123, uid 0) wrote xxxxxxxxx... to driver_override: failed, EINVAL"
    )


def test_driver_came_and_went() -> None:
    """The uevents of the driver that is asked about."""
    events = (
        uevent(5, Action.ADD, None, "vfio-pci"),
        uevent(6, Action.REMOVE, None, "vfio-pci"),
    )
    told = explain(machine(ALONE, driver_events={"vfio-pci": events}), "vfio-pci")
    assert [event.text for event in told.events.shown] == [
        "driver vfio-pci registered",
        "driver vfio-pci unregistered",
    ]


# Whatever the machine


def test_gaps_that_touch_the_answer() -> None:
    """Another device's gap is left out."""
    gaps = (f"{OTHER} can't be read.", f"{ADDRESS} can't be read.", "No kernel memory.")
    told = explain(machine(ALONE, gaps=gaps))
    assert (f"{ADDRESS} can't be read.", "No kernel memory.") == told.unknown[:2]


@pytest.mark.parametrize("name", ["a b", "o'dd", "-n", "back\\slash", "sl/ash"])
def test_command_with_an_odd_name(name: str) -> None:
    """A shell does with it what is meant."""
    odd = driver(name, module="odd")
    there = machine(ALONE, drivers=(odd,))
    told = explain(there, name)
    assert told.command is not None
    assert name == obeyed(there, told.command)


def test_command_with_a_name_that_no_shell_can_write() -> None:
    """None is offered."""
    odd = driver("new\nline", module="odd")
    assert explain(machine(ALONE, drivers=(odd,)), "new\nline").command is None


def obeyed(there: Machine, command: str) -> str | None:
    """Do what a command does; return the driver that is bound in the end."""
    words = shlex.split(command)
    at = there.devices[ADDRESS]
    open_gate = False
    while words:
        end = words.index("&&") if "&&" in words else len(words)
        step, words = words[:end], words[end + 1 :]
        path, value = step[-1], step[1:-2]
        assert step[0] in ("echo", "printf")
        if path.endswith("/driver_override"):
            at = at._replace(driver_override=value[-1] if value else None)
        elif path.endswith("/driver/unbind"):
            at = at._replace(driver=None)
        elif path.endswith("/sriov_drivers_autoprobe"):
            open_gate = True
        else:
            assert at.driver is None
            names = [each.driver for each in candidates(there, at)]
            if not path.endswith("/drivers_probe"):
                wanted = path.split("/")[-2].replace("!", "/")
                names = [name for name in names if name == wanted]
            physfn = there.devices.get(at.physfn or "")
            closed = physfn is not None and physfn.sriov_drivers_autoprobe is False
            if not closed or open_gate or at.driver_override is not None:
                at = at._replace(driver=next(iter(names), None))
    return at.driver


@given(machines, st.none() | st.sampled_from(["vfio-pci", "e1000"]))
def test_command_does_what_it_says(there: Machine, name: str | None) -> None:
    """Of every machine: obeyed, the driver is bound, by the kernel's own semantics."""
    if ADDRESS not in there.devices:
        return
    command = explain(there, name, Surroundings(noiommu=True)).command
    if command is not None and "modprobe" not in command:
        bound = obeyed(there, command)
        assert bound is not None
        assert bound == (name or bound)


@given(machines, st.none() | st.sampled_from(["vfio-pci", "a\x1b"]))
def test_any_machine_can_be_told(there: Machine, name: str | None) -> None:
    """Nothing raises, every line is fit for a terminal, and the rest for JSON."""
    if ADDRESS not in there.devices:
        return
    told = explain(there, name)
    assert all(line.isprintable() for line in as_text(told, clock))
    json.dumps(as_object(told))

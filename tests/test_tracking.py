"""observer/tracking.py: the picture follows what is observed, in bounded memory."""

from __future__ import annotations

import gc
import tracemalloc
from typing import TYPE_CHECKING

import machines
import pytest
from observations import (
    ADDRESS,
    DEVICE,
    DYNID,
    E1000,
    MACHINE,
    NONE,
    OTHER,
    START_NS,
    STATIC,
    STUB,
    TASK,
    bind,
    match,
    new_id,
    probe,
    remove_id,
    tracker,
    unbind,
    write,
)

from observer.disagreement import Disagreement, Field
from observer.event_history import EventHistory, Limits
from observer.machine import Decision, Origin
from observer.record import (
    Action,
    Driver,
    Id,
    Loss,
    LossStage,
    Outcome,
    Reason,
    Seen,
    Source,
    StoreFile,
    TableState,
    Uevent,
    Unregister,
)
from observer.timeline import DEPTH, Timeline
from observer.tracking import DEVICE_EVENTS, Tracker

if TYPE_CHECKING:
    from observer.machine import PciDevice
    from observer.record import Observation

DRIVER = E1000.driver


def device(seen: Tracker, address: str = ADDRESS) -> PciDevice:
    """Return a device as it is pictured."""
    return seen.machine(0).devices[address]


def dynids(seen: Tracker, name: str = "pci-stub") -> tuple[Id, ...] | None:
    """Return a driver's dynids as they are pictured."""
    return seen.machine(0).drivers[name].dynids


def test_look_is_the_first_picture() -> None:
    """Nothing observed: the picture is the look, now with somebody watching."""
    expected = MACHINE._replace(now_ns=2000, observed_since_ns=START_NS)
    assert expected == tracker().machine(2000)


def test_new_id_adds_a_dynid() -> None:
    """A write that succeeded is in the dynids, one that failed is not."""
    seen = tracker()
    seen(new_id(1010, "8086 100e\n"))
    seen(new_id(1020, "8086 100e\n", errno="EEXIST"))
    assert (DYNID,) == dynids(seen)


def test_device_is_bound_by_a_probe() -> None:
    """A probe that succeeded binds, and is an event of the device."""
    seen = tracker()
    before = seen.version
    seen(probe(1010))
    assert "e1000" == device(seen).driver
    assert (probe(1010).probe,) == seen.machine(0).device_events[ADDRESS]
    assert seen.version > before


def test_second_match_of_one_probe_is_the_same_event() -> None:
    """A probe asks again; another driver, task or answer is another event."""
    seen = tracker()
    driver = DRIVER._replace(number=7)
    seen(match(1010, driver, STATIC))
    seen(match(1011, driver, STATIC))
    assert 1 == len(seen.machine(0).device_events[ADDRESS])
    seen(probe(1012))
    seen(match(1013, driver, STATIC))
    seen(match(1014, driver, STATIC, task=TASK._replace(pid=11)))
    seen(match(1015, driver, NONE))
    decision = Decision(1010, TASK, "e1000", Source.STATIC, 0, None, None)
    events = seen.machine(0).device_events[ADDRESS]
    assert decision == events[0]
    assert [1010, 1012, 1013, 1014] == [event.ktime_ns for event in events]


def test_decision_names_its_dynid() -> None:
    """Later it may be removed; only the event tells it then."""
    seen = tracker()
    seen(match(1010, DRIVER, Outcome(Source.DYNID, 1), dynids=(Id(1, 2), DYNID)))
    (event,) = seen.machine(0).device_events[ADDRESS]
    assert isinstance(event, Decision)
    assert DYNID == event.dynid


def test_match_shows_dynids_and_override() -> None:
    """What the kernel itself changed comes with the next match, unless in doubt."""
    seen = tracker()
    seen(match(1010, DRIVER, dynids=(DYNID,), override="vfio-pci"))
    assert (DYNID,) == dynids(seen, "e1000")
    assert "vfio-pci" == device(seen).driver_override
    doubts = (Reason.DYNIDS_CHANGED, Reason.OVERRIDE_CHANGED)
    seen(match(1020, DRIVER, override="none", doubts=doubts))
    assert (DYNID,) == dynids(seen, "e1000")
    assert "vfio-pci" == device(seen).driver_override
    assert {ADDRESS} == seen.stale
    seen(match(1030, DRIVER, dynids=(DYNID,), complete=False))
    assert (DYNID,) == dynids(seen, "e1000")
    seen(match(1040, DRIVER, dynids=(Id(1, 2),), complete=False))
    assert dynids(seen, "e1000") is None


def test_long_override_is_read_from_sysfs() -> None:
    """The hooks cut it."""
    seen = tracker()
    seen(match(1010, DRIVER, override="x" * 127))
    assert device(seen).driver_override is None
    assert {ADDRESS} == seen.stale


def test_records_of_before_the_look_change_nothing_twice() -> None:
    """The hooks come first, so that nothing falls between; the look has it all."""
    seen = tracker(drivers={"pci-stub": STUB._replace(dynids=(DYNID,))})
    seen(new_id(900, "8086 100e"))
    seen(match(910, STUB.driver, dynids=(), override="none"))
    assert (DYNID,) == dynids(seen)
    assert device(seen).driver_override is None
    seen(probe(920))
    assert device(seen).driver is None
    assert {ADDRESS} == seen.stale


def test_dynids_that_a_write_may_have_changed_are_unknown() -> None:
    """Text that was cut, numbers that kernels read differently, unknown lists."""
    for text, size in (("1 2", 200), ("8086 1000000000000100e", None)):
        seen = tracker()
        seen(new_id(1010, text, size=size))
        assert dynids(seen) is None
        seen(new_id(1020, "1 2"))
        assert dynids(seen) is None
    seen = tracker()
    seen(remove_id(1010, "1 2"))  # but there was none
    assert dynids(seen) is None


def test_removed_dynid() -> None:
    """The first that fits goes."""
    seen = tracker(drivers={"pci-stub": STUB._replace(dynids=(Id(1, 2), DYNID))})
    seen(remove_id(1010, "1 2"))
    assert (DYNID,) == dynids(seen)
    expected = (remove_id(1010, "1 2").write,)
    assert expected == seen.machine(0).driver_events["pci-stub"]


def test_number_joins_what_kernel_memory_told() -> None:
    """An equal table stays where it was read; an unknown one is learned."""
    seen = tracker()
    seen(DRIVER._replace(number=7))
    known = seen.machine(0).drivers["e1000"]
    assert E1000._replace(driver=DRIVER._replace(number=7)) == known
    unread = DRIVER._replace(id_table=None, table_state=TableState.UNKNOWN)
    for origin in (Origin.MODULES_ALIAS, Origin.NOWHERE):
        driver = E1000._replace(driver=unread, origin=origin, dynids=(DYNID,))
        seen = tracker(drivers={"e1000": driver, "pci-stub": STUB})
        seen(DRIVER._replace(number=7))
        known = seen.machine(0).drivers["e1000"]
        assert (DRIVER._replace(number=7), Origin.HOOKS) == known[:2]
        assert (DYNID,) == known.dynids
        assert ["e1000", "pci-stub"] == list(seen.machine(0).drivers)


def test_reloaded_driver_is_the_last_and_without_dynids() -> None:
    """Its registration is another one: told by number, by unregistration, by table."""
    again = DRIVER._replace(number=8)
    ways: list[list[Observation]] = [
        [DRIVER._replace(number=7), again],
        [DRIVER._replace(number=7), Unregister(1010, 7, "e1000"), again],
        [Uevent(1010, Action.REMOVE, None, "e1000"), again],
        [again._replace(id_table=(Id(1, 2),))],
    ]
    for way in ways:
        seen = tracker(drivers={"e1000": E1000._replace(dynids=(DYNID,)), "b": STUB})
        for observation in way:
            seen(observation)
        drivers = seen.machine(0).drivers
        assert ["b", "e1000"] == list(drivers)
        assert drivers["e1000"].dynids is None
        assert drivers["e1000"].registered_ns is not None


def test_unregistration_and_its_uevent_are_one_event() -> None:
    """The uevent comes late: it must not take a driver that was registered again."""
    seen = tracker()
    seen(DRIVER._replace(number=7))
    seen(probe(1005))
    seen(Unregister(1010, 7, "e1000"))
    assert device(seen).driver is None
    gone = Uevent(1010, Action.REMOVE, None, "e1000")
    assert (gone,) == seen.machine(0).driver_events["e1000"]
    seen(DRIVER._replace(number=8))
    seen(Uevent(1030, Action.REMOVE, None, "e1000"))
    seen(Uevent(1031, Action.ADD, None, "e1000"))
    machine = seen.machine(0)
    assert 8 == machine.drivers["e1000"].driver.number
    added = Uevent(1031, Action.ADD, None, "e1000")
    assert (gone, added) == machine.driver_events["e1000"]
    seen(Uevent(1032, Action.REMOVE, None, "e1000"))
    assert "e1000" not in seen.machine(0).drivers


def test_driver_of_which_only_a_uevent_told() -> None:
    """Nothing matched yet: its table and dynids are unknown."""
    seen = tracker()
    seen(Uevent(1010, Action.ADD, None, "nvme"))
    expected = Driver(0, "nvme", None, TableState.UNKNOWN)
    known = seen.machine(0).drivers["nvme"]
    assert (expected, Origin.NOWHERE, None, None, 1010) == known


def test_bound_and_unbound() -> None:
    """By writes, probes and uevents alike."""
    seen = tracker()
    seen(bind(1010))
    assert "e1000" == device(seen).driver
    seen(unbind(1030))
    assert device(seen).driver is None
    seen(Uevent(1040, Action.BIND, ADDRESS, "e1000"))
    assert "e1000" == device(seen).driver
    seen(Uevent(1050, Action.UNBIND, ADDRESS, "e1000"))
    assert device(seen).driver is None
    seen(bind(1060, errno="EBUSY"))
    assert device(seen).driver is None
    assert 5 == len(seen.machine(0).device_events[ADDRESS])


def test_what_came_last_is_read_where_times_do_not_tell() -> None:
    """A probe during an unbind: only sysfs knows."""
    seen = tracker()
    seen(probe(1015))
    seen(unbind(1020))
    assert {ADDRESS} == seen.stale
    seen.read(ADDRESS, device(seen)._replace(driver=None))
    assert device(seen).driver is None
    assert set() == seen.stale


def test_override_by_a_write() -> None:
    """What is stored is what is pictured; what was not carried is read."""
    seen = tracker()
    file = StoreFile.DRIVER_OVERRIDE
    seen(write(1010, file, "vfio-pci\n", address=ADDRESS))
    assert "vfio-pci" == device(seen).driver_override
    seen(write(1020, file, "x", address=ADDRESS, errno="EINVAL"))
    assert "vfio-pci" == device(seen).driver_override
    seen(write(1030, file, "\n", address=ADDRESS))
    assert device(seen).driver_override is None
    seen(write(1040, file, "x" * 128, address=ADDRESS, size=200))
    assert {ADDRESS} == seen.stale


def test_device_that_came_is_read_and_one_that_went_is_gone() -> None:
    """Its events stay; its PF has one VF more, or less, so it is read as well."""
    seen = tracker()
    vf = "0000:00:02.1"
    seen(Uevent(1010, Action.ADD, vf, None))
    assert {vf} == seen.stale
    seen.read(vf, DEVICE._replace(address=vf, physfn=ADDRESS))
    assert {ADDRESS} == seen.stale
    seen.stale.clear()
    seen(Uevent(1020, Action.REMOVE, vf, None))
    assert vf not in seen.machine(0).devices
    assert {ADDRESS} == seen.stale
    actions = [event.action for event in seen.machine(0).device_events[vf]]  # type: ignore[union-attr]
    assert [Action.ADD, Action.REMOVE] == actions
    seen.read(vf, None)  # as it was gone when it was read
    assert {ADDRESS} == seen.stale


def test_device_that_changed_is_read_again() -> None:
    """A look from before the change does not count; nothing is told in the history."""
    seen = tracker()
    seen(Uevent(1010, Action.CHANGE, ADDRESS, None))
    assert {ADDRESS} == seen.stale
    assert 1010 == seen.last_event_ns(ADDRESS)
    assert () == seen.machine(0).device_events.get(ADDRESS, ())
    seen(Uevent(1020, Action.REMOVE, ADDRESS, None))
    seen(Uevent(1030, Action.CHANGE, "0000:00:02.1", None))
    assert 0 == seen.last_event_ns("0000:00:02.1")  # nothing is kept of strangers
    assert 1020 == seen.last_event_ns(ADDRESS)


def test_group_before() -> None:
    """A device that came back in another IOMMU group says so, until it is back."""
    seen = tracker(devices={ADDRESS: DEVICE._replace(iommu_group=42)})
    seen(Uevent(1010, Action.REMOVE, ADDRESS, None))
    seen.read(ADDRESS, DEVICE._replace(iommu_group=57))
    assert (57, 42) == (device(seen).iommu_group, device(seen).iommu_group_before)
    seen.read(ADDRESS, DEVICE._replace(iommu_group=42))
    assert device(seen).iommu_group_before is None


def test_what_was_seen_at_boot() -> None:
    """It is told of the device, and changes nothing that the look shows already."""
    gone = Driver(1 << 32, "gone", None, TableState.UNKNOWN)
    seen = tracker(devices={ADDRESS: DEVICE._replace(driver="e1000")})
    before = seen.machine(2000)
    dynids = (Id(9, 9),)
    boot = {"seen": Seen.BOOT}
    seen(match(100, DRIVER._replace(number=5), STATIC, dynids=dynids, **boot))
    seen(match(110, gone, STATIC, override="gone", **boot))
    seen(probe(200, seen=Seen.BOOT))
    machine = seen.machine(2000)
    told = machine.device_events[ADDRESS]
    assert ["e1000", "gone", "e1000"] == [
        each.driver if isinstance(each, Decision) else each.name  # type: ignore[union-attr]
        for each in told
    ]
    assert before == machine._replace(device_events=before.device_events)
    assert set() == seen.stale


def test_a_driver_that_the_hooks_see_after_the_boot() -> None:
    """It is the one that the look had, with its table, dynids and place."""
    seen = tracker()
    known = DRIVER._replace(number=5)
    seen(match(100, known, STATIC, seen=Seen.BOOT))
    seen(known)
    seen(match(1100, known, STATIC))
    machine = seen.machine(2000)
    assert ["e1000", "pci-stub"] == list(machine.drivers)
    assert (known, ()) == machine.drivers["e1000"][:3:2]


def test_bound_before_anything_was_seen() -> None:
    """Each device with a driver, until it is seen how it came to it, or leaves."""
    bound = {
        f"0000:00:0{place}.0": DEVICE._replace(
            address=f"0000:00:0{place}.0", driver="e1000"
        )
        for place in range(1, 7)
    }
    seen = tracker(devices=bound | {OTHER: DEVICE._replace(address=OTHER)})
    assert 5 == seen.bound_before
    seen(probe(100, address="0000:00:01.0", seen=Seen.BOOT))
    assert 4 == seen.bound_before
    seen(probe(110, "other", address="0000:00:02.0", seen=Seen.BOOT))
    assert 4 == seen.bound_before
    seen(unbind(1100, "0000:00:04.0"))
    assert 3 == seen.bound_before
    seen(Uevent(1110, Action.REMOVE, "0000:00:05.0", None))
    assert 2 == seen.bound_before
    seen.read("0000:00:06.0", bound["0000:00:06.0"]._replace(driver="pci-stub"))
    assert 1 == seen.bound_before


def test_losses_of_before_are_gaps_alone() -> None:
    """What was lost then changed nothing that the look does not show."""
    seen = tracker()
    seen(Loss(0, START_NS - 1, LossStage.OTHER, 3))
    assert () == seen.machine(2000).drivers["e1000"].dynids
    assert set() == seen.stale
    assert 2 == len(seen.machine(2000).gaps)


def test_losses_are_gaps() -> None:
    """A lost write may have changed dynids, a lost probe a binding."""
    seen = tracker()
    seen(Loss(1000, 1010, LossStage.RESERVE, 2))
    assert () == dynids(seen)
    assert set() == seen.stale
    seen(Loss(1000, 1020, LossStage.OTHER, 3))
    assert dynids(seen) is None
    assert {ADDRESS, OTHER} == seen.stale
    first, second, third = seen.machine(0).gaps
    assert "A gap." == first
    assert second.startswith("2 events were lost, match decisions: ")
    assert third.startswith("3 events were lost, other events: ")
    seen(match(1030, STUB.driver, dynids=(DYNID,)))
    assert (DYNID,) == dynids(seen)


def test_reconcile_with_an_equal_sysfs() -> None:
    """No disagreement, no change."""
    seen = tracker()
    before = seen.version
    modules = {"e1000": "e1000", "pci-stub": None}
    assert [] == seen.reconcile(MACHINE.devices, modules, drivers_autoprobe=True)
    assert before == seen.version
    assert set(Field) == seen.disagreements.keys()
    assert 0 == seen.disagreements.total()


def test_reconcile_takes_over_what_sysfs_shows() -> None:
    """Each disagreement is told and counted, and gone the next time."""
    seen = tracker()
    came = "0000:00:04.0"
    devices = {
        ADDRESS: DEVICE._replace(driver="e1000", driver_override="x", iommu_group=3),
        came: DEVICE._replace(address=came),
    }
    modules = {"e1000": "e1000e", "nvme": "nvme"}
    found = seen.reconcile(devices, modules, drivers_autoprobe=False)
    assert {
        Disagreement(Field.BOUND, ADDRESS, None, "e1000"),
        Disagreement(Field.DRIVER_OVERRIDE, ADDRESS, None, "x"),
        Disagreement(Field.IOMMU_GROUP, ADDRESS, None, 3),
        Disagreement(Field.DEVICE, OTHER, pictured=True, found=False),
        Disagreement(Field.DEVICE, came, pictured=False, found=True),
        Disagreement(Field.DRIVER, "pci-stub", pictured=True, found=False),
        Disagreement(Field.DRIVER, "nvme", pictured=False, found=True),
        Disagreement(Field.MODULE, "e1000", "e1000", "e1000e"),
        Disagreement(Field.DRIVERS_AUTOPROBE, "pci", pictured=True, found=False),
    } == set(found)
    assert 2 == seen.disagreements[Field.DEVICE] == seen.disagreements[Field.DRIVER]
    assert 9 == seen.disagreements.total()
    machine = seen.machine(0)
    assert devices == machine.devices
    assert modules == {name: each.module for name, each in machine.drivers.items()}
    assert False is machine.drivers_autoprobe
    assert [] == seen.reconcile(devices, modules, drivers_autoprobe=False)


def test_reconcile_counts_no_device_that_was_to_be_read() -> None:
    """Nobody claimed to know it."""
    seen = tracker()
    seen(Uevent(1010, Action.ADD, "0000:00:04.0", None))
    devices = {**MACHINE.devices, "0000:00:04.0": DEVICE}
    modules = {"e1000": "e1000", "pci-stub": None}
    assert [] == seen.reconcile(devices, modules)
    assert set() == seen.stale


def test_order_by_name_where_none_is_known() -> None:
    """Devices are always by address."""
    seen = tracker(order_known=False, devices={})
    seen(DRIVER._replace(name="a"))
    seen.read(OTHER, DEVICE._replace(address=OTHER))
    seen.read(ADDRESS, DEVICE)
    assert ["a", "e1000", "pci-stub"] == list(seen.machine(0).drivers)
    assert [ADDRESS, OTHER] == list(seen.machine(0).devices)


def test_machine_is_a_copy() -> None:
    """What was handed out stays as it was."""
    seen = tracker()
    before = seen.machine(0)
    copy = before._replace(drivers=dict(before.drivers), devices=dict(before.devices))
    seen(probe(1010))
    seen(new_id(1020, "1 2"))
    assert copy == before


def churn(seen: Tracker, first: int, count: int) -> int:
    """Plug and unplug this many devices and drivers; return the bytes held then."""
    for number in range(first, first + count):
        address = f"{number:08x}:00:00.0"
        at_ns = 2000 + number * 100
        seen(Uevent(at_ns, Action.ADD, address, None))
        seen.read(address, DEVICE._replace(address=address, iommu_group=number))
        driver = DRIVER._replace(number=number + 10, name=f"d{number}")
        seen(driver)
        seen(match(at_ns + 10, driver, STATIC, address=address))
        seen(probe(at_ns + 20, driver.name, address=address))
        seen(new_id(at_ns + 30, f"{number:x} 1", driver=driver.name))
        seen(Unregister(at_ns + 40, driver.number, driver.name))
        seen(Uevent(at_ns + 50, Action.REMOVE, address, None))
    gc.collect()
    return tracemalloc.get_traced_memory()[0]


def test_memory_does_not_grow_by_hotplug() -> None:
    """After 8,000 devices and drivers that came and went, 2,000 more take nothing."""
    seen = tracker()
    tracemalloc.start()
    try:
        begun = tracemalloc.get_traced_memory()[0]
        most = churn(seen, 0, 8000)
        full = churn(seen, 8000, 2000)
    finally:
        tracemalloc.stop()
    assert full - most < 20_000
    assert full - begun < 2_000_000
    assert set() == seen.stale
    machine = seen.machine(0)
    assert 2 == len(machine.devices) == len(machine.drivers)
    assert DEVICE_EVENTS.absent >= len(machine.device_events) > 100


def test_events_of_one_name_are_bounded() -> None:
    """The newest stay."""
    history: EventHistory[int] = EventHistory(Limits(each=3, total=5, absent=2))
    for number in range(5):
        history.add("a", number, present=True)
    assert {"a": (2, 3, 4)} == history.copy()
    assert 4 == history.last("a")
    assert history.last("b") is None


def test_events_of_all_names_are_bounded() -> None:
    """Absent ones go first, then those where nothing happened for the longest time."""
    history: EventHistory[int] = EventHistory(Limits(each=3, total=5, absent=2))
    for number, name in enumerate("aabbc"):
        history.add(name, number, present=True)
    history.mark("b", present=False)
    history.add("a", 5, present=True)
    assert {"a": (0, 1, 5), "c": (4,)} == history.copy()
    history.add("d", 6, present=True)
    history.add("d", 7, present=True)
    assert {"a": (0, 1, 5), "d": (6, 7)} == history.copy()


def test_absent_names_are_bounded() -> None:
    """One that is back does not count."""
    history: EventHistory[int] = EventHistory(Limits(each=3, total=9, absent=2))
    for name in "abc":
        history.add(name, 0, present=False)
    assert ["b", "c"] == list(history.copy())
    history.mark("b", present=True)
    history.add("d", 0, present=False)
    assert ["b", "c", "d"] == list(history.copy())
    history.mark("nobody", present=False)
    assert ["b", "c", "d"] == list(history.copy())


def test_timeline() -> None:
    """What was then is known as far back as the changes are."""
    line = Timeline(10, "a")
    line.change(20, "b")
    assert ("b", 20) == (line.now, line.since_ns)
    assert ["a", "a", "b"] == [line.at(ktime_ns) for ktime_ns in (10, 19, 20)]
    assert (("b",), ()) == (line.after(10), line.after(20))
    with pytest.raises(LookupError):
        line.at(9)
    for ktime_ns in range(30, 30 + DEPTH):
        line.change(ktime_ns, "c")
    with pytest.raises(LookupError):
        line.at(29)


def test_nobody_watches() -> None:
    """Without hooks there are looks and uevents; since when is nothing to boast of."""
    start = machines.machine(machines.device(), observed_since_ns=None)
    told = Uevent(start.now_ns + 5, Action.BIND, machines.ADDRESS, "e1000")
    for watched, since_ns in ((True, start.now_ns), (False, None)):
        tracker = Tracker(start, watched=watched)
        tracker(told)
        machine = tracker.machine(start.now_ns + 9)
        assert since_ns == machine.observed_since_ns
        assert "e1000" == machine.devices[machines.ADDRESS].driver

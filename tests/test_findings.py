"""observer/findings: what is wrong appears when caused and goes when cured."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest
from hypothesis import given, settings
from machines import (
    ADDRESS,
    ANY_OVERRIDE_ONLY,
    E1000,
    E1000_ID,
    TASK,
    VFIO_PCI,
    decision,
    device,
    driver,
    machine,
    probe,
    seconds,
    uevent,
    write,
)
from machines import machines as any_machine

from observer.findings import Finding, Kind, Name, Picture, findings, notes
from observer.machine import Machine, Origin
from observer.record import (
    Action,
    Device,
    Id,
    Judgement,
    Probe,
    Probed,
    ProbeResult,
    StoreFile,
    TableState,
    Task,
    Uevent,
    Unregister,
    Write,
    Wrote,
)
from observer.tracking import Tracker

if TYPE_CHECKING:
    from observer.machine import Event, PciDevice
    from observer.record import Observation

# The names that the contract with the outside knows.
CONTRACT = {"stale_override", "orphan", "unexplained_binding", "binding_changed"}
SECOND, THIRD = "0000:00:03.0", "0000:00:04.0"
BRIDGE = Device(0x1B36, 0x000C, 0, 0, 0x060400)
PCIEPORT = driver(
    "pcieport", Id(0xFFFFFFFF, 0xFFFFFFFF, class_=0x060400, class_mask=~0)
)
STUB = driver("pci-stub")
SEEN = f"comm=tee pid={TASK.tgid} uid=0"


def found(
    *devices: PciDevice, events: tuple[Event, ...] = (), **more: object
) -> list[Finding]:
    """Return the findings of a machine whose first device has had these events."""
    return [
        *findings(Picture(machine(*devices, device_events={ADDRESS: events}, **more)))
    ]


def kinds(
    *devices: PciDevice, events: tuple[Event, ...] = (), **more: object
) -> set[Kind]:
    """Return the kinds of these findings."""
    return {each.kind for each in found(*devices, events=events, **more)}


def text_of(kind: Kind, findings: list[Finding]) -> str:
    """Return the sentence of the only finding of this kind."""
    (finding,) = (each for each in findings if each.kind is kind)
    return finding.text


def noted(*devices: PciDevice, **more: object) -> list[str]:
    """Return the slugs of the notes on the first device."""
    picture = Picture(machine(*devices, **more))
    return [note.kind for note in notes(picture, devices[0])]


def test_names() -> None:
    """The contract's names are there, so that metrics can export them all."""
    assert set() == CONTRACT - set(Name)


def test_healthy() -> None:
    """Devices bound to what matches them, or that nobody matches, are no finding."""
    unknown = device(SECOND, ids=Device(1, 2, 3, 4, 5))
    forced = device(THIRD, bound="vfio-pci", driver_override="vfio-pci")
    assert [] == found(device(bound="e1000"), unknown, forced)


def test_override_names_no_driver() -> None:
    """An override that names nobody is stale; what it keeps away is told."""
    (finding,) = found(device(driver_override="vfio-pci"), drivers=(E1000,))
    assert Name.STALE_OVERRIDE is finding.finding
    assert Kind.NAMES_NO_DRIVER is finding.kind
    assert finding.text == (
        f"STALE OVERRIDE {ADDRESS}: override names vfio-pci, which is not registered; "
        "no driver; native candidate e1000 rejected by it; clear driver_override"
    )
    assert f"echo > /sys/bus/pci/devices/{ADDRESS}/driver_override" == finding.cure
    assert set() == kinds(device(bound="vfio-pci", driver_override="vfio-pci"))


def test_override_that_opts_out() -> None:
    """The name that the kernel's documentation gives may be there on purpose."""
    (finding,) = found(device(driver_override="none"))
    assert "not registered (the usual way to keep all drivers away; " in finding.text


def test_override_refuses_native() -> None:
    """A device without driver whose native candidate the override refuses."""
    left = found(device(driver_override="vfio-pci"))
    assert text_of(Kind.REFUSES_NATIVE, left) == (
        f"STALE OVERRIDE {ADDRESS}: override=vfio-pci, no driver; native candidate "
        "e1000 rejected by it; clear driver_override"
    )
    assert Kind.REFUSES_NATIVE not in kinds(device())


def test_override_without_native_candidate() -> None:
    """Without a native candidate the override keeps nobody away."""
    only = found(device(driver_override="vfio-pci"), drivers=(VFIO_PCI,))
    assert [Name.ORPHAN] == [each.finding for each in only]


def test_override_differs() -> None:
    """A bound driver that is not the one that the override names."""
    (finding,) = found(device(bound="e1000", driver_override="vfio-pci"))
    assert Kind.DIFFERS is finding.kind
    assert "override=vfio-pci, but bound to e1000" in finding.text


def test_override_tells_who_set_it() -> None:
    """The write that set it is named, an older one with another text is not."""
    name = StoreFile.DRIVER_OVERRIDE
    events = (write(5, name, "none\n"), write(7, name, "vfio-pci\n"))
    (finding,) = found(device(bound="e1000", driver_override="vfio-pci"), events=events)
    assert f"; set at @1000007 by {SEEN};" in finding.text
    assert (seconds(7), 0) == (finding.since_ns, finding.actor and finding.actor.uid)
    (finding,) = found(device(bound="e1000", driver_override="x"), events=events)
    assert finding.actor is None


def test_override_of_the_kernel() -> None:
    """The override that vfio gives a VF of its PF is a note, not a finding."""
    pf = device(SECOND, bound="vfio-pci", driver_override="vfio-pci", sriov_numvfs=1)
    vf = device(driver_override="vfio-pci", physfn=SECOND)
    assert set() == kinds(vf, pf) & {Kind.REFUSES_NATIVE, Kind.NAMES_NO_DRIVER}
    assert ["vf_of_vfio_pf"] == noted(vf, pf)
    native = pf._replace(driver="e1000", driver_override=None)
    assert Kind.REFUSES_NATIVE in kinds(vf, native)
    assert [] == noted(vf, native)
    other = vf._replace(driver_override="none")
    assert Kind.NAMES_NO_DRIVER in kinds(other, pf)


@pytest.mark.parametrize(
    ("name", "module", "expected"),
    [
        ("vfio-pci", None, True),
        ("mlx5_vfio_pci", "mlx5_vfio_pci", True),
        ("ice-vfio-pci", None, True),
        ("own", "vfio_pci", True),
        ("own", "nvgrace-gpu-vfio-pci", True),
        ("e1000", "e1000", False),
        ("pci-stub", None, False),
    ],
)
def test_vfio(name: str, module: str | None, expected: bool) -> None:  # noqa: FBT001
    """A vfio driver is known by its name or by its module's."""
    picture = Picture(machine(drivers=(driver(name, module=module),)))
    assert expected == picture.is_vfio(name)


def test_never_bound() -> None:
    """A device that a driver matches, and that nobody tried to bind."""
    (finding,) = found(device())
    assert (Name.ORPHAN, Kind.NEVER_BOUND) == (finding.finding, finding.kind)
    assert finding.text == (
        f"{ADDRESS} has no driver, though e1000 matches; nothing tried to bind it "
        "since @1000001"
    )
    assert f"echo {ADDRESS} > /sys/bus/pci/drivers_probe" == finding.cure
    (finding,) = found(device(), recorded_since_ns=0)
    assert finding.text.endswith("nothing tried to bind it since @1000000")
    (finding,) = found(device(), observed_since_ns=None)
    assert finding.text == f"{ADDRESS} has no driver, though e1000 matches"
    (finding,) = found(device(), drivers_autoprobe=False)
    assert finding.text.endswith("drivers_autoprobe of the bus is off")


def test_uncertain_candidate_is_no_orphan() -> None:
    """What modules.alias says is a note; a driver that may match is nothing at all."""
    listed = driver("e1000", E1000_ID, origin=Origin.MODULES_ALIAS, dynids=None)
    assert [] == found(device(), drivers=(listed,))
    assert ["uncertain"] == noted(device(), drivers=(listed,))
    hidden = driver("other", dynids=None)
    assert [] == found(device(), drivers=(hidden,))
    assert [] == noted(device(), drivers=(hidden,))


def test_host_bridge_without_driver() -> None:
    """agpgart-intel looks at every host bridge and takes few."""
    host = device(ids=Device(0x8086, 0x29C0, 0, 0, 0x060000))
    agp = driver("agpgart-intel", Id(0x8086, 0xFFFFFFFF, class_=0x060000))
    assert [] == found(host, drivers=(agp,))
    assert ["bridge"] == noted(host, drivers=(agp,))


def test_bridge_without_driver() -> None:
    """A bridge works without a driver, unless somebody took its driver away."""
    bridge = device(ids=BRIDGE)
    assert [] == found(bridge, drivers=(PCIEPORT,))
    assert ["bridge"] == noted(bridge, drivers=(PCIEPORT,))
    events = (write(5, StoreFile.UNBIND, driver="pcieport"),)
    assert {Kind.UNBOUND} == kinds(bridge, drivers=(PCIEPORT,), events=events)


def test_vf_without_autoprobe() -> None:
    """A VF that its PF keeps drivers from is meant to have none."""
    pf = device(SECOND, bound="e1000", sriov_drivers_autoprobe=False)
    vf = device(physfn=SECOND)
    refused = (probe(3, "e1000", ProbeResult.REFUSED, "ENODEV"),)
    assert [] == found(vf, pf, events=refused)
    assert ["sriov_drivers_autoprobe"] == noted(vf, pf)
    on = pf._replace(sriov_drivers_autoprobe=True)
    assert {Kind.NEVER_BOUND} == kinds(vf, on)
    named = vf._replace(driver_override="e1000")
    assert {Kind.PROBE_REFUSED} == kinds(named, pf, events=refused)


UNBOUND = (
    probe(2, "e1000"),
    write(5, StoreFile.UNBIND, driver="e1000"),
    uevent(5.01, Action.UNBIND),
)


def test_unbound() -> None:
    """Somebody unbound it: last driver, since when and by whom."""
    (finding,) = found(device(), events=UNBOUND)
    assert Kind.UNBOUND is finding.kind
    assert finding.text == (
        f"{ADDRESS} orphaned since @1000005; last driver e1000; unbound by {SEEN}; "
        "candidates: e1000"
    )
    assert seconds(5) == finding.since_ns
    assert [] == found(device(bound="e1000"), events=(*UNBOUND, probe(6, "e1000")))


def test_unbound_without_a_write() -> None:
    """A uevent alone tells that it lost its driver, not who did it."""
    (finding,) = found(device(), events=(uevent(4, Action.UNBIND),))
    assert "last driver unknown; unbound by nobody that was seen" in finding.text


def test_unbound_and_not_seen() -> None:
    """A bind was seen and the unbind was not: since when is unknown, not the rest."""
    (finding,) = found(device(), events=(probe(2, "e1000"),))
    assert finding.text == (
        f"{ADDRESS} orphaned; last driver e1000; unbound by nobody that was seen; "
        "candidates: e1000"
    )
    assert finding.since_ns is None


@pytest.mark.parametrize("late", [False, True])
def test_unbound_and_bind_failed(late: bool) -> None:  # noqa: FBT001
    """Unbound and then refused, also when the uevent of the unbind comes last."""
    tell = uevent(5.3, Action.UNBIND)
    failed = (
        probe(5.2, "vfio-pci", ProbeResult.REFUSED, "EINVAL"),
        write(5.2001, StoreFile.BIND, driver="vfio-pci", errno="ENODEV"),
    )
    events = (*UNBOUND[:2], *failed, tell) if late else (*UNBOUND, *failed)
    left = found(device(driver_override="vfio-pci"), events=events)
    override = f"/sys/bus/pci/devices/{ADDRESS}/driver_override"
    assert f"echo > {override} && echo {ADDRESS} > /sys/bus/pci/drivers_probe" in {
        each.cure for each in left
    }
    assert text_of(Kind.UNBOUND_AND_BIND_FAILED, left) == (
        f"{ADDRESS} orphaned since @1000005; last driver e1000; unbound by {SEEN}; "
        "then bind failed, vfio-pci: match ok, probe=-EINVAL; no IOMMU group; "
        "candidates: vfio-pci"
    )


def test_probe_under_way() -> None:
    """A probe is told at its end; until then nobody knows what comes of it."""
    matched = decision(90, "e1000", dynid=E1000_ID)
    assert [] == found(device(), events=(matched,))
    assert [] == found(device(), events=(*UNBOUND, matched))
    ended = probe(95, "e1000", ProbeResult.REFUSED, "ENODEV")
    assert {Kind.PROBE_REFUSED} == kinds(device(), events=(matched, ended))
    before = matched._replace(ktime_ns=seconds(4))
    assert {Kind.UNBOUND} == kinds(device(), events=(before, *UNBOUND))
    lost = {Kind.NEVER_BOUND}
    assert lost == kinds(device(), events=(matched,), now_ns=seconds(400))


def test_pciback_takes_what_it_is_told_to() -> None:
    """Xen's driver lists all devices and declines those that are not its own."""
    pciback = driver("pciback", Id(0xFFFFFFFF, 0xFFFFFFFF), module="xen_pciback")
    assert [] == found(device(), drivers=(pciback,))
    hidden = device(driver_override="pciback")
    assert {Kind.NEVER_BOUND} == kinds(hidden, drivers=(pciback,))


def test_vf_of_a_vfio_pf_is_not_offered_to_the_host() -> None:
    """Its override was cleared: no cure gives it to a driver of the host."""
    pf = device(SECOND, bound="vfio-pci", driver_override="vfio-pci")
    vf = device(physfn=SECOND)
    assert [] == found(vf, pf)
    assert [] == found(vf, pf, drivers=(VFIO_PCI,), events=UNBOUND)
    failed = (probe(5.2, "vfio-pci", ProbeResult.REFUSED, "EINVAL"),)
    own = vf._replace(driver_override="vfio-pci")
    (finding,) = found(own, pf, events=failed)
    assert f"echo {ADDRESS} > /sys/bus/pci/drivers_probe" == finding.cure


def test_unbound_by_its_driver_and_bind_failed() -> None:
    """A module is unloaded, which no write tells, and its uevent is read late."""
    refused = probe(5.2, "vfio-pci", ProbeResult.REFUSED, "EINVAL")
    busy = probe(5.2, "vfio-pci", ProbeResult.BUSY, "EBUSY")
    told = uevent(5.3, Action.UNBIND)
    for failed, kind in (
        (refused, Kind.UNBOUND_AND_BIND_FAILED),
        (refused._replace(ktime_ns=seconds(3)), Kind.UNBOUND),
        (busy, Kind.UNBOUND),
    ):
        events = (probe(2, "e1000"), failed, told)
        assert {kind} == kinds(device(), events=events)


def test_bind_without_match() -> None:
    """A bind write that failed before any probe: the driver does not match."""
    events = (*UNBOUND, write(9, StoreFile.BIND, driver="vfio-pci", errno="ENODEV"))
    (finding,) = found(device(iommu_group=1), events=events)
    assert "then bind failed, vfio-pci: bind=-ENODEV; " in finding.text


def test_bind_of_a_bound_device() -> None:
    """What failed while another driver had the device says nothing of it later."""
    events = (
        probe(1, "vfio-pci", ProbeResult.BUSY, "EBUSY"),
        write(1.0001, StoreFile.BIND, driver="vfio-pci", errno="EBUSY"),
        *UNBOUND[1:],
    )
    assert {Kind.UNBOUND} == kinds(device(), events=events)


def test_probe_refused() -> None:
    """Matched, and the driver's probe said no; repeated refusals are one."""
    refused = ProbeResult.REFUSED
    events = (probe(2, "e1000", refused, "ENODEV"), probe(8, "e1000", refused, "EIO"))
    (finding,) = found(device(), events=events)
    assert Kind.PROBE_REFUSED is finding.kind
    assert finding.text == (
        f"{ADDRESS} has no driver: e1000: match ok, probe=-EIO (since @1000002)"
    )
    (finding,) = found(device(), events=(probe(2, "e1000", refused),))
    assert "probe=failed, errno unknown" in finding.text


def test_deferred() -> None:
    """A deferred probe is called so, and neither an orphan nor unbound."""
    events = (probe(2, "e1000", ProbeResult.DEFERRED, "EPROBE_DEFER"),)
    (finding,) = found(device(), events=events)
    assert (Name.DEFERRED, Kind.DEFERRED) == (finding.finding, finding.kind)
    assert "deferred: e1000 matches and waits for a supplier" in finding.text
    assert "unbound" not in finding.text
    assert [] == found(device(bound="e1000"), events=(*events, probe(3, "e1000")))


def test_deferred_before_anybody_watched() -> None:
    """The kernel's own list tells, until something else is seen."""
    before = frozenset({ADDRESS})
    (finding,) = found(device(), deferred=before)
    assert (Name.DEFERRED, Kind.DEFERRED) == (finding.finding, finding.kind)
    assert finding.text.startswith(f"{ADDRESS} deferred: e1000 matches and waits for")
    events = (probe(2, "e1000", ProbeResult.REFUSED, "EIO"),)
    assert {Kind.PROBE_REFUSED} == kinds(device(), events=events, deferred=before)
    assert [] == found(device(bound="e1000"), deferred=before)
    assert [] == found(device(), deferred=before, drivers=())


def test_deferred_by_a_driver_that_does_not_match_any_more() -> None:
    """A deferral of a driver that can't get the device now is no reason to wait."""
    events = (probe(2, "vfio-pci", ProbeResult.DEFERRED, "EPROBE_DEFER"),)
    assert {Kind.PROBE_REFUSED} == kinds(device(), events=events)


def test_deferred_bind_write() -> None:
    """EAGAIN of a bind write is a deferral as well."""
    events = (write(2, StoreFile.BIND, driver="e1000", errno="EAGAIN"),)
    assert {Kind.DEFERRED} == kinds(device(), events=events)


def test_candidate_gone() -> None:
    """Its driver was unregistered; all devices that lost it are counted."""
    gone = {
        ADDRESS: (probe(2, "vfio-pci"), uevent(6, Action.UNBIND)),
        SECOND: (probe(2, "vfio-pci"), uevent(6, Action.UNBIND)),
        THIRD: (probe(2, "vfio-pci"), uevent(6, Action.UNBIND)),  # bound again unseen
    }
    removal = {"vfio-pci": (uevent(7, Action.REMOVE, None, "vfio-pci"),)}
    left = machine(
        *(device(), device(SECOND), device(THIRD, bound="e1000")),
        drivers=(E1000,),
        device_events=gone,
        driver_events=removal,
    )
    first, _second = findings(Picture(left))
    assert (Name.ORPHAN, Kind.CANDIDATE_GONE) == (first.finding, first.kind)
    assert first.text == (
        f"{ADDRESS} has no driver: driver vfio-pci unregistered at @1000007; 2 devices "
        "lost their candidate; candidates: e1000"
    )
    assert "modprobe vfio-pci" == first.cure
    by_table = machine(device(), drivers=(), device_events={ADDRESS: UNBOUND})
    (finding,) = findings(Picture(by_table))
    loads = f'modprobe "$(cat /sys/bus/pci/devices/{ADDRESS}/modalias)"'
    assert (Kind.CANDIDATE_GONE, loads) == (finding.kind, finding.cure)
    by_dynid = (decision(1, "e1000", dynid=E1000_ID), *UNBOUND)
    (finding,) = findings(Picture(by_table._replace(device_events={ADDRESS: by_dynid})))
    assert "modprobe e1000" == finding.cure
    refused = (*gone[ADDRESS], probe(8, "e1000", ProbeResult.REFUSED, "EIO"))
    tried = left._replace(device_events={**gone, ADDRESS: refused})
    first, _second = findings(Picture(tried))
    assert Kind.UNBOUND_AND_BIND_FAILED is first.kind
    bridge = left._replace(devices={ADDRESS: device(ids=BRIDGE)})  # k10temp's, say
    assert [] == [*findings(Picture(bridge))]
    back = left._replace(drivers={**left.drivers, "vfio-pci": VFIO_PCI})
    assert {Kind.UNBOUND} == {each.kind for each in findings(Picture(back))}


def observed(event: Event) -> Observation:
    """Return an event as it passes through the observer."""
    if isinstance(event, Write):
        return Wrote(event, Judgement.AGREE, None)
    assert isinstance(event, Probe | Uevent)
    return Probed(event) if isinstance(event, Probe) else event


@pytest.mark.parametrize("record_first", [False, True])
def test_driver_of_before_anybody_watched(record_first: bool) -> None:  # noqa: FBT001
    """No kernel names the driver in the uevent of an unbind, but it was known."""
    tracker = Tracker(machine(device(bound="vfio-pci")))
    told: list[Observation] = [
        uevent(101, Action.UNBIND),
        Unregister(seconds(101.1), 0, "vfio-pci"),
    ]
    for each in reversed(told) if record_first else told:
        tracker(each)
    left = tracker.machine(seconds(110))
    (finding,) = findings(Picture(left))
    assert Kind.CANDIDATE_GONE is finding.kind
    assert "driver vfio-pci unregistered at @1000101; 1 device lost its candidate" in (
        finding.text
    )


def test_removed_device_has_no_past() -> None:
    """A device that was taken out and put back is another one."""
    events = (*UNBOUND, uevent(9, Action.REMOVE), uevent(10, Action.ADD))
    assert {Kind.NEVER_BOUND} == kinds(device(), events=events)


SET_BOUND_CLEARED = (
    write(4, StoreFile.DRIVER_OVERRIDE, "vfio-pci\n"),
    decision(5, "vfio-pci", driver_override="vfio-pci"),
    probe(5.1, "vfio-pci"),
    write(6, StoreFile.DRIVER_OVERRIDE, "\n", task=Task(9, 9, "sh", 0)),
)


def test_override_set_bound_and_cleared() -> None:
    """What tools leave behind is explained by what was seen of them."""
    (finding,) = found(device(bound="vfio-pci"), events=SET_BOUND_CLEARED)
    assert (Name.UNEXPLAINED_BINDING, Kind.OVERRIDE_CLEARED) == (
        finding.finding,
        finding.kind,
    )
    assert finding.text == (
        f"{ADDRESS} is bound to vfio-pci, and neither id_table, dynid nor "
        "driver_override explains it now: driver_override was set at @1000004, bound "
        f"at @1000005, cleared at @1000006 by {SEEN} and comm=sh pid=9 uid=0"
    )
    assert finding.actor is not None
    assert "sh" == finding.actor.task.comm
    assert finding.cure == (
        f"echo vfio-pci > /sys/bus/pci/devices/{ADDRESS}/driver_override"
    )
    cured = device(bound="vfio-pci", driver_override="vfio-pci")
    assert [] == found(cured, events=SET_BOUND_CLEARED)


def test_dynid_removed() -> None:
    """A dynid that was removed after the bind, and who removed it."""
    events = (decision(5, "vfio-pci", dynid=E1000_ID),)
    removal = {
        "vfio-pci": (write(8, StoreFile.REMOVE_ID, "8086 100e", driver="vfio-pci"),)
    }
    (finding,) = found(device(bound="vfio-pci"), events=events, driver_events=removal)
    assert Kind.DYNID_REMOVED is finding.kind
    assert f"by dynid 8086:100e, removed at @1000008 by {SEEN}" in finding.text
    earlier = write(4, StoreFile.REMOVE_ID, "8086 100e", driver="vfio-pci")
    for_nothing = write(9, StoreFile.REMOVE_ID, "8086 1", driver="vfio-pci")
    (finding,) = found(
        device(bound="vfio-pci"),
        events=events,
        driver_events={"vfio-pci": (earlier, for_nothing)},
    )
    assert finding.text.endswith("by dynid 8086:100e, since removed")
    there = driver("vfio-pci", ANY_OVERRIDE_ONLY, dynids=(E1000_ID,))
    assert [] == found(device(bound="vfio-pci"), events=events, drivers=(there,))


def test_unexplained_and_unseen() -> None:
    """Bound before anybody watched, or nobody watches at all."""
    (finding,) = found(device(bound="vfio-pci"))
    assert Kind.UNSEEN is finding.kind
    assert finding.text.endswith("what bound it was not seen since @1000001")
    (finding,) = found(device(bound="vfio-pci"), recorded_since_ns=0)
    assert finding.text.endswith("what bound it was not seen since @1000000")
    (finding,) = found(device(bound="vfio-pci"), observed_since_ns=None)
    assert finding.text.endswith("nobody watched when it was bound")


@pytest.mark.parametrize(
    "unknown",
    [
        driver("own", has_probe=False),
        driver("own", dynids=None),
        driver("own", table_state=TableState.TRUNCATED),
        driver("own", origin=Origin.NOWHERE, table_state=TableState.UNKNOWN),
        driver("own", Id(1, 1), origin=Origin.MODULES_ALIAS),
        driver("another"),
    ],
)
def test_binding_of_which_too_little_is_known(unknown: object) -> None:
    """A driver that needs no match, or is not known well enough, is only noted."""
    bound = device(bound="own")
    assert [] == found(bound, drivers=(unknown,))
    assert ["unknown"] == noted(bound, drivers=(unknown,))
    assert {Kind.UNSEEN} == kinds(bound, drivers=(driver("own"),))


def test_override_set_later_explains_nothing_away() -> None:
    """A table that lists the device explains its driver, whatever the override."""
    assert {Kind.DIFFERS} == kinds(device(bound="e1000", driver_override="vfio-pci"))


def test_device_that_was_there_before() -> None:
    """What happened to a VF that is gone explains nothing about the one after it."""
    again = (uevent(7, Action.REMOVE), uevent(8, Action.ADD), probe(9, "vfio-pci"))
    events = (*SET_BOUND_CLEARED, *again)
    assert {Kind.UNSEEN} == kinds(device(bound="vfio-pci"), events=events)
    assert [] == found(device(bound="e1000"), events=(*rebinds(5), *again[:2]))


def test_group_that_changed() -> None:
    """Another IOMMU group than the first one seen is noted."""
    moved = device(bound="e1000", iommu_group=57, iommu_group_before=42)
    assert ["iommu_group_changed"] == noted(moved)
    assert [] == found(moved)


def test_greedy_dynid() -> None:
    """A dynid that matches several devices, of which some have another driver."""
    greedy = driver("vfio-pci", ANY_OVERRIDE_ONLY, dynids=(E1000_ID,))
    bound = device(bound="vfio-pci")
    others = device(SECOND, bound="e1000"), device(THIRD, bound="e1000")
    added = {"vfio-pci": (write(3, StoreFile.NEW_ID, "8086 100e", driver="vfio-pci"),)}
    drivers = E1000, greedy
    (finding,) = found(bound, *others, drivers=drivers, driver_events=added)
    assert Name.GREEDY_DYNID is finding.finding
    assert finding.text == (
        "dynid 8086:100e of vfio-pci matches 3 devices, 2 of them not bound to it: "
        f"{SECOND}, {THIRD}; added at @1000003 by {SEEN}"
    )
    assert (SECOND, (THIRD,)) == (finding.address, finding.also)
    assert finding.cure == (
        f"echo vfio-pci > /sys/bus/pci/devices/{ADDRESS}/driver_override && "
        'echo "8086 100e" > /sys/bus/pci/drivers/vfio-pci/remove_id'
    )
    told = device(bound="vfio-pci", driver_override="vfio-pci")
    (finding,) = found(told, *others, drivers=drivers)
    assert 'echo "8086 100e" > /sys/bus/pci/drivers/vfio-pci/remove_id' == finding.cure
    assert [] == found(bound, drivers=drivers)
    assert [] == found(device(bound="e1000"), drivers=drivers)
    all_bound = [each._replace(driver="vfio-pci") for each in others]
    assert [] == found(bound, *all_bound, drivers=drivers)
    assert ["shared_dynid"] == noted(bound, *all_bound, drivers=drivers)
    kept = [each._replace(driver_override="e1000") for each in others]
    assert [] == found(bound, *kept, drivers=drivers)


def test_remove_id_of_a_narrow_dynid() -> None:
    """A dynid with more fields is removed by all of them."""
    narrow = Id(0x8086, 0x100E, 0x1AF4, 0x1100, 0x020000, 0xFF0000)
    greedy = driver("vfio-pci", dynids=(narrow,))
    (finding,) = found(
        device(bound="e1000"), device(SECOND, bound="e1000"), drivers=(E1000, greedy)
    )
    assert 'echo "8086 100e 1af4 1100 20000 ff0000"' in finding.cure


def test_partial_group() -> None:
    """A group of which some functions are on vfio and another one blocks it."""
    on = device(bound="vfio-pci", driver_override="vfio-pci", iommu_group=35)
    off = device(SECOND, bound="e1000", iommu_group=35)
    free = device(THIRD, ids=Device(1, 2, 3, 4, 5), iommu_group=35)
    (finding,) = found(on, off, free)
    assert Name.PARTIAL_GROUP is finding.finding
    assert "group 35: 1 of 3 functions on vfio-pci; missing: 0000:00:03.0 (e1000)" == (
        finding.text
    )
    assert (ADDRESS, (SECOND,)) == (finding.address, finding.also)
    # Nothing is taken from the host that may be its disk.
    assert finding.cure == (
        f"echo {ADDRESS} > /sys/bus/pci/devices/{ADDRESS}/driver/unbind"
    )
    audio = off._replace(address=f"{ADDRESS[:-1]}1")
    (finding,) = found(on, audio)
    assert f"echo {audio.address} > " in finding.cure


@pytest.mark.parametrize(
    "beside",
    [
        device(SECOND, bound="pcieport", ids=BRIDGE, iommu_group=35),
        device(SECOND, ids=BRIDGE, iommu_group=35),
        device(SECOND, bound="pci-stub", driver_override="pci-stub", iommu_group=35),
        device(SECOND, ids=Device(1, 2, 3, 4, 5), iommu_group=35),
        device(SECOND, bound="e1000", iommu_group=36),
        device(SECOND, bound="e1000"),
    ],
)
def test_group_that_is_viable(beside: PciDevice) -> None:
    """Bridges, pci-stub, no driver at all and other groups are in nobody's way."""
    on = device(bound="vfio-pci", driver_override="vfio-pci", iommu_group=35)
    assert [] == found(on, beside, drivers=(E1000, VFIO_PCI, STUB, PCIEPORT))


def test_vf_on_native_driver() -> None:
    """The host drives a VF whose PF a user of vfio controls."""
    pf = device(SECOND, bound="vfio-pci", driver_override="vfio-pci")
    vf = device(bound="e1000", physfn=SECOND)
    bound = (probe(4, "e1000"), write(4.0001, StoreFile.BIND, driver="e1000"))
    (finding,) = found(vf, pf, events=bound)
    assert Name.VF_ON_NATIVE_DRIVER is finding.finding
    assert finding.text == (
        f"ALERT: VF {ADDRESS} of a vfio-owned PF bound to e1000 at @1000004 by {SEEN}"
    )
    on_vfio = vf._replace(driver="vfio-pci", driver_override="vfio-pci")
    assert [] == found(on_vfio, pf)
    assert [] == found(vf, pf._replace(driver="e1000", driver_override=None))


def rebinds(times: int, *, first: float = 10) -> tuple[Event, ...]:
    """Return a device's events when it is bound to its driver again and again."""
    events: list[Event] = []
    for at in (first + 5 * place for place in range(times)):
        events += [
            write(at, StoreFile.UNBIND, driver="e1000"),
            uevent(at, Action.UNBIND),
            probe(at + 1, "e1000"),
            write(at + 1, StoreFile.BIND, driver="e1000"),
            uevent(at + 1, Action.BIND, driver="e1000"),
        ]
    return tuple(events)


def test_flapping() -> None:
    """Five times within a day is flapping; four are not, nor five long ago."""
    (finding,) = found(device(bound="e1000"), events=rebinds(5))
    assert Name.FLAPPING is finding.finding
    assert finding.text == (
        f"{ADDRESS} rebind flapping: 5 times since @1000010, by comm=tee"
    )
    assert [] == found(device(bound="e1000"), events=rebinds(4))
    vm = [
        event
        for at in range(10, 50, 10)
        for event in (probe(at, "vfio-pci"), probe(at + 5, "e1000"))
    ]
    assert [] == found(device(bound="e1000"), events=tuple(vm))
    later = seconds(24 * 3600 + 15)
    assert [] == found(device(bound="e1000"), events=rebinds(5), now_ns=later)


def test_flapping_with_overrides_is_remembered() -> None:
    """All that a tool writes to rebind a device five times is kept long enough."""
    tracker = Tracker(machine(device(bound="vfio-pci")))
    name = StoreFile.DRIVER_OVERRIDE
    for at in range(101, 501, 50):
        for each in (
            write(at, name, "vfio-pci\n", address=ADDRESS),
            write(at + 1, StoreFile.UNBIND, driver="vfio-pci"),
            uevent(at + 2, Action.UNBIND),
            probe(at + 3, "vfio-pci", ProbeResult.DEFERRED, "EPROBE_DEFER"),
            probe(at + 4, "vfio-pci"),
            write(at + 4.001, StoreFile.BIND, driver="vfio-pci"),
            uevent(at + 4.002, Action.BIND, driver="vfio-pci"),
            write(at + 5, name, "\n", address=ADDRESS),
        ):
            tracker(observed(each))
    found = findings(Picture(tracker.machine(seconds(600))))
    assert Name.FLAPPING in [finding.finding for finding in found]


@settings(max_examples=200)
@given(any_machine)
def test_any_machine(any_one: Machine) -> None:
    """No machine is too strange: each finding is one printable sentence and JSON."""
    picture = Picture(any_one)
    for finding in findings(picture):
        assert finding.text.isprintable()
        assert finding.cure.isprintable()
        json.dumps(finding.details)
        assert {finding.address, *finding.also} <= any_one.devices.keys()
    for each in any_one.devices.values():
        for note in notes(picture, each):
            assert note.text.isprintable()

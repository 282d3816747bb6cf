"""observer/findings/changes.py: what another kernel changed is found, and no more.

From the rule alone to boots of two kernels that share a store.
"""

from __future__ import annotations

import io
import json
from typing import TYPE_CHECKING, cast

import machines
import pytest
import stores
from hypothesis import given
from machines import ADDRESS, E1000, E1000_ID, VFIO_PCI, device, driver, seconds
from pictures import file_of, of, pictures
from test_upkeep import Sysfs

from observer import log
from observer.audit import audit
from observer.change import Kind as Changed
from observer.findings import Finding, Kind, Name
from observer.keeping import Keeping
from observer.record import Action, Device, Id, Judgement, Probed, StoreFile, Wrote
from observer.regression import Regression
from observer.store import FILE, Archive, Kept, Moment, Store, accept
from observer.tracking import Tracker
from observer.upkeep import Upkeep

if TYPE_CHECKING:
    from pathlib import Path

    from observer.looking import Looker
    from observer.machine import Machine, PciDevice, PciDriver
    from observer.pictured import Pictured
    from observer.record import Observation
    from observer.standing import Change

SECOND, THIRD = "0000:00:03.0", "0000:00:04.0"
RTL8139 = Device(0x10EC, 0x8139, 0, 0, 0x020000)
OVERRIDDEN = device(bound="vfio-pci", driver_override="vfio-pci")
E1000_WITHOUT = driver("e1000", module="e1000")
SINCE = "since kernel 6.1 -> 6.12.90: "
DEVICE = f"/sys/bus/pci/devices/{ADDRESS}"
OVERRIDE = f"echo vfio-pci > {DEVICE}/driver_override"
LOAD = "modprobe vfio_pci && test -e /sys/bus/pci/drivers/vfio-pci/bind"
PROBE = f"echo {ADDRESS} > /sys/bus/pci/drivers_probe"


def found(before: Machine, after: Machine) -> list[Finding]:
    """Return what is found to have changed since 6.1."""
    baseline = of(before)._replace(release="6.1")
    return [
        each
        for each in audit(after._replace(baseline=baseline)).findings
        if each.finding is Name.BINDING_CHANGED
    ]


def told(before: Machine, after: Machine) -> list[tuple[str, str]]:
    """Return text and cure of each finding."""
    return [(each.text.removeprefix(SINCE), each.cure) for each in found(before, after)]


def test_nothing_is_found_without_a_baseline() -> None:
    """Of one machine nobody can tell what changed."""
    assert () == audit(machines.machine(device(bound="e1000"))).findings


def test_every_change_but_one_is_found() -> None:
    """Whether dynids matter is told by the candidates."""
    assert {*map(str, Changed)} - {"dynids_changed"} <= {*map(str, Kind)}
    before = machines.machine(drivers=(E1000, driver("pci-stub", dynids=(E1000_ID,))))
    assert [] == found(before, machines.machine(drivers=(E1000, driver("pci-stub"))))


@given(pictures, machines.machines)
def test_any_baseline(baseline: Pictured, machine: Machine) -> None:
    """Each finding can be told and is of a device that is there, or was."""
    for each in audit(machine._replace(baseline=baseline)).findings:
        assert each.text.isprintable()
        assert each.cure.isprintable()
        if each.finding is Name.BINDING_CHANGED:
            json.dumps(each.details)
            assert each.address in {**baseline.devices, **machine.devices}


def test_other_semantics_change_nothing() -> None:
    """What-if of an audit is no change of the kernel."""
    machine = machines.machine(device(bound="e1000"))
    machine = machine._replace(baseline=of(machine)._replace(release="6.1"))
    assert () == audit(machine, "linux-3.16").findings


def test_an_override_that_did_not_persist() -> None:
    """It is told which, and how to set it again."""
    before = machines.machine(OVERRIDDEN)
    driven, overridden = told(before, machines.machine(device(bound="e1000")))
    assert (
        f"{ADDRESS} vfio-pci -> e1000; driver_override=vfio-pci is not set any more",
        " && ".join((OVERRIDE, f"echo {ADDRESS} > {DEVICE}/driver/unbind", PROBE)),
    ) == driven
    assert OVERRIDE == overridden[1]


def test_a_driver_that_is_not_registered() -> None:
    """It is loaded and takes the device; the override makes it do so, if there was."""
    drivers = (E1000,)
    after = machines.machine(device(), drivers=drivers)
    (_, cure), _ = told(machines.machine(OVERRIDDEN), after)
    assert f"{LOAD} && {OVERRIDE} && {PROBE}" == cure
    nothing_else = machines.machine(device(), drivers=(driver("other"),))
    (_, cure), *_ = told(machines.machine(OVERRIDDEN), nothing_else)
    assert f"{LOAD} && {OVERRIDE} && {PROBE}" == cure
    without = machines.machine(device(), drivers=(VFIO_PCI,))
    (text, cure), (_, loaded) = told(machines.machine(device(bound="e1000")), without)
    assert f"{ADDRESS} e1000 -> no driver; e1000 is not registered any more" == text
    assert f"modprobe e1000 && {PROBE}" == cure
    assert "modprobe e1000" == loaded


def test_a_driver_that_lists_the_device_no_more() -> None:
    """It is loaded; nothing brings the candidate back."""
    after = machines.machine(device(), drivers=(E1000_WITHOUT, VFIO_PCI))
    _, (_, cure) = told(machines.machine(device(bound="e1000")), after)
    assert "pci-observer baseline --accept" == cure


def test_a_dynid_that_is_gone() -> None:
    """It is written again, as long as it was."""
    some, other = E1000_ID, Id(0x8086, 0x100E, 1, 2, 0x020000, 0xFF0000)
    unbound = machines.machine(device(), drivers=(driver("a/b"), VFIO_PCI))
    for dynid, fields in ((some, "8086 100e"), (other, "8086 100e 1 2 20000 ff0000")):
        ids = machines.E1000_IDS._replace(subvendor=1, subdevice=2)
        before = machines.machine(
            device(bound="a/b", ids=ids), drivers=(driver("a/b", dynids=(dynid,)),)
        )
        after = unbound._replace(devices={ADDRESS: device(ids=ids)})
        cures = [cure for _, cure in told(before, after)]
        assert [f"echo \"{fields}\" > '/sys/bus/pci/drivers/a!b/new_id'"] * 2 == cures


def test_a_dynid_that_is_gone_from_a_device_that_is_bound() -> None:
    """It alone would not take it from the other driver."""
    vfio_pci = VFIO_PCI._replace(dynids=(E1000_ID,))
    before = machines.machine(device(bound="vfio-pci"), drivers=(E1000, vfio_pci))
    (_, cure), (_, added) = told(before, machines.machine(device(bound="e1000")))
    assert cure.startswith(OVERRIDE)
    assert added == 'echo "8086 100e" > /sys/bus/pci/drivers/vfio-pci/new_id'


def test_a_built_in_driver_that_is_not_registered() -> None:
    """Nothing brings it back."""
    built_in = E1000._replace(module=None)
    before = machines.machine(device(bound="e1000"), drivers=(built_in,))
    after = machines.machine(device(), drivers=(VFIO_PCI,))
    cures = [cure for _, cure in told(before, after)]
    assert ["pci-observer baseline --accept"] * 2 == cures


def test_an_order_that_flipped() -> None:
    """The other one wins only by its override."""
    first, second = driver("r8169", E1000_ID), driver("r8125", E1000_ID)
    before = machines.machine(device(bound="r8169"), drivers=(first, second))
    after = machines.machine(device(bound="r8125"), drivers=(second, first))
    (text, cure), (order, accepted) = told(before, after)
    assert text.endswith(
        "r8169 -> r8125; both match; r8169 was registered first before, now r8125"
    )
    assert cure.startswith(f"echo r8169 > {DEVICE}/driver_override && echo ")
    assert order.startswith(f"{ADDRESS} order of registration changed: r8169, r8125 ->")
    assert "pci-observer baseline --accept" == accepted


def test_an_unbound_device() -> None:
    """Its driver need only be asked."""
    before = machines.machine(device(bound="e1000"))
    ((_, cure),) = told(before, machines.machine(device()))
    assert PROBE == cure


def test_an_override_that_was_set() -> None:
    """It is cleared again."""
    after = machines.machine(OVERRIDDEN._replace(driver="e1000"))
    ((_, cure),) = told(machines.machine(device(bound="e1000")), after)
    assert f"echo > {DEVICE}/driver_override" == cure


@pytest.mark.parametrize(
    ("sriov_numvfs", "cure"),
    [
        (0, f"echo 2 > {DEVICE}/sriov_numvfs"),
        (1, "pci-observer baseline --accept"),  # it must be 0 before it is changed
    ],
)
def test_vfs_that_vanished(sriov_numvfs: int, cure: str) -> None:
    """Their PF has fewer; each is a finding at its address."""
    pf = device(bound="e1000", sriov_numvfs=2)
    vfs = [device(at, ids=RTL8139, physfn=ADDRESS) for at in (SECOND, THIRD)]
    after = machines.machine(pf._replace(sriov_numvfs=sriov_numvfs))
    gone = found(machines.machine(pf, *vfs), after)
    assert [(SECOND, cure), (THIRD, cure)] == [(f.address, f.cure) for f in gone]
    assert {Kind.VANISHED} == {each.kind for each in gone}


def test_a_device_that_vanished() -> None:
    """Its bus may be searched again."""
    after = machines.machine()
    ((text, cure),) = told(machines.machine(device(bound="e1000")), after)
    assert f"{ADDRESS} vanished, had e1000" == text
    assert "echo 1 > /sys/bus/pci/rescan" == cure


def test_a_driver_that_became_built_in() -> None:
    """It stands with all devices that it has or could have, where there are any."""
    before = machines.machine(device(bound="e1000"), device(SECOND))
    built_in = (E1000._replace(module=None), VFIO_PCI)
    after = machines.machine(device(bound="e1000"), device(SECOND), drivers=built_in)
    (finding,) = found(before, after)
    assert (ADDRESS, (SECOND,), Kind.BUILT_IN) == (
        *(finding.address, finding.also),
        finding.kind,
    )
    assert (
        f"driver e1000 of {ADDRESS} and 1 more: module e1000 -> built in; "
        in finding.text
    )
    none = machines.machine(drivers=built_in)
    assert [] == found(machines.machine(), none)


def test_details() -> None:
    """What a program needs to know."""
    before = machines.machine(device(bound="e1000"))
    (finding,) = found(before, machines.machine(device(SECOND, bound="e1000")))
    assert {
        "before": ADDRESS,
        "after": SECOND,
        "address_before": ADDRESS,
        "driver": None,
        "cause": "told by its ids",
        "kernel_before": "6.1",
        "kernel": "6.12.90",
    } == finding.details


class Boot:
    """What the daemon keeps and finds during one boot, by a clock of the test's."""

    def __init__(
        self,
        state: Path,
        release: str,
        *devices: PciDevice,
        drivers: tuple[PciDriver, ...] = (E1000, VFIO_PCI),
        began: float = 20,
    ) -> None:
        self.now_ns = seconds(began)
        self.changes: list[Change] = []
        start = machines.machine(
            *devices,
            drivers=drivers,
            release=release,
            now_ns=self.now_ns,
            observed_since_ns=None,
        )
        self.tracker = Tracker(start)
        boot_id = f"{release} from {began} s"
        self.store = Store(
            state,
            stores.RUNNING._replace(boot_id=boot_id, release=release),
            clock=lambda: Moment(self.now_ns, stores.OFFSET_NS),
        )
        self.regression = Regression(release, self.now_ns)
        stream = io.StringIO()
        self.keeping = Keeping(self.store, log.configure(stream), self.regression)
        self.upkeep = Upkeep(
            self.tracker,
            cast("Looker", Sysfs()),
            complete=True,
            on_change=self.changes.append,
            on_disagreements=lambda _: None,
            on_audit=self.keeping.audited,
            clock=lambda: self.now_ns,
            offset=lambda: stores.OFFSET_NS,
            regression=self.regression,
        )

    def until(self, at: float) -> Boot:
        """Let time pass, in steps of half a second."""
        while self.now_ns < seconds(at):
            self.now_ns += seconds(0.5)
            self.upkeep.step()
            self.keeping.step(self.now_ns)
            self.store.step()
        return self

    def end(self) -> Boot:
        """Let go of the store, as a daemon that stops."""
        self.store.close()
        return self

    def feed(self, observation: Observation) -> None:
        """See something happen."""
        self.tracker(observation)
        for sink in self.keeping.sinks():
            sink(observation)

    def bind(self, name: str) -> None:
        """See the device bound now."""
        probe = machines.probe(self.now_ns / 1e9, name)
        self.feed(Probed(probe, None))

    def begun(self) -> list[tuple[str, Kind]]:
        """Return the changes of bindings that were told."""
        return [
            (finding.address, finding.kind)
            for change in self.changes
            for finding in change.begun
            if finding.finding is Name.BINDING_CHANGED
        ]

    def ended(self) -> list[tuple[str, Kind]]:
        """Return those that were told to be over."""
        return [
            (finding.address, finding.kind)
            for change in self.changes
            for finding in change.ended
            if finding.finding is Name.BINDING_CHANGED
        ]


@pytest.fixture
def state(tmp_path: Path) -> Path:
    """Return a store in which the device was on vfio-pci under 6.1."""
    path = tmp_path / FILE
    boot(path, "6.1", OVERRIDDEN).until(100).end()
    assert "6.1" == baseline(path)
    return path


def boot(state: Path, release: str, *devices: PciDevice, **more: object) -> Boot:
    """Begin to observe a boot."""
    return Boot(state, release, *devices, **more)


def baseline(state: Path) -> str | None:
    """Return the kernel whose picture is the baseline."""
    with Archive(state) as archive:
        kept = archive.baseline()
    return kept.release if kept else None


LOST = [(ADDRESS, Kind.DRIVER_CHANGED), (ADDRESS, Kind.OVERRIDE_LOST)]


def test_an_upgrade_that_changed_a_binding(state: Path) -> None:
    """Exactly that is found, again after a restart, until it is as it was."""
    first = boot(state, "7.3", device(bound="e1000")).until(100).end()
    assert LOST == first.begun()
    assert "6.1" == baseline(state)

    restarted = boot(state, "7.3", device(bound="e1000"), began=500).until(520)
    assert LOST == restarted.begun()
    write = machines.write(520, StoreFile.DRIVER_OVERRIDE, "vfio-pci", address=ADDRESS)
    restarted.feed(Wrote(write, Judgement.AGREE, None))
    unbind = machines.write(520, StoreFile.UNBIND, driver="e1000")
    restarted.feed(Wrote(unbind, Judgement.AGREE, None))
    restarted.bind("vfio-pci")
    restarted.until(525)
    assert LOST == restarted.ended()
    restarted.until(560)
    assert "7.3" == baseline(state)  # nothing differs any more


def test_no_regression_while_devices_are_bound_late(state: Path) -> None:
    """Not before a minute is over, and not while something is still happening."""
    late = boot(state, "7.3", device(driver_override="vfio-pci")).until(58)
    late.feed(machines.uevent(58, Action.ADD, None, "vfio-pci"))
    late.until(66)
    late.bind("vfio-pci")
    late.until(90)
    assert [] == late.begun()
    assert "6.1" == baseline(state)
    late.until(100)  # the bindings lasted, and are those of the other kernel
    assert "7.3" == baseline(state)


def test_a_rolled_baseline_is_not_compared_with(state: Path) -> None:
    """What the operator does then is no regression of the kernel's."""
    rolled = boot(state, "7.3", OVERRIDDEN).until(100)
    assert "7.3" == baseline(state)
    write = machines.write(100, StoreFile.DRIVER_OVERRIDE, "\n", address=ADDRESS)
    rolled.feed(Wrote(write, Judgement.AGREE, None))
    assert [] == rolled.until(110).begun()


def test_the_same_kernel_again(state: Path) -> None:
    """Its picture rolls forward; nothing is compared."""
    again = boot(state, "6.1", device(bound="e1000")).until(100)
    assert [] == again.begun()
    with Archive(state) as archive:
        kept = archive.baseline()
    assert kept is not None
    assert "e1000" == kept.document["devices"][0]["driver"]


def test_a_baseline_that_is_accepted(state: Path) -> None:
    """While the daemon runs; findings end within seconds, and stay away."""
    running = boot(state, "7.3", device(bound="e1000")).until(100)
    assert LOST == running.begun()
    machine = running.upkeep.machine()
    accept(state, Kept("b", "7.3", 1, file_of(machine)))
    assert LOST == running.until(103).end().ended()
    later = boot(state, "7.3", device(bound="e1000"), began=500).until(600)
    assert [] == later.begun()


def test_a_baseline_that_is_not_understood(state: Path) -> None:
    """Nothing is compared with it."""
    accept(state, Kept("a", "6.1", 1, {"format": "tarball"}))
    assert [] == boot(state, "7.3", device(bound="e1000")).until(100).begun()


def test_a_driver_missing_from_the_new_kernel(tmp_path: Path) -> None:
    """The driver, the candidate and nothing else."""
    path = tmp_path / FILE
    other = device(SECOND, ids=RTL8139)
    boot(path, "6.1", device(bound="e1000"), other).until(100).end()
    after = boot(path, "7.3", device(), other, drivers=(VFIO_PCI,)).until(100)
    assert [
        (ADDRESS, Kind.DRIVER_LOST),
        (ADDRESS, Kind.CANDIDATES_CHANGED),
    ] == after.begun()

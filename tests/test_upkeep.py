"""observer/upkeep.py: the picture stays current, and what is wrong with it is told."""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

import machines
import pytest

from observer.disagreement import Field
from observer.looking import Look, Looker
from observer.record import (
    Action,
    Judgement,
    Probed,
    ProbeResult,
    StoreFile,
    Uevent,
    Wrote,
)
from observer.tracking import Tracker
from observer.upkeep import AGAIN_NS, RECONCILE_NS, RETRY_NS, Upkeep

if TYPE_CHECKING:
    from observer.audit import Audit
    from observer.disagreement import Disagreement
    from observer.findings import Finding
    from observer.machine import PciDevice
    from observer.standing import Change

DEVICE = machines.device(bound="e1000")
NEW = "0000:00:03.0"


class Sysfs:
    """A looker that answers when the test says so."""

    def __init__(self) -> None:
        self.devices: dict[str, PciDevice] = {DEVICE.address: DEVICE}
        self.drivers: dict[str, str | None] = {
            "e1000": "e1000",
            "vfio-pci": "vfio_pci",
        }
        self.asked: list[frozenset[str] | None] = []
        self._answers: list[Look] = []
        self._answered = 0
        self.now_ns = 0

    def ask(self, addresses: frozenset[str] | None = None) -> None:
        """Note what is asked for."""
        self.asked.append(addresses)

    def busy(self) -> bool:
        """Say whether an answer is still to come."""
        return len(self.asked) > self._answered

    def answers(self) -> list[Look]:
        """Hand the answers out."""
        answers, self._answers = self._answers, []
        self._answered += len(answers)
        return answers

    def answer(self) -> None:
        """Answer the oldest question with what is there now."""
        wanted = self.asked[self._answered + len(self._answers)]
        drivers = self.drivers
        found: dict[str, PciDevice | None] = {
            address: self.devices.get(address)
            for address in (self.devices if wanted is None else wanted)
        }
        self._answers.append(
            Look(self.now_ns, wanted is None, found, drivers, True, ())
        )

    def fail(self, gap: str) -> None:
        """Answer the oldest question with the reason why there is no answer."""
        self._answers.append(Look(self.now_ns, False, {}, {}, None, (gap,)))


class Kept:
    """An upkeep with its tracker, its sysfs and a clock."""

    def __init__(
        self, *, complete: bool = True, reconcile_ns: int = RECONCILE_NS
    ) -> None:
        self.sysfs = Sysfs()
        self.now_ns = machines.seconds(100)
        self.offset_ns = machines.seconds(1_000_000)
        start = machines.machine(
            *([DEVICE] if complete else []), observed_since_ns=None
        )
        self.tracker = Tracker(start)
        self.changes: list[Change] = []
        self.disagreements: list[Disagreement] = []
        self.audits: list[tuple[Audit, tuple[Finding, ...]]] = []
        self.upkeep = Upkeep(
            self.tracker,
            cast("Looker", self.sysfs),
            complete=complete,
            on_change=self.changes.append,
            on_disagreements=self.disagreements.extend,
            on_audit=lambda audit, standing: self.audits.append((audit, standing)),
            clock=lambda: self.now_ns,
            offset=lambda: self.offset_ns,
            reconcile_ns=reconcile_ns,
        )

    def step(self, seconds: float = 0) -> None:
        """Let time pass and go on."""
        self.now_ns += machines.seconds(seconds)
        self.upkeep.step()
        self.sysfs.now_ns = self.now_ns

    def reconcile(self) -> None:
        """Let a whole comparison with sysfs happen, twice if it finds something."""
        self.look(RECONCILE_NS / 1e9)
        self.step(AGAIN_NS / 1e9)
        if self.sysfs.busy():
            self.look(0)

    def look(self, seconds: float) -> None:
        """Let time pass and sysfs be looked at."""
        self.step(seconds)
        self.sysfs.answer()
        self.step()
        self.step()

    def samples(self, name: str) -> dict[tuple[str, ...], float]:
        """Return a gauge's samples."""
        (gauge,) = (g for g in self.upkeep.gauges() if g.name == name)
        return dict(gauge.samples)


def test_a_device_that_was_added_is_read() -> None:
    """A uevent tells its address alone."""
    kept = Kept()
    kept.tracker(Uevent(kept.now_ns, Action.ADD, NEW, None))
    kept.sysfs.devices[NEW] = machines.device(NEW)
    kept.step()
    assert kept.sysfs.asked == [frozenset({NEW})]
    kept.step(1)
    assert kept.sysfs.asked == [frozenset({NEW})]  # it is asked once

    kept.sysfs.answer()
    kept.step(1)

    assert kept.upkeep.machine().devices[NEW] == machines.device(NEW)
    assert len(kept.samples("device_driver_info")) == 2


def test_what_was_read_before_an_event_is_read_again() -> None:
    """A device is bound while it is read for the first time."""
    kept = Kept()
    kept.tracker(Uevent(kept.now_ns, Action.ADD, NEW, None))
    kept.sysfs.devices[NEW] = machines.device(NEW)
    kept.step(1)
    kept.sysfs.answer()
    bind = Uevent(kept.now_ns + 10, Action.BIND, NEW, "e1000")
    kept.tracker(bind)
    kept.sysfs.devices[NEW] = machines.device(NEW, bound="e1000")
    kept.step(1)
    assert kept.sysfs.asked == [frozenset({NEW})] * 2
    kept.sysfs.answer()
    kept.step(1)

    assert kept.upkeep.machine().devices[NEW].driver == "e1000"
    assert kept.sysfs.asked == [frozenset({NEW})] * 2


def test_sysfs_that_agrees_is_no_news() -> None:
    """Compared once in a while, nothing said."""
    kept = Kept()
    kept.reconcile()

    assert kept.sysfs.asked == [None]
    assert kept.disagreements == []


def test_how_often_sysfs_is_looked_at() -> None:
    """As often as is asked for: where there are no hooks, nothing else tells."""
    kept = Kept(reconcile_ns=machines.seconds(10))
    for _ in range(2):
        kept.step(9)
        assert not kept.sysfs.busy()
        kept.look(1)
    assert kept.sysfs.asked == [None, None]


def test_what_was_not_seen_is_told_and_taken_over() -> None:
    """A binding that changed without an event."""
    kept = Kept()
    kept.sysfs.devices[DEVICE.address] = DEVICE._replace(driver="vfio-pci")
    kept.reconcile()

    assert [(d.field, d.subject) for d in kept.disagreements] == [
        (Field.BOUND, DEVICE.address)
    ]
    assert kept.upkeep.machine().devices[DEVICE.address].driver == "vfio-pci"
    assert kept.tracker.disagreements[Field.BOUND] == 1


def test_what_an_event_tells_after_the_look_is_no_disagreement() -> None:
    """Sysfs shows a change before its event is sent."""
    kept = Kept()
    kept.sysfs.devices[DEVICE.address] = DEVICE._replace(driver=None)
    kept.look(RECONCILE_NS / 1e9)
    unbind = machines.write(200, StoreFile.UNBIND, driver="e1000")
    kept.tracker(Wrote(unbind, Judgement.AGREE, None))
    kept.look(AGAIN_NS / 1e9)

    assert kept.disagreements == []
    assert kept.upkeep.looks == 1
    assert kept.tracker.disagreements.total() == 0


def test_what_happens_during_a_look_is_no_disagreement() -> None:
    """Its event may come after the look; the look is repeated a second later."""
    kept = Kept()
    kept.step(RECONCILE_NS / 1e9)
    kept.sysfs.devices[DEVICE.address] = DEVICE._replace(driver=None)
    kept.sysfs.answer()
    kept.step()
    unbind = machines.write(200, StoreFile.UNBIND, driver="e1000")
    kept.tracker(Wrote(unbind, Judgement.AGREE, None))
    kept.step()

    assert kept.disagreements == []
    kept.step(RETRY_NS / 1e9)
    assert kept.sysfs.asked == [None, None]
    kept.sysfs.answer()
    kept.step()
    kept.step()
    assert kept.disagreements == []
    assert kept.upkeep.machine().devices[DEVICE.address].driver is None


def test_a_look_that_shows_nothing_at_all_failed() -> None:
    """No device and no driver is forgotten for it; it is repeated a second later."""
    kept = Kept()
    kept.sysfs.drivers = {}
    kept.reconcile()
    assert kept.disagreements == []
    assert set(kept.upkeep.machine().drivers) == {"e1000", "vfio-pci"}

    kept.sysfs.drivers, kept.sysfs.devices = {"e1000": "e1000"}, {}
    kept.step(RETRY_NS / 1e9)
    kept.sysfs.answer()
    kept.step()
    kept.step()
    assert kept.disagreements == []
    assert kept.upkeep.machine().devices == {DEVICE.address: DEVICE}


def test_a_look_that_failed_is_repeated() -> None:
    """A second later, and what it did not show is not forgotten."""
    kept = Kept()
    kept.step(RECONCILE_NS / 1e9)
    kept.sysfs.fail("Sysfs could not be read: too many open files.")
    kept.step()
    kept.step(RETRY_NS / 1e9)
    assert kept.sysfs.asked == [None, None]
    assert kept.upkeep.machine().devices == {DEVICE.address: DEVICE}


def test_a_first_look_that_failed_is_repeated() -> None:
    """Nothing is said of the machine before it was seen."""
    kept = Kept(complete=False)
    kept.sysfs.ask()
    kept.sysfs.fail("Sysfs could not be read: too many open files.")
    kept.step()
    kept.step(RETRY_NS / 1e9)
    assert kept.upkeep.gauges() == ()
    kept.sysfs.answer()
    kept.step(5)
    assert list(kept.upkeep.machine().devices) == [DEVICE.address]


def test_a_driver_that_was_shown_while_it_probed_is_looked_at_again() -> None:
    """Sysfs shows it as bound; then it declines, which no uevent tells."""
    kept = Kept()
    busy = machines.probe(100, "e1000", ProbeResult.BUSY, "EBUSY")
    kept.tracker(Probed(busy))
    kept.step()
    assert kept.sysfs.asked == []

    kept.tracker(Probed(busy._replace(result=ProbeResult.REFUSED, errno="ENODEV")))
    kept.sysfs.devices[DEVICE.address] = DEVICE._replace(driver=None)
    kept.step()
    kept.sysfs.now_ns += 1
    kept.sysfs.answer()
    kept.step()

    assert kept.upkeep.machine().devices[DEVICE.address].driver is None


def test_a_finding_that_ends_with_time_ends_though_nothing_happens() -> None:
    """Flapping is over a day after it."""
    kept = Kept()
    for at in range(101, 106):
        kept.tracker(Probed(machines.probe(at, "e1000")))
    kept.step(10)
    kept.step(4)
    assert [f.finding for f in kept.changes[0].begun] == ["flapping"]
    assert len(kept.changes) == 1

    kept.step(24 * 3600)

    assert [f.finding for f in kept.changes[1].ended] == ["flapping"]


def test_times_are_of_the_clock_as_it_is_now() -> None:
    """At boot the clock may be wrong, and a suspend is no time to CLOCK_MONOTONIC."""
    kept = Kept()
    kept.offset_ns += machines.seconds(3600)
    unbind = machines.write(101, StoreFile.UNBIND, driver="e1000")
    kept.tracker(Wrote(unbind, Judgement.AGREE, None))
    kept.step(10)
    kept.step(4)

    assert kept.upkeep.machine().realtime_offset_ns == kept.offset_ns
    (finding,) = kept.changes[0].begun
    assert "orphaned since @1003701" in finding.text


def test_a_finding_is_told_after_a_while_and_when_it_is_over() -> None:
    """And the metrics say 1, then 0."""
    kept = Kept()
    kept.sysfs.devices[DEVICE.address] = DEVICE._replace(driver=None)
    kept.reconcile()
    kept.step(1)
    assert kept.changes == []
    kept.step(3)

    (change,) = kept.changes
    assert [f.finding for f in change.begun] == ["orphan"]
    assert kept.samples("device_finding") == {(DEVICE.address, "orphan"): 1}

    kept.sysfs.devices[DEVICE.address] = DEVICE
    kept.reconcile()
    kept.step(1)
    assert [f.finding for f in kept.changes[-1].ended] == ["orphan"]
    assert kept.samples("device_finding") == {(DEVICE.address, "orphan"): 0}


def test_a_first_look_that_comes_late_is_no_disagreement() -> None:
    """Nothing is said of a machine that was not seen yet."""
    kept = Kept(complete=False)
    kept.sysfs.ask()
    kept.step(5)
    assert kept.upkeep.gauges() == ()

    kept.sysfs.answer()
    kept.step(5)

    assert kept.disagreements == []
    assert list(kept.upkeep.machine().devices) == [DEVICE.address]
    assert len(kept.samples("device_driver_info")) == 1


def test_a_comparison_that_fails_is_not_tried_at_each_step(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """It is for the next look to show what this one did."""

    def fail(*_: object, **__: object) -> None:
        raise RuntimeError

    kept = Kept()
    monkeypatch.setattr(kept.tracker, "reconcile", fail)
    with pytest.raises(RuntimeError):
        kept.reconcile()
    kept.step(RECONCILE_NS / 1e9)

    assert kept.sysfs.asked == [None, None]

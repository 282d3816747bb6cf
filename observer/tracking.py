"""The current picture of the machine, kept by all that is observed of it, as a sink."""

from __future__ import annotations

import re
from collections import Counter
from typing import TYPE_CHECKING, Final

from observer.disagreement import Disagreement, Field, of_devices, of_drivers
from observer.event_history import EventHistory, Limits
from observer.machine import Decision, Event, Origin, PciDevice, PciDriver
from observer.model.hex_fields import Overflow
from observer.model.new_id import Dynids, new_id, remove_id
from observer.model.override_text import write_override
from observer.record import (
    Action,
    Driver,
    Judged,
    Loss,
    LossStage,
    Match,
    Probe,
    Probed,
    ProbeResult,
    Reason,
    Seen,
    Source,
    StoreFile,
    TableState,
    Uevent,
    Unregister,
    Write,
    Wrote,
)
from observer.timeline import Timeline

if TYPE_CHECKING:
    from collections.abc import Mapping

    from observer.machine import Machine
    from observer.record import Observation

DEVICE_EVENTS: Final = Limits(each=64, total=8192, absent=256)
DRIVER_EVENTS: Final = Limits(each=64, total=2048, absent=64)
REMEMBERED: Final = 4096  # addresses, for what is known of absent devices
ECHO_NS: Final = 10_000_000_000  # how late a uevent may come after its record
OVERRIDE_BYTES: Final = 126  # a longer driver_override is cut by the hooks

_COMPLETE: Final = TableState.COMPLETE
_NONE: Final = Source.NONE
_DYNIDS_DOUBTED: Final = {
    Reason.DYNIDS_CHANGED,
    Reason.DYNIDS_TRUNCATED,
    Reason.READ_FAULT,
}
_OVERRIDE_DOUBTED: Final = {Reason.OVERRIDE_CHANGED, Reason.READ_FAULT}
_ADDRESS: Final = re.compile(r"[0-9a-f]{4,8}:[0-9a-f]{2}:[0-9a-f]{2}\.[0-7]")
_OF_DYNIDS: Final = {StoreFile.NEW_ID, StoreFile.REMOVE_ID}
_UNKNOWN_TABLE: Final = Driver(0, "", None, TableState.UNKNOWN)
_NO_TABLE: Final = Driver(0, "", None)
# Where a probe, a write or a uevent may be among what was lost.
_OF_BINDINGS: Final = {LossStage.OTHER, LossStage.MISSED, LossStage.UEVENT}
# What a lost event was, and what is in doubt for it.
_LOST: Final = {
    LossStage.RESERVE: "match decisions: what bound a device then may be unknown",
    LossStage.DECODE: "match decisions: what bound a device then may be unknown",
    LossStage.QUEUE: "match decisions: what bound a device then may be unknown",
    LossStage.MISSED: "calls: what bound a device then may be unknown",
    LossStage.OTHER: (
        "other events: who wrote what then may be unknown, and so are dynids until "
        "their driver's next match"
    ),
    LossStage.UEVENT: "uevents: the devices were read again",
}


def named_address(text: str) -> str | None:
    """Return the address that a text written to bind and the like names, if any.

    The kernel compares up to a NUL, and one newline at the end does not count.
    """
    address = text.partition("\0")[0].removesuffix("\n")
    return address if _ADDRESS.fullmatch(address) else None


def whole(write: Write) -> bool:
    """Tell whether a write's text is all that was written."""
    return len(write.text.encode("utf-8", "surrogateescape")) >= write.size


class Tracker:
    """Keeps the picture of one machine; a sink.

    `stale` has the addresses that must be read from sysfs, as after a hotplug: take
    each out, read it, and call `read`. `version` grows with each change that could
    change what is said about the machine. `disagreements` counts what `reconcile`
    found. Another thread may call `machine` and read these.
    """

    def __init__(self, start: Machine, *, devices_known: bool = True) -> None:
        """Begin with a look at the machine, which was complete at `start.now_ns`.

        Records of before that may be fed: what they changed is in the look already. In
        a replay nobody looked: with `devices_known` false, a device that is not in
        `start` may still be there.
        """
        self._start = start
        self._devices_known = devices_known
        self._since_ns = start.now_ns
        self._ktime_ns = start.now_ns  # of the newest record
        self._drivers = dict(start.drivers)
        self._devices = dict(start.devices)
        self._drivers_autoprobe = start.drivers_autoprobe
        self._dynids = {
            name: Timeline(start.now_ns, known.dynids)
            for name, known in self._drivers.items()
        }
        self._bound = {
            address: Timeline(start.now_ns, device.driver)
            for address, device in self._devices.items()
        }
        # Addresses whose driver was bound before anything was seen.
        self._bound_before = {
            address for address, device in self._devices.items() if device.driver
        }
        self._unregistered: dict[str, int] = {}  # ktime, by name; the uevent to come
        self._changed: dict[str, int] = {}  # ktime of the last such uevent, by address
        self._groups: dict[str, int] = {}  # the first IOMMU group seen, by address
        self._lost: Counter[LossStage] = Counter()
        self._device_events: EventHistory[Event] = EventHistory(DEVICE_EVENTS)
        self._driver_events: EventHistory[Write | Uevent] = EventHistory(DRIVER_EVENTS)
        for device in self._devices.values():
            self._grouped(device)
        self.stale: set[str] = set()
        self.version = 0
        self.disagreements: Counter[Field] = Counter(dict.fromkeys(Field, 0))

    def __call__(self, observation: Observation) -> None:
        """Enter one observation."""
        if isinstance(observation, Judged):
            self._matched(observation.match)
        elif isinstance(observation, Driver):
            self._registered(observation)
        elif isinstance(observation, Probed):
            self._probed(observation.probe)
        elif isinstance(observation, Wrote):
            self._wrote(observation.write)
        elif isinstance(observation, Uevent):
            self._told(observation)
        elif isinstance(observation, Unregister):
            self._unregister(observation)
        elif isinstance(observation, Loss):
            self._miss(observation)

    def machine(self, now_ns: int) -> Machine:
        """Return the picture; what is fed later does not change it."""
        drivers = dict(self._drivers)
        if not self._start.order_known:
            drivers = dict(sorted(drivers.items()))
        gaps = tuple(
            f"{count} events were lost, {_LOST[stage]}."
            for stage, count in dict(self._lost).items()
        )
        return self._start._replace(
            drivers_autoprobe=self._drivers_autoprobe,
            drivers=drivers,
            devices=dict(sorted(dict(self._devices).items())),
            gaps=self._start.gaps + gaps,
            now_ns=now_ns,
            observed_since_ns=self._since_ns,
            device_events=self._device_events.copy(),
            driver_events=self._driver_events.copy(),
        )

    @property
    def bound_before(self) -> int:
        """How many devices have a driver of which nobody saw how it was bound."""
        return len(self._bound_before)

    # What the judge of writes asks.

    def driver(self, name: str) -> PciDriver | None:
        """Return a registered driver."""
        return self._drivers.get(name)

    def dynids_at(self, name: str, ktime_ns: int) -> Dynids | None:
        """Return the dynids that a driver had then; None: unknown."""
        try:
            return self._dynids[name].at(ktime_ns)
        except LookupError:
            return None

    def bindings(self, address: str) -> Timeline[str | None] | None:
        """Return what was bound to a device and when; None: unknown."""
        return None if address in self.stale else self._bound.get(address)

    def present(self, address: str) -> bool | None:
        """Tell whether there is such a device; None: unknown."""
        if address in self.stale:
            return None
        return address in self._devices or (False if self._devices_known else None)

    def last_event_ns(self, address: str) -> int:
        """Return when something was last seen to happen to a device; 0: never."""
        event = self._device_events.last(address)
        changed_ns = self._changed.get(address, 0)
        return changed_ns if event is None else max(event.ktime_ns, changed_ns)

    # Drivers.

    def _registered(self, driver: Driver) -> None:
        """Learn a driver's number and, where it was not known, its id_table."""
        known = self._drivers.get(driver.name)
        if known is None or not _same_registration(known, driver):
            self._add_driver(driver, Origin.HOOKS, self._ktime_ns)
        elif (better := _better(known, driver)) != known:
            self._drivers[driver.name] = better
            self.version += 1

    def _unregister(self, unregister: Unregister) -> None:
        self._advance(unregister.ktime_ns)
        known = self._drivers.get(unregister.name)
        if known is None or known.driver.number != unregister.driver:
            return  # its uevent came first
        self._unregistered[unregister.name] = unregister.ktime_ns
        if len(self._unregistered) > DRIVER_EVENTS.absent:
            del self._unregistered[next(iter(self._unregistered))]
        event = Uevent(unregister.ktime_ns, Action.REMOVE, None, unregister.name)
        self._driver_gone(unregister.name, unregister.ktime_ns)
        self._driver_events.add(unregister.name, event, present=False)

    def _driver_gone(self, name: str, ktime_ns: int) -> None:
        self._drivers.pop(name, None)
        self._dynids.pop(name, None)
        self._driver_events.mark(name, present=False)
        for address, device in list(self._devices.items()):
            if device.driver == name:
                self._bind(address, None, ktime_ns, ktime_ns)
        self.version += 1

    def _driver_told(self, uevent: Uevent, name: str) -> None:
        """Take in a uevent about a driver: its record may have come before, or comes.

        One that adds comes after the first matches, for the driver attaches before.
        """
        if uevent.action is Action.REMOVE:
            echoed_ns = self._unregistered.pop(name, None)
            if echoed_ns is None or uevent.ktime_ns - echoed_ns > ECHO_NS:
                self._driver_gone(name, uevent.ktime_ns)
                self._driver_events.add(name, uevent, present=False)
            return
        if name not in self._drivers:
            driver = _UNKNOWN_TABLE._replace(name=name)
            self._add_driver(driver, Origin.NOWHERE, uevent.ktime_ns)
        self._driver_events.add(name, uevent, present=True)
        self.version += 1

    def _add_driver(self, driver: Driver, origin: Origin, ktime_ns: int) -> None:
        """Begin with a registration, as the last one in the order."""
        self._drivers.pop(driver.name, None)
        self._drivers[driver.name] = PciDriver(driver, origin, None, None, ktime_ns)
        self._dynids[driver.name] = Timeline(ktime_ns, None)
        self._driver_events.mark(driver.name, present=True)
        self.version += 1

    def _set_dynids(self, name: str, dynids: Dynids | None, ktime_ns: int) -> None:
        self._drivers[name] = self._drivers[name]._replace(dynids=dynids)
        self._dynids[name].change(ktime_ns, dynids)
        self.version += 1

    # Matches and probes.

    def _matched(self, match: Match) -> None:
        self._advance(match.ktime_ns)
        driver = match.inputs.driver
        known = self._drivers.get(driver.name)
        # What was registered at boot and still is, is in the look already.
        if match.seen is Seen.LIVE and (
            known is None or known.driver.number != driver.number
        ):
            self._registered(driver)
        if match.ktime_ns >= self._since_ns:
            self._show_dynids(match)
            self._show_override(match)
        if match.outcome.match is not _NONE:
            self._decide(match)

    def _show_dynids(self, match: Match) -> None:
        """Take the dynids from a match, which read the list itself."""
        inputs, name = match.inputs, match.inputs.driver.name
        shown = inputs.dynids
        known = self._drivers[name].dynids
        if not inputs.dynids_complete:
            if known is not None and known[: len(shown)] != shown:
                self._set_dynids(name, None, match.ktime_ns)
        elif known != shown and _DYNIDS_DOUBTED.isdisjoint(match.doubts):
            self._set_dynids(name, shown, match.ktime_ns)

    def _show_override(self, match: Match) -> None:
        address, shown = match.address, match.inputs.driver_override
        device = self._devices.get(address)
        if device is None:
            self._doubt(address)
        elif shown != device.driver_override:
            cut = shown is not None and _size(shown) >= OVERRIDE_BYTES
            if cut or not _OVERRIDE_DOUBTED.isdisjoint(match.doubts):
                self._doubt(address)
            else:
                self._devices[address] = device._replace(driver_override=shown)
                self.version += 1

    def _decide(self, match: Match) -> None:
        inputs, (source, index) = match.inputs, match.outcome
        dynid = None
        if source is Source.DYNID and index is not None and index < len(inputs.dynids):
            dynid = inputs.dynids[index]
        decision = Decision(
            match.ktime_ns,
            match.task,
            inputs.driver.name,
            source,
            index,
            inputs.driver_override,
            dynid,
        )
        # A probe asks once more before it begins.
        last = self._device_events.last(match.address)
        if not isinstance(last, Decision) or _gist(last) != _gist(decision):
            self._remember(match.address, decision)

    def _probed(self, probe: Probe) -> None:
        self._advance(probe.ktime_ns)
        self._remember(probe.address, probe)
        if probe.result is ProbeResult.BOUND:
            self._bind(probe.address, probe.name, probe.ktime_ns, probe.ktime_ns)
            bound = self._bound.get(probe.address)
            if bound is not None and bound.now == probe.name:
                self._bound_before.discard(probe.address)
        elif (
            probe.result is not ProbeResult.BUSY
            and (bound := self._bound.get(probe.address))
            and bound.now == probe.name
        ):
            # Sysfs shows a driver as bound while it probes: it was looked at then.
            self._doubt(probe.address)

    def _bind(
        self, address: str, driver: str | None, from_ns: int, ktime_ns: int
    ) -> None:
        """Note what is bound: it became so between these times.

        If something else became of it after the first, only sysfs can tell which of
        both came last.
        """
        known = self._bound.get(address)
        if known is None:
            self._doubt(address)
            if not self._devices_known:
                self._bound[address] = Timeline(ktime_ns, driver)
                if len(self._bound) > REMEMBERED:
                    del self._bound[next(iter(self._bound))]
        elif known.now == driver:
            return
        elif from_ns < known.since_ns:
            self._doubt(address)
        else:
            known.change(ktime_ns, driver)
            self._bound_before.discard(address)
            device = self._devices.get(address)
            if device is not None:
                self._devices[address] = device._replace(driver=driver)
        self.version += 1

    # Writes.

    def _wrote(self, write: Write) -> None:
        self._advance(write.ktime_ns)
        if write.file in _OF_DYNIDS:
            self._wrote_dynids(write, write.driver or "")
            return
        address = write.address
        if write.file is not StoreFile.DRIVER_OVERRIDE:
            address = named_address(write.text)
        if address is None:
            return
        self._remember(address, write)
        if write.errno is not None:
            return
        start_ns = write.ktime_ns - write.duration_ns
        if write.file is StoreFile.BIND:
            self._bind(address, write.driver, start_ns, write.ktime_ns)
        elif write.file is StoreFile.UNBIND:
            self._bind(address, None, start_ns, write.ktime_ns)
        elif write.file is StoreFile.DRIVER_OVERRIDE:
            self._wrote_override(write, address)

    def _wrote_override(self, write: Write, address: str) -> None:
        device = self._devices.get(address)
        if device is None or not whole(write) or write.ktime_ns < self._since_ns:
            self._doubt(address)
            return
        before = device.driver_override
        stored = write_override(write.text, before, "linux-3.16").driver_override
        if stored != before:
            self._devices[address] = device._replace(driver_override=stored)
            self.version += 1

    def _wrote_dynids(self, write: Write, name: str) -> None:
        known = self._drivers.get(name)
        self._driver_events.add(name, write, present=known is not None)
        self.version += 1
        if known is None or known.dynids is None or write.errno is not None:
            return
        timeline = self._dynids[name]
        start_ns = write.ktime_ns - write.duration_ns
        # The matches that the write caused may have shown the list after it; so may
        # have the look at the start.
        shown = timeline.since_ns > start_ns
        after = _after(write, known.dynids, self._start.new_id_rules, shown=shown)
        if after != known.dynids:
            self._set_dynids(name, after, max(write.ktime_ns, timeline.since_ns))

    # Uevents.

    def _told(self, uevent: Uevent) -> None:
        self._advance(uevent.ktime_ns)
        if uevent.address is None:
            if uevent.driver is not None:
                self._driver_told(uevent, uevent.driver)
            return
        address = uevent.address
        if uevent.action is Action.CHANGE:  # a VF has its physfn only then
            if address in self._devices or address in self.stale:
                self._changed[address] = uevent.ktime_ns
            self._doubt(address)
            return
        if uevent.action is Action.UNBIND and uevent.driver is None:
            uevent = uevent._replace(driver=self._unbound_from(address))
        self._remember(address, uevent)
        if uevent.action is Action.REMOVE:
            self._remove(address)
        elif uevent.action is Action.UNBIND:
            self._bind(address, None, uevent.ktime_ns, uevent.ktime_ns)
        elif uevent.action is Action.BIND and uevent.driver is not None:
            self._bind(address, uevent.driver, uevent.ktime_ns, uevent.ktime_ns)
        else:
            self._doubt(address)

    def _unbound_from(self, address: str) -> str | None:
        """Return what an unbind took away, for no kernel says it; None: unknown."""
        known = self._bound.get(address)
        if known is None:
            return None
        if known.now is not None:
            return known.now
        try:  # the record of it came before the uevent
            return known.at(known.since_ns - 1)
        except LookupError:
            return None

    # Devices.

    def read(self, address: str, device: PciDevice | None) -> None:
        """Enter what sysfs shows of a device; None: it shows none."""
        self.stale.discard(address)
        if device is None:
            self._remove(address)
            return
        known = self._devices.get(address)
        if known is None and device.physfn in self._devices:
            self._doubt(device.physfn)  # it has one more
        device = self._grouped(device)
        bound = self._bound.get(address)
        if bound is None:
            self._bound[address] = Timeline(self._ktime_ns, device.driver)
        elif bound.now != device.driver:
            bound.change(max(self._ktime_ns, bound.since_ns), device.driver)
            self._bound_before.discard(address)
        if device != known:
            self._devices[address] = device
            self._device_events.mark(address, present=True)
            self.version += 1

    def _remove(self, address: str) -> None:
        self.stale.discard(address)
        self._changed.pop(address, None)
        self._bound_before.discard(address)
        self._bound.pop(address, None)
        self._device_events.mark(address, present=False)
        device = self._devices.pop(address, None)
        if device is not None:
            self.version += 1
            if device.physfn in self._devices:
                self._doubt(device.physfn)

    def _doubt(self, address: str) -> None:
        if self._devices_known:
            self.stale.add(address)

    def _grouped(self, device: PciDevice) -> PciDevice:
        """Tell from a device's first IOMMU group if it has another one now."""
        if device.iommu_group is None:
            return device
        first = self._groups.setdefault(device.address, device.iommu_group)
        if len(self._groups) > max(REMEMBERED, 2 * len(self._devices)):
            del self._groups[next(a for a in self._groups if a not in self._devices)]
        other = None if first == device.iommu_group else first
        return device._replace(iommu_group_before=other)

    def _remember(self, address: str, event: Event) -> None:
        present = address in self._devices
        self._device_events.add(address, event, present=present)
        self.version += 1

    def _advance(self, ktime_ns: int) -> None:
        self._ktime_ns = max(self._ktime_ns, ktime_ns)

    # Losses.

    def _miss(self, loss: Loss) -> None:
        self._lost[loss.stage] += loss.count
        self.version += 1
        if loss.ktime_ns < self._since_ns:
            return  # what was lost changed nothing that the look does not show
        if loss.stage in _OF_BINDINGS:
            for address in self._devices:
                self._doubt(address)
        if loss.stage is LossStage.OTHER:  # a write to new_id may be among them
            for name, known in self._drivers.items():
                if known.dynids is not None:
                    self._set_dynids(name, None, loss.ktime_ns)

    # The comparison with sysfs.

    def disagreements_with(
        self,
        devices: Mapping[str, PciDevice],
        drivers: Mapping[str, str | None],
        *,
        drivers_autoprobe: bool | None = None,
    ) -> list[Disagreement]:
        """Compare with all that sysfs shows now; `drivers` are names and their modules.

        Everything observed must have been fed before sysfs was read: then a
        disagreement is a change that nobody saw. What is in `stale` is none.
        """
        found = [
            *of_devices(self._devices, devices, stale=self.stale),
            *of_drivers(self._drivers, drivers),
        ]
        known = self._drivers_autoprobe
        if drivers_autoprobe not in (None, known):
            found.append(
                Disagreement(Field.DRIVERS_AUTOPROBE, "pci", known, drivers_autoprobe)
            )
        return found

    def reconcile(
        self,
        devices: Mapping[str, PciDevice],
        drivers: Mapping[str, str | None],
        *,
        drivers_autoprobe: bool | None = None,
    ) -> list[Disagreement]:
        """Take over all that sysfs shows now; return and count the disagreements."""
        found = self.disagreements_with(
            devices, drivers, drivers_autoprobe=drivers_autoprobe
        )
        if drivers_autoprobe is not None:
            self._drivers_autoprobe = drivers_autoprobe
        for address in self._devices.keys() | devices.keys():
            self.read(address, devices.get(address))
        for name in self._drivers.keys() - drivers.keys():
            self._driver_gone(name, self._ktime_ns)
        for name, module in drivers.items():
            self._see(name, module)
        self.disagreements.update(each.field for each in found)
        return found

    def _see(self, name: str, module: str | None) -> None:
        known = self._drivers.get(name)
        if known is None:
            driver = _UNKNOWN_TABLE._replace(name=name)
            self._add_driver(driver, Origin.NOWHERE, self._ktime_ns)
            known = self._drivers[name]
        if known.module != module:
            self._drivers[name] = known._replace(module=module)
            self.version += 1


def _same_registration(known: PciDriver, driver: Driver) -> bool:
    """Tell whether the hooks speak of the driver that is known by this name."""
    if known.driver.number:
        return known.driver.number == driver.number
    return (
        known.origin is not Origin.KERNEL_MEMORY
        or known.driver.table_state is not _COMPLETE
        or driver.table_state is not _COMPLETE
        or known.driver.id_table == driver.id_table
    )


def _better(known: PciDriver, driver: Driver) -> PciDriver:
    """Join what is known of one registration with what the hooks send of it."""
    if known.origin is Origin.KERNEL_MEMORY and (
        known.driver.table_state is _COMPLETE or driver.table_state is not _COMPLETE
    ):
        number, has_probe = driver.number, driver.has_probe
        same = known.driver._replace(number=number, has_probe=has_probe)
        if same == driver:
            same = driver  # one copy of a long table is enough
        return known._replace(driver=same)
    if driver.table_state is TableState.UNKNOWN:
        return known._replace(driver=known.driver._replace(number=driver.number))
    return known._replace(driver=driver, origin=Origin.HOOKS)


def _gist(decision: Decision) -> tuple[object, ...]:
    """Return what makes two decisions the same one, asked for twice."""
    return (decision.task.pid, *decision[2:])


def _size(text: str) -> int:
    return len(text.encode("utf-8", "surrogateescape"))


def _after(write: Write, now: Dynids, rules: str, *, shown: bool) -> Dynids | None:
    """Return the dynids after a write that succeeded; None: unknown.

    `shown`: `now` was seen after the write began, maybe after the list was changed.
    """
    change = _added if write.file is StoreFile.NEW_ID else _removed
    possible = {change(write.text, now, rules, overflow) for overflow in Overflow}
    after = possible.pop()
    if after is None or possible or not whole(write):
        return now if shown else None
    if shown and write.file is StoreFile.NEW_ID and after[-1] in now:
        return now
    return after


def _added(text: str, now: Dynids, rules: str, overflow: Overflow) -> Dynids | None:
    added = new_id(text, _NO_TABLE, (), rules, overflow=overflow).dynids
    return (*now, *added) if added else None


def _removed(text: str, now: Dynids, rules: str, overflow: Overflow) -> Dynids | None:
    errno, after = remove_id(text, now, rules, overflow=overflow)
    return None if errno else after

"""The bus of tests/live/world.py, which tells what it does as the hooks would."""

from __future__ import annotations

from typing import TYPE_CHECKING

from live.world import World
from observations import TASK

from observer.machine import Machine, Origin, PciDevice, PciDriver
from observer.model.gates import Attempt, Trigger
from observer.record import (
    Action,
    Judged,
    Judgement,
    Match,
    Path,
    Probe,
    Probed,
    ProbeResult,
    Source,
    StoreFile,
    Uevent,
    Write,
)

if TYPE_CHECKING:
    from live.world import Write as Writing

    from observer.model.new_id import Errno
    from observer.record import Observation

_CARRIED = 128  # bytes of a text
_DURATION_NS = 90  # of a write; the next begins 100 ns after it


class Told(World):
    """A bus whose records are in `told`, and its uevents in `untold`."""

    ktime_ns = 1000
    told: list[Observation | Write]
    untold: list[Uevent]

    def machine(self) -> Machine:
        """Return what a look at it would find."""
        drivers = {
            name: PciDriver(
                driver._replace(number=0),
                Origin.KERNEL_MEMORY,
                self.dynids[name],
                None,
            )
            for name, driver in self.drivers.items()
        }
        return Machine(
            *("6.1", "A", self.rules.semantics, self.rules.new_id, True, drivers, True),
            {address: self.device(address) for address in sorted(self.devices)},
            (),
            self.ktime_ns,
            0,
        )

    def device(self, address: str) -> PciDevice:
        """Return what sysfs shows."""
        bound, override = self.bound[address], self.overrides[address]
        return PciDevice(address, self.devices[address], bound, override)

    def write(self, write: Writing) -> Errno:
        """Do it, and put down everything about it."""
        self.told, before = [], self.bound.copy()
        self.ktime_ns += 100
        start_ns = self.ktime_ns
        errno = super().write(write)
        file = StoreFile(write.file)
        of_device = file is StoreFile.DRIVER_OVERRIDE
        data = write.text.encode("utf-8", "surrogateescape")
        self.told.append(
            Write(
                start_ns + _DURATION_NS,
                _DURATION_NS,
                TASK,
                0,
                file,
                None if of_device else write.owner or None,
                write.owner if of_device else None,
                data[:_CARRIED].decode("utf-8", "surrogateescape"),
                len(data),
                str(errno) if errno else None,
            )
        )
        for address, driver in self.bound.items():
            if driver != before[address]:
                action = Action.UNBIND if driver is None else Action.BIND
                self.untold.append(Uevent(0, action, address, driver))
        return errno

    def uevents(self, count: int) -> list[Uevent]:
        """Return the oldest uevents, as they are received now."""
        received, self.untold = self.untold[:count], self.untold[count:]
        return [each._replace(ktime_ns=self.ktime_ns + 95) for each in received]

    def _attempt(self, name: str, address: str, trigger: Trigger) -> Attempt:
        attempt = super()._attempt(name, address, trigger)
        bound = attempt.situation.has_driver
        old = self.rules.bind == "linux-3.16"
        if bound and (
            trigger is Trigger.DRIVERS_PROBE or (old and trigger is Trigger.BIND)
        ):
            return attempt
        self._match(attempt, address)
        if attempt.outcome.match is not Source.NONE:
            if not bound:
                self._match(attempt, address)
            if not bound or trigger is Trigger.BIND:
                self._probe(attempt, address, old=old)
        return attempt

    def _match(self, attempt: Attempt, address: str) -> None:
        match = Match(
            self.ktime_ns + 10, TASK, address, False, attempt.inputs, attempt.outcome
        )
        self.told.append(Judged(match, Judgement.AGREE, attempt.outcome))

    def _probe(self, attempt: Attempt, address: str, *, old: bool) -> None:
        errno = attempt.situation.probe_errno
        result = ProbeResult.REFUSED if errno else ProbeResult.BOUND
        if old:
            errno = None
        if attempt.situation.has_driver:
            result, errno = ProbeResult.BUSY, "EBUSY"
        driver = attempt.inputs.driver
        self.told.append(
            Probed(
                Probe(
                    *(self.ktime_ns + 20, 10, TASK, address, driver.number),
                    *(driver.name, True, Path.DIRECT, result, errno),
                )
            )
        )

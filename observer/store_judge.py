"""The errnos of writes to sysfs, judged by the model's rules as far as nothing races.

A write is judged by what was known when it began and, of a bind, by the match and the
probe that its own task made meanwhile. Two writes may run at once, and what the kernel
does by itself is told late: an answer that this could explain is no divergence.
"""

from __future__ import annotations

from collections import OrderedDict, deque
from itertools import product
from typing import TYPE_CHECKING, Final, NamedTuple

from observer.machine import Origin
from observer.model.gates import BIND_RULES, Attempt, Situation, Trigger
from observer.model.hex_fields import Overflow
from observer.model.new_id import RULES, new_id, remove_id
from observer.model.override_text import write_override
from observer.model.primitives import Undecided
from observer.record import (
    PCI_ANY_ID,
    Driver,
    Id,
    Judged,
    Judgement,
    Loss,
    Match,
    Probe,
    Probed,
    ProbeResult,
    Seen,
    Source,
    StoreFile,
    TableState,
    Wrote,
)
from observer.tracking import named_address, whole

if TYPE_CHECKING:
    from collections.abc import Callable
    from collections.abc import Set as AbstractSet

    from observer.model.new_id import Dynids, Errno
    from observer.record import Observation, Write
    from observer.tracking import Tracker

RECENT: Final = 1024  # last matches and probes kept, by task, driver and device
LOSSES: Final = 64

# Where BTF shows linux-3.16 it may be linux-5.11: nothing in it tells them apart.
_NEW_ID_RULES: Final = {"linux-3.16": ("linux-3.16", "linux-5.11")}
# What a bind answers changed together with the function that probes.
# Linux kernel commit 45ddcb42949f (in v5.14)
_BIND_RULES: Final = {
    "driver_probe_device": "linux-3.16",
    "__driver_probe_device": "linux-5.14",
}
_NO_TABLE: Final = Driver(0, "", None)
# The dynids that leave nothing to add: all ids fit it.
_ALL: Final = (Id(PCI_ANY_ID, PCI_ANY_ID),)
_OUT_OF_MEMORY: Final = "ENOMEM"  # any write may end so
_ENODEV: Final = frozenset({"ENODEV"})
_SUCCESS: Final = frozenset({0})
_LATE: Final[frozenset[Errno]] = frozenset({0, "ENODEV"})
_NONE_KNOWN: Final[frozenset[Errno]] = frozenset()


class _Seen(NamedTuple):
    """What a task last did with one driver and one device."""

    match: Match | None = None  # positive
    probe: Probe | None = None


class _Answers(NamedTuple):
    """What a write may answer; 0: success."""

    expected: AbstractSet[Errno]  # by what is known; not one: not enough is
    excused: AbstractSet[Errno] = _NONE_KNOWN  # by what nobody saw yet


class StoreJudge:
    """Judges writes; as a sink it sees what their tasks do meanwhile.

    The tracker is a sink of the same pipeline: until a write comes to it, it knows what
    was before.
    """

    def __init__(
        self, tracker: Tracker, *, new_id_rules: str, probe_function: str
    ) -> None:
        """Judge by the rules that a layout has.

        Raises KeyError when there are no such rules or no such function.
        """
        RULES[new_id_rules]
        self._tracker = tracker
        self._new_id_rules = _NEW_ID_RULES.get(new_id_rules, (new_id_rules,))
        self._bind_errno = BIND_RULES[_BIND_RULES[probe_function]]
        self._seen: OrderedDict[tuple[int, str, str], _Seen] = OrderedDict()
        self._losses: deque[Loss] = deque(maxlen=LOSSES)
        self._answers: dict[StoreFile, Callable[[Write], _Answers]] = {
            StoreFile.NEW_ID: self._new_id,
            StoreFile.REMOVE_ID: self._remove_id,
            StoreFile.DRIVER_OVERRIDE: _driver_override,
            StoreFile.BIND: self._bind,
            StoreFile.UNBIND: self._unbind,
            StoreFile.DRIVERS_PROBE: self._drivers_probe,
        }

    def __call__(self, observation: Observation) -> None:
        """See what may belong to a write that is under way."""
        if isinstance(observation, Judged):
            match = observation.match
            if match.outcome.match is not Source.NONE:
                key = (match.task.pid, match.inputs.driver.name, match.address)
                self._see(key, _Seen(match))
        elif isinstance(observation, Probed):
            probe = observation.probe
            key = (probe.task.pid, probe.name, probe.address)
            self._see(key, self._seen.get(key, _Seen())._replace(probe=probe))
        elif isinstance(observation, Loss):
            self._losses.append(observation)

    def judge(self, write: Write) -> Wrote:
        """Compare what a write answered with what the model expects."""
        try:
            expected, excused = self._answers[write.file](write)
        except Undecided:
            return Wrote(write, Judgement.INDETERMINATE, None)
        errno = write.errno or 0
        if len(expected) != 1 or errno == _OUT_OF_MEMORY:
            return Wrote(write, Judgement.INDETERMINATE, None)
        (answer,) = expected
        name = None if answer == 0 else str(answer)
        if errno == answer:
            return Wrote(write, Judgement.AGREE, name)
        if errno in excused:
            return Wrote(write, Judgement.INDETERMINATE, None)
        return Wrote(write, Judgement.DIVERGE, name)

    def _see(self, key: tuple[int, str, str], seen: _Seen) -> None:
        self._seen[key] = seen
        self._seen.move_to_end(key)
        if len(self._seen) > RECENT:
            self._seen.popitem(last=False)

    # What a driver answers.

    def _new_id(self, write: Write) -> _Answers:
        driver = self._driver(write)
        known = self._dynids(write)

        def answers(dynids: Dynids) -> set[Errno]:
            return {
                new_id(write.text, driver, dynids, rules, overflow=overflow).errno
                for rules, overflow in product(self._new_id_rules, Overflow)
            }

        if not whole(write):
            return _Answers(_NONE_KNOWN)
        possible = answers(()) | answers(_ALL)
        return _Answers(possible if known is None else answers(known), possible)

    def _remove_id(self, write: Write) -> _Answers:
        known = self._dynids(write)
        if not whole(write):
            return _Answers(_NONE_KNOWN)

        def answers(dynids: Dynids) -> set[Errno]:
            rules = self._new_id_rules[0]  # the same in all
            return {
                remove_id(write.text, dynids, rules, overflow=overflow).errno
                for overflow in Overflow
            }

        possible = answers(())
        if "ENODEV" in possible:
            possible |= _SUCCESS
        return _Answers(possible if known is None else answers(known), possible)

    def _driver(self, write: Write) -> Driver:
        """Return the driver with its id_table, as far as that can be used here."""
        known = self._tracker.driver(write.driver or "")
        if known is None or known.origin is Origin.MODULES_ALIAS:
            return _NO_TABLE._replace(table_state=TableState.UNKNOWN)
        return known.driver

    def _dynids(self, write: Write) -> Dynids | None:
        start_ns = write.ktime_ns - write.duration_ns
        return self._tracker.dynids_at(write.driver or "", start_ns)

    # What a device answers.

    def _bind(self, write: Write) -> _Answers:
        """Answer by the match and the probe that the write made.

        Without a positive match nothing more was done, but for a loss.
        """
        address = named_address(write.text)
        if address is None:
            return _Answers(_ENODEV)
        start_ns = write.ktime_ns - write.duration_ns
        if self._lost(start_ns, write.ktime_ns):
            return _Answers(_NONE_KNOWN)
        key = (write.task.pid, write.driver or "", address)
        match, probe = self._seen.get(key, _Seen())
        matched = match is not None and match.ktime_ns >= start_ns
        probed = probe is not None and probe.ktime_ns >= start_ns
        if match and matched and probe and probed:
            if Seen.FALLBACK in (match.seen, probe.seen):
                return _Answers(_NONE_KNOWN)  # not all of it was seen
            return self._probed(match, probe)
        # Up to v5.13 a device that was bound meanwhile is not probed; and a match may
        # be forgotten by the time its long probe ends.
        return _Answers(_NONE_KNOWN if matched or probed else _ENODEV)

    def _probed(self, match: Match, probe: Probe) -> _Answers:
        situation = Situation(
            Trigger.BIND,
            has_driver=probe.result is ProbeResult.BUSY,
            gone=probe.result is ProbeResult.GONE,
            probe_errno=_PROBE_ERRNO.get(probe.result, probe.errno or "unknown"),
        )
        # The core may refuse although there is no probe method.
        driver = match.inputs.driver._replace(has_probe=True)
        inputs = match.inputs._replace(driver=driver)
        errno = self._bind_errno(Attempt(situation, inputs, match.outcome))
        # Up to v5.13 the core's own errno came through, not that of a probe method.
        return _Answers({errno}, {probe.errno} if probe.errno else _NONE_KNOWN)

    def _unbind(self, write: Write) -> _Answers:
        """Answer by what was bound; what the kernel does by itself is told late."""
        address = named_address(write.text)
        if address is None:
            return _Answers(_ENODEV)
        start_ns = write.ktime_ns - write.duration_ns
        bindings = self._tracker.bindings(address)
        if bindings is None:
            known = self._tracker.present(address) is False
            return _Answers(_ENODEV if known else _NONE_KNOWN, _LATE)
        if any(bindings.after(start_ns)):
            return _Answers(_NONE_KNOWN)
        try:
            bound = bindings.at(start_ns)
        except LookupError:
            return _Answers(_NONE_KNOWN)
        return _Answers(_SUCCESS if bound == write.driver else _ENODEV, _LATE)

    def _drivers_probe(self, write: Write) -> _Answers:
        """Answer by whether there is the device; hotplug is told late."""
        address = named_address(write.text)
        if address is None:
            return _Answers(_ENODEV)
        present = self._tracker.present(address)
        if present is None:
            return _Answers(_NONE_KNOWN)
        # Where the core refuses a probe, the answer is EINVAL.
        return _Answers(_SUCCESS if present else _ENODEV, {*_LATE, "EINVAL"})

    def _lost(self, since_ns: int, until_ns: int) -> bool:
        return any(
            loss.since_ns <= until_ns and since_ns <= loss.ktime_ns
            for loss in self._losses
        )


# What a probe's result says of the driver's answer, where the errno does not.
_PROBE_ERRNO: Final[dict[ProbeResult, str | None]] = {
    ProbeResult.BOUND: None,
    ProbeResult.DEFERRED: "EPROBE_DEFER",
}


def _driver_override(write: Write) -> _Answers:
    text = write.text if whole(write) else "x" * write.size  # only the size counts
    return _Answers({write_override(text, None, "linux-3.16").errno})

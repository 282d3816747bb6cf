"""observer/model/gates.py: which gate stops a bind."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from strategies import decidable_inputs

from observer.model import expect
from observer.model.gates import (
    BIND_RULES,
    GATES,
    Attempt,
    Gate,
    Situation,
    Trigger,
    stopped_by,
)
from observer.record import Device, Driver, Id, Inputs, Outcome, Source

DRIVER = Driver(1, "ixgbevf", (Id(0x8086, 0x10ED),))
VF = Device(0x8086, 0x10ED, 0x8086, 0, 0x020000)
MATCH, NO_MATCH = Outcome(Source.STATIC, 0), Outcome(Source.NONE)

ALL_CLOSED = Situation(
    Trigger.DEVICE_ADDED,
    drivers_autoprobe=False,
    has_driver=True,
    binding_allowed=False,
    node_disabled=True,
    gone=True,
    ready=False,
    is_virtfn=True,
    sriov_drivers_autoprobe=False,
    probe_errno="EPROBE_DEFER",
)


def attempt(
    outcome: Outcome = MATCH,
    *,
    driver_override: str | None = None,
    trigger: Trigger = Trigger.BIND,
    has_probe: bool = True,
    **situation: object,
) -> Attempt:
    """Return an attempt that differs in what is named from one that succeeds."""
    driver = DRIVER._replace(has_probe=has_probe)
    inputs = Inputs(VF, driver, driver_override=driver_override)
    return Attempt(Situation(trigger)._replace(**situation), inputs, outcome)


@pytest.mark.parametrize("trigger", Trigger)
def test_all_open(trigger: Trigger) -> None:
    """Where nothing stands between them the driver gets the device."""
    assert stopped_by(attempt(trigger=trigger)) is None


def test_all_gates_in_order() -> None:
    """As one gate after the other is opened, the next one is found closed."""
    opened: list[Gate | None] = []
    situation, outcome = ALL_CLOSED, NO_MATCH
    for changes in (
        {"drivers_autoprobe": True},
        {"trigger": Trigger.DRIVER_ADDED},  # which looks at bound devices, too
        {"binding_allowed": True},
        {"node_disabled": False},
        {},
        {"gone": False},
        {"has_driver": False},
        {"ready": True},
        {"is_virtfn": False},
        {"probe_errno": "ENOMEM"},
        {"probe_errno": None},
    ):
        gate = stopped_by(Attempt(situation, Inputs(VF, DRIVER), outcome))
        opened.append(gate)
        outcome = MATCH if gate is Gate.NO_MATCH else outcome
        situation = situation._replace(**changes)  # type: ignore[arg-type]
    assert list(GATES) == opened
    assert stopped_by(Attempt(situation, Inputs(VF, DRIVER), outcome)) is None


@pytest.mark.parametrize(
    ("trigger", "heeded", "gate"),
    [
        (Trigger.DEVICE_ADDED, True, Gate.DRIVERS_AUTOPROBE),
        (Trigger.DEVICE_ADDED, False, None),
        (Trigger.DRIVER_ADDED, False, Gate.DRIVERS_AUTOPROBE),
        (Trigger.NEW_ID, True, None),
        (Trigger.BIND, True, None),
        (Trigger.DRIVERS_PROBE, True, None),
    ],
)
def test_drivers_autoprobe(
    trigger: Trigger,
    heeded: bool,  # noqa: FBT001 - a parameter
    gate: Gate | None,
) -> None:
    """It stops what happens of itself; before 6.19 PCI devices that come in did not."""
    found = stopped_by(
        attempt(
            trigger=trigger,
            drivers_autoprobe=False,
            added_devices_heed_autoprobe=heeded,
        )
    )
    assert gate is found


@pytest.mark.parametrize(
    ("trigger", "gate"),
    [
        (Trigger.DEVICE_ADDED, Gate.HAS_DRIVER),
        (Trigger.DRIVERS_PROBE, Gate.HAS_DRIVER),
        (Trigger.DRIVER_ADDED, Gate.NO_MATCH),
        (Trigger.NEW_ID, Gate.NO_MATCH),
        (Trigger.BIND, Gate.NO_MATCH),
    ],
)
def test_bound_devices_are_matched_by_drivers(trigger: Trigger, gate: Gate) -> None:
    """A driver that looks for devices matches those that are bound already, too."""
    assert gate is stopped_by(attempt(NO_MATCH, trigger=trigger, has_driver=True))


@pytest.mark.parametrize("outcome", [NO_MATCH, Outcome(Source.UNKNOWN)])
def test_no_match(outcome: Outcome) -> None:
    """Nothing can be said for an id that comes from nowhere."""
    assert Gate.NO_MATCH is stopped_by(attempt(outcome))


@pytest.mark.parametrize("driver_override", ["ixgbevf", "vfio-pci", ""])
def test_any_override_lifts_sriov_drivers_autoprobe(driver_override: str) -> None:
    """The kernel asks whether there is one, not for whom."""
    closed = {"is_virtfn": True, "sriov_drivers_autoprobe": False}
    assert Gate.SRIOV_DRIVERS_AUTOPROBE is stopped_by(attempt(**closed))  # type: ignore[arg-type]
    assert (
        stopped_by(attempt(driver_override=driver_override, **closed))  # type: ignore[arg-type]
        is None
    )


def test_sriov_drivers_autoprobe_is_for_virtual_functions() -> None:
    """The physical function itself binds as ever."""
    assert stopped_by(attempt(sriov_drivers_autoprobe=False)) is None


def test_no_probe_method() -> None:
    """A driver without one can't refuse, but the gate of the VF is before it."""
    assert stopped_by(attempt(has_probe=False, probe_errno="EIO")) is None
    gate = stopped_by(
        attempt(has_probe=False, is_virtfn=True, sriov_drivers_autoprobe=False)
    )
    assert Gate.SRIOV_DRIVERS_AUTOPROBE is gate


@pytest.mark.parametrize(
    ("case", "errno"),
    [
        (attempt(), 0),
        (attempt(NO_MATCH), "ENODEV"),
        (attempt(NO_MATCH, has_driver=True), "ENODEV"),
        (attempt(has_driver=True), "EBUSY"),
        (attempt(binding_allowed=False), "ENODEV"),
        (attempt(gone=True), "ENODEV"),
        (attempt(ready=False), "EAGAIN"),
        (attempt(probe_errno="EPROBE_DEFER"), "EAGAIN"),
        (attempt(probe_errno="EINVAL"), "EINVAL"),
        (attempt(is_virtfn=True, sriov_drivers_autoprobe=False), "ENODEV"),
    ],
)
def test_bind_errno(case: Attempt, errno: int | str) -> None:
    """Since 5.14 a bind tells why it failed, before it was ENODEV always."""
    assert errno == BIND_RULES["linux-5.14"](case)
    assert ("ENODEV" if errno else 0) == BIND_RULES["linux-3.16"](case)


situations = st.builds(
    Situation,
    st.sampled_from(Trigger),
    *(st.booleans() for _ in range(8)),
    probe_errno=st.sampled_from([None, "EPROBE_DEFER", "EIO"]),
)


@given(decidable_inputs, situations)
def test_no_bind_without_a_match(inputs: Inputs, situation: Situation) -> None:
    """No gate that is open makes up for a match that is missing."""
    outcome = expect("linux-5.15", inputs)
    assert isinstance(outcome, Outcome)
    case = Attempt(situation, inputs, outcome)
    if stopped_by(case) is None:
        assert Source.NONE is not outcome.match
        assert not situation.has_driver
    for rules in BIND_RULES.values():
        assert (stopped_by(case) is None) is (rules(case) == 0)

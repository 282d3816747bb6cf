"""observer/what_if.py: which devices and decisions would differ, and no more memory."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from strategies import inputs

from observer.model import SEMANTICS, expect
from observer.model.others import differing
from observer.record import (
    Device,
    Driver,
    Id,
    Indeterminate,
    Inputs,
    Judged,
    Judgement,
    Loss,
    LossStage,
    Match,
    Outcome,
    Reason,
    Source,
    Task,
    Unregister,
)
from observer.what_if import Differences, WhatIf

DRIVER = Driver(1, "e1000", (Id(1, 2, override_only=1), Id(1, 2)))
NONE = dict.fromkeys(SEMANTICS, 0)


def decided(
    address: str = "0000:00:02.0",
    driver: Driver = DRIVER,
    override: str | None = None,
    doubts: tuple[Reason, ...] = (),
    device: int = 2,
    subdevice: int = 4,
) -> Judged:
    """Return a decision about a device that the driver lists, flagged and plain."""
    ids = Device(1, device, 3, subdevice, 5)
    case = Inputs(ids, driver, driver_override=override)
    answer = Outcome(Source.NONE)
    match = Match(1, Task(1, 1, "x", 0), address, False, case, answer, doubts)
    return Judged(match, Judgement.AGREE, None)


def differing_under(*observations: Judged | Unregister | Loss) -> set[str]:
    """Return the semantics under which a device would differ."""
    what_if = WhatIf("linux-5.15")
    for observation in observations:
        what_if(observation)
    return {slug for slug, devices in what_if.devices().items() if devices}


@pytest.mark.parametrize("slug", SEMANTICS)
@settings(max_examples=50)
@given(case=inputs)
def test_differing(slug: str, case: Inputs) -> None:
    """What is found quickly is what asking every semantics finds."""
    own = expect(slug, case)
    answers = {other: expect(other, case) for other in SEMANTICS}
    assert differing(slug, case) == {
        other: answer
        for other, answer in answers.items()
        if not isinstance(own, Indeterminate)
        and not isinstance(answer, Indeterminate)
        and answer != own
    }


def test_nothing_seen() -> None:
    """Every semantics is there from the start."""
    assert WhatIf("linux-5.15").devices() == NONE


def test_unknown_semantics() -> None:
    """Comparing with nothing is a KeyError, at once."""
    with pytest.raises(KeyError):
        WhatIf("linux-9.0")


def test_devices_are_counted_once() -> None:
    """Two decisions about one device, by two drivers, are one device."""
    what_if = WhatIf("linux-5.15")
    for _ in range(2):
        what_if(decided())
        what_if(decided(driver=DRIVER._replace(number=2)))
        what_if(decided(address="0000:00:03.0"))
    assert what_if.devices() == NONE | dict.fromkeys(
        [
            slug
            for slug in SEMANTICS
            if slug not in ("linux-5.15", "rfc-flagged-dynids")
        ],
        2,
    )


def test_last_decision_counts() -> None:
    """What a device's state was before does not matter any more."""
    assert {"linux-3.15"} == differing_under(decided(), decided(override="vfio-pci"))
    assert not differing_under(decided(), decided(device=7))


def test_doubtful_decision_does_not_count() -> None:
    """Inputs that changed meanwhile tell nothing; what was known before stays."""
    doubted = decided(override="x", doubts=(Reason.OVERRIDE_CHANGED,))
    assert not differing_under(doubted)
    assert differing_under(decided()) == differing_under(decided(), doubted)


def test_unregistered_driver_is_forgotten() -> None:
    """A driver that is gone decides nothing; others stay."""
    other = DRIVER._replace(number=2)
    gone = Unregister(9, 1, "e1000")
    assert not differing_under(decided(), gone)
    assert differing_under(decided(), decided(driver=other), gone)


def test_other_observations() -> None:
    """A loss is no decision."""
    assert not differing_under(Loss(0, 1, LossStage.RESERVE, 1))


def test_memory_is_bounded() -> None:
    """The kind of device that was seen longest ago makes room."""
    what_if = WhatIf("linux-5.15", kinds=2)
    for place in range(9):
        what_if(decided(address=f"0000:00:{place:02x}.0", subdevice=place))
    assert 2 == what_if.devices()["linux-3.16"]


def test_device_that_is_like_another() -> None:
    """One decision tells of all devices that no driver can tell apart from it."""
    there = {
        "0000:00:02.0": (Device(1, 2, 3, 4, 5), None),
        "0000:00:03.0": (Device(1, 2, 3, 4, 5), None),
        "0000:00:04.0": (Device(1, 2, 3, 4, 5), "vfio-pci"),
        "0000:00:05.0": (Device(1, 2, 3, 9, 5), None),
    }
    what_if = WhatIf("linux-5.15", lambda: there)
    assert what_if.devices() == NONE
    what_if(decided())
    assert 2 == what_if.devices()["linux-3.16"]
    what_if(decided(override="vfio-pci"))
    assert (3, 2) == tuple(
        what_if.devices()[slug] for slug in ("linux-3.15", "linux-3.16")
    )


def test_differences() -> None:
    """Decisions that are alike are told once, with how many they were."""
    differences = Differences("linux-5.15")
    plain = DRIVER._replace(id_table=(Id(1, 2),))
    doubted = decided(doubts=(Reason.OVERRIDE_CHANGED,))
    case = decided(driver=plain, override="e1000")
    for observation in (case, case, decided(driver=plain), doubted):
        differences(observation)
    differences(Unregister(9, 1, "e1000"))
    assert [
        {
            "address": "0000:00:02.0",
            "driver": "e1000",
            "decisions": 2,
            "semantics": "linux-5.15",
            "outcome": "static 0",
            "what_if": {"rfc-2021-06-03": "none", "rfc-2021-06-14": "none"},
        }
    ] == list(differences.lines())

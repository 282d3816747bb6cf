"""observer/regression.py: nothing is compared while the machine still changes."""

from __future__ import annotations

import machines
import pytest
from machines import device, seconds
from pictures import pictured

from observer.record import (
    Action,
    Judgement,
    Probed,
    ProbeResult,
    StoreFile,
    Uevent,
    Wrote,
)
from observer.regression import PATIENCE_NS, Regression

BASELINE = pictured(device(bound="e1000"), release="6.1")
BIND = Probed(machines.probe(61, "e1000"), None)


def regression(began: float = 20, release: str = "7.3") -> Regression:
    """Return one that has the baseline."""
    made = Regression(release, seconds(began))
    made.rebase(BASELINE)
    return made


def test_it_is_compared_once_the_machine_rests() -> None:
    """A minute after the boot, and ten seconds after the last bind."""
    watched = regression()
    assert watched.compared_with(seconds(59.9)) is None
    watched(BIND._replace(probe=BIND.probe._replace(ktime_ns=seconds(59))))
    assert watched.compared_with(seconds(60)) is None
    assert watched.compared_with(seconds(68.9)) is None
    assert BASELINE is watched.compared_with(seconds(69))


def test_it_waits_for_the_rest() -> None:
    """Only where there is a baseline of another kernel; nothing comes after it."""
    assert regression().waits(seconds(59.9))
    assert not regression().waits(seconds(60))
    assert not regression(release="6.1").waits(seconds(30))
    assert not Regression("7.3", seconds(20)).waits(seconds(30))


@pytest.mark.parametrize(
    ("observation", "matters"),
    [
        (BIND, True),
        (Probed(machines.probe(61, "e1000", ProbeResult.REFUSED), None), False),
        (machines.uevent(61, Action.BIND, driver="e1000"), True),
        (machines.uevent(61, Action.UNBIND), True),
        (machines.uevent(61, Action.ADD), True),
        (machines.uevent(61, Action.REMOVE), True),
        (machines.uevent(61, Action.ADD, None, "e1000"), True),
        (Wrote(machines.write(61, StoreFile.BIND), Judgement.AGREE, None), True),
        (Wrote(machines.write(61, StoreFile.UNBIND), Judgement.AGREE, None), True),
        (Wrote(machines.write(61, StoreFile.NEW_ID), Judgement.AGREE, None), False),
        (
            Wrote(
                machines.write(61, StoreFile.BIND, errno="ENODEV"),
                Judgement.AGREE,
                None,
            ),
            False,
        ),
    ],
)
def test_what_keeps_it_waiting(
    observation: Probed | Uevent | Wrote,
    matters: bool,  # noqa: FBT001
) -> None:
    """Whatever changes a binding, or could: a device or a driver that comes or goes."""
    watched = regression()
    watched(observation)
    assert matters is (watched.compared_with(seconds(62)) is None)
    assert watched.compared_with(seconds(71)) is BASELINE


def test_at_rest_once_is_enough() -> None:
    """What is bound later is a change of its own, and ends what was found."""
    watched = regression()
    assert BASELINE is watched.compared_with(seconds(60))
    watched(BIND)
    assert BASELINE is watched.compared_with(seconds(61))


def test_a_machine_that_never_rests() -> None:
    """After ten minutes it is taken as it is."""
    watched = regression(20)
    at = 20 + PATIENCE_NS / 1e9
    watched(BIND._replace(probe=BIND.probe._replace(ktime_ns=seconds(at - 1))))
    assert watched.compared_with(seconds(at - 0.1)) is None
    assert BASELINE is watched.compared_with(seconds(at))


def test_its_own_kernel_runs() -> None:
    """Then it is an earlier state of the same kernel, and nothing to compare with."""
    assert regression(release="6.1").compared_with(seconds(100)) is None


def test_another_baseline() -> None:
    """As when the operator accepts the bindings of now."""
    watched = regression()
    assert BASELINE is watched.compared_with(seconds(100))
    watched.rebase(BASELINE._replace(release="7.3"))
    assert watched.compared_with(seconds(101)) is None
    watched.rebase(None)
    assert watched.compared_with(seconds(102)) is None

"""observer/looking.py: a look at sysfs may take long, and nobody waits for it."""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING

import machines
import pytest

from observer import looking
from observer.looking import Look, Looker, look, look_at

if TYPE_CHECKING:
    from collections.abc import Iterable

    from observer.machine import PciDevice

SECONDS = 10


def shown(*addresses: str, whole: bool = False) -> Look:
    """Return what a look at these devices shows."""
    devices: dict[str, PciDevice | None] = {
        address: machines.device(address) for address in addresses
    }
    return Look(1, whole, devices, {}, None, ())


def until_answered(looker: Looker) -> list[Look]:
    """Return the answers as soon as there are any."""
    deadline = time.monotonic() + SECONDS
    while time.monotonic() < deadline:
        if answers := looker.answers():
            return answers
        time.sleep(0.001)
    raise TimeoutError


def test_answers_come_in_the_order_of_asking() -> None:
    """Everything, or some devices."""
    looker = Looker(
        whole=lambda: shown("a", "b", whole=True),
        some=lambda addresses: shown(*addresses),
    )
    assert not looker.busy()
    looker.ask()
    looker.ask(frozenset("a"))
    assert looker.busy()
    looker.start()

    answers: list[Look] = []
    while looker.busy():
        answers += until_answered(looker)

    assert answers == [shown("a", "b", whole=True), shown("a")]
    assert looker.answers() == []


def test_nobody_waits_for_a_look_that_hangs() -> None:
    """A probe can hold a device's lock for minutes."""
    proceed = threading.Event()

    def hang() -> Look:
        proceed.wait(SECONDS)
        return shown(whole=True)

    looker = Looker(whole=hang)
    looker.start()
    looker.ask()

    assert looker.wait(0.01) is None
    assert looker.answers() == []
    assert looker.busy()
    proceed.set()
    assert looker.wait(SECONDS) == shown(whole=True)
    assert not looker.busy()


def test_a_look_that_fails_is_answered() -> None:
    """Nobody waits for ever, and the next look may succeed."""

    def fail() -> Look:
        raise ZeroDivisionError("odd")

    looker = Looker(whole=fail, some=lambda addresses: shown(*addresses))
    looker.start()
    looker.ask()
    (failed,) = until_answered(looker)
    looker.ask(frozenset("a"))

    assert (False, {}) == (failed.whole, failed.devices)
    assert failed.gaps == ("Sysfs could not be read: ZeroDivisionError('odd').",)
    assert until_answered(looker) == [shown("a")]


def test_a_look_shows_what_sysfs_shows(monkeypatch: pytest.MonkeyPatch) -> None:
    """Devices, drivers, the bus and what could not be read."""
    device = machines.device()

    def one(address: str, *, gaps: list[str]) -> PciDevice | None:
        gaps.append(f"{address} is odd.")
        return device if address == device.address else None

    sysfs = looking.sysfs
    monkeypatch.setattr(sysfs, "devices", lambda: ({device.address: device}, ("Gap.",)))
    monkeypatch.setattr(sysfs, "drivers", lambda: {"e1000": "e1000"})
    monkeypatch.setattr(sysfs, "drivers_autoprobe", lambda: False)
    monkeypatch.setattr(sysfs, "device", one)

    everything, some = look(), look_at(sorted((device.address, "gone")))

    assert everything[1:] == (
        *(True, {device.address: device}, {"e1000": "e1000"}),
        *(False, ("Gap.",)),
    )
    assert some.devices == {device.address: device, "gone": None}
    assert some.devices_there() == {device.address: device}
    assert some.gaps == (f"{device.address} is odd.", "gone is odd.")
    assert everything.began_ns <= some.began_ns <= time.monotonic_ns()


def test_only_what_is_asked_for_is_read() -> None:
    """A look at some devices is no look at all of them."""
    asked: list[Iterable[str]] = []

    def some(addresses: Iterable[str]) -> Look:
        asked.append(addresses)
        return shown(*addresses)

    looker = Looker(whole=lambda: pytest.fail("not asked for"), some=some)
    looker.start()
    looker.ask(frozenset({"a"}))
    until_answered(looker)

    assert asked == [frozenset({"a"})]

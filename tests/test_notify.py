"""observer/notify.py: what the service manager hears."""

from __future__ import annotations

import os
import socket
from typing import TYPE_CHECKING

import pytest

import observer.notify
from observer.notify import Notify

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture(params=["path", "abstract"])
def manager(
    request: pytest.FixtureRequest, tmp_path: Path
) -> Iterator[tuple[str, socket.socket]]:
    """Return the name of a manager's socket, and the socket."""
    name = str(tmp_path / "notify")
    if request.param == "abstract":
        name = f"@pci-observer-test-{os.getpid()}"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listener:
        listener.bind(name.replace("@", "\0", 1))
        listener.setblocking(False)
        yield name, listener


def heard(listener: socket.socket) -> list[str]:
    """Return the messages that wait."""
    messages = []
    while True:
        try:
            messages.append(listener.recv(4096).decode())
        except BlockingIOError:
            return messages


def test_a_life(manager: tuple[str, socket.socket]) -> None:
    """Each word as sd_notify(3) spells it."""
    name, listener = manager
    notify = Notify({"NOTIFY_SOCKET": name}, clock=lambda: 5_000_999)
    notify.ready("observing")
    notify.reloading()
    notify.alive()  # nobody waits for that
    notify.stopping()
    notify.close()
    assert [
        "READY=1\nSTATUS=observing",
        "RELOADING=1\nMONOTONIC_USEC=5000",
        "STOPPING=1\nSTATUS=reads what is left, then ends",
    ] == heard(listener)


def test_signs_of_life(manager: tuple[str, socket.socket]) -> None:
    """Four times in the span, however often the loop turns."""
    name, listener = manager
    now = [0]
    environ = {"NOTIFY_SOCKET": name, "WATCHDOG_USEC": "8000000"}
    notify = Notify(environ | {"WATCHDOG_PID": str(os.getpid())}, clock=lambda: now[0])
    for now[0] in range(0, 8_000_000_000, 100_000_000):
        notify.alive()
    notify.close()
    assert ["WATCHDOG=1"] * 4 == heard(listener)


@pytest.mark.parametrize(
    "environ",
    [
        {"WATCHDOG_USEC": "8000000", "WATCHDOG_PID": "1"},
        {"WATCHDOG_USEC": "x"},
        {"WATCHDOG_USEC": "-1"},
        {"WATCHDOG_USEC": "²"},
        {"WATCHDOG_USEC": "0"},
        {},
    ],
)
def test_nobody_waits(
    manager: tuple[str, socket.socket], environ: dict[str, str]
) -> None:
    """A watchdog that is another process's, or none."""
    name, listener = manager
    notify = Notify({"NOTIFY_SOCKET": name} | environ)
    notify.alive()
    notify.close()
    assert [] == heard(listener)


@pytest.mark.parametrize("name", ["", "relative", "/nowhere/notify", "@nobody-there"])
def test_no_manager(name: str) -> None:
    """Whoever is not there hears nothing, and nothing is raised."""
    notify = Notify({"NOTIFY_SOCKET": name})
    notify.ready("")
    notify.close()


def test_a_manager_that_does_not_read(
    manager: tuple[str, socket.socket], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing waits long for it, nor for one that has gone."""
    name, listener = manager
    monkeypatch.setattr(observer.notify, "_PATIENCE_SECONDS", 0.01)
    notify = Notify({"NOTIFY_SOCKET": name})
    for _ in range(500):
        notify.ready("x" * 100)
    listener.close()
    notify.ready("")
    notify.close()

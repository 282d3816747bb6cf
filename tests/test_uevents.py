"""observer/uevents.py: the kernel's messages, parsed and received."""

from __future__ import annotations

import errno
import json
import os
import select
import socket
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from observer.record import Action, Uevent
from observer.uevents import Uevents, parse

if TYPE_CHECKING:
    from collections.abc import Iterator

NIC = "0000:00:09.0"
CAPTURES = sorted(Path(__file__).parent.joinpath("uevents").glob("*.jsonl"))


def message(action: str = "bind", path: str = "/devices/x", **fields: str) -> bytes:
    """Spell a message as the kernel does."""
    fields = {"ACTION": action, "DEVPATH": path} | fields
    variables = [f"{name}={text}" for name, text in fields.items()]
    text = "\0".join([f"{action}@{path}", *variables, ""])
    return text.encode("utf-8", "surrogateescape")


def of_device(action: str = "bind", **fields: str) -> bytes:
    """Spell a message about a PCI device."""
    return message(action, **({"SUBSYSTEM": "pci", "PCI_SLOT_NAME": NIC} | fields))


def of_driver(action: str, path: str) -> bytes:
    """Spell a message about a driver."""
    return message(action, path, SUBSYSTEM="drivers")


def captured(path: Path) -> list[tuple[str, int, bytes]]:
    """Read what was done, the sender and the message, of a capture."""
    lines = map(json.loads, path.read_text().splitlines())
    return [(deed, port, text.encode("latin-1")) for deed, port, text in lines]


@pytest.mark.parametrize("path", CAPTURES, ids=lambda path: path.stem)
def test_captured(path: Path) -> None:
    """What real kernels tell; neither names the driver when it unbinds a device.

    Messages of other subsystems, those that user space asked for, and those that it
    forged, by which nothing came or went, are left out.
    """
    found = [
        (deed, *event[1:])
        for deed, port, data in captured(path)
        if not port and (event := parse(data, 0)) is not None
    ]
    assert [
        ("unbind", Action.UNBIND, NIC, None),
        ("bind", Action.BIND, NIC, "e1000"),
        ("rmmod", Action.UNBIND, NIC, None),
        ("rmmod", Action.REMOVE, None, "e1000"),
        ("modprobe", Action.BIND, NIC, "e1000"),
        ("modprobe", Action.ADD, None, "e1000"),
        ("remove", Action.UNBIND, NIC, None),
        ("remove", Action.REMOVE, NIC, None),
        ("rescan", Action.ADD, NIC, None),
        ("rescan", Action.BIND, NIC, "e1000"),
    ] == found


def test_captures() -> None:
    """There are captures of an old and a new kernel, with all that was done in each."""
    assert ["5.10", "7.3"] == [path.stem for path in CAPTURES]
    for path in CAPTURES:
        deeds = [deed for deed, _port, _data in captured(path)]
        assert {"trigger add", "trigger bind", "trigger driver"} <= set(deeds)
        assert {"forge to all", "forge to one"} <= set(deeds)


def test_time_and_hostile_text() -> None:
    """The time is the receiver's; a driver's name may hold any byte."""
    data = of_device(DRIVER="a=b\udcff\n")
    assert Uevent(7, Action.BIND, NIC, "a=b\udcff\n") == parse(data, 7)


def test_change() -> None:
    """A device that changed is one event; so is told that a VF has its physfn now."""
    assert Uevent(7, Action.CHANGE, NIC, None) == parse(of_device("change"), 7)
    assert None is parse(of_driver("change", "/bus/pci/drivers/e1000"), 7)


def test_domain_of_five_digits() -> None:
    """VMD's domains are longer."""
    event = parse(of_device("add", PCI_SLOT_NAME="10000:e1:00.7"), 0)
    assert event is not None
    assert "10000:e1:00.7" == event.address


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\0",
        b"libudev\0\xfe\xed\xca\xfe" + of_device(),
        of_device()[:-1],
        of_device()[:40],
        of_device() + b"X",
        of_device("online"),
        of_device("bind", SUBSYSTEM="usb"),
        of_device("bind", SYNTH_UUID="0"),
        of_device("bind", PCI_SLOT_NAME=""),
        of_device("bind", PCI_SLOT_NAME=NIC + "\n"),
        of_device("bind", PCI_SLOT_NAME="../" + NIC),
        of_device("bind", PCI_SLOT_NAME="0000:00:09.8"),
        message("bind", SUBSYSTEM="pci"),
        message("bind", PCI_SLOT_NAME=NIC),
        of_device("bind").replace(b"bind@", b"add@"),
        of_device("bind").replace(b"bind@/devices/x", b"bind@/devices/y"),
        of_driver("add", "/bus/pci/drivers/"),
        of_driver("add", "/bus/pci/drivers/a/b"),
        of_driver("add", "/bus/usb/drivers/e1000"),
        of_driver("add", "/bus/pci_express/drivers/pme"),
        of_driver("bind", "/bus/pci/drivers/e1000"),
        message("add", "/bus/pci/drivers/e1000", SUBSYSTEM="module"),
    ],
)
def test_no_event(data: bytes) -> None:
    """What is cut, odd, somebody else's, or did not happen is no event."""
    assert None is parse(data, 0)


@given(st.binary(max_size=200))
def test_any_bytes(data: bytes) -> None:
    """Random bytes are no message."""
    assert None is parse(data, 0)


@given(st.data())
def test_damaged(data: st.DataObject) -> None:
    """A damaged message is an event of the same kind, or none; it never raises."""
    whole = of_device("bind", DRIVER="e1000")
    place = data.draw(st.integers(0, len(whole) - 1))
    byte = data.draw(st.binary(max_size=2))
    event = parse(whole[:place] + byte + whole[place + 1 :], 0)
    assert event is None or Action.BIND is event.action


@pytest.fixture
def uevents() -> Iterator[Uevents]:
    """Listen on this machine."""
    listening = Uevents(clock=lambda: 7)
    yield listening
    listening.close()


def test_quiet(uevents: Uevents) -> None:
    """Where nothing happens there is nothing, at once."""
    assert [] == uevents.read()
    assert 0 == uevents.lost
    assert ([], [], []) == select.select([uevents], [], [], 0)


def test_descriptor(uevents: Uevents) -> None:
    """The socket is not handed on to programs, and closed when it is no longer used."""
    assert not os.get_inheritable(uevents.fileno())
    assert not os.get_blocking(uevents.fileno())
    uevents.close()
    assert -1 == uevents.fileno()


class Scripted:
    """A socket that answers from a list: a message with its sender, or an error."""

    def __init__(self, *answers: tuple[bytes, int, int] | OSError) -> None:
        """Answer in this order."""
        self.answers = list(answers)
        self.sizes: list[int] = []

    def recvmsg(self, size: int) -> tuple[bytes, list[object], int, tuple[int, int]]:
        """Give one answer."""
        if not self.answers:
            raise BlockingIOError
        self.sizes.append(size)
        answer = self.answers.pop(0)
        if isinstance(answer, OSError):
            raise answer
        data, flags, port = answer
        return data, [], flags, (port, 1)


def listening(*answers: tuple[bytes, int, int] | OSError) -> Uevents:
    """Listen to these answers."""
    return Uevents(clock=lambda: 7, listener=Scripted(*answers))  # type: ignore[arg-type]


BIND = of_device("bind", DRIVER="e1000")
BOUND = Uevent(7, Action.BIND, NIC, "e1000")


def test_read() -> None:
    """Messages come in order, with the time at which they were read."""
    heard = listening((BIND, 0, 0), (of_device("unbind"), 0, 0))
    assert [BOUND, Uevent(7, Action.UNBIND, NIC, None)] == heard.read()
    assert [] == heard.read()


def test_only_the_kernel_is_heard() -> None:
    """Any process may send to the socket; its port tells it."""
    assert [BOUND] == listening((BIND, 0, 4711), (BIND, 0, 0)).read()


def test_overrun_is_counted() -> None:
    """The kernel says once that it dropped messages; what remains is read."""
    overrun = OSError(errno.ENOBUFS, os.strerror(errno.ENOBUFS))
    heard = listening((BIND, 0, 0), overrun, (BIND, 0, 0))
    assert [BOUND, BOUND] == heard.read()
    assert 1 == heard.lost


def test_cut_message_is_counted() -> None:
    """A message longer than the buffer is lost."""
    heard = listening((BIND, socket.MSG_TRUNC, 0), (BIND, socket.MSG_TRUNC, 4711))
    assert [] == heard.read()
    assert 1 == heard.lost


def test_other_errors_are_raised() -> None:
    """An error that is no loss is a bug or a broken machine."""
    with pytest.raises(OSError, match="Input/output"):
        listening(OSError(errno.EIO, os.strerror(errno.EIO))).read()


def test_a_storm_is_read_in_batches() -> None:
    """However many messages come, a call of read comes back."""
    heard = listening(*[(BIND, 0, 0)] * 2500)
    assert [1000, 1000, 500, 0] == [len(heard.read()) for _ in range(4)]


def test_a_storm_of_others_is_read_in_batches() -> None:
    """Messages that are no events count as well."""
    heard = listening(*[(b"", 0, 0)] * 1000, (BIND, 0, 0))
    assert [0, 1] == [len(heard.read()) for _ in range(2)]

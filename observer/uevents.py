"""The kernel's messages about PCI devices and drivers: they came, went, were bound."""

from __future__ import annotations

import errno
import re
import socket
from time import monotonic_ns
from typing import TYPE_CHECKING, Final

from observer.record import Action, Uevent

if TYPE_CHECKING:
    from collections.abc import Callable

_NETLINK_KOBJECT_UEVENT: Final = 15
_KERNEL_GROUP: Final = 1  # the kernel's own messages; 2 has those of udev
_KERNEL_PORT: Final = 0
_SO_RCVBUFFORCE: Final = 33  # beyond the system's limit, with CAP_NET_ADMIN
_RECEIVE_BYTES: Final = 16 << 20  # taken only while messages wait
_MESSAGE_BYTES: Final = 1 << 14  # the kernel's are 2 KB, and a path
_BATCH: Final = 1000

_ACTIONS: Final = {action.value: action for action in Action}
_OF_DRIVERS: Final = {Action.ADD, Action.REMOVE}
_ADDRESS: Final = re.compile(r"[0-9a-f]{4,8}:[0-9a-f]{2}:[0-9a-f]{2}\.[0-7]")
_DRIVER_PATH: Final = "/bus/pci/drivers/"


def parse(data: bytes, ktime_ns: int) -> Uevent | None:
    r"""Understand a message such as ``add@PATH\0ACTION=add\0...\0``.

    None: it is about something else than a PCI device or driver, or it is no whole
    message, or nothing happened but user space asked for it, as `udevadm trigger` does.
    No kernel names the driver that a device is unbound from; a driver's own message
    comes after the devices were bound to it.
    """
    head, *variables = data.decode("utf-8", "surrogateescape").split("\0")
    if not variables or variables.pop():  # each ends with a NUL
        return None
    fields = dict(variable.partition("=")[::2] for variable in variables)
    path = fields.get("DEVPATH", "")
    action = _ACTIONS.get(fields.get("ACTION", ""))
    if action is None or head != f"{action}@{path}" or "SYNTH_UUID" in fields:
        return None
    match fields.get("SUBSYSTEM"):
        case "pci":
            return _of_device(ktime_ns, action, fields)
        case "drivers" if path.startswith(_DRIVER_PATH) and action in _OF_DRIVERS:
            name = path.removeprefix(_DRIVER_PATH)
            if name and "/" not in name:
                return Uevent(ktime_ns, action, None, name)
    return None


def _of_device(ktime_ns: int, action: Action, fields: dict[str, str]) -> Uevent | None:
    address = fields.get("PCI_SLOT_NAME", "")
    if not _ADDRESS.fullmatch(address):
        return None
    return Uevent(ktime_ns, action, address, fields.get("DRIVER"))


def _listener() -> socket.socket:
    kind = socket.SOCK_RAW | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC
    listener = socket.socket(socket.AF_NETLINK, kind, _NETLINK_KOBJECT_UEVENT)
    try:
        try:
            listener.setsockopt(socket.SOL_SOCKET, _SO_RCVBUFFORCE, _RECEIVE_BYTES)
        except PermissionError:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _RECEIVE_BYTES)
        listener.bind((0, _KERNEL_GROUP))
    except OSError:
        listener.close()
        raise
    return listener


class Uevents:
    """A socket on which the kernel tells what happens from now on.

    Needs no privilege; with CAP_NET_ADMIN more messages may wait than the system allows
    (net.core.rmem_max). Outside the initial user namespace there are none.
    """

    def __init__(
        self,
        *,
        listener: socket.socket | None = None,
        clock: Callable[[], int] = monotonic_ns,
    ) -> None:
        """Listen; raises OSError where that is not allowed."""
        self._socket = listener or _listener()
        self._clock = clock
        self.lost = 0  # times that messages were lost, which may be many at once

    def fileno(self) -> int:
        """Return the descriptor that is readable when there is something to read."""
        return self._socket.fileno()

    def read(self) -> list[Uevent]:
        """Return what came, oldest first, without waiting; at most one batch."""
        found = []
        for _ in range(_BATCH):
            try:
                data, _ancillary, flags, sender = self._socket.recvmsg(_MESSAGE_BYTES)
            except BlockingIOError:
                break
            except OSError as error:
                if error.errno != errno.ENOBUFS:
                    raise
                self.lost += 1
                continue
            if sender[0] != _KERNEL_PORT:  # any process may send, with its own port
                continue
            if flags & socket.MSG_TRUNC:
                self.lost += 1
                continue
            event = parse(data, self._clock())
            if event is not None:
                found.append(event)
        return found

    def close(self) -> None:
        """Listen no more."""
        self._socket.close()

"""What the service manager is told, as sd_notify(3) has it: started, alive, ending."""

from __future__ import annotations

import os
import socket
from contextlib import suppress
from time import monotonic_ns
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

# What tells of the manager to this process alone.
NAMES: Final = ("NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID")

_PATIENCE_SECONDS: Final = 1.0  # with a manager that does not read
_OFTEN: Final = 4  # times in the span after which the manager takes us for dead


class Notify:
    """The manager's socket, if there is one; whatever goes wrong there ends nothing."""

    def __init__(
        self,
        environ: Mapping[str, str] = os.environ,
        *,
        clock: Callable[[], int] = monotonic_ns,
    ) -> None:
        """Find out who wants to hear, and how often."""
        self._clock = clock
        self._socket = _connected(environ.get(NAMES[0], ""))
        self._pause_ns = _pause_ns(environ)
        self._next_ns = 0

    def ready(self, status: str) -> None:
        """Tell that all is attached and known, or read anew."""
        self._tell("READY=1", f"STATUS={status}")

    def reloading(self) -> None:
        """Tell that the configuration is read anew; `ready` ends that."""
        self._tell("RELOADING=1", f"MONOTONIC_USEC={self._clock() // 1000}")

    def alive(self) -> None:
        """Tell that the main loop turns, if it is time to; only that loop may call."""
        now_ns = self._clock()
        if self._pause_ns and now_ns >= self._next_ns:
            self._next_ns = now_ns + self._pause_ns
            self._tell("WATCHDOG=1")

    def stopping(self) -> None:
        """Tell that this is a wanted end."""
        self._tell("STOPPING=1", "STATUS=reads what is left, then ends")

    def _tell(self, *lines: str) -> None:
        if self._socket is not None:
            with suppress(OSError):
                self._socket.send("\n".join(lines).encode())

    def close(self) -> None:
        """Tell nothing more."""
        if self._socket is not None:
            self._socket.close()


def _connected(name: str) -> socket.socket | None:
    if not name.startswith(("/", "@")):
        return None
    manager = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    manager.settimeout(_PATIENCE_SECONDS)
    try:
        manager.connect(name.replace("@", "\0", 1) if name[0] == "@" else name)
    except OSError:
        manager.close()
        return None
    return manager


def _pause_ns(environ: Mapping[str, str]) -> int:
    """Return the pause between two signs of life; 0: nobody waits for them."""
    span, pid = environ.get(NAMES[1], ""), environ.get(NAMES[2], "")
    if not span.isascii() or not span.isdigit() or pid not in {"", str(os.getpid())}:
        return 0
    return int(span) * 1000 // _OFTEN

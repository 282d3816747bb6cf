"""An HTTP server for a few fixed pages: bounded in time, size and connections.

Whatever clients do, the main loop never waits for one, and a slow one gives way to
the next scrape. One request a connection; nothing is logged.
"""

from __future__ import annotations

import errno
import os
import re
import socket
import threading
from contextlib import suppress
from time import monotonic
from typing import TYPE_CHECKING

from observer.exchange import Route, answer, refuse

if TYPE_CHECKING:
    from collections.abc import Mapping

_ADDRESS = re.compile(r"(?:\[([0-9A-Za-z:.%]+)\]|([0-9A-Za-z.-]*)):([0-9]{1,5})")
_LAST_PORT = 0xFFFF


class ListenError(ValueError):
    """An address that can't be listened on, and why, in one sentence."""


def listen(address: str) -> socket.socket:
    """Bind a listening socket to ``127.0.0.1:9817``, ``[::1]:9817`` or ``:9817``."""
    match = _ADDRESS.fullmatch(address)
    if match is None or int(match[3]) > _LAST_PORT:
        raise ListenError(
            f"{address!r} is no address to listen on: write 127.0.0.1:9817, "
            "[::1]:9817, or :9817 for every interface."
        )
    try:
        return _bind(match[1], match[2], int(match[3]))
    except (OSError, UnicodeError) as error:
        raise ListenError(f"Can't listen on {address}: {_cause(error)}.") from error


def _bind(ipv6: str | None, host: str, port: int) -> socket.socket:
    if ipv6:
        return socket.create_server((ipv6, port), family=socket.AF_INET6)
    if host or not socket.has_dualstack_ipv6():
        return socket.create_server((host, port))
    return socket.create_server(("", port), family=socket.AF_INET6, dualstack_ipv6=True)


def _cause(error: OSError | UnicodeError) -> str:
    if isinstance(error, UnicodeError) or not error.errno or error.errno < 0:
        return "no such host"  # the resolver's error numbers are negative
    if error.errno == errno.EADDRINUSE:
        return "the port is in use; stop its user or choose another one"
    if error.errno == errno.EADDRNOTAVAIL:
        return "this machine has no such address"
    return os.strerror(error.errno).lower()


class Server:
    """Answers on an already bound socket, each connection in a thread of its own.

    At most `connections` are open. When one more comes, the oldest is dropped if it
    took longer than `grace_s`; otherwise the new one is refused.
    """

    def __init__(
        self,
        listener: socket.socket,
        routes: Mapping[str, Route],
        *,
        connections: int = 16,
        timeout_s: float = 5.0,  # of a connection, from accept to close
        grace_s: float = 1.0,
    ) -> None:
        """Take the socket over; no thread runs before `start`."""
        self._listener = listener
        self._routes = routes
        self._connections = connections
        self._timeout_s = timeout_s
        self._grace_s = grace_s
        self._open: dict[socket.socket, float] = {}  # accepted when; oldest first
        self._lock = threading.Lock()  # of _open
        self._stopping = threading.Event()
        self._thread = threading.Thread(
            target=self._accept_all, name="server", daemon=True
        )

    def start(self) -> None:
        """Begin to answer."""
        self._listener.settimeout(None)
        self._thread.start()

    def stop(self) -> None:
        """Accept no more and close the listening socket."""
        self._stopping.set()
        with suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)  # wakes accept
        if self._thread.ident is not None:
            self._thread.join()
        self._listener.close()

    def _accept_all(self) -> None:
        while not self._stopping.is_set():
            try:
                connection, _address = self._listener.accept()
            except OSError:  # out of descriptors; or stopping
                self._stopping.wait(0.1)
                continue
            if not (self._admit(connection) and self._started(connection)):
                refuse(connection)

    def _admit(self, connection: socket.socket) -> bool:
        now = monotonic()
        with self._lock:
            if len(self._open) >= self._connections:
                oldest, accepted = next(iter(self._open.items()))
                if now - accepted < self._grace_s:
                    return False
                del self._open[oldest]
                with suppress(OSError):
                    oldest.shutdown(socket.SHUT_RDWR)  # its thread closes it
            self._open[connection] = now
        return True

    def _started(self, connection: socket.socket) -> bool:
        serve = threading.Thread(target=self._serve, args=(connection,), daemon=True)
        try:
            serve.start()
        except RuntimeError:  # no more threads
            self._forget(connection)
            return False
        return True

    def _serve(self, connection: socket.socket) -> None:
        try:
            answer(connection, self._routes, monotonic() + self._timeout_s)
        except OSError:  # the client left, was too slow or was dropped
            pass
        finally:
            self._forget(connection)
            connection.close()

    def _forget(self, connection: socket.socket) -> None:
        with self._lock:
            self._open.pop(connection, None)

"""An HTTP server for a few fixed pages: bounded in time, size and connections.

Whatever clients do, the main loop never waits for one, and a slow one gives way to
the next scrape. One request a connection; nothing is logged.
"""

from __future__ import annotations

import os
import select
import socket
import threading
from contextlib import suppress
from enum import IntEnum
from http import HTTPStatus
from time import monotonic
from typing import TYPE_CHECKING, Final

from observer import exchange
from observer.exchange import Open, limit

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from observer.exchange import Encryption, Route, Rules

_OPEN: Final = 4  # as many are open as are answered, times this
_ENDING_SECONDS: Final = 0.1  # that a connection waits for dropped ones to end


class _Stage(IntEnum):
    """How far a connection is; the order in which they give way."""

    ANSWERED = 0  # only the client's end is waited for
    QUIET = 1  # the client sent nothing yet
    ASKING = 2  # not all of the request is there
    GREETED = 3  # nor then, but TLS is spoken
    ASKED = 4


class _Client:
    """A connection, as the thread that accepts and the one that answers see it."""

    __slots__ = ("accepted", "connection", "dropped", "stage")

    def __init__(self, connection: socket.socket) -> None:
        self.connection = connection
        self.accepted = monotonic()
        self.stage = _Stage.QUIET
        self.dropped = False


class Server:
    """Answers on an already bound socket, each connection in a thread of its own.

    `connections` are answered at once, and as many again and again are open. When one
    more comes, one gives way that waits for its client: the oldest of those that the
    least has come from. Of those being answered the oldest does so after `grace_s`;
    until then the new one is refused.
    """

    def __init__(
        self,
        listener: socket.socket,
        routes: Mapping[str, Route],
        *,
        rules: Callable[[], Rules] = Open,
        connections: int = 16,
        timeout_s: float = 5.0,  # of a connection, from accept to close
        grace_s: float = 1.0,
    ) -> None:
        """Take the socket over; no thread runs before `start`.

        `rules` is called for each connection, in its thread.
        """
        self._listener = listener
        self._routes = routes
        self._rules = rules
        self._connections = connections
        self._timeout_s = timeout_s
        self._grace_s = grace_s
        self._open: dict[_Client, None] = {}  # oldest first
        self._lock = threading.Lock()  # of _open, and of what is in it
        # Dropped ones take a moment to end.
        self._threads = threading.Semaphore(2 * _OPEN * connections)
        self._stopping = threading.Event()
        self._thread = threading.Thread(
            target=self._accept_all, name="server", daemon=True
        )

    def start(self) -> None:
        """Begin to answer."""
        self._encrypted = self._rules().encryption is not None
        self._listener.setblocking(False)
        self._wake = os.eventfd(0, os.EFD_CLOEXEC)
        self._thread.start()

    def stop(self) -> None:
        """Accept no more and close the listening socket.

        Others may listen on it as well, as systemd does: it is not shut down.
        """
        self._stopping.set()
        if self._thread.ident is not None:
            os.eventfd_write(self._wake, 1)
            self._thread.join()
            os.close(self._wake)
        self._listener.close()

    def _accept_all(self) -> None:
        poll = select.poll()
        poll.register(self._listener, select.POLLIN)
        poll.register(self._wake, select.POLLIN)
        while not self._stopping.is_set():
            poll.poll()
            try:
                connection, _address = self._listener.accept()
            except BlockingIOError:  # it left, or this is the end
                continue
            except OSError:  # out of descriptors
                self._stopping.wait(0.1)
                continue
            connection.setblocking(True)
            client = _Client(connection)
            if not (self._admit(client) and self._started(client)):
                self._refuse(connection)

    def _refuse(self, connection: socket.socket) -> None:
        if self._encrypted:
            connection.close()
        else:
            exchange.refuse(connection)

    def _admit(self, client: _Client) -> bool:
        with self._lock:
            if len(self._open) >= _OPEN * self._connections:
                oldest = min(self._open, key=lambda each: each.stage)  # first of these
                if oldest.stage is _Stage.ASKED:
                    return False
                self._drop(oldest)
            self._open[client] = None
        return True

    def _admit_request(self, client: _Client) -> bool:
        with self._lock:
            asked = [each for each in self._open if each.stage is _Stage.ASKED]
            if len(asked) >= self._connections:
                if monotonic() - asked[0].accepted < self._grace_s:
                    return False
                self._drop(asked[0])
            client.stage = _Stage.ASKED
        return True

    def _drop(self, client: _Client) -> None:
        """Make the connection end; its thread closes it."""
        del self._open[client]
        client.dropped = True
        with suppress(OSError):
            # Not by TLS, which another thread is in.
            socket.socket.shutdown(client.connection, socket.SHUT_RDWR)

    def _started(self, client: _Client) -> bool:
        if self._threads.acquire(timeout=_ENDING_SECONDS):
            serve = threading.Thread(target=self._serve, args=(client,), daemon=True)
            try:
                serve.start()
            except RuntimeError:  # no more threads
                self._threads.release()
            else:
                return True
        self._forget(client)
        return False

    def _serve(self, client: _Client) -> None:
        try:
            self._converse(client, monotonic() + self._timeout_s)
        except OSError:  # the client left, was too slow or was dropped
            pass
        finally:
            self._forget(client)
            client.connection.close()
            self._threads.release()

    def _converse(self, client: _Client, deadline: float) -> None:
        limit(client.connection, deadline)
        if not client.connection.recv(1, socket.MSG_PEEK):
            return
        client.stage = _Stage.ASKING
        rules = self._rules()
        self._encrypted = rules.encryption is not None
        if rules.encryption is not None:
            self._encrypt(client, rules.encryption, deadline)
        request = exchange.read(client.connection, deadline)
        if not self._admit_request(client):
            request = HTTPStatus.SERVICE_UNAVAILABLE
        exchange.write(client.connection, request, self._routes, rules, deadline)
        client.stage = _Stage.ANSWERED
        if rules.encryption is not None:
            rules.encryption.take_leave(client.connection)
        exchange.drain(client.connection, deadline)

    def _encrypt(
        self, client: _Client, encryption: Encryption, deadline: float
    ) -> None:
        with self._lock:  # for the old object has no connection any more
            if client.dropped:
                raise ConnectionAbortedError
            client.connection = encryption.wrapped(client.connection)
        limit(client.connection, deadline)
        try:
            encryption.greet(client.connection)
            client.stage = _Stage.GREETED
        except OSError:
            client.stage = _Stage.ANSWERED  # by an alert that says why
            exchange.drain(client.connection, deadline)
            raise

    def _forget(self, client: _Client) -> None:
        with self._lock:
            self._open.pop(client, None)

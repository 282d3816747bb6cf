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
from enum import Enum, auto
from http import HTTPStatus
from time import monotonic
from typing import TYPE_CHECKING, Final

from observer import exchange
from observer.exchange import Open, limit

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from observer.exchange import Encryption, Route, Rules

_OPEN: Final = 8  # as many have a thread as are answered, times this
_QUIET: Final = 256  # connections on which nothing was said yet
_CHANCE_SECONDS: Final = 0.07  # that each gets for its request, however many come
_ENDING_SECONDS: Final = 0.1  # that a connection waits for dropped ones to end
_ROOM_SECONDS: Final = _CHANCE_SECONDS / 8  # from one look for room to the next
_ACCEPTED: Final = 32  # connections from one look to the next


class _Stage(Enum):
    """How far a connection is."""

    ASKING = auto()  # not all of the request is there
    ASKED = auto()
    ANSWERED = auto()  # only the client's end is waited for


class _Client:
    """A connection, as the thread that accepts and the one that answers see it."""

    __slots__ = ("accepted", "begun", "connection", "dropped", "stage")

    def __init__(self, connection: socket.socket) -> None:
        self.connection = connection
        self.accepted = self.begun = monotonic()
        self.stage = _Stage.ASKING
        self.dropped = False


class Server:
    """Answers on an already bound socket, each connection in a thread of its own.

    It has one once its client says something. There is room for a few hundred clients
    that say nothing, for eight times `connections` that say something, and for
    `connections` that asked. Where it is full, the oldest gives way: of those that say
    something first who was answered, and of those that asked only who did so more than
    `grace_s` ago; until then the new one waits for a quarter of that, and is refused.
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
        self._quiet: dict[int, _Client] = {}  # by descriptor, oldest first
        self._poll = select.poll()
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
        self._poll.register(self._listener, select.POLLIN)
        self._poll.register(self._wake, select.POLLIN)
        while not self._stopping.is_set():
            for descriptor, _event in self._poll.poll(self._patience_ms()):
                if descriptor in self._quiet:
                    self._begin(self._leave(descriptor))
                elif descriptor != self._wake:
                    self._accept_some()
            self._end_old()
        while self._quiet:
            self._leave(next(iter(self._quiet))).connection.close()

    def _patience_ms(self) -> int | None:
        """Return how long the oldest quiet connection may still say nothing."""
        for client in self._quiet.values():
            left = client.accepted + self._timeout_s - monotonic()
            return max(0, int(left * 1000) + 1)
        return None

    def _end_old(self) -> None:
        too_old = monotonic() - self._timeout_s
        while self._quiet:
            descriptor, client = next(iter(self._quiet.items()))
            if client.accepted > too_old:
                break
            self._leave(descriptor).connection.close()

    def _accept_some(self) -> None:
        for _ in range(_ACCEPTED):
            full = len(self._quiet) >= _QUIET
            if full and not self._oldest_had_its_chance():
                self._stopping.wait(_ROOM_SECONDS)
                return
            try:
                connection, _address = self._listener.accept()
            except BlockingIOError:
                return
            except OSError:  # out of descriptors
                self._stopping.wait(0.1)
                return
            if full:  # not before it is sure that one more is there
                self._leave(next(iter(self._quiet))).connection.close()
            connection.setblocking(True)
            self._quiet[connection.fileno()] = _Client(connection)
            self._poll.register(connection, select.POLLIN)

    def _oldest_had_its_chance(self) -> bool:
        oldest = next(iter(self._quiet.values()))
        return monotonic() - oldest.accepted >= _CHANCE_SECONDS

    def _leave(self, descriptor: int) -> _Client:
        """Take a connection from the quiet ones."""
        self._poll.unregister(descriptor)
        return self._quiet.pop(descriptor)

    def _begin(self, client: _Client) -> None:
        """Start a thread for a connection, on which there is something to read."""
        while not self._admitted(client):
            self._stopping.wait(_ROOM_SECONDS)
        if not self._started(client):
            self._forget(client)
            self._refuse(client.connection)

    def _refuse(self, connection: socket.socket) -> None:
        if self._encrypted:
            connection.close()
        else:
            exchange.refuse(connection)

    def _admitted(self, client: _Client) -> bool:
        """Make room for it, unless that takes a moment."""
        with self._lock:
            if len(self._open) >= _OPEN * self._connections:
                oldest = min(self._open, key=_worth)
                asking = oldest.stage is _Stage.ASKING
                if asking and monotonic() - oldest.begun < _CHANCE_SECONDS:
                    return False
                self._drop(oldest)
            client.begun = monotonic()
            self._open[client] = None
        return True

    def _admitted_request(self, client: _Client) -> bool:
        """Find room among those that asked; most leave theirs within milliseconds."""
        until = monotonic() + self._grace_s / 4
        while not self._admit_request(client):
            if monotonic() > until:
                return False
            self._stopping.wait(_ROOM_SECONDS)
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
        if not self._threads.acquire(timeout=_ENDING_SECONDS):
            return False
        serve = threading.Thread(target=self._serve, args=(client,), daemon=True)
        try:
            serve.start()
        except RuntimeError:  # no more threads
            self._threads.release()
            return False
        return True

    def _serve(self, client: _Client) -> None:
        try:
            self._converse(client, client.accepted + self._timeout_s)
        except OSError:  # the client left, was too slow or was dropped
            pass
        finally:
            self._forget(client)
            client.connection.close()
            self._threads.release()

    def _converse(self, client: _Client, deadline: float) -> None:
        rules = self._rules()
        self._encrypted = rules.encryption is not None
        if rules.encryption is not None:
            self._encrypt(client, rules.encryption, deadline)
        request = exchange.read(client.connection, deadline)
        if not self._admitted_request(client):
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
        except OSError:
            client.stage = _Stage.ANSWERED  # by an alert that says why
            exchange.drain(client.connection, deadline)
            raise

    def _forget(self, client: _Client) -> None:
        with self._lock:
            self._open.pop(client, None)


def _worth(client: _Client) -> int:
    """Return who gives way first, the least worth."""
    return (_Stage.ANSWERED, _Stage.ASKING, _Stage.ASKED).index(client.stage)

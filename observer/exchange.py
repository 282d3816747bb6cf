"""One HTTP request and its answer on a connection, bounded in time and size.

The little of HTTP/1.1 that scrapes and health checks need: GET and HEAD, one request
a connection, no request body.
"""

from __future__ import annotations

import re
import socket
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from email.utils import formatdate
from http import HTTPStatus
from time import monotonic
from types import MappingProxyType
from typing import NamedTuple, Protocol

HEAD_BYTES = 16 << 10  # of request line and headers
TEXT = "text/plain; charset=utf-8"

# A page runs nothing, loads nothing, sends nothing and is no part of another one.
_POLICY = (
    "default-src 'none'; style-src 'unsafe-inline'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
_END_OF_HEAD = re.compile(rb"\r?\n\r?\n")
# What is asked for may be a whole URL, as of a proxy; a server must know that.
_REQUEST_LINE = re.compile(
    r"([A-Z]{1,20}) (?:https?://[^/? ]+)?(/[^ ?]*)(?:\?[^ ]*)? HTTP/1\.[0-9]"
)


class Response(NamedTuple):
    """What is sent to the client, except for headers that never differ."""

    status: HTTPStatus
    content_type: str
    body: bytes
    headers: tuple[tuple[str, str], ...] = ()


class Credentials(str):
    """What no log line or traceback shows."""

    __slots__ = ()

    def __repr__(self) -> str:
        return "<secret>"


class Request(NamedTuple):
    """What a client asks for."""

    method: str
    path: str
    accept: str  # printable
    authorization: Credentials  # empty as well when there is more than one


Route = Callable[[str], Response]  # takes the Accept header


class Encryption(Protocol):
    """How connections are encrypted; all of it raises OSError where it fails."""

    def wrapped(self, connection: socket.socket) -> socket.socket:
        """Return the connection as one that is to be encrypted."""

    def greet(self, connection: socket.socket) -> None:
        """Agree with the client on a key, and see who it is."""

    def take_leave(self, connection: socket.socket) -> None:
        """Tell the client that no more comes, without waiting for it."""


class Rules(Protocol):
    """Who may ask, and how; the same for a connection from beginning to end."""

    @property
    def encryption(self) -> Encryption | None:
        """Return how the connection is encrypted."""

    @property
    def headers(self) -> Mapping[str, str]:
        """Return headers of all answers."""

    def refusal(
        self, authorization: str, source: str, deadline: float
    ) -> Response | None:
        """Return what who has no right to be answered is told instead."""


class Open(NamedTuple):
    """No rules: everybody is answered."""

    encryption: None = None
    headers: Mapping[str, str] = MappingProxyType({})

    def refusal(self, *_: object) -> None:
        """Refuse nobody."""


def read(connection: socket.socket, deadline: float) -> Request | HTTPStatus:
    """Read a request without its body; a status says what is wrong with it.

    All of it comes before the deadline (monotonic). Raises OSError when the client
    left or was too slow.
    """
    head = bytearray()
    searched = 0
    while (end := _END_OF_HEAD.search(head, searched)) is None:
        if len(head) > HEAD_BYTES:
            return HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE
        searched = max(0, len(head) - 3)
        limit(connection, deadline)
        chunk = connection.recv(4096)
        if not chunk:
            raise ConnectionResetError
        head += chunk
    return _parse(head[: end.start()].decode("latin-1"))


def write(
    connection: socket.socket,
    request: Request | HTTPStatus,
    routes: Mapping[str, Route],
    rules: Rules,
    deadline: float,
) -> None:
    """Send the answer before the deadline. Raises OSError when that can't be."""
    response = _response(request, routes, rules, _source(connection), deadline)
    body = response.body
    if isinstance(request, Request) and request.method == "HEAD":
        body = b""
    rest = memoryview(_head(response, rules.headers) + body)
    while rest:  # sendall of TLS would take the time anew for each record
        limit(connection, deadline)
        rest = rest[connection.send(rest) :]


def drain(connection: socket.socket, deadline: float) -> None:
    """Wait for the client to close: a close before that could destroy the answer.

    What comes is not looked at, nor decrypted.
    """
    socket.socket.shutdown(connection, socket.SHUT_WR)
    limit(connection, deadline)
    while socket.socket.recv(connection, 4096):
        limit(connection, deadline)


def refuse(connection: socket.socket) -> None:
    """Close a connection for which there is no room, at once."""
    response = plain(HTTPStatus.SERVICE_UNAVAILABLE)
    with connection, suppress(OSError):
        connection.setblocking(False)
        connection.send(_head(response, {}) + response.body)


def limit(connection: socket.socket, deadline: float) -> None:
    """Let the next call on the connection take no longer than the deadline."""
    left = deadline - monotonic()
    if left <= 0:
        raise TimeoutError
    connection.settimeout(left)


def plain(status: HTTPStatus, *headers: tuple[str, str]) -> Response:
    """Return an answer that has only its status to tell."""
    return Response(status, TEXT, f"{status.phrase}\n".encode("ascii"), headers)


def _source(connection: socket.socket) -> str:
    """Return the address of the client, empty on a unix socket."""
    peer = connection.getpeername()
    return str(peer[0]) if isinstance(peer, tuple) else ""


def _response(
    request: Request | HTTPStatus,
    routes: Mapping[str, Route],
    rules: Rules,
    source: str,
    deadline: float,
) -> Response:
    if isinstance(request, HTTPStatus):
        return plain(request)
    refusal = rules.refusal(request.authorization, source, deadline)
    if refusal is not None:
        return refusal
    if request.method not in ("GET", "HEAD"):
        return plain(HTTPStatus.METHOD_NOT_ALLOWED, ("Allow", "GET, HEAD"))
    route = routes.get(request.path)
    return route(request.accept) if route else plain(HTTPStatus.NOT_FOUND)


def _head(response: Response, more: Mapping[str, str]) -> bytes:
    headers = {
        "Date": formatdate(usegmt=True),
        "Content-Type": response.content_type,
        "Content-Length": str(len(response.body)),
        "Connection": "close",
        "Cache-Control": "no-store",
        "X-Content-Type-Options": "nosniff",
        "Content-Security-Policy": _POLICY,
        "Referrer-Policy": "no-referrer",
        **dict(response.headers),
        **more,
    }
    lines = [
        f"HTTP/1.1 {response.status} {response.status.phrase}",
        *(f"{name}: {value}" for name, value in headers.items()),
    ]
    return "\r\n".join([*lines, "", ""]).encode("latin-1")


def _parse(head: str) -> Request | HTTPStatus:
    request_line, *headers = (line.rstrip("\r") for line in head.split("\n"))
    match = _REQUEST_LINE.fullmatch(request_line)
    if match is None:
        return HTTPStatus.BAD_REQUEST
    fields = [header.partition(":") for header in headers]
    accept = ", ".join(_values(fields, "accept"))
    authorization = _values(fields, "authorization")
    return Request(
        match[1],
        match[2],
        accept if accept.isprintable() else "",
        Credentials(authorization[0] if len(authorization) == 1 else ""),
    )


def _values(fields: Iterable[tuple[str, str, str]], wanted: str) -> list[str]:
    return [value.strip() for name, _, value in fields if name.lower() == wanted]

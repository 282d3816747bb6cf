"""One HTTP request and its answer on a connection, bounded in time and size.

The little of HTTP/1.1 that scrapes and health checks need: GET and HEAD, one request
a connection, no request body.
"""

from __future__ import annotations

import re
import socket
from collections.abc import Callable, Mapping
from contextlib import suppress
from email.utils import formatdate
from http import HTTPStatus
from time import monotonic
from typing import NamedTuple

HEAD_BYTES = 16 << 10  # of request line and headers
TEXT = "text/plain; charset=utf-8"

# A page runs nothing, loads nothing, sends nothing and is no part of another one.
_POLICY = (
    "Content-Security-Policy: default-src 'none'; style-src 'unsafe-inline'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
_END_OF_HEAD = re.compile(rb"\r?\n\r?\n")
_REQUEST_LINE = re.compile(r"([A-Z]+) (/[^ ?]*)(?:\?[^ ]*)? HTTP/1\.[0-9]")


class Response(NamedTuple):
    """What is sent to the client, except for headers that never differ."""

    status: HTTPStatus
    content_type: str
    body: bytes


class _Request(NamedTuple):
    method: str
    path: str
    accept: str  # printable


Route = Callable[[str], Response]  # takes the Accept header


def answer(
    connection: socket.socket, routes: Mapping[str, Route], deadline: float
) -> None:
    """Read one request and send its answer, all before the deadline (monotonic).

    Raises OSError when the client left or was too slow.
    """
    request = _read(connection, deadline)
    response = _response(request, routes)
    body = response.body
    if isinstance(request, _Request) and request.method == "HEAD":
        body = b""
    _limit(connection, deadline)
    connection.sendall(_head(response) + body)
    _drain(connection, deadline)


def refuse(connection: socket.socket) -> None:
    """Close a connection for which there is no room, at once."""
    response = _plain(HTTPStatus.SERVICE_UNAVAILABLE)
    with connection, suppress(OSError):
        connection.setblocking(False)
        connection.send(_head(response) + response.body)


def _response(request: _Request | HTTPStatus, routes: Mapping[str, Route]) -> Response:
    if isinstance(request, HTTPStatus):
        return _plain(request)
    if request.method not in ("GET", "HEAD"):
        return _plain(HTTPStatus.METHOD_NOT_ALLOWED)
    route = routes.get(request.path)
    return route(request.accept) if route else _plain(HTTPStatus.NOT_FOUND)


def _plain(status: HTTPStatus) -> Response:
    return Response(status, TEXT, f"{status.phrase}\n".encode("ascii"))


def _head(response: Response) -> bytes:
    lines = [
        f"HTTP/1.1 {response.status} {response.status.phrase}",
        f"Date: {formatdate(usegmt=True)}",
        f"Content-Type: {response.content_type}",
        f"Content-Length: {len(response.body)}",
        "Connection: close",
        "Cache-Control: no-store",
        "X-Content-Type-Options: nosniff",
        _POLICY,
        "Referrer-Policy: no-referrer",
    ]
    if response.status is HTTPStatus.METHOD_NOT_ALLOWED:
        lines.append("Allow: GET, HEAD")
    return "\r\n".join([*lines, "", ""]).encode("latin-1")


def _limit(connection: socket.socket, deadline: float) -> None:
    """Let the next call on the connection take no longer than the deadline."""
    left = deadline - monotonic()
    if left <= 0:
        raise TimeoutError
    connection.settimeout(left)


def _read(connection: socket.socket, deadline: float) -> _Request | HTTPStatus:
    """Read a request without its body; a status says what is wrong with it."""
    head = b""
    while (end := _END_OF_HEAD.search(head)) is None:
        if len(head) > HEAD_BYTES:
            return HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE
        _limit(connection, deadline)
        chunk = connection.recv(4096)
        if not chunk:
            raise ConnectionResetError
        head += chunk
    return _parse(head[: end.start()].decode("latin-1"))


def _parse(head: str) -> _Request | HTTPStatus:
    request_line, *headers = (line.rstrip("\r") for line in head.split("\n"))
    match = _REQUEST_LINE.fullmatch(request_line)
    if match is None:
        return HTTPStatus.BAD_REQUEST
    fields = (header.partition(":") for header in headers)
    accept = ", ".join(
        value.strip() for name, _, value in fields if name.lower() == "accept"
    )
    return _Request(match[1], match[2], accept if accept.isprintable() else "")


def _drain(connection: socket.socket, deadline: float) -> None:
    """Wait for the client to close: a close before that could destroy the answer."""
    connection.shutdown(socket.SHUT_WR)
    _limit(connection, deadline)
    while connection.recv(4096):
        _limit(connection, deadline)

"""A request of the HTTP server, on a connection, in pieces of a size."""

from __future__ import annotations

import socket
from time import monotonic
from typing import TYPE_CHECKING

from fuzz import http_answer
from fuzz.target import Target
from observer import exchange
from observer.access import AccessRules
from observer.books import Books
from observer.exchange import HEAD_BYTES, Request
from observer.metrics import About, Metrics, State
from observer.pages import routes
from observer.passwords import Passwords
from observer.ring import Counters

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from http import HTTPStatus

    from prometheus_client import Metric

HASH = b"$2b$04$abcdefghijklmnopqrstuuFbExfY3TnKZqNk6OvXTb5TMJsIwHMPi"  # of "secret"
SECONDS = 5.0
PIECES = 64  # that wait in a socket at most
RECEIVED = 4096  # by the server at once


class Few(Metrics):
    """The metrics, of which there are none: what is asked for is chosen as always."""

    def collect(self) -> Iterator[Metric]:
        """Collect nothing."""
        return iter(())


METRICS = Few(
    Books(),
    lambda: State(Counters(), 0, 0, {}, {}),
    About("0", "6.1", "linux-5.15", "A", 0),
)
PAGES = routes(
    landing=lambda: b"<html></html>",
    metrics=lambda accept: METRICS.render(accept, process=False),
    ready=lambda: True,
)
RULES = (
    exchange.Open(),
    AccessRules(None, Passwords({"prometheus": HASH}), {}),
)


def run(data: bytes) -> None:
    """Ask at once and in pieces: the server understands the same."""
    if len(data) < 2:
        return
    rules, size, sent = RULES[data[0] & 1], data[1] + 1, data[2:]
    size = min(max(size, len(sent) // PIECES + 1), RECEIVED)
    whole = asked(socket.SOCK_STREAM, [sent])
    if len(sent) <= HEAD_BYTES:
        pieces = [sent[at : at + size] for at in range(0, len(sent), size)]
        assert asked(socket.SOCK_SEQPACKET, pieces) == whole
    if whole is not None:
        answer(whole, rules)


def asked(kind: socket.SocketKind, pieces: list[bytes]) -> Request | HTTPStatus | None:
    """Return what the server reads; None: the client left too early."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, kind)
    with ours, theirs:
        ours.settimeout(0)
        for piece in pieces:
            ours.send(piece)
        ours.shutdown(socket.SHUT_WR)
        try:
            return exchange.read(theirs, monotonic() + SECONDS)
        except ConnectionResetError:
            return None


def answer(request: Request | HTTPStatus, rules: exchange.Rules) -> None:
    """Have it answered."""
    ours, theirs = socket.socketpair()
    with ours, theirs:
        ours.shutdown(socket.SHUT_WR)
        deadline = monotonic() + SECONDS
        exchange.write(theirs, request, PAGES, rules, deadline)
        exchange.drain(theirs, deadline)
        said = b""
        while chunk := ours.recv(1 << 16):
            said += chunk
    http_answer.check(said)


def seeds() -> Iterable[bytes]:
    """Yield what Prometheus and others ask, and what nobody should."""
    texts = (
        "GET / HTTP/1.1\r\nHost: a\r\n\r\n",
        "HEAD /-/ready HTTP/1.0\n\n",
        "POST /metrics HTTP/1.1\r\nContent-Length: 1\r\n\r\nx",
        (
            "GET http://a:1/metrics?a=b HTTP/1.1\r\n"
            "Accept: application/openmetrics-text;version=1.0.0;"
            "escaping=allow-utf-8;q=0.6,text/plain;version=0.0.4;q=0.5,*/*;q=0.1\r\n"
            "Accept-Encoding: gzip\r\nUser-Agent: Prometheus/3.5.0\r\n\r\n"
        ),
        (
            "GET /metrics HTTP/1.1\r\n"
            "authorization: Basic cHJvbWV0aGV1czpzZWNyZXQ=\r\n\r\n"
        ),
        "GET /../metrics HTTP/1.1\r\nAuthorization: Bearer a\r\nA: b\r\n c\r\n\r\n",
        "GET /-/healthy HTTP/1.1\r\n" + "X: y\r\n" * 20 + "\r\n",
    )
    for place, text in enumerate(texts):
        yield bytes((place, 10 * place)) + text.encode()
    yield b"\0\xffGET / HTTP/1.1\r\nX: " + b"y" * HEAD_BYTES + b"\r\n\r\n"


TARGET = Target(
    run,
    (),
    seeds,
    share=2,
    max_bytes=HEAD_BYTES + 1024,
    words=(
        *("GET ", "HEAD ", " HTTP/1.1\r\n", "\r\n\r\n", "\n\n", "/metrics", "/-/ready"),
        *("Accept: ", "Authorization: Basic ", "cHJvbWV0aGV1czpzZWNyZXQ=", "http://"),
        *(
            "application/openmetrics-text",
            "version=",
            "escaping=",
            "q=0.5",
            "text/plain",
        ),
    ),
)

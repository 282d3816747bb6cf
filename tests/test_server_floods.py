"""The whole server as a process, while clients do their worst: scrapes go on.

On a port, on a port with TLS and a password, and on a unix socket.
"""

from __future__ import annotations

import base64
import contextlib
import socket
import ssl
import threading
from collections import Counter
from contextlib import ExitStack, contextmanager
from time import monotonic
from typing import TYPE_CHECKING, Final, NamedTuple

import bcrypt
import pytest
from certificates import authority, certificate
from serving import METRICS, Process, process

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

PATIENCE_S: Final = 20.0  # of a test; reached only when it fails
SCRAPE_S: Final = 1.0
LATE_S: Final = 2.0  # one may be late, for this machine may be busy with others
AUTHORIZATION: Final = b"Authorization: Basic " + base64.b64encode(b"operator:right")
CONNECTIONS: Final = 256 + 2 * 128  # that the server has open at most
GROWN: Final = 16 << 20  # bytes that the server may need for all of that
OPEN_FILES: Final = CONNECTIONS + 16


class Target(NamedTuple):
    """The server, and how it is spoken with."""

    server: Process
    tls: ssl.SSLContext | None

    def connected(self) -> socket.socket:
        """Return a connection on which nothing was said yet."""
        unix = isinstance(self.server.address, str)
        made = socket.socket(socket.AF_UNIX if unix else socket.AF_INET)
        try:
            made.settimeout(PATIENCE_S)
            made.connect(self.server.address)
        except OSError:
            made.close()
            raise
        return made

    def greeted(self) -> socket.socket:
        """Return one on which HTTP can be spoken."""
        made = self.connected()
        if self.tls is None:
            return made
        try:
            return self.tls.wrap_socket(made, server_hostname="127.0.0.1")
        except OSError:
            made.close()
            raise

    def ask(self, request: bytes) -> bytes:
        """Return all that is answered."""
        with self.greeted() as connection:
            answer = b""
            with contextlib.suppress(ConnectionError, ssl.SSLEOFError):
                connection.sendall(request)
            with contextlib.suppress(ConnectionError, ssl.SSLEOFError):
                while chunk := connection.recv(65536):
                    answer += chunk
            return answer

    def head(self, request_line: bytes) -> bytes:
        """Return the beginning of a request, whose end is missing."""
        return request_line + b"\r\n" + AUTHORIZATION + b"\r\n"

    def status(self, request_line: bytes) -> int:
        """Return the status of an answer, 0 for none."""
        answer = self.ask(self.head(request_line) + b"\r\n")
        return int(answer.split(b" ")[1]) if answer else 0


@pytest.fixture(scope="module", params=["port", "TLS", "unix"])
def target(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Target]:
    """Return the server on each of what it listens on."""
    directory: Path = tmp_path_factory.mktemp("floods")
    if request.param == "unix":
        with process(f"unix:{directory / 's'}") as server:
            yield Target(server, None)
    elif request.param == "port":
        with process("127.0.0.1:0") as server:
            yield Target(server, None)
    else:
        ca = authority(directory, "ca")
        certificate(directory, "server", "IP:127.0.0.1", by=ca)
        hashed = bcrypt.hashpw(b"right", bcrypt.gensalt(10)).decode()
        path = directory / "web.yml"
        path.write_text(
            f"tls_server_config: {{cert_file: server.crt, key_file: server.key}}\n"
            f"basic_auth_users: {{operator: {hashed}}}\n"
        )
        with process("127.0.0.1:0", path) as server:
            yield Target(server, ssl.create_default_context(cafile=ca))


@contextmanager
def scraped(target: Target) -> Iterator[None]:
    """Scrape all the time meanwhile: each is answered whole and within a second.

    And the server needs little more than before.
    """
    assert 200 == target.status(b"GET /metrics HTTP/1.1")  # with its first bcrypt
    before = target.server.resident_bytes()
    stop = threading.Event()
    outcomes: Counter[str] = Counter()
    seconds: list[float] = []
    most = Counter({"bytes": 0.0, "files": 0.0})

    def scrape() -> str:
        try:
            answer = target.ask(target.head(b"GET /metrics HTTP/1.1") + b"\r\n")
        except OSError as e:
            return repr(e)
        return "whole" if answer.endswith(METRICS) else answer[:40].decode() or "none"

    def scrape_on() -> None:
        while not stop.is_set() or not outcomes:
            started = monotonic()
            outcomes[scrape()] += 1
            seconds.append(monotonic() - started)
            most["bytes"] = max(most["bytes"], target.server.resident_bytes() - before)
            most["files"] = max(most["files"], target.server.descriptors())
            stop.wait(0.02)

    scraping = threading.Thread(target=scrape_on)
    scraping.start()
    try:
        yield
    finally:
        stop.set()
        scraping.join()
    *others, slowest = sorted(seconds)
    print(dict(outcomes), dict(most), others[-1:], slowest)
    assert ["whole"] == [*outcomes]
    assert max(others, default=0) < SCRAPE_S
    assert slowest < LATE_S
    assert most["bytes"] < GROWN
    assert most["files"] <= OPEN_FILES


@pytest.mark.parametrize("said", [b"", b"GET /metrics", b"\x16\x03\x01"])
def test_a_thousand_connections_at_once(target: Target, said: bytes) -> None:
    """That say nothing, or a part of a request or of TLS, and stay."""
    with scraped(target), ExitStack() as stack:
        for _ in range(1000):
            connection = stack.enter_context(target.connected())
            with contextlib.suppress(ConnectionError):
                connection.sendall(said)
        threading.Event().wait(1)


def test_idle_after_the_handshake(target: Target) -> None:
    """Many that greet, say nothing of a request and stay."""
    with scraped(target), ExitStack() as stack:
        for _ in range(300):
            stack.enter_context(target.greeted())
        threading.Event().wait(0.5)


def test_slow_headers(target: Target) -> None:
    """Many that send a request byte by byte, over TLS if there is any."""
    with scraped(target), ExitStack() as stack:
        slow = [stack.enter_context(target.greeted()) for _ in range(100)]
        for byte in b"GET /metrics HTTP/1.1\r\nX: yyyyyyyyyyyyy":
            for connection in slow:
                with contextlib.suppress(OSError):
                    connection.send(bytes([byte]))


def test_slow_bodies(target: Target) -> None:
    """Many that announce a body and send it byte by byte."""
    request = target.head(b"POST /metrics HTTP/1.1") + b"Content-Length: 99999\r\n\r\n"
    with scraped(target), ExitStack() as stack:
        slow = [stack.enter_context(target.greeted()) for _ in range(100)]
        for connection in slow:
            with contextlib.suppress(OSError):
                connection.sendall(request)
        for _ in range(20):
            for connection in slow:
                with contextlib.suppress(OSError):
                    connection.send(b"x")
            threading.Event().wait(0.02)


def test_slow_readers(target: Target) -> None:
    """Many that ask for metrics and take none of them."""
    request = target.head(b"GET /metrics HTTP/1.1") + b"\r\n"
    with scraped(target), ExitStack() as stack:
        for _ in range(100):
            connection = stack.enter_context(target.greeted())
            with contextlib.suppress(OSError):
                connection.sendall(request)
        threading.Event().wait(0.5)


@pytest.mark.parametrize(
    "flood",
    [
        b"X: y\r\n" * 100_000,
        b"X: " + b"y" * (1 << 20),
        b"\r" * (1 << 20),
        b"\0" * 99_999,
    ],
    ids=["many", "long", "returns", "zeros"],
)
def test_floods_of_headers(target: Target, flood: bytes) -> None:
    """They are refused after a few kilobytes, however many come."""
    with scraped(target):
        for _ in range(20):
            answer = target.ask(target.head(b"GET /metrics HTTP/1.1") + flood)
            assert answer == b"" or answer.startswith(b"HTTP/1.1 431 ")


def test_wrong_passwords(target: Target) -> None:
    """A flood of them, as fast as they are answered."""
    stop = threading.Event()
    statuses: Counter[bytes] = Counter()

    def guess(number: int) -> None:
        each = 0
        while not stop.is_set():
            each += 1
            word = base64.b64encode(b"operator:%d-%d" % (number, each))
            line = b"GET / HTTP/1.1\r\nAuthorization: Basic " + word + b"\r\n\r\n"
            with contextlib.suppress(OSError):
                statuses[target.ask(line)[9:12]] += 1

    with scraped(target):
        guessing = [threading.Thread(target=guess, args=(n,)) for n in range(12)]
        for each in guessing:
            each.start()
        threading.Event().wait(2)
        stop.set()
        for each in guessing:
            each.join()
    if target.tls is None:
        assert {b"200"} == statuses.keys()  # nobody asks for one
    else:
        assert {b"401", b"429"} == statuses.keys() - {b"", b"503"}


@pytest.mark.parametrize(
    ("request_line", "status"),
    [
        (b"GET //metrics HTTP/1.1", 404),
        (b"GET /../metrics HTTP/1.1", 404),
        (b"GET /-/../metrics HTTP/1.1", 404),
        (b"GET /metrics/. HTTP/1.1", 404),
        (b"GET /metrics/ HTTP/1.1", 404),
        (b"GET /%2e%2e/etc/passwd HTTP/1.1", 404),
        (b"GET /metrics%00 HTTP/1.1", 404),
        (b"GET /metrics\0 HTTP/1.1", 404),
        (b"GET /metri\xffcs HTTP/1.1", 404),
        (b"GET /METRICS HTTP/1.1", 404),
        (b"GET /" + b"a" * 9000 + b" HTTP/1.1", 404),
        (b"GET /metrics#x HTTP/1.1", 404),
        (b"GET http://elsewhere/metrics HTTP/1.1", 200),
        (b"GET https://[::1]:1/metrics?x HTTP/1.1", 200),
        (b"GET http://elsewhere HTTP/1.1", 400),
        (b"GET ftp://elsewhere/metrics HTTP/1.1", 400),
        (b"GET file:///etc/passwd HTTP/1.1", 400),
        (b"GET * HTTP/1.1", 400),
        (b"GET metrics HTTP/1.1", 400),
        (b"GET  /metrics HTTP/1.1", 400),
        (b"GET\t/metrics\tHTTP/1.1", 400),
        (b" GET /metrics HTTP/1.1", 400),
        (b"OPTIONS /metrics HTTP/1.1", 405),
        (b"TRACE /metrics HTTP/1.1", 405),
        (b"PATCH /nowhere HTTP/1.1", 405),
        (b"CONNECT elsewhere:80 HTTP/1.1", 400),
        (b"get /metrics HTTP/1.1", 400),
        (b"G" * 99 + b" /metrics HTTP/1.1", 400),
        (b"GET /metrics HTTP/0.9", 400),
        (b"GET /metrics HTTP/2.0", 400),
        (b"GET /metrics HTTP/1.11", 400),
        (b"GET /metrics http/1.1", 400),
        (b"GET /metrics HTTP/1.1 x", 400),
        (b"GET /metrics", 400),
        (b"PRI * HTTP/2.0", 400),
        (b"HEAD /metrics HTTP/1.0", 200),
        (b"GET /metrics?" + b"a" * 9000 + b" HTTP/1.1", 200),
    ],
)
def test_tricks(target: Target, request_line: bytes, status: int) -> None:
    """No page but ours is answered, and no other method or version."""
    assert status == target.status(request_line)


def test_pipelined_requests(target: Target) -> None:
    """The first is answered, and the connection closed."""
    request = target.head(b"GET /-/healthy HTTP/1.1") + b"\r\n"
    answer = target.ask(request * 100)
    assert 1 == answer.count(b"HTTP/1.1 200 OK")
    assert b"\r\nConnection: close\r\n" in answer


def test_smuggled_lengths(target: Target) -> None:
    """A body is no second request, whatever is said of its length."""
    more = b"Content-Length: 0\r\nTransfer-Encoding: chunked\r\n\r\n"
    inner = target.head(b"GET /nowhere HTTP/1.1") + b"\r\n"
    answer = target.ask(target.head(b"GET /-/healthy HTTP/1.1") + more + inner)
    assert (1, 0) == (answer.count(b"HTTP/1.1 200"), answer.count(b"404"))


def test_nothing_is_left_behind(target: Target) -> None:
    """When all are gone, so are their threads and descriptors."""
    with ExitStack() as stack:
        for _ in range(200):
            stack.enter_context(target.connected())
    deadline = monotonic() + PATIENCE_S
    while target.server.threads() > 2 or target.server.descriptors() > 8:
        assert monotonic() < deadline, target.server.threads()
        threading.Event().wait(0.05)

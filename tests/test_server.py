"""The HTTP server answers its pages, whatever other clients do meanwhile."""

from __future__ import annotations

import socket
import threading
from contextlib import ExitStack, contextmanager
from http import HTTPStatus
from time import monotonic
from typing import TYPE_CHECKING

import pytest

from observer.exchange import HEAD_BYTES, TEXT, Response
from observer.listening import listen
from observer.pages import routes
from observer.server import Server

if TYPE_CHECKING:
    from collections.abc import Iterator

PATIENCE_S = 10.0  # of a test; reached only when it fails


def hello(accept: str) -> Response:
    """Answer with the Accept header, the one thing a route is told."""
    return Response(HTTPStatus.OK, TEXT, f"accept={accept}".encode())


class Held:
    """A page that takes as long as a test wants."""

    def __init__(self) -> None:
        """Take no request yet."""
        self.asked = threading.Semaphore(0)
        self.released = threading.Semaphore(0)

    def __call__(self, _accept: str) -> Response:
        """Answer when the test says so."""
        self.asked.release()
        self.released.acquire(timeout=PATIENCE_S)
        return Response(HTTPStatus.OK, TEXT, b"held")


@contextmanager
def serving(
    *,
    connections: int = 16,
    timeout_s: float = 5.0,
    grace_s: float = 1.0,
    body: bytes = b"x" * (8 << 20),
    held: Held | None = None,
) -> Iterator[tuple[str, int]]:
    """Run a server on a free port and yield its address."""
    listener = listen("127.0.0.1:0")
    pages = {
        "/hello": hello,
        "/held": held or Held(),
        "/big": lambda _accept: Response(HTTPStatus.OK, TEXT, body),
    }
    server = Server(
        listener, pages, connections=connections, timeout_s=timeout_s, grace_s=grace_s
    )
    address = listener.getsockname()
    server.start()
    yield address
    server.stop()


def connected(address: tuple[str, int]) -> socket.socket:
    """Connect, with a deadline on every later call."""
    return socket.create_connection(address, timeout=PATIENCE_S)


def rest(connection: socket.socket) -> bytes:
    """Read until the server closes; a reset counts as that."""
    data = b""
    try:
        while chunk := connection.recv(65536):
            data += chunk
    except ConnectionResetError:
        pass
    return data


def exchange(address: tuple[str, int], request: bytes) -> bytes:
    """Send these bytes and return all that comes back."""
    with connected(address) as connection:
        connection.sendall(request)
        return rest(connection)


def status(answer: bytes) -> int:
    """Return the status in an answer, 0 for an empty one."""
    return int(answer.split(b" ")[1]) if answer else 0


def get(address: tuple[str, int], path: str = "/hello") -> int:
    """Return the status of a GET."""
    return status(exchange(address, f"GET {path} HTTP/1.1\r\n\r\n".encode()))


def test_get() -> None:
    """A GET gets the route's answer, told the Accept headers."""
    with serving() as address:
        answer = exchange(
            address, b"GET /hello HTTP/1.1\r\nhost: x\r\nACCEPT: a\r\nAccept: b\r\n\r\n"
        )
    assert answer.endswith(b"\r\n\r\naccept=a, b")


def test_head() -> None:
    """A HEAD gets GET's headers, the length included, and no body."""
    with serving() as address:
        answer = exchange(address, b"HEAD /hello HTTP/1.1\r\n\r\n")
    head, _, body = answer.partition(b"\r\n\r\n")
    assert (b"Content-Length: 7" in head, body) == (True, b"")


def test_query_is_ignored() -> None:
    """What follows a question mark does not change the page."""
    with serving() as address:
        assert get(address, "/hello?name[]=x") == 200


def test_bare_line_feeds() -> None:
    """A request typed into netcat, without carriage returns, is answered."""
    with serving() as address:
        assert status(exchange(address, b"GET /hello HTTP/1.0\n\n")) == 200


def test_bytewise_request() -> None:
    """A request may arrive in pieces of any size."""
    with serving() as address, connected(address) as connection:
        for byte in b"GET /hello HTTP/1.1\r\n\r\n":
            connection.sendall(bytes([byte]))
        assert status(rest(connection)) == 200


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "OPTIONS"])
def test_other_methods(method: str) -> None:
    """Methods other than GET and HEAD get 405 and the list of those."""
    request = f"{method} /hello HTTP/1.1\r\nContent-Length: 3\r\n\r\nabc"
    with serving() as address:
        answer = exchange(address, request.encode())
    assert (status(answer), b"Allow: GET, HEAD" in answer) == (405, True)


def test_unread_body() -> None:
    """A long body that nobody reads does not destroy the answer."""
    with serving() as address:
        answer = exchange(address, b"POST / HTTP/1.1\r\n\r\n" + b"x" * (32 << 20))
    assert status(answer) == 405


def test_unknown_path() -> None:
    """A path without a route gets 404."""
    with serving() as address:
        assert get(address, "/etc/passwd") == 404


@pytest.mark.parametrize(
    "request_line",
    [
        b"GET",
        b"GET /hello",
        b"GET /hello HTTP/2.0",
        b"GET hello HTTP/1.1",
        b"\xff\x00\x1b",
        b"",
    ],
)
def test_no_http(request_line: bytes) -> None:
    """What is no HTTP/1 request gets 400."""
    with serving() as address:
        assert status(exchange(address, request_line + b"\r\n\r\n")) == 400


def test_endless_header() -> None:
    """A head longer than the bound gets 431 instead of memory."""
    with serving() as address:
        answer = exchange(address, b"GET /hello HTTP/1.1\r\nX: " + b"x" * HEAD_BYTES)
    assert status(answer) == 431


def test_unprintable_accept() -> None:
    """An Accept header with control characters is taken for none."""
    with serving() as address:
        answer = exchange(address, b"GET /hello HTTP/1.1\r\nAccept: a\x1bb\r\n\r\n")
    assert answer.endswith(b"\r\n\r\naccept=")


def test_idle_client_is_closed() -> None:
    """A client that sends nothing is closed after the timeout."""
    with serving(timeout_s=0.2) as address, connected(address) as connection:
        assert rest(connection) == b""


def test_dripping_client_is_closed() -> None:
    """The timeout holds for the connection, not for each byte."""
    with serving(timeout_s=0.3) as address, connected(address) as connection:
        connection.settimeout(0.05)
        started = monotonic()
        while monotonic() < started + PATIENCE_S:
            try:
                connection.sendall(b"x")
                if connection.recv(1) == b"":
                    break
            except TimeoutError:
                continue
            except OSError:
                break
        assert monotonic() - started < PATIENCE_S / 2


def test_slow_reader_is_closed() -> None:
    """A client that does not read its answer is closed after the timeout."""
    with serving(timeout_s=0.3) as address, connected(address) as reader:
        reader.sendall(b"GET /big HTTP/1.1\r\n\r\n")
        wait_for_worker_threads(1)
        wait_for_worker_threads(0)
        assert len(rest(reader)) < 8 << 20


def wait_for_worker_threads(count: int) -> None:
    """Wait until so many connections are being answered."""
    deadline = monotonic() + PATIENCE_S
    while workers() != count:
        assert monotonic() < deadline, f"{workers()} threads answer, not {count}"
        threading.Event().wait(0.01)


def workers() -> int:
    """Count the threads that answer a connection."""
    return sum("_serve" in thread.name for thread in threading.enumerate())


def test_no_room() -> None:
    """Among those being answered, one too many gets 503 soon and they stay."""
    held = Held()
    with (
        serving(connections=2, grace_s=4.0, held=held) as address,
        ExitStack() as stack,
    ):
        asked = [stack.enter_context(connected(address)) for _ in range(2)]
        for connection in asked:
            connection.sendall(b"GET /held HTTP/1.1\r\n\r\n")
            assert held.asked.acquire(timeout=PATIENCE_S)
        refused = get(address)
        held.released.release(2)
        statuses = [status(rest(connection)) for connection in asked]
    assert (503, [200, 200]) == (refused, statuses)


def test_room_that_comes_soon() -> None:
    """One too many is answered once another one is."""
    held = Held()
    with (
        serving(connections=1, grace_s=PATIENCE_S, held=held) as address,
        connected(address) as connection,
    ):
        connection.sendall(b"GET /held HTTP/1.1\r\n\r\n")
        assert held.asked.acquire(timeout=PATIENCE_S)
        threading.Timer(0.1, held.released.release).start()
        assert 200 == get(address)
        assert 200 == status(rest(connection))


def test_long_answers_give_way() -> None:
    """After a while the oldest of those being answered gives its place."""
    held = Held()
    with (
        serving(connections=1, grace_s=0.0, held=held) as address,
        connected(address) as connection,
    ):
        connection.sendall(b"GET /held HTTP/1.1\r\n\r\n")
        assert held.asked.acquire(timeout=PATIENCE_S)
        assert 200 == get(address)
        held.released.release()
        assert b"" == rest(connection)


def test_who_gives_way() -> None:
    """Who was answered does before who sent a part, and then the oldest of these."""
    with serving(connections=2) as address, ExitStack() as stack:
        parts = []
        for _ in range(15):
            parts.append(stack.enter_context(connected(address)))
            parts[-1].sendall(b"GET /hel")
        wait_for_worker_threads(15)
        answered = stack.enter_context(connected(address))
        answered.sendall(b"GET /hello HTTP/1.1\r\n\r\n")
        assert 200 == status(rest_of_answer(answered))
        for _ in range(5):  # in the place of `answered`
            assert 200 == get(address)
        wait_for_worker_threads(15)
        stack.enter_context(connected(address)).sendall(b"GET /hel")
        wait_for_worker_threads(16)
        assert 200 == get(address)  # in the place of the first
        assert b"" == rest(parts[0])
        parts[1].sendall(b"lo HTTP/1.1\r\n\r\n")
        assert 200 == status(rest(parts[1]))


def rest_of_answer(connection: socket.socket) -> bytes:
    """Read an answer, but do not let the server see that it came."""
    data = b""
    while not data.endswith(b"accept="):
        data += connection.recv(65536)
    return data


def test_quiet_clients_give_way() -> None:
    """The oldest of hundreds that say nothing, for which there is no thread."""
    with serving() as address, ExitStack() as stack:
        wait_for_worker_threads(0)  # of other tests
        quiet = [stack.enter_context(connected(address)) for _ in range(256)]
        threading.Event().wait(0.1)  # all had their chance, but one is enough
        assert 200 == get(address)
        assert b"" == rest(quiet[0])
        wait_for_worker_threads(0)  # of the one that asked
        quiet[1].sendall(b"GET /hello HTTP/1.1\r\n\r\n")
        assert 200 == status(rest(quiet[1]))


def test_slow_clients_give_way() -> None:
    """When slow clients hold all connections, a scrape gets the oldest one's place."""
    with serving(connections=1) as address, ExitStack() as stack:
        slow = []
        for _ in range(8):
            slow.append(stack.enter_context(connected(address)))
            slow[-1].sendall(b"GET /hel")
        wait_for_worker_threads(8)
        assert (get(address), rest(slow[0])) == (200, b"")


def test_slow_clients_do_not_delay() -> None:
    """As many slow clients as leave one place delay a scrape by less than a second."""
    with serving() as address, ExitStack() as stack:
        for _ in range(15):
            slow = stack.enter_context(connected(address))
            slow.sendall(b"GET /hel")
        wait_for_worker_threads(15)
        started = monotonic()
        assert (get(address), monotonic() - started < 1.0) == (200, True)


def test_places_are_given_back() -> None:
    """Many more requests than places are all answered, one after the other."""
    with serving(connections=2, grace_s=PATIENCE_S) as address:
        statuses = []
        for _ in range(50):
            statuses.append(get(address))
            wait_for_worker_threads(0)
    assert statuses == [200] * 50


def test_no_thread_before_start() -> None:
    """Making a server starts no thread, for privileges are dropped after that."""
    wait_for_worker_threads(0)  # of other tests
    before = threading.active_count()
    server = Server(listen("127.0.0.1:0"), {})
    assert before == threading.active_count()
    server.stop()


def test_stop() -> None:
    """After stop the port is free for the next daemon."""
    with serving() as address:
        get(address)
    listen(f"127.0.0.1:{address[1]}").close()


def pages(state: str = "running", *, ready: bool = True) -> dict[str, Response]:
    """Return the answer of every page of the daemon."""
    made = routes(
        landing=state.encode,
        metrics=lambda accept: (accept.encode(), "text/x"),
        ready=lambda: ready,
    )
    return {path: route("a/b") for path, route in made.items()}


def test_pages() -> None:
    """Each page has its status."""
    expected = {"/": 200, "/metrics": 200, "/-/healthy": 200, "/-/ready": 200}
    assert expected == {path: page.status for path, page in pages().items()}


def test_metrics_page() -> None:
    """The metrics page passes Accept on and takes the content type it is given."""
    assert pages()["/metrics"] == Response(HTTPStatus.OK, "text/x", b"a/b")


def test_not_ready() -> None:
    """Without readiness, /-/ready is 503 and /-/healthy stays 200."""
    answers = pages(ready=False)
    assert (answers["/-/ready"].status, answers["/-/healthy"].status) == (503, 200)


def test_index() -> None:
    """The first page is HTML."""
    page = pages("<p>Hello.</p>")["/"]
    assert (b"<p>Hello.</p>", "text/html; charset=utf-8") == (
        page.body,
        page.content_type,
    )

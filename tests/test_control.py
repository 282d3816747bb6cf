"""Verbs ask the daemon on a unix socket, and get an answer, None or one sentence."""

from __future__ import annotations

import os
import socket
import stat
import threading
from contextlib import contextmanager, suppress
from pathlib import Path
from tempfile import TemporaryDirectory
from time import monotonic, sleep
from typing import TYPE_CHECKING

import pytest

from observer import control, listening
from observer.control import ControlError, fetch
from observer.server import Server

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

PATIENCE_S = 10.0  # of a test; reached only when it fails
MACHINE = {"release": "6.1.0", "devices": [{"driver_override": "\udcff\x1b[31m"}]}


@contextmanager
def daemon(path: Path) -> Iterator[Server]:
    """Serve as the daemon does."""
    pages = control.routes(machine=lambda: MACHINE, status=lambda: {"lost": 0})
    server = Server(control.listen(path), pages)
    server.start()
    yield server
    server.stop()


@contextmanager
def impostor(path: Path, serve: Callable[[socket.socket], None]) -> Iterator[None]:
    """Let `serve` talk to whoever connects."""
    listener = control.listen(path)

    def accept() -> None:
        connection, _ = listener.accept()
        with connection:
            serve(connection)

    thread = threading.Thread(target=accept)
    thread.start()
    yield
    thread.join(PATIENCE_S)
    listener.close()


def answering(answer: bytes) -> Callable[[socket.socket], None]:
    """Read the request, send these bytes and close."""

    def serve(connection: socket.socket) -> None:
        connection.recv(4096)
        connection.sendall(answer)

    return serve


def http(body: bytes, status: str = "200 OK") -> bytes:
    """Return an answer with this body."""
    return f"HTTP/1.1 {status}\r\nContent-Length: {len(body)}\r\n\r\n".encode() + body


def test_pages(tmp_path: Path) -> None:
    """A client gets the object of the page it asked for, whatever text is in it."""
    path = tmp_path / "run" / "observer.sock"
    with daemon(path):
        assert (MACHINE, {"lost": 0}) == (
            fetch(path, "/machine"),
            fetch(path, "/status"),
        )


def test_large_answer(tmp_path: Path) -> None:
    """An answer longer than a socket holds arrives whole."""
    path = tmp_path / "observer.sock"
    machine = {"devices": ["0000:00:00.0"] * 500_000}
    pages = control.routes(machine=lambda: machine, status=dict)
    server = Server(control.listen(path), pages)
    server.start()
    assert machine == fetch(path, "/machine")
    server.stop()


def test_no_metrics_there() -> None:
    """The socket offers the pages of the verbs and no other."""
    pages = control.routes(machine=dict, status=dict)
    assert {"/machine", "/status"} == pages.keys()


def test_socket_is_its_owners(tmp_path: Path) -> None:
    """Only the owner may connect, and everybody may look into the directory."""
    path = tmp_path / "run" / "observer.sock"
    control.listen(path).close()
    modes = [stat.filemode(each.stat().st_mode) for each in (path, path.parent)]
    assert ["srw-------", "drwxr-xr-x"] == modes


def test_umask_is_kept(tmp_path: Path) -> None:
    """Making the socket leaves the umask of the process alone."""
    before = os.umask(0o077)
    try:
        control.listen(tmp_path / "observer.sock").close()
        assert 0o077 == os.umask(0o077)
    finally:
        os.umask(before)


def test_absent(tmp_path: Path) -> None:
    """Without a socket there is no daemon."""
    assert fetch(tmp_path / "observer.sock", "/status") is None
    (tmp_path / "file").touch()
    assert fetch(tmp_path / "file" / "observer.sock", "/status") is None


def test_stale(tmp_path: Path) -> None:
    """A socket that a daemon left behind is no daemon, and a new one replaces it."""
    path = tmp_path / "observer.sock"
    control.listen(path).close()
    assert fetch(path, "/status") is None
    with daemon(path):
        assert {"lost": 0} == fetch(path, "/status")


def test_living(tmp_path: Path) -> None:
    """A second daemon does not take the first one's socket."""
    path = tmp_path / "observer.sock"
    with daemon(path):
        with pytest.raises(ControlError, match=r"another observer listens on .*sock"):
            control.listen(path)
        assert {"lost": 0} == fetch(path, "/status")


def test_living_but_busy(tmp_path: Path) -> None:
    """A daemon that accepts nobody any more is still a daemon."""
    path = tmp_path / "observer.sock"
    with control.listen(path) as listener:
        listener.listen(0)
        with socket.socket(socket.AF_UNIX) as first:
            first.connect(str(path))
            with pytest.raises(ControlError, match="another observer listens"):
                control.listen(path)
            with pytest.raises(ControlError, match="busy; try again"):
                fetch(path, "/status")


def test_no_socket_there(tmp_path: Path) -> None:
    """A file that somebody keeps under this name is not removed."""
    path = tmp_path / "observer.sock"
    path.write_text("kept", "ascii")
    with pytest.raises(ControlError, match="it is there and no socket"):
        control.listen(path)
    assert "kept" == path.read_text("ascii")


@pytest.mark.parametrize("name", ["a/b/observer.sock", "x" * 200, "file/observer.sock"])
def test_bad_path(tmp_path: Path, name: str) -> None:
    """A path that can't be bound is told with the reason."""
    (tmp_path / "file").touch()
    with pytest.raises(ControlError, match=r"^can't listen on /.+: [\w .]+$"):
        control.listen(tmp_path / name)


def test_unlink(tmp_path: Path) -> None:
    """At the end the socket goes, if it is still there."""
    path = tmp_path / "observer.sock"
    listener = control.listen(path)
    listening.unlink(path)
    listening.unlink(path)
    listener.close()
    assert [] == list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("answer", "sentence"),
    [
        (b"", "no whole answer"),
        (b"\xff\x00" * 1000, "no whole answer"),
        (http(b"{}")[:-1], "no whole answer"),
        (http(b"{}") + b"x", "no whole answer"),
        (b"HTTP/1.1 200 OK\r\n\r\n{}", "no whole answer"),
        (http(b"", "503 Service Unavailable"), "busy; try again"),
        (http(b"", "404 Not Found"), "status 404"),
        (http(b"{"), "no JSON object"),
        (http(b"[]"), "no JSON object"),
        (http(b"\xff"), "no JSON object"),
        (http(b"[" * 1_000_000), "no JSON object"),
    ],
)
def test_garbage(tmp_path: Path, answer: bytes, sentence: str) -> None:
    """What is no answer is one sentence, never a traceback."""
    path = tmp_path / "observer.sock"
    with (
        impostor(path, answering(answer)),
        pytest.raises(ControlError, match=sentence),
    ):
        fetch(path, "/machine", timeout_s=PATIENCE_S)


def dripping(connection: socket.socket) -> None:
    """Send a byte at a time, until the client leaves."""
    with suppress(OSError):
        while True:
            connection.sendall(b"x")
            sleep(0.01)


def silent(connection: socket.socket) -> None:
    """Read what comes until the client leaves, and say nothing."""
    while connection.recv(4096):
        pass


@pytest.mark.parametrize("serve", [dripping, silent])
def test_slow(tmp_path: Path, serve: Callable[[socket.socket], None]) -> None:
    """The time is bounded as a whole, not from byte to byte."""
    path = tmp_path / "observer.sock"
    began = monotonic()
    with (
        impostor(path, serve),
        pytest.raises(ControlError, match=r"did not answer within 0\.2 s"),
    ):
        fetch(path, "/machine", timeout_s=0.2)
    assert monotonic() - began < PATIENCE_S


def test_endless(tmp_path: Path) -> None:
    """The size is bounded."""

    def serve(connection: socket.socket) -> None:
        with suppress(OSError):
            while True:
                connection.sendall(b"x" * (1 << 20))

    path = tmp_path / "observer.sock"
    with impostor(path, serve), pytest.raises(ControlError, match="no whole answer"):
        fetch(path, "/machine", timeout_s=6 * PATIENCE_S)


def test_no_room(tmp_path: Path) -> None:
    """A daemon with all connections taken says that it is busy."""
    path = tmp_path / "observer.sock"
    asked, released = threading.Event(), threading.Event()

    def status() -> dict[str, object]:
        asked.set()
        released.wait(PATIENCE_S)
        return {}

    pages = control.routes(machine=dict, status=status)
    server = Server(control.listen(path), pages, connections=1)
    server.start()
    with socket.socket(socket.AF_UNIX) as first:
        first.connect(str(path))
        first.sendall(b"GET /status HTTP/1.1\r\n\r\n")
        assert asked.wait(PATIENCE_S)
        with pytest.raises(ControlError, match="busy; try again"):
            fetch(path, "/status")
        released.set()
    server.stop()


def test_refused_before_the_request(tmp_path: Path) -> None:
    """An answer that was sent and closed before the request came is read."""
    path = tmp_path / "observer.sock"
    busy = http(b"", "503 Service Unavailable")
    with control.listen(path) as listener:

        def serve() -> None:
            with listener.accept()[0] as connection:
                connection.sendall(busy)

        for _ in range(100):  # who is faster differs
            thread = threading.Thread(target=serve)
            thread.start()
            with pytest.raises(ControlError, match="busy"):
                fetch(path, "/status")
            thread.join(PATIENCE_S)


@contextmanager
def nobody() -> Iterator[None]:
    """Be no root for a while."""
    user = os.geteuid()
    if user == 0:
        os.seteuid(65534)
    try:
        yield
    finally:
        os.seteuid(user)


def test_others_may_not_ask() -> None:
    """Who is not root learns that only root may ask."""
    with TemporaryDirectory() as directory:
        Path(directory).chmod(0o755)
        path = Path(directory, "observer.sock")
        with daemon(path):
            if os.geteuid():
                path.chmod(0)
            with nobody(), pytest.raises(ControlError, match="only root may ask"):
                fetch(path, "/status")


def test_others_may_not_listen() -> None:
    """Without the right to the directory there is one sentence."""
    with TemporaryDirectory() as directory:
        Path(directory).chmod(0o555)
        path = Path(directory, "observer.sock")
        with nobody(), pytest.raises(ControlError, match="permission denied"):
            control.listen(path)


def test_no_time_at_all(tmp_path: Path) -> None:
    """A deadline that has passed already is a daemon that did not answer."""
    path = tmp_path / "observer.sock"
    with daemon(path), pytest.raises(ControlError, match="did not answer within 0 s"):
        fetch(path, "/status", timeout_s=0)

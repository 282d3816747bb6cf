"""The HTTP server as a whole, with its threads, on a socket."""

from __future__ import annotations

import socket
import threading
from functools import cache
from typing import TYPE_CHECKING

from fuzz import http_answer
from fuzz.scratch import SCRATCH
from fuzz.target import Target
from fuzz.targets import http
from observer.server import Server

if TYPE_CHECKING:
    from collections.abc import Iterable

SECONDS = 5.0
DIED: list[object] = []  # the errors that ended threads


@cache
def address() -> str:
    """Start the server."""
    threading.excepthook = lambda told: DIED.append(told.exc_value)
    path = str(SCRATCH / "http.sock")
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(path)
    listener.listen(64)
    Server(listener, http.PAGES, rules=lambda: http.RULES[0]).start()
    return path


def run(data: bytes) -> None:
    """Ask, in two pieces; an answer is whole, and no thread died."""
    said = b""
    with socket.socket(socket.AF_UNIX) as ours:
        ours.settimeout(SECONDS)
        ours.connect(address())
        place = len(data) * data[0] // 256 if data else 0
        try:
            for part in (data[1 : place + 1], data[place + 1 :]):
                ours.sendall(part)
            ours.shutdown(socket.SHUT_WR)
            while chunk := ours.recv(1 << 16):
                said += chunk
        except (ConnectionResetError, BrokenPipeError):
            pass  # it closes who says nothing to the point
    assert not DIED, DIED
    if said:
        http_answer.check(said)


def seeds() -> Iterable[bytes]:
    """Yield the requests of the other target."""
    return (seed[1:] for seed in http.seeds())


TARGET = Target(
    run,
    (),
    seeds,
    share=2,
    max_bytes=http.TARGET.max_bytes,
    words=http.TARGET.words,
)

"""How a verb asks the running daemon: HTTP on a unix socket that root alone may open.

The daemon's end is an `observer.server.Server`; this is the socket, its pages and the
client.
"""

from __future__ import annotations

import errno
import json
import os
import re
import socket
from contextlib import suppress
from http import HTTPStatus
from pathlib import Path
from time import monotonic
from typing import TYPE_CHECKING, Final, Literal

from observer import listening
from observer.exchange import Response, Route

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

SOCKET: Final = Path("/run/pci-observer/observer.sock")

Page = Literal["/machine", "/status"]

_ANSWER_BYTES: Final = 64 << 20
_STATUS = re.compile(rb"HTTP/1\.1 ([0-9]{3}) ")
_LENGTH = re.compile(rb"\r\nContent-Length: ([0-9]{1,9})(?:\r\n|$)")


class ControlError(Exception):
    """The daemon's socket can't be made or asked; one sentence says why."""


def listen(path: Path = SOCKET) -> socket.socket:
    """Make the socket; to be called before other threads run, for the umask.

    The directory is made if its parent is there. A socket that a daemon left behind
    is replaced. Raises ControlError, also when another daemon listens there.
    """
    try:
        return listening.listen_at(path, listening.OWNER)
    except listening.ListenError as e:
        raise ControlError(str(e)) from e


def routes(
    *,
    machine: Callable[[], Mapping[str, object]],
    status: Callable[[], Mapping[str, object]],
) -> dict[str, Route]:
    """Return each page by its path; both are called in threads of the server."""
    return {
        "/machine": lambda _accept: _json(machine()),
        "/status": lambda _accept: _json(status()),
    }


def fetch(
    path: Path, page: Page, *, timeout_s: float = 10.0
) -> dict[str, object] | None:
    """Ask the daemon for a page; None: there is no daemon.

    Raises ControlError when it may not be asked or its answer is none. What is in the
    object is for the caller to check.
    """
    deadline = monotonic() + timeout_s
    try:
        with socket.socket(socket.AF_UNIX) as connection:
            _limit(connection, deadline)
            connection.connect(str(path))
            answer = _answer(connection, page, deadline)
    except (FileNotFoundError, NotADirectoryError, ConnectionRefusedError):
        return None
    except PermissionError as e:
        raise ControlError(f"only root may ask the daemon behind {path}") from e
    except TimeoutError as e:
        raise ControlError(
            f"the daemon behind {path} did not answer within {timeout_s:g} s; "
            "try again, or restart it"
        ) from e
    except OSError as e:
        raise ControlError(f"can't ask the daemon behind {path}: {_cause(e)}") from e
    return _object(answer, path)


def _json(value: Mapping[str, object]) -> Response:
    return Response(HTTPStatus.OK, "application/json", json.dumps(value).encode())


def _limit(connection: socket.socket, deadline: float) -> None:
    left = deadline - monotonic()
    if left <= 0:
        raise TimeoutError
    connection.settimeout(left)


def _answer(connection: socket.socket, page: Page, deadline: float) -> bytes:
    """Send the request and read until the daemon closes. Raises OSError."""
    answer = bytearray()
    # A daemon that is too busy answers and closes without reading.
    with suppress(BrokenPipeError, ConnectionResetError):
        with suppress(BrokenPipeError):
            connection.sendall(f"GET {page} HTTP/1.1\r\n\r\n".encode())
        while len(answer) <= _ANSWER_BYTES:
            _limit(connection, deadline)
            chunk = connection.recv(1 << 16)
            if not chunk:
                break
            answer += chunk
    return bytes(answer)


def _object(answer: bytes, path: Path) -> dict[str, object]:
    head, _, body = answer.partition(b"\r\n\r\n")
    found, length = _STATUS.match(head), _LENGTH.search(head)
    if found is None or length is None or len(body) != int(length[1]):
        raise ControlError(f"the daemon behind {path} gave no whole answer; try again")
    status = int(found[1])
    if status == HTTPStatus.SERVICE_UNAVAILABLE:
        raise ControlError(f"the daemon behind {path} is busy; try again")
    if status != HTTPStatus.OK:
        raise ControlError(
            f"the daemon behind {path} answered with status {status}; "
            "restart it, it may be older than this command"
        )
    try:
        value = json.loads(body)
    except (ValueError, RecursionError):
        value = None
    if not isinstance(value, dict):
        raise ControlError(f"what the daemon behind {path} answered is no JSON object")
    return value


def _cause(error: OSError) -> str:
    if error.errno == errno.EAGAIN:
        return "it is busy; try again"
    if error.errno is None:  # Python's own: the path is too long
        return str(error)
    return os.strerror(error.errno).lower()

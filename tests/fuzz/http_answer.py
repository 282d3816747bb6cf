"""What must hold for any answer of the HTTP server."""

from __future__ import annotations

import re
from typing import Final

_STATUS: Final = re.compile(
    rb"HTTP/1\.1 (200|400|401|404|405|429|431|503) [A-Z][A-Za-z ]+"
)
_HEADERS: Final = {
    b"Date",
    b"Content-Type",
    b"Content-Length",
    b"Connection",
    b"Cache-Control",
    b"X-Content-Type-Options",
    b"Content-Security-Policy",
    b"Referrer-Policy",
}
_SOMETIMES: Final = {b"WWW-Authenticate", b"Allow", b"Retry-After"}


def check(answer: bytes) -> None:
    """Check that it is one whole answer, with the headers that it should have."""
    head, end, body = answer.partition(b"\r\n\r\n")
    assert end, answer
    status, *lines = head.split(b"\r\n")
    assert _STATUS.fullmatch(status), status
    headers = dict(line.split(b": ", 1) for line in lines)
    assert headers.keys() - _SOMETIMES == _HEADERS, headers
    assert len(headers) == len(lines), headers
    assert b"\n" not in head.replace(b"\r\n", b""), head
    assert b"\r" not in head.replace(b"\r\n", b""), head
    assert len(body) in (0, int(headers[b"Content-Length"])), answer

"""The pages of the HTTP server."""

from __future__ import annotations

from http import HTTPStatus
from typing import TYPE_CHECKING

from observer.exchange import TEXT, Response, Route

if TYPE_CHECKING:
    from collections.abc import Callable

HTML = "text/html; charset=utf-8"


def routes(
    *,
    landing: Callable[[], bytes],
    metrics: Callable[[str], tuple[bytes, str]],
    ready: Callable[[], bool],
) -> dict[str, Route]:
    """Return each page by its path.

    `landing` returns the first page as HTML; `metrics` takes an Accept header and
    returns the body and its content type. All three are called in other threads than
    the one that starts the server.
    """
    return {
        "/": lambda _accept: Response(HTTPStatus.OK, HTML, landing()),
        "/metrics": lambda accept: _metrics(*metrics(accept)),
        "/-/healthy": lambda _accept: _health(HTTPStatus.OK, "healthy"),
        "/-/ready": lambda _accept: _ready(ready=ready()),
    }


def _metrics(body: bytes, content_type: str) -> Response:
    return Response(HTTPStatus.OK, content_type, body)


def _ready(*, ready: bool) -> Response:
    if ready:
        return _health(HTTPStatus.OK, "ready")
    return _health(HTTPStatus.SERVICE_UNAVAILABLE, "not ready")


def _health(status: HTTPStatus, state: str) -> Response:
    return Response(status, TEXT, f"pci-observer is {state}.\n".encode("ascii"))

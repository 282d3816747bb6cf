"""The pages of the HTTP server."""

from __future__ import annotations

from html import escape
from http import HTTPStatus
from typing import TYPE_CHECKING, NamedTuple

from observer.exchange import TEXT, Response, Route

if TYPE_CHECKING:
    from collections.abc import Callable

_INDEX = """\
<!DOCTYPE html>
<html lang="en">
<head><meta charset="utf-8"><title>pci-observer</title>
<style>body {{ font-family: sans-serif; margin: 2em }} dt {{ float: left; width: 6em }}
</style></head>
<body>
<h1>pci-observer</h1>
<p>Judges every PCI match decision of this kernel.</p>
<dl>
<dt>Version</dt><dd>{version}</dd>
<dt>Kernel</dt><dd>{kernel}</dd>
<dt>State</dt><dd>{state}</dd>
</dl>
<p><a href="/metrics">Metrics</a>, <a href="/-/healthy">healthy</a>,
<a href="/-/ready">ready</a></p>
</body>
</html>
"""


class Facts(NamedTuple):
    """What the first page says."""

    version: str
    kernel: str  # release
    state: str  # one sentence


def routes(
    *,
    facts: Callable[[], Facts],
    metrics: Callable[[str], tuple[bytes, str]],
    ready: Callable[[], bool],
) -> dict[str, Route]:
    """Return each page by its path.

    `metrics` takes an Accept header and returns the body and its content type. All
    three are called in other threads than the one that starts the server.
    """
    return {
        "/": lambda _accept: _index(facts()),
        "/metrics": lambda accept: _metrics(*metrics(accept)),
        "/-/healthy": lambda _accept: _health(HTTPStatus.OK, "healthy"),
        "/-/ready": lambda _accept: _ready(ready=ready()),
    }


def _index(facts: Facts) -> Response:
    shown = {
        name: escape(text.encode("utf-8", "backslashreplace").decode())
        for name, text in facts._asdict().items()
    }
    page = _INDEX.format_map(shown)
    return Response(HTTPStatus.OK, "text/html; charset=utf-8", page.encode())


def _metrics(body: bytes, content_type: str) -> Response:
    return Response(HTTPStatus.OK, content_type, body)


def _ready(*, ready: bool) -> Response:
    if ready:
        return _health(HTTPStatus.OK, "ready")
    return _health(HTTPStatus.SERVICE_UNAVAILABLE, "not ready")


def _health(status: HTTPStatus, state: str) -> Response:
    return Response(status, TEXT, f"pci-observer is {state}.\n".encode("ascii"))

"""Serves each host's exposition on a path of its own."""

from __future__ import annotations

import threading
import time
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Self

from fleet.exposition import exposition

if TYPE_CHECKING:
    from types import TracebackType

    from fleet.scenario import Fleet


class serve:  # noqa: N801 - reads as a verb where it is used
    """A server in a thread; a context manager. `fleet` may be replaced meanwhile.

    The fleet is shown at its end, as if that were now; a silent host answers nothing.
    """

    def __init__(self, fleet: Fleet, *, port: int = 0) -> None:
        """Listen on loopback."""
        self.fleet = fleet
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                outer.answer(self)

            def log_message(self, *_: object) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", port), Handler)
        self.address = f"127.0.0.1:{self._server.server_port}"
        self.url = f"http://{self.address}"
        self._thread = threading.Thread(target=self._server.serve_forever, daemon=True)
        self._thread.start()

    def answer(self, request: BaseHTTPRequestHandler) -> None:
        """Answer a scrape."""
        _, number, *_rest = request.path.split("/")
        fleet, host = self.fleet, int(number)
        shift = int(time.time()) - fleet.end  # the daemon is alive now
        if fleet.silent(host, fleet.end):
            request.close_connection = True
            return
        now = fleet._replace(start=fleet.start + shift, end=fleet.end + shift)
        body = exposition(now, host, now.end).encode()
        request.send_response(HTTPStatus.OK)
        request.send_header("Content-Type", "text/plain; version=0.0.4; charset=utf-8")
        request.send_header("Content-Length", str(len(body)))
        request.end_headers()
        request.wfile.write(body)

    def wait(self) -> None:
        """Serve until interrupted."""
        try:
            self._thread.join()
        except KeyboardInterrupt:
            return

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._server.shutdown()
        self._server.server_close()

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
    """A server in a thread; a context manager.

    The fleet is shown as it is at `time`, at first its end, as if that were now; a
    silent host answers nothing.
    """

    def __init__(self, fleet: Fleet, *, port: int = 0) -> None:
        """Listen on loopback."""
        self._fleet = fleet
        self.time = fleet.end
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
        host = int(number)
        if self._fleet.silent(host, self.time):
            request.close_connection = True
            return
        shift = int(time.time()) - self.time  # the daemon is alive now
        start, end = self._fleet.start + shift, self._fleet.end + shift
        now = self._fleet._replace(start=start, end=end)
        body = exposition(now, host, self.time + shift).encode()
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

"""Pages as Chromium draws them, and dashboards as Grafana's own libraries do.

tests/browser/ has the other half: `npm ci` there first, as `make test-browser` does.
"""

from __future__ import annotations

import json
import subprocess
import threading
import urllib.error
import urllib.request
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Self

if TYPE_CHECKING:
    from types import TracebackType

BROWSER: Final = Path(__file__).parent / "browser"
SECONDS: Final = 120
# Grafana's font, which its packages name and do not hold.
FONTS: Final = {
    f"/public/fonts/inter/Inter-{name}.woff2": f"inter-latin-{weight}-normal.woff2"
    for name, weight in (("Regular", 400), ("Medium", 500))
}


def build(directory: Path) -> Path:
    """Bundle the front end; return the folder to serve."""
    _node("build.mjs", str(directory))
    (directory / "index.html").write_bytes((BROWSER / "index.html").read_bytes())
    return directory


def draw(url: str, picture: Path, width: int, kind: str) -> dict[str, Any]:
    """Take a picture of a `dashboard` or a `page`, or `dark` one; return a report."""
    told: dict[str, Any] = json.loads(
        _node("draw.mjs", url, str(picture), str(width), kind)
    )
    return told


def _node(*command: str) -> str:
    done = subprocess.run(
        ["node", *command],
        cwd=BROWSER,
        capture_output=True,
        text=True,
        timeout=SECONDS,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


class Site:
    """Serves a front end, one dashboard and what Prometheus answers."""

    def __init__(
        self, folder: Path, dashboard: dict[str, Any], prometheus: str
    ) -> None:
        """Listen on loopback."""
        answer = json.dumps(dashboard).encode()

        class Handler(SimpleHTTPRequestHandler):
            def do_GET(self) -> None:
                if self.path == "/dashboard.json":
                    self.reply(200, answer)
                elif self.path.startswith("/api/"):
                    self.reply(*_asked(prometheus + self.path))
                elif self.path.startswith("/public/build/img/"):
                    self.reply(200, _icon(self.path), "image/svg+xml")
                elif self.path in FONTS:
                    self.reply(200, _font(self.path), "font/woff2")
                else:
                    super().do_GET()

            def reply(
                self, status: int, body: bytes, kind: str = "application/json"
            ) -> None:
                self.send_response(status)
                self.send_header("Content-Type", kind)
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_: object) -> None:
                pass

        handler = partial(Handler, directory=str(folder))
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
        self.url = f"http://127.0.0.1:{self._server.server_port}/"
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

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


def _asked(url: str) -> tuple[int, bytes]:
    try:
        with urllib.request.urlopen(url, timeout=60) as answer:  # noqa: S310
            return answer.status, answer.read()
    except urllib.error.HTTPError as e:  # the page reads why
        return 200, e.read()


def _font(path: str) -> bytes:
    files = BROWSER / "node_modules/@fontsource/inter/files"
    return (files / FONTS[path]).read_bytes()


def _icon(path: str) -> bytes:
    """Return an icon of Grafana's: its components ask for them by name."""
    name = path.removeprefix("/public/build/").partition("?")[0]
    public = BROWSER / "node_modules/@grafana/ui/dist/public"
    file = (public / name).resolve()
    assert file.is_relative_to(public)
    return file.read_bytes() if file.is_file() else b"<svg/>"

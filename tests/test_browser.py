"""The dashboards and the landing page as a browser draws them.

`make test-browser` runs these; `make pictures` also puts the pictures under docs/.
"""

from __future__ import annotations

import copy
import json
import os
import struct
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import landed
import pytest
from drawing import Site, build, draw
from fleet.scenario import JOB
from servers.prometheus import Prometheus
from test_servers import FLEET, HOST, NO_SCRAPES, prometheus

from observer.landing import render
from observer.listening import listen
from observer.log import spelled_time
from observer.pages import routes
from observer.server import Server

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["prometheus"]  # a fixture

pytestmark = [pytest.mark.browser, pytest.mark.timeout(600)]

ROOT: Final = Path(__file__).parents[1]
BUILT: Final = ROOT / "build" / "pictures"
COMMITTED: Final = ROOT / "docs" / "pictures"
NAMES: Final = ("fleet", "host", "health")
WIDTHS: Final = (360, 768, 1280)
WIDTH: Final = 1600
TIMES: Final = f"from={FLEET.start * 1000}&to={FLEET.end * 1000}"
SMALLEST_PX: Final = 13


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Bundle the front end once."""
    return build(tmp_path_factory.mktemp("front"))


@pytest.fixture(scope="module")
def empty(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Prometheus]:
    """Start a Prometheus that has no data."""
    with Prometheus(tmp_path_factory.mktemp("empty"), NO_SCRAPES) as server:
        yield server


def dashboard(name: str) -> dict[str, Any]:
    """Read a dashboard."""
    path = ROOT / "dashboards" / f"pci-observer-{name}.json"
    read: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return read


def drawn(
    folder: Path, board: dict[str, Any], server: Prometheus, picture: Path
) -> dict[str, Any]:
    """Draw a dashboard of the simulated fleet."""
    host = board["uid"].endswith("host") and f"&host={FLEET.instance(HOST)}"
    chosen = f"?{TIMES}&job={JOB}{host or ''}" if host else f"?{TIMES}"
    picture.parent.mkdir(parents=True, exist_ok=True)
    with Site(folder, board, server.url) as site:
        return draw(site.url + chosen, picture, WIDTH, "dashboard")


def troubles(report: dict[str, Any]) -> list[str]:
    """Return what went wrong: of the page, of queries, of panels without anything."""
    empty = [f"empty: {p['title']}" for p in report["panels"] if not p["points"]]
    bad = [f"{p['state']}: {p['title']}" for p in report["panels"]]
    errors = [each for each in bad if not each.startswith("Done: ")]
    return [*report["problems"], *report["said"], *errors, *empty]


def size(picture: Path) -> tuple[int, int]:
    """Read a PNG's width and height."""
    return struct.unpack(">II", picture.read_bytes()[16:24])  # type: ignore[return-value]


def keep(picture: Path) -> None:
    """Put the picture under docs/, if asked to; else see that it is there."""
    committed = COMMITTED / picture.name
    if os.environ.get("UPDATE_PICTURES"):
        COMMITTED.mkdir(exist_ok=True)
        committed.write_bytes(picture.read_bytes())
    assert size(committed) == size(picture), "make pictures"


@pytest.mark.parametrize("name", NAMES)
def test_dashboard(folder: Path, prometheus: Prometheus, name: str) -> None:
    """Each panel is drawn, has data, and nothing is complained of."""
    board, picture = dashboard(name), BUILT / f"{name}.png"
    report = drawn(folder, board, prometheus, picture)
    assert [] == troubles(report)
    titles = [p["title"] for p in board["panels"] if p["type"] != "row"]
    assert sorted(titles) == sorted(p["title"] for p in report["panels"])
    for panel in board["panels"]:
        assert panel["title"] in report["text"]
    graphs = sum(p["type"] == "timeseries" for p in board["panels"])
    assert graphs <= report["canvases"]
    keep(picture)


@pytest.mark.parametrize("name", NAMES)
def test_empty_fleet(
    folder: Path, empty: Prometheus, name: str, tmp_path: Path
) -> None:
    """Without any data nothing fails."""
    report = drawn(folder, dashboard(name), empty, tmp_path / "empty.png")
    assert [] == [each for each in troubles(report) if not each.startswith("empty: ")]
    assert len(report["panels"]) > 5


def broken(change: str) -> dict[str, Any]:
    """Return a dashboard with one thing that must be noticed."""
    board = copy.deepcopy(dashboard("fleet"))
    panel = next(p for p in board["panels"] if p["title"] == "Hosts by kernel")
    if change == "query":
        panel["targets"][0]["expr"] = "sum(("
    elif change == "type":
        panel["type"] = "geomap"
    else:
        panel["targets"][0]["expr"] = "no_such_metric"
    return board


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ("query", "query: sum((: "),
        ("type", "panel type: geomap"),
        ("data", "empty: Hosts by kernel"),
    ],
)
def test_what_is_broken_is_noticed(
    folder: Path, prometheus: Prometheus, change: str, told: str, tmp_path: Path
) -> None:
    """A query that fails, a panel that can't be drawn, a panel without data."""
    report = drawn(folder, broken(change), prometheus, tmp_path / "broken.png")
    assert any(each.startswith(told) for each in troubles(report))


@pytest.fixture(scope="module")
def landing() -> Iterator[str]:
    """Serve the landing page of a machine with 200 devices by the real server."""
    page = render(landed.landing(), spelled_time)
    pages = routes(
        landing=lambda: page, metrics=lambda _: (b"", "text/plain"), ready=lambda: True
    )
    listener = listen("127.0.0.1:0")
    server = Server(listener, pages)
    server.start()
    yield f"http://127.0.0.1:{listener.getsockname()[1]}/"
    server.stop()


@pytest.mark.parametrize("kind", ["page", "dark"])
@pytest.mark.parametrize("width", WIDTHS)
def test_landing_page(landing: str, width: int, kind: str, tmp_path: Path) -> None:
    """Readable at each width, accessible, and nothing is asked of anybody."""
    BUILT.mkdir(parents=True, exist_ok=True)
    light = kind == "page"
    picture = (BUILT if light else tmp_path) / f"landing-{width}.png"
    report = draw(landing, picture, width, kind)
    assert [] == report["violations"]
    assert report["passes"] > 10
    assert 0 == report["overflow"]
    assert SMALLEST_PX <= report["smallest"]
    others = [url for url in report["requests"] if url != landing]
    assert [] == [url for url in others if not url.endswith("/favicon.ico")]
    assert [] == [each for each in report["said"] if "favicon" not in each]
    if light:
        keep(picture)


def test_a_page_that_can_not_be_read_is_noticed(tmp_path: Path) -> None:
    """Too wide, too small, without contrast."""
    page = tmp_path / "bad.html"
    page.write_text(
        "<html><body style='width:999px;font-size:6px;color:#eee;background:#fff'>"
        "<p>Hello</p></body></html>"
    )
    report = draw(page.as_uri(), tmp_path / "bad.png", 360, "page")
    assert report["overflow"] > 0
    assert report["smallest"] < SMALLEST_PX
    assert {"color-contrast", "html-has-lang"} <= {
        each.partition(":")[0] for each in report["violations"]
    }

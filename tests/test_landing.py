"""observer/landing.py: what the page at `/` says, to whom, and how safely."""

from __future__ import annotations

import re
from html.parser import HTMLParser

import machines
import pytest
from hypothesis import given
from hypothesis import strategies as st
from landed import HOSTILE, landing
from test_metrics import judged, probed

from observer.findings import Actor
from observer.landing import Landing, render
from observer.log import spelled_time
from observer.record import Judgement, Kind, Outcome, Source

VOID = {"meta", "br"}
OPTIONAL = {"tr", "th", "td", "tbody", "thead"}  # their end tags may be left out


class Page(HTMLParser):
    """A page as a browser takes it apart; strict about what is not closed."""

    def __init__(self, body: bytes) -> None:
        """Read it."""
        super().__init__()
        self.tags: list[str] = []
        self.attributes: list[tuple[str, str | None]] = []
        self.text = ""
        self._open: list[str] = []
        self.feed(body.decode())
        self.close()
        assert [] == self._open

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Note it."""
        self.tags.append(tag)
        self.attributes += attrs
        if tag not in VOID | OPTIONAL:
            self._open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        """Check that it closes what was opened last."""
        if tag not in OPTIONAL:
            assert tag == self._open.pop()

    def handle_data(self, data: str) -> None:
        """Collect what is read."""
        self.text += data


def page(told: Landing) -> Page:
    """Render and read."""
    return Page(render(told, spelled_time))


def test_the_page_tells_the_state_of_this_host() -> None:
    """Kernel, semantics, hooks, books, devices with drivers, overrides, findings."""
    text = page(landing()).text
    for wanted in (
        *("6.12.90+deb13-amd64", "linux-5.15", "pci_match_device", "missing"),
        *("Device or resource busy", "Emitted", "Lost: reserve", "0000:00:02.0"),
        *("144d:a80a", "010802", "nvme", "vfio-pci", "stale_override", "9.0 MiB"),
        "echo > /sys/bus/pci/devices/0000:00:00.0/driver_override",
        *("No divergence so far.", "200 devices, 157 with a driver", "3 findings"),
    ):
        assert wanted in text, wanted


def test_a_healthy_host_reads_so() -> None:
    """In one line at the top."""
    told = landing(findings=0)
    healthy = told._replace(status=told.status._replace(hooks={}, divergences=0))
    assert "1 lost event; " in page(healthy).text
    text = page(healthy._replace(lost={"reserve": 0})).text
    assert "Nothing is wrong; " in text
    assert "Nothing is wrong with any device." in text
    assert "not needed by this kernel" in text


def test_the_last_divergences_are_explained() -> None:
    """What the kernel answered, what the model, and why; of probes as well."""
    decision = judged(
        "ice", Source.OVERRIDE, Judgement.DIVERGE, Kind.DIFFERENT_SOURCE
    )._replace(expected=Outcome(Source.STATIC, 3))
    probe = probed("nvme", kind=Kind.PROBE_WITHOUT_MATCH)
    told = landing(diverged=(probe, decision))
    text = page(told).text
    for wanted in ("override", "static 3", "ice", "nvme", "no match was seen"):
        assert wanted in text
    assert "No divergence so far." not in text


def test_an_unknown_machine_is_said_to_be() -> None:
    """Before the first look."""
    assert "not looked at yet" in page(landing(machine=None)).text


@pytest.mark.parametrize("devices", [0, 1, 200])
def test_size(devices: int) -> None:
    """50 kB for 200 devices at most, also where each has an override."""
    plain = render(landing(devices, findings=0), spelled_time)
    wrong = render(landing(devices, findings=min(devices, 20)), spelled_time)
    assert len(plain) <= 50_000
    assert len(wrong) <= 50_000


def test_size_is_bounded() -> None:
    """Thousands of devices that are all wrong are told in part, and how many more."""
    body = render(landing(5000, findings=5000), spelled_time)
    assert len(body) <= 400_000
    assert "And 4600 more." in Page(body).text


def test_nothing_of_others_becomes_markup() -> None:
    """Whoever is root chooses a driver_override; a name may be anything."""
    device = machines.device(bound=HOSTILE, driver_override=HOSTILE)
    told = landing(machine=machines.machine(device))
    told = told._replace(status=told.status._replace(kernel=HOSTILE))
    body = render(told, spelled_time)
    seen = Page(body)
    assert "script" not in seen.tags
    assert "<script>alert(1)</script>" in seen.text  # to be read
    assert not set("\x1b\u202e\n") & set(seen.text.split("PCI observer\n", 1)[-1]) - {
        "\n"
    }
    assert "x" * 129 not in seen.text
    assert "…" in seen.text


@given(st.text(), st.text())
def test_any_text_is_only_text(name: str, override: str) -> None:
    """The elements and attributes are ours, whatever the text."""

    def parts(bound: str, driver_override: str) -> tuple[list[str], object]:
        device = machines.device(bound=bound, driver_override=driver_override)
        read = page(landing(machine=machines.machine(device)))
        return read.tags, read.attributes

    assert parts("a", "b") == parts(name or "a", override or "b")


def test_nobody_is_named() -> None:
    """Who reaches the port learns no more than from the metrics."""
    told = landing()
    actor = Actor(machines.TASK, 4711)
    named = tuple(
        each._replace(actor=actor, text=f"by comm=tee pid=123 uid=4711: {each.text}")
        for each in told.findings
    )
    text = page(told._replace(findings=named)).text
    assert not re.search(r"4711|pid=|comm=|\btee\b", text)


def test_the_page_is_accessible_by_its_structure() -> None:
    """Language, one h1, headings in order, captions, scopes, a way past the tables."""
    read = page(landing())
    assert ("lang", "en") in read.attributes
    headings = [tag for tag in read.tags if re.fullmatch("h[1-6]", tag)]
    assert headings[0] == "h1"
    assert {"h2"} == set(headings[1:])
    assert read.tags.count("table") == read.tags.count("caption")
    assert read.tags.count("th") == read.attributes.count(("scope", "col"))
    assert ("href", "#devices") in read.attributes
    assert ("id", "devices") in read.attributes
    assert {"header", "main", "footer"} <= set(read.tags)
    links = [value for name, value in read.attributes if name == "href"]
    assert ["#devices", "/metrics", "/-/healthy", "/-/ready"] == links


def test_audit_only() -> None:
    """The first word is that no decision is seen."""
    told = landing()
    text = page(told._replace(status=told.status._replace(since=0, method="none"))).text
    assert "audit only, " in text
    assert "never: audit only" in text
    assert "audit only" not in page(told).text

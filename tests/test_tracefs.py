"""observer/tracefs.py: what it reads, what it refuses, and what it leaves behind."""

from __future__ import annotations

import errno
from collections import Counter
from typing import TYPE_CHECKING, Final

import pytest
from shapes import all_layouts
from test_boot_trace import RELEASES, recorded
from tracing_ring import Tracefs

from observer.boot_args import command_line
from observer.tracefs import (
    TracefsError,
    append,
    is_armed,
    is_asked_for,
    take,
)

if TYPE_CHECKING:
    from pathlib import Path

    from observer.layout import Layout
    from observer.tracefs import Recorded

LAYOUTS: Final = all_layouts()
RELEASE: Final = "6.1.0-56-amd64"
LAYOUT: Final = LAYOUTS[RELEASE]
FREED: Final = [("options/record-tgid", "0\n"), ("buffer_size_kb", "1\n")]


@pytest.fixture
def ring(tmp_path: Path) -> Tracefs:
    """Return the ring of a boot."""
    return Tracefs(tmp_path / "tracing", RELEASE)


def took(ring: Tracefs, layout: Layout = LAYOUT) -> Recorded | None:
    """Take what is there."""
    cmdline = ring.root / "cmdline"
    return take(layout, roots=[ring.root], cmdline=cmdline, write=ring.write)


def refused(ring: Tracefs, layout: Layout = LAYOUT) -> str:
    """Return the sentence about what can't be used."""
    with pytest.raises(TracefsError) as caught:
        took(ring, layout)
    return str(caught.value)


@pytest.mark.parametrize("release", RELEASES)
def test_everything_is_read(release: str, tmp_path: Path) -> None:
    """All events, the kernel's count of each, and the process of each thread."""
    found = took(Tracefs(tmp_path / "tracing", release), LAYOUTS[release])
    assert found is not None
    assert recorded(release) == found.events
    assert Counter(event.name for event in found.events) == found.hits
    assert 1 == found.tgids[1]


def test_nothing_is_left(ring: Tracefs) -> None:
    """The events go, disabled first for they are busy otherwise; the memory too."""
    took(ring)
    assert [] == ring.definitions == ring.enabled
    assert ("set_event", f"!{ring.group}:*\n") == ring.written[0]
    assert FREED == ring.written[-2:]


def test_an_event_that_stays(ring: Tracefs) -> None:
    """Where it is in use it can't be removed; what was read is not lost for that."""
    ring.busy = "m"
    found = took(ring)
    assert found is not None
    assert 284 == found.hits["m"]
    assert 1 == len(ring.definitions)
    assert "was ended before" in refused(ring)


def test_memory_that_is_not_given_back(ring: Tracefs) -> None:
    """The ring is busy: what was read is not lost for that."""

    def write(path: Path, text: str) -> None:
        if path.name == "buffer_size_kb":
            raise OSError(errno.EBUSY, "busy")
        ring.write(path, text)

    cmdline = ring.root / "cmdline"
    found = take(LAYOUT, roots=[ring.root], cmdline=cmdline, write=write)
    assert found is not None
    assert 284 == found.hits["m"]


def test_events_of_others_stay(ring: Tracefs) -> None:
    """Also one of the same name, whose hits are counted apart."""
    other = "p:lab/m pci_match_device"
    ring.define(other, 12345)
    found = took(ring)
    assert found is not None
    assert 284 == found.hits["m"]
    assert [other] == ring.definitions


@pytest.mark.parametrize("used", ["sched:sched_switch", "the tracer function"])
def test_a_ring_that_others_use(ring: Tracefs, used: str) -> None:
    """It is neither read nor made smaller; our events stop and go."""
    if used.startswith("sched"):
        ring.enable(used)
    else:
        (ring.root / "current_tracer").write_text("function\n")
    assert (
        f"the kernel's tracing ring is also used by {used}, so it was left alone"
    ) == refused(ring)
    assert [] == ring.definitions
    assert not [path for path, _ in ring.written if path == "buffer_size_kb"]
    assert [used] * used.startswith("sched") == ring.enabled


def test_a_stale_line(ring: Tracefs) -> None:
    """What belongs to another kernel image says so, and goes like the rest."""
    sentence = refused(ring, LAYOUTS["7.3.4+deb13-amd64"])
    assert sentence.startswith(
        "the kernel command line has events pobs_873abc87, not pobs_e0171253 of this "
        "kernel: they belong to another kernel image or were cut off"
    )
    assert [] == ring.definitions
    assert FREED == ring.written[-2:]


def test_a_line_that_was_cut_off(ring: Tracefs) -> None:
    """The group's name is right then, and events are missing."""
    del ring.definitions[-1]
    ring.enable("pobs_873abc87:x")
    assert "or were cut off" in refused(ring)


def test_another_clock(ring: Tracefs) -> None:
    """Times that can't be compared with the hooks' are not used."""
    (ring.root / "trace_clock").write_text("[local] global counter mono\n")
    assert "the tracing ring's clock is not mono" in refused(ring)
    assert [] == ring.definitions


def test_broken_pages(ring: Tracefs) -> None:
    """They are told, and all is removed nevertheless."""
    (ring.root / "per_cpu/cpu0/trace_pipe_raw").write_bytes(b"\xff" * 4096)
    assert refused(ring).startswith("the tracing ring can't be understood: a page of")
    assert [] == ring.definitions


def test_nothing_was_asked_for(tmp_path: Path) -> None:
    """Then nothing is to be said, whether there is a tracefs or not."""
    cmdline = tmp_path / "cmdline"
    cmdline.write_text("quiet kprobe_event=p:lab/m,pci_match_device\n")
    assert None is take(LAYOUT, roots=[tmp_path], cmdline=cmdline)
    (tmp_path / "kprobe_events").write_text("p:lab/m pci_match_device\n")
    assert None is take(LAYOUT, roots=[tmp_path], cmdline=cmdline)
    assert not is_armed(roots=[tmp_path])
    assert not is_asked_for(cmdline=cmdline)


def test_asked_for_in_vain(tmp_path: Path) -> None:
    """It is told that tracefs is missing, or that the events are."""
    cmdline = tmp_path / "cmdline"
    cmdline.write_text(command_line(LAYOUT))
    assert is_asked_for(cmdline=cmdline)
    with pytest.raises(TracefsError, match="tracefs is not mounted: mount -t tracefs"):
        take(LAYOUT, roots=[tmp_path / "none"], cmdline=cmdline)
    (tmp_path / "kprobe_events").write_text("")
    with pytest.raises(TracefsError, match="an earlier start took them"):
        take(LAYOUT, roots=[tmp_path], cmdline=cmdline)


def test_forbidden(tmp_path: Path) -> None:
    """An error of the system is told where a recording was asked for."""
    cmdline, loop = tmp_path / "cmdline", tmp_path / "kprobe_events"
    loop.symlink_to(loop)
    cmdline.write_text("")
    assert None is take(LAYOUT, roots=[tmp_path], cmdline=cmdline)
    cmdline.write_text(command_line(LAYOUT))
    with pytest.raises(TracefsError, match="kprobe_events: Too many levels"):
        take(LAYOUT, roots=[tmp_path], cmdline=cmdline)


def test_armed(ring: Tracefs, tmp_path: Path) -> None:
    """As long as the events are there, wherever tracefs is mounted."""
    assert is_armed(roots=[tmp_path / "none", ring.root])
    took(ring)
    assert not is_armed(roots=[tmp_path / "none", ring.root])


def test_appending(tmp_path: Path) -> None:
    """What is there stays there."""
    path = tmp_path / "file"
    path.write_text("a\n")
    append(path, "b\n")
    assert "a\nb\n" == path.read_text()

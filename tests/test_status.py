"""The machine at a glance, in lines that fit, from a daemon or without one."""

from __future__ import annotations

import fcntl
import io
import os
import struct
import termios
import threading
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from machines import ADDRESS, E1000, device, driver, machine

from observer import control
from observer.audit import Audit, audit
from observer.candidates import Candidate
from observer.control import ControlError
from observer.findings import Finding, Kind, Name
from observer.fingerprint import fingerprint
from observer.record import Device, Id, Indeterminate, Reason
from observer.server import Server
from observer.snapshot import as_object
from observer.status import View, console, render, show, view
from observer.status_page import Line, Status

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from typing import TextIO

    from observer.machine import Machine

PICTURES = Path(__file__).parent / "status"
PATIENCE_S = 10.0  # of a test; reached only when it fails
HOSTILE = "[red]\x1b[31mx\n[/red]"
SPELLED = "[red]\\x1b[31mx\\n[/red]"
RTL8139 = Device(0x10EC, 0x8139, 0x1AF4, 0x1100, 0x020000)
VFIO_PCI = driver(
    "vfio-pci", dynids=(Id(0x10EC, 0x8139), Id(1, 2, 3, 4, 0x30000, 0xFFFF00))
)
STATUS = Status(
    version="0.1.0",
    kernel="6.12.90",
    layout="B",
    semantics="linux-5.15",
    method="fentry",
    since=1_000_001,
    judgements={"agree": 66, "diverge": 0, "indeterminate": 1},
    emitted=67,
    lost=0,
    misses={"pci_match_device": 0},
    hooks={"pci_match_device": ""},
    divergences=0,
    last=(
        Line(
            1_000_060,
            "driverctl[512] uid 0",
            f"write: 'vfio-pci' to driver_override of {ADDRESS}: done",
            alarming=False,
        ),
        Line(1_000_059, "", "3 events lost (reserve)", alarming=True),
    ),
)
MACHINE = machine(
    device(bound="e1000"),
    device("0000:00:03.0", ids=RTL8139, driver_override="vfoi-pci"),
    device("0000:00:04.0", ids=RTL8139, bound="vfio-pci"),
    drivers=(E1000, VFIO_PCI),
    gaps=("The id_table of nvidia can't be read: its module was being unloaded then.",),
)


def found(machine: Machine, *addresses: str) -> Audit:
    """Audit, with one finding at each of these addresses and no other."""
    findings = {
        address: Finding(
            *(address, Name.STALE_OVERRIDE, Kind.NAMES_NO_DRIVER, "text", "cure"),
            *(None, None, {}),
        )
        for address in addresses
    }
    audited = audit(machine)
    return audited._replace(
        findings=tuple(findings.values()),
        devices=tuple(
            each._replace(
                findings=tuple(
                    findings[name] for name in findings if name == each.device.address
                )
            )
            for each in audited.devices
        ),
    )


SEEN = View("host", found(MACHINE, "0000:00:03.0"), STATUS)


def lines(
    seen: View, width: int = 80, height: int | None = None, *, trouble: str = ""
) -> list[str]:
    """Return the picture's lines, without what fills them up."""
    stream = io.StringIO()
    paper = console(stream, {"COLUMNS": str(width)})
    paper.print(render(seen, height=height, trouble=trouble))
    return [line.rstrip() for line in stream.getvalue().splitlines()]


@pytest.mark.parametrize("width", [80, 120])
def test_width(width: int) -> None:
    """In 80 columns what identifies a device stays whole, in 120 names do as well."""
    expected = (PICTURES / f"{width}.txt").read_text("utf-8")
    assert expected.splitlines() == lines(SEEN, width)


def test_file() -> None:
    """In a file nothing is cut."""
    text = "\n".join(lines(SEEN, 4096))
    assert "was being unloaded then." in text
    stream = io.StringIO()
    show(lambda: SEEN, console(stream, {}))
    assert text == "\n".join(line.rstrip() for line in stream.getvalue().splitlines())


def test_no_daemon() -> None:
    """Without a daemon it says so, and when it looked."""
    head = lines(SEEN._replace(status=None))
    assert [
        "pci-observer on host, kernel 6.12.90",
        "layout B, semantics linux-5.15, seen 1970-01-12 13:48:20Z",
        "! no daemon: only the present is known",
        "! 2 drivers, 3 devices (2 bound), findings: 1, bindings "
        + fingerprint(MACHINE.devices.values()),
    ] == head[:4]


@pytest.mark.parametrize(
    ("change", "line"),
    [
        (
            {"divergences": 2},
            "! 67 decisions: 66 agree, 0 diverge, 1 indeterminate; divergences: 2",
        ),
        ({"lost": 2}, "! 67 emitted, 2 lost, 0 missed"),
        ({"misses": {"a": 1, "b": 2}}, "! 67 emitted, 0 lost, 3 missed"),
        (
            {"hooks": {"a": "", "driver_probe_device": "no such symbol"}},
            "! driver_probe_device is not hooked: no such symbol",
        ),
    ],
)
def test_alarms(change: dict[str, object], line: str) -> None:
    """What is wrong with the observation itself is marked."""
    status = STATUS._replace(**change)
    assert line in lines(SEEN._replace(status=status))
    assert line not in lines(SEEN)


def test_findings_first() -> None:
    """Devices with findings come first, the rest in order."""
    told = lines(SEEN._replace(audit=found(MACHINE, "0000:00:04.0")))
    rows = [line for line in told if line[2:].startswith("0000:")]
    assert ["! 0000:00:04.0", "  0000:00:02.0", "  0000:00:03.0"] == [
        row[:14] for row in rows
    ]


def test_possible_candidates() -> None:
    """Drivers of which too much is unknown to tell are counted."""
    doubt = Candidate("b", Indeterminate(Reason.TABLE_UNKNOWN), "", certain=False)
    audited = audit(machine(device()))
    devices = (audited.devices[0]._replace(possible=(doubt, doubt)),)
    text = "\n".join(lines(SEEN._replace(audit=audited._replace(devices=devices))))
    assert "e1000, 2 possible" in text


def test_hostile_text() -> None:
    """Text from outside is neither markup nor a terminal's control sequence."""
    hostile = machine(
        device(HOSTILE, bound=HOSTILE, driver_override=HOSTILE),
        drivers=(driver(HOSTILE, Id(0x8086, 0x100E), dynids=(Id(1, 2),)),),
        gaps=(HOSTILE,),
        release=HOSTILE,
        layout=HOSTILE,
    )
    status = STATUS._replace(
        version=HOSTILE,
        method=HOSTILE,
        hooks={HOSTILE: HOSTILE},
        last=(Line(0, HOSTILE, HOSTILE, alarming=False),),
    )
    told = lines(View(HOSTILE, audit(hostile), status), 4096, trouble=HOSTILE)
    text = "\n".join(told)
    assert text.isascii()
    assert "\x1b" not in text
    assert 16 == text.count(SPELLED) == text.count("[red]")


def test_wide_text() -> None:
    """Characters that fill two cells are counted as two."""
    wide = machine(device(driver_override="漢字" * 40))
    told = lines(SEEN._replace(audit=audit(wide)))
    row = next(line for line in told if ADDRESS in line)
    assert "漢字" in row
    assert len(row.encode("utf-16-le")) // 2 + row.count("漢") + row.count("字") <= 80


MANY = machine(
    *(device(f"0000:{bus:02x}:00.0", bound="e1000") for bus in range(200)),
    drivers=(E1000, *(driver(f"d{n}", dynids=(Id(1, n),)) for n in range(20))),
    gaps=tuple(f"Gap {n}." for n in range(20)),
)
CROWD = View("host", found(MANY, "0000:c7:00.0"), STATUS._replace(last=STATUS.last * 9))


@pytest.mark.parametrize("height", [24, 25, 40, 100, 269, 270, 500])
def test_height(height: int) -> None:
    """However much there is, the picture fits and says how much more there is."""
    told = lines(CROWD, 80, height)
    assert len(told) <= height
    cut = [line for line in told if line.startswith("  ... and ")]
    assert (height < 270) == bool(cut)
    if cut:
        assert height == len(told)
    assert "! 0000:c7:00.0" in "\n".join(told)
    shown = sum(line[2:].startswith("0000:") for line in told)
    more = [
        line for line in cut if told.index(line) == told.index("Seen last (18)") - 1
    ]
    assert (f"  ... and {200 - shown} more" in more) == (shown < 200)


def test_low_terminal() -> None:
    """In a terminal that is far too low a few rows of each remain."""
    told = lines(CROWD, 80, 5)
    assert 4 == sum(line.startswith("  ... and ") for line in told)


@contextmanager
def terminal(columns: int, rows: int) -> Iterator[tuple[TextIO, Callable[[], str]]]:
    """Yield a terminal to write to, and what ends it and returns what was written."""
    reader, writer = os.openpty()
    fcntl.ioctl(writer, termios.TIOCSWINSZ, struct.pack("4H", rows, columns, 0, 0))
    chunks = []

    def read() -> None:
        with suppress(OSError):  # EIO: it was closed
            while True:
                chunks.append(os.read(reader, 1 << 16))

    thread = threading.Thread(target=read)
    thread.start()
    stream = os.fdopen(writer, "w", encoding="utf-8")

    def written() -> str:
        stream.close()
        thread.join(PATIENCE_S)
        return b"".join(chunks).decode()

    try:
        yield stream, written
    finally:
        written()
        os.close(reader)


def display(seen: Iterator[View | ControlError], columns: int, rows: int) -> str:
    """Show these on a terminal, then press Ctrl-C; return what was written."""

    def see() -> View:
        following = next(seen)
        if isinstance(following, ControlError):
            raise following
        return following

    waited = []

    def wait(seconds: float) -> None:
        waited.append(seconds)
        if len(waited) == 3:
            raise KeyboardInterrupt

    with terminal(columns, rows) as (stream, written):
        show(see, console(stream, {"TERM": "xterm"}), interval_s=0.5, wait=wait)
        assert [0.5] * 3 == waited
        return written()


ENTER, LEAVE = "\x1b[?1049h", "\x1b[?1049l"


def test_live() -> None:
    """On a terminal it is shown again and again, on a screen of its own."""
    later = SEEN._replace(status=STATUS._replace(lost=5))
    text = display(iter([SEEN, later, SEEN]), 80, 24)
    assert text.startswith(ENTER)
    assert [1, 1] == [text.count(ENTER), text.count(LEAVE)]
    assert [3, 1] == [
        text.count("pci-observer 0.1.0"),
        text.count("67 emitted, 5 lost"),
    ]
    assert "0000:00:03.0" in text


def test_live_trouble() -> None:
    """A daemon that fails to answer once is said, above what was seen before."""
    text = display(iter([SEEN, ControlError("it is busy"), SEEN]), 80, 24)
    assert [3, 1] == [text.count("pci-observer 0.1.0"), text.count("! it is busy")]


def test_first_trouble() -> None:
    """If the first answer fails, nothing is shown."""
    with pytest.raises(ControlError, match="it is busy"):
        display(iter([ControlError("it is busy")]), 80, 24)


def test_once() -> None:
    """On a terminal, but once: its width counts, not its height, and it ends."""
    with terminal(80, 10) as (stream, written):
        show(lambda: CROWD, console(stream, {"TERM": "xterm"}), once=True)
        told = written().splitlines()
    assert [270, True] == [len(told), ENTER not in "".join(told)]


@pytest.mark.parametrize("environ", [{"TERM": "xterm"}, {"NO_COLOR": "1"}])
def test_colour(environ: dict[str, str]) -> None:
    """Findings are red, where NO_COLOR does not forbid it."""
    with terminal(80, 24) as (stream, written):
        show(lambda: SEEN, console(stream, {"TERM": "xterm"} | environ), once=True)
        assert ("31m" not in written()) == ("NO_COLOR" in environ)


def test_dumb_terminal() -> None:
    """A terminal that can't move its cursor gets the picture once."""
    with terminal(80, 24) as (stream, written):
        show(lambda: SEEN, console(stream, {"TERM": "dumb"}))
        assert ENTER not in written()


def test_poor_encoding() -> None:
    """A terminal or file without Unicode gets what is not there spelled."""
    wide = machine(device(driver_override="漢字"))
    raw = io.BytesIO()
    with io.TextIOWrapper(raw, encoding="latin-1") as stream:
        show(lambda: SEEN._replace(audit=audit(wide)), console(stream, {}))
        stream.flush()
        assert b"\\u6f22\\u5b57" in raw.getvalue()


@contextmanager
def daemon(path: Path, status: dict[str, object], seen: Machine) -> Iterator[None]:
    """Answer as the daemon does."""
    pages = control.routes(machine=lambda: as_object(seen), status=lambda: status)
    server = Server(control.listen(path), pages)
    server.start()
    yield
    server.stop()


def never() -> Machine:
    """Look at the machine although a daemon is there."""
    raise AssertionError


def test_from_the_daemon(tmp_path: Path) -> None:
    """What the daemon knows is shown."""
    path = tmp_path / "observer.sock"
    with daemon(path, STATUS.as_object(), MACHINE):
        seen = view(path, never)
    assert View(os.uname().nodename, audit(MACHINE), STATUS) == seen


def test_from_a_look(tmp_path: Path) -> None:
    """Without a daemon the machine itself is looked at."""
    seen = view(tmp_path / "observer.sock", lambda: MACHINE)
    assert View(os.uname().nodename, audit(MACHINE), None) == seen


@pytest.mark.parametrize(
    ("status", "seen", "name"),
    [
        ({}, MACHINE, "judgements: missing"),
        (STATUS.as_object(), MACHINE._replace(semantics="linux-9.9"), "linux-9.9"),
    ],
)
def test_another_version(
    tmp_path: Path, status: dict[str, object], seen: Machine, name: str
) -> None:
    """A daemon that says other things is named, with what is not understood."""
    path = tmp_path / "observer.sock"
    with (
        daemon(path, status, seen),
        pytest.raises(ControlError, match=f"of another version.*{name}.*restart it"),
    ):
        view(path, never)


def test_audit_only() -> None:
    """Where nothing is hooked no books are shown, but why there are none."""
    hooks = {"pci_match_device": "locked down", "bind_store": "nothing is hooked"}
    status = STATUS._replace(since=0, method="none", hooks=hooks)
    text = "\n".join(lines(SEEN._replace(status=status)))
    assert "! audit only, no decision is seen: locked down" in text
    assert "emitted" not in text
    assert "bind_store" not in text

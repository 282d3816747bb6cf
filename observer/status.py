"""The machine at a glance: a table for a person, kept up to date on a terminal.

The only module that imports rich. Whatever is shown is plain text, never markup, and
what comes from the kernel or its users is made printable.
"""

from __future__ import annotations

import os
from contextlib import suppress
from datetime import UTC, datetime
from io import TextIOWrapper
from time import sleep
from typing import TYPE_CHECKING, Final, NamedTuple

from rich.console import Console, Group
from rich.live import Live
from rich.table import Table
from rich.text import Text

from observer.audit import audit
from observer.control import ControlError, fetch
from observer.fields import FieldError
from observer.fingerprint import fingerprint
from observer.hooks import PCI_MATCH_DEVICE
from observer.record import PCI_ANY_ID
from observer.snapshot import from_object
from observer.status_page import Status
from observer.text import printable

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence
    from pathlib import Path
    from typing import TextIO

    from rich.console import RenderableType

    from observer.audit import Audit, Audited
    from observer.machine import Machine
    from observer.record import Id

_WIDE: Final = 4096  # columns of a file: nothing is cut
_LEAST: Final = 3  # rows of each section, however low the terminal
_ALARM: Final = "bold red"


class View(NamedTuple):
    """What is shown."""

    host: str
    audit: Audit  # of the machine
    status: Status | None  # None: there is no daemon


class _Section(NamedTuple):
    title: str
    headings: tuple[str, ...]
    firm: int  # so many of the columns are not cut in a narrow terminal
    rows: Sequence[Sequence[Text]]


def view(socket: Path, look: Callable[[], Machine]) -> View:
    """Ask the daemon, or where there is none, look.

    Raises ControlError when there is a daemon that does not answer, and what `look`
    raises.
    """
    host = os.uname().nodename
    status, machine = fetch(socket, "/status"), fetch(socket, "/machine")
    if status is None or machine is None:
        return View(host, audit(look()), None)
    try:
        return View(host, audit(from_object(machine)), Status.from_object(status))
    except (FieldError, KeyError) as e:  # KeyError: a semantics not known here
        raise ControlError(
            f"the daemon behind {socket} is of another version than this command "
            f"({e}); restart it"
        ) from e


def console(stream: TextIO, environ: Mapping[str, str] = os.environ) -> Console:
    """Return a console that cuts lines at a terminal's width, and in no file."""
    if isinstance(stream, TextIOWrapper):  # what it can't encode it spells
        stream.reconfigure(errors="backslashreplace")
    cut = stream.isatty() or "COLUMNS" in environ
    return Console(file=stream, width=None if cut else _WIDE, _environ=environ)


def show(
    see: Callable[[], View],
    console: Console,
    *,
    once: bool = False,
    interval_s: float = 2.0,
    wait: Callable[[float], None] = sleep,
) -> None:
    """Print what `see` returns; on a terminal show it anew until Ctrl-C.

    Raises what the first `see` raises. A ControlError after that is shown, and what was
    seen before stays.
    """
    seen, trouble = see(), ""
    if once or not console.file.isatty() or console.is_dumb_terminal:
        console.print(render(seen))
        return
    with (
        suppress(KeyboardInterrupt),
        Live(console=console, screen=True, auto_refresh=False) as live,
    ):
        while True:
            picture = render(seen, height=console.height, trouble=trouble)
            live.update(picture, refresh=True)
            wait(interval_s)
            try:
                seen, trouble = see(), ""
            except ControlError as e:
                trouble = str(e)


def render(seen: View, *, height: int | None = None, trouble: str = "") -> Group:
    """Return the picture, cut to so many lines; `trouble` says why it is an old one."""
    head = [*_head(seen)]
    if trouble:
        head.insert(0, _alarm(trouble))
    sections = [each for each in _sections(seen) if each.rows]
    shares = [len(each.rows) for each in sections]
    if height is not None:
        taken = sum(2 if each.headings else 1 for each in sections)
        shares = _shares(shares, height - len(head) - taken)
    body = (
        part
        for section, share in zip(sections, shares, strict=True)
        for part in _parts(section, share)
    )
    return Group(*head, *body)


def _head(seen: View) -> Iterator[Text]:
    machine, status = seen.audit.machine, seen.status
    version = f" {status.version}" if status else ""
    title = f"pci-observer{version} on {seen.host}, kernel {machine.release}"
    yield _text(title, "bold")
    judged_by = f"layout {machine.layout}, semantics {seen.audit.semantics}"
    if status is None:
        yield _text(f"{judged_by}, seen {_time(_now(machine))}")
        yield _alarm("no daemon: only the present is known")
    elif status.since:
        since = f"by {status.method} since {_time(status.since)}"
        yield _text(f"{judged_by}, {since}")
        yield from _books(status)
    else:
        yield _text(f"{judged_by}, seen {_time(_now(machine))}")
        problem = status.hooks.get(PCI_MATCH_DEVICE)
        yield _alarm(f"audit only, no decision is seen: {problem}")
    bound = sum(device.driver is not None for device in machine.devices.values())
    line = (
        f"{len(machine.drivers)} drivers, {len(machine.devices)} devices "
        f"({bound} bound), findings: {len(seen.audit.findings)}, "
        f"bindings {fingerprint(machine.devices.values())}"
    )
    yield _alarm(line) if seen.audit.findings else _text(line)


def _books(status: Status) -> Iterator[Text]:
    each = ", ".join(f"{count} {name}" for name, count in status.judgements.items())
    total = sum(status.judgements.values())
    line = f"{total} decisions: {each}; divergences: {status.divergences}"
    yield _alarm(line) if status.divergences else _text(line)
    missed = sum(status.misses.values())
    line = f"{status.emitted} emitted, {status.lost} lost, {missed} missed"
    yield _alarm(line) if status.lost or missed else _text(line)
    for hook, problem in status.hooks.items():
        if problem:
            yield _alarm(f"{hook} is not hooked: {problem}")


def _sections(seen: View) -> tuple[_Section, ...]:
    """Return all sections, the one that gets most room first."""
    machine = seen.audit.machine
    return (
        _devices(seen.audit.devices),
        _last(seen.status),
        _dynids(machine),
        _gaps(machine),
    )


def _devices(devices: Sequence[Audited]) -> _Section:
    headings = (
        *("  ADDRESS", "IDS", "CLASS"),
        *("DRIVER", "OVERRIDE", "CANDIDATES", "FINDINGS"),
    )
    first = sorted(devices, key=lambda each: not each.findings)
    return _Section("Devices", headings, 3, [_device(each) for each in first])


def _device(audited: Audited) -> tuple[Text, ...]:
    device, ids = audited.device, audited.device.ids
    candidates = [each.driver for each in audited.candidates]
    if audited.possible:
        candidates.append(f"{len(audited.possible)} possible")
    findings = dict.fromkeys(str(each.finding) for each in audited.findings)
    mark = _alarm if findings else _indented
    return (
        mark(device.address),
        _text(f"{ids.vendor:04x}:{ids.device:04x}"),
        _text(f"{ids.class_:06x}"),
        _text("-" if device.driver is None else device.driver),
        _text(device.driver_override or ""),
        _text(", ".join(candidates)),
        _text(", ".join(findings), _ALARM),
    )


def _last(status: Status | None) -> _Section:
    rows = [
        (
            (_alarm if line.alarming else _indented)(_clock(line.time)),
            _text(line.actor),
            _text(line.what),
        )
        for line in (status.last if status else ())
    ]
    return _Section("Seen last", ("  TIME", "BY", "WHAT"), 1, rows)


def _dynids(machine: Machine) -> _Section:
    rows = [
        (_indented(name), _text(", ".join(map(_id, driver.dynids))))
        for name, driver in machine.drivers.items()
        if driver.dynids
    ]
    return _Section("Ids added by new_id", ("  DRIVER", "IDS"), 0, rows)


def _gaps(machine: Machine) -> _Section:
    rows = [(_indented(gap),) for gap in machine.gaps]
    return _Section("Not known", (), 0, rows)


def _id(dynid: Id) -> str:
    """Spell a dynid as it was written to new_id, without what goes without saying."""
    text = f"{dynid.vendor:04x}:{dynid.device:04x}"
    if (dynid.subvendor, dynid.subdevice) != (PCI_ANY_ID, PCI_ANY_ID):
        text += f":{dynid.subvendor:04x}:{dynid.subdevice:04x}"
    if dynid.class_mask:
        text += f" class {dynid.class_:06x}/{dynid.class_mask:06x}"
    return text


def _shares(sizes: Sequence[int], room: int) -> list[int]:
    """Share the rows: a few for each, then to the first ones what they need."""
    shares = [min(size, _LEAST) for size in sizes]
    left = room - sum(shares)
    for place, size in enumerate(sizes):
        more = max(0, min(size - shares[place], left))
        shares[place] += more
        left -= more
    return shares


def _parts(section: _Section, share: int) -> Iterator[RenderableType]:
    rows, more = section.rows, 0
    if share < len(rows):
        rows, more = rows[: share - 1], len(rows) - share + 1
    yield _text(f"{section.title} ({len(section.rows)})", "bold")
    if section.headings:
        yield _table(section, rows)
    else:
        yield from (text for row in rows for text in row)
    if more:
        yield _indented(f"... and {more} more")


def _table(section: _Section, rows: Sequence[Sequence[Text]]) -> Table:
    table = Table(
        box=None,
        padding=(0, 1, 0, 0),
        pad_edge=False,
        header_style="",
    )
    for place, heading in enumerate(section.headings):
        table.add_column(Text(heading, "bold"), no_wrap=place < section.firm)
    for row in rows:
        table.add_row(*row)
    return table


def _text(text: str, style: str = "") -> Text:
    return Text(printable(text), style, no_wrap=True, overflow="ellipsis")


def _indented(text: str) -> Text:
    return _text(f"  {text}")


def _alarm(text: str) -> Text:
    """Return what should be noticed, without colours as well."""
    return _text(f"! {text}", _ALARM)


def _now(machine: Machine) -> int:
    return (machine.now_ns + machine.realtime_offset_ns) // 1_000_000_000


def _time(seconds: int) -> str:
    return f"{datetime.fromtimestamp(seconds, UTC):%Y-%m-%d %H:%M:%SZ}"


def _clock(seconds: int) -> str:
    return f"{datetime.fromtimestamp(seconds, UTC):%H:%M:%SZ}"

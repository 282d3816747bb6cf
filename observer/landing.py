"""The page at `/`: this host's state for a person, one page without JavaScript.

Whoever reaches the port reads it, so it tells what metrics tell: no task, no user and
no kernel address. All text of others is spelled printable, cut and escaped.
"""

from __future__ import annotations

from collections import defaultdict
from html import escape
from typing import TYPE_CHECKING, Final, NamedTuple

from observer.findings.picture import needs_no_driver
from observer.fingerprint import fingerprint
from observer.hooks import HOOKS
from observer.labels import LABEL_CHARACTERS
from observer.model import why
from observer.record import Judged, Source
from observer.terminal import counted
from observer.text import printable

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from observer.findings import Clock, Finding
    from observer.machine import Machine, PciDevice
    from observer.record import Outcome, Probed
    from observer.status_page import Status

ROWS: Final = 400  # of devices, and of findings
SHOWN: Final = 10  # divergences
_STYLE: Final = """\
:root{color-scheme:light dark;--bg:#fff;--fg:#111;--dim:#595959;--line:#8886;
--bad:#b3261e;--good:#146c2e}
@media(prefers-color-scheme:dark){:root{--bg:#16181b;--fg:#eee;--dim:#b0b0b0;
--bad:#ff8a80;--good:#7ddc94}}
body{background:var(--bg);color:var(--fg);font:16px/1.5 system-ui,sans-serif;
max-width:75rem;margin:0 auto;padding:1rem}
h1{font-size:1.5rem;margin:0}h2{font-size:1.15rem;margin:1.6rem 0 .3rem}
dl{display:grid;grid-template-columns:repeat(auto-fill,minmax(16rem,1fr));margin:0;
gap:.1rem 1.5rem}
dl div{display:flex;gap:.6rem;justify-content:space-between}
dl div,td,th{border-bottom:1px solid var(--line)}
dt,caption{color:var(--dim)}dd{margin:0;text-align:right;overflow-wrap:anywhere}
.t{overflow-x:auto}table{border-collapse:collapse;width:100%}
caption,td,th{text-align:left}td,th{vertical-align:top;padding:.1rem .7rem .1rem 0}
td{font-variant-numeric:tabular-nums}td:first-child{white-space:nowrap}
.bad,.good{color:var(--bad);font-weight:600}.good{color:var(--good)}
a{color:inherit}.skip{position:absolute;left:-99rem}.skip:focus{left:1rem}
"""


class Landing(NamedTuple):
    """What the page tells."""

    status: Status
    received: int  # match decisions
    decoded: int
    boot: Mapping[str, int]  # decisions of the boot by judgement
    lost: Mapping[str, int]  # events by stage
    kept_bytes: int | None  # of the history; None: none is kept
    degraded: bool  # it should be kept and can't be
    machine: Machine | None  # None: not looked at yet
    findings: tuple[Finding, ...]
    diverged: tuple[Judged | Probed, ...]  # the last ones, newest first
    bound_before: int  # devices whose bind was not seen
    now_ns: int  # Unix time


def render(landing: Landing, clock: Clock) -> bytes:
    """Return the page; `clock` spells Unix times given in ns."""
    return "".join(_page(landing, clock)).encode()


def _page(landing: Landing, clock: Clock) -> Iterator[str]:
    status = landing.status
    yield (
        '<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width,initial-scale=1">'
        f"<title>PCI observer: Linux {_text(status.kernel)}</title>"
        f'<style>{_STYLE}</style></head><body><a class="skip" href="#devices">To the '
        "devices</a><header><h1>PCI observer</h1>"
    )
    yield f"<p>{_verdict(landing)}</p></header><main>"
    yield from _about(landing, clock)
    yield from _findings(landing)
    yield from _divergences(landing, clock)
    yield from _books(landing)
    yield from _hooks(status)
    yield from _devices(landing)
    yield (
        '</main><footer><p><a href="/metrics">Metrics</a>, <a href="/-/healthy">healthy'
        '</a>, <a href="/-/ready">ready</a>. As of '
        f"{_text(clock(landing.now_ns))}.</p></footer></body></html>\n"
    )


def _verdict(landing: Landing) -> str:
    wrong = [
        counted(number, word)
        for number, word in (
            (landing.status.divergences, "divergence"),
            (len(landing.findings), "finding"),
            (_missing(landing.status), "missing hook"),
            (sum(landing.lost.values()), "lost event"),
        )
        if number
    ]
    if landing.degraded:
        wrong.append("no history is kept")
    if not landing.status.since:
        wrong.insert(0, "audit only")
    judged = counted(sum(landing.status.judgements.values()), "decision")
    if wrong:
        return f'<span class="bad">{", ".join(wrong)}</span>; {judged} judged.'
    return f'<span class="good">Nothing is wrong</span>; {judged} judged.'


def _missing(status: Status) -> int:
    return sum(problem != "" for problem in status.hooks.values())


def _section(title: str, name: str = "") -> str:
    return f'<h2 id="{name}">{title}</h2>' if name else f"<h2>{title}</h2>"


def _pairs(pairs: Iterable[tuple[str, str]]) -> str:
    inside = "".join(f"<div><dt>{k}</dt><dd>{v}</dd></div>" for k, v in pairs)
    return f"<dl>{inside}</dl>"


def _about(landing: Landing, clock: Clock) -> Iterator[str]:
    status, machine = landing.status, landing.machine
    pairs = [
        ("Kernel", status.kernel),
        ("Semantics", status.semantics),
        ("Layout", status.layout),
        ("Attached by", status.method),
        ("Observing since", _since(status, clock)),
        ("Version", status.version),
        ("History", _history(landing)),
    ]
    if machine is not None:
        baseline = machine.baseline
        pairs += [
            ("Bindings", fingerprint(machine.devices.values())),
            ("Compared with", baseline.release if baseline else "nothing"),
            ("Bound before that was seen", str(landing.bound_before)),
            ("Not learned", str(len(machine.gaps))),
        ]
    yield _section("This host")
    yield _pairs((name, _text(value)) for name, value in pairs)


def _since(status: Status, clock: Clock) -> str:
    return clock(status.since * 1_000_000_000) if status.since else "never: audit only"


def _history(landing: Landing) -> str:
    if landing.degraded:
        return "should be kept and can't be"
    kept = landing.kept_bytes
    return "not kept" if kept is None else f"{kept / (1 << 20):.1f} MiB"


def _hooks(status: Status) -> Iterator[str]:
    yield _section("Hooks")
    yield from _table(
        "Hooks",
        "Kernel functions that are hooked, and why not.",
        ("Function", "State", "Missed"),
        (
            (
                f"<code>{hook}</code>",
                _hook(status, hook),
                str(status.misses.get(hook, 0)),
            )
            for hook in HOOKS
        ),
    )


def _hook(status: Status, hook: str) -> str:
    problem = status.hooks.get(hook)
    if problem is None:
        return "not needed by this kernel"
    if problem:
        return f'<span class="bad">missing</span>: {_text(problem)}'
    return "attached"


def _books(landing: Landing) -> Iterator[str]:
    status = landing.status
    judged = sum(status.judgements.values())
    open_ = status.emitted - status.lost - judged - landing.lost.get("decode", 0)
    yield _section("Books")
    yield _pairs(
        (
            ("Emitted", str(status.emitted)),
            ("Received", str(landing.received)),
            ("Decoded", str(landing.decoded)),
            *((f"Judged: {name}", str(n)) for name, n in status.judgements.items()),
            *((f"Of the boot: {name}", str(n)) for name, n in landing.boot.items()),
            *((f"Lost: {stage}", str(n)) for stage, n in landing.lost.items()),
            ("Not judged yet", str(open_)),
        )
    )


def _divergences(landing: Landing, clock: Clock) -> Iterator[str]:
    yield _section("Last divergences")
    if not landing.diverged:
        yield "<p>No divergence so far.</p>"
        return
    offset_ns = landing.machine.realtime_offset_ns if landing.machine else 0
    slug = landing.status.semantics
    yield from _table(
        "Last divergences",
        f"The last of {landing.status.divergences}, newest first.",
        ("Time", "Device", "Driver", "Kernel", "Model", "Why"),
        (
            _divergence(each, slug, offset_ns, clock)
            for each in landing.diverged[:SHOWN]
        ),
    )


def _divergence(
    seen: Judged | Probed, slug: str, offset_ns: int, clock: Clock
) -> tuple[str, ...]:
    if isinstance(seen, Judged):
        match = seen.match
        told = (
            clock(match.ktime_ns + offset_ns),
            match.address,
            match.inputs.driver.name,
            _answer(match.outcome),
            _answer(seen.expected) if seen.expected else "",
            why(slug, match.inputs),
        )
    else:
        probe = seen.probe
        told = (
            clock(probe.ktime_ns + offset_ns),
            *(probe.address, probe.name, "bound", "no match"),
            "no match was seen during the probe",
        )
    return tuple(_text(each, 4 * LABEL_CHARACTERS) for each in told)


def _answer(outcome: Outcome) -> str:
    if outcome.match is Source.NONE or outcome.index is None:
        return str(outcome.match)
    return f"{outcome.match} {outcome.index}"


def _findings(landing: Landing) -> Iterator[str]:
    yield _section("Findings")
    if not landing.findings:
        yield "<p>Nothing is wrong with any device.</p>"
        return
    yield from _table(
        "Findings",
        (
            "What is wrong, and the command that cures it. <code>pci-observer explain "
            "ADDRESS</code> tells why and who did it."
        ),
        ("Device", "Finding", "Cure"),
        (
            (
                _text(finding.address),
                _finding(finding),
                f"<code>{_text(finding.cure, 4 * LABEL_CHARACTERS)}</code>",
            )
            for finding in landing.findings[:ROWS]
        ),
    )
    yield _more(len(landing.findings))


def _finding(finding: Finding) -> str:
    kind = finding.kind.replace("_", " ")
    return f'<span class="bad">{finding.finding}</span> ({kind})'


def _devices(landing: Landing) -> Iterator[str]:
    yield _section("Devices", "devices")
    if landing.machine is None:
        yield "<p>The machine was not looked at yet.</p>"
        return
    wrong: defaultdict[str, list[str]] = defaultdict(list)
    for finding in landing.findings:
        for address in (finding.address, *finding.also):
            wrong[address].append(str(finding.finding))
    devices = sorted(
        landing.machine.devices.values(),
        key=lambda device: (device.address not in wrong, needs_no_driver(device)),
    )
    bound = sum(device.driver is not None for device in devices)
    yield from _table(
        "Devices",
        f"{counted(len(devices), 'device')}, {bound} with a driver.",
        ("Address", "IDs", "Class", "Driver", "driver_override", "Findings"),
        (_device(device, wrong) for device in devices[:ROWS]),
    )
    yield _more(len(devices))


def _device(device: PciDevice, wrong: Mapping[str, list[str]]) -> tuple[str, ...]:
    ids = device.ids
    there = wrong.get(device.address)
    return (
        _text(device.address),
        f"{ids.vendor:04x}:{ids.device:04x}",
        f"{ids.class_:06x}",
        _text(device.driver or "-"),
        _text(device.driver_override or ""),
        f'<span class="bad">{", ".join(there)}</span>' if there else "",
    )


def _more(number: int) -> str:
    return f"<p>And {number - ROWS} more.</p>" if number > ROWS else ""


def _table(
    name: str,
    caption: str,
    heads: tuple[str, ...],
    rows: Iterable[tuple[str, ...]],
) -> Iterator[str]:
    """Yield a table; cells are HTML already. End tags that may be left out are."""
    titles = "".join(f'<th scope="col">{head}' for head in heads)
    yield (
        f'<div class="t" tabindex="0" role="region" aria-label="{name}"><table>'
        f"<caption>{caption}</caption><thead><tr>{titles}</thead><tbody>"
    )
    for row in rows:
        yield "<tr>" + "".join(f"<td>{cell}" for cell in row)
    yield "</tbody></table></div>"


def _text(text: str, most: int = LABEL_CHARACTERS) -> str:
    """Make text of anybody safe: printable, cut where it is long, and escaped."""
    spelled = printable(text)
    return escape(spelled if len(spelled) <= most else f"{spelled[:most]}…")

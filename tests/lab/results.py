"""The matrix of kernels: its list, what a run of tests came to, the page in the docs.

Pure: texts in, values and texts out. `matrix.py` runs the tests.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Final
from xml.etree import ElementTree as ET

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from lab.release import Image

LAYOUTS: Final = ("L0", "A", "B", "C", "D", "E")
FIRST_SERIES: Final = (5, 10)
METHODS: Final = ("fentry", "kprobe")
NOT_SERVED: Final = "no longer served by Debian"
NOT_RUN: Final = "not run"
BEGIN: Final = "<!-- results: `make matrix` writes what follows -->"
END: Final = "<!-- end of results -->"


@dataclass(frozen=True)
class Listed:
    """A line of the list."""

    wanted: str
    layout: str | None = None  # that must be found; None: any


@dataclass(frozen=True)
class Outcome:
    """What the tests under one kernel came to."""

    release: str
    date: str
    tests: int = 0
    failed: int = 0
    skipped: int = 0
    seconds: float = 0.0
    tree: str = ""  # fingerprint of what was tested
    problem: str = ""  # why it failed, where no test says so
    facts: Mapping[str, str] = field(default_factory=dict)  # of live.facts

    @property
    def passed(self) -> bool:
        """Whether tests ran and none failed."""
        return not self.failed and not self.problem and self.tests > self.skipped

    @property
    def verdict(self) -> str:
        """Say it in a few words."""
        if self.failed:
            return f"{self.failed} of {self.tests} failed"
        if self.problem or not self.passed:
            return self.problem or f"none of {self.tests} was run"
        skipped = f", {self.skipped} skipped" if self.skipped else ""
        return f"{self.tests - self.skipped} passed{skipped}"


@dataclass(frozen=True)
class Row:
    """A line of the table: an outcome, or why there is none."""

    listed: Listed
    outcome: Outcome | None = None
    remark: str = ""


class ListError(Exception):
    """The list or the page is not as it must be; the message says where."""


def good(row: Row) -> bool:
    """Whether nothing is wrong: it passed, or Debian has it no more."""
    return row.outcome.passed if row.outcome else row.remark == NOT_SERVED


def read_list(text: str) -> list[Listed]:
    """Read the list of kernels; what follows # is for people."""
    listed: list[Listed] = []
    for number, line in enumerate(text.splitlines(), 1):
        words = line.partition("#")[0].split()
        if not words:
            continue
        if len(words) != len(("WANTED", "LAYOUT")) or words[1] not in LAYOUTS:
            raise ListError(
                f"line {number}: {line!r} is not a kernel and one of the layouts "
                f"{', '.join(LAYOUTS)}"
            )
        if words[0] in {each.wanted for each in listed}:
            raise ListError(f"line {number}: {words[0]} stands there twice")
        listed.append(Listed(*words))
    return listed


def series_of(upstream: str) -> tuple[int, ...]:
    """Tell the series of a version: (6, 12) of 6.12.90."""
    return tuple(int(number) for number in upstream.split(".")[:2])


def unlisted_series(releases: Iterable[str], images: Mapping[str, Image]) -> list[str]:
    """Name the series that are served whole and of which no release is tested."""
    tested = {series_of(images[each].upstream) for each in releases if each in images}
    served = {series_of(image.upstream) for image in images.values()}
    missing = {each for each in served - tested if each >= FIRST_SERIES}
    return [".".join(map(str, each)) for each in sorted(missing)]


def read_junit(text: str) -> tuple[int, int, int, dict[str, str]]:
    """Read (tests, failed, skipped, facts) from what pytest wrote."""
    suites = list(ET.fromstring(text).iter("testsuite"))  # noqa: S314 - our own pytest's
    numbers = {
        name: sum(int(suite.get(name, "0")) for suite in suites)
        for name in ("tests", "failures", "errors", "skipped")
    }
    facts = {
        each.get("name", ""): each.get("value", "")
        for suite in suites
        for each in suite.iterfind("properties/property")
    }
    failed = numbers["failures"] + numbers["errors"]
    return numbers["tests"], failed, numbers["skipped"], facts


def problem_of(listed: Listed, release: str, facts: Mapping[str, str]) -> str:
    """Find what no test asks: whether it is the kernel that was meant."""
    if "layout" not in facts:
        return "the live tests did not come to their end"
    if facts["release"] != release:
        return f"what ran was {facts['release']}"
    if listed.layout not in {None, facts["layout"]}:
        return f"layout {facts['layout']}, not {listed.layout} as listed"
    return ""


def to_json(outcome: Outcome) -> str:
    """Spell an outcome, to be kept."""
    return json.dumps(asdict(outcome), indent=1) + "\n"


def from_json(text: str) -> Outcome:
    """Read an outcome that was kept."""
    return Outcome(**json.loads(text))


_COLUMNS: Final = {
    "kernel": "---",
    "layout": "---",
    "preemption": "---",
    "by fentry": "---:",
    "by kprobe": "---:",
    "decisions": "---:",
    "divergences": "---:",
    "lost": "---:",
    "missed": "---:",
    "tests": "---",
    "minutes": "---:",
    "date": "---",
}
_NONE: Final = "-"


def table(rows: Iterable[Row]) -> str:
    """Make the table, in Markdown."""
    lines = [tuple(_COLUMNS), tuple(_COLUMNS.values()), *map(_cells, rows)]
    return "".join(f"| {' | '.join(cells)} |\n" for cells in lines)


def _cells(row: Row) -> tuple[str, ...]:
    """Spell a row; what went wrong stands out."""
    cells = dict.fromkeys(_COLUMNS, _NONE)
    cells |= {"kernel": row.listed.wanted, "layout": row.listed.layout or _NONE}
    cells["tests"] = row.remark or _NONE
    if done := row.outcome:
        for method in METHODS:
            seconds = done.facts.get(f"{method}_seconds")
            cells[f"by {method}"] = f"{seconds} s" if seconds else "**no**"
        for name in ("decisions", "divergences", "lost", "missed"):
            if name in done.facts:
                cells[name] = f"{int(done.facts[name]):,}"
        cells |= {
            "kernel": done.release,
            "layout": done.facts.get("layout", _NONE),
            "preemption": done.facts.get("preemption", _NONE),
            "tests": done.verdict if done.passed else f"**{done.verdict}**",
            "minutes": f"{done.seconds / 60:.1f}",
            "date": done.date,
        }
        if row.remark:
            cells["tests"] += f" ({row.remark})"
    return tuple(cells.values())


def rewrite(page: str, rows: Sequence[Row], unlisted: Sequence[str]) -> str:
    """Put the results into the page, in the place of those that were there."""
    before, begin, rest = page.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not end:
        raise ListError(f"the page lacks the lines {BEGIN} and {END}")
    done = [row.outcome for row in rows if row.outcome]
    dates = sorted({each.date for each in done})
    when = " to ".join(dict.fromkeys((dates[0], dates[-1]))) if dates else "never"
    good = sum(each.passed for each in done)
    text = f"{good} of {len(done)} kernels passed, {when}.\n\n{table(rows)}"
    if unlisted:
        text += f"\nServed, but not in the list: {', '.join(unlisted)}.\n"
    return f"{before}{begin}\n{text}{end}{after}"

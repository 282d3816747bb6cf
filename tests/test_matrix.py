"""The matrix of kernels: its list, what is kept of a run, the table in the docs."""

from __future__ import annotations

import re
import sys
from typing import TYPE_CHECKING, Any

import pytest
from lab import matrix, results
from lab.apt import Apt, AptError
from lab.kernels import Cache
from lab.release import Image
from lab.results import LAYOUTS, Listed, ListError, Outcome, Row
from live.facts import facts

if TYPE_CHECKING:
    from pathlib import Path

OLD, NEW = "6.1.0-47-amd64", "7.3.4+deb13-amd64"
GONE, FAILING = Listed("7.1", "C"), Listed("6.12.90", "B")
LISTED = [Listed("6.1", "A"), FAILING, GONE, Listed("7.3", "D")]
SERVED = {
    OLD: Image(OLD, "6.1.170-3"),
    "6.12.90+deb12.1-amd64": Image("6.12.90+deb12.1-amd64", "6.12.90-2~bpo12+1"),
    NEW: Image(NEW, "7.3.4-1~bpo13+1", split=True),
}
PAGE = f"before\n{results.BEGIN}\nold\n{results.END}\nafter\n"

JUNIT = """<?xml version="1.0" encoding="utf-8"?>
<testsuites name="pytest tests"><testsuite name="pytest" errors="1" failures="{failed}"
skipped="2" tests="265" time="331.1"><properties>
<property name="release" value="{release}"/><property name="layout" value="{layout}"/>
<property name="fentry_seconds" value="2.1"/>
<property name="kprobe_seconds" value="1.9"/>
<property name="decisions" value="1234567"/><property name="divergences" value="0"/>
<property name="lost" value="0"/><property name="missed" value="7"/>
</properties></testsuite></testsuites>
"""
# What stands for pytest: it fails under one kernel and dies under another.
FAKE = """
import os, sys
release, report = sys.argv[1:]
assert release == os.environ["PCI_OBSERVER_KERNELS"]
print("ran", release)
layouts = {"6.1.0-47-amd64": "A", "7.3.4+deb13-amd64": "D"}
if release not in layouts:
    sys.exit(3)
open(report, "w").write('''%s'''.format(
    release=release, layout=layouts[release], failed=0).replace('errors="1"', ""))
"""


class Archive(Apt):
    """An archive whose index lists `SERVED`, and which hands out nothing."""

    def update(self) -> None:
        """Read the index."""

    def images(self) -> dict[str, Image]:
        """List what is served."""
        return SERVED

    def download(self, *_: object) -> None:
        """Fail as apt does."""
        raise AptError("apt can't fetch it")


def made(directory: Path, *, cached: tuple[str, ...] = tuple(SERVED)) -> matrix.Matrix:
    """Make a matrix whose kernels are in the cache, and whose tests are quick."""
    for release in cached:
        image = directory / "cache" / release / "boot" / f"vmlinuz-{release}"
        image.parent.mkdir(parents=True, exist_ok=True)
        image.touch()
    (directory / "kept").mkdir(exist_ok=True)
    cache = Cache(directory / "cache", apt=Archive(directory / "apt"))
    return matrix.Matrix(
        *(cache, directory / "kept", "tree"),
        lambda release, report: [
            sys.executable,
            "-c",
            FAKE % JUNIT,
            release,
            f"{report}",
        ],
    )


def test_the_list_has_enough_of_every_layout() -> None:
    """At least 12 kernels besides those that Debian had dropped, and six layouts."""
    listed = results.read_list(matrix.LIST.read_text())

    assert set(LAYOUTS) == {each.layout for each in listed}
    assert 12 <= len(
        [each for each in listed if each.wanted not in {"6.19", "7.0", "7.1"}]
    )


def test_the_tests_of_the_matrix_are_there() -> None:
    """A file that is renamed is no longer run."""
    assert [] == [
        name for name in matrix.TESTED if not (matrix.REPOSITORY / name).exists()
    ]


def test_a_kernel_is_a_line() -> None:
    """What follows # is for people."""
    text = "# a remark\n\n5.10   L0\n6.12.90 B # the trap\n"

    assert [Listed("5.10", "L0"), Listed("6.12.90", "B")] == results.read_list(text)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("5.10 L0\n6.1\n", "line 2: '6.1' is not a kernel and one of the layouts L0"),
        ("5.10 F\n", "line 1: '5.10 F' is not"),
        ("5.10 L0 A\n", "line 1: "),
        ("5.10 L0\n\n5.10 A\n", "line 3: 5.10 stands there twice"),
    ],
)
def test_a_wrong_line_is_named(text: str, message: str) -> None:
    """With its number."""
    with pytest.raises(ListError, match=f"^{re.escape(message)}"):
        results.read_list(text)


def test_served_series_that_are_not_listed_are_named() -> None:
    """From 5.10 on, in their order."""
    served = SERVED | {
        "4.19.0-1-amd64": Image("4.19.0-1-amd64", "4.19.1-1"),
        "6.12.117+deb13-amd64": Image("6.12.117+deb13-amd64", "6.12.117-1"),
        "5.10.0-46-amd64": Image("5.10.0-46-amd64", "5.10.262-1"),
    }

    assert ["5.10", "6.1"] == results.unlisted_series(
        ["6.12.90+deb12.1-amd64", NEW, "6.19.1-amd64"], served
    )


def test_a_report_is_read() -> None:
    """Errors are failures, and facts stand in properties."""
    text = JUNIT.format(release=NEW, layout="D", failed=3)
    tests, failed, skipped, told = results.read_junit(text)

    assert (265, 4, 2) == (tests, failed, skipped)
    assert {"release": NEW, "layout": "D", "missed": "7"}.items() <= told.items()


@pytest.mark.parametrize(
    ("listed", "told", "problem"),
    [
        (Listed("7.3", "D"), {"release": NEW, "layout": "D"}, ""),
        (Listed("7.3"), {"release": NEW, "layout": "D"}, ""),
        (
            Listed("7.3", "D"),
            {"release": NEW, "layout": "E"},
            "layout E, not D as listed",
        ),
        (Listed("7.3", "D"), {"release": OLD, "layout": "D"}, f"what ran was {OLD}"),
        (Listed("7.3", "D"), {}, "the live tests did not come to their end"),
    ],
)
def test_another_kernel_or_layout_than_the_listed_one_is_a_problem(
    listed: Listed, told: dict[str, str], problem: str
) -> None:
    """Even where all tests pass."""
    assert problem == results.problem_of(listed, NEW, told)


@pytest.mark.parametrize(
    ("outcome", "passed", "verdict"),
    [
        (Outcome(NEW, "", 265, 0, 2), True, "263 passed, 2 skipped"),
        (Outcome(NEW, "", 265), True, "265 passed"),
        (Outcome(NEW, "", 265, 4), False, "4 of 265 failed"),
        (Outcome(NEW, "", 2, 0, 2), False, "none of 2 was run"),
        (Outcome(NEW, ""), False, "none of 0 was run"),
        (Outcome(NEW, "", 265, problem="layout E"), False, "layout E"),
    ],
)
def test_a_kernel_passed_when_tests_ran_and_none_failed(
    outcome: Outcome,
    passed: bool,  # noqa: FBT001 - a column
    verdict: str,
) -> None:
    """Nothing is passed by running nothing."""
    assert (passed, verdict) == (outcome.passed, outcome.verdict)


def test_an_outcome_is_kept_as_it_is() -> None:
    """Written and read again."""
    outcome = Outcome(NEW, "2026-11-25", 265, 4, 2, 331.5, "tree", "", {"lost": "0"})

    assert outcome == results.from_json(results.to_json(outcome))


def test_the_table_shows_what_was_found() -> None:
    """One row each; what is wrong stands out."""
    told = {"layout": "D", "preemption": "lazy", "fentry_seconds": "2.1"}
    told |= {"decisions": "1234567", "lost": "0"}
    rows = [
        Row(LISTED[3], Outcome(NEW, "2026-11-25", 265, 0, 0, 331.5, facts=told)),
        Row(FAILING, Outcome("6.12.90+x", "2026-11-24", problem="apt can't")),
        Row(GONE, remark=results.NOT_SERVED),
    ]

    assert (
        "| 7.3.4+deb13-amd64 | D | lazy | 2.1 s | **no** | 1,234,567 | - | 0 | - "
        "| 265 passed | 5.5 | 2026-11-25 |\n"
        "| 6.12.90+x | - | - | **no** | **no** | - | - | - | - "
        "| **apt can't** | 0.0 | 2026-11-24 |\n"
        "| 7.1 | C | - | - | - | - | - | - | - | no longer served by Debian | - | - |\n"
    ) == results.table(rows).partition("| ---: | --- |\n")[2]


def test_the_page_gets_new_results() -> None:
    """In the place of the old ones; what is around them stays."""
    rows = [
        Row(LISTED[0], Outcome(OLD, "2026-11-24", 265)),
        Row(LISTED[3], Outcome(NEW, "2026-11-25", 265, 1)),
        Row(GONE, remark=results.NOT_SERVED),
    ]
    page = results.rewrite(PAGE, rows, ["7.4"])

    assert page.startswith(
        f"before\n{results.BEGIN}\n1 of 2 kernels passed, 2026-11-24"
    )
    assert "2026-11-24 to 2026-11-25.\n\n| kernel | layout |" in page
    assert page.endswith(f"\nServed, but not in the list: 7.4.\n{results.END}\nafter\n")
    assert "old" not in page
    assert page == results.rewrite(page, rows, ["7.4"])


def test_a_page_without_a_place_for_results_is_refused() -> None:
    """Rather than cut short."""
    with pytest.raises(ListError, match="lacks the lines"):
        results.rewrite("a page", [], [])


def test_the_page_in_the_docs_has_a_place_for_results() -> None:
    """Otherwise hours of tests would end with an error."""
    page = matrix.PAGE.read_text()

    assert page.index(results.BEGIN) < page.index(results.END)


def test_one_kernel_that_fails_does_not_stop_the_others(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """All are run in order, and what came of each is kept and told."""
    page = tmp_path / "page.md"
    page.write_text(PAGE)
    every = made(tmp_path)
    matrix.run_all(every, LISTED)

    assert 1 == matrix.report(every, LISTED, LISTED, page)
    assert [
        "263 passed, 2 skipped",
        "ended with status 3 and without a report",
        "no longer served by Debian",
        "263 passed, 2 skipped",
    ] == [matrix.told(every.row(each)) for each in LISTED]
    said = capsys.readouterr().out.splitlines()
    assert "matrix: 7.1: no longer served by Debian" == said[0]
    assert f"matrix: {OLD}, 1 of 3" == said[1]
    assert f"ran {OLD}" == said[2] == (tmp_path / f"kept/{OLD}.log").read_text().strip()
    assert "| 7.1 | C | - |" in page.read_text()


def test_a_stopped_run_goes_on_where_it_was(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """What passed is not run again, what failed is."""
    matrix.run_all(made(tmp_path), LISTED[:2])
    capsys.readouterr()
    matrix.run_all(made(tmp_path), LISTED)
    said = capsys.readouterr().out

    assert "ran 6.12.90+deb12.1-amd64" in said
    assert f"ran {NEW}" in said
    assert f"ran {OLD}" not in said


def test_other_code_makes_old_results_worthless(tmp_path: Path) -> None:
    """A kernel that passed before the code changed has to pass again."""
    (tmp_path / "kept").mkdir()
    outcome = Outcome(OLD, "2026-11-24", 265, tree="another")
    (tmp_path / f"kept/{OLD}.json").write_text(results.to_json(outcome))

    assert not made(tmp_path).done(LISTED[0])


def test_no_longer_served_is_no_failure(tmp_path: Path) -> None:
    """But it is in the table, and told."""
    page = tmp_path / "page.md"
    page.write_text(PAGE)

    assert 0 == matrix.report(made(tmp_path), [GONE], [GONE], page)
    assert "| 7.1 | C | - |" in page.read_text()
    assert "Served, but not in the list: 6.1, 6.12, 7.3." in page.read_text()


def test_what_is_cached_but_no_longer_served_is_run_and_said_to_be_so(
    tmp_path: Path,
) -> None:
    """An exact release that Debian dropped goes on to work here."""
    dropped = Listed("7.1.13+deb13-amd64", "C")
    every = made(tmp_path, cached=(dropped.wanted,))
    matrix.run_all(every, [dropped])

    row = every.row(dropped)
    assert row.outcome is not None
    assert "ended with status 3 and without a report" == row.outcome.problem
    assert "no longer served by Debian" == row.remark


def test_a_kernel_that_cannot_be_fetched_is_a_failure(tmp_path: Path) -> None:
    """It is served, so the table has to say what went wrong."""
    every = made(tmp_path, cached=())
    matrix.run_all(every, LISTED[:1])
    row = every.row(LISTED[0])

    assert not results.good(row)
    assert f"kernel '{OLD}' isn't cached and can't be fetched" in matrix.told(row)


def test_the_page_waits_for_all_kernels(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Half a table would look like a whole one."""
    page = tmp_path / "page.md"
    page.write_text(PAGE)
    every = made(tmp_path)
    matrix.run_all(every, LISTED[:1])

    assert 0 == matrix.report(every, LISTED, LISTED[:1], page)
    assert PAGE == page.read_text()
    assert "stays as it is; not run: 6.12.90, 7.3" in capsys.readouterr().out


def test_the_fingerprint_is_of_names_and_contents(tmp_path: Path) -> None:
    """Of what is tested, and not of what Python leaves there."""
    code = tmp_path / "code"
    code.mkdir()
    (tmp_path / "test.py").write_text("test")
    (code / "a.py").write_text("a")

    def fingerprint() -> str:
        return matrix.fingerprint(tmp_path, ("code", "test.py"))

    seen = [fingerprint()]
    (code / "__pycache__").mkdir()
    (code / "__pycache__" / "a.pyc").write_text("a")
    assert seen == [fingerprint()]
    (code / "a.py").write_text("b")
    seen.append(fingerprint())
    (code / "a.py").rename(code / "b.py")
    seen.append(fingerprint())
    (tmp_path / "test.py").write_text("another test")
    seen.append(fingerprint())

    assert 4 == len(set(seen))


def end(missed: int) -> dict[str, Any]:
    """Make the metrics of an observer's end."""
    return {
        "metrics": {
            'kernel_info{layout="E",release="6.1",semantics="linux-5.15"}': 1.0,
            'judgements_total{judgement="agree"}': 100.0,
            'judgements_total{judgement="diverge"}': 2.0,
            'divergences_total{driver="e1000",kind="different_source"}': 2.0,
            'events_lost_total{stage="reserve"}': 5.0,
            'events_lost_total{stage="other"}': 1.0,
            'events_lost_total{stage="missed"}': float(missed),
        }
    }


def test_facts_are_of_the_parts_in_which_nothing_is_meant_to_go_wrong() -> None:
    """By both methods and by the observer that takes every decision."""
    parts = {
        "fentry": {"attach_seconds": 2.14, "end": end(3)},
        "kprobe": {"attach_seconds": 1.96, "end": end(0)},
        "both": {"after": {"whole": end(1), "folded": end(50)}},
        "small_ring": {"after": end(100)},
    }

    assert {
        "release": "6.1",
        "preemption": "none",
        "fentry_seconds": 2.1,
        "kprobe_seconds": 2.0,
        "layout": "E",
        "decisions": 306,
        "divergences": 6,
        "lost": 18,
        "missed": 4,
    } == facts({"release": "6.1", "preemption": "none", "parts": parts})


def test_facts_of_a_scenario_that_broke_lack_what_is_not_known() -> None:
    """An attachment that failed is no attachment in no time."""
    parts = {"fentry": {"error": "not ready"}, "kprobe": {"attach_seconds": 2.0}}
    found = facts({"release": "6.1", "preemption": "none", "parts": parts})

    assert {"release", "preemption", "kprobe_seconds"} <= found.keys()
    assert not {"fentry_seconds", "layout"} & found.keys()

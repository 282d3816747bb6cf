#!/usr/bin/env python3
"""Run the live tests on many kernels, one after the other, and make a table of it.

    matrix.py [WANTED...]

Without WANTED: all kernels of tests/lab/matrix.txt.  What came of each is kept in
build/matrix.  A kernel that passed is not run again until the code changes, so a run
that was stopped goes on where it was.  docs/kernels.md gets the table when every kernel
of the list has been run or is no longer served.

Exit status: 0 all passed, 1 not all, 2 the list or Debian's index can't be read, 130
stopped.
"""

import argparse
import datetime as dt
import hashlib
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

if not __package__:  # run as a script
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from lab import results
from lab.apt import AptError
from lab.kernels import DEFAULT_CACHE, REPOSITORY, Cache, KernelError
from lab.release import resolve
from lab.results import NOT_RUN, NOT_SERVED, Listed, Outcome, Row
from lab.sources import NoMirrorError

LIST = REPOSITORY / "tests" / "lab" / "matrix.txt"
KEPT = REPOSITORY / "build" / "matrix"
PAGE = REPOSITORY / "docs" / "kernels.md"
TESTS = ("tests/test_live.py",)
# What a result depends on. Recorded numbers do not count: a kernel that missed them
# failed, and is run again anyway.
TESTED = ("observer", "bpf", "tests/live", "tests/lab", *TESTS)

Command = Callable[[str, Path], list[str]]


def pytest(release: str, report: Path) -> list[str]:
    """Spell how the tests of one kernel are run: those that have it in their name."""
    command = [sys.executable, "-m", "pytest", "-q", "-m", "guest", "-k", release]
    return [*command, f"--junit-xml={report}", *TESTS]


class Matrix:
    """The kernels, what Debian has of them, and what came of those that were run."""

    def __init__(
        self, cache: Cache, kept: Path, tree: str, command: Command = pytest
    ) -> None:
        """Ask Debian what it serves today; `tree` is the state of the code."""
        self.images = cache.images(today=True)
        self._cache = cache
        self._kept = kept
        self._tree = tree
        self._command = command

    def release(self, wanted: str) -> str | None:
        """Choose the release to test; None when it can't be had any more."""
        if release := resolve(wanted, self.images):
            return release
        return wanted if self._cache.image(wanted) else None

    def row(self, listed: Listed) -> Row:
        """Tell how far it is with one kernel."""
        release = self.release(listed.wanted)
        outcome = self._outcome(release) if release else None
        if release not in self.images:
            return Row(listed, outcome, NOT_SERVED)
        return Row(listed, outcome, "" if outcome else NOT_RUN)

    def _outcome(self, release: str) -> Outcome | None:
        try:
            return results.from_json((self._kept / f"{release}.json").read_text())
        except FileNotFoundError:
            return None

    def done(self, listed: Listed) -> bool:
        """Whether there is nothing to run: it passed, as the code is now."""
        outcome = self.row(listed).outcome
        return outcome is not None and outcome.passed and outcome.tree == self._tree

    def run(self, listed: Listed, release: str) -> None:
        """Fetch a kernel and run the tests under it; whatever comes of it is kept."""
        date = dt.datetime.now(dt.UTC).date().isoformat()
        try:
            self._cache.get(release)
        except (KernelError, AptError, NoMirrorError) as error:
            outcome = Outcome(release, date, tree=self._tree, problem=str(error))
        else:
            outcome = self._tested(listed, release, date)
        (self._kept / f"{release}.json").write_text(results.to_json(outcome))

    def _tested(self, listed: Listed, release: str, date: str) -> Outcome:
        report = self._kept / f"{release}.xml"
        report.unlink(missing_ok=True)
        begin = time.monotonic()
        status = _tee(
            self._command(release, report),
            self._kept / f"{release}.log",
            {"PCI_OBSERVER_KERNELS": release},
        )
        seconds, tree = round(time.monotonic() - begin, 1), self._tree
        if not report.exists():
            problem = f"ended with status {status} and without a report"
            return Outcome(release, date, seconds=seconds, tree=tree, problem=problem)
        tests, failed, skipped, facts = results.read_junit(report.read_text())
        return Outcome(
            *(release, date, tests, failed, skipped, seconds, tree),
            *(results.problem_of(listed, release, facts), facts),
        )


def _tee(command: Sequence[str], log: Path, environ: dict[str, str]) -> int:
    """Run a command whose output goes to the terminal and to a file."""
    with (
        log.open("wb") as file,
        subprocess.Popen(
            command,
            cwd=REPOSITORY,
            env={**os.environ, **environ},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
        ) as process,
    ):
        assert process.stdout is not None
        while chunk := os.read(process.stdout.fileno(), 65536):
            file.write(chunk)
            sys.stdout.write(chunk.decode(errors="replace"))
            sys.stdout.flush()
    return process.returncode


def fingerprint(repository: Path, tested: Iterable[str]) -> str:
    """Tell one state of the code from another."""
    digest = hashlib.sha256()
    for name in tested:
        below = repository / name
        for path in sorted(below.rglob("*")) if below.is_dir() else [below]:
            if path.is_file() and "__pycache__" not in path.parts:
                digest.update(f"{path.relative_to(repository)}\0".encode())
                digest.update(hashlib.sha256(path.read_bytes()).digest())
    return digest.hexdigest()[:16]


def say(text: str) -> None:
    """Tell the person who waits."""
    sys.stdout.write(f"matrix: {text}\n")
    sys.stdout.flush()


def run_all(matrix: Matrix, wanted: Sequence[Listed]) -> None:
    """Run what is to be run; tell how far it is."""
    todo: list[tuple[Listed, str]] = []
    for each in wanted:
        release = matrix.release(each.wanted)
        if release is None or matrix.done(each):
            say(f"{each.wanted}: {told(matrix.row(each))}")
        else:
            todo.append((each, release))
    begin = time.monotonic()
    for number, (each, release) in enumerate(todo, 1):
        say(f"{release}, {number} of {len(todo)}")
        matrix.run(each, release)
        minutes = (time.monotonic() - begin) / number * (len(todo) - number) / 60
        say(f"{release}: {told(matrix.row(each))}; about {minutes:.0f} min to go")


def told(row: Row) -> str:
    """Say in a few words what is known of a kernel."""
    return row.outcome.verdict if row.outcome else row.remark


def report(
    matrix: Matrix, listed: Sequence[Listed], wanted: Sequence[Listed], page: Path
) -> int:
    """Print the table, write the page if it is whole; return the exit status."""
    rows = [matrix.row(each) for each in wanted]
    sys.stdout.write(f"\n{results.table(rows)}\n")
    releases = filter(None, (matrix.release(each.wanted) for each in listed))
    unlisted = results.unlisted_series(releases, matrix.images)
    for series in unlisted:
        say(f"Debian serves {series}, of which the list has no kernel")
    everything = [matrix.row(each) for each in listed]
    missing = [row.listed.wanted for row in everything if row.remark == NOT_RUN]
    if missing:
        say(f"{page.name} stays as it is; not run: {', '.join(missing)}")
    else:
        page.write_text(results.rewrite(page.read_text(), everything, unlisted))
        say(f"{page.name} is written")
    return 0 if all(map(results.good, rows)) else 1


def main() -> int:
    """Run the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("wanted", nargs="*", metavar="WANTED")
    args = parser.parse_args()
    KEPT.mkdir(parents=True, exist_ok=True)
    try:
        listed = results.read_list(LIST.read_text())
        known = {each.wanted: each for each in listed}
        wanted = [known.get(name, Listed(name)) for name in args.wanted] or listed
        matrix = Matrix(Cache(DEFAULT_CACHE), KEPT, fingerprint(REPOSITORY, TESTED))
        run_all(matrix, wanted)
        return report(matrix, listed, wanted, PAGE)
    except (results.ListError, AptError, NoMirrorError) as error:
        say(str(error))
        return 2
    except KeyboardInterrupt:
        say("stopped; what was done is kept")
        return 130


if __name__ == "__main__":
    sys.exit(main())

"""Fuzz all targets one after the other: PYTHONPATH=.:tests python -m fuzz.run.

Shows how it goes and ends with a table, which build/fuzz/table.md gets too. What was
found is in build/fuzz/findings; each run goes on from the corpus of the one before.
"""

from __future__ import annotations

import argparse
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Final, NamedTuple

from fuzz.target import load, names, seeds_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

ROOT: Final = Path(__file__).resolve().parents[2]
INPUTS: Final = 10_000_000
# Of one input, and of the process: beyond them it is a finding.
SECONDS: Final = 10
MEBIBYTES: Final = 512

_STATISTIC: Final = re.compile(r"(?m)^stat::(\w+):\s+(\d+)")
_FOUND: Final = re.compile(r"Test unit written to (\S+)")
_PROGRESS: Final = re.compile(r"#\d+\s+(?:pulse|INITED|DONE|RELOAD)")
_CORPUS: Final = re.compile(r"corp: (\d+)/")
_SLOWEST: Final = re.compile(r"(?m)^slowest: ([\d.]+)")
_STATUS: Final = re.compile(r"(?m)^status: (-?\d+)")


class Result(NamedTuple):
    """What fuzzing one target came to."""

    name: str
    inputs: int
    inputs_a_second: int
    corpus: int  # inputs that are kept, for each did something that no other did
    findings: tuple[str, ...]  # files
    peak_mib: int
    slowest_ms: float  # of the process's own time
    status: int  # of the process

    @property
    def good(self) -> bool:
        """Tell whether it ended as it should."""
        return self.status == 0 and not self.findings


def fuzz(name: str, inputs: int, directory: Path, *options: str) -> Result:
    """Fuzz a target in a process of its own, from its seeds and its corpus."""
    target = load(name)
    directory = directory.resolve()
    corpus, seeds = directory / "corpus" / name, directory / "seeds" / name
    findings, logs = directory / "findings", directory / "logs"
    for each in (corpus, seeds, findings, logs):
        each.mkdir(parents=True, exist_ok=True)
    for number, seed in enumerate(seeds_of(target)):
        (seeds / str(number)).write_bytes(seed)
    words = directory / f"{name}.words"
    if target.words:
        words.write_text("".join(map(_spelled, target.words)), encoding="ascii")
        options += (f"-dict={words}",)
    command = [
        *(sys.executable, "-m", "fuzz.one", name),
        *(f"-runs={inputs}", f"-max_len={target.max_bytes}"),
        *(f"-timeout={SECONDS}", f"-rss_limit_mb={MEBIBYTES}", "-print_final_stats=1"),
        *(f"-artifact_prefix={findings}/{name}-", *options, str(corpus), str(seeds)),
    ]
    said = ""
    with (logs / f"{name}.log").open("w", encoding="utf-8") as log:
        for line in _lines(command):
            log.write(line)
            if not line.startswith("INFO: Instrumenting"):
                said += line
            if _PROGRESS.match(line):
                print(f"{name:14} {line}", end="", flush=True)
    return _result(name, said)


def _spelled(word: str) -> str:
    """Spell a word as dictionaries of libFuzzer have it."""
    return '"' + "".join(f"\\x{byte:02x}" for byte in word.encode()) + '"\n'


def _lines(command: list[str]) -> Iterator[str]:
    """Run a command and yield what it says; the last line is its status.

    A shell forks it: the kernel counts the memory of who starts a program into the most
    that this ever had, and libFuzzer would take a large pytest's for its own.
    """
    with subprocess.Popen(
        ["/bin/sh", "-c", '"$@"; exit $?', "sh", *command],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        env=os.environ | {"PYTHONPATH": f"{ROOT}:{ROOT / 'tests'}"},
        text=True,
        errors="replace",
    ) as process:
        assert process.stdout is not None
        yield from process.stdout
    yield f"status: {process.returncode}\n"


def _result(name: str, said: str) -> Result:
    statistics = dict(_STATISTIC.findall(said))
    return Result(
        name,
        int(statistics.get("number_of_executed_units", 0)),
        int(statistics.get("average_exec_per_sec", 0)),
        int((_CORPUS.findall(said) or [0])[-1]),
        tuple(_FOUND.findall(said)),
        int(statistics.get("peak_rss_mb", 0)),
        float((_SLOWEST.findall(said) or [0])[-1]),
        int(_STATUS.findall(said)[-1]),
    )


def table(results: Iterable[Result]) -> Iterator[str]:
    """Yield the lines of the table, the total last."""
    yield "| target | inputs | a second | corpus | findings | peak RSS | slowest |"
    yield "| --- | ---: | ---: | ---: | ---: | ---: | ---: |"
    total = 0
    for each in results:
        total += each.inputs
        findings = len(each.findings) if each.good or each.findings else "failed"
        yield (
            f"| {each.name} | {each.inputs:,} | {each.inputs_a_second:,} "
            f"| {each.corpus:,} | {findings} | {each.peak_mib} MiB "
            f"| {each.slowest_ms:.2f} ms |"
        )
    yield f"| total | {total:,} | | | | | |"


def main() -> int:
    """Fuzz; the exit status is 1 when something was found."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--inputs", type=int, default=INPUTS, help="in total")
    parser.add_argument("--directory", type=Path, default=ROOT / "build" / "fuzz")
    parser.add_argument("targets", nargs="*", metavar="TARGET", help=", ".join(names()))
    options = parser.parse_args()
    shares = {name: load(name).share for name in options.targets or names()}
    results = []
    for name, share in shares.items():
        inputs = -(-options.inputs * share // sum(shares.values()))
        print(f"{name:14} {inputs:,} inputs", flush=True)
        result = fuzz(name, inputs, options.directory)
        results.append(result)
        for path in result.findings:
            print(f"{name:14} FOUND {path}; the reason is in {name}.log", flush=True)
        text = "\n".join(table(results)) + "\n"
        (options.directory / "table.md").write_text(text, encoding="utf-8")
    print(text, end="")
    return 0 if all(result.good for result in results) else 1


if __name__ == "__main__":
    sys.exit(main())

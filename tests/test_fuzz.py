"""tests/fuzz: each target with its seeds and some thousand fresh inputs."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from fuzz.run import Result, fuzz, table
from fuzz.target import load, names, seeds_of

INPUTS = 600  # of each share; make fuzz has many more
ROOT = Path(__file__).parents[1]


@pytest.mark.parametrize("name", names())
def test_seeds_are_understood(name: str) -> None:
    """What a target begins with is no error, so that inputs near it get far."""
    target = load(name)
    seeds = seeds_of(target)
    assert seeds
    for seed in seeds:
        target.run(seed)


@pytest.mark.parametrize("name", names())
def test_target(name: str, tmp_path: Path) -> None:
    """Any bytes come to something or to a named error, soon and in little memory."""
    inputs = INPUTS * load(name).share
    result = fuzz(name, inputs, tmp_path)
    assert (0, (), inputs) == (result.status, result.findings, result.inputs)


def planted(name: str, tmp_path: Path, *options: str) -> Result:
    """Fuzz what has a fault."""
    return fuzz(f"fuzz.planted.{name}", 1_000_000, tmp_path, *options)


def test_an_error_without_a_name_is_found(tmp_path: Path) -> None:
    """A byte away from the seed, so that no luck is needed."""
    result = planted("error", tmp_path, "-reduce_inputs=0")
    (found,) = result.findings
    assert not result.good
    assert Path(found).read_bytes()[:2] in (b"\x9f\xeb", b"\xeb\x9f")


def test_a_hang_is_found(tmp_path: Path) -> None:
    """An input that takes too long is kept."""
    result = planted("hang", tmp_path, "-timeout=1")
    (found,) = result.findings
    assert not result.good
    assert b"seed" == Path(found).read_bytes()


def test_growth_is_found(tmp_path: Path) -> None:
    """A process that grows is ended."""
    result = planted("memory", tmp_path, "-rss_limit_mb=256")
    assert not result.good


def test_what_is_found_is_in_the_table() -> None:
    """So is a target that could not be fuzzed at all."""
    good = Result("btf", 2000, 1000, 7, (), 50, 1.25, 0)
    bad = good._replace(name="wire", findings=("crash",), status=77)
    failed = good._replace(name="http", inputs=0, status=1)
    assert [
        "| btf | 2,000 | 1,000 | 7 | 0 | 50 MiB | 1.25 ms |",
        "| wire | 2,000 | 1,000 | 7 | 1 | 50 MiB | 1.25 ms |",
        "| http | 0 | 1,000 | 7 | failed | 50 MiB | 1.25 ms |",
        "| total | 4,000 | | | | | |",
    ] == [*table([good, bad, failed])][2:]


def test_docs_have_all_targets() -> None:
    """What each is about is told, and what a run with enough inputs came to."""
    text = (ROOT / "docs" / "fuzzing.md").read_text(encoding="utf-8")
    assert {*names()} == {*re.findall(r"(?m)^\| `(\w+)` \|", text)}
    inputs = dict(re.findall(r"(?m)^\| (\w+) \| ([\d,]+) \|", text))
    counts = {name: int(count.replace(",", "")) for name, count in inputs.items()}
    total = counts.pop("total")
    assert {*names()} == counts.keys()
    assert 200_000 <= min(counts.values())
    assert 10_000_000 <= total == sum(counts.values())

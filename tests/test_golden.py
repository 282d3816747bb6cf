"""Recordings of real kernels, judged again: every release of ours must say the same.

How they were captured stands in tests/golden/README.md. After a change that is meant,
write the summaries anew with UPDATE_GOLDEN=1 and read the difference.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any, Final

import pytest
from live import oracle

from observer.replay import divergence_lines, replay, summary

GOLDEN: Final = Path(__file__).parent / "golden"
RECORDINGS: Final = sorted(GOLDEN.glob("*.jsonl.xz"))
ERAS: Final = ("linux-3.16", "linux-5.15")
BYTES: Final = 30 * 1024

every_recording = pytest.mark.parametrize(
    "recording", RECORDINGS, ids=lambda path: path.name.removesuffix(".jsonl.xz")
)


def summary_file(recording: Path) -> Path:
    """Return where a recording's summary is kept."""
    return recording.with_name(recording.name.replace(".jsonl.xz", ".json"))


def come_to(recording: Path) -> dict[str, Any]:
    """Judge a recording by its own era and by the other; return all that came out."""
    own = summary(replay(recording))
    return {
        "own": own,
        "decisions": {
            f"{driver} {source}": count
            for (driver, source), count in sorted(
                replay(recording).books.decisions.items()
            )
        },
        "by_era": {era: summary(replay(recording, era)) for era in ERAS},
    }


def test_there_is_a_recording_of_each_kernel_of_the_matrix() -> None:
    """One for each set of rules, at least."""
    releases = [path.name for path in RECORDINGS]

    for series in ("5.10.", "6.1.", "6.12.90", "7.3."):
        assert [name for name in releases if name.startswith(series)]


@every_recording
def test_a_recording_comes_to_the_same_as_ever(recording: Path) -> None:
    """Totals, decisions by driver and source, and those of the other era."""
    file = summary_file(recording)
    actual = json.loads(json.dumps(come_to(recording)))
    if os.environ.get("UPDATE_GOLDEN"):
        file.write_text(json.dumps(actual, indent=2) + "\n")

    assert json.loads(file.read_text()) == actual


@every_recording
def test_an_unmodified_kernel_agrees_with_its_own_era(recording: Path) -> None:
    """Every decision was judged, and none diverges."""
    own = summary(replay(recording))

    assert 0 < own["decisions"] == own["agree"]  # type: ignore[operator]
    assert 0 == own["divergences"] == own["indeterminate"]
    assert {} == own["lost"]
    assert own["truncated"] is False


@every_recording
@pytest.mark.parametrize("era", ERAS)
def test_another_era_disputes_what_it_must(recording: Path, era: str) -> None:
    """Decisions that a flagged entry alone decides, found without the model."""
    replayed = replay(recording, era)
    own = replay(recording).semantics
    disputed = [] if era == own else oracle.expected_by_wrong_era(recording)
    lines = divergence_lines(replayed)

    assert disputed == [(x["driver"], x["address"], x["ktime_ns"]) for x in lines]


@every_recording
def test_a_recording_is_small_and_tells_no_address(recording: Path) -> None:
    """It fits into a repository, and no kernel pointer is in it."""
    values = [
        entry["driver_data"]
        for line in oracle.lines(recording)
        for entry in (line.get("id_table") or line.get("dynids") or ())
    ]

    assert recording.stat().st_size <= BYTES
    assert all(value < 0xFFFF800000000000 for value in values)

"""observer/replay.py: a recording is judged as it was live, and told in words."""

from __future__ import annotations

from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st
from strategies import records

from observer.books import Books
from observer.pipeline import Pipeline
from observer.record import (
    Device,
    Driver,
    Id,
    Inputs,
    Judged,
    Loss,
    LossStage,
    Match,
    Observation,
    Outcome,
    Probe,
    Probed,
    ProbeResult,
    Record,
    Repeat,
    Source,
    Task,
)
from observer.record import Path as ProbePath
from observer.recording import LAST_NS, Header, Recording, RecordingError, Writer
from observer.replay import (
    Replayed,
    divergence_lines,
    lines,
    replay,
    sentence,
    sentences,
    summary,
)
from observer.what_if import Differences, WhatIf

if TYPE_CHECKING:
    from collections.abc import Callable

HEADER = Header("6.1.0-56-amd64", "x86_64", {"name": "E"}, "linux-5.15")
DRIVER = Driver(1, "e1000", (Id(7, 7), Id(1, 2, override_only=1), Id(1, 2)))
AGREE = Match(
    5,
    Task(1, 1, "modprobe", 0),
    "0000:00:02.0",
    False,
    Inputs(Device(1, 2, 3, 4, 5), DRIVER),
    Outcome(Source.STATIC, 2),
)
DIVERGE = AGREE._replace(outcome=Outcome(Source.NONE))
PROBE = Probe(
    9,
    4,
    AGREE.task,
    "0000:00:03.0",
    1,
    "e1000",
    True,
    ProbePath.DIRECT,
    ProbeResult.BOUND,
    None,
)
LOST = [
    Loss(0, 1, LossStage.RESERVE, 2),
    Loss(0, 1, LossStage.DECODE, 3),
    Loss(0, 1, LossStage.OTHER, 4),
]


def replayed(
    directory: Path, *fed: Record, semantics: str | None = None, header: Header = HEADER
) -> Replayed:
    """Record and replay."""
    path = directory / "r"
    with Writer(path, header) as writer:
        for record in fed:
            writer.write(record)
    return replay(path, semantics)


def said(found: Replayed) -> list[str]:
    """Return the sentence of each divergence."""
    return [sentence(line) for line in divergence_lines(found)]


def scraped(found: Replayed, name: str) -> dict[str, float]:
    """Return the series of one metric that are not 0."""
    lines = found.metrics.render("")[0].decode().splitlines()
    pairs = (line.rsplit(" ", 1) for line in lines if line.startswith(name))
    return {series.removeprefix(name): float(n) for series, n in pairs if float(n)}


def test_summary(tmp_path: Path) -> None:
    """The totals are told with the kernel's name and the semantics."""
    assert {
        "kernel": "6.1.0-56-amd64",
        "semantics": "linux-5.15",
        "truncated": False,
        "decisions": 2,
        "agree": 1,
        "diverge": 1,
        "indeterminate": 0,
        "divergences": 2,
        "lost": {"reserve": 2, "decode": 3, "other": 4},
        "what_if_devices": dict.fromkeys(
            [
                "linux-3.15",
                "linux-3.16",
                "rfc-2021-06-03",
                "rfc-2021-06-14",
                "rfc-2021-06-14-without-c",
                "rfc-2021-06-17",
            ],
            1,
        ),
    } == summary(replayed(tmp_path, PROBE, AGREE, DIVERGE, *LOST))


def test_what_if(tmp_path: Path) -> None:
    """What would be otherwise is told when asked for, alike decisions together."""
    found = replayed(tmp_path, AGREE, AGREE)
    line, _summary = lines(found, what_if=True)
    assert ("static 2", 2) == (line["outcome"], line["decisions"])
    assert 1 == len(list(lines(found, what_if=False)))
    first, *_ = sentences(found, what_if=True)
    assert (
        "e1000 and 0000:00:02.0: linux-5.15 answers static 2; otherwise linux-3.15 "
        "static 1, linux-3.16 static 1, rfc-2021-06-03 none, rfc-2021-06-14 none, "
        "rfc-2021-06-14-without-c none, rfc-2021-06-17 hang (2 times)"
    ) == first


def test_what_if_compares_with_the_kernels_own(tmp_path: Path) -> None:
    """Judging by another semantics does not change what the kernel was."""
    found = replayed(tmp_path, AGREE, semantics="linux-3.16")
    assert {"linux-3.15": 1, "linux-3.16": 1} == {
        slug: devices
        for slug, devices in found.what_if.devices().items()
        if slug.startswith("linux-") and devices
    }
    unknown = HEADER._replace(semantics="linux-9.0")
    found = replayed(tmp_path, AGREE, semantics="linux-5.15", header=unknown)
    assert 1 == found.what_if.devices()["linux-3.16"]


def test_other_semantics(tmp_path: Path) -> None:
    """Another truth function gives other judgements of the same decisions."""
    wanted = summary(replayed(tmp_path, AGREE, semantics="linux-3.16"))
    own = summary(replayed(tmp_path, AGREE))
    assert ((1, "linux-3.16"), (0, "linux-5.15")) == (
        (wanted["diverge"], wanted["semantics"]),
        (own["diverge"], own["semantics"]),
    )


def test_unknown_semantics(tmp_path: Path) -> None:
    """A recording of a kernel beyond our model is refused, unless another is named."""
    header = HEADER._replace(semantics="linux-9.0")
    with pytest.raises(RecordingError) as caught:
        replayed(tmp_path, AGREE, header=header)
    assert (
        f"{tmp_path / 'r'}: line 1: semantics: linux-9.0 is not known to the model; "
        "choose another one with --semantics"
    ) == str(caught.value)
    found = replayed(tmp_path, AGREE, semantics="linux-5.15", header=header)
    assert 1 == summary(found)["agree"]


def test_truncated(tmp_path: Path) -> None:
    """A recording that was cut short is judged as far as it goes, and says so."""
    replayed(tmp_path, AGREE, AGREE)
    whole = (tmp_path / "r").read_bytes()
    (tmp_path / "r").write_bytes(whole[:-10])
    found = summary(replay(tmp_path / "r"))
    assert (True, 1) == (found["truncated"], found["decisions"])


def test_divergence(tmp_path: Path) -> None:
    """A divergence tells both answers, with their places, and why."""
    (line,) = said(replayed(tmp_path, AGREE, semantics="linux-3.16"))
    assert line.startswith(
        "different_entry: e1000 and 0000:00:02.0: the kernel answered static 2, "
        "the model static 1: "
    )


def test_no_place(tmp_path: Path) -> None:
    """An answer without a place is told without one."""
    (line,) = said(replayed(tmp_path, DIVERGE))
    assert "the kernel answered none, the model static 2: " in line


def test_probe_without_match(tmp_path: Path) -> None:
    """A binding out of nothing is told as one."""
    (line,) = said(replayed(tmp_path, PROBE))
    assert (
        "probe_without_match: e1000 and 0000:00:03.0: "
        "bound, but no match was seen during the probe"
    ) == line


def test_nothing_to_say(tmp_path: Path) -> None:
    """What agrees is in the totals only."""
    assert [] == said(replayed(tmp_path, AGREE))


def test_metrics(tmp_path: Path) -> None:
    """The metrics are the ones that would have been served live, books balanced."""
    found = replayed(tmp_path, AGREE, DIVERGE, PROBE, *LOST)
    prefix = "pci_observer_events"
    assert {
        '{stage="emitted"}': 7.0,
        '{stage="received"}': 5.0,
        '{stage="decoded"}': 2.0,
    } == scraped(found, f"{prefix}_total")
    assert {
        '{stage="reserve"}': 2.0,
        '{stage="decode"}': 3.0,
        '{stage="other"}': 4.0,
    } == scraped(found, f"{prefix}_lost_total")


def test_kernel_info(tmp_path: Path) -> None:
    """The metrics name the recorded kernel, not the running one."""
    labels = '{layout="E",release="6.1.0-56-amd64",semantics="linux-5.15"}'
    name = "pci_observer_kernel_info"
    assert {labels: 1.0} == scraped(replayed(tmp_path), name)


@given(st.lists(records, max_size=8))
def test_same_books_as_live(fed: list[Record]) -> None:
    """The books after a replay are the ones from which it was recorded."""
    live = Books()
    pipeline = Pipeline(HEADER.semantics, (live,))
    for record in fed:
        pipeline.feed(record)
    with TemporaryDirectory() as directory:
        found = replayed(Path(directory), *fed).books
    assert vars(live) == vars(found)


repetitious = st.lists(
    st.tuples(records, st.integers(1, 4), st.integers(0, 3)), max_size=8
).map(
    lambda drawn: [
        record._replace(ktime_ns=record.ktime_ns // 2 + again)
        if isinstance(record, Match)
        else record
        for turn in range(4)
        for record, times, from_turn in drawn
        if from_turn <= turn
        for again in range(times)
    ]
)


@given(repetitious)
def test_repetition_changes_nothing(fed: list[Record]) -> None:
    """What comes again and again counts as if each line were read by itself."""
    with TemporaryDirectory() as directory:
        found = replayed(Path(directory), *fed)
        with Recording(Path(directory, "r")) as recording:
            unfolded = list(recording)
    books, seen = Books(), Differences("linux-5.15")
    what_if = WhatIf("linux-5.15")
    diverged: list[object] = []

    def keep(observation: Observation) -> None:
        if isinstance(observation, Judged | Probed) and observation.kind:
            diverged.append(observation)

    pipeline = Pipeline("linux-5.15", (books, seen, what_if, keep))
    for record in unfolded:
        pipeline.feed(record)
    assert vars(books) == vars(found.books)
    assert diverged == found.divergences
    told = [sorted(each.lines(), key=str) for each in (seen, found.differences)]
    assert told[0] == told[1]
    assert what_if.devices() == found.what_if.devices()


def test_folded(tmp_path: Path) -> None:
    """What came to nothing as expected is read once; all else comes with its time."""
    nothing = DIVERGE._replace(
        inputs=AGREE.inputs._replace(device=Device(9, 9, 9, 9, 9))
    )
    later = [
        each._replace(ktime_ns=8, task=Task(2, 3, "x", 1)) for each in (nothing, AGREE)
    ]
    path = tmp_path / "r"
    with Writer(path, HEADER) as writer:
        for record in (nothing, AGREE, *later, *later):
            writer.write(record)
    with Recording(path) as recording:
        read = list(recording.folded(lambda match: match.outcome.match is Source.NONE))
    first = nothing._replace(digest=0)
    repeat = Repeat(0, 2, first.ktime_ns, LAST_NS)
    assert [DRIVER, first, AGREE, later[1], later[1], repeat] == read
    assert read[2].inputs is read[3].inputs  # type: ignore[union-attr]


@pytest.mark.parametrize(
    "spoil",
    [
        lambda line: line.replace(b'"pid":1', b'"pid":01'),
        lambda line: line.replace(b'"pid":1', b'"pid":-1'),
        lambda line: line.replace(b'"cpu":0', b'"cpu":null'),
        lambda line: line.replace(b'"modprobe"', b'"mod\tprobe"'),
        lambda line: b"x" + line,
    ],
)
def test_repetition_is_no_excuse(
    tmp_path: Path, spoil: Callable[[bytes], bytes]
) -> None:
    """A line that repeats another one is refused for what a first one would be."""
    replayed(tmp_path, DIVERGE, DIVERGE)
    lines = (tmp_path / "r").read_bytes().splitlines(keepends=True)
    (tmp_path / "r").write_bytes(b"".join([*lines[:-1], spoil(lines[-1])]))
    with pytest.raises(RecordingError, match="line 4"):
        replay(tmp_path / "r")

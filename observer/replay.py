"""Judge a recording by the code that runs live."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple

from observer import __version__
from observer.books import Books
from observer.judge import judge
from observer.log_fields import divergence_fields, probe_fields
from observer.metrics import About, Metrics, State
from observer.model import SEMANTICS, expect, explain
from observer.pipeline import Pipeline
from observer.record import (
    Judged,
    Judgement,
    LossStage,
    Match,
    Probed,
    Repeat,
    Source,
)
from observer.recording import Recording, RecordingError
from observer.ring import Counters
from observer.what_if import Differences, WhatIf

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from observer.record import Observation


class Replayed(NamedTuple):
    """What a recording comes to."""

    release: str
    semantics: str
    truncated: bool  # it was cut short
    books: Books
    divergences: list[Judged | Probed]
    metrics: Metrics
    what_if: WhatIf
    differences: Differences


def replay(path: Path, semantics: str | None = None) -> Replayed:
    """Judge a recording, by its own semantics unless another one is named.

    Raises RecordingError, also when the recording's semantics is not known here.
    """
    with Recording(path) as recording:
        header = recording.header
        slug = semantics or header.semantics
        if slug not in SEMANTICS:
            raise RecordingError(
                f"{path}: line 1: semantics: {slug} is not known to the model; "
                "choose another one with --semantics"
            )
        own = header.semantics if header.semantics in SEMANTICS else slug
        what_if, differences = WhatIf(own), Differences(own)
        books = Books()
        matches = 0
        divergences: list[Judged | Probed] = []

        def state() -> State:
            lost = books.lost[LossStage.RESERVE]
            queued = books.lost[LossStage.QUEUE]  # and not recorded
            counters = Counters(
                whole=matches + lost + books.lost[LossStage.DECODE] + queued,
                lost_reserve=lost,
            )
            received = matches + books.lost[LossStage.DECODE] + queued
            return State(counters, received, matches, {}, {}, what_if.devices())

        def keep(observation: Observation) -> None:
            if isinstance(observation, Judged | Probed) and observation.kind:
                divergences.append(observation)

        layout = str(header.layout.get("name", ""))
        about = About(__version__, header.release, slug, layout, 0)
        metrics = Metrics(books, state, about)
        pipeline = Pipeline(slug, (books, metrics, what_if, differences, keep))
        for record in recording.folded(partial(_came_to_nothing, slug)):
            if isinstance(record, Repeat):
                matches += record.count
            else:
                matches += isinstance(record, Match)
            pipeline.feed(record)
        return Replayed(
            header.release,
            slug,
            recording.truncated,
            books,
            divergences,
            metrics,
            what_if,
            differences,
        )


def _came_to_nothing(semantics: str, match: Match) -> bool:
    """Tell whether it is enough to count how often this was decided so."""
    if match.outcome.match is not Source.NONE:
        return False
    # Each divergence is told.
    return judge(match, expect(semantics, match.inputs)).kind is None


def summary(replayed: Replayed) -> dict[str, object]:
    """Return the totals under their names."""
    books = replayed.books
    return {
        "kernel": replayed.release,
        "semantics": replayed.semantics,
        "truncated": replayed.truncated,
        "decisions": sum(books.judgements.values()),
        **{str(name): books.judgements[name] for name in Judgement},
        "divergences": sum(books.divergences.values()),
        "lost": {str(stage): count for stage, count in books.lost.items() if count},
        "what_if_devices": {
            slug: devices
            for slug, devices in replayed.what_if.devices().items()
            if devices
        },
    }


def divergence_lines(replayed: Replayed) -> Iterator[dict[str, object]]:
    """Yield each divergence with its inputs, both answers, why, and what if not."""
    for observation in replayed.divergences:
        if isinstance(observation, Probed):
            yield {**probe_fields(observation.probe), "kind": observation.kind}
        else:
            inputs = observation.match.inputs
            explanation = explain(replayed.semantics, inputs)
            yield {**divergence_fields(observation), **explanation.as_object()}


def lines(replayed: Replayed, *, what_if: bool) -> Iterator[dict[str, object]]:
    """Yield everything for a machine, the summary last."""
    yield from divergence_lines(replayed)
    if what_if:
        yield from replayed.differences.lines()
    yield {"summary": summary(replayed)}


def sentences(replayed: Replayed, *, what_if: bool) -> Iterator[str]:
    """Yield everything for a person, the totals last."""
    yield from map(sentence, divergence_lines(replayed))
    if what_if:
        yield from map(what_if_sentence, replayed.differences.lines())
    for name, value in summary(replayed).items():
        yield f"{name:14} {value}"


def what_if_sentence(line: dict[str, Any]) -> str:
    """Say for a person what would be otherwise."""
    others = ", ".join(f"{slug} {would}" for slug, would in line["what_if"].items())
    return (
        f"{line['driver']} and {line['address']}: {line['semantics']} answers "
        f"{line['outcome']}; otherwise {others} ({line['decisions']} times)"
    )


def sentence(line: dict[str, object]) -> str:
    """Say one divergence for a person."""
    subject = f"{line['kind']}: {line['driver']} and {line['address']}"
    if "why" not in line:
        return f"{subject}: bound, but no match was seen during the probe"
    kernel = _answer(line["kernel"], line["kernel_index"])
    model = _answer(line["model"], line["model_index"])
    return f"{subject}: the kernel answered {kernel}, the model {model}: {line['why']}"


def _answer(match: object, index: object) -> str:
    return f"{match}" if index is None else f"{match} {index}"

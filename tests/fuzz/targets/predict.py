"""`predict`: its options in the first line, its cases in those that follow."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from fuzz.json_tree import mutate
from fuzz.target import Target
from observer import predict
from observer.model import SEMANTICS
from observer.predict import NEW_ID_RULES, PredictError

if TYPE_CHECKING:
    from collections.abc import Iterable


def run(data: bytes) -> None:
    """Answer each case, a JSON object a line."""
    first, *lines = data.splitlines(keepends=True) or [b""]
    semantics, _, rules = first.decode("utf-8", "surrogateescape").partition(" ")
    options = predict.options(semantics, rules.rstrip("\n"), btf="/nowhere")
    answered = 0
    try:
        for answer in predict.answers("cases", lines, options):
            assert isinstance(json.loads(answer), dict)
            assert "\n" not in answer
            answered += 1
    except PredictError as e:
        assert str(e).startswith(f"cases: line {answered + 1}: "), e
    else:
        assert len(lines) == answered


def seeds() -> Iterable[bytes]:
    """Yield both kinds of cases, for each semantics and for all rules of new_id."""
    entry = {"vendor": "0x8086", "device": 0x100E, "class": 0x20000, "class_mask": 1}
    driver = {"name": "e1000", "id_table": [entry, {"override_only": 1}]}
    match = {
        "device": {"vendor": 0x8086, "device": 0x100E, "subvendor": 1, "class": 2},
        "driver": {**driver, "dynids": [entry]},
        "driver_override": "e1000",
    }
    writes = {
        "driver": {"name": "pci-stub", "id_table": None},
        "writes": [["new_id", "8086 10f5 0 0 0 0 0"], ["remove_id", "8086 10f5"]],
    }
    cases = "\n".join(map(json.dumps, (match, writes, writes | {"driver": driver})))
    for place, slug in enumerate(SEMANTICS):
        rules = NEW_ID_RULES[place % len(NEW_ID_RULES)]
        yield f"{slug} {rules}\n{cases}\n".encode()


TARGET = Target(run, (PredictError,), seeds, share=5, mutate=mutate)

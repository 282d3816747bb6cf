"""observer/semantics.py, docs/semantics.md: what the model knows, told and written."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from observer.cli import GOOD, USAGE, main
from observer.model import SEMANTICS
from observer.model.decision_table import ROWS

if TYPE_CHECKING:
    from types import ModuleType

DOCS = Path(__file__).parents[1] / "docs"


@pytest.fixture(scope="module")
def generate() -> ModuleType:
    """Return docs/generate.py, which is in no package."""
    spec = importlib.util.spec_from_file_location("generate", DOCS / "generate.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_list(capsys: pytest.CaptureFixture[str]) -> None:
    """A person sees each slug with its rule and where it comes from."""
    assert GOOD == main(["semantics"])
    paragraphs = capsys.readouterr().out.split("\n\n")
    assert len(SEMANTICS) == len(paragraphs)
    for (slug, each), paragraph in zip(SEMANTICS.items(), paragraphs, strict=True):
        assert [
            f"{slug} ({each.era})",
            f"    {each.rule}",
            f"    Source: {each.source}.",
        ] == paragraph.splitlines()


def test_table(capsys: pytest.CaptureFixture[str]) -> None:
    """One slug comes with its decision table, of the rows its kernels know."""
    assert GOOD == main(["semantics", "linux-3.16"])
    table = capsys.readouterr().out.split("\n\n")[1].splitlines()
    assert [
        "dynid  static hits  driver_override  answer",
        "no     none         unset            none",
        "no     none         == driver        override",
        "no     plain        unset            static plain",
        "no     plain        == driver        static plain",
        "yes    anything     unset            dynid",
        "yes    anything     == driver        dynid",
        "no     anything     != driver        none",
        "yes    anything     != driver        none",
    ] == [line.removeprefix("    ") for line in table]


def test_json(capsys: pytest.CaptureFixture[str]) -> None:
    """A machine gets all of them, or one, with every row."""
    assert GOOD == main(["semantics", "--json"])
    listed = json.loads(capsys.readouterr().out)
    assert list(SEMANTICS) == [each["semantics"] for each in listed]
    assert GOOD == main(["semantics", "--json", "rfc-2021-06-17"])
    one = json.loads(capsys.readouterr().out)
    assert one in listed
    assert {"semantics", "era", "rule", "source", "decision_table"} == one.keys()
    assert len(ROWS) == len(one["decision_table"])
    assert {
        "dynid": "no",
        "static_hits": "oo, plain",
        "driver_override": "unset",
        "match": "hang",
        "index": None,
        "answer": "hang",
        "applies": True,
    } in one["decision_table"]


def test_unknown_slug(capsys: pytest.CaptureFixture[str]) -> None:
    """A slug that does not exist is answered with those that do, on one line."""
    assert USAGE == main(["semantics", "linux-9.0"])
    output, errors = capsys.readouterr()
    assert ("", 1) == (output, errors.count("\n"))
    assert errors.startswith("pci-observer: linux-9.0: ")
    assert [] == [slug for slug in SEMANTICS if slug not in errors]


def test_page(generate: ModuleType) -> None:
    """docs/semantics.md is what the model says; python docs/generate.py writes it."""
    assert generate.page() == (DOCS / "semantics.md").read_text(encoding="utf-8")


def test_each_difference_is_explained(generate: ModuleType) -> None:
    """For each row in which a proposal differs, the page says why it mattered."""
    proposals = [slug for slug in SEMANTICS if slug.startswith("rfc-2021")]
    assert generate.MATTERED.keys() == {
        (slug, row)
        for slug in proposals
        for row in ROWS
        if row.dynid != "flagged" and generate.differs(slug, row)
    }

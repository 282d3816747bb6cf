"""The project checks itself: what two places say must be the same in both."""

from __future__ import annotations

import re
import tomllib
from fnmatch import fnmatch
from itertools import product
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from prometheus_client.parser import text_string_to_metric_families
from shapes import all_layouts

from observer import hooks, slugs
from observer.books import Books
from observer.metrics import About, Metrics, State
from observer.model import SEMANTICS
from observer.ring import Counters

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).resolve().parents[1]
BPF = ROOT / "bpf"

# The slugs that the contract with the outside knows.
SLUGS = {
    "linux-3.15",
    "linux-3.16",
    "linux-5.15",
    "rfc-2021-06-03",
    "rfc-2021-06-14",
    "rfc-2021-06-14-without-c",
    "rfc-2021-06-17",
    "rfc-flagged-dynids",
}

ANY = None  # values come from outside
REASONS = (
    "override_changed dynids_changed dynids_truncated "
    "table_truncated table_unknown read_fault"
)
# Metrics of the contract by type, label and fixed values; more may be exported.
ALWAYS = [hook for hook in hooks.HOOKS if hook not in hooks.FALLBACKS]
METRICS: dict[str, tuple[str, dict[str, str | None]]] = {
    "match_decisions": ("counter", {"driver": ANY, "result": ANY}),
    "probe_results": ("counter", {"driver": ANY, "result": ANY}),
    "probe_duration_seconds": ("histogram", {"driver": ANY}),
    "judgements": ("counter", {"judgement": "agree diverge indeterminate"}),
    "divergences": ("counter", {"driver": ANY, "kind": ANY}),
    "indeterminate": ("counter", {"reason": REASONS}),
    "what_if_devices": ("gauge", {"semantics": " ".join(sorted(SLUGS))}),
    "events": ("counter", {"stage": "emitted received decoded"}),
    "events_lost": ("counter", {"stage": "reserve decode queue"}),
    "probe_misses": ("counter", {"hook": " ".join(ALWAYS)}),
    "hook_attached": (
        "gauge",
        {"hook": " ".join(ALWAYS), "method": "fentry kprobe"},
    ),
    "kernel_info": ("gauge", {"release": ANY, "semantics": ANY, "layout": ANY}),
    "observing_since_timestamp_seconds": ("gauge", {}),
    "build_info": ("gauge", {"version": ANY}),
}

# Constants that the text of the programs does not get from hooks.constants, and the
# other way round.
KNOBS = {"BREAK_SNAPSHOT"}  # tests give it with --define
FOR_BCC = {"PAGE_SIZE"}  # its macro for rings multiplies by it

# Modules whose tests stand with those of the module that they are a part of.
TESTED_WITH = {
    "__init__": "test_docs",  # the version
    "__main__": "test_cli",
    "books": "test_pipeline",
    "case": "test_story",
    "cause": "test_difference",
    "change": "test_difference",
    "circumstances": "test_story",
    "depict": "test_document",
    "drivers": "test_wire",
    "durations": "test_metrics",
    "event_history": "test_tracking",
    "exchange": "test_server",
    "fields": "test_recording",
    "happenings": "test_story",
    "hooking": "test_loader",
    "loading": "test_attachment",
    "live": "test_live_source",  # test_live is about guests
    "log_fields": "test_log",
    "machine": "machines",  # values without behaviour, as record
    "model": "test_model_releases",  # and more, test_model_*
    "notation": "test_recording",
    "obstacles": "test_story",
    "pace": "test_log",
    "pages": "test_server",
    "pictured": "pictures",  # values without behaviour
    "pointers": "test_recording",
    "record": "strategies",  # values without behaviour; all tests build them
    "remedy": "test_story",
    "slugs": "test_codebase",
    "stocktaking": "test_loader",
    "surroundings": "test_story_surroundings",  # test_surroundings is about guests
    "text": "test_metrics",
    "timeline": "test_tracking",
}
# What those tests name instead of the module, which they run as a whole.
NAMED_AS = {
    "__init__": "__version__",
    "__main__": '"-m", "observer"',
    "cause": "observer/cause.py",
    "circumstances": "observer.story",
    "depict": "observer/document.py",
    "drivers": "observer.wire",
    "happenings": "observer.story",
    "log_fields": "observer.log",
    "notation": "observer.recording",
    "obstacles": "observer.story",
    "remedy": "observer.story",
    "slugs": "slugs.SLUGS",
}


def modules() -> list[str]:
    """Return the names of all modules of the package."""
    package = ROOT / "observer"
    packages = {path.parent.name for path in package.glob("*/*.py")}
    return sorted({path.stem for path in package.glob("*.py")} | packages)


def ours() -> Iterator[Path]:
    """Yield the files of the repository that git does not ignore."""
    lines = (ROOT / ".gitignore").read_text(encoding="ascii").splitlines()
    ignored = [".git", *(line.strip("/") for line in lines if line)]
    directories = [ROOT]
    while directories:
        for path in sorted(directories.pop().iterdir()):
            if any(fnmatch(path.name, pattern) for pattern in ignored):
                continue
            if path.is_dir():
                directories.append(path)
            else:
                yield path


def bpf_text() -> str:
    """Return the C of the programs, without comments and texts."""
    text = "".join(path.read_text(encoding="ascii") for path in BPF.glob("*.[ch]"))
    return re.sub(r'/\*.*?\*/|//[^\n]*|"[^"\n]*"', "", text, flags=re.DOTALL)


def provided() -> set[str]:
    """Return the constants that any kernel gets by any method."""
    return {
        name
        for layout in all_layouts().values()
        for method in ("fentry", "kprobe")
        for name in {**hooks.constants(layout), **hooks.defines(method)}
    }


def test_constants_are_provided() -> None:
    """Each constant that the programs use is defined there or comes from hooks.py."""
    text = bpf_text()
    used = set(re.findall(r"\b[A-Z][A-Z0-9_]+\b", text))
    defined = set(re.findall(r"#define (\w+)|^\t([A-Z]\w+) = ", text, re.MULTILINE))
    own = {macro or member for macro, member in defined}
    bccs = {name for name in used if name.startswith(("BPF_", "PT_REGS_"))}
    assert set() == used - own - bccs - KNOBS - provided()


def test_constants_are_used() -> None:
    """Nothing is handed to the programs that they do not use."""
    used = set(re.findall(r"\w+", bpf_text()))
    assert FOR_BCC == provided() - used


def test_counters() -> None:
    """The counters are read in the order in which the programs number them."""
    header = (BPF / "record.h").read_text(encoding="ascii")
    numbered = re.findall(r"\tCOUNT_(\w+) = (\d+),", header)
    expected = {name.lower(): int(number) for name, number in numbered}
    places: dict[str, int] = {}
    at = 0
    for name, value in Counters()._asdict().items():
        places[name] = at
        at += len(value) if isinstance(value, tuple) else 1
    assert expected == places
    size = re.search(r"\tCOUNTERS = (\d+),", header)
    assert size is not None
    assert at <= int(size[1])


def test_slugs() -> None:
    """The semantics are those of the contract, also where only their names are."""
    assert SLUGS == SEMANTICS.keys()
    assert tuple(SEMANTICS) == slugs.SLUGS


def first_scrape() -> dict[str, tuple[str, list[dict[str, str]]]]:
    """Return type and label sets of each family before anything was observed."""
    about = About("0", "6.1", "linux-5.15", "A", 0)
    metrics = Metrics(Books(), lambda: State(Counters(), 0, 0, {}, {}), about)
    return {
        family.name.removeprefix("pci_observer_"): (
            family.type,
            [sample.labels for sample in family.samples],
        )
        for family in text_string_to_metric_families(metrics.render("")[0].decode())
    }


@pytest.mark.parametrize("name", METRICS)
def test_metric(name: str) -> None:
    """A metric of the contract is there from the first scrape, with its fixed sets."""
    expected_type, labels = METRICS[name]
    actual_type, sets = first_scrape()[name]
    assert expected_type == actual_type
    assert set() == {label for each in sets for label in each} - labels.keys()
    fixed = [text.split() for text in labels.values() if text]
    if len(fixed) == len(labels):
        expected = [dict(zip(labels, each, strict=True)) for each in product(*fixed)]
        assert [] == [each for each in expected if each not in sets]


@pytest.mark.parametrize("module", modules())
def test_module_has_tests(module: str) -> None:
    """A module has tests of its own, or stands in the list above with a reason."""
    name = TESTED_WITH.get(module, f"test_{module}")
    assert (ROOT / "tests" / f"{name}.py").is_file()


@pytest.mark.parametrize("module", TESTED_WITH)
def test_list_is_true(module: str) -> None:
    """What is in the list exists, has no tests of its own, and is named where it is."""
    assert module in modules()
    own = ROOT / "tests" / f"test_{module}.py"
    assert module in ("live", "surroundings") or not own.exists()
    text = (ROOT / "tests" / f"{TESTED_WITH[module]}.py").read_text(encoding="utf-8")
    assert NAMED_AS.get(module, f"observer.{module}") in text


def test_no_path_of_a_machine() -> None:
    """No file names a directory of the machine on which it was written."""
    pattern = re.compile(rb"/(?:work|root)/")
    found = {
        str(path.relative_to(ROOT))
        for path in ours()
        if pattern.search(path.read_bytes())
    }
    assert set() == found


def test_core_is_held_to_do_no_io() -> None:
    """Every module of the lower layers is in the contract that forbids I/O."""
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    contracts = {
        each["name"]: each for each in settings["tool"]["importlinter"]["contracts"]
    }
    layers = contracts["One-way data flow"]["layers"]
    core = layers[layers.index("ring | exchange") + 1 :]
    expected = {f"observer.{name}" for layer in core for name in layer.split(" | ")}
    assert expected == set(contracts["The core does no I/O"]["source_modules"])

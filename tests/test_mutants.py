"""Wrong answers of a real kernel, and what the live observer calls each of them.

A livepatch answers in the place of pci_match_device(); tests/live/mutants.py runs in
the guest. Another kernel: PCI_OBSERVER_KERNELS="5.10 6.12.117+deb12-amd64".
"""

from __future__ import annotations

import os
import re
from typing import Any, Final

import pytest
from lab import devices
from lab.modules import build_mutants
from live.boots import Boots, boot, progress
from live.mutants import CALLS, CASES, MATCHES, MUTATIONS, OVERRIDES

pytestmark = pytest.mark.guest

KERNELS: Final = os.environ.get("PCI_OBSERVER_KERNELS", "6.1").split()
METHODS: Final = ("fentry", "kprobe")
SCRAPE_SECONDS: Final = 15  # from one scrape to the next, as our examples have it

M: Final = "matched_not_expected"
E: Final = "expected_not_matched"
S: Final = "different_source"
N: Final = "different_entry"

# Driver -> kinds of divergence, for each mutation: these and no others. What drivers
# list stands in tests/lab/mutants/cases.c.
KINDS: Final[dict[str, dict[str, set[str]]]] = {
    "mismatch_ignored": {
        **{case: {M} for case in ("plain", "hidden", "twice", "exact", "vendor")},
        **{case: {M} for case in ("class", "listed", "added")},
    },
    "override_by_prefix": {"plain": {M}},
    "dynids_ignored": {"listed": {S}, "added": {E, S}},
    "static_first": {"listed": {S}},
    "last_dynid": {"listed": {N}},
    "last_entry": {"twice": {N}, "hidden": {N}},
    "flag_ignored": {"flagged": {M}, "hidden": {N}},
    "no_dummy": {"wide": {E}, "empty": {E}},
    "early_end": {
        **{case: {E, S} for case in ("plain", "exact", "vendor", "class")},
        "flagged": {S},
        "hidden": {E},
    },
    "mask_ignored": {"class": {E, S}},
    "subvendor_never_any": {
        **{case: {E, S} for case in ("plain", "hidden", "twice", "vendor", "class")},
        "added": {E, S},
        "flagged": {S},
        "listed": {N},
    },
    "device_never_any": {"vendor": {E, S}},
    "squeezed": {"wide": {M, S}},
    "rfc_2021_06_03": {
        **{case: {E} for case in ("plain", "hidden", "twice", "exact", "vendor")},
        **{case: {E} for case in ("class", "wide", "empty", "listed", "added")},
    },
    "rfc_2021_06_14": {
        case: {E} for case in ("plain", "hidden", "twice", "exact", "vendor", "class")
    },
    "rfc_2021_06_14_without_c": {"hidden": {E}},
    "copied": {},  # the answer is right; see below
}
# Before 5.15 there is no flag: what would be flagged is plain.
KINDS_WITHOUT_FLAG: Final = KINDS | {
    "mismatch_ignored": KINDS["mismatch_ignored"] | {"flagged": {M}},
    "flag_ignored": {},
    "early_end": {
        case: {E, S} for case in ("plain", "flagged", "exact", "vendor", "class")
    },
    "subvendor_never_any": KINDS["subvendor_never_any"] | {"flagged": {E, S}},
    "rfc_2021_06_03": KINDS["rfc_2021_06_03"] | {"flagged": {E}},
    "rfc_2021_06_14": KINDS["rfc_2021_06_14"] | {"flagged": {E}},
    "rfc_2021_06_14_without_c": {},
}
# Mutations that change nothing that a probe method could tell.
SILENT: Final = {"copied"}
SILENT_WITHOUT_FLAG: Final = {*SILENT, "flag_ignored", "rfc_2021_06_14_without_c"}

# What drivers are given, override by override, and the driver_data of the id.
PROBED: Final = (
    *("plain:1", "hidden:2", "twice:1", "exact:1", "vendor:1", "class:1"),
    *("listed:11", "added:0"),
    *("plain:1", "flagged:1", "hidden:1", "twice:1", "exact:1", "vendor:1"),
    *("class:1", "wide:0", "empty:0", "listed:11", "added:0"),
)
PROBED_WITHOUT_FLAG: Final = (
    *("plain:1", "flagged:1", "hidden:1", "twice:1", "exact:1", "vendor:1"),
    *("class:1", "listed:11", "added:0"),
    *("plain:1", "flagged:1", "hidden:1", "twice:1", "exact:1", "vendor:1"),
    *("class:1", "wide:0", "empty:0", "listed:11", "added:0"),
)

Result = dict[str, Any]


@pytest.fixture(scope="session")
def boots(
    tmp_path_factory: pytest.TempPathFactory, pytestconfig: pytest.Config
) -> Boots:
    """All guests; each boots when a test first asks for it."""

    def start(kernel: str) -> Result:
        modules = build_mutants(kernel)
        directory = tmp_path_factory.mktemp(f"mutants-{kernel}")
        result: Result = boot(
            kernel,
            "live.mutants",
            directory,
            progress(pytestconfig),
            str(modules),
            qemu_args=devices.DRIVERLESS,
            append="",
        )
        return result

    return Boots(start)


@pytest.fixture(params=KERNELS)
def result(request: pytest.FixtureRequest, boots: Boots) -> Result:
    """Return what was seen under one kernel."""
    found: Result = boots[request.param]
    return found


def has_flag(result: Result) -> bool:
    """Tell whether this kernel has override_only."""
    return "linux-5.15" == result["layout"]["semantics"]


def shares(result: Result) -> bool:
    """Tell whether this kernel lets fentry and a livepatch have the same function."""
    major, minor = map(int, re.match(r"(\d+)\.(\d+)", result["release"]).groups())  # type: ignore[union-attr]
    return (major, minor) >= (6, 0)


def methods(result: Result) -> list[str]:
    """Return the methods by which a patched function can be observed."""
    return [*METHODS] if shares(result) else ["kprobe"]


def kinds(seen: Result) -> dict[str, set[str]]:
    """Return what one observer's metrics call divergence, by case and kind."""
    found: dict[str, set[str]] = {}
    for labels in seen["divergences_total"]:
        driver, kind = re.fullmatch(
            r'\{driver="case-(\w+)",kind="(\w+)"\}', labels
        ).groups()  # type: ignore[union-attr]
        found.setdefault(driver, set()).add(kind)
    return found


def judgements(seen: Result) -> dict[str, float]:
    """Return how many decisions were judged how."""
    return {
        labels.split('"')[1]: number
        for labels, number in seen["judgements_total"].items()
    }


def assert_whole(observed: Result, expected_methods: list[str]) -> None:
    """Every observer knows of every call, and lost none."""
    assert expected_methods == [*observed["seen"]]
    assert 0 == observed["missed"]
    for method, seen in observed["seen"].items():
        assert (0, observed["calls"]) == (seen["lost"], seen["accounted"]), method
        assert seen["emitted"] == sum(seen["judgements_total"].values()), method


def assert_faultless(observed: Result) -> None:
    """No decision diverges, and none is in doubt."""
    for method, seen in observed["seen"].items():
        assert {} == seen["divergences_total"] == seen["indeterminate_total"], method
        assert {"agree": seen["emitted"]} == judgements(seen), method


def test_every_mutation_has_a_row() -> None:
    """None is loaded without being looked at, and each driver is of use."""
    assert [*KINDS] == [*MUTATIONS]
    assert {*CASES} == {case for row in KINDS.values() for case in row}
    assert [*KINDS] == [*KINDS_WITHOUT_FLAG]


@pytest.mark.parametrize("mutation", MUTATIONS)
def test_a_mutation_is_called_what_it_is(result: Result, mutation: str) -> None:
    """By each method: the drivers and kinds of the table, and no others."""
    expected = (KINDS if has_flag(result) else KINDS_WITHOUT_FLAG)[mutation]
    observed = result["mutated"][mutation]

    for method, seen in observed["seen"].items():
        assert expected == kinds(seen), method
        diverged = judgements(seen).get("diverge", 0)
        assert sum(seen["divergences_total"].values()) == diverged, method
    divergences = [seen["divergences_total"] for seen in observed["seen"].values()]
    assert divergences[0] == divergences[-1]


@pytest.mark.parametrize("mutation", MUTATIONS)
def test_a_mutation_is_seen_within_one_scrape(result: Result, mutation: str) -> None:
    """When the books balance all is judged, which takes less than from one to the next.

    What is counted is what the kernel's own probe counted.
    """
    observed = result["mutated"][mutation]

    assert_whole(observed, methods(result))
    assert observed["scrape_seconds"] < SCRAPE_SECONDS


@pytest.mark.parametrize("mutation", MUTATIONS)
def test_a_mutation_is_real(result: Result, mutation: str) -> None:
    """Drivers themselves tell that they were given other devices, or other ids."""
    silent = SILENT if has_flag(result) else SILENT_WITHOUT_FLAG
    probed = result["mutated"][mutation]["probed"]

    assert (mutation in silent) == (probed == result["unpatched"]["probed"])


@pytest.mark.parametrize("when", ["unpatched", "faithful", "unpatched_again"])
def test_without_a_mutation_nothing_diverges(result: Result, when: str) -> None:
    """Nor with a livepatch that answers right: it is the answer that is judged."""
    probed = PROBED if has_flag(result) else PROBED_WITHOUT_FLAG
    observed = result[when]

    assert_whole(observed, methods(result))
    assert_faultless(observed)
    assert [*probed] == observed["probed"]


@pytest.mark.parametrize("when", ["faithful_many", "unpatched_many"])
def test_of_100_000_decisions_none_diverges(result: Result, when: str) -> None:
    """Thousands of them matches, which are taken one by one."""
    observed = result[when]

    assert CALLS <= observed["calls"]
    assert_whole(observed, methods(result))
    assert_faultless(observed)
    for seen in observed["seen"].values():
        assert 2 * 8 * MATCHES <= seen["emitted"] - seen["repeated"]


def test_a_copy_of_the_right_entry_is_in_doubt(result: Result) -> None:
    """An id that is in no list tells nothing of its source: read_fault, not agree."""
    for seen in result["mutated"]["copied"]["seen"].values():
        assert ['{reason="read_fault"}'] == [*seen["indeterminate_total"]]


@pytest.mark.parametrize("mutation", [name for name in MUTATIONS if name != "copied"])
def test_no_other_mutation_leaves_doubts(result: Result, mutation: str) -> None:
    """A wrong answer is no reason to doubt."""
    for seen in result["mutated"][mutation]["seen"].values():
        assert {} == seen["indeterminate_total"]


def test_a_patch_after_fentry(result: Result) -> None:
    """Before 6.0 the kernel refuses it; by kprobe it takes both."""
    refused = result["patch_after_fentry"]

    if shares(result):
        assert "" == refused
    else:
        assert "Device or resource busy" in refused


def test_attaching_after_a_patch(result: Result) -> None:
    """It sees the same; before 6.0 not by fentry, and `auto` takes the kprobe then."""
    observed = result["patched_first"]
    refused = observed["refused"]

    assert "" == refused["kprobe"] == refused.get("auto", "")
    assert shares(result) == ("" == refused["fentry"]) == ("auto" not in refused)
    for method, seen in observed["seen"].items():
        hook = f'hook_attached{{hook="pci_match_device",method="{method}"}}'
        if method == "auto":
            hook = hook.replace("auto", "kprobe")
        assert hook in observed["hooks"][method]
        table = KINDS if has_flag(result) else KINDS_WITHOUT_FLAG
        assert table["mismatch_ignored"] == kinds(seen), method


def test_taking_the_patch_away_while_attached(result: Result) -> None:
    """The kernel answers right again, and is seen to."""
    after = result["patched_first"]["after"]

    assert_whole(after, [*result["patched_first"]["seen"]])
    assert_faultless(after)


def test_the_sweep_names_every_driver() -> None:
    """And one that a name of ours begins, one that is nobody's, and none."""
    assert ["", *(f"case-{case}" for case in CASES), "case-plainer", "nobody"] == [
        *OVERRIDES
    ]

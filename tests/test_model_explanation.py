"""observer/model/explanation.py: why, and what would reverse it."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from strategies import decidable_inputs, inputs

from observer.model import SEMANTICS, expect, explain
from observer.model.explanation import Entry, Rule
from observer.record import (
    PCI_ANY_ID,
    Device,
    Driver,
    Id,
    Indeterminate,
    Inputs,
    Outcome,
    Source,
    TableState,
)

NIC = Device(0x8086, 0x100E, 0x1AF4, 0x1100, 0x020000)
LISTED = Id(0x8086, 0x100E)
VFIO = Id(PCI_ANY_ID, PCI_ANY_ID, override_only=1)
NO_MATCH = (Source.NONE, Source.HANG)


def case(
    *id_table: Id,
    dynids: tuple[Id, ...] = (),
    override: str | None = None,
    name: str = "e1000",
) -> Inputs:
    """Return what a network card and a driver with this table depend on."""
    return Inputs(NIC, Driver(1, name, id_table), dynids, driver_override=override)


@pytest.mark.parametrize(
    ("slug", "inputs", "rule", "entry", "reason", "opposite"),
    [
        (
            "linux-5.15",
            case(LISTED, override="vfio-pci"),
            Rule.OVERRIDE_NAMES_ANOTHER_DRIVER,
            None,
            "driver_override names 'vfio-pci', not 'e1000'.",
            "clear driver_override, or set driver_override to 'e1000'",
        ),
        (
            "linux-5.15",
            case(VFIO, name="vfio-pci"),
            Rule.OVERRIDE_ONLY_WITHOUT_OVERRIDE,
            Entry(Source.STATIC, 0, VFIO),
            (
                "id_table[0] (*:*) matches, but is override_only and driver_override "
                "is not set."
            ),
            (
                "set driver_override to 'vfio-pci', or write '8086 100e ffffffff "
                "ffffffff 0 0 0' to the driver's new_id"
            ),
        ),
        (
            "linux-5.15",
            case(VFIO, LISTED, override="e1000"),
            Rule.OVERRIDE_ONLY_AND_OVERRIDE,
            Entry(Source.STATIC, 0, VFIO),
            (
                "No dynid matches; id_table[0] (*:*) does: override_only, and "
                "driver_override names this driver."
            ),
            "set driver_override to another name, such as 'none'",
        ),
        (
            "linux-3.16",
            case(VFIO, override="e1000"),  # knows no flag
            Rule.FIRST_ENTRY,
            Entry(Source.STATIC, 0, VFIO),
            "No dynid matches; id_table[0] (*:*) does: the first entry that counts.",
            "set driver_override to another name, such as 'none'",
        ),
        (
            "linux-3.15",
            case(LISTED, override="vfio-pci"),
            Rule.FIRST_ENTRY,
            Entry(Source.STATIC, 0, LISTED),
            (
                "No dynid matches; id_table[0] (8086:100e) does: the first entry that "
                "counts."
            ),
            "another id_table: this one lists the device, and nothing overrides it",
        ),
        (
            "linux-3.15",
            case(Id(1, 1), dynids=(Id(1, 2), LISTED)),
            Rule.FIRST_DYNID,
            Entry(Source.DYNID, 1, LISTED),
            "dynid 1 (8086:100e) is the first to match.",
            "remove with remove_id what matches of the dynids (1)",
        ),
        (
            "linux-3.15",
            case(Id(1, 1, driver_data=7)),
            Rule.NO_ID_MATCHES,
            None,
            "No dynid and no id_table entry matches.",
            (
                "write '8086 100e ffffffff ffffffff 0 0 DATA' to the driver's new_id, "
                "DATA being the driver_data of an entry of its id_table"
            ),
        ),
        (
            "linux-3.15",
            case(),
            Rule.NO_ID_MATCHES,
            None,
            "No dynid and no id_table entry matches.",
            "another id_table: this one is empty, so new_id accepts nothing",
        ),
        (
            "linux-5.15",
            case(override="e1000"),
            Rule.DUMMY_ID,
            None,
            "No id matches, but driver_override names this driver: the dummy id.",
            (
                "clear driver_override, or set driver_override to another name, such "
                "as 'none'"
            ),
        ),
        (
            "rfc-2021-06-03",
            case(Id(1, 1), override="e1000"),
            Rule.NO_DUMMY_ID,
            None,
            (
                "No id matches, and driver_override names this driver in vain: there "
                "is no dummy id."
            ),
            "clear driver_override and write '8086 100e' to the driver's new_id",
        ),
        (
            "rfc-2021-06-03",
            case(LISTED, dynids=(LISTED,), override="e1000"),
            Rule.OVERRIDE_WITHOUT_FLAG,
            Entry(Source.DYNID, 0, LISTED),
            (
                "dynid 0 (8086:100e) matches, but is not override_only and "
                "driver_override is set."
            ),
            "clear driver_override",
        ),
        (
            "rfc-2021-06-14",
            case(LISTED, override="e1000"),
            Rule.OVERRIDE_WITHOUT_FLAG,
            Entry(Source.STATIC, 0, LISTED),
            (
                "id_table[0] (8086:100e) matches, but is not override_only and "
                "driver_override is set."
            ),
            (
                "clear driver_override, or write '8086 100e ffffffff ffffffff 0 0 0' "
                "to the driver's new_id"
            ),
        ),
        (
            "rfc-2021-06-14-without-c",
            case(VFIO, LISTED),
            Rule.OVERRIDE_ONLY_WITHOUT_OVERRIDE,
            Entry(Source.STATIC, 0, VFIO),
            (
                "id_table[0] (*:*) matches, but is override_only and driver_override "
                "is not set, and hides what follows."
            ),
            (
                "set driver_override to 'e1000', or write '8086 100e ffffffff ffffffff "
                "0 0 0' to the driver's new_id"
            ),
        ),
        (
            "rfc-2021-06-17",
            case(VFIO),
            Rule.ENDLESS_SEARCH,
            Entry(Source.STATIC, 0, VFIO),
            (
                "id_table[0] (*:*) matches, but is override_only and driver_override "
                "is not set: the search goes on from there and finds it again, for "
                "ever."
            ),
            (
                "set driver_override to 'e1000', or write '8086 100e ffffffff ffffffff "
                "0 0 0' to the driver's new_id"
            ),
        ),
        (
            "rfc-flagged-dynids",
            case(dynids=(VFIO,), override="e1000"),
            Rule.OVERRIDE_ONLY_AND_OVERRIDE,
            Entry(Source.DYNID, 0, VFIO),
            (
                "dynid 0 (*:*) matches: override_only, and driver_override names this "
                "driver."
            ),
            (
                "clear driver_override, or set driver_override to another name, such "
                "as 'none'"
            ),
        ),
        (
            "rfc-flagged-dynids",
            case(dynids=(VFIO,)),
            Rule.OVERRIDE_ONLY_WITHOUT_OVERRIDE,
            Entry(Source.DYNID, 0, VFIO),
            (
                "dynid 0 (*:*) matches, but is override_only and driver_override is "
                "not set."
            ),
            "set driver_override to 'e1000'",
        ),
        (
            "linux-5.15",
            Inputs(NIC, Driver(1, "e1000", None, TableState.UNKNOWN)),
            Rule.UNDECIDED,
            None,
            "Can't tell: the driver's id_table was not received.",
            "unknown",
        ),
        (
            "linux-5.15",
            Inputs(NIC, Driver(1, "pci-stub", None)),
            Rule.NO_ID_MATCHES,
            None,
            "No dynid matches, and the driver has no id_table.",
            (
                "set driver_override to 'pci-stub', or write '8086 100e' to the "
                "driver's new_id"
            ),
        ),
        (
            "linux-5.15",
            case(LISTED, name="none"),
            Rule.FIRST_ENTRY,
            Entry(Source.STATIC, 0, LISTED),
            (
                "No dynid matches; id_table[0] (8086:100e) does: the first entry that "
                "counts."
            ),
            "set driver_override to another name, such as 'nobody'",
        ),
    ],
)
def test_explanation(
    slug: str,
    inputs: Inputs,
    rule: Rule,
    entry: Entry | None,
    reason: str,
    opposite: str,
) -> None:
    """Each rule names itself, its entry, and the least that would reverse it."""
    found = explain(slug, inputs)
    assert (rule, entry, reason, opposite) == (
        found.rule,
        found.entry,
        found.reason,
        found.opposite,
    )


def test_for_a_machine() -> None:
    """A machine gets names and places instead of words."""
    assert {
        "semantics": "linux-5.15",
        "rule": "first_dynid",
        "entry": {"source": "dynid", "index": 0, "id": "8086:100e"},
        "why": "dynid 0 (8086:100e) is the first to match.",
        "opposite": (
            "set driver_override to another name, such as 'none', or remove with "
            "remove_id what matches of the dynids (0)"
        ),
    } == explain("linux-5.15", case(dynids=(LISTED,))).as_object()
    assert explain("linux-5.15", case()).as_object()["entry"] is None


@pytest.mark.parametrize("slug", SEMANTICS)
@settings(max_examples=50)
@given(case=inputs)
def test_change_reverses(slug: str, case: Inputs) -> None:
    """Each change that is named leads from a match to none, or from none to a match."""
    before = expect(slug, case)
    for change in explain(slug, case).changes:
        after = expect(slug, change.inputs)
        assert isinstance(before, Outcome)
        assert isinstance(after, Outcome)
        assert (before.match in NO_MATCH) is (after.match not in NO_MATCH)
        assert Source.HANG is not after.match


@pytest.mark.parametrize("slug", SEMANTICS)
@settings(max_examples=50)
@given(case=decidable_inputs)
def test_change_is_only_what_can_be_written(slug: str, case: Inputs) -> None:
    """No change touches the device, or what a driver was built with."""
    for change in explain(slug, case).changes:
        assert case.device == change.inputs.device
        assert case.driver == change.inputs.driver
        assert change.text.isprintable()


@pytest.mark.parametrize("slug", [slug for slug in SEMANTICS if slug != "linux-3.15"])
@settings(max_examples=50)
@given(case=decidable_inputs)
def test_a_way_out_of_any_match(slug: str, case: Inputs) -> None:
    """Where there is a driver_override, any match can be prevented with it."""
    found = explain(slug, case)
    if isinstance(found.verdict, Outcome) and found.verdict.match not in NO_MATCH:
        assert any("another name" in change.text for change in found.changes)


@pytest.mark.parametrize("slug", SEMANTICS)
@settings(max_examples=50)
@given(case=decidable_inputs)
def test_a_way_into_any_driver_with_ids(slug: str, case: Inputs) -> None:
    """Where new_id accepts something, any device can be given to any driver."""
    driver = case.driver._replace(id_table=(LISTED, *(case.driver.id_table or ())))
    found = explain(slug, case._replace(driver=driver))
    assert found.changes or SEMANTICS[slug].has_override is False


@pytest.mark.parametrize("slug", SEMANTICS)
@settings(max_examples=50)
@given(case=inputs)
def test_explanation_agrees(slug: str, case: Inputs) -> None:
    """Verdict, rule and entry tell the same."""
    found = explain(slug, case)
    assert expect(slug, case) == found.verdict
    assert found.reason.isprintable()
    assert (found.rule is Rule.UNDECIDED) is isinstance(found.verdict, Indeterminate)
    if isinstance(found.verdict, Outcome) and found.verdict.index is not None:
        assert found.entry is not None
        assert tuple(found.verdict) == found.entry[:2]

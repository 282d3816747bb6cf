"""Write docs/semantics.md from the model: python docs/generate.py."""

from __future__ import annotations

from pathlib import Path
from typing import Final, NamedTuple

from observer.model import SEMANTICS, expect, why
from observer.model.decision_table import ROWS, Row, cell
from observer.record import PCI_ANY_ID, Device, Driver, Id, Inputs, Outcome

PAGE: Final = Path(__file__).parent / "semantics.md"
MERGED: Final = "linux-5.15"

_NIC: Final = Device(0x8086, 0x100E, 0x1AF4, 0x1100, 0x020000)
_PF: Final = Device(0x1D0F, 0x0053, 0x1D0F, 0x0053, 0)
_LISTED: Final = Id(0x8086, 0x100E)
_ANY_OO: Final = Id(PCI_ANY_ID, PCI_ANY_ID, override_only=1)
_STUB: Final = Driver(1, "pci-stub", None)
_PF_STUB: Final = Driver(2, "pci-pf-stub", (Id(0x1D0F, 0x0053),))
# As the thread asked for: a flagged wildcard, that driver_override can give any device
_PF_STUB_FLAGGED: Final = Driver(
    2, "pci-pf-stub", (_ANY_OO, *(_PF_STUB.id_table or ()))
)
_E1000: Final = Driver(3, "e1000", (_LISTED,))
_VFIO: Final = Driver(4, "vfio-pci", (_ANY_OO,))

_HEAD: Final = """\
# What pci_match_device() answers, and what it might have answered

<!-- Written by docs/generate.py from observer/model; a test compares. Do not edit. -->

The kernel asks `pci_match_device()` whether a driver takes a device. The answer is an
id, or none. It comes from the ids written to the driver's `new_id` (*dynids*), from the
driver's `id_table`, or it is the dummy id that matches anything, which
`driver_override` gives. An entry of the table may be `override_only` (*oo* below; the
others are *plain*): it is there for `driver_override` alone.

`pci-observer semantics SLUG` shows one of the tables, `pci-observer predict` answers
single cases, and the metric `pci_observer_what_if_devices` tells how many devices of a
running machine would see another answer.
"""

_TABLE: Final = """\
## The decision tables, side by side

Static hits stand in table order. **Bold** differs from `linux-5.15`, what was merged.
*n/a*: kernels of that era don't have what the row is about; a model asked anyway
ignores it. *override* is the dummy id, *hang* a search that never ends.
"""

_USERS: Final = """\
## Which rows differ from what was merged, and why that mattered to users
"""

_EXAMPLES: Final = """\
## Worked examples

Each under every semantics, with the rule that decides.
"""


class Example(NamedTuple):
    """A case that somebody met."""

    title: str
    text: str
    inputs: Inputs


EXAMPLES: Final = (
    Example(
        "pci-stub by driver_override",
        "pci-stub has no id_table; `driver_override` is set to pci-stub. It takes the "
        "device by the dummy id alone.",
        Inputs(_NIC, _STUB, driver_override="pci-stub"),
    ),
    Example(
        "pci-stub by new_id",
        "`8086 100e` was written to the new_id of pci-stub; no `driver_override`.",
        Inputs(_NIC, _STUB, (_LISTED,)),
    ),
    Example(
        "new_id by hand, with the stale override that driverctl left",
        "driverctl once gave the device to vfio-pci and its `driver_override` is still "
        "set. Whoever then writes `8086 100e` to the new_id of pci-stub sees nothing "
        "happen, from v3.16 on and under every proposal. The device waits for the "
        "driver that its override names.",
        Inputs(_NIC, _STUB, (_LISTED,), driver_override="vfio-pci"),
    ),
    Example(
        "new_id by hand, with an override of the same driver",
        "The same, but driverctl had given the device to pci-stub: override and dynid "
        "both point to the driver. The first proposal answers none, for the dynid has "
        "no flag.",
        Inputs(_NIC, _STUB, (_LISTED,), driver_override="pci-stub"),
    ),
    Example(
        "pci-pf-stub and a device that it lists",
        "pci-pf-stub lists this physical function, plain; no `driver_override`.",
        Inputs(_PF, _PF_STUB),
    ),
    Example(
        "pci-pf-stub, forced onto a device that it lists",
        "`driver_override` names the driver that lists the device anyway, as tools do "
        "that always set it. Condition (c) answers none.",
        Inputs(_PF, _PF_STUB, driver_override="pci-pf-stub"),
    ),
    Example(
        "pci-pf-stub with a flagged wildcard before its list",
        "As was thought of: an oo wildcard first, that `driver_override` can give any "
        "device, then the plain entry. No `driver_override` is set. Until the merged "
        "rule the wildcard hid what followed.",
        Inputs(_PF, _PF_STUB_FLAGGED),
    ),
    Example(
        "vfio-pci and a device that nobody gave to it",
        "vfio-pci's table is one oo wildcard; no `driver_override`.",
        Inputs(_NIC, _VFIO),
    ),
    Example(
        "an old driver, forced onto its own device",
        "`driver_override` of a network card says e1000, and e1000 lists it.",
        Inputs(_NIC, _E1000, driver_override="e1000"),
    ),
)

# Why a differing row mattered; tests/test_semantics_page.py wants one for each.
MATTERED: Final[dict[tuple[str, Row], str]] = {
    ("rfc-2021-06-03", Row("no", "none", "== driver")): (
        "the dummy id is gone: `driver_override` alone binds nothing any more, neither "
        "pci-stub nor any driver to a device it does not list"
    ),
    ("rfc-2021-06-03", Row("no", "plain", "== driver")): (
        "a driver can't be forced onto a device that it lists, unless its table is "
        "changed"
    ),
    ("rfc-2021-06-03", Row("no", "oo, plain", "unset")): (
        "a flagged entry hides the plain one behind it: the driver loses a device that "
        "it took by itself"
    ),
    ("rfc-2021-06-03", Row("no", "plain, oo", "== driver")): (
        "the plain entry hides the flagged one: the override that the entry is there "
        "for finds nothing"
    ),
    ("rfc-2021-06-03", Row("yes", "anything", "== driver")): (
        "an id written to new_id stops working once `driver_override` names the very "
        "driver"
    ),
    ("rfc-2021-06-14", Row("no", "plain", "== driver")): (
        "(c): a driver can't be forced onto a device that it lists, and tools that set "
        "`driver_override` on every bind break"
    ),
    ("rfc-2021-06-14", Row("no", "oo, plain", "unset")): (
        "(b): a flagged entry hides the plain one behind it"
    ),
    ("rfc-2021-06-14", Row("no", "plain, oo", "== driver")): (
        "(c): the plain entry hides the flagged one"
    ),
    ("rfc-2021-06-14-without-c", Row("no", "oo, plain", "unset")): (
        "the flagged entry is an *anti-match* for the plain ones behind it, as in "
        "pci-pf-stub: a table can't hold both, the wildcard first"
    ),
    ("rfc-2021-06-17", Row("no", "oo", "unset")): (
        "the kernel hangs at the first device that vfio-pci is not given"
    ),
    ("rfc-2021-06-17", Row("no", "oo, plain", "unset")): (
        "the kernel hangs; the rule that was meant is the merged one"
    ),
}


def page() -> str:
    """Return the page."""
    return "\n".join(
        (
            _HEAD,
            _eras(),
            _TABLE,
            _side_by_side(),
            _USERS,
            _differences(),
            _EXAMPLES,
            *map(_example, EXAMPLES),
        )
    )


def differs(slug: str, row: Row) -> bool:
    """Tell whether a proposal answers to a row otherwise than what was merged."""
    return cell(slug, row).applies and (
        cell(slug, row).outcome != cell(MERGED, row).outcome
    )


def _eras() -> str:
    lines = ["## The semantics\n", "| slug | in force | rule | source |"]
    lines += ["| --- | --- | --- | --- |"]
    for slug, each in SEMANTICS.items():
        source = each.source.replace("<", "`").replace(">", "`")
        lines.append(f"| `{slug}` | {each.era} | {each.rule} | {source} |")
    return "\n".join(lines) + "\n"


def _side_by_side() -> str:
    lines = [
        "| dynid | static hits | driver_override | " + " | ".join(SEMANTICS) + " |"
    ]
    lines.append("| --- " * (3 + len(SEMANTICS)) + "|")
    lines += [f"| {' | '.join((*row, *_cells(row)))} |" for row in ROWS]
    return "\n".join(lines) + "\n"


def _cells(row: Row) -> list[str]:
    return [_cell(slug, row) for slug in SEMANTICS]


def _cell(slug: str, row: Row) -> str:
    answer = cell(slug, row)
    if not answer.applies:
        return "*n/a*"
    bold = cell(MERGED, row).applies and differs(slug, row)
    return f"**{answer.text}**" if bold else answer.text


def _differences() -> str:
    lines = []
    for slug in SEMANTICS:
        mattered = [(row, MATTERED[slug, row]) for s, row in MATTERED if s == slug]
        if mattered:
            lines.append(f"`{slug}`:\n")
            lines += [f"- {_row(row)}: {text}." for row, text in mattered]
            lines.append("")
    lines.append("`rfc-flagged-dynids` differs only for a dynid that carries the flag.")
    return "\n".join(lines) + "\n"


def _row(row: Row) -> str:
    dynid = "a dynid" if row.dynid == "yes" else "no dynid"
    return f"{dynid}, static hits {row.static_hits}, override {row.driver_override}"


def _example(example: Example) -> str:
    lines = [f"### {example.title}\n", f"{example.text}\n"]
    lines += ["| semantics | answer | why |", "| --- | --- | --- |"]
    for slug in SEMANTICS:
        outcome = expect(slug, example.inputs)
        assert isinstance(outcome, Outcome)  # noqa: S101 - all is known
        reason = why(slug, example.inputs).replace("*", "\\*")
        lines.append(f"| `{slug}` | {outcome.match} | {reason} |")
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")

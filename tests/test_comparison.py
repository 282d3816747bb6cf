"""observer/comparison.py: two pictures compared, for a person and for programs."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from hypothesis import given
from machines import ADDRESS, E1000_ID, device, driver
from pictures import pictured, pictures

from observer.comparison import Side, as_object, as_text, compare
from observer.terminal import WIDTH

if TYPE_CHECKING:
    from observer.pictured import Pictured

SECOND = "0000:00:03.0"
BEFORE = Side(
    "before.json",
    pictured(
        device(bound="vfio-pci", driver_override="vfio-pci"),
        device(SECOND, bound="e1000"),
        release="6.1",
    ),
)
AFTER = Side(
    "now",
    pictured(
        device(bound="e1000"),
        drivers=(driver("e1000", E1000_ID), driver("vfio-pci", module="vfio_pci")),
        release="7.3",
        semantics="linux-3.16",
    ),
)


def clock(unix_ns: int) -> str:
    """Spell a time."""
    return f"T{unix_ns // 10**9}"


def test_text() -> None:
    """Both pictures, what is otherwise around, then each device and driver."""
    lines = [*as_text(compare(BEFORE, AFTER), clock)]
    prints = [each.pop("fingerprint") for each in (sides(0), sides(1))]
    assert [
        f"before  before.json: Linux 6.1, T1000100, 2 devices, 2 bound, {prints[0]}",
        f"after   now: Linux 7.3, T1000100, 1 device, 1 bound, {prints[1]}",
        "semantics: linux-5.15 -> linux-3.16",
        "judged_by: linux-5.15 -> linux-3.16",
        "",
        f"{ADDRESS} (8086:100e, class 020000)",
    ] == lines[:6]
    assert "    vfio-pci -> e1000; driver_override=vfio-pci is not set any more" in (
        lines
    )
    assert [
        "",
        f"{SECOND} (8086:100e, class 020000)",
        "    vanished, had e1000",
        "",
        "driver e1000",
    ] == lines[8:13]
    assert ["", "4 differences."] == lines[-2:]
    assert all(len(line) <= WIDTH for line in lines)


def sides(which: int) -> dict[str, object]:
    """Return what programs are told of one side."""
    told = as_object(compare(BEFORE, AFTER))
    side = told["after" if which else "before"]
    assert isinstance(side, dict)
    return side


def test_a_device_of_no_address() -> None:
    """A file may say so; the device is told of by what stands there."""
    nameless = Side("a", pictured(device("")))
    lines = [*as_text(compare(nameless, Side("b", pictured())), clock)]
    assert [" (8086:100e, class 020000)", "    vanished, had no driver"] == lines[3:5]


def test_no_difference() -> None:
    """That is said."""
    assert "No difference." == [*as_text(compare(BEFORE, BEFORE))][-1]


def test_object() -> None:
    """What programs rely on."""
    told = json.loads(json.dumps(as_object(compare(BEFORE, AFTER))))
    assert ("pci-observer-diff", 1) == (told["format"], told["version"])
    side = told["before"]
    assert ("before.json", "6.1", "B", 2, 2) == (
        *(side["name"], side["release"], side["layout"]),
        *(side["devices"], side["bound"]),
    )
    first = told["changes"][0]
    assert {
        "kind": "driver_changed",
        "address": ADDRESS,
        "address_before": ADDRESS,
        "driver": None,
        "before": "vfio-pci",
        "after": "e1000",
        "cause": "driver_override=vfio-pci is not set any more",
        "devices": [],
    } == first
    assert ["driver_changed", "override_lost", "vanished", "built_in"] == [
        each["kind"] for each in told["changes"]
    ]


@given(pictures, pictures)
def test_any_two_pictures(before: Pictured, after: Pictured) -> None:
    """No picture is too strange for text and JSON."""
    compared = compare(Side("\x1b", before), Side("\n", after))
    json.dumps(as_object(compared))
    assert all(line.isprintable() for line in as_text(compared))

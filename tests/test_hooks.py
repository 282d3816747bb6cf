"""observer/hooks.py: what is hooked on which kernel, and the constants for it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from shapes import all_layouts, layouts

from observer import hooks
from observer.record import StoreFile

if TYPE_CHECKING:
    from observer.layout import Layout

KERNELS = all_layouts()
L0, D = layouts()["L0"], layouts()["D"]
BUS_MATCH = hooks.Hook("pci_bus_match", "enter_pci_bus_match", "leave_pci_bus_match")
DEVICE_PROBE = hooks.Hook(
    "pci_device_probe", "enter_pci_device_probe", "leave_pci_device_probe"
)


def test_plan_before_the_split() -> None:
    """Up to v5.13 one function does the probing, hooked at both ends."""
    assert (
        hooks.Hook(
            *("pci_match_device", "enter_pci_match_device", "leave_pci_match_device"),
            fallback=BUS_MATCH,
        ),
        hooks.Hook("pci_unregister_driver", "enter_pci_unregister_driver"),
        hooks.Hook(
            *("driver_probe_device", "enter_probe_function", "leave_probe_function"),
            fallback=DEVICE_PROBE,
        ),
    ) == hooks.plan(L0)[:3]


def test_plan_after_the_split() -> None:
    """Later the inner function decides, and the outer one only tells the path."""
    assert (
        hooks.Hook(
            *("__driver_probe_device", "enter_probe_function", "leave_probe_function"),
            fallback=DEVICE_PROBE,
        ),
        hooks.Hook("driver_probe_device", "enter_outer_probe_function"),
    ) == hooks.plan(D)[2:4]


@pytest.mark.parametrize("layout", [L0, D])
def test_stores_last(layout: Layout) -> None:
    """Each file's store function is hooked at both ends, after all that decides."""
    stores = hooks.plan(layout)[-len(StoreFile) :]
    assert list(StoreFile) == [hook.file for hook in stores]
    assert (
        hooks.Hook(
            "new_id_store", "enter_new_id_store", "leave_store", StoreFile.NEW_ID
        )
        == (stores[0])
    )
    assert [] == [hook for hook in hooks.plan(layout)[: -len(stores)] if hook.file]


@pytest.mark.parametrize("release", KERNELS)
def test_indispensable_first(release: str) -> None:
    """What can't be missed is attached before anything else."""
    assert "pci_match_device" == hooks.plan(KERNELS[release])[0].function


@pytest.mark.parametrize("release", KERNELS)
def test_every_hook_has_a_name(release: str) -> None:
    """All that may be hooked is in HOOKS, from which the metrics take their labels."""
    assert {hook.function for hook in hooks.plan(KERNELS[release])} <= set(hooks.HOOKS)
    assert set(hooks.FALLBACKS) <= set(hooks.HOOKS)


@pytest.mark.parametrize("method", hooks.METHODS)
def test_method_of_stores(method: str) -> None:
    """By an address nothing but a kprobe can be attached; the rest is as chosen."""
    found = {hook: hooks.method_of(hook, method) for hook in hooks.HOOKS}
    stores = dict.fromkeys(hooks.STORES.values(), "kprobe")
    assert dict.fromkeys(hooks.HOOKS, method) | stores == found


def test_offsets() -> None:
    """The programs get the layout's offsets under the same names."""
    found = hooks.constants(D)
    taken = {name: value for name, value in found.items() if name in D.offsets}
    assert taken == {name: D.offsets[name] for name in taken}
    assert {"DRV_DYNIDS", "DEV_OVERRIDE", "ID_SIZE", "MATCH_ARGS"} <= set(taken)


def test_kernel_without_override() -> None:
    """No member, no constant: the programs leave the reading out."""
    offsets = {k: v for k, v in D.offsets.items() if k != "DEV_OVERRIDE"}
    assert "DEV_OVERRIDE" not in hooks.constants(replace(D, offsets=offsets))


@pytest.mark.parametrize(("layout", "split"), [(L0, 0), (D, 1)])
def test_probe_split(layout: Layout, split: int) -> None:
    """The programs know whether there are two probing functions."""
    assert split == hooks.constants(layout)["PROBE_SPLIT"]


@pytest.mark.parametrize("release", KERNELS)
def test_constants_have_names(release: str) -> None:
    """All that a kernel has been asked for is what the shipped programs wait for."""
    assert set(hooks.CONSTANTS) == set(hooks.constants(KERNELS[release]))


@pytest.mark.parametrize(("method", "bare"), [("fentry", True), ("kprobe", False)])
def test_method(method: str, *, bare: bool) -> None:
    """The programs know how they are called."""
    assert bare == ("FENTRY" in hooks.defines(method))


def test_sizes() -> None:
    """The table's size goes to the programs in chunks; tests can add a bare word."""
    found = hooks.defines("kprobe", table_chunks=3, extra=["BREAK_SNAPSHOT"])
    assert (3, None) == (found["TABLE_CHUNKS"], found["BREAK_SNAPSHOT"])


def test_sources_exist() -> None:
    """The program text is made of files that are there."""
    bpf = Path(__file__).parents[1] / "bpf"
    assert [] == [name for name in hooks.SOURCES if not (bpf / name).is_file()]


@pytest.mark.parametrize(
    ("attached", "told_by"),
    [
        (
            {"pci_match_device", "__driver_probe_device"},
            ("pci_match_device", "__driver_probe_device"),
        ),
        (
            {"pci_bus_match", "pci_device_probe"},
            ("pci_bus_match", "pci_device_probe"),
        ),
        ({"pci_match_device"}, ("pci_match_device", "__driver_probe_device")),
    ],
)
def test_told_by(attached: set[str], told_by: tuple[str, str]) -> None:
    """A fallback tells where it is attached."""
    assert told_by == hooks.told_by(D, attached)


@pytest.mark.parametrize(
    ("layout", "hook", "attached", "said"),
    [
        (D, "pci_match_device", (), "no decision is seen"),
        (D, "pci_match_device", ("pci_bus_match",), "whether there is a match"),
        (D, "__driver_probe_device", (), "probes are not seen"),
        (L0, "driver_probe_device", (), "probes are not seen"),
        (D, "__driver_probe_device", ("pci_device_probe",), "none the core refuses"),
        (D, "driver_probe_device", (), "all probes look direct"),
        (D, "pci_unregister_driver", (), "uevents tell"),
        (D, "new_id_store", (), "writes to new_id are not seen"),
    ],
)
def test_instead(
    layout: Layout, hook: str, attached: tuple[str, ...], said: str
) -> None:
    """It is said what a missing hook costs, and what stands in for it."""
    assert said in hooks.instead(layout, hook, attached)


@pytest.mark.parametrize("release", KERNELS)
def test_every_missing_hook_can_be_told(release: str) -> None:
    """Of each hook of each kernel."""
    layout = KERNELS[release]
    assert all(hooks.instead(layout, h.function, ()) for h in hooks.plan(layout))

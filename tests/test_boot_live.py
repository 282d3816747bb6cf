"""Decisions before user space: a guest per kernel, then a test for each thing it saw.

tests/live/bootring.py runs in the guest, which was started with the words that
`boot-args` prints for its kernel's image. Others: PCI_OBSERVER_KERNELS="5.10 7.3".
"""

from __future__ import annotations

import json
import os
from typing import TYPE_CHECKING, Any, Final

import pytest
from lab import devices
from lab.kernels import vmlinuz
from live import oracle
from live.boots import Boots, boot, progress

from observer.boot_args import command_line
from observer.btf import Btf
from observer.kernel_image import btf_of
from observer.layout import layout_of

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.guest

KERNELS: Final = os.environ.get("PCI_OBSERVER_KERNELS", "6.1 7.3").split()
FIRST_DRIVER: Final = "iosf_mbi_pci"
SMALLEST_KB: Final = 8  # of a ring whose memory was given back
# Drivers that were registered and left again before the observer came: one that the
# kernel has built in and that finds no device, one that the guest takes away.
GONE: Final = {"agpgart-amd64", "tulip"}
RSS_KB: Final = 40 * 1024
# Up to 6.8: CPUs that could be plugged in, and have a directory but no ring.
MORE_CPUS: Final = "possible_cpus=4"
NO_TRACING: Final = {"kprobe_events": "", "set_event": "", "current_tracer": "nop"}

Line = dict[str, Any]


class Booted:
    """What happened in one guest."""

    def __init__(self, result: dict[str, Any], directory: Path) -> None:
        """Read what the observer recorded and logged."""
        self.result = result
        self.recorded: dict[str, Any] = result["recorded"]
        self.metrics: dict[str, float] = self.recorded["metrics"]
        self.places: dict[str, str] = result["places"]
        self.directory = directory
        _header, *self.lines = oracle.lines(directory / "boot.jsonl.gz")

    def of(self, kind: str) -> list[Line]:
        """Return the records of one kind."""
        return [line for line in self.lines if line["record"] == kind]

    def log(self, name: str) -> list[Line]:
        """Return the lines of one of the logs."""
        text = (self.directory / f"{name}.log").read_text()
        return [json.loads(line) for line in text.splitlines()]


def by_label(metrics: dict[str, float], name: str) -> dict[str, float]:
    """Return the values of a metric with one label."""
    return {
        key.split('"')[1]: value
        for key, value in metrics.items()
        if key.startswith(f"{name}{{")
    }


def emitted(metrics: dict[str, float]) -> float:
    """Return the decisions that the books tell of, which must balance."""
    judged = sum(by_label(metrics, "judgements_total").values())
    lost = by_label(metrics, "events_lost_total")
    stages = by_label(metrics, "events_total")
    assert stages["emitted"] == judged + sum(
        lost[stage] for stage in ("reserve", "decode", "queue")
    )
    return stages["emitted"]


@pytest.fixture(scope="session")
def boots(
    tmp_path_factory: pytest.TempPathFactory, pytestconfig: pytest.Config
) -> Boots:
    """All guests; each boots when a test first asks for it."""

    def start(kernel: str) -> dict[str, Any]:
        directory = tmp_path_factory.mktemp(f"bootring-{kernel}")
        line = command_line(layout_of(Btf(btf_of(vmlinuz(kernel)))))
        append = f"{devices.IOMMU_APPEND} {MORE_CPUS} {line}"
        say = progress(pytestconfig)
        result = boot(kernel, "live.bootring", directory, say, append=append)
        return {"booted": Booted(result, directory)}

    return Boots(start)


@pytest.fixture(params=KERNELS)
def booted(request: pytest.FixtureRequest, boots: Boots) -> Booted:
    """Return what happened under one kernel."""
    found: Booted = boots[request.param]["booted"]
    return found


def test_as_many_as_the_kernel_counted(booted: Booted) -> None:
    """Judged and lost at boot are together what its own counter said, to the call."""
    judged = sum(by_label(booted.metrics, "boot_decisions_total").values())
    lost = by_label(booted.metrics, "events_lost_total")["reserve"]
    assert booted.recorded["hits"]["m"] == judged + lost
    assert emitted(booted.metrics) == judged + lost
    assert 0 == lost == booted.metrics["synthetic_matches_total"]


def test_none_diverges(booted: Booted) -> None:
    """What can't be judged was decided for drivers that left, and is told so."""
    at_boot = by_label(booted.metrics, "boot_decisions_total")
    assert (
        0
        == at_boot["diverge"]
        == sum(by_label(booted.metrics, "divergences_total").values())
    )
    known = {line["number"] for line in booted.of("driver")}
    unjudged = [line for line in booted.of("match") if line["driver"] not in known]
    assert GONE == {line["name"] for line in unjudged}
    # One of its devices had an override of another driver: no table could matter.
    assert len(unjudged) - 1 == at_boot["indeterminate"]
    assert (
        at_boot["indeterminate"]
        == by_label(booted.metrics, "indeterminate_total")["table_unknown"]
    )


def test_another_opinion(booted: Booted) -> None:
    """The oracle, which knows nothing of the model, agrees to each decision."""
    drivers = {line["number"]: line for line in booted.of("driver")}
    judged = [line for line in booted.of("match") if line["driver"] in drivers]
    assert len(judged) > 300
    for line in judged:
        expected = oracle.answer(line, drivers[line["driver"]])
        assert expected == (line["match"], line["index"]), line


def test_from_the_first_driver_on(booted: Booted) -> None:
    """The first decisions are the kernel's own, before any process is there."""
    matches = booted.of("match")
    assert FIRST_DRIVER == matches[0]["name"]
    early = [line for line in matches if line["pid"] == 1]
    assert len(early) > 100
    assert matches[: len(early)] == early
    assert {"swapper/0"} == {line["comm"] for line in early}
    assert all(line["seen"] == "boot" for line in [*matches, *booted.of("probe")])
    assert all(line["pid"] == line["tgid"] for line in matches)


def test_probes_are_what_sysfs_shows(booted: Booted) -> None:
    """The last one that bound a device is its driver; nothing was bound unseen."""
    bound = {
        line["address"]: line["name"]
        for line in booted.of("probe")
        if line["result"] == "bound"
    }
    assert booted.recorded["bound"] == bound
    assert 0 == booted.metrics["bindings_before_observing"]


def test_how_the_devices_were_given_away(booted: Booted) -> None:
    """By a dynid of the module's own, and by an override and a write to bind."""
    stub = [line for line in booted.of("match") if line["name"] == "pci-stub"]
    places = booted.places
    edu = [line for line in stub if line["address"] == places["edu"]]
    ids = [
        [(dynid["vendor"], dynid["device"]) for dynid in line["dynids"]]
        for line in edu
        if line["match"] == "dynid"
    ]
    # With the first id it is bound, which asks twice; the second is offered as well.
    assert [[(0x1234, 0x11E8)]] * 2 + [[(0x1234, 0x11E8), (0x1234, 0x11E9)]] == ids
    overridden = [line for line in stub if line["match"] == "override"]
    assert [(places["testdev"], "pci-stub")] * 2 == [
        (line["address"], line["driver_override"]) for line in overridden
    ]
    paths = {
        line["address"]: line["path"]
        for line in booted.of("probe")
        if line["name"] == "pci-stub" and line["result"] == "bound"
    }
    split = booted.recorded["hits"].get("o") is not None
    direct = "direct" if split else "driver_probe_device"
    assert {
        places["edu"]: "driver_probe_device",
        places["testdev"]: direct,
    } == paths


def test_nothing_of_the_recording_is_left(booted: Booted) -> None:
    """The events were there before, and are gone with the ring's memory."""
    armed, after = booted.recorded["armed"], booted.recorded["tracing"]
    assert "pobs_" in armed["kprobe_events"]
    assert int(armed["buffer_size_kb"]) > 2000
    assert SMALLEST_KB >= int(after.pop("buffer_size_kb"))
    assert NO_TRACING == after


def test_observing_began_with_the_first_event(booted: Booted) -> None:
    """Seconds after the kernel did, not when the observer was started."""
    since = booted.metrics["observing_since_timestamp_seconds"]
    before_ns = booted.recorded["started_ns"] - booted.of("match")[0]["ktime_ns"]
    assert before_ns > 5e9
    assert abs(since - (booted.recorded["started"] - before_ns / 1e9)) < 3


def test_memory(booted: Booted) -> None:
    """The daemon is as small as it is without a boot to remember."""
    assert RSS_KB >= booted.recorded["rss_kb"]


def test_the_log_has_one_line(booted: Booted) -> None:
    """Not one for each decision."""
    lines = booted.log("boot")
    (line,) = (line for line in lines if line["event"] == "boot")
    assert booted.recorded["hits"]["m"] == line["decisions"]
    assert not [each for each in lines if each["event"] in ("match", "probe")]


@pytest.mark.parametrize("role", ["edu", "nic"])
def test_explain_tells_the_boot(booted: Booted, role: str) -> None:
    """What bound the device, in which process; and since when it is known."""
    told = booted.recorded["explained"][role]
    address = booted.places[role]
    probes = [
        line
        for line in booted.of("probe")
        if line["address"] == address and line["result"] == "bound"
    ]
    actor = f"{probes[-1]['comm']} (pid {probes[-1]['tgid']})"
    texts = [event["text"] for event in told["events"]]
    assert f"bound to {probes[-1]['name']}, in {actor}" in texts
    (unknown,) = (text for text in told["unknown"] if "kernel began" in text)
    assert "who wrote to sysfs before" in unknown


def test_a_stale_recording_is_refused(booted: Booted) -> None:
    """It is said, it goes, and the observer observes."""
    refused = booted.result["refused"]
    (line,) = (
        line
        for line in booted.log("stale")
        if line["event"] == "decisions at boot are not known"
    )
    assert f"has events {refused['group']}, not pobs_" in line["reason"]
    assert refused["group"] in refused["armed"]["kprobe_events"]
    after = refused["tracing"]
    assert SMALLEST_KB >= int(after.pop("buffer_size_kb"))
    assert NO_TRACING == after
    assert 0 == refused["stopped"]["status"]


def test_without_a_recording(booted: Booted) -> None:
    """Observing begins with the hooks, and all that is bound was bound before."""
    refused = booted.result["refused"]
    metrics = refused["metrics"]
    assert len(refused["bound"]) == metrics["bindings_before_observing"]
    assert refused["started"] < metrics["observing_since_timestamp_seconds"]
    assert 0 == sum(by_label(metrics, "boot_decisions_total").values())


def test_no_gap_and_no_double(booted: Booted) -> None:
    """While decisions went on, ring and hooks together told each exactly once.

    But for those that the kernel counts and loses, as many as there are drivers.
    """
    stormed = booted.result["stormed"]
    metrics = stormed["metrics"]
    assert stormed["calls"] == emitted(metrics)
    at_boot = sum(by_label(metrics, "boot_decisions_total").values())
    judged = sum(by_label(metrics, "judgements_total").values())
    assert 100 < at_boot < judged - 100
    lost = by_label(metrics, "events_lost_total")
    assert stormed["too_long"] == lost["reserve"]
    assert 0 == sum(by_label(metrics, "divergences_total").values())


def test_others_may_trace(booted: Booted) -> None:
    """Their event goes on and their ring stays as it is; ours go."""
    shared = booted.result["shared"]
    assert f"is also used by {shared['event']}, so it was left" in shared["sentence"]
    before, after = shared["before"], shared["after"]
    assert before["buffer_size_kb"] == after["buffer_size_kb"]
    assert (shared["event"], "") == (after["set_event"], after["kprobe_events"])

"""Fleet: what kernel upgrades did to the bindings of all hosts."""

from __future__ import annotations

from typing import TYPE_CHECKING

from grafana_foundation_sdk.builders import dashboard as build

from source import pieces
from source.pieces import BY_KERNEL, JOB, OF_HOST, OF_KERNEL, Query

if TYPE_CHECKING:
    from grafana_foundation_sdk.models import dashboard as model

_CHANGES = "job_release_change:pci_observer_changed"
_HOSTS = f"job_release:pci_observer_hosts:count{{{OF_KERNEL}}}"
_PAIR = "vendor_id, device_id, change, driver_before, driver"
_PAIR_COLUMNS = {
    "vendor_id": "Vendor",
    "device_id": "Device",
    "change": "Change",
    "driver_before": "Driver before",
    "driver": "Driver",
    "release": "Kernel",
}


def fleet() -> model.Dashboard:
    """Build the dashboard."""
    board = pieces.dashboard(
        "fleet",
        "PCI observer / Fleet: binding after a kernel upgrade",
        "Which devices changed their driver since hosts run another kernel.",
    )
    board = board.with_variable(pieces.kernels()).with_variable(pieces.hosts())
    board = _overview(board.with_row(build.Row("Fleet")))
    board = _changes(board.with_row(build.Row("Since the upgrade")))
    board = _troubles(board.with_row(build.Row("Divergences and findings")))
    return _machines(board.with_row(build.Row("Kernels and devices"))).build()


def _overview(board: build.Dashboard) -> build.Dashboard:
    return (
        board.with_panel(
            pieces.number(
                "Hosts",
                "Hosts whose observer reports, with the kernels that are selected.",
                f"sum({_HOSTS}) or vector(0)",
            )
        )
        .with_panel(
            pieces.number(
                "Hosts not reporting",
                "Hosts that answer no scrape, whose observer hangs, or that are gone "
                "since less than six hours.",
                f"count(instance:pci_observer_silent:info{{{JOB}}}) or vector(0)",
                bad=1,
            )
        )
        .with_panel(
            pieces.number(
                "Devices changed",
                "Devices that changed, lost or gained their driver, vanished or "
                "appeared since another kernel runs.",
                f"sum({_CHANGES}_devices:count{{{OF_KERNEL}}}) or vector(0)",
                bad=1,
            )
        )
        .with_panel(
            pieces.number(
                "Devices without their driver",
                "Of these, devices that lost their driver or vanished.",
                f"sum({_CHANGES}_devices:count"
                f'{{{OF_KERNEL}, change=~"driver_lost|vanished"}}) or vector(0)',
                bad=1,
            )
        )
        .with_panel(
            pieces.number(
                "Divergences in an hour",
                "Times a kernel decided otherwise than its rules say, within the last "
                "hour.",
                "sum(job_release_kind:pci_observer_divergences:increase1h"
                f"{{{OF_KERNEL}}}) or vector(0)",
                bad=1,
            )
        )
        .with_panel(
            pieces.number(
                "Findings",
                "Things that are wrong with devices now, of all kinds.",
                f"sum(job_release_finding:pci_observer_findings:sum{{{OF_KERNEL}}}) "
                "or vector(0)",
                bad=1,
            )
        )
    )


def _changes(board: build.Dashboard) -> build.Dashboard:
    by = f"sum by (release, {_PAIR})"
    concerned = (
        f"topk(200, count by (instance, release, {_PAIR}) "
        f"(pci_observer_device_change_info{{{OF_HOST}}} * {BY_KERNEL}))"
    )
    return board.with_panel(
        pieces.rows(
            "Bindings that changed, by device and drivers",
            "Each device and pair of drivers, on how many devices and hosts, under "
            "which kernel. No driver is a dash.",
            _PAIR_COLUMNS | {"Value #A": "Devices", "Value #B": "Hosts"},
            f"{by} ({_CHANGES}_devices:count{{{OF_KERNEL}}})",
            f"{by} ({_CHANGES}_hosts:count{{{OF_KERNEL}}})",
            span=pieces.WIDTH,
        )
    ).with_panel(
        pieces.rows(
            "Hosts concerned",
            "The hosts behind these numbers, 200 at most; the name leads to the "
            "host's own dashboard.",
            {"instance": "Host"} | _PAIR_COLUMNS | {"Value": "Devices"},
            concerned,
            span=pieces.WIDTH,
            host_link=True,
        )
    )


def _troubles(board: build.Dashboard) -> build.Dashboard:
    findings = "job_release_finding:pci_observer_finding"
    return (
        board.with_panel(
            pieces.graph(
                "Changed devices by kernel",
                "Devices whose binding is not as under the kernel before, by what "
                "happened and by the kernel that runs now.",
                Query(
                    "sum by (change, release) "
                    f"({_CHANGES}_devices:count{{{OF_KERNEL}}})",
                    "{{change}} {{release}}",
                ),
                span=8,
            )
        )
        .with_panel(
            pieces.graph(
                "Divergences by kind and kernel",
                "Times a kernel decided otherwise than its rules say, within an hour.",
                Query(
                    "sum by (kind, release) (job_release_kind:pci_observer_divergences:"
                    f"increase1h{{{OF_KERNEL}}})",
                    "{{kind}} {{release}}",
                ),
                span=8,
            )
        )
        .with_panel(
            pieces.graph(
                "Findings by kind",
                "Findings that stand, over all hosts.",
                Query(
                    f"sum by (finding) ({findings}s:sum{{{OF_KERNEL}}})", "{{finding}}"
                ),
                span=8,
            )
        )
    )


def _machines(board: build.Dashboard) -> build.Dashboard:
    findings = "job_release_finding:pci_observer_finding"
    each = "sum by (finding, release)"
    by = "vendor_id, device_id, driver, release"
    devices = f"job_release_driver:pci_observer_devices:sum{{{OF_KERNEL}}}"
    return (
        board.with_panel(
            pieces.graph(
                "Hosts by kernel",
                "How many hosts run which kernel.",
                Query(f"sum by (release) ({_HOSTS})", "{{release}}"),
                span=8,
                stacked=True,
            )
        )
        .with_panel(
            pieces.rows(
                "Hosts with findings, by kernel",
                "On how many hosts a finding stands, and how often.",
                {
                    "finding": "Finding",
                    "release": "Kernel",
                    "Value #A": "Hosts",
                    "Value #B": "Findings",
                },
                f"{each} ({findings}_hosts:count{{{OF_KERNEL}}}) > 0",
                f"{each} ({findings}s:sum{{{OF_KERNEL}}}) > 0",
                span=8,
            )
        )
        .with_panel(
            pieces.rows(
                "Hosts that do not report",
                "They answer no scrape, their observer hangs, or they are gone since "
                "less than six hours.",
                {"instance": "Host", "job": "Job"},
                "group by (instance, job) "
                f"(instance:pci_observer_silent:info{{{JOB}}})",
                span=8,
            )
        )
        .with_panel(
            pieces.rows(
                "Devices by driver and kernel",
                "How many devices have which driver, the 100 most common. No driver is "
                "a dash.",
                {
                    "vendor_id": "Vendor",
                    "device_id": "Device",
                    "driver": "Driver",
                    "release": "Kernel",
                    "Value": "Devices",
                },
                f"topk(100, sum by ({by}) ({devices}))",
                span=pieces.WIDTH,
            )
        )
    )

"""Host: one machine, its devices, and what its kernel decided."""

from __future__ import annotations

from typing import TYPE_CHECKING

from grafana_foundation_sdk.builders import dashboard as build

from source import pieces
from source.pieces import OF_HOST, Query

if TYPE_CHECKING:
    from grafana_foundation_sdk.models import dashboard as model

_RANGE = "[$__rate_interval]"
_NONE = ', driver=""'
_IDS = {"vendor_id": "Vendor", "device_id": "Device"}


def host() -> model.Dashboard:
    """Build the dashboard."""
    board = pieces.dashboard(
        "host",
        "PCI observer / Host",
        "Devices of one host with their drivers, findings, decisions and probes.",
    )
    board = board.with_variable(pieces.kernels())
    board = board.with_variable(pieces.hosts(one=True))
    board = _overview(board.with_row(build.Row("Machine")))
    board = _devices(board.with_row(build.Row("Devices and findings")))
    board = _decisions(board.with_row(build.Row("Decisions")))
    return _probes(board.with_row(build.Row("Probes and writes"))).build()


def _m(name: str, more: str = "") -> str:
    """Return a metric of the host."""
    return f"pci_observer_{name}{{{OF_HOST}{more}}}"


def _overview(board: build.Dashboard) -> build.Dashboard:
    return (
        board.with_panel(
            pieces.rows(
                "Kernel",
                "The kernel that runs, which rules of matching it follows and how it "
                "lays out its structures.",
                {"release": "Kernel", "semantics": "Semantics", "layout": "Layout"},
                f"group by (release, semantics, layout) ({_m('kernel_info')})",
                span=8,
                height=4,
            )
        )
        .with_panel(
            pieces.number(
                "Devices",
                "PCI devices of the machine.",
                f"sum({_m('devices')}) or vector(0)",
            )
        )
        .with_panel(
            pieces.number(
                "Without a driver",
                "PCI devices without a driver; bridges need none.",
                f"sum({_m('devices', _NONE)}) or vector(0)",
            )
        )
        .with_panel(
            pieces.number(
                "Findings",
                "Things that are wrong with devices now.",
                f"sum({_m('findings')}) or vector(0)",
                bad=1,
            )
        )
        .with_panel(
            pieces.number(
                "Divergences",
                "Times the kernel decided otherwise than its rules say, since the "
                "observer started.",
                f"sum({_m('divergences_total')}) or vector(0)",
                bad=1,
            )
        )
        .with_panel(
            pieces.rows(
                "Bindings",
                "The fingerprint of all bindings: the same on two hosts exactly when "
                "their bindings are.",
                {"fingerprint": "Fingerprint"},
                f"group by (fingerprint) ({_m('binding_fingerprint_info')})",
                span=8,
                height=4,
            )
        )
        .with_panel(
            pieces.rows(
                "Compared with",
                "The other kernel whose bindings those of now are compared with; empty "
                "while the baseline's own kernel runs.",
                {"release": "Kernel before"},
                f"group by (release) ({_m('baseline_info')})",
                span=8,
                height=4,
            )
        )
        .with_panel(
            pieces.number(
                "Seen since",
                "From when on decisions were seen: of the first one that the kernel "
                "recorded at boot, else when the hooks were attached.",
                f"max({_m('observing_since_timestamp_seconds')}) * 1000",
                unit="dateTimeFromNow",
                span=4,
            )
        )
        .with_panel(
            pieces.number(
                "Bound before",
                "Devices with a driver of which it was not seen how they were bound.",
                f"sum({_m('bindings_before_observing')}) or vector(0)",
            )
        )
    )


def _devices(board: build.Dashboard) -> build.Dashboard:
    by = "address, vendor_id, device_id, class_id, driver, driver_override"
    changed = "address, vendor_id, device_id, change, driver_before, driver"
    return (
        board.with_panel(
            pieces.rows(
                "Devices and their drivers",
                "Each device that has a series; no driver is a dash.",
                {"address": "Address"}
                | _IDS
                | {
                    "class_id": "Class",
                    "driver": "Driver",
                    "driver_override": "driver_override",
                },
                f"group by ({by}) ({_m('device_driver_info')})",
                span=14,
                height=12,
            )
        )
        .with_panel(
            pieces.rows(
                "Findings by device",
                "What is wrong with which device. `pci-observer explain` on the host "
                "tells why and what cures it.",
                {"address": "Address", "finding": "Finding"},
                f"max by (address, finding) ({_m('device_finding')}) == 1",
                span=10,
                height=12,
            )
        )
        .with_panel(
            pieces.rows(
                "Devices that changed since another kernel ran",
                "The driver before and now; no driver is a dash.",
                {"address": "Address"}
                | _IDS
                | {
                    "change": "Change",
                    "driver_before": "Driver before",
                    "driver": "Driver",
                },
                f"group by ({changed}) ({_m('device_change_info')})",
                span=14,
            )
        )
        .with_panel(
            pieces.graph(
                "Findings over time",
                "Findings that stand, by kind.",
                Query(f"sum by (finding) ({_m('findings')})", "{{finding}}"),
                span=10,
            )
        )
    )


def _decisions(board: build.Dashboard) -> build.Dashboard:
    def increase(name: str, by: str, more: str = "") -> str:
        return f"sum by ({by}) (increase({_m(name, more)}{_RANGE}))"

    return (
        board.with_panel(
            pieces.graph(
                "Decisions by result",
                "Decisions of pci_match_device between two points of the graph, by "
                "where the returned id comes from.",
                Query(increase("match_decisions_total", "result"), "{{result}}"),
                span=8,
            )
        )
        .with_panel(
            pieces.graph(
                "Matches by driver",
                "Decisions with a match between two points of the graph, of the ten "
                "drivers with the most.",
                Query(
                    "topk(10, "
                    + increase("match_decisions_total", "driver", ', result!="none"')
                    + ")",
                    "{{driver}}",
                ),
                span=8,
            )
        )
        .with_panel(
            pieces.graph(
                "What would be otherwise",
                "Devices whose outcome would differ under another semantics.",
                Query(f"max by (semantics) ({_m('what_if_devices')})", "{{semantics}}"),
                span=8,
            )
        )
        .with_panel(
            pieces.graph(
                "Divergences by kind",
                "Times the kernel decided otherwise than its rules say, since the "
                "observer started.",
                Query(f"sum by (kind) ({_m('divergences_total')})", "{{kind}}"),
                span=8,
            )
        )
        .with_panel(
            pieces.graph(
                "Decisions that could not be judged",
                "Decisions between two points of the graph of which too little is "
                "known, by the reason.",
                Query(increase("indeterminate_total", "reason"), "{{reason}}"),
                span=8,
            )
        )
        .with_panel(
            pieces.rows(
                "Dynids",
                "Ids that were added by new_id, or by the driver itself.",
                {"driver": "Driver", "Value": "Dynids"},
                f"max by (driver) ({_m('driver_dynids')}) > 0",
                span=8,
            )
        )
    )


def _probes(board: build.Dashboard) -> build.Dashboard:
    buckets = f"rate({_m('probe_duration_seconds_bucket')}{_RANGE})"
    by = "sum by (le, driver)"
    return (
        board.with_panel(
            pieces.graph(
                "Probes by result",
                "Probes between two points of the graph, by what became of them.",
                Query(
                    f"sum by (result) (increase({_m('probe_results_total')}{_RANGE}))",
                    "{{result}}",
                ),
                span=8,
            )
        )
        .with_panel(
            pieces.graph(
                "Duration of probes",
                "Median and 99th percentile of the duration of probes, by driver; a "
                "gap where nothing was probed.",
                Query(f"histogram_quantile(0.5, {by} ({buckets}))", "{{driver}} p50"),
                Query(f"histogram_quantile(0.99, {by} ({buckets}))", "{{driver}} p99"),
                unit="s",
                span=8,
                points=True,
            )
        )
        .with_panel(
            pieces.graph(
                "Writes to PCI's files",
                "Writes to new_id, driver_override, bind and so on since the observer "
                "started, by file and by how their errno compares with the model.",
                Query(
                    f"sum by (file, judgement) ({_m('sysfs_writes_total')}) > 0",
                    "{{file}} {{judgement}}",
                ),
                span=8,
            )
        )
    )

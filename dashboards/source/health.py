"""Health: whether the observers see everything, and what they cost."""

from __future__ import annotations

from typing import TYPE_CHECKING

from grafana_foundation_sdk.builders import dashboard as build

from source import pieces
from source.pieces import OF_HOST, Query

if TYPE_CHECKING:
    from grafana_foundation_sdk.models import dashboard as model

_RANGE = "[$__rate_interval]"


def health() -> model.Dashboard:
    """Build the dashboard."""
    board = pieces.dashboard(
        "health",
        "PCI observer / Observer health",
        "The books, hooks, misses, lag, memory and CPU of the observers.",
    )
    board = board.with_variable(pieces.kernels()).with_variable(pieces.hosts())
    board = _overview(board.with_row(build.Row("Health")))
    board = _books(board.with_row(build.Row("Books")))
    board = _hooks(board.with_row(build.Row("Hooks and boot")))
    board = _store(board.with_row(build.Row("History and picture")))
    return _cost(board.with_row(build.Row("Cost"))).build()


def _m(name: str, more: str = "") -> str:
    return f"pci_observer_{name}{{{OF_HOST}{more}}}"


def _sum(name: str, by: str, more: str = "") -> Query:
    return Query(f"sum by ({by}) ({_m(name, more)})", f"{{{{{by}}}}}")


def _overview(board: build.Dashboard) -> build.Dashboard:
    emitted = ', stage="emitted"'
    lost = ', stage=~"reserve|decode|queue"'
    return (
        board.with_panel(
            pieces.number(
                "Imbalance of the books",
                "Emitted less lost less judged decisions; at rest 0. What is in the "
                "ring at the moment counts until it is judged.",
                f"abs(sum({_m('events_total', emitted)}) "
                f"- sum({_m('events_lost_total', lost)}) "
                f"- sum({_m('judgements_total')})) or vector(0)",
                bad=1,
            )
        )
        .with_panel(
            pieces.number(
                "Events lost",
                "Events lost since the observers started, at any stage.",
                f"sum({_m('events_lost_total')}) or vector(0)",
                bad=1,
            )
        )
        .with_panel(
            pieces.number(
                "Hooks missing",
                "Hooks that the kernels should have and that are not attached.",
                f"sum({_m('hooks_missing')}) or vector(0)",
                bad=1,
            )
        )
        .with_panel(
            pieces.number(
                "Histories degraded",
                "Observers that should keep a history and can't.",
                f"sum({_m('store_degraded')}) or vector(0)",
                bad=1,
            )
        )
        .with_panel(
            pieces.number(
                "Longest silence",
                "How long ago the main loop of an observer turned that still answers.",
                f"max(time() - {_m('alive_timestamp_seconds')}) or vector(0)",
                unit="s",
                bad=120,
            )
        )
        .with_panel(
            pieces.number(
                "Label sets dropped",
                "Label sets without series of their own, for --series has no room.",
                f"sum({_m('label_sets_dropped_total')}) or vector(0)",
            )
        )
    )


def _books(board: build.Dashboard) -> build.Dashboard:
    def increase(name: str, by: str, prefix: str = "") -> Query:
        expr = f"sum by ({by}) (increase({_m(name)}{_RANGE}))"
        return Query(expr, f"{prefix}{{{{{by}}}}}")

    return (
        board.with_panel(
            pieces.graph(
                "The books: emitted, lost, judged",
                "Decisions between two points of the graph: emitted in the kernel, "
                "received and decoded, judged.",
                increase("events_total", "stage"),
                increase("judgements_total", "judgement"),
            )
        )
        .with_panel(
            pieces.graph(
                "Events lost by stage",
                "Events lost since the observers started.",
                _sum("events_lost_total", "stage"),
            )
        )
        .with_panel(
            pieces.graph(
                "Lag",
                "How long after they were made 50 and 99 of 100 decisions were judged; "
                "a gap where nothing was decided.",
                *(
                    Query(
                        f"histogram_quantile({q}, sum by (le) "
                        f"(rate({_m('event_lag_seconds_bucket')}{_RANGE})))",
                        name,
                    )
                    for q, name in ((0.5, "p50"), (0.99, "p99"))
                ),
                unit="s",
                points=True,
            )
        )
        .with_panel(
            pieces.graph(
                "Matches that came otherwise",
                "Decisions that repeated another one and were only counted, those "
                "sent whole because no more can be told apart, and matches of the "
                "fake device by which some kernels test a write to new_id, which "
                "decide nothing; since the observers started.",
                Query(f"sum({_m('repeated_decisions_total')})", "repeated"),
                Query(f"sum({_m('undigested_decisions_total')})", "undigested"),
                Query(f"sum({_m('synthetic_matches_total')})", "synthetic"),
            )
        )
    )


def _hooks(board: build.Dashboard) -> build.Dashboard:
    return (
        board.with_panel(
            pieces.rows(
                "Hooks attached",
                "On how many hosts a kernel function is hooked, and by which method.",
                {"hook": "Hook", "method": "Method", "Value": "Hosts"},
                f"sum by (hook, method) ({_m('hook_attached')}) > 0",
                span=8,
            )
        )
        .with_panel(
            pieces.graph(
                "Calls seen",
                "Calls of the hooked functions between two points of the graph, by "
                "where they were seen; entries and returns are as many.",
                Query(
                    f"sum by (call, at) (increase({_m('hooked_calls_total')}{_RANGE}))",
                    "{{call}} {{at}}",
                ),
                span=8,
            )
        )
        .with_panel(
            pieces.graph(
                "Calls missed",
                "Calls that were not seen whole, since the observers started.",
                _sum("probe_misses_total", "hook"),
                span=8,
            )
        )
        .with_panel(
            pieces.graph(
                "Decisions of the boot",
                "Decisions that the kernel recorded before the hooks were there, by "
                "how they compare with the model.",
                _sum("boot_decisions_total", "judgement"),
            )
        )
        .with_panel(
            pieces.rows(
                "Versions",
                "How many observers run which version.",
                {"version": "Version", "Value": "Hosts"},
                f"count by (version) ({_m('build_info')})",
            )
        )
    )


def _store(board: build.Dashboard) -> build.Dashboard:
    return (
        board.with_panel(
            pieces.graph(
                "Rows of the history",
                "Decisions, probes and writes between two points of the graph: "
                "offered, written, and dropped for want of room or by the disk; "
                "and the lines that a recording lacks.",
                Query(
                    f"sum by (stage) (increase({_m('store_rows_total')}{_RANGE}))",
                    "{{stage}}",
                ),
                Query(
                    "sum by (stage) "
                    f"(increase({_m('store_rows_dropped_total')}{_RANGE}))",
                    "dropped: {{stage}}",
                ),
                Query(
                    f"sum(increase({_m('unrecorded_total')}{_RANGE}))",
                    "not recorded",
                ),
                span=8,
            )
        )
        .with_panel(
            pieces.graph(
                "Size of the histories",
                "The largest file, and all together.",
                Query(f"max({_m('store_bytes')})", "largest"),
                Query(f"sum({_m('store_bytes')})", "all"),
                unit="bytes",
                span=8,
            )
        )
        .with_panel(
            pieces.graph(
                "Histories kept",
                "How many observers keep a history, and how many can't.",
                Query(f"sum({_m('store_up')})", "kept"),
                Query(f"sum({_m('store_degraded')})", "degraded"),
                span=8,
            )
        )
        .with_panel(
            pieces.graph(
                "Disagreements with sysfs",
                "Times sysfs showed something that no event had told, since the "
                "observers started.",
                _sum("picture_disagreements_total", "field"),
            )
        )
        .with_panel(
            pieces.graph(
                "Gaps of the inventory",
                "Things about the machines that could not be learned; audit names "
                "them. And observers that can't use the files of --web.config.file.",
                Query(f"sum({_m('inventory_gaps')})", "gaps"),
                Query(
                    f"count({_m('web_config_reload_success')} == 0) or vector(0)",
                    "access files refused",
                ),
            )
        )
    )


def _cost(board: build.Dashboard) -> build.Dashboard:
    def process(name: str) -> str:
        return f"process_{name}{{{OF_HOST}}}"

    return (
        board.with_panel(
            pieces.graph(
                "CPU",
                "Seconds of CPU that an observer takes a second: the most of any host "
                "and the mean. Empty for hosts without a port.",
                Query(f"max(rate({process('cpu_seconds_total')}{_RANGE}))", "most"),
                Query(f"avg(rate({process('cpu_seconds_total')}{_RANGE}))", "mean"),
                unit="percentunit",
                span=8,
            )
        )
        .with_panel(
            pieces.graph(
                "Resident memory",
                "The most of any host and the mean. Empty for hosts without a port.",
                Query(f"max({process('resident_memory_bytes')})", "most"),
                Query(f"avg({process('resident_memory_bytes')})", "mean"),
                unit="bytes",
                span=8,
            )
        )
        .with_panel(
            pieces.graph(
                "Series",
                "Series of the host with the most, and how many it may have.",
                Query(f"max({_m('series')})", "series"),
                Query(f"max({_m('series_limit')})", "limit"),
                span=8,
            )
        )
    )

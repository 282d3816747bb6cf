"""What the dashboards share: data source, variables, links, and kinds of panels."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple

from grafana_foundation_sdk.builders import common, prometheus, stat, table, timeseries
from grafana_foundation_sdk.builders import dashboard as build
from grafana_foundation_sdk.models import common as common_model
from grafana_foundation_sdk.models import dashboard as model
from grafana_foundation_sdk.models.prometheus import PromQueryFormat

if TYPE_CHECKING:
    from collections.abc import Mapping

DATASOURCE: Final = model.DataSourceRef(type_val="prometheus", uid="${datasource}")
TAG: Final = "pci-observer"
JOB: Final = 'job=~"$job"'
OF_KERNEL: Final = f'{JOB}, release=~"$kernel"'
OF_HOST: Final = f'{JOB}, instance=~"$host"'
# The newest kernel of each host: after a reboot there can be two for some minutes.
BY_KERNEL: Final = (
    "on (job, instance) group_left (release) (topk by (job, instance) "
    '(1, timestamp(pci_observer_kernel_info{job=~"$job", release=~"$kernel"}))'
    " > bool 0)"
)
HOST_LINK: Final = (
    "/d/pci-observer-host?${datasource:queryparam}&${job:queryparam}"
    "&var-host=${__data.fields.instance}"
)
WIDTH: Final = 24  # of the grid


class Query(NamedTuple):
    """A PromQL expression and how its series are named."""

    expr: str
    legend: str = ""


def dashboard(name: str, title: str, description: str) -> build.Dashboard:
    """Begin a dashboard that links to the others."""
    link = build.DashboardLink("PCI observer")
    link = link.type(model.DashboardLinkType.DASHBOARDS).tags([TAG])
    link = link.as_dropdown(True).include_vars(True).keep_time(True)
    return (
        build.Dashboard(title)
        .uid(f"pci-observer-{name}")
        .description(description)
        .tags([TAG])
        .refresh("1m")
        .time("now-24h", "now")
        .timezone("browser")
        .readonly()
        .tooltip(model.DashboardCursorSync.CROSSHAIR)
        .link(link)
        .with_variable(
            build.DatasourceVariable("datasource")
            .label("Data source")
            .type("prometheus")
        )
        .with_variable(_variable("job", "Job", "pci_observer_kernel_info", "job"))
    )


def kernels() -> build.QueryVariable:
    """Return the variable that selects kernels."""
    metric = f"pci_observer_kernel_info{{{JOB}}}"
    return _variable("kernel", "Kernel", metric, "release")


def hosts(*, one: bool = False) -> build.QueryVariable:
    """Return the variable that selects hosts, or one of them."""
    metric = f"pci_observer_kernel_info{{{OF_KERNEL}}}"
    return _variable("host", "Host", metric, "instance", one=one)


def _variable(
    name: str, text: str, metric: str, label: str, *, one: bool = False
) -> build.QueryVariable:
    variable = (
        build.QueryVariable(name)
        .label(text)
        .datasource(DATASOURCE)
        .query(f"label_values({metric}, {label})")
        .refresh(model.VariableRefresh.ON_TIME_RANGE_CHANGED)
        .sort(model.VariableSort.NATURAL_ASC)
    )
    return variable if one else variable.multi(True).include_all(True).all_value(".*")


def number(
    title: str,
    description: str,
    expr: str,
    *,
    unit: str = "short",
    bad: float | None = None,
    span: int = 4,
) -> stat.Panel:
    """Show one number; from `bad` on it is red."""
    steps = [model.Threshold(value=None, color="blue" if bad is None else "green")]
    if bad is not None:
        steps.append(model.Threshold(value=bad, color="red"))
    thresholds = build.ThresholdsConfig().mode(model.ThresholdsMode.ABSOLUTE)
    return (
        stat.Panel()
        .title(title)
        .description(description)
        .datasource(DATASOURCE)
        .height(4)
        .span(span)
        .unit(unit)
        .no_value("0")
        .decimals(0)
        .thresholds(thresholds.steps(steps))
        .color_mode(common_model.BigValueColorMode.VALUE)
        .graph_mode(common_model.BigValueGraphMode.NONE)
        .text_mode(common_model.BigValueTextMode.VALUE)
        .reduce_options(common.ReduceDataOptions().calcs(["lastNotNull"]))
        .with_target(_target("A", Query(expr)).instant())
    )


def graph(
    title: str,
    description: str,
    *queries: Query,
    unit: str = "short",
    span: int = 12,
    stacked: bool = False,
    points: bool = False,
) -> timeseries.Panel:
    """Show series over time; with `points` where there are gaps."""
    visible = common_model.VisibilityMode
    panel = (
        timeseries.Panel()
        .title(title)
        .description(description)
        .datasource(DATASOURCE)
        .height(8)
        .span(span)
        .unit(unit)
        .min(0)
        .no_value("none")
        .fill_opacity(10)
        .line_width(1)
        .show_points(visible.ALWAYS if points else visible.NEVER)
        .legend(
            common.VizLegendOptions()
            .display_mode(common_model.LegendDisplayMode.LIST)
            .placement(common_model.LegendPlacement.BOTTOM)
            .show_legend(True)
        )
        .tooltip(common.VizTooltipOptions().mode(common_model.TooltipDisplayMode.MULTI))
    )
    if stacked:
        mode = common_model.StackingMode.NORMAL
        panel = panel.stacking(common.StackingConfig().mode(mode))
    for place, query in enumerate(queries):
        panel = panel.with_target(_target(chr(ord("A") + place), query).range())
    return panel


def rows(
    title: str,
    description: str,
    columns: Mapping[str, str],
    *exprs: str,
    span: int = 12,
    height: int = 8,
    host_link: bool = False,
) -> table.Panel:
    """Show label sets as rows. `columns` are titles by label, in their order.

    The values of the queries stand in Value, or in `Value #A`, `Value #B` of several.
    """
    panel = (
        table.Panel()
        .title(title)
        .description(description)
        .datasource(DATASOURCE)
        .height(height)
        .span(span)
        .unit("short")
        .no_value("-")
        .filterable(True)
        .min_width(90)
    )
    for place, expr in enumerate(exprs):
        target = _target(chr(ord("A") + place), Query(expr)).instant()
        panel = panel.with_target(target.format(PromQueryFormat.TABLE))
    if len(exprs) > 1:
        panel = panel.with_transformation(
            model.DataTransformerConfig(id_val="merge", options={})
        )
    values = ["Value"] if len(exprs) == 1 else [f"Value #{c}" for c in "ABC"]
    hidden = [name for name in ("Time", *values) if name not in columns]
    organize = {
        "indexByName": {name: place for place, name in enumerate(columns)},
        "excludeByName": dict.fromkeys(hidden, True),
    }
    panel = panel.with_transformation(
        model.DataTransformerConfig(id_val="organize", options=organize)
    )
    # Else 0x8086 is read as a number, which has a unit.
    panel = panel.override_by_field_type("string", [_option("unit", "string")])
    for name, column in columns.items():
        options = [_option("displayName", column)]
        if name == "instance" and host_link:
            link = {"title": "Show this host", "url": HOST_LINK}
            options.append(_option("links", [link]))
        panel = panel.override_by_name(name, options)
    return panel


def _option(name: str, value: object) -> model.DynamicConfigValue:
    return model.DynamicConfigValue(id_val=name, value=value)


def _target(ref: str, query: Query) -> prometheus.Dataquery:
    target = prometheus.Dataquery().ref_id(ref).expr(query.expr)
    return target.legend_format(query.legend) if query.legend else target

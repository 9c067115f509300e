"""Boards as Grafana's JSON, made with Grafana's own builders.

The builders' automatic layout can run over the 24 columns and leaves ids null, so places and ids
are given here, and every panel is written into the dashboard as it stands.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any, Final
from urllib.parse import quote

from grafana_foundation_sdk.builders import (
    common as common_builders,
)
from grafana_foundation_sdk.builders import (
    dashboard as dashboards,
)
from grafana_foundation_sdk.builders import (
    heatmap,
    prometheus,
    stat,
    table,
    timeseries,
)
from grafana_foundation_sdk.cog.builder import Builder
from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.models import common
from grafana_foundation_sdk.models import dashboard as models
from grafana_foundation_sdk.models import prometheus as prometheus_models

from dashboards import colours, settings
from dashboards.panels import CHOSEN, Board, Chart, Query
from dashboards.promql import ADAPTER, OP, START, pick
from tapescope.model import Outcome
from tapescope_telemetry import names

__all__ = ["clean", "explore_traces", "list_links", "render_board"]

COLUMNS: Final = 24
_SOURCE: Final = common.DataSourceRef(type_val="prometheus", uid="${datasource}")

_NOT_SUCCEEDED: Final = (
    f'{{ name =~ "{names.RUN.of(".*")}"'
    f' && span.{names.Attribute.OUTCOME} != "{Outcome.SUCCEEDED}" }}'
)

_Panel = timeseries.Panel | stat.Panel | heatmap.Panel | table.Panel


def render_board(board: Board) -> str:
    """The dashboard as JSON text, the same for the same board."""
    builder = (
        dashboards.Dashboard(board.title)
        .uid(board.uid)
        .description(board.description)
        .tags(list(board.tags))
        .tooltip(models.DashboardCursorSync.CROSSHAIR)
        .time("now-1h", "now")
        .refresh("30s")
        .timezone("browser")
        .readonly()
        .variables(list(_list_variables()))
        .annotations(list(_list_annotations()))
        .links(list(list_links()))
        .version(1)
    )
    dashboard = builder.build()
    dashboard.panels = list(_lay_out(board))
    return json.dumps(clean(dashboard), indent=2, sort_keys=True) + "\n"


def clean(dashboard: models.Dashboard) -> dict[str, Any]:
    """The dashboard as JSON has it, without what the builders add to it and no schema knows."""
    content: dict[str, Any] = json.loads(json.dumps(dashboard, cls=JSONEncoder))
    for shown in (*content["links"], *content["annotations"]["list"]):
        # The builders hide both in a menu; without it they stand above the panels.
        del shown["placement"]
    for variable in content["templating"]["list"]:
        # Settings of interval variables, which the builders give to all; the schema knows better.
        for setting in ("auto", "auto_min", "auto_count"):
            variable.pop(setting, None)
    for panel in content["panels"]:
        if panel["type"] == "table":
            del panel["options"]["footer"]  # gone from the schema
    return content


def _lay_out(board: Board) -> Iterator[models.Panel | models.RowPanel]:
    number = top = 0
    for section in board.sections:
        number += 1
        place = models.GridPos(h=1, w=COLUMNS, x=0, y=top)
        row = dashboards.Row(section.title).id(number).grid_pos(place)
        yield (row.repeat(section.repeat) if section.repeat else row).build()
        top += 1
        left = tallest = 0
        for chart in section.charts:
            if left + chart.width > COLUMNS:
                top, left, tallest = top + tallest, 0, 0
            number += 1
            place = models.GridPos(h=chart.height, w=chart.width, x=left, y=top)
            yield _draw(chart).id(number).grid_pos(place).build()
            left += chart.width
            tallest = max(tallest, chart.height)
        top += tallest


def _draw(chart: Chart) -> _Panel:
    panel: _Panel
    if chart.kind == "timeseries":
        panel = _draw_lines(chart)
    elif chart.kind == "heatmap":
        panel = _draw_heatmap(chart)
    elif chart.kind == "table":
        panel = _draw_table(chart)
    else:
        panel = (
            stat.Panel()
            .graph_mode(
                common.BigValueGraphMode.NONE if _is_whole(chart) else common.BigValueGraphMode.AREA
            )
            .color_mode(common.BigValueColorMode.VALUE)
            .reduce_options(common_builders.ReduceDataOptions().calcs(["lastNotNull"]))
        )
    panel.title(chart.title).description(chart.description).datasource(_SOURCE).unit(chart.unit)
    panel.thresholds(_mark(chart))
    if chart.decimals is not None:
        panel.decimals(chart.decimals)
    if chart.empty:
        panel.no_value(chart.empty)
    for index, query in enumerate(chart.queries):
        panel.with_target(_ask(chart, query, chr(ord("A") + index)))
    return panel


def _is_whole(chart: Chart) -> bool:
    """Whether it is one number over the whole range: asked once, not at each step of the range."""
    return chart.kind == "stat" and any("[$__range]" in query.expr for query in chart.queries)


def _draw_lines(chart: Chart) -> timeseries.Panel:
    named = all("{{" not in query.legend for query in chart.queries)
    legend = (
        common_builders.VizLegendOptions()
        .show_legend(True)
        .calcs(["lastNotNull", "max"] if named or chart.width > 8 else ["max"])
    )
    if named:  # a few, known beforehand: they fit in a line
        legend.display_mode(common.LegendDisplayMode.LIST).placement(common.LegendPlacement.BOTTOM)
    else:
        legend.display_mode(common.LegendDisplayMode.TABLE).placement(common.LegendPlacement.RIGHT)
        legend.sort_by("Max").sort_desc(True)
    panel = (
        timeseries.Panel()
        .fill_opacity(40 if chart.stacked else 0)
        .line_width(1)
        .show_points(common.VisibilityMode.NEVER)
        .span_nulls(False)
        .legend(legend)
        .tooltip(
            common_builders.VizTooltipOptions()
            .mode(common.TooltipDisplayMode.MULTI)
            .sort(common.SortOrder.DESCENDING)
        )
        .color_scheme(_colour(chart))
    )
    if links := [*_lead_on(chart)]:
        panel.data_links(links)
    _set_axis(panel, chart)
    if chart.stacked:
        panel.stacking(common_builders.StackingConfig().mode(common.StackingMode.NORMAL))
    if chart.limits:
        panel.thresholds_style(
            common_builders.GraphThresholdsStyleConfig().mode(
                common.GraphThresholdsStyleMode.DASHED
            )
        )
    for index, query in enumerate(chart.queries):
        if query.limit:
            panel.override_by_query(chr(ord("A") + index), list(_dash(query)))
        for name, colour in colours.paint(query.legend):
            fixed = {"mode": "fixed", "fixedColor": colour}
            panel.override_by_name(name, [models.DynamicConfigValue("color", fixed)])
    return panel


def _set_axis(panel: timeseries.Panel, chart: Chart) -> None:
    scale = common_builders.ScaleDistributionConfig()
    if chart.axis == "linear":
        panel.axis_soft_min(0)
    elif chart.axis == "log":
        panel.scale_distribution(scale.type(common.ScaleDistribution.LOG).log(10))
    else:
        symmetric = scale.type(common.ScaleDistribution.SYMLOG).log(10).linear_threshold(1)
        panel.scale_distribution(symmetric).axis_soft_min(0)
    if chart.axis == "linear" and chart.unit in {"short", "none"}:
        panel.axis_soft_max(1)
    elif chart.unit == "percentunit":
        panel.axis_soft_max(max((limit.value for limit in chart.limits), default=0.01) or 1)


def _colour(chart: Chart) -> dashboards.FieldColor:
    if chart.shades:
        return (
            dashboards.FieldColor().mode(models.FieldColorModeId.SHADES).fixed_color(chart.shades)
        )
    return dashboards.FieldColor().mode(models.FieldColorModeId.PALETTE_CLASSIC)


def _dash(query: Query) -> Iterator[models.DynamicConfigValue]:
    yield models.DynamicConfigValue("custom.fillOpacity", 0)
    yield models.DynamicConfigValue("custom.stacking", {"mode": "none", "group": "A"})
    yield models.DynamicConfigValue("custom.lineStyle", {"fill": "dash", "dash": [8, 6]})
    if "{{" not in query.legend:
        yield models.DynamicConfigValue("color", {"mode": "fixed", "fixedColor": colours.LIMIT})


_LEADS: Final = {
    OP: ("This op", "tapescope-op", "op"),
    ADAPTER: ("This store", "tapescope-store", "store"),
    "instance": ("This process", "tapescope-process", "instance"),
}
"""Where a series leads whose legend has this label: the link, its board and its variable."""


def _lead_on(chart: Chart) -> Iterator[Builder[models.DashboardLink]]:
    shown = {
        label for query in chart.queries for label in re.findall(r"\{\{(\w+)\}\}", query.legend)
    }
    for label, (title, board, variable) in _LEADS.items():
        if label in shown:
            link = dashboards.DashboardLink(title).type(models.DashboardLinkType.LINK)
            yield link.url(_link(board, variable, f"${{__field.labels.{label}}}"))


def _link(board: str, variable: str, value: str) -> str:
    kept = [f"${{{name}:queryparam}}" for name in ("datasource", *settings.INSTANCE_LABELS)]
    kept = [each for each in kept if variable not in each]
    return f"/d/{board}?${{__url_time_range}}&var-{variable}={value}&" + "&".join(kept)


def _draw_table(chart: Chart) -> table.Panel:
    headers = dict(chart.columns)
    panel = (
        table.Panel()
        .show_header(True)
        .cell_options(common.TableAutoCellOptions())
        .with_transformation(
            models.DataTransformerConfig(
                id_val="organize",
                options={
                    "excludeByName": {
                        name: True for name in ("Time", "Value") if name not in headers
                    },
                    "renameByName": headers,
                    "indexByName": {label: n for n, (label, _) in enumerate(chart.columns)},
                },
            )
        )
    )
    if "Value" in headers:
        by = common_builders.TableSortByFieldState().display_name(headers["Value"]).desc(True)
        panel.sort_by([by])
    for label, title, url in (
        (OP, "This op", _link("tapescope-op", "op", "${__value.raw}")),
        ("alertname", "Runbook", f"{settings.RUNBOOKS_URL}/${{__value.raw}}.md"),
        ("instance", "This process", _link("tapescope-process", "instance", "${__value.raw}")),
    ):
        if label in headers:
            link = {"title": title, "url": url}
            panel.override_by_name(headers[label], [models.DynamicConfigValue("links", [link])])
    return panel


def _draw_heatmap(chart: Chart) -> heatmap.Panel:
    return (
        heatmap.Panel()
        .calculate(False)  # the buckets are the metric's own
        .show_value(common.VisibilityMode.NEVER)
        .cell_gap(1)
        .show_legend()
        .y_axis(heatmap.YAxisConfig().unit(chart.unit).axis_placement(common.AxisPlacement.LEFT))
        .exemplars_color("rgba(255,0,255,0.7)")
    )


def _mark(chart: Chart) -> dashboards.ThresholdsConfig:
    base = "green" if chart.limits else colours.NEUTRAL
    steps = [models.Threshold(color=base, value=None)]
    steps += [models.Threshold(color=limit.colour, value=limit.value) for limit in chart.limits]
    return dashboards.ThresholdsConfig().mode(models.ThresholdsMode.ABSOLUTE).steps(steps)


def _ask(chart: Chart, query: Query, ref: str) -> prometheus.Dataquery:
    ask = (
        prometheus.Dataquery()
        .datasource(_SOURCE)
        .expr(query.expr)
        .ref_id(ref)
        .editor_mode(prometheus_models.QueryEditorMode.CODE)
        .exemplar(query.exemplar)
    )
    if query.legend:
        ask.legend_format(query.legend)
    if chart.kind == "heatmap":
        return ask.range().format(prometheus_models.PromQueryFormat.HEATMAP)
    if _is_whole(chart):
        return ask.instant().format(prometheus_models.PromQueryFormat.TIME_SERIES)
    if chart.kind == "table":
        return ask.instant().format(prometheus_models.PromQueryFormat.TABLE)
    return ask.range().format(prometheus_models.PromQueryFormat.TIME_SERIES)


def _list_variables() -> Iterator[dashboards.DatasourceVariable | dashboards.QueryVariable]:
    yield dashboards.DatasourceVariable("datasource").label("Data source").type("prometheus")
    here: list[str] = []
    for label in settings.INSTANCE_LABELS:
        # What may be told is in the choice before it, but of jobs and processes "All" is a list of
        # ours: any other would ask for all that Prometheus scrapes.
        ours = label in {"job", "instance"}
        yield _choose(label, f"label_values({pick(names.LIMIT, *here)}, {label})", ours=ours)
        here.append(f'{label}=~"${label}"')
    yield _choose("op", f"label_values({pick(names.SUBMITTED, *here)}, {OP})")
    yield _choose("store", f"label_values({pick(names.EVENT_OFFERED, *here)}, {ADAPTER})")


def _choose(name: str, query: str, *, ours: bool = False) -> dashboards.QueryVariable:
    variable = (
        dashboards.QueryVariable(name)
        .label(name.capitalize())
        .datasource(_SOURCE)
        .query({"query": query, "refId": f"variable-{name}"})
        .multi(True)
        .include_all(True)
        .current(models.VariableOption(text="All", value="$__all", selected=True))
        .refresh(models.VariableRefresh.ON_TIME_RANGE_CHANGED)
        .sort(models.VariableSort.ALPHABETICAL_ASC)
    )
    return variable if ours else variable.all_value(".*")


def _list_annotations() -> Iterator[dashboards.AnnotationQuery]:
    yield (
        dashboards.AnnotationQuery()
        .name("Firing alerts")
        .datasource(_SOURCE)
        .enable(True)
        .icon_color("red")
        .expr(pick("ALERTS", 'alertname=~"Tapescope.+"', 'alertstate="firing"', *CHOSEN[:-1]))
        .step("30s")
        .title_format("{{alertname}}")
        .text_format("{{severity}} {{namespace}} {{job}} {{instance}}")
        .tag_keys("alertname,severity")
    )
    yield (
        dashboards.AnnotationQuery()
        .name("Restarts")
        .datasource(_SOURCE)
        .enable(True)
        .icon_color("blue")
        # The value is when the process began: the mark stands there, not where it was scraped.
        .expr(f"{pick(START, *CHOSEN)} * 1000")
        .use_value_for_time(True)
        .step("60s")
        .title_format("started")
        .text_format("{{instance}}")
        .tag_keys("instance")
    )


def list_links() -> Iterator[dashboards.DashboardLink]:
    """Where every board leads: to the others, to the task pages, to traces."""
    yield (
        dashboards.DashboardLink("tapescope boards")
        .type(models.DashboardLinkType.DASHBOARDS)
        .tags(["tapescope"])
        .include_vars(True)
        .keep_time(True)
    )
    yield (
        dashboards.DashboardLink("Task pages")
        .type(models.DashboardLinkType.LINK)
        .icon("external link")
        .tooltip("Tasks, their tapes and their late events")
        .url(settings.TASK_PAGES_URL)
        .target_blank(True)
    )
    yield (
        dashboards.DashboardLink("Traces of cancelled and failed runs")
        .type(models.DashboardLinkType.LINK)
        .icon("external link")
        .tooltip("Tempo, narrowed to runs that did not succeed")
        .url(explore_traces(_NOT_SUCCEEDED))
        .keep_time(True)
        .target_blank(True)
    )


def explore_traces(query: str) -> str:
    """The address of Grafana's Explore with this query, or trace id, put to Tempo."""
    pane = {
        "datasource": "tempo",
        "queries": [
            {
                "refId": "A",
                "datasource": {"type": "tempo", "uid": "tempo"},
                "queryType": "traceql",
                "query": query,
            }
        ],
        "range": {"from": "now-1h", "to": "now"},
    }
    # What Grafana fills in must stay as it is: ${__value.raw}
    panes = quote(json.dumps({"a": pane}, separators=(",", ":")), safe="${}_")
    return f"/explore?schemaVersion=1&panes={panes}"

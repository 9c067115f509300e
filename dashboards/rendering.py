"""Boards as Grafana's JSON, made with Grafana's own builders.

The builders' automatic layout can run over the 24 columns and leaves ids null, so places and ids
are given here, and every panel is written into the dashboard as it stands.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any, Final

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
from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.models import common
from grafana_foundation_sdk.models import dashboard as models
from grafana_foundation_sdk.models import prometheus as prometheus_models

from dashboards import settings
from dashboards.panels import CHOSEN, Board, Chart, Limit, Query
from dashboards.promql import ADAPTER, OP, START, pick
from tapescope.model import Outcome
from tapescope_telemetry import names

__all__ = ["render_board"]

COLUMNS: Final = 24
_SOURCE: Final = common.DataSourceRef(type_val="prometheus", uid="${datasource}")

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
        .links(list(_list_links()))
        .version(1)
    )
    dashboard = builder.build()
    dashboard.panels = list(_lay_out(board))
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
    return json.dumps(content, indent=2, sort_keys=True) + "\n"


def _lay_out(board: Board) -> Iterator[models.Panel | models.RowPanel]:
    number = top = 0
    for section in board.sections:
        number += 1
        place = models.GridPos(h=1, w=COLUMNS, x=0, y=top)
        yield dashboards.Row(section.title).id(number).grid_pos(place).build()
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
        panel = (
            table.Panel()
            .show_header(True)
            .cell_options(common.TableAutoCellOptions())
            .with_transformation(
                models.DataTransformerConfig(
                    id_val="organize", options={"excludeByName": {"Time": True}}
                )
            )
        )
    else:
        panel = (
            stat.Panel()
            .graph_mode(common.BigValueGraphMode.AREA)
            .color_mode(common.BigValueColorMode.VALUE)
            .reduce_options(common_builders.ReduceDataOptions().calcs(["lastNotNull"]))
        )
    panel.title(chart.title).description(chart.description).datasource(_SOURCE).unit(chart.unit)
    panel.thresholds(_mark(chart.limits))
    if chart.decimals is not None:
        panel.decimals(chart.decimals)
    for index, query in enumerate(chart.queries):
        panel.with_target(_ask(chart, query, chr(ord("A") + index)))
    return panel


def _draw_lines(chart: Chart) -> timeseries.Panel:
    panel = (
        timeseries.Panel()
        .fill_opacity(10)
        .line_width(1)
        .show_points(common.VisibilityMode.NEVER)
        .span_nulls(False)
        .axis_soft_min(0)
        .legend(
            common_builders.VizLegendOptions()
            .display_mode(common.LegendDisplayMode.TABLE)
            .placement(common.LegendPlacement.BOTTOM)
            .show_legend(True)
            .calcs(["lastNotNull", "max"])
        )
        .tooltip(
            common_builders.VizTooltipOptions()
            .mode(common.TooltipDisplayMode.MULTI)
            .sort(common.SortOrder.DESCENDING)
        )
    )
    if chart.stacked:
        panel.stacking(common_builders.StackingConfig().mode(common.StackingMode.NORMAL))
    if chart.limits:
        panel.thresholds_style(
            common_builders.GraphThresholdsStyleConfig().mode(common.GraphThresholdsStyleMode.LINE)
        )
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


def _mark(limits: tuple[Limit, ...]) -> dashboards.ThresholdsConfig:
    steps = [models.Threshold(color="green", value=None)]
    steps += [models.Threshold(color=limit.colour, value=limit.value) for limit in limits]
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


def _list_links() -> Iterator[dashboards.DashboardLink]:
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
        .url(_link_traces())
        .keep_time(True)
        .target_blank(True)
    )


def _link_traces() -> str:
    query: dict[str, Any] = {
        "datasource": "tempo",
        "queries": [
            {
                "refId": "A",
                "queryType": "traceql",
                "query": (
                    f'{{ name =~ "{names.RUN.of(".*")}"'
                    f' && span.{names.Attribute.OUTCOME} != "{Outcome.SUCCEEDED}" }}'
                ),
            }
        ],
    }
    return "/explore?left=" + json.dumps(query, separators=(",", ":"))

"""Panels as values: what a board says, apart from how Grafana writes it down."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final, Literal

from dashboards import promql, settings
from dashboards.promql import ADAPTER, OP, Durations, Part, pick
from tapescope_telemetry.names import Attribute, MetricRow

__all__ = [
    "CHOSEN",
    "Axis",
    "Board",
    "Chart",
    "Limit",
    "Query",
    "Section",
    "add_rates",
    "describe_share",
    "grow",
    "quantile",
    "rate",
    "scope",
    "sum_by",
    "sum_growth",
    "sum_rate",
]

Kind = Literal["timeseries", "stat", "heatmap", "table"]
Axis = Literal["linear", "log", "symlog"]
"""``symlog`` is for lengths of time that may be 0, which a logarithm has no place for. Under a
second it has no numbers, so what is never 0 and mostly shorter is ``log``."""


@dataclass(frozen=True, slots=True)
class Query:
    """One query of a panel; ``exemplar`` asks for the dots that lead to traces.

    A ``limit`` is drawn as a dashed line that is filled and stacked with nothing.
    """

    expr: str
    legend: str = ""
    exemplar: bool = False
    limit: bool = False


@dataclass(frozen=True, slots=True)
class Limit:
    """From this value on the panel has this colour."""

    value: float
    colour: str


@dataclass(frozen=True, slots=True)
class Chart:
    """One panel. ``unit`` is Grafana's; ``width`` is in columns of 24, ``height`` in rows.

    ``shades`` has all series in shades of one colour: what it shows is of one kind. ``empty`` is
    said in the place of "No data": why there may be nothing, and what would make it something.
    ``columns`` are the labels of a table, with their headers, in order.
    """

    kind: Kind
    title: str
    description: str
    unit: str
    queries: tuple[Query, ...]
    width: int = 12
    height: int = 8
    stacked: bool = False
    limits: tuple[Limit, ...] = ()
    decimals: int | None = None
    axis: Axis = "linear"
    shades: str = ""
    empty: str = ""
    columns: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True, slots=True)
class Section:
    """A row of the board with its panels, laid out from the left.

    With ``repeat`` it is there once for each value that is chosen of this variable.
    """

    title: str
    charts: tuple[Chart, ...]
    repeat: str = ""


@dataclass(frozen=True, slots=True)
class Board:
    """One dashboard."""

    uid: str
    title: str
    description: str
    sections: tuple[Section, ...]
    tags: tuple[str, ...] = field(default=("tapescope",))


CHOSEN: Final = tuple(f'{label}=~"${label}"' for label in settings.INSTANCE_LABELS)
"""Matchers of the processes that a board's variables choose."""


def scope(name: str | MetricRow, *matchers: str, part: Part = "") -> str:
    """A selector of what the board's variables choose, as far as the metric has their labels."""
    chosen = list(CHOSEN)
    if isinstance(name, MetricRow):
        if Attribute.OP in name.attributes:
            chosen.append(f'{OP}=~"$op"')
        if Attribute.ADAPTER in name.attributes:
            chosen.append(f'{ADAPTER}=~"$store"')
    return pick(name, *chosen, *matchers, part=part)


def rate(selector: str) -> str:
    """What a counter grows by in a second, over the interval that Grafana advises."""
    return f"rate({selector}[$__rate_interval])"


_AGES: Final = {
    "$__rate_interval": "$__rate_interval_ms / 1000",
    "$__range": "$__range_s",
    "24h": "86400",
}
"""Windows of a panel in seconds, as Grafana fills them in."""


def grow(selector: str, window: str = "$__rate_interval") -> str:
    """By how much each series grew in the window, as the rules count it.

    For facts so rare that the first one must be seen: ``rate`` and ``increase`` leave it out.
    """
    age = _AGES[window]
    return promql.grow(
        selector,
        window,
        age,
        f"{age} + {settings.NOTICED}",
        gap=Durations()(settings.BRIDGED_GAP),
        starts=scope(promql.START),
    )


def sum_by(labels: str, expr: str) -> str:
    """``expr`` summed; by these labels, or (empty) in all."""
    inner = expr if expr.startswith("(") and expr.endswith(")") else f"({expr})"
    return f"sum by ({labels}) {inner}" if labels else f"sum {inner}"


def sum_rate(labels: str, name: str | MetricRow, *matchers: str, part: Part = "") -> str:
    """The summed rate of what the board's variables choose."""
    return sum_by(labels, rate(scope(name, *matchers, part=part)))


def sum_growth(
    labels: str,
    name: str | MetricRow,
    *matchers: str,
    part: Part = "",
    window: str = "$__rate_interval",
) -> str:
    """The summed growth of what the board's variables choose."""
    return sum_by(labels, grow(scope(name, *matchers, part=part), window))


def add_rates(row: MetricRow, labels: str, *matchers: str) -> str:
    """The summed rates of a histogram's buckets, by these labels and ``le``."""
    by = f"{labels}, le" if labels else "le"
    return sum_rate(by, row, *matchers, part="_bucket")


def quantile(q: float, buckets: str) -> str:
    """The ``q`` quantile of summed rates of buckets; nothing, and not NaN, where nothing came."""
    return f"{promql.quantile(q, buckets)} >= 0"


def describe_share(part: str, whole: str) -> str:
    """``part / whole`` that is 0, and not nothing, where no ``part`` was ever seen."""
    return f"({part} or 0 * {whole}) / ({whole} > 0)"

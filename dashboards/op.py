"""The board "Op": all about one op, again for each op that is chosen."""

from __future__ import annotations

from dashboards import colours, settings
from dashboards.panels import (
    CHOSEN,
    Board,
    Chart,
    Limit,
    Query,
    Section,
    add_rates,
    quantile,
    scope,
    sum_growth,
    sum_rate,
)
from dashboards.promql import (
    DROP_REASON,
    ERROR,
    GROUP,
    OP,
    OUTCOME,
    STATE,
    Durations,
    match,
    pick,
)
from dashboards.recording import BUDGET_LEFT
from tapescope.model import Outcome
from tapescope_telemetry import names
from tapescope_telemetry.names import MetricRow

__all__ = ["OP_BOARD"]


def _quantiles(row: MetricRow, starred: float | None = None) -> tuple[Query, ...]:
    return tuple(
        Query(quantile(q, add_rates(row, "")), f"p{q * 100:g}", exemplar=q == starred)
        for q in (0.5, 0.95, 0.99)
    )


def _highest(row: MetricRow) -> str:
    return f"max({scope(row)})"


_TIMEOUT = Query(_highest(names.OP_TIMEOUT), "timeout", limit=True)

_NAMES = Durations()
_CHOSEN_OP = f'{OP}=~"$op"'

_UNTOLD = "The store has no task and no worker of this op."

_OP = Section(
    "$op",
    (
        Chart(
            "timeseries",
            "Finished by outcome",
            "Tasks of the op that ended.",
            "suffix:tasks/s",
            (Query(sum_rate(OUTCOME, names.DURATION, part="_count"), f"{{{{{OUTCOME}}}}}"),),
            8,
            stacked=True,
            empty="No task of this op ended.",
        ),
        Chart(
            "timeseries",
            "Duration",
            "The last attempt's claim to the final, beside the time that a run may take. The dots"
            " are exemplars: they lead to a trace.",
            "s",
            (*_quantiles(names.DURATION, 0.99), _TIMEOUT),
            8,
            axis="log",
            empty="No task of this op ended.",
        ),
        Chart(
            "timeseries",
            "Queue wait",
            "From when a task was due to its claim.",
            "s",
            _quantiles(names.QUEUE_WAIT),
            8,
            limits=(Limit(settings.QUEUE_WAIT_P95, colours.LATE),),
            axis="log",
            empty="No task of this op was claimed.",
        ),
        Chart(
            "timeseries",
            "Waiting by state",
            "Tasks of the op that no worker has claimed.",
            "short",
            (
                Query(
                    f"sum by ({STATE}) (max by ({GROUP}, {OP}, {STATE}) ({scope(names.BACKLOG)}))",
                    f"{{{{{STATE}}}}}",
                ),
            ),
            8,
            stacked=True,
            empty=_UNTOLD,
        ),
        Chart(
            "timeseries",
            "Oldest waiting, oldest run",
            "How long the first task that waits has been due, and how long ago the oldest run was"
            " claimed, beside the time that a run may take.",
            "s",
            (
                Query(_highest(names.OLDEST_DUE), "waiting"),
                Query(_highest(names.RUNNING_AGE), "running"),
                _TIMEOUT,
            ),
            8,
            limits=(Limit(settings.OLDEST_WAITING.default, colours.BAD),),
            axis="symlog",
            empty=_UNTOLD,
        ),
        Chart(
            "timeseries",
            "Workers",
            "Living workers of the store that can run the op. With none, what is due stands still.",
            "short",
            (Query(_highest(names.OP_WORKERS), "workers"),),
            8,
            empty=_UNTOLD,
        ),
        Chart(
            "timeseries",
            "Failures by error",
            "Failed tasks of the interval.",
            "short",
            (
                Query(
                    sum_growth(
                        ERROR, names.DURATION, match(OUTCOME, Outcome.FAILED), part="_count"
                    ),
                    f"{{{{{ERROR}}}}}",
                ),
            ),
            8,
            stacked=True,
            shades=colours.BAD,
            empty="No task of this op failed.",
        ),
        Chart(
            "timeseries",
            "Error budget left",
            "Of the failures that the op's objective allows in"
            f" {_NAMES(settings.BUDGET_WINDOW)}, the share that is not spent; below 0 more than all"
            " of it is. Cancelled tasks count for nothing. Told every five minutes.",
            "percentunit",
            (
                Query(
                    f"min by ({GROUP}, {OP}) ({pick(BUDGET_LEFT, *CHOSEN[:-1], _CHOSEN_OP)})",
                    "{{namespace}} {{job}}",
                ),
            ),
            8,
            limits=(Limit(0.0, colours.BAD),),
            shades=colours.ACTIVE,
            empty="No task of this op succeeded or failed in the last weeks.",
        ),
        Chart(
            "timeseries",
            "Retries by error",
            "Attempts of the interval that failed and will be made again.",
            "short",
            (Query(sum_growth(ERROR, names.RETRIES), f"{{{{{ERROR}}}}}"),),
            8,
            stacked=True,
            shades=colours.LATE,
            empty="No attempt of this op is made again.",
        ),
        Chart(
            "timeseries",
            "Late events by reason",
            "Events of the interval that were kept off a tape.",
            "short",
            (Query(sum_growth(DROP_REASON, names.EVENT_DROPPED), f"{{{{{DROP_REASON}}}}}"),),
            16,
            stacked=True,
            empty="No event of this op was dropped.",
        ),
        Chart(
            "timeseries",
            "Paused",
            "1 while somebody has the op paused: no worker claims its tasks, and they wait.",
            "short",
            (Query(_highest(names.OP_PAUSED), "paused"),),
            8,
            limits=(Limit(1, colours.LATE),),
            empty=_UNTOLD,
        ),
    ),
    repeat="op",
)

OP_BOARD = Board(
    "tapescope-op",
    "tapescope: op",
    "All about one op: how it ends, how long it takes, what waits. Choose the op above.",
    (_OP,),
)

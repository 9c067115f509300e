"""The board "Overview": what becomes of the tasks."""

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
    describe_share,
    quantile,
    scope,
    sum_by,
    sum_growth,
    sum_rate,
)
from dashboards.promql import (
    CANCEL_REASON,
    ERROR,
    GROUP,
    INSTANCE,
    OP,
    OUTCOME,
    RESCUE_RESULT,
    STATE,
    match,
    pick,
)
from tapescope.model import ERROR_CODES, Outcome
from tapescope_telemetry import names
from tapescope_telemetry.names import MetricRow

__all__ = ["OVERVIEW"]

_TASKS = "suffix:tasks/s"
_RANGE = "$__range"
_ENDED = sum_growth("", names.DURATION, part="_count", window=_RANGE)
_DECIDED = sum_growth(
    "",
    names.DURATION,
    match(OUTCOME, Outcome.FAILED, Outcome.SUCCEEDED),
    part="_count",
    window=_RANGE,
)
_FAILED = sum_growth(
    "", names.DURATION, match(OUTCOME, Outcome.FAILED), part="_count", window=_RANGE
)
_CANCELLED = sum_growth(
    "", names.DURATION, match(OUTCOME, Outcome.CANCELLED), part="_count", window=_RANGE
)
_NO_TASK = "No task ended in this time."


def _highest(row: MetricRow) -> str:
    """By op, of what every process of the store says alike."""
    return f"max by ({OP}) ({scope(row)})"


_NOW = Section(
    "Now",
    (
        Chart(
            "stat",
            "Active tasks",
            "Tasks that have not ended: pending, running, or cancelled and not ended yet.",
            "short",
            (Query(sum_by("", scope(names.ACTIVE))),),
            4,
            4,
        ),
        Chart(
            "stat",
            "Throughput",
            "Tasks that ended in a second, whatever their outcome.",
            _TASKS,
            (Query(sum_rate("", names.DURATION, part="_count")),),
            4,
            4,
        ),
        Chart(
            "stat",
            "Failure ratio",
            "Failed tasks among those that succeeded or failed, over the range of the board."
            " Cancelled ones are left out: they are neither.",
            "percentunit",
            (Query(describe_share(_FAILED, _DECIDED)),),
            4,
            4,
            limits=(Limit(1 - settings.FAILURE_OBJECTIVE, colours.LATE), Limit(0.1, colours.BAD)),
            empty=_NO_TASK,
        ),
        Chart(
            "stat",
            "Cancelled ratio",
            "Cancelled tasks among all that ended, over the range of the board.",
            "percentunit",
            (Query(describe_share(_CANCELLED, _ENDED)),),
            4,
            4,
            empty=_NO_TASK,
        ),
        Chart(
            "stat",
            "Queue wait, p95",
            "From when a task was due to its claim.",
            "s",
            (Query(quantile(0.95, add_rates(names.QUEUE_WAIT, ""))),),
            4,
            4,
            limits=(Limit(settings.QUEUE_WAIT_P95, colours.LATE),),
            empty="No task was claimed in this time.",
        ),
        Chart(
            "stat",
            "Oldest active task",
            "Since it was due. The maximum, never a sum, of the processes.",
            "s",
            (Query(f"max(max by ({GROUP}) ({scope(names.OLDEST_ACTIVE)}))"),),
            4,
            4,
            limits=(Limit(settings.STUCK_AGE.default, colours.LATE),),
        ),
        Chart(
            "table",
            "Firing alerts",
            "What pages or tickets now. The name leads to its runbook.",
            "none",
            (
                Query(
                    "max by (alertname, severity, "
                    + INSTANCE
                    + ") ("
                    + pick(
                        "ALERTS",
                        'alertname=~"Tapescope.+"',
                        'alertstate="firing"',
                        *CHOSEN[:-1],
                    )
                    + ")"
                ),
            ),
            24,
            8,
            empty="No alert is firing.",
            columns=(
                ("alertname", "Alert"),
                ("severity", "Severity"),
                *((label, label.capitalize()) for label in settings.INSTANCE_LABELS),
            ),
        ),
    ),
)

_WAITING = Section(
    "Waiting",
    (
        Chart(
            "timeseries",
            "Waiting by state",
            "Tasks of the store that no worker has claimed: due now, scheduled for a time to come,"
            " or waiting to be tried again. Every process of a store says the same.",
            "short",
            (
                Query(
                    f"sum by ({STATE}) (max by ({GROUP}, {OP}, {STATE}) ({scope(names.BACKLOG)}))",
                    f"{{{{{STATE}}}}}",
                ),
            ),
            height=10,
            stacked=True,
            empty="No process tells of a store: none has one open.",
        ),
        Chart(
            "timeseries",
            "Oldest waiting by op",
            "How long the first task that waits has been due.",
            "s",
            (Query(_highest(names.OLDEST_DUE), f"{{{{{OP}}}}}"),),
            height=10,
            limits=(Limit(settings.OLDEST_WAITING.default, colours.BAD),),
            axis="symlog",
            empty="No process tells of a store: none has one open.",
        ),
        Chart(
            "timeseries",
            "Workers by op",
            "Living workers of the store that can run the op. An op with none and tasks that are"
            " due stands still.",
            "short",
            (Query(_highest(names.OP_WORKERS), f"{{{{{OP}}}}}"),),
            height=10,
        ),
        Chart(
            "timeseries",
            "Oldest run by op",
            "How long ago the oldest run was claimed, beside the time that a run may take.",
            "s",
            (
                Query(_highest(names.RUNNING_AGE), f"{{{{{OP}}}}}"),
                Query(_highest(names.OP_TIMEOUT), f"timeout of {{{{{OP}}}}}", limit=True),
            ),
            height=10,
            axis="symlog",
        ),
    ),
)

_FLOW = Section(
    "Flow",
    (
        Chart(
            "timeseries",
            "Submitted against finished",
            "When more is submitted than finished for long, the backlog grows. Refused is what an"
            " op with a bound had no room for.",
            _TASKS,
            (
                Query(sum_rate("", names.SUBMITTED), "submitted"),
                Query(sum_rate("", names.REFUSED), "refused"),
                Query(sum_rate("", names.DURATION, part="_count"), "finished"),
            ),
        ),
        Chart(
            "timeseries",
            "Finished by outcome",
            f"{', '.join(Outcome).capitalize()}.",
            _TASKS,
            (Query(sum_rate(OUTCOME, names.DURATION, part="_count"), f"{{{{{OUTCOME}}}}}"),),
            stacked=True,
        ),
        Chart(
            "timeseries",
            "Failures by error type",
            f"Failed tasks of the interval: the platform's codes ({', '.join(ERROR_CODES)}) or the"
            " exception's name.",
            "short",
            (
                Query(
                    sum_growth(
                        ERROR, names.DURATION, match(OUTCOME, Outcome.FAILED), part="_count"
                    ),
                    f"{{{{{ERROR}}}}}",
                ),
            ),
            stacked=True,
            shades=colours.BAD,
            empty="No task failed in this time.",
        ),
        Chart(
            "timeseries",
            "Active by state, against the limit",
            "The dashed line is what may run at once (max_running of every manager).",
            "short",
            (
                Query(sum_by(STATE, scope(names.ACTIVE)), f"{{{{{STATE}}}}}"),
                Query(sum_by("", scope(names.LIMIT)), "limit", limit=True),
            ),
            stacked=True,
        ),
    ),
)

_TIMES = Section(
    "Times",
    (
        Chart(
            "heatmap",
            "Task duration",
            "The last attempt's claim to the final. The dots are exemplars: they lead to a trace.",
            "s",
            (Query(add_rates(names.DURATION, ""), "{{le}}", exemplar=True),),
        ),
        Chart(
            "timeseries",
            "Task duration by op, p95",
            "The board of the op has p50 and p99 beside it. The dots are exemplars.",
            "s",
            (Query(quantile(0.95, add_rates(names.DURATION, OP)), f"{{{{{OP}}}}}", exemplar=True),),
            axis="log",
        ),
        Chart(
            "timeseries",
            "Queue wait by op, p95",
            "From when a task was due to its claim.",
            "s",
            (Query(quantile(0.95, add_rates(names.QUEUE_WAIT, OP)), f"{{{{{OP}}}}}"),),
            limits=(Limit(settings.QUEUE_WAIT_P95, colours.LATE),),
            axis="log",
        ),
        Chart(
            "timeseries",
            "Oldest active task by op",
            "Since it was due; the maximum of the processes.",
            "s",
            (
                Query(
                    f"max by ({OP}) (max by ({GROUP}, {OP}) ({scope(names.OLDEST_ACTIVE)})) > 0",
                    f"{{{{{OP}}}}}",
                ),
            ),
            limits=(Limit(settings.STUCK_AGE.default, colours.LATE),),
            axis="symlog",
            empty="No task is active.",
        ),
    ),
)

_CANCELS = Section(
    "Cancels, retries, rescues",
    (
        Chart(
            "timeseries",
            "Cancel latency by reason, p95",
            "From the request to the final. The dots are exemplars.",
            "s",
            (
                Query(
                    quantile(0.95, add_rates(names.CANCEL_DURATION, CANCEL_REASON)),
                    f"{{{{{CANCEL_REASON}}}}}",
                    exemplar=True,
                ),
            ),
            limits=(Limit(settings.CANCEL_SLOW_P95, colours.LATE),),
            axis="log",
            empty="No task was cancelled in this time.",
        ),
        Chart(
            "timeseries",
            "Cancel requests by reason",
            "Requests of the interval. What the caller said is on the tape, never a label.",
            "short",
            (Query(sum_growth(CANCEL_REASON, names.CANCEL_REQUESTS), f"{{{{{CANCEL_REASON}}}}}"),),
            stacked=True,
        ),
        Chart(
            "timeseries",
            "Overrun by op, p95",
            "How long runners went on after their cancel was final.",
            "s",
            (Query(quantile(0.95, add_rates(names.CANCEL_OVERRUN, OP)), f"{{{{{OP}}}}}"),),
            axis="log",
            empty="No runner went on after its cancel was final.",
        ),
        Chart(
            "timeseries",
            "Zombies by op",
            "Fenced runners that still run. What they write is dropped.",
            "short",
            (Query(f"{sum_by(OP, scope(names.ZOMBIES))} > 0", f"{{{{{OP}}}}}"),),
            stacked=True,
            shades=colours.LATE,
            empty="No fenced runner still runs.",
        ),
        Chart(
            "timeseries",
            "Retries by error",
            "Attempts of the interval that failed and will be made again.",
            "short",
            (Query(sum_growth(ERROR, names.RETRIES), f"{{{{{ERROR}}}}}"),),
            stacked=True,
            shades=colours.LATE,
        ),
        Chart(
            "timeseries",
            "Rescues by result",
            "Tasks of the interval that were taken from an owner that was lost.",
            "short",
            (Query(sum_growth(RESCUE_RESULT, names.RESCUED), f"{{{{{RESCUE_RESULT}}}}}"),),
            stacked=True,
        ),
    ),
)

OVERVIEW = Board(
    "tapescope-overview",
    "tapescope: overview",
    "What becomes of the tasks: how many, how long, how they end.",
    (_NOW, _WAITING, _FLOW, _TIMES, _CANCELS),
)

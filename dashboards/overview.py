"""The board "Overview": what becomes of the tasks."""

from __future__ import annotations

from dashboards.panels import (
    Board,
    Chart,
    Limit,
    Query,
    Section,
    add_rates,
    describe_share,
    scope,
    sum_by,
    sum_growth,
    sum_rate,
)
from dashboards.promql import (
    CANCEL_REASON,
    ERROR,
    GROUP,
    OP,
    OUTCOME,
    RESCUE_RESULT,
    STATE,
    match,
    quantile,
)
from tapescope.model import ERROR_CODES, Outcome
from tapescope_telemetry import names
from tapescope_telemetry.names import MetricRow

__all__ = ["OVERVIEW"]

_ENDED = sum_growth("", names.DURATION, part="_count")
_DECIDED = sum_growth(
    "", names.DURATION, match(OUTCOME, Outcome.FAILED, Outcome.SUCCEEDED), part="_count"
)
_FAILED = sum_growth("", names.DURATION, match(OUTCOME, Outcome.FAILED), part="_count")
_CANCELLED = sum_growth("", names.DURATION, match(OUTCOME, Outcome.CANCELLED), part="_count")


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
            "ops",
            (Query(sum_rate("", names.DURATION, part="_count")),),
            4,
            4,
        ),
        Chart(
            "stat",
            "Failure ratio",
            "Failed tasks among those that succeeded or failed. Cancelled ones are left out: they"
            " are neither.",
            "percentunit",
            (Query(describe_share(_FAILED, _DECIDED)),),
            4,
            4,
            limits=(Limit(0.01, "orange"), Limit(0.1, "red")),
        ),
        Chart(
            "stat",
            "Cancelled ratio",
            "Cancelled tasks among all that ended.",
            "percentunit",
            (Query(describe_share(_CANCELLED, _ENDED)),),
            4,
            4,
        ),
        Chart(
            "stat",
            "Queue wait, p95",
            "From when a task was due to its claim.",
            "s",
            (Query(quantile(0.95, add_rates(names.QUEUE_WAIT, ""))),),
            4,
            4,
            limits=(Limit(60, "orange"),),
        ),
        Chart(
            "stat",
            "Oldest active task",
            "Since it was due. The maximum, never a sum, of the processes.",
            "s",
            (Query(f"max(max by ({GROUP}) ({scope(names.OLDEST_ACTIVE)}))"),),
            4,
            4,
            limits=(Limit(7200, "orange"),),
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
            stacked=True,
        ),
        Chart(
            "timeseries",
            "Oldest waiting by op",
            "How long the first task that waits has been due.",
            "s",
            (Query(_highest(names.OLDEST_DUE), f"{{{{{OP}}}}}"),),
        ),
        Chart(
            "timeseries",
            "Workers by op",
            "Living workers of the store that can run the op. An op with none and tasks that are"
            " due stands still.",
            "short",
            (Query(_highest(names.OP_WORKERS), f"{{{{{OP}}}}}"),),
        ),
        Chart(
            "timeseries",
            "Oldest run by op",
            "How long ago the oldest run was claimed, beside the time that a run may take.",
            "s",
            (
                Query(_highest(names.RUNNING_AGE), f"{{{{{OP}}}}}"),
                Query(_highest(names.OP_TIMEOUT), f"timeout of {{{{{OP}}}}}"),
            ),
        ),
    ),
)

_FLOW = Section(
    "Flow",
    (
        Chart(
            "timeseries",
            "Submitted against finished",
            "When more is submitted than finished for long, the backlog grows.",
            "ops",
            (
                Query(sum_rate("", names.SUBMITTED), "submitted"),
                Query(sum_rate("", names.DURATION, part="_count"), "finished"),
            ),
        ),
        Chart(
            "timeseries",
            "Finished by outcome",
            f"{', '.join(Outcome).capitalize()}.",
            "ops",
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
        ),
        Chart(
            "timeseries",
            "Active by state, against the limit",
            "The line is what may run at once (max_running of every manager).",
            "short",
            (
                Query(sum_by(STATE, scope(names.ACTIVE)), f"{{{{{STATE}}}}}"),
                Query(sum_by("", scope(names.LIMIT)), "limit"),
            ),
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
            "Task duration by op",
            "p50, p95 and p99. The dots are exemplars.",
            "s",
            tuple(
                Query(
                    quantile(q, add_rates(names.DURATION, OP)),
                    f"{{{{{OP}}}}} p{q * 100:g}",
                    exemplar=q == 0.99,
                )
                for q in (0.5, 0.95, 0.99)
            ),
        ),
        Chart(
            "timeseries",
            "Queue wait by op, p95",
            "From when a task was due to its claim.",
            "s",
            (Query(quantile(0.95, add_rates(names.QUEUE_WAIT, OP)), f"{{{{{OP}}}}}"),),
        ),
        Chart(
            "timeseries",
            "Oldest active task by op",
            "Since it was due; the maximum of the processes.",
            "s",
            (
                Query(
                    f"max by ({OP}) (max by ({GROUP}, {OP}) ({scope(names.OLDEST_ACTIVE)}))",
                    f"{{{{{OP}}}}}",
                ),
            ),
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
            8,
        ),
        Chart(
            "timeseries",
            "Zombies by op",
            "Fenced runners that still run. What they write is dropped.",
            "short",
            (Query(sum_by(OP, scope(names.ZOMBIES)), f"{{{{{OP}}}}}"),),
            8,
        ),
        Chart(
            "timeseries",
            "Retries by error, rescues by result",
            "Attempts of the interval that failed and will be made again, and tasks that were taken"
            " from a lost owner.",
            "short",
            (
                Query(sum_growth(ERROR, names.RETRIES), f"retry {{{{{ERROR}}}}}"),
                Query(sum_growth(RESCUE_RESULT, names.RESCUED), f"rescue {{{{{RESCUE_RESULT}}}}}"),
            ),
            8,
        ),
    ),
)

OVERVIEW = Board(
    "tapescope-overview",
    "tapescope: overview",
    "What becomes of the tasks: how many, how long, how they end.",
    (_NOW, _WAITING, _FLOW, _TIMES, _CANCELS),
)

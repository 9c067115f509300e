"""The board "Fleet": who works, with how many slots, and what became of who did."""

from __future__ import annotations

from dashboards import colours
from dashboards.panels import (
    Board,
    Chart,
    Limit,
    Query,
    Section,
    add_rates,
    quantile,
    scope,
    sum_by,
    sum_growth,
)
from dashboards.promql import (
    BROUGHT_RESULT,
    BUILD_INFO,
    ENGINE,
    FIRING_OUTCOME,
    GROUP,
    INSTANCE,
    MESSAGE_RESULT,
    OP,
    RECONCILE_RESULT,
    RESCUE_RESULT,
    START,
    STATE,
    match,
)
from tapescope.model import ActiveState, WaitState
from tapescope_telemetry import names

__all__ = ["FLEET"]

_BUSY = scope(names.ACTIVE, match(STATE, ActiveState.RUNNING, ActiveState.CANCELLING))
_SLOTS = scope(names.LIMIT)
_FULL = (Limit(0.9, colours.LATE),)
_DUE = scope(names.BACKLOG, match(STATE, WaitState.DUE))

_NOW = Section(
    "Now",
    (
        Chart(
            "stat",
            "Processes",
            "Processes of tapescope that are scraped: workers, programs, exporters.",
            "short",
            (Query(f"count({scope(BUILD_INFO)})"),),
            4,
            4,
        ),
        Chart(
            "stat",
            "Slots in use",
            "Runs that hold a slot, among all that may run at once.",
            "percentunit",
            (Query(f"{sum_by('', _BUSY)} / ({sum_by('', _SLOTS)} > 0)"),),
            4,
            4,
            limits=_FULL,
            empty="No process has a slot.",
        ),
        Chart(
            "stat",
            "Due and not claimed",
            "Tasks that a worker could claim now.",
            "short",
            (Query(f"sum(max by ({GROUP}, {OP}) ({_DUE}))"),),
            4,
            4,
        ),
        Chart(
            "stat",
            "Restarts",
            "Of processes that kept their address, over the range of the board.",
            "short",
            (Query(f"sum(changes({scope(START)}[$__range]))"),),
            4,
            4,
            limits=(Limit(1, colours.LATE),),
            empty="No process tells when it began: what is pushed does not.",
        ),
        Chart(
            "stat",
            "Tasks of lost owners",
            "Tasks that were taken from an owner that was dead or silent, over the range.",
            "short",
            (Query(sum_growth("", names.RESCUED, window="$__range")),),
            4,
            4,
            limits=(Limit(1, colours.LATE),),
        ),
        Chart(
            "stat",
            "Zombies",
            "Fenced runners that still run. What they write is dropped.",
            "short",
            (Query(sum_by("", scope(names.ZOMBIES))),),
            4,
            4,
            limits=(Limit(1, colours.LATE),),
        ),
    ),
)

_PROCESSES = Section(
    "Processes",
    (
        Chart(
            "table",
            "Who is here",
            "Each process that is scraped, its version, and how long it has been running.",
            "s",
            (
                Query(
                    f"(time() - {scope(START)}) * on ({INSTANCE}) group_left (version)"
                    f" {scope(BUILD_INFO)}"
                ),
            ),
            24,
            6,
            empty="No process of tapescope is scraped.",
            columns=(
                *((label, label.capitalize()) for label in INSTANCE.split(", ")),
                ("version", "Version"),
                ("Value", "Up for"),
            ),
        ),
        Chart(
            "timeseries",
            "Runs against slots",
            "Runs that hold a slot; the dashed lines are the slots of each process.",
            "short",
            (
                Query(sum_by("instance", _BUSY), "{{instance}}"),
                Query(sum_by("instance", _SLOTS), "slots of {{instance}}", limit=True),
            ),
            height=11,
        ),
        Chart(
            "timeseries",
            "Slots in use by process",
            "A process that is full for long claims nothing: what is due waits.",
            "percentunit",
            (
                Query(
                    f"{sum_by('instance', _BUSY)} / ({sum_by('instance', _SLOTS)} > 0)",
                    "{{instance}}",
                ),
            ),
            height=11,
            limits=_FULL,
        ),
        Chart(
            "timeseries",
            "Workers by op",
            "Living workers of the store that can run the op.",
            "short",
            (Query(f"max by ({OP}) ({scope(names.OP_WORKERS)})", f"{{{{{OP}}}}}"),),
            height=10,
        ),
        Chart(
            "timeseries",
            "Paused by op",
            "1 while somebody has an op paused: no worker claims its tasks, and they wait.",
            "short",
            (Query(f"max by ({OP}) ({scope(names.OP_PAUSED)})", f"{{{{{OP}}}}}"),),
            height=10,
            limits=(Limit(1, colours.LATE),),
            empty="No process tells of a store: none has one open.",
        ),
        Chart(
            "timeseries",
            "Restarts by process",
            "How often a process began anew in the interval. One that does so again and again is in"
            " a crash loop.",
            "short",
            (
                Query(
                    f"sum by (instance) (changes({scope(START)}[$__rate_interval]))", "{{instance}}"
                ),
            ),
            empty="No process tells when it began: what is pushed does not.",
        ),
        Chart(
            "timeseries",
            "Oldest task by process",
            "How long ago the oldest task that a process holds, and that has not ended, fell due.",
            "s",
            (Query(f"max by (instance) ({scope(names.OLDEST_ACTIVE)})", "{{instance}}"),),
            axis="symlog",
        ),
        Chart(
            "timeseries",
            "Tasks of lost owners by result",
            "Of the interval: made again, failed as worker_lost, or cancelled.",
            "short",
            (Query(sum_growth(RESCUE_RESULT, names.RESCUED), f"{{{{{RESCUE_RESULT}}}}}"),),
            stacked=True,
        ),
        Chart(
            "timeseries",
            "Firings of schedules by outcome",
            "Firing times of the interval: with a task in time or late, or without one.",
            "short",
            (Query(sum_growth(FIRING_OUTCOME, names.FIRINGS), f"{{{{{FIRING_OUTCOME}}}}}"),),
            stacked=True,
            empty="No schedule has fired.",
        ),
        Chart(
            "timeseries",
            "Lateness of schedules by op (p95)",
            "From a firing time to when its task was made.",
            "s",
            (Query(quantile(0.95, add_rates(names.LATENESS, OP)), f"{{{{{OP}}}}}"),),
            axis="log",
            empty="No schedule has fired.",
        ),
        Chart(
            "timeseries",
            "Messages to tasks by result",
            "Of the interval: sent, and what its task took of them, or had left when it ended.",
            "short",
            (Query(sum_growth(MESSAGE_RESULT, names.MESSAGES), f"{{{{{MESSAGE_RESULT}}}}}"),),
            empty="No message was sent to a task.",
        ),
        Chart(
            "timeseries",
            "Tasks that engines brought, by result",
            "Of the interval. A task that is held is brought again: no slot was free, its op is"
            " paused, or another worker has it.",
            "short",
            (Query(sum_growth(BROUGHT_RESULT, names.ENGINE_BROUGHT), f"{{{{{BROUGHT_RESULT}}}}}"),),
            stacked=True,
            empty="No worker has an engine.",
        ),
        Chart(
            "timeseries",
            "Tasks that engines were asked about, by result",
            "Of the interval. What waits is asked about each minute; what is left could not be"
            " settled, and is asked about again.",
            "short",
            (
                Query(
                    sum_growth(RECONCILE_RESULT, names.ENGINE_RECONCILED),
                    f"{{{{{RECONCILE_RESULT}}}}}",
                ),
            ),
            stacked=True,
            empty="No worker has an engine.",
        ),
        Chart(
            "timeseries",
            "Tasks that have not reached their engine",
            "Pending tasks that the engine should have been asked about a minute ago. They are on"
            " the store, and no worker is brought them.",
            "short",
            (Query(f"max by ({ENGINE}) ({scope(names.ENGINE_OVERDUE)})", f"{{{{{ENGINE}}}}}"),),
            limits=(Limit(1, colours.BAD),),
            empty="No worker has an engine.",
        ),
    ),
)

FLEET = Board(
    "tapescope-fleet",
    "tapescope: fleet",
    "Who works, with how many slots, and what became of who did.",
    (_NOW, _PROCESSES),
)

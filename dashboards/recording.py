"""The recording rules: sums of an instance, their growth over the burn windows, and ratios.

A process's series all start again at 0 together, so their sum is a counter, too. Recorded for each
instance it has a 0 from the start where single series would be born with their first event, and the
seven windows are read from a few series instead of a thousand.
"""

from __future__ import annotations

from typing import Final

from dashboards import settings
from dashboards.promql import (
    ADAPTER,
    CANCEL_REASON,
    ERROR,
    FAILED_STATUS,
    GROUP,
    INSTANCE,
    OP,
    OPERATION,
    OUTCOME,
    STATE,
    Durations,
    each_op,
    match,
    or_zero,
    pick,
    quantile,
)
from tapescope import errors
from tapescope.model import CancelReason, Outcome, WaitState
from tapescope_telemetry import names

__all__ = [
    "BUDGET_LEFT",
    "CANCELLED",
    "DECIDED",
    "DROPPED",
    "DUE",
    "FAILED",
    "FINISHED",
    "FINISHED_OF_OP",
    "OFFERED",
    "OF_OP",
    "RETRIES_OF_OP",
    "SERVER_ERRORS",
    "STORE_FAULTS",
    "list_budgets",
    "list_recording_rules",
    "name_growth",
    "name_ratio",
]

Rule = dict[str, object]

DROPPED: Final = "tapescope_tape_event_dropped"
OFFERED: Final = "tapescope_tape_event_offered"
FAILED: Final = "tapescope_task_failed"
DECIDED: Final = "tapescope_task_decided"
CANCELLED: Final = "tapescope_task_cancelled"
FINISHED: Final = "tapescope_task_finished"
REQUESTS: Final = "tapescope_server_requests"
SERVER_ERRORS: Final = "tapescope_server_errors"
OF_OP: Final = "_op"
"""In the name of what is recorded of each op by itself."""
DUE: Final = "job_op:tapescope_task_due:max"
"""The recorded number of tasks that are due and wait, by job and op."""

_CALLERS_ERRORS: Final = (
    *(errors.BadEvent, errors.BadEventType, errors.BadParams, errors.BadSetting),
    *(errors.EventTooLarge, errors.NotJson, errors.TapeFull, errors.NowaitBacklogFull),
    *(errors.IdempotencyConflict, errors.UnknownTask, errors.EventDropped),
    *(
        errors.StoreClosed,
        errors.StoreReadOnly,
        errors.SchemaForbidden,
        errors.SchemaNotOwn,
        errors.StoreConfigError,
    ),
)
STORE_FAULTS: Final = (
    f'{ERROR}!=""',
    f'{ERROR}!~"{errors.__name__}.({"|".join(kind.__name__ for kind in _CALLERS_ERRORS)})"',
)
"""Matchers of the store's failures: what a caller did wrong is not a fault of the database."""

# Unscaled: a rule keeps its name, whatever the time scale makes of its window.
_NAMES: Final = Durations()

FINISHED_OF_OP: Final = (
    f"job_op:tapescope_task_finished:increase{_NAMES(settings.THROUGHPUT_WINDOW)}"
)
RETRIES_OF_OP: Final = f"job_op:tapescope_task_retries:increase{_NAMES(settings.RETRY_WINDOW)}"
"""By how much these grew, by job and op."""


BUDGET_LEFT: Final = (
    f"job_op:tapescope_task_error_budget_left:ratio{_NAMES(settings.BUDGET_WINDOW)}"
)
"""The recorded share of an op's error budget that is not spent; below 0: more than all of it."""


def name_growth(metric: str, window: int, of: str = "") -> str:
    """The recorded growth of a sum over a window, by job, and op where it is ``OF_OP``."""
    return f"job{of}:{metric}:increase{_NAMES(window)}"


def name_ratio(metric: str, window: int, of: str = "") -> str:
    """The recorded ratio over a window, as above: drops to offers, failures to decided tasks."""
    return f"job{of}:{metric}:ratio_increase{_NAMES(window)}"


def _name_sum(metric: str, of: str = "") -> str:
    return f"instance{of}:{metric}:sum"


def list_recording_rules(durations: Durations) -> list[Rule]:
    """The rules in the order in which they read each other; one group, so each is fresh."""
    rules = [_rule(_name_sum(metric), expr) for metric, expr in _list_sums().items()]
    for window in settings.BURN_WINDOWS:
        rules += _grow(durations, window, DROPPED, OFFERED)
        rules += _grow(durations, window, FAILED, DECIDED)
    rules += _grow(durations, settings.CANCEL_WINDOW, CANCELLED, FINISHED)
    rules += _list_of_ops(durations)
    # Every process of a store says the same of it, so the highest is of all of them.
    due = pick(names.BACKLOG, match(STATE, WaitState.DUE))
    rules.append(_rule(DUE, f"max by ({GROUP}, {OP}) ({due})"))
    for record, counter, window in (
        (
            FINISHED_OF_OP,
            pick(names.DURATION, part="_count"),
            settings.THROUGHPUT_WINDOW,
        ),
        (RETRIES_OF_OP, pick(names.RETRIES), settings.RETRY_WINDOW),
    ):
        grown = durations.grown(counter, window)
        rules.append(_rule(record, f"sum by ({GROUP}, {OP}) {grown}"))
    rules += _list_quantiles(durations)
    rules += _list_store_shares(durations)
    rules += _list_server_shares(durations)
    return rules


def list_budgets(durations: Durations) -> list[Rule]:
    """What is left of each op's error budget: a group of its own, for it reads two weeks.

    It adds up what was recorded for the burn rates, step by step. So it reads some thousand samples
    of an op instead of a hundred times as many, and a process that is gone stays counted.
    """
    window, step = durations(settings.BUDGET_WINDOW), durations(settings.BUDGET_STEP)

    def add_up(metric: str, chosen: str) -> str:
        grown = pick(name_growth(metric, settings.BUDGET_STEP, OF_OP), chosen)
        return f"sum by ({GROUP}, {OP}) (sum_over_time({grown}[{window}:{step}]))"

    def left(chosen: str, objective: float) -> str:
        decided = f"({add_up(DECIDED, chosen)} > 0)"
        return f"1 - {add_up(FAILED, chosen)} / ({1 - objective:.4g} * {decided})"

    return [_rule(BUDGET_LEFT, " or ".join(each_op(left, settings.OP_OBJECTIVES)))]


def _rule(record: str, expr: str) -> Rule:
    return {"record": record, "expr": expr}


def _list_sums() -> dict[str, str]:
    by = f"sum by ({INSTANCE})"
    offered = f"{by} ({pick(names.EVENT_OFFERED)})"
    # The limit is there from the start, before the first task has ended.
    limit = f"{by} ({pick(names.LIMIT)})"
    sums = {
        DROPPED: or_zero(f"{by} ({pick(names.EVENT_DROPPED)})", offered),
        OFFERED: offered,
    }
    for metric, outcomes in (
        (FAILED, match(OUTCOME, Outcome.FAILED)),
        (DECIDED, match(OUTCOME, Outcome.FAILED, Outcome.SUCCEEDED)),
        # A deploy cancels what runs, with this reason: that is no spike.
        (
            CANCELLED,
            f'{match(OUTCOME, Outcome.CANCELLED)}, {CANCEL_REASON}!="{CancelReason.SHUTDOWN}"',
        ),
        (FINISHED, ""),
    ):
        ended = pick(names.DURATION, outcomes, part="_count")
        sums[metric] = or_zero(f"{by} ({ended})", limit)
    return sums


def _grow(durations: Durations, window: int, part: str, whole: str, of: str = "") -> list[Rule]:
    by = f"{GROUP}, {OP}" if of else GROUP
    growths = [
        _rule(
            name_growth(metric, window, of),
            f"sum by ({by}) {durations.grown(_name_sum(metric, of), window, recorded=True)}",
        )
        for metric in (part, whole)
    ]
    over, under = (name_growth(metric, window, of) for metric in (part, whole))
    ratio = f"{or_zero(over, under)} / ({under} > 0)"
    return [*growths, _rule(name_ratio(part, window, of), ratio)]


def _list_of_ops(durations: Durations) -> list[Rule]:
    """What failed of each op, by itself: a busy op hides the failures of one that is not."""
    by = f"sum by ({INSTANCE}, {OP})"
    # There as soon as the process knows the op, before the first task of it has ended.
    known = f"{by} ({pick(names.SUBMITTED)})"
    rules: list[Rule] = []
    for metric, outcomes in (
        (FAILED, match(OUTCOME, Outcome.FAILED)),
        (DECIDED, match(OUTCOME, Outcome.FAILED, Outcome.SUCCEEDED)),
    ):
        ended = pick(names.DURATION, outcomes, part="_count")
        rules.append(_rule(_name_sum(metric, OF_OP), or_zero(f"{by} ({ended})", known)))
    windows = {w for pair in settings.OP_BURN_RATES for w in (pair.long, pair.short)}
    for window in sorted(windows):
        rules += _grow(durations, window, FAILED, DECIDED, OF_OP)
    return rules


def _list_quantiles(durations: Durations) -> list[Rule]:
    rules: list[Rule] = []
    for record, row, by, matchers, q, window in (
        (
            "job_reason:tapescope_cancel_duration_seconds",
            names.CANCEL_DURATION,
            f"{GROUP}, {CANCEL_REASON}",
            "",
            0.95,
            settings.CANCEL_WINDOW,
        ),
        (
            "job_op:tapescope_task_queue_wait_time_seconds",
            names.QUEUE_WAIT,
            f"{GROUP}, {OP}",
            "",
            0.95,
            settings.QUEUE_WINDOW,
        ),
        (
            "job_adapter:tapescope_store_append_duration_seconds",
            names.OPERATION_DURATION,
            f"{GROUP}, {ADAPTER}",
            match(OPERATION, "append"),
            0.99,
            settings.STORE_WINDOW,
        ),
    ):
        buckets = durations.grown(pick(row, matchers, part="_bucket"), window)
        counts = durations.grown(pick(row, matchers, part="_count"), window)
        length = _NAMES(window)
        rules += [
            _rule(
                f"{record}:p{q * 100:g}_{length}",
                quantile(q, f"sum by ({by}, le) {buckets}"),
            ),
            _rule(f"{record}:count{length}", f"sum by ({by}) {counts}"),
        ]
    return rules


def _list_server_shares(durations: Durations) -> list[Rule]:
    requests, errors = (
        name_growth(metric, settings.SERVER_WINDOW) for metric in (REQUESTS, SERVER_ERRORS)
    )
    count = pick(names.SERVER_DURATION, part="_count")
    faults = pick(names.SERVER_DURATION, FAILED_STATUS, part="_count")
    grown = [durations.grown(one, settings.SERVER_WINDOW) for one in (count, faults)]
    return [
        _rule(requests, f"sum by ({GROUP}) {grown[0]}"),
        _rule(errors, f"sum by ({GROUP}) {grown[1]}"),
        _rule(
            name_ratio(SERVER_ERRORS, settings.SERVER_WINDOW),
            f"{or_zero(errors, requests)} / ({requests} > 0)",
        ),
    ]


def _list_store_shares(durations: Durations) -> list[Rule]:
    window = settings.STORE_WINDOW
    length = _NAMES(window)
    calls = f"job_adapter:tapescope_store_operations:increase{length}"
    errors = f"job_adapter:tapescope_store_errors:increase{length}"
    count = pick(names.OPERATION_DURATION, part="_count")
    faults = pick(names.OPERATION_DURATION, *STORE_FAULTS, part="_count")
    return [
        _rule(calls, f"sum by ({GROUP}, {ADAPTER}) {durations.grown(count, window)}"),
        _rule(errors, f"sum by ({GROUP}, {ADAPTER}) {durations.grown(faults, window)}"),
        _rule(
            f"job_adapter:tapescope_store_errors:ratio_increase{length}",
            f"{or_zero(errors, calls)} / ({calls} > 0)",
        ),
    ]

"""The alert rules. Each has a runbook of its name, a case that fires and one that stays quiet."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final

from dashboards import settings
from dashboards.promql import (
    ADAPTER,
    AUDIT_RULE,
    BUILD_INFO,
    CANCEL_REASON,
    DROP_REASON,
    ENGINE,
    ERROR,
    GROUP,
    INSTANCE,
    LOOP,
    OP,
    SOURCE,
    START,
    SUBSCRIBER_KIND,
    TAPE_OUTCOME,
    Durations,
    exceeds,
    match,
    or_zero,
    pick,
)
from dashboards.recording import (
    CANCELLED,
    DROPPED,
    DUE,
    FAILED,
    FINISHED_OF_OP,
    OF_OP,
    RETRIES_OF_OP,
    SERVER_ERRORS,
    name_growth,
    name_ratio,
)
from tapescope.model import DropReason
from tapescope_telemetry import names

__all__ = ["Alert", "list_alerts", "render_alert"]

CRITICAL: Final = "critical"
"""Wakes a person."""
WARNING: Final = "warning"
"""For the working day."""

_NAMES: Final = Durations()


@dataclass(frozen=True, slots=True)
class Alert:
    """One alert rule; its ``name`` has the prefix already. ``wait`` is its ``for`` in seconds."""

    name: str
    expr: str
    wait: int
    severity: str
    board: str
    summary: str
    description: str
    labels: dict[str, str] = field(default_factory=dict[str, str])

    @property
    def key(self) -> str:
        """The name, with the long window of a burn-rate alert: unique among the rules."""
        return f"{self.name}/{self.labels['window']}" if "window" in self.labels else self.name


def render_alert(alert: Alert, durations: Durations, runbooks: str) -> dict[str, object]:
    """The rule as Prometheus reads it."""
    return {
        "alert": alert.name,
        "expr": alert.expr,
        "for": durations(alert.wait),
        "labels": {"severity": alert.severity, **alert.labels},
        "annotations": {
            "summary": alert.summary,
            "description": alert.description,
            "runbook_url": f"{runbooks.rstrip('/')}/{alert.name}.md",
            "dashboard_url": _link_board(alert),
        },
    }


def _link_board(alert: Alert) -> str:
    """The alert's board, with what the alert names chosen in it; labels that it lacks are empty."""
    chosen = {label: label for label in settings.AGGREGATION_LABELS}
    chosen |= {"instance": "instance", "op": OP, "store": ADAPTER}
    told = alert.summary
    variables = "&".join(
        f"var-{variable}={{{{ $labels.{label} | urlquery }}}}"
        for variable, label in chosen.items()
        if label in settings.AGGREGATION_LABELS or f"$labels.{label}" in told
    )
    return f"{settings.DASHBOARDS_URL.rstrip('/')}/d/{alert.board}?{variables}"


def list_alerts(durations: Durations) -> list[Alert]:
    """Every alert, integrity first."""
    return [
        *_list_integrity(durations),
        *_list_budgets(),
        *_list_audit(),
        *_list_tasks(durations),
        *_list_work(durations),
        *_list_store(durations),
        *_list_server(),
        *_list_telemetry(durations),
    ]


def _list_integrity(durations: Durations) -> list[Alert]:
    """Zero tolerance: one is too many. A new series is believed without proof that it is new."""
    board = "tapescope-integrity"
    by_drop = f"{GROUP}, {ADAPTER}, {OP}, {TAPE_OUTCOME}"

    def drops(reason: DropReason) -> str:
        counter = pick(names.EVENT_DROPPED, match(DROP_REASON, reason))
        grown = durations.grown(counter, settings.ZERO_TOLERANCE_WINDOW)
        return f"sum by ({by_drop}) {grown} > 0"

    violations = durations.grown(pick(names.AUDIT_VIOLATIONS), settings.VIOLATION_WINDOW)
    return [
        Alert(
            "TapescopeTapeIntegrityViolation",
            f"sum by ({GROUP}, {ADAPTER}, {AUDIT_RULE}) {violations} > 0",
            0,
            CRITICAL,
            board,
            f"The audit found {{{{ $labels.{AUDIT_RULE} }}}} in the {{{{ $labels.{ADAPTER} }}}}"
            " store of {{ $labels.job }}.",
            "A tape breaks an invariant that the database itself holds. Its guards were switched"
            " off, or the database is damaged.",
        ),
        Alert(
            "TapescopeUnaccountedEvents",
            f"max by ({INSTANCE}, {ADAPTER}) (abs({pick(names.EVENT_UNACCOUNTED)})) > 0",
            settings.UNACCOUNTED_WAIT,
            CRITICAL,
            board,
            "{{ $value }} events of {{ $labels.instance }} are neither stored, dropped nor failed.",
            "Offered events must add up (invariant I7). A difference that stays is a bug of"
            " tapescope.",
        ),
        Alert(
            "TapescopeDuplicateFinal",
            drops(DropReason.DUPLICATE_FINAL),
            0,
            CRITICAL,
            board,
            f"A second, different final was refused for op {{{{ $labels.{OP} }}}} of"
            " {{ $labels.job }}.",
            "The tape is right; a process tried to end a task twice, with two different ends.",
        ),
        Alert(
            "TapescopeStaleAttemptWrites",
            drops(DropReason.STALE_ATTEMPT),
            0,
            CRITICAL,
            board,
            f"An attempt of op {{{{ $labels.{OP} }}}} that lost its task still writes, in"
            " {{ $labels.job }}.",
            "A worker was paused or cut off past its lease and goes on: a zombie. Its events are"
            " refused and kept, what it does elsewhere is not.",
        ),
    ]


def _list_budgets() -> list[Alert]:
    alerts: list[Alert] = []
    for name, metric, objective, minimum, board, what in (
        (
            "TapescopeDroppedEventsBudgetBurn",
            DROPPED,
            settings.DROP_OBJECTIVE,
            settings.DROP_MINIMUM,
            "tapescope-integrity",
            "of its events dropped",
        ),
        (
            "TapescopeTaskFailureBudgetBurn",
            FAILED,
            settings.FAILURE_OBJECTIVE,
            settings.FAILURE_MINIMUM,
            "tapescope-overview",
            "of its tasks failed, cancelled ones left out",
        ),
    ):
        for pair in settings.BURN_RATES:
            limit = f"{pair.rate * (1 - objective):.4g}"
            long, short = _NAMES(pair.long), _NAMES(pair.short)
            alerts.append(
                Alert(
                    name,
                    f"{name_ratio(metric, pair.long)} > {limit}"
                    f" and {name_ratio(metric, pair.short)} > {limit}"
                    f" and {name_growth(metric, pair.long)} >= {minimum}",
                    pair.wait,
                    pair.severity,
                    board,
                    "{{ $labels.job }} has {{ $value | humanizePercentage }} " + what + ".",
                    f"The budget of an objective of {objective:.4g} is spent {pair.rate:g} times"
                    f" too fast, measured over {long} and {short}.",
                    {"window": long, "burn_rate": f"{pair.rate:g}"},
                )
            )
    return [*alerts, *map(_make_op_burn, settings.OP_BURN_RATES)]


def _make_op_burn(pair: settings.BurnRate) -> Alert:
    def burns(window: int) -> str:
        return exceeds(
            lambda chosen: pick(name_ratio(FAILED, window, OF_OP), chosen),
            settings.OP_OBJECTIVES,
            lambda objective: pair.rate * (1 - objective),
        )

    long, short = _NAMES(pair.long), _NAMES(pair.short)
    return Alert(
        "TapescopeOpFailureBudgetBurn",
        f"{burns(pair.long)} and {burns(pair.short)}"
        f" and {name_growth(FAILED, pair.long, OF_OP)} >= {settings.FAILURE_MINIMUM}",
        pair.wait,
        pair.severity,
        "tapescope-overview",
        f"{{{{ $labels.{OP} }}}} of {{{{ $labels.job }}}} has {{{{ $value | humanizePercentage }}}}"
        " of its tasks failed, cancelled ones left out.",
        f"The budget of the op's own objective is spent {pair.rate:g} times too fast, measured over"
        f" {long} and {short}.",
        {"window": long, "burn_rate": f"{pair.rate:g}"},
    )


def _list_audit() -> list[Alert]:
    # A store's jobs audit for each other, and every process of a store tells when that was.
    last = f"max by ({GROUP}) ({pick(names.AUDIT_LAST_SUCCESS)})"
    return [
        Alert(
            "TapescopeTapeAuditStale",
            f"time() - {last} > {settings.AUDIT_STALE_AGE}",
            settings.AUDIT_STALE_WAIT,
            WARNING,
            "tapescope-integrity",
            "No audit of {{ $labels.job }} came to its end for {{ $value | humanizeDuration }}.",
            "Until one does, no audit looks for tapes that break an invariant.",
        ),
        Alert(
            "TapescopeTapeAuditMissing",
            f"max by ({GROUP}) ({pick(names.LIMIT)}) > 0"
            f" unless on ({GROUP}) {pick(names.AUDIT_LAST_SUCCESS)}",
            settings.AUDIT_MISSING_WAIT,
            WARNING,
            "tapescope-integrity",
            "{{ $labels.job }} runs tasks, and no process has ever audited their store to the end.",
            "The audit is switched off, or fails each time.",
        ),
    ]


def _unless_paused(within: str = "") -> str:
    """Leaves out ops that are paused, or were so within that time: what waits there shall wait."""
    paused = pick(names.OP_PAUSED)
    paused = f"max_over_time({paused}[{within}])" if within else paused
    return f" unless on ({GROUP}, {OP}) (max by ({GROUP}, {OP}) ({paused}) > 0)"


def _list_tasks(durations: Durations) -> list[Alert]:
    board = "tapescope-overview"
    cancels = "job_reason:tapescope_cancel_duration_seconds"
    queue = "job_op:tapescope_task_queue_wait_time_seconds"
    grown_in = durations(settings.GROWTH_WINDOW)
    timeout = f"max by ({GROUP}, {OP}) ({pick(names.OP_TIMEOUT)})"
    untimed = exceeds(
        lambda chosen: f"max by ({GROUP}, {OP}) ({pick(names.OLDEST_ACTIVE, chosen)})",
        settings.STUCK_AGE,
    )
    in_cancel, in_queue = _NAMES(settings.CANCEL_WINDOW), _NAMES(settings.QUEUE_WINDOW)
    return [
        Alert(
            "TapescopeCancellationSpike",
            f"{name_ratio(CANCELLED, settings.CANCEL_WINDOW)} > {settings.CANCEL_SHARE:g}"
            f" and {name_growth(CANCELLED, settings.CANCEL_WINDOW)} >= {settings.CANCEL_MINIMUM}",
            settings.CANCEL_WAIT,
            WARNING,
            board,
            "{{ $value | humanizePercentage }} of the tasks of {{ $labels.job }} end cancelled.",
            "Cancelled is neither an error nor a success. So many at once have one cause: a"
            " person, a deploy, a client that gives up.",
        ),
        Alert(
            "TapescopeCancelSlow",
            f"{cancels}:p95_{in_cancel} > {settings.CANCEL_SLOW_P95:g}"
            f" and {cancels}:count{in_cancel} >= {settings.CANCEL_SLOW_MINIMUM}",
            settings.CANCEL_WAIT,
            WARNING,
            board,
            f"Cancels ({{{{ $labels.{CANCEL_REASON} }}}}) of {{{{ $labels.job }}}} take"
            " {{ $value | humanizeDuration }} (p95).",
            "Runners do not heed their cancel and are fenced when their grace is over.",
        ),
        Alert(
            "TapescopeRunnersOverrun",
            f"sum by ({GROUP}, {OP}) ({pick(names.ZOMBIES)}) > 0",
            settings.OVERRUN_WAIT,
            WARNING,
            board,
            f"{{{{ $value }}}} runners of {{{{ $labels.{OP} }}}} go on after their task ended.",
            "They were cancelled or timed out, and do not stop. Past the cap (max_zombies) no"
            " task is started any more.",
        ),
        Alert(
            "TapescopeQueueWaitHigh",
            f"{queue}:p95_{in_queue} > {settings.QUEUE_WAIT_P95:g}"
            f" and {queue}:count{in_queue} >= {settings.QUEUE_MINIMUM}",
            settings.QUEUE_WAIT,
            WARNING,
            board,
            f"Tasks of {{{{ $labels.{OP} }}}} wait {{{{ $value | humanizeDuration }}}} (p95) for"
            " their claim.",
            "More tasks fall due than the workers take: too few slots, or slots held by slow"
            " tasks.",
        ),
        Alert(
            "TapescopeNoWorkerForOp",
            f"{DUE} > 0"
            f" and on ({GROUP}, {OP}) (max by ({GROUP}, {OP}) ({pick(names.OP_WORKERS)}) == 0)"
            f"{_unless_paused()}",
            settings.NO_WORKER_WAIT,
            CRITICAL,
            board,
            f"{{{{ $value }}}} tasks of {{{{ $labels.{OP} }}}} are due, and no worker takes them,"
            " or those of one of its queues.",
            "No living worker of the store has registered the op: none was started, the last one"
            " has ended, or the name is wrong. Or workers have it, and none takes a queue in which"
            " a task is due: tapescope stats names it. They wait until one comes.",
        ),
        Alert(
            "TapescopeUndispatched",
            f"max by ({GROUP}, {ENGINE}) ({pick(names.ENGINE_OVERDUE)}) > 0",
            settings.UNDISPATCHED_WAIT,
            CRITICAL,
            "tapescope-fleet",
            f"{{{{ $value }}}} pending tasks of {{{{ $labels.job }}}} have not reached"
            f" {{{{ $labels.{ENGINE} }}}}.",
            "The engine is away, or refuses them. They are on the store, and nothing is lost; but"
            " no worker is brought them until the engine takes them.",
        ),
        Alert(
            "TapescopeOldestWaitingHigh",
            exceeds(
                lambda chosen: f"max by ({GROUP}, {OP}) ({pick(names.OLDEST_DUE, chosen)})",
                settings.OLDEST_WAITING,
            )
            + _unless_paused(),
            settings.OLDEST_WAITING_WAIT,
            WARNING,
            board,
            f"A task of {{{{ $labels.{OP} }}}} has been due for"
            " {{ $value | humanizeDuration }}, and waits.",
            "The workers take less than falls due, or take none: too few slots, slots held by slow"
            " tasks, or no worker.",
        ),
        Alert(
            "TapescopeOpPaused",
            f"max by ({GROUP}, {OP}) ({pick(names.OP_PAUSED)}) > 0",
            settings.PAUSED_WAIT,
            WARNING,
            board,
            f"{{{{ $labels.{OP} }}}} has been paused for hours.",
            "Somebody paused the op on purpose, and no worker claims its tasks. While it is paused"
            " no alert tells how much waits.",
        ),
        Alert(
            "TapescopeBacklogGrowing",
            f"min_over_time({DUE}[{grown_in}]) > {settings.GROWTH_FACTOR:g}"
            f" * max_over_time({DUE}[{grown_in}] offset {durations(settings.GROWTH_SINCE)})"
            f" + {settings.GROWTH_MINIMUM}{_unless_paused(grown_in)}",
            settings.GROWTH_WAIT,
            WARNING,
            board,
            f"{{{{ $value }}}} tasks of {{{{ $labels.{OP} }}}} are due, and they become more.",
            "More is submitted than the workers finish. Half an hour ago there were two thirds of"
            " them at the most.",
        ),
        Alert(
            "TapescopeTaskStuck",
            f"({untimed} unless on ({GROUP}, {OP}) {timeout})"
            f" or max by ({GROUP}, {OP}) ({pick(names.RUNNING_AGE)})"
            f" > {settings.STUCK_FACTOR:g} * {timeout}",
            settings.STUCK_WAIT,
            WARNING,
            board,
            f"A task of {{{{ $labels.{OP} }}}} is active for {{{{ $value | humanizeDuration }}}}.",
            "It runs on past its timeout; or its op has none, and it is due and has not ended.",
        ),
        Alert(
            "TapescopeSubscriberLagHigh",
            f"max by ({INSTANCE}, {SUBSCRIBER_KIND}) ({pick(names.SUBSCRIBER_LAG)})"
            f" > {settings.SUBSCRIBER_LAG}",
            settings.SUBSCRIBER_WAIT,
            WARNING,
            "tapescope-integrity",
            "A follower on {{ $labels.instance }} is {{ $value }} events behind its tape.",
            "It reads slower than the task writes. No event is lost: a follower that falls too far"
            " behind reads the tape again.",
        ),
    ]


def _list_work(durations: Durations) -> list[Alert]:
    """Whether the work of an op goes on."""
    board = "tapescope-overview"
    window = durations(settings.THROUGHPUT_WINDOW)
    usual = (
        f"avg_over_time({FINISHED_OF_OP}[{durations(settings.THROUGHPUT_USUAL)}] offset {window})"
    )
    attempts = f"({or_zero(FINISHED_OF_OP, RETRIES_OF_OP)} + {RETRIES_OF_OP})"
    return [
        Alert(
            "TapescopeThroughputCollapsed",
            f"{or_zero(FINISHED_OF_OP, usual)} < {settings.THROUGHPUT_SHARE:g} * {usual}"
            f" and {usual} >= {settings.THROUGHPUT_MINIMUM}"
            f" and min_over_time({DUE}[{window}]) > 0"
            f" and on ({GROUP}, {OP}) max by ({GROUP}, {OP}) ({pick(names.OP_WORKERS)}) > 0"
            f"{_unless_paused(window)}",
            settings.THROUGHPUT_WAIT,
            CRITICAL,
            board,
            f"Tasks of {{{{ $labels.{OP} }}}} are due all the time, and only {{{{ $value }}}} have"
            " ended in a quarter of an hour.",
            "Less than a tenth of what usually ends. There are workers for the op: they stand"
            " still, or each task takes very long.",
        ),
        Alert(
            "TapescopeRetryRatioHigh",
            f"{RETRIES_OF_OP} / {attempts} > {settings.RETRY_SHARE:g}"
            f" and {RETRIES_OF_OP} >= {settings.RETRY_MINIMUM}",
            settings.RETRY_WAIT,
            WARNING,
            board,
            f"{{{{ $value | humanizePercentage }}}} of the attempts of {{{{ $labels.{OP} }}}} fail"
            " and are made again.",
            "Tasks may succeed all the same, later and at several times the cost. When their"
            " retries are spent they fail.",
        ),
    ]


def _list_server() -> list[Alert]:
    window = settings.SERVER_WINDOW
    return [
        Alert(
            "TapescopeServerErrors",
            f"{name_ratio(SERVER_ERRORS, window)} > {settings.SERVER_ERROR_SHARE:g}"
            f" and {name_growth(SERVER_ERRORS, window)} >= {settings.SERVER_ERROR_MINIMUM}",
            settings.SERVER_ERROR_WAIT,
            WARNING,
            "tapescope-process",
            "{{ $value | humanizePercentage }} of the requests to the HTTP API of"
            " {{ $labels.job }} fail.",
            "Answers from 500 on: the store is away, the server is full, or a defect. Clients try"
            " again, and give up after a while.",
        ),
    ]


def _list_store(durations: Durations) -> list[Alert]:
    board = "tapescope-store"
    errors = "job_adapter:tapescope_store_errors"
    append = "job_adapter:tapescope_store_append_duration_seconds"
    window = _NAMES(settings.STORE_WINDOW)
    free, size = pick(names.DISK_FREE), pick(names.DISK_SIZE)
    filling = durations(settings.DISK_FILLING)
    within = durations.milliseconds(settings.DISK_FULL_WITHIN) / 1_000
    return [
        Alert(
            "TapescopeStoreErrors",
            f"{errors}:ratio_increase{window} > {settings.STORE_ERROR_SHARE:g}"
            f" and {errors}:increase{window} >= {settings.STORE_ERROR_MINIMUM}",
            settings.STORE_ERROR_WAIT,
            CRITICAL,
            board,
            f"{{{{ $value | humanizePercentage }}}} of the calls to the {{{{ $labels.{ADAPTER} }}}}"
            " store of {{ $labels.job }} fail.",
            "While the store is away nothing new is acknowledged; what was acknowledged is safe.",
        ),
        Alert(
            "TapescopeStoreAppendSlow",
            f"{append}:p99_{window} > {settings.STORE_SLOW_P99:g}"
            f" and {append}:count{window} >= {settings.STORE_SLOW_MINIMUM}",
            settings.STORE_SLOW_WAIT,
            WARNING,
            board,
            f"Appends to the {{{{ $labels.{ADAPTER} }}}} store of {{{{ $labels.job }}}} take"
            " {{ $value | humanizeDuration }} (p99).",
            "Each report of a runner waits that long: the disk, a lock, or a database that is"
            " busy with something else.",
        ),
        Alert(
            "TapescopeStoreLogLarge",
            f"max by ({INSTANCE}, {ADAPTER}) ({pick(names.LOG_SIZE)}) > {settings.STORE_LOG_BYTES}",
            settings.STORE_LOG_WAIT,
            WARNING,
            board,
            f"The log of the {{{{ $labels.{ADAPTER} }}}} store of {{{{ $labels.instance }}}} has"
            " {{ $value | humanize1024 }}B.",
            "A transaction of some process has been open for long, perhaps one that only reads, and"
            " the log grows until it ends: it may fill the disk.",
        ),
        Alert(
            "TapescopeDiskLow",
            f"{free} < {settings.DISK_BYTES} and {free} < {settings.DISK_SHARE:g} * {size}"
            f" or {free} < {settings.DISK_FILLING_SHARE:g} * {size}"
            f" and predict_linear({free}[{filling}], {within:g}) < 0"
            f" and {free} offset {filling}",
            settings.DISK_WAIT,
            CRITICAL,
            board,
            "{{ $value | humanize1024 }}B are left on the disk of the store of"
            " {{ $labels.instance }}.",
            "At the pace of the last hour it is full within four, or it nearly is. On a full disk"
            " nothing new is acknowledged.",
        ),
        Alert(
            "TapescopeQuarantineFull",
            f"max by ({GROUP}, {ADAPTER}) ({pick(names.QUARANTINE_SIZE)})"
            f" >= {settings.QUARANTINE_EVENTS}",
            settings.QUARANTINE_WAIT,
            WARNING,
            "tapescope-integrity",
            f"The quarantine of the {{{{ $labels.{ADAPTER} }}}} store of {{{{ $labels.job }}}}"
            " holds {{ $value }} late events.",
            "It keeps 1,000 of a task, and 10,000 of tasks that the store does not know. What is"
            " past that is counted, and not kept. Nothing deletes what it keeps but a retention.",
        ),
    ]


def _list_telemetry(durations: Durations) -> list[Alert]:
    board = "tapescope-process"
    window = settings.TELEMETRY_WINDOW
    lost = " or ".join(
        durations.grown(pick(name, f'{ERROR}!=""'), window)
        for name in (
            "otel_sdk_processor_span_processed_total",
            "otel_sdk_exporter_span_exported_total",
        )
    )
    defects = durations.grown(pick(names.LOOP_ERRORS), settings.LOOP_WINDOW)
    raised = durations.grown(pick(names.TELEMETRY_ERRORS), window)
    lives = f'job!="{settings.DRILL_JOB}"'
    up = pick("up", lives)
    known = f"last_over_time({pick(BUILD_INFO)}[{durations(settings.TARGET_KNOWN)}])"
    left = f"last_over_time({pick(names.LIMIT, lives)}[{durations(settings.TARGET_GONE)}])"
    age = f"max by ({INSTANCE}) ({pick(names.HEARTBEAT_AGE)})"
    lease = f"min by ({INSTANCE}) ({pick(names.LEASE_DURATION)})"
    crashes = durations(settings.CRASH_WINDOW)
    by_name = f" or {pick('up', lives, settings.TARGETS)} == 0" if settings.TARGETS else ""
    series = pick("", '__name__=~"tapescope_.+"', 'otel_metric_overflow=~"(?i:true)"')
    return [
        Alert(
            "TapescopeTelemetryLossy",
            f"sum by ({INSTANCE}) ({lost}) > 0",
            0,
            WARNING,
            board,
            "{{ $labels.instance }} lost {{ $value }} spans.",
            "Tasks are not touched by it; their traces have holes. Metrics that are pushed the"
            " same way may be late as well.",
        ),
        Alert(
            "TapescopeTelemetryErrors",
            f"sum by ({INSTANCE}, {SOURCE}) {raised} > 0",
            0,
            WARNING,
            board,
            f"Telemetry of {{{{ $labels.instance }}}} raised {{{{ $value }}}} times:"
            f" {{{{ $labels.{SOURCE} }}}}.",
            "Tasks are not touched by it. What was to be told is missing: a span, a measurement or"
            " a line of the log.",
        ),
        Alert(
            "TapescopeMetricOverflow",
            f"count by ({INSTANCE}) ({series}) > 0",
            0,
            WARNING,
            board,
            "{{ $value }} metrics of {{ $labels.instance }} have more series than the SDK keeps.",
            "What is past the limit is counted together, without labels; sums stay right, parts"
            " do not.",
        ),
        Alert(
            "TapescopeLoopErrors",
            f"sum by ({INSTANCE}, {LOOP}) {defects} > 0",
            0,
            WARNING,
            board,
            f"The loop {{{{ $labels.{LOOP} }}}} of {{{{ $labels.instance }}}} met {{{{ $value }}}}"
            " defects.",
            "It goes on. What it does for every task may not be done: claims, leases, rescues,"
            " audits, or news of other processes.",
        ),
        Alert(
            "TapescopeHeartbeatLate",
            f"{age} > {lease}",
            settings.HEARTBEAT_WAIT,
            CRITICAL,
            board,
            "The store has answered no heartbeat of {{ $labels.instance }} for"
            " {{ $value | humanizeDuration }}.",
            "Longer than a lease. Its event loop is blocked, or its store does not answer: it takes"
            " no task, hears of no cancel, and is not ready.",
        ),
        Alert(
            "TapescopeCrashLoop",
            f"changes({pick(START)}[{crashes}]) >= {settings.CRASH_STARTS}"
            f" and on ({INSTANCE}) last_over_time({pick(BUILD_INFO)}[{crashes}])",
            0,
            CRITICAL,
            board,
            "{{ $labels.instance }} of {{ $labels.job }} began anew {{ $value }} times in half an"
            " hour.",
            "Each end takes the tasks that run there with it: they are rescued at the cost of a"
            " retry each, and fail when those are spent.",
        ),
        Alert(
            "TapescopeTargetDown",
            f"{up} == 0 and on ({GROUP}) {known}{by_name}"
            f" or group by ({GROUP}) ({left} > 0)"
            f" unless on ({GROUP}) ({pick(names.LIMIT)} or {up} == 0)",
            settings.TARGET_DOWN_WAIT,
            CRITICAL,
            board,
            "{{ with $labels.instance }}Prometheus cannot scrape {{ . }} of {{ else }}"
            "No process is left of {{ end }}{{ $labels.job }}.",
            "Of what cannot be scraped, or has stopped to push, no other alert can fire.",
        ),
    ]

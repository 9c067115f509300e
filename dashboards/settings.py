"""Every objective, threshold, window and address of the pack, in one place.

Change a value here and run ``make dashboards``; nothing else has to be edited. Times are seconds.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

MINUTE: Final = 60
HOUR: Final = 60 * MINUTE
DAY: Final = 24 * HOUR

SELECTOR: Final = os.environ.get("DASHBOARDS_SELECTOR", "")
"""A matcher that every query gets, for a Prometheus that holds more than is yours: for instance
``cluster="eu"``. The variable of this name sets it for one build."""
AGGREGATION_LABELS: Final = tuple(
    os.environ.get("DASHBOARDS_AGGREGATION_LABELS", "cluster,namespace,job").split(",")
)
"""What tells one group of your processes from another: rules sum by these labels, alerts carry
them, and each board has a variable for each. A label that your series lack does no harm. ``job``
must be the last; the variable of this name, with commas, sets them for one build."""
TARGETS: Final = os.environ.get("DASHBOARDS_TARGETS", "")
"""A matcher of targets that are yours by their labels, for instance ``job=~".+-worker"``: one that
cannot be scraped is told of though no process of its job ever told anything. The variable of this
name sets it for one build."""
INSTANCE_LABELS: Final = (*AGGREGATION_LABELS, "instance")
"""What tells one process from another."""

JOB: Final = "tapescope"
"""The job of the scrape configuration that the pack brings along; no query names it."""

DRILL_JOB: Final = "tapescope-drill"
"""The scrape job of `tapescope drill`: its alerts say so, and no alert fires when it is gone."""

DASHBOARDS_URL: Final = "https://grafana.example"
"""Your Grafana; an alert links to ``<this>/d/<board>``, with its own labels chosen."""
RUNBOOKS_URL: Final = "https://runbooks.example/tapescope"
"""Where your team reads ``dashboards/runbooks``; an alert links to ``<this>/<alert>.md``."""
TASK_PAGES_URL: Final = "http://127.0.0.1:8080"
"""Where the task pages are; a trace id leads to ``<this>/trace/<trace id>``."""

EVALUATION: Final = 15
SCRAPE: Final = 15


@dataclass(frozen=True, slots=True)
class BurnRate:
    """One pair of windows of a multiwindow burn-rate alert.

    ``rate`` is how many times faster than allowed the error budget is spent; the alert needs it in
    both windows, so that it comes early (``long``) and goes soon after the end (``short``).
    """

    rate: float
    long: int
    short: int
    wait: int
    severity: str


BURN_RATES: Final = (
    BurnRate(14.4, HOUR, 5 * MINUTE, 2 * MINUTE, "critical"),
    BurnRate(6, 6 * HOUR, 30 * MINUTE, 15 * MINUTE, "critical"),
    BurnRate(3, DAY, 2 * HOUR, HOUR, "warning"),
    BurnRate(1, 3 * DAY, 6 * HOUR, 3 * HOUR, "warning"),
)
BURN_WINDOWS: Final = tuple(sorted({w for pair in BURN_RATES for w in (pair.long, pair.short)}))

DROP_OBJECTIVE: Final = 0.999
"""The share of offered events that must not be dropped."""
DROP_MINIMUM: Final = 10
"""Fewer drops than this in the long window never page: a ratio of few events means little."""
FAILURE_OBJECTIVE: Final = 0.99
"""The share of finished tasks, cancelled ones left out, that must succeed."""
FAILURE_MINIMUM: Final = 10


@dataclass(frozen=True, slots=True)
class OpTable:
    """A number for each op: one of its own, where it is named, and else the default."""

    default: float
    own: Mapping[str, float] = field(default_factory=dict[str, float])


OP_OBJECTIVES: Final = OpTable(FAILURE_OBJECTIVE)
"""As ``FAILURE_OBJECTIVE``, of each op by itself: ``OpTable(0.99, {"mail": 0.95})``."""
OP_BURN_RATES: Final = BURN_RATES[:2]
"""Of each op the two that page: slower ones are asked of a job as a whole."""

BUDGET_WINDOW: Final = 14 * DAY
"""Over so long what is left of an op's error budget is counted. Prometheus keeps 15 days unless it
is told otherwise (``--storage.tsdb.retention.time``): keep more for a longer one."""
BUDGET_STEP: Final = OP_BURN_RATES[0].short
"""The recorded growths that are added up are so long, and as far apart."""

BRIDGED_GAP: Final = 2 * HOUR
"""How long nothing may be scraped without a series that comes back being taken for a new one."""
NOTICED: Final = 2 * MINUTE
"""How long after its start a process is scraped first, at the latest, for what it began with to
count; a process that is older and was never scraped before brings a past that is no news."""
PUSHED: Final = 90
"""Longer than between two pushes, which is a minute: what pushes no more by then has ended."""
ZERO_TOLERANCE_WINDOW: Final = 15 * MINUTE
"""How long a duplicate final or a stale write keeps its alert."""
VIOLATION_WINDOW: Final = 2 * HOUR
"""Longer than the time between two audits, or a violation that stays would come and go."""
UNACCOUNTED_WAIT: Final = 2 * MINUTE

AUDIT_STALE_AGE: Final = 3 * HOUR
AUDIT_STALE_WAIT: Final = 5 * MINUTE
AUDIT_MISSING_WAIT: Final = 2 * HOUR

CANCEL_WINDOW: Final = 15 * MINUTE
CANCEL_SHARE: Final = 0.3
"""More of the finished tasks than this were cancelled: a spike."""
CANCEL_MINIMUM: Final = 20
CANCEL_WAIT: Final = 5 * MINUTE
CANCEL_SLOW_P95: Final = 12.0
"""Over the default ``cancel_grace`` of 10 seconds: what is fenced at its end is no news."""
CANCEL_SLOW_MINIMUM: Final = 5
OVERRUN_WAIT: Final = 5 * MINUTE

QUEUE_WINDOW: Final = 10 * MINUTE
QUEUE_WAIT_P95: Final = 60.0
QUEUE_MINIMUM: Final = 10
QUEUE_WAIT: Final = 10 * MINUTE
NO_WORKER_WAIT: Final = 2 * MINUTE
"""A worker that was killed is missed after 90 seconds: a page comes within five minutes."""
UNDISPATCHED_WAIT: Final = 2 * MINUTE
"""On top of the minute after which a task is overdue."""
OLDEST_WAITING: Final = OpTable(15 * MINUTE)
"""How long a task of an op may have been due: ``OpTable(15 * MINUTE, {"nightly": 8 * HOUR})``."""
OLDEST_WAITING_WAIT: Final = 5 * MINUTE
PAUSED_WAIT: Final = 4 * HOUR
"""An op that is paused for longer was forgotten, or is told of once more."""
GROWTH_WINDOW: Final = 10 * MINUTE
GROWTH_SINCE: Final = 30 * MINUTE
"""The least that was due within the window is compared with the most that was so long before."""
GROWTH_FACTOR: Final = 1.5
GROWTH_MINIMUM: Final = 100
"""Tasks more than before; a backlog of few comes and goes."""
GROWTH_WAIT: Final = 10 * MINUTE
THROUGHPUT_WINDOW: Final = 15 * MINUTE
THROUGHPUT_USUAL: Final = HOUR
"""What finishes is compared with the mean of this long before the window."""
THROUGHPUT_SHARE: Final = 0.1
THROUGHPUT_MINIMUM: Final = 30
"""Tasks that usually finish in a window; of an op with fewer, none for a while is usual."""
THROUGHPUT_WAIT: Final = 5 * MINUTE
RETRY_WINDOW: Final = 15 * MINUTE
RETRY_SHARE: Final = 0.5
"""More of the attempts than this fail and are made again."""
RETRY_MINIMUM: Final = 20
RETRY_WAIT: Final = 10 * MINUTE
STUCK_AGE: Final = OpTable(2 * HOUR)
"""Older than a task of an op should get, where no worker has registered a timeout for the op."""
STUCK_FACTOR: Final = 1.5
"""A run that is older than so many times the op's timeout goes on past it."""
STUCK_WAIT: Final = 5 * MINUTE
SUBSCRIBER_LAG: Final = 1_000
SUBSCRIBER_WAIT: Final = 5 * MINUTE

SERVER_WINDOW: Final = 5 * MINUTE
SERVER_ERROR_SHARE: Final = 0.05
SERVER_ERROR_MINIMUM: Final = 10
SERVER_ERROR_WAIT: Final = 5 * MINUTE

STORE_WINDOW: Final = 5 * MINUTE
STORE_ERROR_SHARE: Final = 0.01
STORE_ERROR_MINIMUM: Final = 5
STORE_ERROR_WAIT: Final = 2 * MINUTE
STORE_SLOW_P99: Final = 0.25
STORE_SLOW_MINIMUM: Final = 100
STORE_SLOW_WAIT: Final = 5 * MINUTE
STORE_LOG_BYTES: Final = 256 * 2**20
"""Four times as large as a log that starts anew is kept: SQLite shortens it to 64 MiB."""
STORE_LOG_WAIT: Final = 10 * MINUTE

DISK_SHARE: Final = 0.03
"""Less of a disk free than this, and less than ``DISK_BYTES``: the next burst may fill it."""
DISK_BYTES: Final = 2**30
DISK_FILLING: Final = HOUR
"""How long a disk must be known, and filled how, to tell when it is full."""
DISK_FULL_WITHIN: Final = 4 * HOUR
DISK_FILLING_SHARE: Final = 0.2
"""A disk with more free than this is not told of, however fast it fills."""
DISK_WAIT: Final = 5 * MINUTE
QUARANTINE_WAIT: Final = 15 * MINUTE
QUARANTINE_EVENTS: Final = 10_000
"""So many are kept of tasks that a store does not know, and 1,000 of each task that it knows; what
is past that is counted, and not kept."""

CRASH_WINDOW: Final = 30 * MINUTE
CRASH_STARTS: Final = 4
"""A process that began anew so often in the window does not live: a deploy starts it once."""
HEARTBEAT_WAIT: Final = 2 * MINUTE
"""Longer than an orchestrator takes to start a process anew that is not ready, or alive."""
LOOP_WINDOW: Final = 15 * MINUTE
TELEMETRY_WINDOW: Final = 15 * MINUTE
TARGET_DOWN_WAIT: Final = 2 * MINUTE
TARGET_KNOWN: Final = DAY
"""For how long a target that cannot be scraped is known to be one of ours by what it told."""
TARGET_GONE: Final = HOUR
"""For how long a job of which no process is left is missed, unless its last one ended in order."""

IMAGES: Final = {
    "python": "python:3.12-slim-bookworm",
    "collector": "otel/opentelemetry-collector-contrib:0.131.0",
    "prometheus": "prom/prometheus:v3.5.0",
    "alertmanager": "prom/alertmanager:v0.28.1",
    "tempo": "grafana/tempo:2.8.1",
    "grafana": "grafana/grafana:12.3.1",
}

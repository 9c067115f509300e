"""A scrape as Prometheus makes it, read with ``prometheus_client``'s strict parser."""

from __future__ import annotations

import urllib.error
import urllib.request
from collections.abc import Iterable
from dataclasses import dataclass
from email.message import Message

from prometheus_client import Metric as Family
from prometheus_client.openmetrics.parser import (
    text_string_to_metric_families,  # pyright: ignore[reportUnknownVariableType]  # as below
)
from prometheus_client.samples import Sample

__all__ = ["OPENMETRICS", "SCRAPE_NAMES", "Answer", "Scraped", "fetch", "scrape"]

OPENMETRICS = "application/openmetrics-text; version=1.0.0"

# Copied by hand from the published contract: OpenTelemetry name → type and name on the scrape.
SCRAPE_NAMES: dict[str, tuple[str, str]] = {
    "tapescope.task.submitted": ("counter", "tapescope_task_submitted_total"),
    "tapescope.task.refused": ("counter", "tapescope_task_refused_total"),
    "tapescope.task.duration": ("histogram", "tapescope_task_duration_seconds"),
    "tapescope.task.active": ("gauge", "tapescope_task_active"),
    "tapescope.task.limit": ("gauge", "tapescope_task_limit"),
    "tapescope.task.queue.wait_time": ("histogram", "tapescope_task_queue_wait_time_seconds"),
    "tapescope.task.oldest_active.age": ("gauge", "tapescope_task_oldest_active_age_seconds"),
    "tapescope.task.retries": ("counter", "tapescope_task_retries_total"),
    "tapescope.task.rescued": ("counter", "tapescope_task_rescued_total"),
    "tapescope.message.count": ("counter", "tapescope_message_count_total"),
    "tapescope.schedule.firings": ("counter", "tapescope_schedule_firings_total"),
    "tapescope.schedule.lateness": ("histogram", "tapescope_schedule_lateness_seconds"),
    "tapescope.engine.task.brought": ("counter", "tapescope_engine_task_brought_total"),
    "tapescope.engine.task.reconciled": ("counter", "tapescope_engine_task_reconciled_total"),
    "tapescope.engine.task.overdue": ("gauge", "tapescope_engine_task_overdue"),
    "tapescope.task.zombies": ("gauge", "tapescope_task_zombies"),
    "tapescope.cancel.requests": ("counter", "tapescope_cancel_requests_total"),
    "tapescope.cancel.duration": ("histogram", "tapescope_cancel_duration_seconds"),
    "tapescope.cancel.overrun": ("histogram", "tapescope_cancel_overrun_seconds"),
    "tapescope.tape.event.offered": ("counter", "tapescope_tape_event_offered_total"),
    "tapescope.tape.event.appended": ("counter", "tapescope_tape_event_appended_total"),
    "tapescope.tape.event.dropped": ("counter", "tapescope_tape_event_dropped_total"),
    "tapescope.tape.event.failed": ("counter", "tapescope_tape_event_failed_total"),
    "tapescope.tape.event.unaccounted": ("gauge", "tapescope_tape_event_unaccounted"),
    "tapescope.tape.length": ("histogram", "tapescope_tape_length"),
    "tapescope.tape.audit.checked": ("counter", "tapescope_tape_audit_checked_total"),
    "tapescope.tape.audit.violations": ("counter", "tapescope_tape_audit_violations_total"),
    "tapescope.tape.audit.last_success.timestamp": (
        "gauge",
        "tapescope_tape_audit_last_success_timestamp_seconds",
    ),
    "tapescope.store.operation.duration": (
        "histogram",
        "tapescope_store_operation_duration_seconds",
    ),
    "tapescope.store.flush.size": ("histogram", "tapescope_store_flush_size"),
    "tapescope.subscriber.active": ("gauge", "tapescope_subscriber_active"),
    "tapescope.subscriber.lag": ("gauge", "tapescope_subscriber_lag"),
    "tapescope.store.clock.skew": ("gauge", "tapescope_store_clock_skew_seconds"),
    "tapescope.store.notifications.foreign": (
        "counter",
        "tapescope_store_notifications_foreign_total",
    ),
    "tapescope.store.log.size": ("gauge", "tapescope_store_log_size_bytes"),
    "tapescope.store.file.size": ("gauge", "tapescope_store_file_size_bytes"),
    "tapescope.store.file.free": ("gauge", "tapescope_store_file_free_bytes"),
    "tapescope.store.disk.free": ("gauge", "tapescope_store_disk_free_bytes"),
    "tapescope.store.disk.size": ("gauge", "tapescope_store_disk_size_bytes"),
    "tapescope.store.quarantine.size": ("gauge", "tapescope_store_quarantine_size"),
    "tapescope.store.flush.wait_time": ("histogram", "tapescope_store_flush_wait_time_seconds"),
    "tapescope.store.queue.depth": ("gauge", "tapescope_store_queue_depth"),
    "tapescope.store.connections": ("gauge", "tapescope_store_connections"),
    "tapescope.store.connections.waiting": ("gauge", "tapescope_store_connections_waiting"),
    "tapescope.loop.lag": ("gauge", "tapescope_loop_lag_seconds"),
    "tapescope.heartbeat.age": ("gauge", "tapescope_heartbeat_age_seconds"),
    "tapescope.lease.duration": ("gauge", "tapescope_lease_duration_seconds"),
    "tapescope.lease.margin": ("gauge", "tapescope_lease_margin_seconds"),
    "tapescope.task.backlog": ("gauge", "tapescope_task_backlog"),
    "tapescope.task.oldest_due.age": ("gauge", "tapescope_task_oldest_due_age_seconds"),
    "tapescope.task.running.age": ("gauge", "tapescope_task_running_age_seconds"),
    "tapescope.op.workers": ("gauge", "tapescope_op_workers"),
    "tapescope.op.paused": ("gauge", "tapescope_op_paused"),
    "tapescope.op.timeout": ("gauge", "tapescope_op_timeout_seconds"),
    "tapescope.loop.errors": ("counter", "tapescope_loop_errors_total"),
    "tapescope.telemetry.errors": ("counter", "tapescope_telemetry_errors_total"),
}


@dataclass(frozen=True)
class Answer:
    """What a path of the listener answers."""

    status: int
    text: str
    headers: Message


def fetch(url: str, accept: str = "", method: str = "GET") -> Answer:
    """Ask, and wait for the answer on this very thread."""
    request = urllib.request.Request(url, headers={"Accept": accept}, method=method)
    try:
        with urllib.request.urlopen(request, timeout=30) as answer:
            return Answer(answer.status, answer.read().decode(), answer.headers)
    except urllib.error.HTTPError as refused:
        with refused:
            return Answer(refused.code, refused.read().decode(), refused.headers)


class Scraped:
    """The families of one scrape in OpenMetrics, parsed strictly."""

    def __init__(self, text: str) -> None:
        parsed: Iterable[Family] = text_string_to_metric_families(text)  # type: ignore[no-untyped-call]  # prometheus_client left it out
        self.families = {family.name: family for family in parsed}

    @property
    def ours(self) -> dict[str, str]:
        """The types of tapescope's metrics by the name that a query has."""
        return {
            f"{name}_total" if family.type == "counter" else name: family.type
            for name, family in self.families.items()
            if name.startswith("tapescope_") and family.type != "info"
        }

    @property
    def samples(self) -> list[Sample]:
        """All of them."""
        return [sample for family in self.families.values() for sample in family.samples]

    @property
    def exemplars(self) -> dict[tuple[str, frozenset[tuple[str, str]]], str]:
        """The trace ids of the exemplars, by series."""
        return {
            (sample.name, frozenset(sample.labels.items())): sample.exemplar.labels["trace_id"]
            for sample in self.samples
            if sample.exemplar is not None
        }

    def total(self, name: str, **labels: str) -> float:
        """The sum of all samples of this name with these labels, their prefix left out."""
        return sum(self._pick(name, labels))

    def value(self, name: str, **labels: str) -> float:
        """The value of the only sample of this name with these labels, their prefix left out."""
        (value,) = self._pick(name, labels)
        return value

    def _pick(self, name: str, labels: dict[str, str]) -> list[float]:
        return [
            sample.value
            for sample in self.samples
            if sample.name == name
            and labels.items()
            <= {k.removeprefix("tapescope_"): v for k, v in sample.labels.items()}.items()
        ]


def scrape(url: str) -> Scraped:
    """One scrape of the listener at ``url``, as OpenMetrics."""
    answer = fetch(f"{url}/metrics", OPENMETRICS)
    assert answer.status == 200, answer.text
    return Scraped(answer.text)

"""The telemetry contract as a table: every span, metric and attribute name, once.

Instruments are made from these rows and the reference page is generated from them, so a name that
is not here does not exist. Names are public API: to change one breaks the alerts of users. The
values of closed attributes are the enums of ``tapescope.model``.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Literal

from tapescope.model import LinkKind

__all__ = [
    "ACTIVE",
    "AUDIT_CHECKED",
    "AUDIT_LAST_SUCCESS",
    "AUDIT_VIOLATIONS",
    "BACKLOG",
    "CANCEL_DURATION",
    "CANCEL_OVERRUN",
    "CANCEL_REQUESTS",
    "CLOCK_SKEW",
    "CONNECTIONS",
    "CONNECTION_WAITERS",
    "DISK_FREE",
    "DISK_SIZE",
    "DURATION",
    "ENGINE_BROUGHT",
    "ENGINE_OVERDUE",
    "ENGINE_RECONCILED",
    "EVENT_APPENDED",
    "EVENT_DROPPED",
    "EVENT_FAILED",
    "EVENT_OFFERED",
    "EVENT_UNACCOUNTED",
    "EXPORTER_METRICS",
    "FILE_FREE",
    "FILE_SIZE",
    "FIRINGS",
    "FLUSH_SIZE",
    "FLUSH_WAIT",
    "FOREIGN_NOTIFICATIONS",
    "HEARTBEAT_AGE",
    "LATENESS",
    "LEASE_DURATION",
    "LEASE_MARGIN",
    "LIMIT",
    "LOG_SIZE",
    "LOOP_ERRORS",
    "LOOP_LAG",
    "MESSAGES",
    "METRICS",
    "OLDEST_ACTIVE",
    "OLDEST_DUE",
    "OPERATION_DURATION",
    "OP_PAUSED",
    "OP_TIMEOUT",
    "OP_WORKERS",
    "OTHER",
    "QUARANTINE_SIZE",
    "QUEUE_DEPTH",
    "QUEUE_WAIT",
    "REFUSED",
    "RESCUE",
    "RESCUED",
    "RETRIES",
    "RUN",
    "RUNNING_AGE",
    "SCHEMA_URL",
    "SCOPE_NAME",
    "SERVER_ABORTED",
    "SERVER_DURATION",
    "SERVER_METRICS",
    "SERVER_REFUSED",
    "SERVER_STREAMS",
    "SERVER_STREAMS_ENDED",
    "SPANS",
    "STORE_FINISHED",
    "STORE_SUBMITTED",
    "SUBMIT",
    "SUBMITTED",
    "SUBSCRIBERS",
    "SUBSCRIBER_LAG",
    "TAPE_LENGTH",
    "TELEMETRY_ERRORS",
    "ZOMBIES",
    "Attribute",
    "MessagingAttribute",
    "MetricRow",
    "SpanRow",
]

SCOPE_NAME: Final = "tapescope"
SCHEMA_URL: Final = "https://opentelemetry.io/schemas/1.44.0"

OTHER: Final = "_OTHER"
"""Stands for every value of a label past its cap, and for one that is not known."""


class Attribute:
    """Attribute names. All have the prefix ``tapescope.`` but the last five, which are borrowed."""

    OP: Final = "tapescope.task.op"
    TASK_ID: Final = "tapescope.task.id"
    TAGS: Final = "tapescope.task.tags"
    PARENT_ID: Final = "tapescope.task.parent.id"
    STATE: Final = "tapescope.task.state"
    OUTCOME: Final = "tapescope.task.outcome"
    ATTEMPT: Final = "tapescope.task.attempt"
    OWNER: Final = "tapescope.task.owner"
    QUEUE_WAIT: Final = "tapescope.task.queue.wait_time"
    TIMEOUT: Final = "tapescope.task.timeout"
    RETRIES_LEFT: Final = "tapescope.task.retries.left"
    RESCUE_RESULT: Final = "tapescope.rescue.result"
    CANCEL_REASON: Final = "tapescope.cancel.reason"
    CANCEL_REQUESTED: Final = "tapescope.cancel.requested"
    TAPE_LENGTH: Final = "tapescope.tape.length"
    TAPE_DROPPED: Final = "tapescope.tape.dropped"
    TAPE_OUTCOME: Final = "tapescope.tape.outcome"
    EVENT_TYPE: Final = "tapescope.event.type"
    DROP_REASON: Final = "tapescope.drop.reason"
    AUDIT_RULE: Final = "tapescope.audit.rule"
    ADAPTER: Final = "tapescope.store.adapter"
    OPERATION: Final = "tapescope.store.operation"
    SUBSCRIBER_KIND: Final = "tapescope.subscriber.kind"
    TELEMETRY_SOURCE: Final = "tapescope.telemetry.source"
    LOOP: Final = "tapescope.loop.name"
    CONNECTION_STATE: Final = "tapescope.connection.state"
    SCHEDULE: Final = "tapescope.schedule.name"
    FIRING_TIME: Final = "tapescope.schedule.firing_time"
    FIRING_OUTCOME: Final = "tapescope.schedule.outcome"
    MESSAGE_RESULT: Final = "tapescope.message.result"
    ENGINE: Final = "tapescope.engine.name"
    BROUGHT_RESULT: Final = "tapescope.engine.result"
    HELD_REASON: Final = "tapescope.engine.held.reason"
    RECONCILE_RESULT: Final = "tapescope.engine.reconcile.result"
    LINK: Final = "tapescope.link"
    STREAM_END: Final = "tapescope.server.stream.end"
    REFUSAL: Final = "tapescope.server.refusal"
    ABORT: Final = "tapescope.server.abort"
    METHOD: Final = "http.request.method"
    ROUTE: Final = "http.route"
    STATUS: Final = "http.response.status_code"
    ERROR_TYPE: Final = "error.type"
    FUNCTION: Final = "code.function.name"


class MessagingAttribute:
    """What OpenTelemetry's convention for messaging has of a task, where it is asked for."""

    SYSTEM: Final = "messaging.system"
    OPERATION_NAME: Final = "messaging.operation.name"
    OPERATION_TYPE: Final = "messaging.operation.type"
    DESTINATION: Final = "messaging.destination.name"
    MESSAGE_ID: Final = "messaging.message.id"


@dataclass(frozen=True, slots=True)
class SpanRow:
    """One span of the contract; ``name`` has the op in it."""

    name: str
    kind: Literal["PRODUCER", "CONSUMER", "INTERNAL"]
    parent: str
    attributes: tuple[str, ...]
    optional: tuple[str, ...] = ()
    """Attributes that only some of these spans carry."""
    links: tuple[LinkKind, ...] = ()
    """Where its links may lead; each says so."""
    messaging: str = ""
    """The type of operation that the convention for messaging sees in it; empty for none."""

    def of(self, op: str) -> str:
        """The span's name for this op."""
        return self.name.format(op=op)

    def describe_message(self, op: str, task_id: str) -> dict[str, str]:
        """The attributes of the convention for messaging: a task is a message, its op a queue."""
        if not self.messaging:
            return {}
        return {
            MessagingAttribute.SYSTEM: SCOPE_NAME,
            MessagingAttribute.OPERATION_NAME: self.name.partition(" ")[0],
            MessagingAttribute.OPERATION_TYPE: self.messaging,
            MessagingAttribute.DESTINATION: op,
            MessagingAttribute.MESSAGE_ID: task_id,
        }


@dataclass(frozen=True, slots=True)
class MetricRow:
    """One metric of the contract.

    ``tallied`` ones are plain integers behind an observable instrument of the same data type: what
    the hot path touches costs a dictionary entry there, and no call into the SDK.
    """

    name: str
    kind: Literal["counter", "updowncounter", "histogram", "gauge"]
    unit: str
    description: str
    attributes: tuple[str, ...] = ()
    optional: tuple[str, ...] = ()
    """Attributes that only some of its series carry; they come after ``attributes``."""
    boundaries: tuple[float, ...] = ()
    """A histogram's advisory bucket boundaries, in ``unit``."""
    tallied: bool = False


_A = Attribute

SUBMIT: Final = SpanRow(
    "submit {op}",
    "PRODUCER",
    "the caller's",
    (_A.OP, _A.TASK_ID, _A.ADAPTER),
    (_A.SCHEDULE, _A.FIRING_TIME, _A.TAGS, _A.PARENT_ID, _A.ERROR_TYPE),
    messaging="send",
)
RUN: Final = SpanRow(
    "run {op}",
    "CONSUMER",
    "none: a new root",
    (_A.OP, _A.TASK_ID, _A.OUTCOME, _A.ATTEMPT, _A.OWNER, _A.RETRIES_LEFT, _A.FUNCTION),
    (
        *(_A.QUEUE_WAIT, _A.TIMEOUT, _A.TAPE_LENGTH, _A.TAPE_DROPPED),
        *(_A.CANCEL_REASON, _A.CANCEL_REQUESTED, _A.ENGINE, _A.ERROR_TYPE),
    ),
    (LinkKind.SUBMIT, LinkKind.PREVIOUS_ATTEMPT, LinkKind.CANCEL),
    messaging="process",
)
RESCUE: Final = SpanRow(
    "rescue {op}",
    "INTERNAL",
    "none: a new root",
    (_A.OP, _A.TASK_ID, _A.OUTCOME, _A.ATTEMPT, _A.OWNER),
    (_A.TAPE_LENGTH, _A.CANCEL_REASON, _A.CANCEL_REQUESTED, _A.ERROR_TYPE),
    (LinkKind.SUBMIT, LinkKind.RESCUED_RUN, LinkKind.CANCEL),
)
CANCEL: Final = SpanRow(
    "cancel {op}",
    "INTERNAL",
    "the canceller's",
    (
        *(_A.OP, _A.TASK_ID, _A.OUTCOME, _A.ATTEMPT),
        *(_A.CANCEL_REASON, _A.CANCEL_REQUESTED, _A.TAPE_LENGTH),
    ),
    (_A.ERROR_TYPE,),
    (LinkKind.SUBMIT,),
)
SPANS: Final = (SUBMIT, RUN, RESCUE, CANCEL)

_WORK_SECONDS = (
    *(0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0),
    *(2.5, 5.0, 10.0, 30.0, 60.0, 300.0, 900.0, 3600.0),
)
# Finer past the default grace of 10 seconds, at which what does not heed its cancel is fenced.
_CANCEL_SECONDS = (
    *(0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0),
    *(10.0, 11.0, 12.0, 15.0, 20.0, 30.0, 60.0, 300.0),
)
# As OpenTelemetry's convention for HTTP advises.
_REQUEST_SECONDS = (
    *(0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.25, 0.5),
    *(0.75, 1.0, 2.5, 5.0, 7.5, 10.0),
)
_STORE_SECONDS = (
    *(0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01),
    *(0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0),
)
_FLUSH_EVENTS = (1.0, 2.0, 5.0, 10.0, 25.0, 50.0, 100.0, 250.0, 500.0, 1000.0)
_TAPE_EVENTS = (1.0, 2.0, 3.0, 5.0, 10.0, 25.0, 50.0, 100.0, 1000.0, 10000.0, 100000.0)

SUBMITTED: Final = MetricRow(
    "tapescope.task.submitted", "counter", "{task}", "Tasks that were created.", (_A.OP,)
)
REFUSED: Final = MetricRow(
    "tapescope.task.refused",
    "counter",
    "{task}",
    "Submits that were refused, for as many tasks of the op wait as may.",
    (_A.OP,),
)
DURATION: Final = MetricRow(
    "tapescope.task.duration",
    "histogram",
    "s",
    "The last attempt's claim to the final; 0 when cancelled while pending. Its count is the "
    "number of finished tasks.",
    (_A.OP, _A.OUTCOME),
    (_A.ERROR_TYPE, _A.CANCEL_REASON),
    boundaries=_WORK_SECONDS,
)
ACTIVE: Final = MetricRow(
    "tapescope.task.active",
    "updowncounter",
    "{task}",
    "Tasks of this process that have not ended, by state.",
    (_A.OP, _A.STATE),
    tallied=True,
)
LIMIT: Final = MetricRow(
    "tapescope.task.limit", "updowncounter", "{task}", "Tasks that may run at once.", tallied=True
)
QUEUE_WAIT: Final = MetricRow(
    "tapescope.task.queue.wait_time",
    "histogram",
    "s",
    "From when a task was due to its claim.",
    (_A.OP,),
    boundaries=_WORK_SECONDS,
)
OLDEST_ACTIVE: Final = MetricRow(
    "tapescope.task.oldest_active.age",
    "gauge",
    "s",
    "How long ago the oldest task of this process that has not ended fell due; 0 when there is "
    "none.",
    (_A.OP,),
    tallied=True,
)
BACKLOG: Final = MetricRow(
    "tapescope.task.backlog",
    "gauge",
    "{task}",
    "Tasks of the store that no worker has claimed. The same from every process with the store "
    "open, so take the highest; absent where the numbers are over a minute old.",
    (_A.OP, _A.STATE),
    tallied=True,
)
OLDEST_DUE: Final = MetricRow(
    "tapescope.task.oldest_due.age",
    "gauge",
    "s",
    "How long ago the first task of the store that waits fell due; 0 where none is due. The same "
    "from every process.",
    (_A.OP,),
    tallied=True,
)
OP_WORKERS: Final = MetricRow(
    "tapescope.op.workers",
    "gauge",
    "{worker}",
    "Living workers of the store that have registered the op; 0 where a task of it is due in a "
    "queue that none of them takes, and 1 at least where what is due is for the process that "
    "submitted it. The same from every process.",
    (_A.OP,),
    tallied=True,
)
RUNNING_AGE: Final = MetricRow(
    "tapescope.task.running.age",
    "gauge",
    "s",
    "How long ago the oldest run of the store was claimed; 0 where none runs. The same from every "
    "process.",
    (_A.OP,),
    tallied=True,
)
OP_PAUSED: Final = MetricRow(
    "tapescope.op.paused",
    "gauge",
    "{op}",
    "1 while the op is paused, and no worker claims its tasks; else 0. The same from every "
    "process.",
    (_A.OP,),
    tallied=True,
)
OP_TIMEOUT: Final = MetricRow(
    "tapescope.op.timeout",
    "gauge",
    "s",
    "How long a run may take, as a worker has registered the op; absent without a limit. The same "
    "from every process.",
    (_A.OP,),
    tallied=True,
)
RETRIES: Final = MetricRow(
    "tapescope.task.retries",
    "counter",
    "{attempt}",
    "Attempts that failed and will be made again.",
    (_A.OP, _A.ERROR_TYPE),
)
RESCUED: Final = MetricRow(
    "tapescope.task.rescued",
    "counter",
    "{task}",
    "Tasks taken from an owner that was dead or lost its lease.",
    (_A.OP, _A.RESCUE_RESULT),
)
FIRINGS: Final = MetricRow(
    "tapescope.schedule.firings",
    "counter",
    "{firing}",
    "Firing times of schedules, by what became of them. Of a schedule that nobody fired for long, "
    "the last hundred times are counted.",
    (_A.OP, _A.FIRING_OUTCOME),
)
LATENESS: Final = MetricRow(
    "tapescope.schedule.lateness",
    "histogram",
    "s",
    "From a firing time to when its task was made.",
    (_A.OP,),
    boundaries=_WORK_SECONDS,
)
MESSAGES: Final = MetricRow(
    "tapescope.message.count",
    "counter",
    "{message}",
    "Messages to tasks, by what became of them. One that is sent is taken later, or untaken when "
    "its task ends.",
    (_A.OP, _A.MESSAGE_RESULT),
)
ENGINE_BROUGHT: Final = MetricRow(
    "tapescope.engine.task.brought",
    "counter",
    "{task}",
    "Tasks that an engine brought to a worker, each time, by what became of them.",
    (_A.ENGINE, _A.OP, _A.BROUGHT_RESULT),
    (_A.HELD_REASON,),
)
ENGINE_RECONCILED: Final = MetricRow(
    "tapescope.engine.task.reconciled",
    "counter",
    "{task}",
    "Tasks that an engine was asked about, or told of, by what a reconciler came to.",
    (_A.ENGINE, _A.RECONCILE_RESULT),
)
ENGINE_OVERDUE: Final = MetricRow(
    "tapescope.engine.task.overdue",
    "gauge",
    "{task}",
    "Pending tasks of the store that their engine should have been asked about a minute ago, "
    "counted to 10,000. The same from every worker of the engine, so take the highest; absent "
    "where the number is over three minutes old.",
    (_A.ENGINE,),
    tallied=True,
)
ZOMBIES: Final = MetricRow(
    "tapescope.task.zombies",
    "updowncounter",
    "{task}",
    "Fenced runners that are still running.",
    (_A.OP,),
    tallied=True,
)
CANCEL_REQUESTS: Final = MetricRow(
    "tapescope.cancel.requests",
    "counter",
    "{request}",
    "Cancel requests that were recorded.",
    (_A.CANCEL_REASON,),
)
CANCEL_DURATION: Final = MetricRow(
    "tapescope.cancel.duration",
    "histogram",
    "s",
    "From a cancel request to the final.",
    (_A.CANCEL_REASON,),
    boundaries=_CANCEL_SECONDS,
)
CANCEL_OVERRUN: Final = MetricRow(
    "tapescope.cancel.overrun",
    "histogram",
    "s",
    "How long a runner ran on after its cancel was final.",
    (_A.OP,),
    boundaries=_CANCEL_SECONDS,
)
EVENT_OFFERED: Final = MetricRow(
    "tapescope.tape.event.offered",
    "counter",
    "{event}",
    "Events that were offered to the store and answered for; those in flight come later.",
    (_A.ADAPTER,),
    tallied=True,
)
EVENT_APPENDED: Final = MetricRow(
    "tapescope.tape.event.appended",
    "counter",
    "{event}",
    "Events that the database says it stored.",
    (_A.EVENT_TYPE, _A.ADAPTER),
    tallied=True,
)
EVENT_DROPPED: Final = MetricRow(
    "tapescope.tape.event.dropped",
    "counter",
    "{event}",
    "Late events: kept off the tape, counted, quarantined.",
    (_A.DROP_REASON, _A.EVENT_TYPE, _A.OP, _A.ADAPTER, _A.TAPE_OUTCOME),
)
EVENT_FAILED: Final = MetricRow(
    "tapescope.tape.event.failed",
    "counter",
    "{event}",
    "Events that ended in an error at their caller.",
    (_A.EVENT_TYPE, _A.ERROR_TYPE),
    tallied=True,
)
EVENT_UNACCOUNTED: Final = MetricRow(
    "tapescope.tape.event.unaccounted",
    "gauge",
    "{event}",
    "Offered less stored, dropped and failed (invariant I7); anything but 0 is a bug of ours.",
    (_A.ADAPTER,),
    tallied=True,
)
TAPE_LENGTH: Final = MetricRow(
    "tapescope.tape.length",
    "histogram",
    "{event}",
    "Events of a tape when it closed.",
    (_A.ADAPTER,),
    boundaries=_TAPE_EVENTS,
)
AUDIT_CHECKED: Final = MetricRow(
    "tapescope.tape.audit.checked",
    "counter",
    "{tape}",
    "Tapes that the audit looked at.",
    (_A.ADAPTER,),
    tallied=True,
)
AUDIT_VIOLATIONS: Final = MetricRow(
    "tapescope.tape.audit.violations",
    "counter",
    "{violation}",
    "Violations that the audit found, by rule; one that stays is found by every audit anew.",
    (_A.AUDIT_RULE, _A.ADAPTER),
    tallied=True,
)
AUDIT_LAST_SUCCESS: Final = MetricRow(
    "tapescope.tape.audit.last_success.timestamp",
    "gauge",
    "s",
    "When an audit last came to its end, in seconds since the Unix epoch; absent before the first. "
    "The same from every process with the store open.",
    tallied=True,
)
OPERATION_DURATION: Final = MetricRow(
    "tapescope.store.operation.duration",
    "histogram",
    "s",
    "A call of the store port, entry to answer; errors are the series with error.type.",
    (_A.OPERATION, _A.ADAPTER),
    (_A.ERROR_TYPE,),
    boundaries=_STORE_SECONDS,
)
FLUSH_SIZE: Final = MetricRow(
    "tapescope.store.flush.size",
    "histogram",
    "{event}",
    "Events written in one transaction.",
    (_A.ADAPTER,),
    boundaries=_FLUSH_EVENTS,
)
SUBSCRIBERS: Final = MetricRow(
    "tapescope.subscriber.active",
    "updowncounter",
    "{subscriber}",
    "Followers of a tape.",
    (_A.SUBSCRIBER_KIND,),
    tallied=True,
)

SUBSCRIBER_LAG: Final = MetricRow(
    "tapescope.subscriber.lag",
    "gauge",
    "{event}",
    "Events on the tape that the slowest follower has not taken yet.",
    (_A.SUBSCRIBER_KIND,),
    tallied=True,
)
CLOCK_SKEW: Final = MetricRow(
    "tapescope.store.clock.skew",
    "gauge",
    "s",
    "How far the database's clock is ahead of this process's, at least; below 0: behind. Absent "
    "where the store goes by the process's clock.",
    (_A.ADAPTER,),
    tallied=True,
)
FOREIGN_NOTIFICATIONS: Final = MetricRow(
    "tapescope.store.notifications.foreign",
    "counter",
    "{notification}",
    "Notifications on the store's channel that no store has sent; they are ignored.",
    (_A.ADAPTER,),
    tallied=True,
)
LOG_SIZE: Final = MetricRow(
    "tapescope.store.log.size",
    "gauge",
    "By",
    "Size of a SQLite store's write-ahead log. A transaction that is left open keeps the log from "
    "starting anew. Absent where the store has none.",
    (_A.ADAPTER,),
    tallied=True,
)
FLUSH_WAIT: Final = MetricRow(
    "tapescope.store.flush.wait_time",
    "histogram",
    "s",
    "How long the call of a flush that came first had waited when the flush began.",
    (_A.ADAPTER,),
    boundaries=_STORE_SECONDS,
)
QUEUE_DEPTH: Final = MetricRow(
    "tapescope.store.queue.depth",
    "gauge",
    "{call}",
    "Calls and events that wait for a flush; an append waits for room at 10,000.",
    (_A.ADAPTER,),
    tallied=True,
)
FILE_SIZE: Final = MetricRow(
    "tapescope.store.file.size",
    "gauge",
    "By",
    "Size of a SQLite store's file, its log left out. Absent where the store has none.",
    (_A.ADAPTER,),
    tallied=True,
)
FILE_FREE: Final = MetricRow(
    "tapescope.store.file.free",
    "gauge",
    "By",
    "Of a SQLite store's file, the pages that hold nothing and that the next rows fill.",
    (_A.ADAPTER,),
    tallied=True,
)
DISK_FREE: Final = MetricRow(
    "tapescope.store.disk.free",
    "gauge",
    "By",
    "Free space of the disk that a SQLite store's file is on, for the user of this process.",
    (_A.ADAPTER,),
    tallied=True,
)
DISK_SIZE: Final = MetricRow(
    "tapescope.store.disk.size",
    "gauge",
    "By",
    "Size of the disk that a SQLite store's file is on, without what is kept for its root.",
    (_A.ADAPTER,),
    tallied=True,
)
CONNECTIONS: Final = MetricRow(
    "tapescope.store.connections",
    "gauge",
    "{connection}",
    "Connections of this process to the database that its queries share. Absent where a store has "
    "none.",
    (_A.CONNECTION_STATE, _A.ADAPTER),
    tallied=True,
)
CONNECTION_WAITERS: Final = MetricRow(
    "tapescope.store.connections.waiting",
    "gauge",
    "{call}",
    "Calls that wait for one of these connections.",
    (_A.ADAPTER,),
    tallied=True,
)
QUARANTINE_SIZE: Final = MetricRow(
    "tapescope.store.quarantine.size",
    "gauge",
    "{event}",
    "Late events that the store's quarantine keeps, counted to 20,000. The same from every "
    "process with the store open.",
    (_A.ADAPTER,),
    tallied=True,
)
LOOP_LAG: Final = MetricRow(
    "tapescope.loop.lag",
    "gauge",
    "s",
    "How late the event loop of a manager was in the last minute or two, at most; a block that "
    "lasts is told while it does.",
    tallied=True,
)
HEARTBEAT_AGE: Final = MetricRow(
    "tapescope.heartbeat.age",
    "gauge",
    "s",
    "How long ago the store last answered a whole heartbeat of a manager of this process; before "
    "the first, since the manager was opened.",
    tallied=True,
)
LEASE_DURATION: Final = MetricRow(
    "tapescope.lease.duration",
    "gauge",
    "s",
    "How long a claim holds without a heartbeat, as the manager was set.",
    tallied=True,
)
LEASE_MARGIN: Final = MetricRow(
    "tapescope.lease.margin",
    "gauge",
    "s",
    "How long the first lease of this process to end holds yet; a whole lease where nothing runs. "
    "Below 0: another process may have the task.",
    tallied=True,
)
LOOP_ERRORS: Final = MetricRow(
    "tapescope.loop.errors",
    "counter",
    "{error}",
    "Defects that a background loop of this process met; it went on. What a store answers is none.",
    (_A.LOOP,),
    tallied=True,
)
TELEMETRY_ERRORS: Final = MetricRow(
    "tapescope.telemetry.errors",
    "counter",
    "{error}",
    "What telemetry raised in this process; it was kept from the tasks, which went on.",
    (_A.TELEMETRY_SOURCE,),
    tallied=True,
)

SERVER_DURATION: Final = MetricRow(
    "tapescope.server.request.duration",
    "histogram",
    "s",
    "A request, its first byte to its last; of a stream to the head of the answer, and without "
    "what a client asked to wait for.",
    (_A.METHOD, _A.STATUS),
    (_A.ROUTE,),
    boundaries=_REQUEST_SECONDS,
)
SERVER_STREAMS: Final = MetricRow(
    "tapescope.server.streams", "updowncounter", "{stream}", "Streams that are open.", tallied=True
)
SERVER_STREAMS_ENDED: Final = MetricRow(
    "tapescope.server.streams.ended",
    "counter",
    "{stream}",
    "Streams that ended, by why.",
    (_A.STREAM_END,),
    tallied=True,
)
SERVER_REFUSED: Final = MetricRow(
    "tapescope.server.requests.refused",
    "counter",
    "{request}",
    "Requests that the server refused by itself, by why.",
    (_A.REFUSAL,),
    tallied=True,
)
SERVER_ABORTED: Final = MetricRow(
    "tapescope.server.connections.aborted",
    "counter",
    "{connection}",
    "Connections that the server ended by itself, by why: of clients that idle or read too slowly.",
    (_A.ABORT,),
    tallied=True,
)
SERVER_METRICS: Final = (
    *(SERVER_DURATION, SERVER_STREAMS, SERVER_STREAMS_ENDED, SERVER_REFUSED, SERVER_ABORTED),
)
"""What a process tells that serves the HTTP API, and no other one."""

STORE_SUBMITTED: Final = MetricRow(
    "tapescope.store.tasks.submitted",
    "counter",
    "{task}",
    "Tasks that were submitted since the store was made, by whatever process; pruned ones, too.",
    (_A.OP,),
    tallied=True,
)
STORE_FINISHED: Final = MetricRow(
    "tapescope.store.tasks.finished",
    "counter",
    "{task}",
    "Tasks that ended since the store was made, in whatever process; pruned ones, too.",
    (_A.OP, _A.OUTCOME),
    tallied=True,
)
EXPORTER_METRICS: Final = (STORE_SUBMITTED, STORE_FINISHED)
"""What ``tapescope exporter`` tells besides, and no other process: the totals that the store keeps
are the same from every exporter, so they are never added up."""

METRICS: Final = (
    *(SUBMITTED, REFUSED, DURATION, ACTIVE, LIMIT, QUEUE_WAIT, OLDEST_ACTIVE),
    *(BACKLOG, OLDEST_DUE, OP_WORKERS, OP_PAUSED, RUNNING_AGE, OP_TIMEOUT),
    *(RETRIES, RESCUED, ZOMBIES),
    *(FIRINGS, LATENESS, MESSAGES, ENGINE_BROUGHT, ENGINE_RECONCILED, ENGINE_OVERDUE),
    *(CANCEL_REQUESTS, CANCEL_DURATION, CANCEL_OVERRUN),
    *(EVENT_OFFERED, EVENT_APPENDED, EVENT_DROPPED, EVENT_FAILED, EVENT_UNACCOUNTED),
    *(TAPE_LENGTH, AUDIT_CHECKED, AUDIT_VIOLATIONS, AUDIT_LAST_SUCCESS),
    *(OPERATION_DURATION, FLUSH_SIZE, FLUSH_WAIT, QUEUE_DEPTH, SUBSCRIBERS, SUBSCRIBER_LAG),
    *(CONNECTIONS, CONNECTION_WAITERS, CLOCK_SKEW, FOREIGN_NOTIFICATIONS),
    *(LOG_SIZE, FILE_SIZE, FILE_FREE, DISK_FREE, DISK_SIZE, QUARANTINE_SIZE),
    *(LOOP_LAG, HEARTBEAT_AGE, LEASE_DURATION, LEASE_MARGIN, LOOP_ERRORS, TELEMETRY_ERRORS),
)

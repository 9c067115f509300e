"""Names as the scrape has them, durations, and the few query shapes that the traps ask for."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, Literal

from dashboards import settings
from dashboards.settings import OpTable
from tapescope_telemetry import scrape_names
from tapescope_telemetry.names import LIMIT, Attribute, MetricRow
from tapescope_telemetry.scrape_names import name_label

__all__ = [
    "ABORT",
    "ADAPTER",
    "AUDIT_RULE",
    "BROUGHT_RESULT",
    "BUILD_INFO",
    "CANCEL_REASON",
    "CONNECTION_STATE",
    "DROP_REASON",
    "ENGINE",
    "ERROR",
    "EVENT_TYPE",
    "FAILED_STATUS",
    "FIRING_OUTCOME",
    "FOREIGN",
    "GROUP",
    "INSTANCE",
    "LOOP",
    "MESSAGE_RESULT",
    "OP",
    "OPERATION",
    "OUTCOME",
    "RECONCILE_RESULT",
    "REFUSAL",
    "RESCUE_RESULT",
    "ROUTE",
    "SOURCE",
    "START",
    "STATE",
    "STATUS",
    "STREAM_END",
    "SUBSCRIBER_KIND",
    "TAPE_OUTCOME",
    "Durations",
    "exceeds",
    "grow",
    "match",
    "name_label",
    "name_metric",
    "or_zero",
    "pick",
    "quantile",
]

Part = Literal["", "_bucket", "_count", "_sum"]


def name_metric(row: MetricRow) -> str:
    """A metric's name on the scrape, without a histogram's ``_bucket``, ``_count``, ``_sum``."""
    return scrape_names.name_metric(row.name, row.kind, row.unit).query


OP: Final = name_label(Attribute.OP)
STATE: Final = name_label(Attribute.STATE)
OUTCOME: Final = name_label(Attribute.OUTCOME)
FIRING_OUTCOME: Final = name_label(Attribute.FIRING_OUTCOME)
MESSAGE_RESULT: Final = name_label(Attribute.MESSAGE_RESULT)
ENGINE: Final = name_label(Attribute.ENGINE)
BROUGHT_RESULT: Final = name_label(Attribute.BROUGHT_RESULT)
RECONCILE_RESULT: Final = name_label(Attribute.RECONCILE_RESULT)
RESCUE_RESULT: Final = name_label(Attribute.RESCUE_RESULT)
CANCEL_REASON: Final = name_label(Attribute.CANCEL_REASON)
TAPE_OUTCOME: Final = name_label(Attribute.TAPE_OUTCOME)
EVENT_TYPE: Final = name_label(Attribute.EVENT_TYPE)
DROP_REASON: Final = name_label(Attribute.DROP_REASON)
AUDIT_RULE: Final = name_label(Attribute.AUDIT_RULE)
ADAPTER: Final = name_label(Attribute.ADAPTER)
OPERATION: Final = name_label(Attribute.OPERATION)
SUBSCRIBER_KIND: Final = name_label(Attribute.SUBSCRIBER_KIND)
SOURCE: Final = name_label(Attribute.TELEMETRY_SOURCE)
CONNECTION_STATE: Final = name_label(Attribute.CONNECTION_STATE)
LOOP: Final = name_label(Attribute.LOOP)
STREAM_END: Final = name_label(Attribute.STREAM_END)
REFUSAL: Final = name_label(Attribute.REFUSAL)
ABORT: Final = name_label(Attribute.ABORT)
ROUTE: Final = name_label(Attribute.ROUTE)
STATUS: Final = name_label(Attribute.STATUS)
ERROR: Final = name_label(Attribute.ERROR_TYPE)

FAILED_STATUS: Final = f'{STATUS}=~"5.."'
"""A matcher of answers that are the server's fault, or its store's."""

START: Final = "process_start_time_seconds"
"""When a process that is scraped began; one that pushes tells none."""
BUILD_INFO: Final = "tapescope_build_info"
"""Told by every process of ours that is scraped, whatever the name of its job."""
GROUP: Final = ", ".join(settings.AGGREGATION_LABELS)
"""The labels of a group of processes, for ``by`` and ``on``."""
INSTANCE: Final = ", ".join(settings.INSTANCE_LABELS)
"""The labels of one process, for ``by`` and ``on``."""

FOREIGN: Final[dict[str, frozenset[str]]] = {
    "up": frozenset(),
    BUILD_INFO: frozenset({"version"}),
    "scrape_duration_seconds": frozenset(),
    "scrape_samples_scraped": frozenset(),
    "process_start_time_seconds": frozenset(),
    "process_cpu_seconds_total": frozenset(),
    "process_resident_memory_bytes": frozenset(),
    "process_open_fds": frozenset(),
    "process_max_fds": frozenset(),
    "python_gc_collections_total": frozenset({"generation"}),
    "otel_sdk_processor_span_processed_total": frozenset({"otel_component_type", ERROR}),
    "otel_sdk_processor_span_queue_size": frozenset({"otel_component_type"}),
    "otel_sdk_processor_span_queue_capacity": frozenset({"otel_component_type"}),
    "otel_sdk_exporter_span_exported_total": frozenset({"otel_component_type", ERROR}),
    "ALERTS": frozenset({"alertname", "alertstate", "severity"}),
}
"""What is not ours: of Prometheus, of its Python client, of the OpenTelemetry SDK; with labels."""


def pick(name: str | MetricRow, *matchers: str, part: Part = "") -> str:
    """A selector: the metric, narrowed by the matchers that are not empty."""
    text = name if isinstance(name, str) else name_metric(name)
    own = settings.SELECTOR if ":" not in text else ""
    inside = ", ".join(matcher for matcher in (*matchers, own) if matcher)
    return f"{text}{part}{{{inside}}}" if inside else f"{text}{part}"


def match(label: str, *values: str) -> str:
    """A matcher of a label with one of these values."""
    return f'{label}="{values[0]}"' if len(values) == 1 else f'{label}=~"{"|".join(values)}"'


def each_op(ask: Callable[[str, float], str], table: OpTable) -> list[str]:
    """What ``ask`` makes of each of the table's numbers and a matcher of its ops.

    The matcher of the default is empty where no op has a number of its own.
    """
    others = f'{OP}!~"{"|".join(table.own)}"' if table.own else ""
    asked = [(others, table.default), *((match(OP, op), n) for op, n in table.own.items())]
    return [ask(matcher, number) for matcher, number in asked]


def exceeds(
    measure: Callable[[str], str],
    table: OpTable,
    limit: Callable[[float], float] = lambda number: number,
) -> str:
    """``measure``, which keeps the op, where it is over the ``limit`` of the table's number.

    ``measure`` is given a matcher of ops, or an empty one, for its selector.
    """
    parts = each_op(lambda matcher, n: f"{measure(matcher)} > {limit(n):g}", table)
    return parts[0] if len(parts) == 1 else f"({' or '.join(parts)})"


def or_zero(rare: str, steady: str) -> str:
    """``rare``, or 0 where only ``steady`` is there: ``a / b`` is nothing at all without an ``a``.

    Both need the same labels. To be put in brackets by this function, so that it can be divided.
    """
    return f"({rare} or 0 * {steady})"


def quantile(q: float, buckets: str) -> str:
    """The ``q`` quantile of summed rates of buckets, which must have kept ``le``."""
    return f"histogram_quantile({q:g}, {buckets})"


@dataclass(frozen=True, slots=True)
class Durations:
    """Writes seconds as Prometheus does, all of them divided by one time scale.

    A scale over 1 gives rules for drills and tests that see a 5 minute window pass in seconds.
    """

    scale: float = 1.0

    def __call__(self, seconds: float) -> str:
        """``5m`` for 300; ``2500ms`` for what is not a whole number of seconds; ``0s`` for 0."""
        left = self.milliseconds(seconds)
        for size, unit in ((86_400_000, "d"), (3_600_000, "h"), (60_000, "m"), (1_000, "s")):
            if left and left % size == 0:
                return f"{left // size}{unit}"
        return f"{left}ms" if left else "0s"

    def milliseconds(self, seconds: float) -> int:
        """The scaled length; a wait or window that is not 0 never becomes 0."""
        return max(1, round(seconds * 1_000 / self.scale)) if seconds else 0

    def grown(self, counter: str, seconds: float, *, recorded: bool = False) -> str:
        """By how much each series of ``counter`` grew in the last ``seconds`` (decision 0053)."""
        milliseconds = self.milliseconds(seconds)
        noticed = milliseconds + self.milliseconds(settings.NOTICED)
        return grow(
            counter,
            self(seconds),
            f"{milliseconds / 1_000:g}",
            f"{noticed / 1_000:g}",
            gap=self(settings.BRIDGED_GAP),
            pushed=self(settings.PUSHED),
            recorded=recorded,
        )


def grow(
    counter: str,
    window: str,
    age: str,
    noticed: str,
    *,
    gap: str,
    starts: str = "",
    pushed: str = "",
    recorded: bool = False,
) -> str:
    """By how much each series of ``counter`` grew in ``window``: the one shape for all of the pack.

    ``age`` is the window in seconds, ``noticed`` the same and what a process may need until it is
    scraped first, ``gap`` how far before the window a series and its process are looked for,
    ``starts`` the selector of when processes began, ``pushed`` how long at most is between two
    pushes. A ``recorded`` counter is not scraped: its
    samples cannot be counted against those of its process, and it has a 0 from the start, so that
    one that is new is believed only with proof. Decision 0053 has the cases.
    """
    starts = starts or pick(START)
    peak = f"max_over_time({counter}[{window}])"
    before = f"last_over_time({counter}[{gap}] offset {window})"
    seen = f"last_over_time({starts}[{gap}] offset {window})"
    resets = f"resets({counter}[{window}])"
    scrapes = f"count_over_time({starts}[{window}]) and changes({starts}[{window}]) == 0"
    if recorded:
        limit = pick(LIMIT)
        # Pushed once or twice, and not any more: a command, whose whole life this was.
        brief = (
            f"count_over_time({limit}[{window}]) <= 2 unless on ({INSTANCE})"
            f" (last_over_time({limit}[{pushed}]) or last_over_time({starts}[{window}]))"
        )
        past = (
            f"last_over_time({limit}[{window}]) unless on ({INSTANCE})"
            f" (time() - min_over_time({starts}[{window}]) <= {noticed}"
            f" or last_over_time({limit}[{gap}] offset {window}) or ({brief}))"
        )
    else:
        past = f"time() - min_over_time({starts}[{window}]) > {noticed} unless {seen}"
    terms = [
        # The process began in the window, and all that it counted with it.
        f"{counter} and on ({INSTANCE}) time() - {starts} < {age}",
        # Known before the window: what came since. Lower than then: it began anew meanwhile.
        f"{peak} - {before} >= 0",
        f"{peak} and {before}",
        # Not known before the window: it is new, unless its process is old and new to Prometheus.
        f"{peak} unless on ({INSTANCE}) ({past})",
    ]
    if not recorded:
        # New to Prometheus, but this series came later than its process.
        terms.append(
            f"{peak} and (count_over_time({counter}[{window}])"
            f" < on ({INSTANCE}) group_left () max by ({INSTANCE}) ({scrapes}))"
        )
    terms += [
        # It brings a past: what came since it was seen first.
        f"{peak} - min_over_time({counter}[{window}]) unless {resets} > 0",
        # A restart in the window: what had grown before it counts as well. The larger one is right.
        f'label_replace(increase({counter}[{window}]) and {resets} > 0, "grown", "anew", "", "")',
    ]
    return f"(max without (grown) ({' or '.join(terms)}))"

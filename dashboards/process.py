"""The board "Process": what the programs cost, and whether their telemetry arrives."""

from __future__ import annotations

from dashboards import colours
from dashboards.internals import MANAGER_ROW
from dashboards.panels import (
    CHOSEN,
    Board,
    Chart,
    Limit,
    Query,
    Section,
    scope,
    sum_by,
    sum_growth,
    sum_rate,
)
from dashboards.promql import ERROR, LOOP, SOURCE, pick
from dashboards.serving import SERVER_ROW
from tapescope_telemetry import names

__all__ = ["PROCESS"]

_PROCESSED = "otel_sdk_processor_span_processed_total"
_EXPORTED = "otel_sdk_exporter_span_exported_total"
_NO_OTLP = (
    "No spans leave these processes: set OTEL_EXPORTER_OTLP_ENDPOINT, or OTEL_TRACES_EXPORTER, to"
    " send them to a collector."
)

_COST = Section(
    "Process",
    (
        Chart(
            "timeseries",
            "CPU",
            "Cores in use.",
            "none",
            (Query(sum_rate("instance", "process_cpu_seconds_total"), "{{instance}}"),),
            8,
        ),
        Chart(
            "timeseries",
            "Memory",
            "Resident memory.",
            "bytes",
            (Query(sum_by("instance", scope("process_resident_memory_bytes")), "{{instance}}"),),
            8,
        ),
        Chart(
            "timeseries",
            "Open files",
            "File descriptors in use, as a share of what the process may have.",
            "percentunit",
            (Query(f"{scope('process_open_fds')} / {scope('process_max_fds')}", "{{instance}}"),),
            8,
            limits=(Limit(0.8, colours.BAD),),
        ),
        Chart(
            "timeseries",
            "Clock of the store",
            "How far the database's clock is ahead of a process's. Due times go by the database's.",
            "s",
            (Query(scope(names.CLOCK_SKEW), "ahead {{instance}}"),),
            12,
            empty="A SQLite store goes by the process's clock: nothing can differ.",
        ),
        Chart(
            "timeseries",
            "Foreign notifications",
            "What no store has sent on its channel of the database: whoever may connect may notify."
            " It is ignored; a flood of it costs CPU.",
            "short",
            (Query(sum_growth("instance", names.FOREIGN_NOTIFICATIONS), "{{instance}}"),),
            12,
        ),
    ),
)

_TELEMETRY = Section(
    "Telemetry",
    (
        Chart(
            "timeseries",
            "Spans processed and sent",
            "Spans of the interval that the processor took, and that the collector has.",
            "short",
            (
                Query(
                    sum_growth("otel_component_type", _PROCESSED, f'{ERROR}=""'),
                    "processed {{otel_component_type}}",
                ),
                Query(
                    sum_growth("otel_component_type", _EXPORTED, f'{ERROR}=""'),
                    "sent {{otel_component_type}}",
                ),
            ),
            empty=_NO_OTLP,
        ),
        Chart(
            "timeseries",
            "Spans lost by error",
            "Spans of the interval: queue_full when they were made faster than they could be"
            " sent, another error when the collector refused them.",
            "short",
            (
                Query(sum_growth(ERROR, _PROCESSED, f'{ERROR}!=""'), f"lost {{{{{ERROR}}}}}"),
                Query(
                    sum_growth(ERROR, _EXPORTED, f'{ERROR}!=""'),
                    f"not delivered {{{{{ERROR}}}}}",
                ),
            ),
            stacked=True,
            shades=colours.BAD,
            empty="No span was lost.",
        ),
        Chart(
            "timeseries",
            "Span queue",
            "Spans that wait to be sent, as a share of the queue. Full means that the next are"
            " lost.",
            "percentunit",
            (
                Query(
                    sum_by("instance", scope("otel_sdk_processor_span_queue_size"))
                    + " / "
                    + sum_by("instance", scope("otel_sdk_processor_span_queue_capacity")),
                    "{{instance}}",
                ),
            ),
            limits=(Limit(0.8, colours.BAD),),
            empty=_NO_OTLP,
        ),
        Chart(
            "timeseries",
            "Telemetry that raised",
            "Spans, metrics and logs that raised in a process. Tasks went on without them; the log"
            " has a line for the first of each kind.",
            "short",
            (
                Query(
                    sum_growth(SOURCE, names.TELEMETRY_ERRORS),
                    f"{{{{{SOURCE}}}}}",
                ),
            ),
            stacked=True,
            shades=colours.BAD,
        ),
        Chart(
            "timeseries",
            "Loops that met a defect",
            "Background loops: claims, heartbeats, leases, maintenance, news of others. Each"
            " goes on; the log has a line a minute.",
            "short",
            (Query(sum_growth(LOOP, names.LOOP_ERRORS), f"{{{{{LOOP}}}}}"),),
            height=10,
            stacked=True,
            shades=colours.BAD,
        ),
        Chart(
            "table",
            "Series a metric",
            "The ten metrics with the most series. Past 2,000 a process, the SDK folds the rest"
            " into one.",
            "short",
            (
                Query(
                    "topk(10, count by (__name__) ("
                    + pick("", '__name__=~"tapescope_.+"', *CHOSEN)
                    + "))"
                ),
            ),
            height=10,
            columns=(("__name__", "Metric"), ("Value", "Series")),
        ),
        Chart(
            "timeseries",
            "Scrape duration",
            "How long Prometheus needs to read a process; at its scrape_timeout it reads nothing.",
            "s",
            (Query(scope("scrape_duration_seconds"), "{{instance}}"),),
            axis="log",
        ),
        Chart(
            "timeseries",
            "Targets that answer",
            "1 where the last scrape had an answer, 0 where it had none.",
            "none",
            (Query(scope("up"), "{{instance}}"),),
        ),
    ),
)

PROCESS = Board(
    "tapescope-process",
    "tapescope: process",
    "What the programs cost, and whether their telemetry arrives.",
    (_COST, MANAGER_ROW, SERVER_ROW, _TELEMETRY),
)

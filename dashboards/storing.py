"""The board "Store": is the database quick, and does it answer?"""

from __future__ import annotations

from dashboards import colours, settings
from dashboards.internals import STORE_ROW
from dashboards.panels import (
    Board,
    Chart,
    Limit,
    Query,
    Section,
    add_rates,
    describe_share,
    quantile,
    scope,
    sum_growth,
    sum_rate,
)
from dashboards.promql import ADAPTER, ERROR, OPERATION, match
from dashboards.recording import STORE_FAULTS
from tapescope_telemetry import names

__all__ = ["STORE"]

_ROW = names.OPERATION_DURATION
_APPEND = match(OPERATION, "append")

_CALLS = Section(
    "Calls",
    (
        Chart(
            "timeseries",
            "Operations",
            "Calls of the store port in a second, by verb.",
            "suffix:calls/s",
            (Query(f"{sum_rate(OPERATION, _ROW, part='_count')} > 0", f"{{{{{OPERATION}}}}}"),),
            24,
            24,
            stacked=True,
        ),
        Chart(
            "timeseries",
            "Error ratio by adapter",
            "Calls that failed, without those that a caller got wrong.",
            "percentunit",
            (
                Query(
                    describe_share(
                        sum_growth(ADAPTER, _ROW, *STORE_FAULTS, part="_count"),
                        sum_growth(ADAPTER, _ROW, part="_count"),
                    ),
                    f"{{{{{ADAPTER}}}}}",
                ),
            ),
            limits=(Limit(settings.STORE_ERROR_SHARE, colours.BAD),),
        ),
        Chart(
            "timeseries",
            "Errors by type",
            "Every call of the interval that ended in an error, callers' mistakes as well.",
            "short",
            (
                Query(
                    sum_growth(f"{OPERATION}, {ERROR}", _ROW, f'{ERROR}!=""', part="_count"),
                    f"{{{{{OPERATION}}}}} {{{{{ERROR}}}}}",
                ),
            ),
            stacked=True,
            shades=colours.BAD,
            empty="No call ended in an error.",
        ),
        Chart(
            "heatmap",
            "Flush size",
            "Events written in one transaction: more under load, which is what makes it cheap.",
            "short",
            (Query(add_rates(names.FLUSH_SIZE, ""), "{{le}}"),),
        ),
        Chart(
            "timeseries",
            "Log of a SQLite store",
            "The write-ahead log beside the file. It starts anew, and is kept small, unless a"
            " transaction that somebody left open reads in it.",
            "bytes",
            (
                Query(
                    f"max by (instance, {ADAPTER}) ({scope(names.LOG_SIZE)})",
                    f"{{{{instance}}}} {{{{{ADAPTER}}}}}",
                ),
            ),
            empty="Only a SQLite store has a log beside its file.",
            limits=(Limit(settings.STORE_LOG_BYTES, colours.BAD),),
        ),
    ),
)

_TIMES = Section(
    "Times",
    (
        Chart(
            "heatmap",
            "Append latency",
            "From the call to the commit that holds the event. The dots are exemplars.",
            "s",
            (Query(add_rates(_ROW, "", _APPEND), "{{le}}", exemplar=True),),
        ),
        Chart(
            "timeseries",
            "Append latency by adapter, p99",
            "From the call to the commit. The dots are exemplars.",
            "s",
            (
                Query(
                    quantile(0.99, add_rates(_ROW, ADAPTER, _APPEND)),
                    f"{{{{{ADAPTER}}}}}",
                    exemplar=True,
                ),
            ),
            limits=(Limit(settings.STORE_SLOW_P99, colours.BAD),),
            axis="log",
        ),
        Chart(
            "timeseries",
            "Latency by operation, p99",
            "Every verb of the port, entry to answer.",
            "s",
            (Query(quantile(0.99, add_rates(_ROW, OPERATION)), f"{{{{{OPERATION}}}}}"),),
            24,
            24,
            axis="log",
        ),
    ),
)

STORE = Board(
    "tapescope-store",
    "tapescope: store",
    "Is the database quick, and does it answer?",
    (_CALLS, _TIMES, STORE_ROW),
)

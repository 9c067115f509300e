"""The row on the HTTP API, for the board "Process"."""

from __future__ import annotations

from typing import Final

from dashboards import colours, settings
from dashboards.panels import (
    Chart,
    Limit,
    Query,
    Section,
    add_rates,
    describe_share,
    quantile,
    scope,
    sum_by,
    sum_growth,
    sum_rate,
)
from dashboards.promql import ABORT, FAILED_STATUS, REFUSAL, ROUTE, STATUS, STREAM_END
from tapescope_telemetry import names

__all__ = ["SERVER_ROW"]

_NOBODY: Final = "No process of these serves the HTTP API: tapescope serve, or make_app."
_REQUESTS: Final = names.SERVER_DURATION

SERVER_ROW: Final = Section(
    "Server",
    (
        Chart(
            "timeseries",
            "Requests by status",
            "Answers of the HTTP API and its pages in a second.",
            "suffix:requests/s",
            (Query(sum_rate(STATUS, _REQUESTS, part="_count"), f"{{{{{STATUS}}}}}"),),
            8,
            stacked=True,
            empty=_NOBODY,
        ),
        Chart(
            "timeseries",
            "Requests that failed",
            "Answers from 500 on, as a share of all: the store is away, the server is full, or a"
            " defect. What a client got wrong is not counted.",
            "percentunit",
            (
                Query(
                    describe_share(
                        sum_rate("", _REQUESTS, FAILED_STATUS, part="_count"),
                        sum_rate("", _REQUESTS, part="_count"),
                    ),
                    "failed",
                ),
            ),
            8,
            limits=(Limit(settings.SERVER_ERROR_SHARE, colours.BAD),),
            empty=_NOBODY,
        ),
        Chart(
            "timeseries",
            "Duration by route",
            "The 99th percentile. Streams count to the head of their answer, and what a client"
            " asked to wait for is left out. What has no route is refused, and has no line.",
            "s",
            (
                Query(
                    quantile(0.99, add_rates(_REQUESTS, ROUTE, f'{ROUTE}!=""')),
                    f"{{{{{ROUTE}}}}}",
                    exemplar=True,
                ),
            ),
            8,
            axis="log",
            empty=_NOBODY,
        ),
        Chart(
            "timeseries",
            "Open streams",
            "Readers that follow a tape now; a server has 1,000 at most, with waiting requests.",
            "short",
            (Query(sum_by("instance", scope(names.SERVER_STREAMS)), "open {{instance}}"),),
            8,
            height=10,
            empty=_NOBODY,
        ),
        Chart(
            "timeseries",
            "Streams that ended",
            "Of the interval, by why: the tape was told to its end, or the reader went, was stuck"
            " or was refused, or the server stopped or failed.",
            "short",
            (Query(sum_growth(STREAM_END, names.SERVER_STREAMS_ENDED), f"{{{{{STREAM_END}}}}}"),),
            8,
            height=10,
            stacked=True,
            empty=_NOBODY,
        ),
        Chart(
            "timeseries",
            "Refused and disconnected",
            "Requests of the interval that the server refused by itself, and connections that it"
            " ended: of who is not known, asks for too much, idles, or reads nothing.",
            "short",
            (
                Query(sum_growth(REFUSAL, names.SERVER_REFUSED), f"refused {{{{{REFUSAL}}}}}"),
                Query(sum_growth(ABORT, names.SERVER_ABORTED), f"disconnected {{{{{ABORT}}}}}"),
            ),
            8,
            height=10,
            stacked=True,
            empty=_NOBODY,
        ),
    ),
)

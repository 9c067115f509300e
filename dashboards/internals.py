"""Rows on the inside of a process and its store, for the boards "Process" and "Store"."""

from __future__ import annotations

from typing import Final

from dashboards import colours, settings
from dashboards.panels import Chart, Limit, Query, Section, add_rates, quantile, scope
from dashboards.promql import ADAPTER, CONNECTION_STATE
from tapescope_telemetry import names
from tapescope_telemetry.names import MetricRow

__all__ = ["MANAGER_ROW", "STORE_ROW"]


def _worst(row: MetricRow, what: str = "", worst: str = "max", *, limit: bool = False) -> Query:
    """The worst of each process, and of each store of it where there are several."""
    labels = f"instance, {ADAPTER}" if row.attributes else "instance"
    told = f"{{{{instance}}}} {{{{{ADAPTER}}}}}" if row.attributes else "{{instance}}"
    return Query(f"{worst} by ({labels}) ({scope(row)})", f"{what} {told}".strip(), limit=limit)


MANAGER_ROW: Final = Section(
    "Inside",
    (
        Chart(
            "timeseries",
            "Event loop",
            "How late it was in the last minute or two, at most. Nothing else of the process went"
            " on meanwhile.",
            "s",
            (_worst(names.LOOP_LAG),),
            8,
            axis="log",
        ),
        Chart(
            "timeseries",
            "Last heartbeat",
            "How long ago the store answered one. Past a lease the process is not ready.",
            "s",
            (
                _worst(names.HEARTBEAT_AGE),
                _worst(names.LEASE_DURATION, "a lease of", "min", limit=True),
            ),
            8,
            axis="symlog",
        ),
        Chart(
            "timeseries",
            "Lease that ends first",
            "How long it holds yet. At 0 another process may have the task.",
            "s",
            (_worst(names.LEASE_MARGIN, worst="min"),),
            8,
            axis="symlog",
        ),
    ),
)

STORE_ROW: Final = Section(
    "Inside",
    (
        Chart(
            "timeseries",
            "Wait for a flush, p99",
            "How long the first call of each flush had waited when it began: the queue, where the"
            " latency of an append has the database, too.",
            "s",
            (
                Query(
                    quantile(0.99, add_rates(names.FLUSH_WAIT, ADAPTER)),
                    f"{{{{{ADAPTER}}}}}",
                ),
            ),
            8,
            axis="log",
            empty="Nothing was written in this time.",
        ),
        Chart(
            "timeseries",
            "Waiting for a flush",
            "Calls and events in the queue of each process. At 10,000 an append waits for room.",
            "short",
            (_worst(names.QUEUE_DEPTH),),
            8,
        ),
        Chart(
            "timeseries",
            "Connections",
            "Of each process to the database, those that its queries share, and the calls that wait"
            " for one. A SQLite store has none.",
            "short",
            (
                Query(
                    f"sum by (instance, {CONNECTION_STATE}) ({scope(names.CONNECTIONS)})",
                    f"{{{{{CONNECTION_STATE}}}}} {{{{instance}}}}",
                ),
                _worst(names.CONNECTION_WAITERS, "waiting"),
            ),
            8,
            empty="A SQLite store shares no connections.",
        ),
        Chart(
            "timeseries",
            "File of a SQLite store",
            "Its size, and of it what is free for the next rows.",
            "bytes",
            (_worst(names.FILE_SIZE, "file"), _worst(names.FILE_FREE, "free in it")),
            8,
            empty="Only a SQLite store is a file of this machine.",
        ),
        Chart(
            "timeseries",
            "Disk of a SQLite store",
            "What is free of the disk that the file is on, and its size.",
            "bytes",
            (
                _worst(names.DISK_FREE, "free", "min"),
                _worst(names.DISK_SIZE, "of", "min", limit=True),
            ),
            8,
            empty="Only a SQLite store is a file of this machine.",
        ),
        Chart(
            "timeseries",
            "Quarantine",
            "Late events that the store keeps, counted to 20,000.",
            "short",
            (_worst(names.QUARANTINE_SIZE),),
            8,
            limits=(Limit(settings.QUARANTINE_EVENTS, colours.LATE),),
        ),
    ),
)

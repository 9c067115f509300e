"""The metrics of a server of tasks: its requests, its streams, and what it refuses."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from tapescope.model import ConnectionAbort, Refusal, StreamEnd
from tapescope_telemetry.instruments import Tally, histogram
from tapescope_telemetry.labels import LabelSets
from tapescope_telemetry.names import (
    OTHER,
    SERVER_ABORTED,
    SERVER_DURATION,
    SERVER_REFUSED,
    SERVER_STREAMS,
    SERVER_STREAMS_ENDED,
)

if TYPE_CHECKING:
    from opentelemetry.metrics import Meter

__all__ = ["ServerMeter"]

_METHODS: Final = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})


class ServerMeter:
    """What the servers of one process count. Made by ``Telemetry`` when it is first asked for, so
    that a process which serves nothing tells nothing of it.

    Routes are templates, never paths, and no caller's name is on a metric.
    """

    def __init__(self, meter: Meter) -> None:
        self._duration = histogram(meter, SERVER_DURATION)
        self._of_request = LabelSets(SERVER_DURATION)
        self._streams = Tally(meter, SERVER_STREAMS)
        self._ended = Tally(meter, SERVER_STREAMS_ENDED)
        self._refused = Tally(meter, SERVER_REFUSED)
        self._aborted = Tally(meter, SERVER_ABORTED)
        self._streams.add(0)
        for end in StreamEnd:
            self._ended.add(0, end)
        for why in Refusal:
            self._refused.add(0, why)
        for abort in ConnectionAbort:
            self._aborted.add(0, abort)

    def answered(self, method: str, route: str | None, status: int, seconds: float) -> None:
        """A request was answered; ``route`` is the template of its path, ``None`` for no route.

        Where a span is current the value is an exemplar that leads to it.
        """
        known = method if method in _METHODS else OTHER
        self._duration.record(max(0.0, seconds), self._of_request(known, str(status), route))

    def stream_opened(self) -> None:
        """A reader follows a tape."""
        self._streams.add(1)

    def stream_ended(self, end: StreamEnd) -> None:
        """It does no more."""
        self._streams.add(-1)
        self._ended.add(1, end)

    def refused(self, why: Refusal) -> None:
        """The server refused a request by itself."""
        self._refused.add(1, why)

    def aborted(self, why: ConnectionAbort) -> None:
        """The server ended a connection by itself."""
        self._aborted.add(1, why)

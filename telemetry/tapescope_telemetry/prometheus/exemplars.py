"""The last exemplar of every series: the SDK forgets them each time they are collected."""

from __future__ import annotations

from collections.abc import Hashable, Iterable
from typing import TYPE_CHECKING

from opentelemetry.trace import format_span_id, format_trace_id
from prometheus_client.samples import Exemplar

if TYPE_CHECKING:
    from opentelemetry.sdk.metrics import Exemplar as Measured

__all__ = ["ExemplarMemory", "pick_newest"]


class ExemplarMemory:
    """Remembers the newest exemplar of each place: a counter's series, or a histogram's bucket.

    As many as there are such places, which the SDK bounds by its limit of series. One thread at a
    time.
    """

    def __init__(self) -> None:
        self._newest: dict[Hashable, tuple[int, Exemplar]] = {}

    def recall(self, place: Hashable, measured: Measured | None = None) -> Exemplar | None:
        """The newest of this place, now that ``measured`` was collected (``None``: nothing was)."""
        known = self._newest.get(place)
        if measured is None or (known is not None and measured.time_unix_nano < known[0]):
            return known and known[1]
        if not measured.trace_id or not measured.span_id:
            return known and known[1]  # it leads nowhere
        exemplar = Exemplar(
            {
                "trace_id": format_trace_id(measured.trace_id),
                "span_id": format_span_id(measured.span_id),
            },
            measured.value,
            measured.time_unix_nano / 1e9,
        )
        self._newest[place] = (measured.time_unix_nano, exemplar)
        return exemplar


def pick_newest(measured: Iterable[Measured]) -> Measured | None:
    """The last that was measured."""
    return max(measured, key=lambda one: one.time_unix_nano, default=None)

"""Who has begun this command: the trace that goes on in it."""

from __future__ import annotations

from contextlib import AbstractContextManager

from tapescope.cli._settings import read_baggage, read_trace_headers
from tapescope_telemetry.spans import continue_trace, join_trace_context

__all__ = ["continue_callers_trace"]


def continue_callers_trace() -> AbstractContextManager[None]:
    """Have the span that ``TRACEPARENT`` names, and ``BAGGAGE``, current inside."""
    return continue_trace(join_trace_context(*read_trace_headers()), read_baggage())

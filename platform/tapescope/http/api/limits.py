"""How much the server takes of a client, and how long it waits for one."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["ApiLimits"]


@dataclass(frozen=True, slots=True)
class ApiLimits:
    """Times are in seconds. Every limit answers with a status or a frame that says so."""

    body_bytes: int = 1_048_576
    """Of a request (413)."""
    body_within: float = 10.0
    """A request's body is sent within this time (408)."""
    query_bytes: int = 8_192
    """Of a request's query (414)."""
    page: int = 1_000
    """Tasks, events, drops and so on of one answer (422)."""
    batch: int = 1_000
    """Tasks of one submit of many (422)."""
    submits: int = 4_000
    """Tasks that wait for the store to be submitted, at once; retries and triggers, too (429)."""
    longest_wait: float = 60.0
    """What ``wait`` may ask for (422)."""
    streams: int = 1_000
    """Streams and waiting requests at once (503)."""
    heartbeat: float = 15.0
    """A stream that has nothing to tell says so this often, so that no proxy ends it."""
    read_within: float = 30.0
    """A reader that has not taken what was sent within this time is disconnected."""

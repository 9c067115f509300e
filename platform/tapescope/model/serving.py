"""What a server of tasks counts of its clients: closed sets, and metric labels."""

from __future__ import annotations

from enum import StrEnum

__all__ = ["ConnectionAbort", "Refusal", "StreamEnd"]


class StreamEnd(StrEnum):
    """Why a stream of a tape ended."""

    FINAL = "final"
    """The tape was told to its end."""
    READER_GONE = "reader_gone"
    """The client has closed the connection."""
    READER_STUCK = "reader_stuck"
    """The client took nothing for too long, and was disconnected."""
    DRAINING = "draining"
    """The server was about to stop."""
    REFUSED = "refused"
    """The reader may no longer read: its token was revoked."""
    FAILED = "failed"
    """The store, or the tape: the stream said why."""


class Refusal(StrEnum):
    """Why a server refused a request by itself, before its store was asked."""

    UNAUTHENTICATED = "unauthenticated"
    """401: no token, or one that the server does not know."""
    FORBIDDEN = "forbidden"
    """403: the caller lacks the scope."""
    CROSS_ORIGIN = "cross_origin"
    """403: the page of another site made it."""
    HOST = "host"
    """421: without tokens this machine alone is answered."""
    TOO_LARGE = "too_large"
    """413, 414: its body or its query."""
    TOO_SLOW = "too_slow"
    """408: its body did not come in time."""
    TOO_MANY = "too_many"
    """503: the streams and waiting requests, or the connections, are as many as there may be."""
    DRAINING = "draining"
    """503: the server was about to stop."""


class ConnectionAbort(StrEnum):
    """Why a server ended a connection that had no answer yet, or was in the midst of one."""

    NO_HEAD = "no_head"
    """No whole head of a request came in time: the client idles, or is too slow."""
    READER_STUCK = "reader_stuck"
    """The client took nothing of a stream for too long."""

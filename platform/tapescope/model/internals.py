"""What a process, its store and its server are like inside: for metrics."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

__all__ = [
    "ConnectionAbort",
    "ConnectionState",
    "ManagerSigns",
    "Refusal",
    "StoreLoad",
    "StoreSize",
    "StreamEnd",
]


class ConnectionState(StrEnum):
    """What a connection of a store to its database does: a closed set, and a metric label."""

    USED = "used"
    """A call is carried out over it."""
    IDLE = "idle"
    """It is open, and kept for the next call."""


@dataclass(frozen=True, slots=True)
class StoreLoad:
    """What is under way in an open store now."""

    queued: int = 0
    """Calls and events that wait for a flush."""
    used: int | None = None
    """Connections that calls share and that one is carried out over; ``None``: none are shared."""
    idle: int = 0
    waiting: int = 0
    """Calls that wait for a connection."""


@dataclass(frozen=True, slots=True)
class StoreSize:
    """How large a store has become, in bytes; ``None`` where it cannot tell, or has none."""

    log: int | None = None
    """The log that is yet to be moved into the database's file."""
    file: int | None = None
    """The database's file, and of it ``free``, which the next rows fill."""
    free: int | None = None
    disk_free: int | None = None
    """Of the disk that the file is on, what this user may fill yet."""
    disk: int | None = None
    """That disk, the part that its users may fill."""
    quarantine: int | None = None
    """Late events that are kept; counted no further than a bound."""
    audited_us: int = 0
    """When the whole store was last audited, by whatever process; microseconds since the epoch, and
    0 for never."""


@dataclass(frozen=True, slots=True)
class ManagerSigns:
    """The signs of life of one open manager, in seconds."""

    loop_lag: float
    """How late its event loop was lately, at most."""
    heartbeat_age: float
    """How long ago the store last answered a whole heartbeat."""
    lease: float
    """How long a claim of it holds."""
    lease_margin: float
    """How long the first lease to end holds yet; a whole lease where nothing runs, below 0: it is
    over."""


class StreamEnd(StrEnum):
    """Why a stream of a tape ended: a closed set, and a metric label, as those below."""

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
    """429: the tasks that wait to be submitted are as many as there may be; 503: so are the streams
    and waiting requests, or the connections."""
    DRAINING = "draining"
    """503: the server was about to stop."""


class ConnectionAbort(StrEnum):
    """Why a server ended a connection that had no answer yet, or was in the midst of one."""

    NO_HEAD = "no_head"
    """No whole head of a request came in time: the client idles, or is too slow."""
    READER_STUCK = "reader_stuck"
    """The client took nothing of a stream for too long."""

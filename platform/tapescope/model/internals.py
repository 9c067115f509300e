"""What a process and its store are like inside: for metrics, read from memory or at a heartbeat."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

__all__ = ["ConnectionState", "ManagerSigns", "StoreLoad", "StoreSize"]


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

"""What a manager remembers of its own health, for whoever asks from another thread."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["Beat", "Check", "check_readiness"]


@dataclass(frozen=True, slots=True)
class Beat:
    """A heartbeat that has ended; each one asks the store something."""

    at: float
    """When, in seconds of the store's monotonic clock."""
    failure: str | None
    """What the store had to say, where it did not answer."""


@dataclass(frozen=True, slots=True)
class Check:
    """One thing that must be well for a process to be ready."""

    name: str
    ok: bool
    detail: str
    """One line for a person; holds no secret."""


def check_readiness(
    last: Beat | None, *, opened: bool, closing: bool, now: float, lease: float
) -> tuple[Check, ...]:
    """The checks of a manager, from facts alone: ``now`` and ``lease`` are in seconds."""
    taking = opened and not closing
    state = "it takes tasks" if taking else "draining or closed" if closing else "not open yet"
    if last is None:
        heartbeat, store = "none yet", "not asked yet"
    else:
        heartbeat = f"the last one ended {max(0.0, now - last.at):.1f} s ago"
        store = last.failure or "it answered the last heartbeat"
    return (
        Check("manager", taking, state),
        # Silent for a lease, its running tasks are another's to take: the loop is blocked, or the
        # store does not even refuse.
        Check("heartbeat", last is not None and now - last.at <= lease, heartbeat),
        Check("store", last is not None and last.failure is None, store),
        Check(
            "migrations",
            opened,
            "up to date when the store was opened" if opened else "not looked at yet",
        ),
    )

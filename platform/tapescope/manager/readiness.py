"""The readiness of a manager: checks over what it remembers, for any thread."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

__all__ = ["Check", "LastHeartbeat", "check_readiness"]


@dataclass(frozen=True, slots=True)
class LastHeartbeat:
    """The heartbeat that ended last; each one asks the store."""

    at: float
    """When, in seconds of the store's monotonic clock."""
    failure: str | None
    """The store's error; ``None`` when the store answered."""


@dataclass(frozen=True, slots=True)
class Check:
    """One condition for a process to be ready."""

    name: str
    ok: bool
    detail: str
    """One line for a person; holds no secret."""


def check_readiness(
    last: LastHeartbeat | None,
    *,
    opened: bool,
    closing: bool,
    now: float,
    lease: float,
    waits: str | None = None,
    troubles: Sequence[str] = (),
    backlog: str = "not read yet",
    worker: str | None = None,
) -> tuple[Check, ...]:
    """The checks of a manager, from facts alone: ``now`` and ``lease`` are in seconds.

    ``waits`` says why the heartbeat under way has no answer. ``troubles`` are what is wrong with
    its background loops, a text for each. ``backlog`` says what waits on the store: however much,
    the process is ready. ``worker`` says what keeps its worker from claiming: it is ready all the
    same, for to restart it would end what it runs.
    """
    taking = opened and not closing
    state = "it takes tasks" if taking else "draining or closed" if closing else "not open yet"
    if last is None:
        heartbeat, store = "none yet", waits or "not asked yet"
    else:
        heartbeat = f"the last one ended {max(0.0, now - last.at):.1f} s ago"
        store = waits or last.failure or "it answered the last heartbeat"
    return (
        Check("manager", taking, state),
        # After a lease without a heartbeat another owner may take the running tasks: the loop is
        # blocked, or the store neither answers nor refuses.
        Check("heartbeat", last is not None and now - last.at <= lease, heartbeat),
        Check("store", last is not None and last.failure is None and waits is None, store),
        Check("loops", not troubles, "; ".join(troubles) or "all of them move"),
        Check(
            "migrations",
            opened,
            "up to date when the store was opened" if opened else "not looked at yet",
        ),
        Check("backlog", True, backlog),
        *([] if worker is None else [Check("worker", True, worker)]),
    )

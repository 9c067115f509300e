"""The kinds of scenarios: at which moments something is cancelled."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Final

from tests.stress.actors import Part, Plan, draw_cleanup
from tests.stress.delays import Delays

__all__ = ["KINDS", "RETRY", "SHUTDOWN"]

SHUTDOWN: Final = "shutdown"
"""All the others at once, and the manager is closed in the middle of them."""
RETRY: Final = "retry-cancel"
"""A recorded cancel must win over every retry."""


def _plan(delays: Delays, part: Part, cancel: str | None, work: float = 0.0) -> Plan:
    return Plan(
        part,
        work=work,
        tail=0,
        cleanup=draw_cleanup(delays),
        cancel_after=None if cancel is None else delays.draw(cancel, 0, 20),
        fails=delays.random.random() < 0.2,
        follow=delays.random.random() < 0.25,
    )


def _work(delays: Delays) -> float:
    return delays.draw("work", 0, 20)


def cancel_soon(delays: Delays) -> Plan:
    """Cancelled 0 to 20 ms after the submit, before, while or after it runs."""
    return _plan(delays, "work", "cancel after submit", _work(delays))


def cancel_at_completion(delays: Delays) -> Plan:
    """Cancelled around the moment at which the runner returns and the ``final`` is written."""
    return replace(
        _plan(delays, "work", None, delays.draw("work before the end", 0, 5)),
        tail=delays.draw("end after about to end", 0, 12),
        cancel_after=delays.draw("cancel after about to end", 0, 8),
        at_completion=True,
    )


def cancel_twice(delays: Delays) -> Plan:
    """Two cancels, 0 to 10 ms apart."""
    first = _plan(delays, "work", "first of two cancels", _work(delays))
    return replace(first, again_after=delays.draw("between two cancels", 0, 10))


def cancel_at_once(delays: Delays) -> Plan:
    """Cancelled as soon as the submit returns."""
    return replace(_plan(delays, "work", None, _work(delays)), cancel_after=0.0)


def cancel_emitting_runner(delays: Delays) -> Plan:
    """Cancelled while an ``async def`` runner emits in a loop."""
    return _plan(delays, "emit", "cancel of an emitter")


def cancel_emitting_thread(delays: Delays) -> Plan:
    """Cancelled while a thread emits in a loop."""
    return _plan(delays, "thread", "cancel of a thread")


def any_of_them(delays: Delays) -> Plan:
    """One of the above, or one that only the shutdown cancels."""
    plan = delays.random.choice([*KINDS.values()][:6])(delays)
    return replace(plan, cancel_after=None) if delays.random.random() < 0.4 else plan


def cancel_retry(delays: Delays) -> Plan:
    """Work that fails for ever is cancelled around the moment at which a retry is written."""
    return Plan(
        "work",
        work=0,
        tail=delays.draw("failure after about to fail", 0, 3),
        cleanup=delays.random.choice(["pass", "raise"]),
        cancel_after=delays.draw("cancel after about to fail", 0, 8),
        fails=True,
        at_completion=True,
        skip=delays.random.randrange(3),
        again_after=delays.draw("second cancel", 0, 5) if delays.random.random() < 0.2 else None,
        retries=1_000,
        from_outside=delays.random.random() < 0.5,
    )


KINDS: Final[Mapping[str, Callable[[Delays], Plan]]] = {
    "cancel-soon": cancel_soon,
    "cancel-at-completion": cancel_at_completion,
    "two-cancels": cancel_twice,
    "cancel-at-once": cancel_at_once,
    "emitting-runner": cancel_emitting_runner,
    "emitting-thread": cancel_emitting_thread,
    SHUTDOWN: any_of_them,
    RETRY: cancel_retry,
}

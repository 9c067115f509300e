"""The words of the model: what one set of them says about another."""

from __future__ import annotations

from collections import Counter

from tapescope.model import (
    EVENT_TYPES,
    TAPE_OPEN,
    TAPE_UNKNOWN,
    TASK_STARTED,
    DropReason,
    is_event_type,
    list_drops,
)


def test_every_reason_can_happen_to_some_event() -> None:
    """Each drop reason has its events, each listed once; only a ``task_started`` is never late."""
    drops = list(list_drops())

    assert max(Counter(drops).values()) == 1
    assert {reason for reason, _, _ in drops} == set(DropReason)
    assert {type for _, type, _ in drops} == set(EVENT_TYPES) - {TASK_STARTED}
    assert all(is_event_type(type) for type in EVENT_TYPES)


def test_only_a_stale_attempt_meets_an_open_tape() -> None:
    """On an open tape the attempt must be an old one, and without a tape there is no outcome."""
    drops = list(list_drops())

    assert {r for r, _, outcome in drops if outcome == TAPE_OPEN} == {DropReason.STALE_ATTEMPT}
    assert {r for r, _, outcome in drops if outcome == TAPE_UNKNOWN} == {DropReason.UNKNOWN_TASK}

"""The words of the model: what one set of them says about another."""

from __future__ import annotations

from tapescope.model import (
    EVENT_TYPES,
    FINAL,
    TAPE_OPEN,
    TAPE_UNKNOWN,
    TASK_STARTED,
    DropReason,
    Outcome,
    is_event_type,
)


def test_only_a_task_started_is_never_late() -> None:
    """Every other type of the platform's own can be dropped, for one reason at least."""
    late = {type for reason in DropReason for type in reason.event_types}

    assert late == set(EVENT_TYPES) - {TASK_STARTED}
    assert all(is_event_type(type) for type in EVENT_TYPES)


def test_a_closed_tape_has_one_reason_for_each_type() -> None:
    """A late event of the task's own attempt has one reason: a ``final`` its own, others theirs."""
    closed = [reason for reason in DropReason if set(reason.tape_outcomes) == set(Outcome)]
    types = [type for reason in closed for type in reason.event_types]

    assert sorted(types) == sorted(set(EVENT_TYPES) - {TASK_STARTED})
    assert DropReason.DUPLICATE_FINAL.event_types == (FINAL,)


def test_only_a_stale_attempt_meets_an_open_tape() -> None:
    """On an open tape the attempt must be an old one, and without a tape there is no outcome."""
    assert [r for r in DropReason if TAPE_OPEN in r.tape_outcomes] == [DropReason.STALE_ATTEMPT]
    assert [r for r in DropReason if TAPE_UNKNOWN in r.tape_outcomes] == [DropReason.UNKNOWN_TASK]

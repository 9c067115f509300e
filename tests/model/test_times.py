"""Times as users read them."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone

import pytest

from tapescope.model import (
    AuditRule,
    CancelReason,
    CancelRequest,
    DroppedEvent,
    DropReason,
    Event,
    Repair,
    Task,
    TaskStatus,
    as_microseconds,
    format_time,
    moment,
    parse_time,
)
from tests.support.times import TIMES


@pytest.mark.parametrize(("microseconds", "text"), TIMES)
def test_a_time_is_written_to_the_microsecond_and_read_back(microseconds: int, text: str) -> None:
    """RFC 3339 in UTC, six digits after the point also where they are zeros."""
    assert format_time(microseconds) == text
    assert parse_time(text) == microseconds


@pytest.mark.parametrize(("microseconds", "text"), TIMES)
def test_a_moment_is_aware_and_exact(microseconds: int, text: str) -> None:
    """A datetime of a store's time is in UTC, and leads back to the same integer."""
    assert moment(microseconds) == datetime.fromisoformat(text)
    assert moment(microseconds).tzinfo is UTC
    assert as_microseconds(moment(microseconds)) == microseconds


def test_a_time_of_another_zone_is_the_same_moment() -> None:
    """What counts is the moment, not how its zone writes it."""
    east = timezone(timedelta(hours=2))

    assert as_microseconds(datetime(1970, 1, 1, 2, 0, 0, 7, east)) == 7
    assert parse_time("1970-01-01T02:00:00.000007+02:00") == 7


def test_what_is_not_a_time_is_refused() -> None:
    """A number is not a time: bodies have texts."""
    with pytest.raises(ValueError, match="Invalid isoformat"):
        parse_time("a while ago")


def make_task(claimed: int | None, finished: int | None, expires: int | None) -> Task:
    """A task with these times, created at 1 µs and due at 2 µs."""
    return Task(
        task_id="id",
        op="x",
        params={},
        status=TaskStatus.PENDING,
        attempt=0,
        owner=None,
        created_us=1,
        run_us=2,
        claimed_us=claimed,
        finished_us=finished,
        lease_expires_us=expires,
        timeout=None,
        retries=0,
        idempotency_key=None,
        traceparent=None,
        cancel=None,
        error_code=None,
    )


def test_the_times_of_a_task_are_aware() -> None:
    """Each is of the field in microseconds that has its name; where there is none, ``None``."""
    task = make_task(3, 4, 5)
    times = (
        task.created_at,
        task.run_at,
        task.claimed_at,
        task.finished_at,
        task.lease_expires_at,
    )
    pending = make_task(None, None, None)

    assert times == tuple(moment(number) for number in range(1, 6))
    assert (pending.claimed_at, pending.finished_at, pending.lease_expires_at) == (None, None, None)


def test_the_times_of_events_drops_cancels_and_repairs_are_aware() -> None:
    """What a user reads of a store is never a bare number."""
    event = Event(1, "log", 1, 1, None)
    drop = DroppedEvent("id", 1, "log", DropReason.STALE_ATTEMPT, 2, None, None, None)
    cancel = CancelRequest(CancelReason.USER, "", None, 3)
    repair = Repair(AuditRule.MISSING_FINAL, "id", None, {}, 4, "me")

    assert [event.ts, drop.ts, cancel.at, repair.at] == [moment(number) for number in range(1, 5)]

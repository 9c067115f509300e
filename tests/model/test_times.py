"""Times as users read them."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone

import pytest

from tapescope.model import as_microseconds, format_time, moment, parse_time
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

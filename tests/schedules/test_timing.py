"""Firing times: cron as Debian's reads it, on the days on which clocks are set, and intervals."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from itertools import pairwise
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tapescope import BadSetting
from tapescope.model.times import as_microseconds, moment
from tapescope.schedules import MOST_CAUGHT_UP, Timing

SECOND = 1_000_000
BERLIN, NEW_YORK, LORD_HOWE = "Europe/Berlin", "America/New_York", "Australia/Lord_Howe"
WINTER = datetime(2026, 1, 15, tzinfo=UTC)


def list_day(cron: str, zone: str, day: str) -> list[str]:
    """The firing times of one day of a zone, as its clocks show them, with their difference."""
    first = datetime.fromisoformat(day).replace(tzinfo=ZoneInfo(zone))
    timing, at, times = Timing(cron, None, zone), as_microseconds(first) - 1, list[str]()
    while (found := timing.find_next(at)) is not None:
        local = moment(found).astimezone(ZoneInfo(zone))
        if local.date() != first.date():
            return times
        times.append(f"{local:%H:%M%z}")
        at = found
    return times


# What Debian's cron does with a job of fixed times: in a gap it runs once the gap is over, and in
# an hour that comes twice it runs the first time.
FIXED = [
    (BERLIN, "2026-03-29", "30 2 * * *", ["03:00+0200"]),
    (BERLIN, "2026-03-29", "0,30 2 * * *", ["03:00+0200"]),
    (BERLIN, "2026-03-29", "59 1 * * *", ["01:59+0100"]),
    (BERLIN, "2026-03-29", "0 3 * * *", ["03:00+0200"]),
    (BERLIN, "2026-10-25", "30 2 * * *", ["02:30+0200"]),
    (BERLIN, "2026-10-25", "0 3 * * *", ["03:00+0100"]),
    (NEW_YORK, "2026-03-08", "30 2 * * *", ["03:00-0400"]),
    (NEW_YORK, "2026-03-08", "30 3 * * *", ["03:30-0400"]),
    (NEW_YORK, "2026-11-01", "30 1 * * *", ["01:30-0400"]),
    (NEW_YORK, "2026-11-01", "0 2 * * *", ["02:00-0500"]),
    (LORD_HOWE, "2026-10-04", "15 2 * * *", ["02:30+1100"]),
    (LORD_HOWE, "2026-10-04", "45 2 * * *", ["02:45+1100"]),
    (LORD_HOWE, "2026-04-05", "45 1 * * *", ["01:45+1100"]),
    (LORD_HOWE, "2026-04-05", "0 2 * * *", ["02:00+1030"]),
]
# And of one with a star for its minute or hour: it goes by the time that passes.
STARRED: list[tuple[str, str, str, list[str]]] = [
    (
        BERLIN,
        "2026-03-29",
        "*/30 1-3 * * *",
        ["01:00+0100", "01:30+0100", "03:00+0200", "03:30+0200"],
    ),
    (BERLIN, "2026-03-29", "*/20 2 * * *", []),
    (
        BERLIN,
        "2026-10-25",
        "*/30 2 * * *",
        ["02:00+0200", "02:30+0200", "02:00+0100", "02:30+0100"],
    ),
    (NEW_YORK, "2026-03-08", "*/30 2-3 * * *", ["03:00-0400", "03:30-0400"]),
    (
        NEW_YORK,
        "2026-11-01",
        "*/30 1 * * *",
        ["01:00-0400", "01:30-0400", "01:00-0500", "01:30-0500"],
    ),
    (LORD_HOWE, "2026-10-04", "*/20 2 * * *", ["02:40+1100"]),
    (
        LORD_HOWE,
        "2026-04-05",
        "*/15 1 * * *",
        ["01:00+1100", "01:15+1100", "01:30+1100", "01:45+1100", "01:30+1030", "01:45+1030"],
    ),
    (LORD_HOWE, "2026-04-05", "*/20 2 * * *", ["02:00+1030", "02:20+1030", "02:40+1030"]),
]


@pytest.mark.parametrize(("zone", "day", "cron", "times"), FIXED + STARRED)
def test_the_days_on_which_clocks_are_set(zone: str, day: str, cron: str, times: list[str]) -> None:
    """Each firing time of the day, as Debian's cron has it."""
    assert list_day(cron, zone, day) == times


@pytest.mark.parametrize(
    ("zone", "day", "hours"),
    [
        *((BERLIN, "2026-03-29", 23), (BERLIN, "2026-10-25", 25), (BERLIN, "2026-06-01", 24)),
        *((NEW_YORK, "2026-03-08", 23), (NEW_YORK, "2026-11-01", 25)),
        *((LORD_HOWE, "2026-10-04", 23.5), (LORD_HOWE, "2026-04-05", 24.5)),
    ],
)
def test_every_minute_of_the_day_fires_once(zone: str, day: str, hours: float) -> None:
    """A day is as long as it is: each minute that passes fires, and none twice."""
    first = datetime.fromisoformat(day).replace(tzinfo=ZoneInfo(zone))
    timing, at, times = Timing("* * * * *", None, zone), as_microseconds(first) - 1, list[int]()
    while len(times) < hours * 60:
        found = timing.find_next(at)
        assert found is not None
        times.append(found)
        at = found

    assert {later - one for one, later in pairwise(times)} == {60 * SECOND}
    assert moment(times[0]) == first
    assert moment(times[-1] + 60 * SECOND).astimezone(ZoneInfo(zone)).date() == (
        first.date() + timedelta(days=1)
    )


@settings(max_examples=60, deadline=None)
@given(
    st.sampled_from(["0 3 * * *", "30 2 * * *", "*/7 1-3 * * *", "15 */5 * * MON", "0 0 1 * *"]),
    st.sampled_from(["UTC", BERLIN, NEW_YORK, LORD_HOWE]),
    st.integers(0, 365 * 86_400),
)
def test_a_next_time_lies_ahead_and_none_lies_between(cron: str, zone: str, second: int) -> None:
    """Whenever it is asked, also in an hour that comes twice, and again from what it said."""
    timing = Timing(cron, None, zone)
    at = as_microseconds(WINTER) + second * SECOND
    first = timing.find_next(at)
    assert first is not None
    second_time = timing.find_next(first)

    assert first > at
    assert second_time is not None
    assert second_time > first
    assert timing.find_next(at - SECOND) in (first, at)
    assert timing.find_next(first - 1) == first


def test_a_time_that_comes_twice_is_not_asked_for_behind() -> None:
    """Between the first and the second 02:30 of a day, the next one is that of the day after."""
    second_time = datetime(2026, 10, 25, 2, 10, fold=1, tzinfo=ZoneInfo(BERLIN))
    found = Timing("30 2 * * *", None, BERLIN).find_next(as_microseconds(second_time))

    assert found is not None
    assert f"{moment(found).astimezone(ZoneInfo(BERLIN)):%m-%d %H:%M%z}" == "10-26 02:30+0100"


def test_an_interval_fires_at_its_multiples() -> None:
    """Whoever reads it finds the same times, before the epoch as well."""
    timing = Timing(None, 90, "UTC")

    assert timing.find_next(0) == 90 * SECOND
    assert timing.find_next(90 * SECOND - 1) == 90 * SECOND
    assert timing.find_next(90 * SECOND) == 180 * SECOND
    assert timing.find_next(-100 * SECOND) == -90 * SECOND


@pytest.mark.parametrize("timing", [Timing("* * * * *", None, "UTC"), Timing(None, 60, "UTC")])
def test_the_last_of_what_passed_is_seen(timing: Timing) -> None:
    """Of three years of minutes a look sees the last hundred, and of a few minutes each."""
    now = as_microseconds(WINTER)
    years = timing.list_passed(now - 3 * 365 * 86_400 * SECOND, now)
    minutes = timing.list_passed(now - 180 * SECOND, now)

    assert years == [now - n * 60 * SECOND for n in reversed(range(MOST_CAUGHT_UP))]
    assert minutes == [now - n * 60 * SECOND for n in (3, 2, 1, 0)]
    assert timing.list_passed(now + 60 * SECOND, now) == []


def test_what_passed_of_a_rare_time_is_seen() -> None:
    """Each of the few times of many years, and a day of minutes once a year in part."""
    now = as_microseconds(WINTER)
    leap = Timing("0 0 29 2 *", None, BERLIN).list_passed(0, now)
    day = Timing("* * 1 1 *", None, "UTC").list_passed(0, now)

    assert [moment(time).astimezone(ZoneInfo(BERLIN)).year for time in leap] == [
        *range(1972, 2025, 4)
    ]
    assert [moment(time) for time in day[-2:]] == [
        datetime(2026, 1, 1, 23, minute, tzinfo=UTC) for minute in (58, 59)
    ]
    assert len(day) == MOST_CAUGHT_UP


@pytest.mark.parametrize(
    ("cron", "every", "zone", "named"),
    [
        ("* * * *", None, "UTC", "cron"),
        ("0 3 * * * *", None, "UTC", "cron"),
        ("61 * * * *", None, "UTC", "cron"),
        ("0 3 * * *\0", None, "UTC", "cron"),
        ("0 3 * * FOO", None, "UTC", "cron"),
        ("0 0 30 2 *", None, "UTC", "cron"),
        ("0," * 200 + "0 3 * * *", None, "UTC", "cron"),
        (7, None, "UTC", "cron"),
        ("0 3 * * *", None, "Europe/Nowhere", "time_zone"),
        ("0 3 * * *", None, "../../etc/passwd", "time_zone"),
        ("0 3 * * *", None, "Europe", "time_zone"),
        ("0 3 * * *", None, "", "time_zone"),
        ("0 3 * * *", None, None, "time_zone"),
        ("0 3 * * *", 60, "UTC", "every"),
        (None, None, "UTC", "every"),
        (None, 0.5, "UTC", "every"),
        (None, float("nan"), "UTC", "every"),
        (None, True, "UTC", "every"),
        (None, 60, BERLIN, "time_zone"),
    ],
)
def test_what_gives_no_times_is_refused(
    cron: object, every: object, zone: object, named: str
) -> None:
    """With the setting that is wrong, and what it must be."""
    with pytest.raises(BadSetting) as refused:
        Timing(cron, every, zone)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]  # what a caller may pass

    assert refused.value.name == named

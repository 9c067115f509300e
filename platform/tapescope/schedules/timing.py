"""Firing times: of cron expressions in a time zone, and of intervals."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta, tzinfo
from typing import TYPE_CHECKING, Final

from tapescope.errors import BadSetting
from tapescope.model.times import LAST_TIME, as_microseconds, moment
from tapescope.store.validation import check_seconds, check_text

if TYPE_CHECKING:
    from tapescope.model.schedules import Schedule

__all__ = ["MOST_CAUGHT_UP", "Timing"]

MOST_CAUGHT_UP: Final = 100
"""Firing times that a look at a schedule sees of those that passed: the last ones."""

_SECOND: Final = 1_000_000
_LOOK_BACK: Final = 60 * _SECOND
_STRETCH: Final = 7 * 86_400 * _SECOND
"""Within a week a zone changes its difference to UTC once at most."""
_CRON_BYTES: Final = 200
_ZONE_BYTES: Final = 64
_FIELDS: Final = 5
_CRON: Final = (
    "five fields of cron (minute, hour, day of the month, month, day of the week), "
    "as in '0 3 * * *'"
)


class Timing:
    """The firing times of a schedule, in microseconds since the Unix epoch.

    Cron is read as Debian's cron does. Where clocks go forward, a time that the day does not have
    fires when the gap ends. Where they go back, a time that the day has twice fires once, the first
    time. An expression whose minute or hour begins with ``*`` goes by the time that passes instead:
    it fires as often as its wall clock shows it, and what is in a gap is not fired.

    An interval fires at its multiples since the Unix epoch, whoever reads it.
    """

    def __init__(self, cron: str | None, every: float | None, time_zone: str) -> None:
        """Raises ``BadSetting``."""
        if (cron is None) is (every is None):
            raise BadSetting("every", every, "given where 'cron' is not, and not beside it")
        self._every = 0
        self._cron = ""
        self._zone = _find_zone(time_zone)
        if every is not None:
            seconds = check_seconds("every", every)
            if seconds < 1:
                raise BadSetting("every", every, "a number of seconds, 1 or more")
            if time_zone != "UTC":
                raise BadSetting("time_zone", time_zone, "left out beside 'every'")
            self._every = round(seconds * _SECOND)
        if cron is not None:
            self._cron = check_text("cron", cron, most=_CRON_BYTES)
            if len(self._cron.split()) != _FIELDS:
                raise BadSetting("cron", cron, _CRON)
            self.find_next(0)

    @classmethod
    def of(cls, schedule: Schedule) -> Timing:
        """Of a schedule of the store. Raises ``BadSetting``."""
        return cls(schedule.cron, schedule.every, schedule.time_zone)

    def find_next(self, after: int) -> int | None:
        """The first firing time after this moment; ``None`` where there is none in fifty years."""
        return next(self._iterate(after), None)

    def list_passed(self, first: int, now: int) -> list[int]:
        """The firing times from ``first`` to ``now``, in order: the last ``MOST_CAUGHT_UP`` of
        them, for a schedule that nobody looked at for a year may have a million."""
        if self._every:
            first = max(first, now - (MOST_CAUGHT_UP + 1) * self._every)
        else:
            first = self._find_start(first, now)
        passed: deque[int] = deque(maxlen=MOST_CAUGHT_UP)
        for time in self._iterate(first - 1):
            if time > now:
                break
            passed.append(time)
        return list(passed)

    def _find_start(self, first: int, now: int) -> int:
        """A moment from which on enough times have passed, and not many more than that."""
        back = _LOOK_BACK
        while now - back > first:
            times = self._iterate(now - back)
            for _ in range(MOST_CAUGHT_UP):
                if (time := next(times, None)) is None or time > now:
                    break
            else:
                return now - back
            back *= 2
        return first

    def _iterate(self, after: int) -> Iterator[int]:
        if self._every:
            while (after := (after // self._every + 1) * self._every) <= LAST_TIME:
                yield after
            return
        times = self._iterate_elapsed if self._elapsed else self._iterate_wall
        for time in times(after):
            if time > after:  # of an hour that comes twice cron says the first, when it has passed
                after = time
                yield time

    @property
    def _elapsed(self) -> bool:
        """Whether the expression goes by the time that passes, and not by the hands of a clock."""
        minute, hour, *_ = self._cron.split()
        return minute.startswith("*") or hour.startswith("*")

    def _iterate_wall(self, after: int) -> Iterator[int]:
        for when in self._match(moment(after - after % _SECOND).astimezone(self._zone)):
            yield as_microseconds(when.astimezone(UTC))

    def _iterate_elapsed(self, after: int) -> Iterator[int]:
        """One stretch after the other in which the zone's difference to UTC is the same: the
        library is wrong where it changes by half an hour."""
        while True:
            difference = self._find_difference(after + 1)
            changed = None
            start = moment(after - after % _SECOND + difference).replace(tzinfo=None)
            for when in self._match(start):
                time = as_microseconds(when.replace(tzinfo=UTC)) - difference
                if (changed := self._find_change(after + 1, time)) is not None:
                    break
                yield time
                after = time
            if changed is None:
                return
            after = changed - 1

    def _match(self, start: datetime) -> Iterator[datetime]:
        from cronsim import CronSim, CronSimError  # where there is a schedule alone

        try:
            yield from CronSim(self._cron, start)
        except CronSimError as error:
            raise BadSetting("cron", self._cron, f"{_CRON} ({error})") from error

    def _find_difference(self, time: int) -> int:
        """Microseconds that the zone is ahead of UTC then."""
        offset = moment(time).astimezone(self._zone).utcoffset()
        assert offset is not None, "it has a zone"
        return offset // timedelta(microseconds=1)

    def _find_change(self, first: int, last: int) -> int | None:
        """The first moment after ``first``, up to ``last``, with another difference than at it."""
        difference, low = self._find_difference(first), first
        while low < last:
            high = min(low + _STRETCH, last)
            if self._find_difference(high) != difference:
                break
            low = high
        else:
            return None
        while high - low > 1:
            middle = (low + high) // 2
            low, high = (
                (middle, high) if self._find_difference(middle) == difference else (low, middle)
            )
        return high


def _find_zone(name: object) -> tzinfo:
    """A time zone by its name. Raises ``BadSetting``."""
    text = check_text("time_zone", name, most=_ZONE_BYTES)
    if text == "UTC":
        return UTC
    from zoneinfo import ZoneInfo  # where a schedule has a zone alone

    try:
        zone = ZoneInfo(text)
        datetime(2000, 1, 1, tzinfo=zone).utcoffset()
    except Exception as error:  # whatever the file of a name raises that is not a zone
        raise BadSetting(
            "time_zone",
            name,
            "a name of the IANA database, as 'Europe/Berlin', that this machine knows. A machine "
            "without time zones gets them with: pip install tzdata",
        ) from error
    return zone

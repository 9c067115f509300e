"""Schedules on the port: what the store keeps of each, and which worker fires."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Callable, Sequence
from dataclasses import replace
from typing import Any, Final, cast

from tapescope.codec import decode, encode
from tapescope.errors import BadParams, NotJson, UnknownSchedule
from tapescope.model.schedules import (
    CatchUp,
    Overlap,
    Schedule,
    ScheduleOrigin,
    SchedulePage,
)
from tapescope.model.tasks import PRIORITIES, is_queue
from tapescope.model.times import FIRST_TIME, LAST_TIME
from tapescope.store.core import StoreCore
from tapescope.store.damage import read_sound_tags
from tapescope.store.validation import check_page_size, check_seconds, check_text

__all__ = ["StoreSchedules", "read_schedule", "write_schedule"]

_PAGE: Final = 100


class StoreSchedules:
    """Rows of schedules. What is in them is checked by who makes them (``tapescope.schedules``).

    A row is changed by who has seen its last revision, and by nobody else.
    """

    def __init__(self, core: StoreCore) -> None:
        self._core = core

    async def add_if_absent(self, schedule: Schedule) -> bool:
        """Insert a row; says whether it is there now: ``False`` where another of the name is.

        Raises ``BadParams`` for params that are not JSON, or are too large.
        """
        core = self._core
        row = replace(
            schedule, params=self._check_params(schedule), created_us=core.due_clock.now()
        )
        if await core.change("add_schedule", lambda: core.backend.add_schedule(row)):
            return True
        # The row may be this one: of a try whose answer was lost.
        return await self.find(row.name) == row

    async def change_if_same(self, schedule: Schedule) -> bool:
        """Write the whole row, if its revision is still this one's; says whether it was.

        The revision counts up. Raises what ``add_if_absent`` raises.
        """
        core = self._core
        row = replace(schedule, params=self._check_params(schedule))
        return await core.change("change_schedule", lambda: core.backend.change_schedule(row))

    async def change(self, name: str, make: Callable[[Schedule], Schedule]) -> Schedule:
        """Change a row as it stands, whoever else changes it meanwhile; gives what it became.

        Raises ``UnknownSchedule``.
        """
        while True:
            kept = await self.get(name)
            wanted = make(kept)
            if wanted == kept:
                return kept
            if await self.change_if_same(wanted):
                return replace(wanted, revision=kept.revision + 1)

    async def remove(self, name: str) -> None:
        """Delete a row. Raises ``UnknownSchedule``."""
        core, known = self._core, check_text("name", name)
        if not await core.change("remove_schedule", lambda: core.backend.remove_schedule(known)):
            raise UnknownSchedule(name)

    async def get(self, name: str) -> Schedule:
        """A schedule by its name. Raises ``UnknownSchedule``."""
        found = await self.find(name)
        if found is None:
            raise UnknownSchedule(name)
        return found

    async def find(self, name: str) -> Schedule | None:
        """A schedule by its name, if there is one."""
        core, known = self._core, check_text("name", name)
        return await core.read("get_schedule", lambda: core.backend.get_schedule(known))

    async def list(self, *, after: str | None = None, limit: int = _PAGE) -> SchedulePage:
        """A page of schedules, by name. Raises ``BadSetting``."""
        core, start = self._core, "" if after is None else check_text("after", after)
        limit = check_page_size(limit)
        found = await core.read(
            "list_schedules", lambda: core.backend.list_schedules(start, limit + 1)
        )
        page = tuple(found[:limit])
        return SchedulePage(page, page[-1].name if len(found) > limit else None)

    async def iterate(self) -> AsyncIterator[Schedule]:
        """Every schedule, a page at a time."""
        after: str | None = None
        while True:
            page = await self.list(after=after)
            for schedule in page.schedules:
                yield schedule
            if (after := page.next) is None:
                return

    async def list_due(self, now: int) -> AsyncGenerator[Schedule]:
        """Those whose next firing time is this moment or earlier and that are not paused, the
        earliest first, a page at a time."""
        after: tuple[int, str] | None = FIRST_TIME, ""
        while after is not None:
            page = await self._read_due(now, after)
            for schedule in page:
                yield schedule
            full = len(page) == _PAGE
            after = (page[-1].next_us or 0, page[-1].name) if full else None

    async def _read_due(self, now: int, after: tuple[int, str]) -> Sequence[Schedule]:
        core = self._core
        return await core.read(
            "list_due_schedules",
            lambda: core.backend.list_due_schedules(now, after, _PAGE),
        )

    async def find_next(self, after: int) -> int | None:
        """The first firing time after this moment of those that are not paused."""
        core = self._core
        return await core.read("next_schedule", lambda: core.backend.next_schedule(after))

    async def acquire_firing(self, owner: str, now: int, lease: float) -> bool:
        """Be the one that fires for ``lease`` seconds from ``now``, or go on to be; says whether.

        ``False`` while another owner is. ``now`` is of ``due_clock``. Raises ``BadSetting``.
        """
        core, length = self._core, round(check_seconds("lease", lease, over_zero=True) * 1e6)
        return await core.change(
            "acquire_firing", lambda: core.backend.acquire_firing(owner, now, now + length)
        )

    async def resign_firing(self, owner: str) -> None:
        """Leave the firing to others; nothing happens where the owner does not fire."""
        core = self._core
        await core.change("resign_firing", lambda: core.backend.resign_firing(owner))

    def _check_params(self, schedule: Schedule) -> dict[str, Any]:
        """The params as every reader of the row will see them. Raises ``BadParams``."""
        try:
            text = encode(dict(schedule.params), "params")
        except NotJson as error:
            raise BadParams(error.why) from error
        if len(text.encode()) > self._core.limits.params_bytes:
            raise BadParams(f"they are over {self._core.limits.params_bytes:,} bytes of JSON")
        params: dict[str, Any] = decode(text)
        return params


def write_schedule(schedule: Schedule) -> tuple[Any, ...]:
    """The columns of a row, in the order of the fields; params as JSON text."""
    s = schedule
    return (
        *(s.name, s.op, encode(dict(s.params), "params"), s.timeout, s.retries),
        *(s.cron, s.every, s.time_zone, s.catch_up.value, s.overlap.value, s.origin.value),
        *(s.paused, s.next_us, s.last_us, s.last_task, s.priority),
        encode(list(s.tags), "tags") if s.tags else None,
        *(s.queue, s.created_us, s.revision),
    )


def read_schedule(*row: Any) -> Schedule:
    """A schedule from its columns, as ``write_schedule`` has them.

    What was written past tapescope, or by a newer version, and cannot be read is left out, and the
    schedule has no times then: it is shown, warned of, and not fired.
    """
    name, op, params, timeout, retries, cron, every, zone, catch_up, overlap, origin, *rest = row
    paused, next_us, last_us, last_task, priority, tags, queue, created_us, revision = rest
    known: tuple[CatchUp, Overlap, ScheduleOrigin] | None
    try:
        known = CatchUp(catch_up), Overlap(overlap), ScheduleOrigin(origin)
        body: object = decode(params)
    except (TypeError, ValueError):
        known, body = None, None
    if known is None or not isinstance(body, dict):
        known = CatchUp.SKIP, Overlap.SKIP, ScheduleOrigin.STORE
        body, cron, every = dict[str, Any](), None, None
    what = name, op, cast("dict[str, Any]", body), timeout, retries, cron, every, zone
    return Schedule(
        *what,
        *known,
        paused=bool(paused),
        next_us=_read_time(next_us),
        last_us=_read_time(last_us),
        last_task=last_task,
        priority=priority if priority in PRIORITIES else None,
        tags=read_sound_tags(tags),  # as above
        queue=queue if is_queue(queue) else None,
        created_us=_read_time(created_us) or 0,
        revision=revision,
    )


def _read_time(us: int | None) -> int | None:
    return us if us is not None and FIRST_TIME <= us <= LAST_TIME else None

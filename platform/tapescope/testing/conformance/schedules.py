"""Schedules: rows that are changed by who saw them last, and one worker that fires."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import Final

import pytest

from tapescope.errors import BadParams, BadSetting, UnknownSchedule
from tapescope.model.schedules import CatchUp, Overlap, Schedule, ScheduleOrigin
from tapescope.store.port import TaskStore
from tapescope.testing.conformance.suite import StoreSuite

HOUR: Final = 3_600_000_000
"""In microseconds."""
FULL: Final = Schedule(
    "nightly",
    "reports.build",
    {"region": "eu", "days": [1, 2], "é": None},
    60.5,
    4,
    "0 3 * * *",
    None,
    "Europe/Berlin",
    CatchUp.ALL,
    Overlap.SKIP,
    ScheduleOrigin.CODE,
    paused=True,
    next_us=7 * HOUR,
    last_us=6 * HOUR,
    last_task="01890000-0000-7000-8000-000000000000",
)


class SchedulesConformance(StoreSuite):
    """Schedules: rows that are changed by who saw them last, and one worker that fires."""

    async def test_a_schedule_is_kept_as_it_was_added(
        self, store: TaskStore, second_store: TaskStore
    ) -> None:
        """Every field is read as it was written, from any process; the store says when it was."""
        bare = Schedule("bare", "work", every=1.5, next_us=HOUR)
        added = [await store.schedules.add_if_absent(one) for one in (FULL, bare)]
        full = await second_store.schedules.get("nightly")
        read = await second_store.schedules.get("bare")

        assert added == [True, True]
        assert full.created_us > 0
        assert full == replace(FULL, created_us=full.created_us)
        assert read == replace(bare, created_us=read.created_us)

    async def test_a_name_is_taken_once(self, store: TaskStore, second_store: TaskStore) -> None:
        """Of many that add a schedule of one name at the same time one does, and it stays."""
        wanted = [replace(FULL, op=f"op{n}") for n in range(10)]
        stores = [store, second_store] * 5
        added = await asyncio.gather(
            *(one.schedules.add_if_absent(row) for one, row in zip(stores, wanted, strict=True))
        )

        assert added.count(True) == 1
        assert (await store.schedules.get("nightly")).op == wanted[added.index(True)].op

    async def test_who_has_not_seen_the_last_revision_changes_nothing(
        self, store: TaskStore
    ) -> None:
        """A change names the revision that it saw; a later one than that is not overwritten."""
        await store.schedules.add_if_absent(FULL)
        seen = await store.schedules.get("nightly")
        first = await store.schedules.change_if_same(
            replace(seen, paused=False, next_us=None, last_us=8 * HOUR, created_us=1)
        )
        second = await store.schedules.change_if_same(replace(seen, op="other"))
        absent = await store.schedules.change_if_same(replace(seen, name="absent"))

        assert (first, second, absent) == (True, False, False)
        assert await store.schedules.get("nightly") == replace(
            seen, paused=False, next_us=None, last_us=8 * HOUR, revision=seen.revision + 1
        )

    async def test_changes_at_once_are_made_one_after_the_other(
        self, store: TaskStore, second_store: TaskStore
    ) -> None:
        """None of twenty changes by reading and writing is lost."""
        await store.schedules.add_if_absent(replace(FULL, retries=0))

        def count(kept: Schedule) -> Schedule:
            return replace(kept, retries=(kept.retries or 0) + 1)

        await asyncio.gather(
            *(one.schedules.change("nightly", count) for one in [store, second_store] * 10)
        )

        assert (await store.schedules.get("nightly")).retries == 20

    async def test_a_schedule_is_removed_once(self, store: TaskStore) -> None:
        """What is removed is not there any more; a name that is not known is an error."""
        await store.schedules.add_if_absent(FULL)
        await store.schedules.remove("nightly")

        assert await store.schedules.find("nightly") is None
        with pytest.raises(UnknownSchedule):
            await store.schedules.get("nightly")
        with pytest.raises(UnknownSchedule):
            await store.schedules.remove("nightly")
        with pytest.raises(UnknownSchedule):
            await store.schedules.change("nightly", lambda kept: kept)

    async def test_schedules_are_listed_by_name_in_pages(self, store: TaskStore) -> None:
        """Names are in the order of their bytes, whatever the database's language."""
        names = ["B", "a", "a-b", "a.c", "aB", "_x", "Z9"]
        for name in names:
            await store.schedules.add_if_absent(replace(FULL, name=name))
        page = await store.schedules.list(limit=3)
        rest = await store.schedules.list(after=page.next, limit=10)
        all_ = [one.name async for one in store.schedules.iterate()]

        assert [one.name for one in page.schedules] == sorted(names)[:3]
        assert page.next == sorted(names)[2]
        assert [one.name for one in rest.schedules] == sorted(names)[3:]
        assert rest.next is None
        assert all_ == sorted(names)

    async def test_what_is_due_is_listed_by_time(self, store: TaskStore) -> None:
        """The earliest first, past the end of a page; not what is paused, later, or has no time."""
        row = replace(FULL, paused=False)
        for n in range(130):
            await store.schedules.add_if_absent(
                replace(row, name=f"due{n:03}", next_us=(n % 3) * HOUR)
            )
        await store.schedules.add_if_absent(replace(row, name="later", next_us=2 * HOUR + 1))
        await store.schedules.add_if_absent(replace(row, name="ended", next_us=None))
        await store.schedules.add_if_absent(replace(FULL, name="paused", next_us=HOUR))
        due = [one async for one in store.schedules.list_due(2 * HOUR)]
        of_first = [one.name async for one in store.schedules.list_due(0)]

        assert [(one.next_us, one.name) for one in due] == sorted(
            ((n % 3) * HOUR, f"due{n:03}") for n in range(130)
        )
        assert of_first == [f"due{n:03}" for n in range(0, 130, 3)]

    async def test_the_next_time_is_the_first_that_comes(self, store: TaskStore) -> None:
        """What is due already, or is paused, does not come."""
        nothing = await store.schedules.find_next(0)
        row = replace(FULL, paused=False)
        await store.schedules.add_if_absent(replace(row, name="first", next_us=HOUR))
        await store.schedules.add_if_absent(replace(row, name="second", next_us=2 * HOUR))
        await store.schedules.add_if_absent(replace(FULL, name="paused", next_us=HOUR + 1))

        assert nothing is None
        assert await store.schedules.find_next(0) == HOUR
        assert await store.schedules.find_next(HOUR) == 2 * HOUR
        assert await store.schedules.find_next(2 * HOUR) is None

    async def test_one_owner_fires(self, store: TaskStore, second_store: TaskStore) -> None:
        """The others do when its lease is over, or when it has resigned."""
        one, other = store.schedules, second_store.schedules
        first = await one.acquire_firing("a", HOUR, 10)
        again = await one.acquire_firing("a", HOUR + 5_000_000, 10)
        during = await other.acquire_firing("b", HOUR + 15_000_000, 10)
        over = await other.acquire_firing("b", HOUR + 15_000_001, 10)
        await other.resign_firing("a")
        still = await one.acquire_firing("a", HOUR + 16_000_000, 10)
        await other.resign_firing("b")
        then = await one.acquire_firing("a", HOUR + 16_000_000, 10)

        assert (first, again, during, over, still, then) == (True, True, False, True, False, True)

    async def test_one_of_many_at_once_fires(self, store: TaskStore) -> None:
        """Of twenty owners that ask at the same time one fires."""
        fires = await asyncio.gather(
            *(store.schedules.acquire_firing(f"owner {n}", HOUR, 10) for n in range(20))
        )

        assert fires.count(True) == 1

    async def test_a_lease_of_a_clock_that_was_ahead_holds_nobody_up(
        self, store: TaskStore
    ) -> None:
        """A time that ends further ahead than a lease lasts was never this clock's."""
        await store.schedules.acquire_firing("a", 1_000 * HOUR, 10)

        assert await store.schedules.acquire_firing("b", HOUR, 10)
        assert not await store.schedules.acquire_firing("c", HOUR, 10)

    async def test_params_that_cannot_be_kept_are_refused(self, store: TaskStore) -> None:
        """Params that are not JSON, or too large, and a page of no size, are errors of the call."""
        with pytest.raises(BadParams):
            await store.schedules.add_if_absent(replace(FULL, params={"x": object()}))
        with pytest.raises(BadParams):
            await store.schedules.add_if_absent(replace(FULL, params={"x": "y" * 300_000}))
        with pytest.raises(BadSetting):
            await store.schedules.list(limit=0)
        with pytest.raises(BadSetting):
            await store.schedules.get("nul\0")

        assert (await store.schedules.list()).schedules == ()

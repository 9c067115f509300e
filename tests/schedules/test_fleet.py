"""A fleet of workers on one store: whichever of them dies, each firing makes one task."""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from typing import Final

import pytest

from tapescope import Schedule, find_store, read_firing
from tapescope.schedules import Scheduler
from tapescope.store.port import TaskStore
from tests.schedules.harness import (
    SECOND,
    START,
    HandClock,
    add,
    make_fire,
    make_scheduler,
)

WORKERS: Final = 5
STEP: Final = 2.5
"""Seconds between two rounds of the fleet."""
FIRES_EVERY: Final = 4
"""Rounds between two firing times: ten seconds. At each of them who fires is killed."""


class Died(BaseException):
    """The process ended here."""


class Fleet:
    """Five workers, each with connections of its own; one that dies is replaced by another."""

    def __init__(self, stores: list[TaskStore], clock: HandClock, seed: int) -> None:
        self._stores = stores
        self._clock = clock
        self._random = random.Random(seed)
        self._doom = ""
        """Where who fires in this round dies."""
        self._tasks_left = 0
        """How many tasks it still makes before that."""
        self._born = 0
        self.deaths: Counter[str] = Counter()
        self._workers = [self._bear(store) for store in stores]

    def _bear(self, store: TaskStore) -> Scheduler:
        self._born += 1
        fire = make_fire(store)

        async def fire_or_die(schedule: Schedule, at: int) -> tuple[str, bool]:
            self._tasks_left -= 1
            if self._doom == "before" and self._tasks_left < 0:
                raise Died(self._doom)
            made = await fire(schedule, at)
            if self._doom == "after" and self._tasks_left < 0:
                raise Died(self._doom)
            return made

        return make_scheduler(store, self._clock, f"worker{self._born}", fire=fire_or_die)

    async def round(self, *, kill: bool) -> None:
        """Each worker has a round, all at the same time.

        Who fires dies in it, before a task is made or after; or after it, and says nothing more.
        """
        doom = self._random.choice(["before", "after", "silent"]) if kill else ""
        self._doom, self._tasks_left = doom, self._random.randrange(2)
        order = self._random.sample(range(WORKERS), WORKERS)
        rounds = (self._workers[place].run_once() for place in order)
        for place, ended in zip(
            order, await asyncio.gather(*rounds, return_exceptions=True), strict=True
        ):
            if isinstance(ended, Died):
                self.deaths[str(ended)] += 1
                self._workers[place] = self._bear(self._stores[place])
            elif isinstance(ended, BaseException):
                raise ended
            elif doom == "silent" and self._workers[place].fires:
                self.deaths[doom] += 1
                self._workers[place] = self._bear(self._stores[place])


async def run_fleet(url: str, firings: int) -> Counter[str]:
    """Fire so often, every ten seconds, and check that each firing made one task."""
    clock = HandClock()
    stores = [await find_store(url).open() for _ in range(WORKERS)]
    try:
        await add(stores[0], clock, every=10, catch_up="all")
        fleet = Fleet(stores, clock, seed=firings)
        for n in range(round((firings * 10 + 60) / STEP)):
            clock.pass_time(STEP)
            await fleet.round(kill=n % FIRES_EVERY == FIRES_EVERY - 1)
        made = await list_times(stores[0])
    finally:
        for store in stores:
            await store.aclose()

    assert [time for time in made if time <= firings * 10] == [
        n * 10 for n in range(1, firings + 1)
    ]
    return fleet.deaths


async def list_times(store: TaskStore) -> list[int]:
    """The firing time of each task, in seconds since the start."""
    times: list[int] = []
    before = None
    while True:
        page = await store.list(limit=1_000, before=before)
        firings = [read_firing(task.idempotency_key) for task in page.tasks]
        times += [round(one.at.timestamp()) - START // SECOND for one in firings if one and one.at]
        if (before := page.next) is None:
            return sorted(times)


async def test_each_firing_makes_one_task(store_url: str) -> None:
    """While who fires dies every ten seconds, wherever it stands."""
    deaths = await run_fleet(store_url, 25)

    assert sum(deaths.values()) >= 8


@pytest.mark.slow
@pytest.mark.timeout(900)
async def test_each_of_a_thousand_firings_makes_one_task(store_url: str) -> None:
    """A thousand, with over eighty deaths each before a task is made, after it, and between two."""
    deaths = await run_fleet(store_url, 1_000)

    assert min(deaths[doom] for doom in ("before", "after", "silent")) >= 80

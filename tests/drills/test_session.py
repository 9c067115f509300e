"""A drill on a store, without the command line: what it says, and what it leaves."""

from __future__ import annotations

import pytest

from tapescope import NewTask, find_store
from tapescope.drills import DrillSession, find_drill
from tapescope.drills.errors import StoreHasTasks
from tapescope.errors import StoreNotFound
from tapescope.http.metrics import MetricsListener
from tapescope.store.validation import new_task_id


class Record:
    """What a drill said."""

    def __init__(self) -> None:
        self.steps: list[tuple[str, str]] = []
        self.warnings: list[str] = []

    def say(self, heading: str, text: str) -> None:
        """Keep a step."""
        self.steps.append((heading, text))

    def headings(self) -> list[str]:
        """The headings, in order."""
        return [heading for heading, _ in self.steps]


async def make_store(url: str) -> None:
    """Make the store, as a run on it would: a drill makes none."""
    async with find_store(url):
        pass


def make_session(name: str, url: str, record: Record) -> DrillSession:
    """A drill that nothing scrapes, on a store that is not its own."""
    return DrillSession(
        find_drill(name),
        url,
        MetricsListener("127.0.0.1", None),
        is_scratch=False,
        say=record.say,
        warn=record.warnings.append,
    )


async def test_a_drill_says_what_it_does_and_leaves_no_task(store_url: str) -> None:
    """It announces the fault, makes it, and deletes its tasks; no signal has ended it."""
    record = Record()
    await make_store(store_url)
    ended_by = await make_session("duplicate-final", store_url, record).run(
        0.0, on_real_store=False
    )
    async with find_store(store_url) as store:
        left = await store.list()

    assert ended_by is None
    assert record.headings() == ["drill", "on", "alert", "look", "happened", "cleaned", "stays"]
    assert record.warnings == []
    assert left.tasks == ()


async def test_a_drill_that_nothing_scrapes_says_so(sqlite_url: str) -> None:
    """Without a time to hold on for, the drill says that its fault is unseen."""
    record = Record()
    await make_store(sqlite_url)
    await make_session("failure-burst", sqlite_url, record).run(None, on_real_store=False)

    headings = record.headings()
    assert headings[headings.index("happened") :][:3] == ["happened", "unseen", "cleaned"]


async def test_a_store_with_real_tasks_is_refused(sqlite_url: str) -> None:
    """Nothing is said or done where a task of another op is on the store."""
    record = Record()
    async with find_store(sqlite_url) as store:
        await store.create(NewTask(new_task_id(), "backup"))
    with pytest.raises(StoreHasTasks, match="'backup'"):
        await make_session("failure-burst", sqlite_url, record).run(0.0, on_real_store=False)
    async with find_store(sqlite_url) as store:
        left = await store.list()

    assert record.steps == []
    assert [task.op for task in left.tasks] == ["backup"]


async def test_a_drill_makes_no_store(sqlite_url: str) -> None:
    """A store that was named and is not there is the error, and nothing is said before."""
    record = Record()
    with pytest.raises(StoreNotFound):
        await make_session("failure-burst", sqlite_url, record).run(0.0, on_real_store=False)

    assert record.steps == []
    assert (await find_store(sqlite_url).maintenance.schema_versions()).found == 0

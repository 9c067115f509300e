"""What retention gives back of a SQLite file: its free pages, a bounded step a batch."""

from __future__ import annotations

import asyncio
import sqlite3
from contextlib import aclosing, closing
from pathlib import Path

from tapescope import NewEvent, find_store
from tapescope.model.tasks import FinalEvent
from tapescope.store.port import TaskStore
from tests.support.postgres_sessions import start_task

PAGE = 4_096
"""Bytes of a page."""


def count_pages(url: str) -> tuple[int, int]:
    """The pages of the store's file, and how many of them are free."""
    with closing(sqlite3.connect(url.removeprefix("sqlite:///"))) as file:
        (pages,) = file.execute("PRAGMA page_count").fetchone()
        (free,) = file.execute("PRAGMA freelist_count").fetchone()
    return int(pages), int(free)


def measure_file(url: str) -> int:
    """The bytes of the store's file, which no process has open."""
    return Path(url.removeprefix("sqlite:///")).stat().st_size


async def fill(store: TaskStore, tasks: int) -> None:
    """Tasks that ended, of a few pages each."""

    async def run() -> None:
        claim = await start_task(store)
        await store.append(claim.attempt, [NewEvent("log", "x" * 1_000)] * 20)
        await store.finish_if_running(claim.attempt, FinalEvent.succeeded())

    await asyncio.gather(*(run() for _ in range(tasks)))


async def test_pruned_space_is_given_back(sqlite_url: str) -> None:
    """The file shrinks as its tasks go; a little stays free for the tasks that come."""
    async with find_store(sqlite_url) as store:
        await fill(store, 300)
        full, _ = count_pages(sqlite_url)
        await store.maintenance.prune(older_than=0, limit=50)
        pruned, free = count_pages(sqlite_url)
    size = measure_file(sqlite_url)
    async with find_store(sqlite_url) as store:
        await fill(store, 300)
        again, _ = count_pages(sqlite_url)
        with closing(sqlite3.connect(sqlite_url.removeprefix("sqlite:///"))) as file:
            said = file.execute("PRAGMA integrity_check").fetchall()

    assert full > 1_500
    assert pruned < full / 4
    assert size == pruned * PAGE
    assert free <= pruned / 2
    assert again < full * 1.2
    assert said == [("ok",)]


async def test_few_free_pages_stay_for_the_next_tasks(sqlite_url: str) -> None:
    """A store that is pruned regularly keeps its size: its pages are not moved for nothing."""
    async with find_store(sqlite_url) as store:
        await fill(store, 300)
        full, _ = count_pages(sqlite_url)
        async with aclosing(store.maintenance.prune_pages(older_than=0, limit=30)) as pages:
            await anext(pages)
        pruned, free = count_pages(sqlite_url)

    assert pruned == full
    assert free > 100


async def test_file_of_an_older_version_is_pruned_as_ever(sqlite_url: str) -> None:
    """A file that was made without the setting keeps its pages, and uses them again."""
    with closing(sqlite3.connect(sqlite_url.removeprefix("sqlite:///"))) as file:
        file.execute("PRAGMA journal_mode = WAL").fetchone()
    async with find_store(sqlite_url) as store:
        await fill(store, 300)
        full, _ = count_pages(sqlite_url)
        deleted = await store.maintenance.prune(older_than=0)
        pruned, free = count_pages(sqlite_url)

    assert deleted == 300
    assert pruned == full
    assert free > full / 2

"""Old and new code on one store: what each finds, and who may go on."""

from __future__ import annotations

import asyncio
import sqlite3
from contextlib import closing
from typing import Any

import pytest

from tapescope.errors import SchemaTooNew
from tapescope.model.tasks import FinalEvent, NewTask, TaskStatus
from tapescope.store.lookup import find_store
from tapescope.store.port import TaskStore
from tapescope.store.validation import new_task_id
from tapescope_adapters.postgres import PostgresStore, _queries
from tapescope_adapters.postgres import _schema as postgres_schema
from tapescope_adapters.sqlite import SqliteStore
from tapescope_adapters.sqlite import _schema as sqlite_schema
from tests.support.postgres_sessions import run_task, session, start_task

POSTGRES = postgres_schema.read_migrations()
SQLITE = sqlite_schema.read_migrations()


def pretend(monkeypatch: pytest.MonkeyPatch, change: Any) -> None:
    """Have the code know other migrations: ``change`` makes them of the real ones."""
    for module, real in ((postgres_schema, POSTGRES), (sqlite_schema, SQLITE)):
        known = change(dict(real))
        monkeypatch.setattr(module, "read_migrations", lambda known=known: known)
    monkeypatch.setattr(_queries, "read_migrations", lambda: POSTGRES)


def without_last(steps: dict[int, str]) -> dict[int, str]:
    """What the version before knew."""
    return {n: steps[n] for n in steps if n < max(steps)}


def next_adds(said: str) -> Any:
    """The migration after the last one: it adds a column, and says what it is compatible from."""

    def change(steps: dict[int, str]) -> dict[int, str]:
        last = max(steps)
        script = f"{said.format(last=last, next=last + 1)}ALTER TABLE tasks ADD COLUMN mood text;\n"
        return {**steps, last + 1: script}

    return change


async def test_store_of_the_version_before_is_migrated(
    store_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What the last version left, ended and running, is there after the migration, and in order."""
    with monkeypatch.context() as older:
        pretend(older, without_last)
        async with find_store(store_url) as store:
            assert (await store.maintenance.schema_versions()).found == (
                await store.maintenance.schema_versions()
            ).known
            ended = await run_task(store, 3)
            running = await start_task(store)
    async with find_store(store_url) as store:
        versions = await store.maintenance.schema_versions()
        finished = await store.finish_if_running(running.attempt, FinalEvent.succeeded())
        tape = await store.read_tape(ended)
        audit = await store.maintenance.audit()

    assert versions.found == versions.known
    assert finished.won
    assert tape.final_seq == 5
    assert audit.checked == 2
    assert not audit.violations


async def test_old_code_goes_on_beside_a_schema_that_only_adds(
    store_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It runs tasks before, during and after the migration, and can be started again."""
    async with find_store(store_url) as old:
        before = await start_task(old)
        with monkeypatch.context() as newer:
            pretend(newer, next_adds("-- compatible from {last}\n"))
            async with find_store(store_url) as new:
                finished = await old.finish_if_running(before.attempt, FinalEvent.succeeded())
                ids = await asyncio.gather(*(run_task(s, 2) for s in (old, new) * 5))
                migrated = await new.maintenance.schema_versions()
        beside = await old.maintenance.schema_versions()
    async with find_store(store_url) as again:
        await run_task(again, 2)
        counts = await again.count()
        audit = await again.maintenance.audit()

    assert finished.won
    assert counts[TaskStatus.SUCCEEDED] == len(ids) + 2
    assert migrated.found == migrated.known == beside.known + 1
    assert beside.compatible
    assert not audit.violations


@pytest.mark.parametrize("said", ["", "-- compatible from {next}\n"])
async def test_old_code_is_refused_where_a_migration_takes_away(
    store_url: str, monkeypatch: pytest.MonkeyPatch, said: str
) -> None:
    """A migration that does not say otherwise is for code that knows it."""
    with monkeypatch.context() as newer:
        pretend(newer, next_adds(said))
        async with find_store(store_url) as new:
            await run_task(new, 1)
    with pytest.raises(SchemaTooNew, match="Upgrade tapescope"):
        await find_store(store_url).open()

    assert not (await find_store(store_url).maintenance.schema_versions()).compatible


async def test_one_that_takes_away_is_not_hidden_by_one_that_adds(
    store_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every migration behind what the code knows has its say, not only the last."""

    def change(steps: dict[int, str]) -> dict[int, str]:
        last = max(steps)
        adds = f"-- compatible from {last}\nCREATE TABLE moods (mood text);\n"
        return {**next_adds("")(steps), last + 2: adds}

    with monkeypatch.context() as newer:
        pretend(newer, change)
        async with find_store(store_url) as new:
            await new.create(NewTask(new_task_id(), "x"))

    with pytest.raises(SchemaTooNew):
        await find_store(store_url).open()


async def test_every_migration_is_known_by_its_compatibility(
    sqlite_url: str, postgres_url: str
) -> None:
    """From the one that made the table on, each has a row."""
    stores: list[TaskStore] = [SqliteStore(sqlite_url), PostgresStore(postgres_url)]
    for store in stores:
        async with store:
            pass
    with closing(sqlite3.connect(sqlite_url.removeprefix("sqlite:///"))) as conn:
        lite = conn.execute("SELECT version, compatible_from FROM schema_compatibility").fetchall()
    async with session(postgres_url) as raw:
        rows = await raw.fetch("SELECT version, compatible_from FROM schema_compatibility")

    assert max(version for version, _ in lite) == max(SQLITE)
    assert max(version for version, _ in rows) == max(POSTGRES)
    assert all(oldest <= version for version, oldest in [*lite, *map(tuple, rows)])

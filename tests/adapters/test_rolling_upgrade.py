"""Old and new code on one store: what each finds, and who may go on."""

from __future__ import annotations

import asyncio
import os
import sqlite3
import sys
from asyncio.subprocess import PIPE, Process
from collections.abc import AsyncGenerator
from contextlib import AsyncExitStack, asynccontextmanager, closing
from pathlib import Path

import pytest

from tapescope.errors import SchemaTooNew, SchemaTooOld
from tapescope.model.tasks import FinalEvent, NewTask, TaskStatus
from tapescope.store.lookup import find_store
from tapescope.store.validation import new_task_id
from tapescope_adapters._sql import find_compatible
from tapescope_adapters.sqlite._schema import read_migrations
from tests.adapters.next_version import EDITION, NextVersion, migrating
from tests.support.postgres_sessions import run_task, session, start_task

pytestmark = pytest.mark.slow

ADDS = "ALTER TABLE tasks ADD COLUMN mood text;"
"""What the tables of either store may get beside old code: it names the columns that it means."""

PROGRAM = """
import asyncio, sys
from tapescope import find_store
from tests.support.postgres_sessions import run_task

async def main():
    async with find_store(sys.argv[1]) as store:
        while True:
            versions = await store.maintenance.schema_versions()
            print(versions.found, versions.known, await run_task(store, 2), flush=True)
            if not await asyncio.to_thread(sys.stdin.readline):
                return

asyncio.run(main())
"""
"""A process that runs a task, and another one for each line that it is sent."""


@pytest.fixture
def next_version(tmp_path: Path) -> NextVersion:
    """The version after this one, as yet without a migration of its own."""
    return NextVersion(tmp_path / "next")


@asynccontextmanager
async def running(url: str, version: NextVersion | None = None) -> AsyncGenerator[Process]:
    """A process of this version, or of the next one, that has the store open."""
    here = [] if version is None else [str(version.folder)]
    paths = [*here, str(Path(__file__).parents[2])]
    env = {**os.environ, "PYTHONPATH": os.pathsep.join(paths)}
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-c", PROGRAM, url if version is None else migrating(url)),
        env=env,
        stdin=PIPE,
        stdout=PIPE,
    )
    try:
        yield process
    finally:
        process.stdin.close()  # type: ignore[union-attr]  # pyright: ignore[reportOptionalMemberAccess]  # a pipe
        assert await process.wait() == 0


async def next_run(process: Process) -> tuple[int, int]:
    """The schema version that the process found before its next run, and the one it knows."""
    assert process.stdout is not None
    found, known, _ = (await process.stdout.readline()).split()
    return int(found), int(known)


def ask(process: Process) -> None:
    """Have the process run one more task."""
    assert process.stdin is not None
    process.stdin.write(b"\n")


async def read_text(url: str) -> str:
    """The function, or the trigger, that the next version changes, as it stands in the store."""
    if url.startswith("sqlite"):
        with closing(sqlite3.connect(url.removeprefix("sqlite:///"))) as conn:
            query = "SELECT sql FROM sqlite_schema WHERE name = 'events_never_change'"
            text: str = conn.execute(query).fetchone()[0]
            return text
    async with session(url) as raw:
        text = await raw.fetchval("SELECT pg_get_functiondef('flush'::regproc)")
        return text


@pytest.mark.parametrize(
    "turns",
    [("old", "new", "old"), ("new", "old"), ("old new", "old")],
    ids=["old first", "new first", "at once"],
)
async def test_newer_function_stands_whichever_process_starts_when(
    store_url: str, next_version: NextVersion, turns: tuple[str, ...]
) -> None:
    """Old processes start and run beside a newer function, and never write theirs over it.

    In each turn processes start, and all that have started before run one more task.
    """
    next_version.change_function()
    runs = 0
    seen: list[tuple[str, tuple[int, int]]] = []
    async with AsyncExitStack() as stack:
        processes: list[tuple[str, Process]] = []
        for turn in turns:
            for _, process in processes:
                ask(process)
            for name in turn.split():
                version = next_version if name == "new" else None
                started = await stack.enter_async_context(running(store_url, version))
                processes.append((name, started))
            seen = [(name, await next_run(process)) for name, process in processes]
            runs += len(seen)
    async with find_store(store_url) as store:
        counts = await store.count()
        audit = await store.maintenance.audit()

    old, new = next_version.last - 1, next_version.last
    assert seen == [(name, (new, new if name == "new" else old)) for name, _ in processes]
    assert EDITION in await read_text(store_url)
    assert counts[TaskStatus.SUCCEEDED] == sum(counts.values()) == runs
    assert not audit.violations


async def test_only_a_migration_changes_a_function(
    store_url: str, next_version: NextVersion
) -> None:
    """The text of the version before stands until the migration that names the function."""
    async with find_store(store_url) as store:
        await run_task(store, 1)
    before = await read_text(store_url)
    next_version.change_function()
    with next_version.running_here():
        with pytest.raises(SchemaTooOld, match=f"version {next_version.last}"):
            await find_store(store_url).open()
        refused = await read_text(store_url)
        async with find_store(migrating(store_url)) as store:
            await run_task(store, 1)

    assert EDITION not in before
    assert refused == before
    assert EDITION in await read_text(store_url)


async def test_store_of_the_version_before_is_migrated(
    store_url: str, next_version: NextVersion
) -> None:
    """What the last version left, ended and running, is there after the migration, and in order."""
    next_version.change_function()
    async with find_store(store_url) as store:
        before = await store.maintenance.schema_versions()
        ended = await run_task(store, 3)
        running = await start_task(store)
    with next_version.running_here():
        async with find_store(migrating(store_url)) as store:
            after = await store.maintenance.schema_versions()
            finished = await store.finish_if_running(running.attempt, FinalEvent.succeeded())
            tape = await store.read_tape(ended)
            audit = await store.maintenance.audit()

    assert before.found == before.known
    assert after.found == after.known == before.known + 1
    assert finished.won
    assert tape.final_seq == 5
    assert audit.checked == 2
    assert not audit.violations


async def test_old_code_goes_on_beside_a_schema_that_only_adds(
    store_url: str, next_version: NextVersion
) -> None:
    """It runs tasks before, during and after the migration, and can be started again."""
    next_version.add_migration(f"-- compatible from {next_version.last}", script=ADDS)
    async with find_store(store_url) as old:
        before = await start_task(old)
        with next_version.running_here():
            async with find_store(migrating(store_url)) as new:
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


@pytest.mark.parametrize("says", [False, True], ids=["says nothing", "says itself"])
async def test_old_code_is_refused_where_a_migration_takes_away(
    store_url: str, next_version: NextVersion, says: bool
) -> None:
    """A migration that does not say otherwise is for code that knows it."""
    said = [f"-- compatible from {next_version.last + 1}"] if says else []
    next_version.add_migration(*said, script=ADDS)
    with next_version.running_here():
        async with find_store(migrating(store_url)) as new:
            await run_task(new, 1)
    with pytest.raises(SchemaTooNew, match="Upgrade tapescope"):
        await find_store(store_url).open()

    assert not (await find_store(store_url).maintenance.schema_versions()).compatible


async def test_one_that_takes_away_is_not_hidden_by_one_that_adds(
    store_url: str, next_version: NextVersion
) -> None:
    """Every migration behind what the code knows has its say, not only the last."""
    last = next_version.last
    next_version.add_migration(script=ADDS)
    adds = "CREATE TABLE moods (mood text);"
    next_version.add_migration(f"-- compatible from {last}", script=adds)
    with next_version.running_here():
        async with find_store(migrating(store_url)) as new:
            await new.create(NewTask(new_task_id(), "x"))

    with pytest.raises(SchemaTooNew):
        await find_store(store_url).open()


async def test_every_migration_is_known_by_its_compatibility(
    store_url: str, next_version: NextVersion
) -> None:
    """Each has a row, which says what its script says, or else itself."""
    last = next_version.last
    before = [(n, find_compatible(n, text)) for n, text in read_migrations().items()]
    next_version.add_migration(f"-- compatible from {last}", script=ADDS)
    next_version.add_migration(script="CREATE TABLE moods (mood text);")
    with next_version.running_here():
        async with find_store(migrating(store_url)):
            pass
    query = "SELECT version, compatible_from FROM schema_compatibility ORDER BY version"
    if store_url.startswith("sqlite"):
        with closing(sqlite3.connect(store_url.removeprefix("sqlite:///"))) as conn:
            rows = conn.execute(query).fetchall()
    else:
        async with session(store_url) as raw:
            rows = [tuple(row) for row in await raw.fetch(query)]

    assert rows == [*before, (last + 1, last), (last + 2, last + 2)]

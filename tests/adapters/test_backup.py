"""Backups that are taken while tasks run, and what goes on after a restore."""

from __future__ import annotations

import asyncio
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from tapescope.model.tape import NewEvent
from tapescope.model.tasks import Claim, TaskStatus
from tapescope.store.lookup import find_store
from tapescope.store.port import TaskStore
from tests.support.postgres_sessions import run_task, schema_of, session, start_task
from tests.support.services import Postgres, postgres_program


class Writing:
    """A run that reports without a pause while a backup is taken."""

    def __init__(self, store: TaskStore, claim: Claim) -> None:
        self._store, self._claim = store, claim
        self._task = asyncio.create_task(self._write())

    async def _write(self) -> None:
        while True:
            await self._store.append(self._claim.attempt, [NewEvent("log", "x" * 500)])

    async def stop(self) -> int:
        """Gives how many events the tape has by now."""
        self._task.cancel()
        await asyncio.wait([self._task])
        return (await self._store.read_tape(self._claim.task.task_id)).last_seq


async def judge_copy(url: str, ended: str, running: Claim, written: int) -> None:
    """The copy is in order, and a manager goes on with it: what ran there is rescued."""
    async with find_store(url) as copy:
        audit = await copy.maintenance.audit()
        whole = await copy.read_tape(ended)
        cut = await copy.read_tape(running.task.task_id)
        rescued = await copy.leases.rescue_expired(dead_owners=["me"])
        await run_task(copy, 3)
        counts = await copy.count()
        after = await copy.maintenance.audit()

    assert not audit.violations
    assert not after.violations
    assert whole.final_seq == 22
    assert 1 <= cut.last_seq <= written
    assert [one.task.task_id for one in rescued] == [running.task.task_id]
    assert counts[TaskStatus.SUCCEEDED] == 2
    assert counts[TaskStatus.FAILED] == 1


@pytest.mark.parametrize("by", ["vacuum", "backup"])
async def test_sqlite_copy_that_is_taken_while_tasks_run(
    sqlite_url: str, tmp_path: Path, by: str
) -> None:
    """Both of SQLite's own ways give a file that stands for one moment."""
    copy = tmp_path / "copy.db"

    def take() -> None:
        with closing(sqlite3.connect(sqlite_url.removeprefix("sqlite:///"))) as conn:
            if by == "vacuum":
                conn.execute("VACUUM INTO ?", (str(copy),))
            else:
                with closing(sqlite3.connect(copy)) as target:
                    conn.backup(target)

    async with find_store(sqlite_url) as store:
        ended, running = await run_task(store, 20), await start_task(store)
        writing = Writing(store, running)
        await asyncio.to_thread(take)
        written = await writing.stop()

    await judge_copy(f"sqlite:///{copy}", ended, running, written)


async def test_postgres_copy_that_is_taken_while_tasks_run(
    postgres_url: str, postgres_server: Postgres, tmp_path: Path
) -> None:
    """pg_dump of the schema, restored into another database, with guards and functions."""
    dump, schema = tmp_path / "tapes.dump", schema_of(postgres_url)
    async with find_store(postgres_url) as store:
        ended, running = await run_task(store, 20), await start_task(store)
        writing = Writing(store, running)
        await call("pg_dump", "-Fc", f"--schema={schema}", "-f", dump, postgres_server.dsn)
        written = await writing.stop()
    name = f"restored_{schema}"
    async with session(postgres_url) as raw:
        await raw.execute(f"CREATE DATABASE {name}")
    elsewhere = postgres_server.dsn.replace("/postgres?", f"/{name}?")
    await call("pg_restore", "--exit-on-error", "-d", elsewhere, dump)

    await judge_copy(f"{elsewhere}&schema={schema}", ended, running, written)


async def call(program: str, *arguments: str | Path) -> None:
    """Run one of PostgreSQL's own programs, of the server's version."""
    process = await asyncio.create_subprocess_exec(
        postgres_program(program), *map(str, arguments), stderr=asyncio.subprocess.PIPE
    )
    _, told = await process.communicate()
    assert process.returncode == 0, told.decode()

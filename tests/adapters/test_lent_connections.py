"""Each kind of connection that a caller may have: the task is in its transaction, or not at all."""

from __future__ import annotations

import asyncio
import re
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any

import asyncpg
import psycopg
import pytest
from sqlalchemy import NullPool
from sqlalchemy.ext.asyncio import create_async_engine

from tapescope import ConnectionRefused, Ops, Reporter, TaskManager, TaskStatus
from tapescope.sync import SyncHandle, SyncManager
from tests.support.django_project import django_database
from tests.support.lenders import BLOCKING, WAITING, Undone, dsn_of, make_engine

HOWTO = Path(__file__).parents[2] / "docs" / "howto"


@pytest.fixture
def url(request: pytest.FixtureRequest, kind: str) -> str:
    """A fresh store of the kind's database."""
    database, _ = {**BLOCKING, **WAITING}[kind]
    found: str = request.getfixturevalue(f"{database}_url")
    return found


@pytest.mark.parametrize("kind", BLOCKING)
def test_a_task_is_in_the_transaction_of_who_blocks(kind: str, url: str) -> None:
    """Committed, also where the submit is its first statement; rolled back; rolled back to a
    savepoint. A key finds the task that stands, in the same transaction as well."""
    with SyncManager(url) as tasks, BLOCKING[kind][1](url) as caller:

        def submit(number: int, key: str | None = None) -> SyncHandle:
            return tasks.submit(
                "bill",
                params={"order": number, "who": "100 % Ada's"},
                idempotency_key=key,
                timeout=1.5,
                priority=number,
                tags=[f"order:{number}"],
                queue="mail" if number == 3 else None,
                expires_in=2.5 if number == 3 else None,
                connection=caller.connection,
            )

        with caller.transaction():
            first = submit(1, "first")
            seen_before = tasks.count()[TaskStatus.PENDING]
        with suppress(Undone), caller.transaction():
            caller.execute("SELECT 1")
            submit(2)
            raise Undone
        with caller.transaction():
            kept = submit(3)
            with suppress(Undone), caller.savepoint():
                submit(4)
                raise Undone
            again = submit(1, "first")
        found = {task.task_id: task for task in tasks.list().tasks}

    assert seen_before == 0
    assert set(found) == {first.task_id, kept.task_id}
    assert found[first.task_id].params == {"order": 1, "who": "100 % Ada's"}
    assert (found[kept.task_id].timeout, found[kept.task_id].retries) == (1.5, 3)
    assert found[kept.task_id].priority == 3
    assert found[kept.task_id].tags == ("order:3",)
    assert (found[kept.task_id].priority, found[kept.task_id].queue) == (3, "mail")
    assert (found[kept.task_id].expires_in, found[first.task_id].expires_in) == (2.5, None)
    assert (first.created, again.created, again.task_id) == (True, False, first.task_id)


@pytest.mark.parametrize("kind", WAITING)
async def test_a_task_is_in_the_transaction_of_who_awaits(kind: str, url: str) -> None:
    """The same for connections whose calls are awaited."""
    async with TaskManager(url, work=False) as manager, WAITING[kind][1](url) as caller:

        async def submit(number: int, key: str | None = None) -> Any:
            return await manager.submit(
                "bill",
                params={"order": number},
                idempotency_key=key,
                timeout=1.5,
                connection=caller.connection,
            )

        async with caller.transaction():
            first = await submit(1, "first")
            seen_before = (await manager.store.count())[TaskStatus.PENDING]
        with suppress(Undone):
            async with caller.transaction():
                await caller.execute("SELECT 1")
                await submit(2)
                raise Undone
        async with caller.transaction():
            kept = await submit(3)
            with suppress(Undone):
                async with caller.savepoint():
                    await submit(4)
                    raise Undone
            again = await submit(1, "first")
        found = {task.task_id for task in (await manager.store.list()).tasks}

    assert seen_before == 0
    assert found == {first.task_id, kept.task_id}
    assert (first.created, again.created, again.task_id) == (True, False, first.task_id)


@pytest.mark.parametrize(
    ("kind", "begins"),
    {
        "Django, sqlite3": "transaction.atomic",
        "psycopg, autocommit": "with connection.transaction",
        "Django, psycopg": "transaction.atomic",
    }.items(),
)
def test_who_blocks_and_is_in_no_transaction_is_told(kind: str, url: str, begins: str) -> None:
    """There the task would be committed at once; the error says how to begin one."""
    with SyncManager(url) as tasks, BLOCKING[kind][1](url) as caller:
        caller.execute("SELECT 1")
        with pytest.raises(ConnectionRefused, match=f"not in a transaction.*{begins}"):
            tasks.submit("bill", connection=caller.connection)

        assert sum(tasks.count().values()) == 0


@pytest.mark.parametrize("kind", ["Django, psycopg"])
def test_who_has_to_roll_back_is_told(kind: str, url: str) -> None:
    """What an earlier statement or an inner block has spoilt takes no task."""
    with SyncManager(url) as tasks, BLOCKING[kind][1](url) as caller:
        for spoil in (
            lambda: caller.execute("SELECT 1 / 0"),
            lambda: caller.connection.set_rollback(True),
        ):
            with suppress(Undone), caller.transaction():
                with suppress(Exception):
                    spoil()
                with pytest.raises(ConnectionRefused, match="Roll back"):
                    tasks.submit("bill", connection=caller.connection)
                raise Undone


def test_a_connection_of_another_store_is_refused(sqlite_url: str, postgres_url: str) -> None:
    """Another database's, one that belongs to a loop, one that is closed, and what is none."""
    with (
        SyncManager(sqlite_url) as small,
        SyncManager(postgres_url.replace("&schema=", "&schema=x")) as large,
        BLOCKING["sqlite3"][1](sqlite_url) as lite,
        BLOCKING["SQLAlchemy session, psycopg"][1](postgres_url) as caller,
    ):
        large.count()
        for tasks, connection, why in (
            (small, caller.connection, "aiosqlite or sqlite3"),
            (large, lite.connection, "asyncpg or psycopg 3"),
            (small, object(), "not 'object'"),
        ):
            with pytest.raises(ConnectionRefused, match=why):
                tasks.submit("bill", connection=connection)
        caller.connection.rollback()
        lite.connection.close()
        with pytest.raises(ConnectionRefused, match="closed"):
            small.submit("bill", connection=lite.connection)

        assert sum(large.count().values()) == sum(small.count().values()) == 0


def test_each_door_refuses_the_connections_of_the_other(sqlite_url: str) -> None:
    """One whose calls block would block the loop; one that is awaited belongs to it."""
    tasks = SyncManager(sqlite_url)

    async def try_each(blocking: list[Any]) -> int:
        async with TaskManager(sqlite_url, work=False) as manager:
            for connection in blocking:
                with pytest.raises(ConnectionRefused, match=r"block the event loop.*sync"):
                    await manager.submit("bill", connection=connection)
            for kind in ("aiosqlite", "SQLAlchemy session, aiosqlite"):
                async with WAITING[kind][1](sqlite_url) as waiting:
                    with pytest.raises(ConnectionRefused, match="belongs to an event loop"):
                        await asyncio.to_thread(tasks.submit, "bill", connection=waiting.connection)
            return sum((await manager.store.count()).values())

    with tasks, ExitStack() as callers:
        kinds = ("sqlite3", "SQLAlchemy session, sqlite3", "Django, sqlite3")
        blocking = [callers.enter_context(BLOCKING[kind][1](sqlite_url)) for kind in kinds]

        assert asyncio.run(try_each([caller.connection for caller in blocking])) == 0


async def test_the_programs_of_the_transactions_page(postgres_url: str) -> None:
    """Each puts an order and its task into one transaction; those on SQLite have another test."""
    text = (HOWTO / "transactions.md").read_text(encoding="utf-8")
    programs = re.findall(r"```python\n(.*?)```", text, re.DOTALL)
    programs = [program for program in programs if "sqlite" not in program]
    dsn, ops = dsn_of(postgres_url), Ops()

    @ops.op("bill")
    async def bill(report: Reporter, number: int) -> int:
        return number

    async with TaskManager(postgres_url, ops=ops, work=False) as manager:
        tasks = SyncManager(postgres_url, ops=ops)
        pages: list[dict[str, Any]] = [
            {"tasks": tasks, "bill": bill, "psycopg": psycopg, "__name__": "page"} for _ in programs
        ]
        in_django, in_session, awaited, in_psycopg, in_psycopg_soon, in_asyncpg = pages
        for names, program in zip(pages, programs, strict=True):
            exec(compile(program, "transactions.md", "exec", dont_inherit=True), names)

        def work() -> None:
            with psycopg.connect(dsn) as connection:
                connection.execute("CREATE TABLE IF NOT EXISTS orders (number integer)")
            with django_database(postgres_url):
                in_django["order"](1)
            in_session["order"](make_engine(postgres_url), 2)
            in_psycopg["order"](dsn, 4)
            tasks.close()

        await asyncio.to_thread(work)
        engine = create_async_engine(
            "postgresql+asyncpg://", async_creator=lambda: asyncpg.connect(dsn), poolclass=NullPool
        )
        await awaited["order"](engine, 3)
        await in_psycopg_soon["order_soon"](dsn, 5)
        connection = await asyncpg.connect(dsn)
        await in_asyncpg["order"](connection, 6)
        await connection.close()
        numbers = {task.params["number"] for task in (await manager.store.list()).tasks}

    assert numbers == {1, 2, 3, 4, 5, 6}

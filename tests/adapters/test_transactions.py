"""Tasks submitted in the caller's own transaction: committed with it, or never there."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import AsyncGenerator
from contextlib import suppress
from pathlib import Path
from typing import Any

import aiosqlite
import asyncpg
import pytest

from tapescope.errors import (
    BadOp,
    ConnectionRefused,
    IdempotencyConflict,
    StoreBusy,
    StoreClosed,
    StoreUnavailable,
    UnknownTask,
)
from tapescope.model.tape import NewEvent
from tapescope.model.tasks import FinalEvent, NewTask, Task, TaskStatus
from tapescope.store.lookup import find_store
from tapescope.store.notifications import RESYNC
from tapescope.store.port import TaskStore
from tapescope.store.validation import new_task_id
from tapescope.testing import until
from tapescope_adapters.sqlite import SqliteStore
from tests.support.callers import Caller, calling
from tests.support.postgres_sessions import schema_of, session


@pytest.fixture
async def store(store_url: str) -> AsyncGenerator[TaskStore]:
    """An open store of each kind."""
    async with find_store(store_url) as opened:
        yield opened


@pytest.fixture
async def caller(store: TaskStore, store_url: str) -> AsyncGenerator[Caller]:
    """A caller on that store's database."""
    async with calling(store_url) as found:
        yield found


def new_task(**settings: Any) -> NewTask:
    return NewTask(new_task_id(), "bill", **settings)


async def test_committed_task_is_there_and_runs(store: TaskStore, caller: Caller) -> None:
    """No other session sees the task before the commit; after it, it runs as any other."""
    async with caller.transaction():
        await caller.execute("INSERT INTO orders VALUES (1)")
        task, new = await store.create_within(caller.connection, new_task(params={"order": 1}))
        with pytest.raises(UnknownTask):
            await store.get(task.task_id)
    seen = await store.get(task.task_id)
    claim = await store.claim_if_pending(task, "me", 30)
    assert claim is not None
    finished = await store.finish_if_running(claim.attempt, FinalEvent.succeeded())

    assert new
    assert seen == task
    assert seen.key == task.key
    assert seen.params == {"order": 1}
    assert finished.won


async def test_rolled_back_task_was_never_there(store: TaskStore, caller: Caller) -> None:
    """An error that ends the transaction takes the task along with the caller's own rows."""
    task_id = ""

    async def order() -> None:
        nonlocal task_id
        async with caller.transaction():
            await caller.execute("INSERT INTO orders VALUES (1)")
            task, _ = await store.create_within(caller.connection, new_task())
            task_id = task.task_id
            raise LookupError("out of stock")

    with pytest.raises(LookupError):
        await order()

    assert await caller.count_orders() == 0
    with pytest.raises(UnknownTask):
        await store.get(task_id)


async def test_savepoint_takes_back_only_its_own_task(store: TaskStore, caller: Caller) -> None:
    """Rolling back to a savepoint undoes the task after it and keeps the one before."""
    async with caller.transaction():
        kept, _ = await store.create_within(caller.connection, new_task())
        await caller.execute("SAVEPOINT here")
        undone, _ = await store.create_within(caller.connection, new_task())
        await caller.execute("ROLLBACK TO SAVEPOINT here")
    counts = await store.count()

    assert counts[TaskStatus.PENDING] == 1
    assert (await store.get(kept.task_id)).task_id == kept.task_id
    with pytest.raises(UnknownTask):
        await store.get(undone.task_id)


async def test_two_tasks_in_one_transaction(store: TaskStore, caller: Caller) -> None:
    """A transaction takes as many tasks as it likes, each with its own id and key."""
    async with caller.transaction():
        made = [
            await store.create_within(caller.connection, new_task(idempotency_key=key))
            for key in ("a", "b")
        ]
    seen = [await store.get(task.task_id) for task, _ in made]

    assert [new for _, new in made] == [True, True]
    assert seen == [task for task, _ in made]
    assert len({task.key for task in seen}) == 2


async def test_key_finds_the_task_that_stands(store: TaskStore, caller: Caller) -> None:
    """The same op and key again is the same task, whether committed or of this transaction."""
    before, _ = await store.create(new_task(idempotency_key="a"))
    async with caller.transaction():
        found = await store.create_within(caller.connection, new_task(idempotency_key="a"))
        first, _ = await store.create_within(caller.connection, new_task(idempotency_key="b"))
        again = await store.create_within(caller.connection, new_task(idempotency_key="b"))

    assert found == (before, False)
    assert again == (first, False)


async def test_conflict_leaves_the_transaction_usable(store: TaskStore, caller: Caller) -> None:
    """Other params under the same key are refused, and the caller may go on and commit."""
    before, _ = await store.create(new_task(idempotency_key="a", params={"n": 1}))
    async with caller.transaction():
        await caller.execute("INSERT INTO orders VALUES (1)")
        other = new_task(idempotency_key="a", params={"n": 2})
        with pytest.raises(IdempotencyConflict, match=before.task_id):
            await store.create_within(caller.connection, other)

    assert await caller.count_orders() == 1


async def test_key_of_a_rolled_back_task_is_free(store: TaskStore, caller: Caller) -> None:
    """What never was holds no idempotency key."""
    undone = new_task(idempotency_key="a", params={"n": 1})
    with suppress(LookupError):
        async with caller.transaction():
            await store.create_within(caller.connection, undone)
            raise LookupError
    task, new = await store.create(new_task(idempotency_key="a", params={"n": 2}))

    assert new
    assert task.task_id != undone.task_id


@pytest.mark.parametrize("commits", [True, False])
async def test_create_waits_for_the_transaction_that_holds_its_key(
    store: TaskStore, caller: Caller, commits: bool
) -> None:
    """Beside an open transaction with the key, a create is answered by how that one ends."""
    task = new_task(idempotency_key="a")
    beside: list[asyncio.Task[tuple[Task, bool]]] = []
    with suppress(LookupError):
        async with caller.transaction():
            await store.create_within(caller.connection, task)
            beside.append(asyncio.create_task(store.create(new_task(idempotency_key="a"))))
            await caller.execute("SELECT 1")
            assert not beside[0].done()
            if not commits:
                raise LookupError
    found, new = await beside[0]

    assert new is not commits
    assert (found.task_id == task.task_id) is commits


async def test_bad_input_is_refused_as_by_create(store: TaskStore, caller: Caller) -> None:
    """The checks are those of every submit, and they come before the database is asked."""
    async with caller.transaction():
        with pytest.raises(BadOp):
            await store.create_within(caller.connection, NewTask(new_task_id(), "No Op"))
        await caller.execute("INSERT INTO orders VALUES (1)")

    assert await caller.count_orders() == 1


async def test_connection_without_a_transaction_is_refused(
    store: TaskStore, caller: Caller
) -> None:
    """There the task would be committed at once, whatever becomes of the caller's work."""
    with pytest.raises(ConnectionRefused, match="not in a transaction"):
        await store.create_within(caller.connection, new_task())

    assert sum((await store.count()).values()) == 0


async def test_postgres_read_only_transaction_is_refused(postgres_url: str) -> None:
    """The error says so, and that another transaction will do; the store is not away."""
    async with find_store(postgres_url) as store, calling(postgres_url) as caller:
        async with caller.connection.transaction(readonly=True):
            with pytest.raises(ConnectionRefused, match="read-only"):
                await store.create_within(caller.connection, new_task())

        assert sum((await store.count()).values()) == 0


@pytest.mark.parametrize("how", ["mode=ro", "query_only"])
async def test_sqlite_connection_that_only_reads_is_refused(sqlite_url: str, how: str) -> None:
    """Whether it was opened so or was told so since."""
    async with SqliteStore(sqlite_url) as store:
        path = f"file:{store.path}{'?mode=ro' if how == 'mode=ro' else ''}"
        async with aiosqlite.connect(path, uri=True, isolation_level=None) as connection:
            if how == "query_only":
                await connection.execute("PRAGMA query_only = ON")
            await connection.execute("BEGIN")
            with pytest.raises(ConnectionRefused, match="may only read"):
                await store.create_within(connection, new_task())

        assert sum((await store.count()).values()) == 0


async def test_connection_of_another_kind_is_refused(store: TaskStore) -> None:
    """The error names the kind that the store needs."""
    with pytest.raises(ConnectionRefused, match=r"needs a connection of .* not 'object'"):
        await store.create_within(object(), new_task())


async def test_closed_store_says_so(store_url: str) -> None:
    """As every verb does."""
    with pytest.raises(StoreClosed):
        await find_store(store_url).create_within(object(), new_task())


async def test_postgres_commit_of_a_caller_notifies_nobody(postgres_url: str) -> None:
    """A full queue of notifications would fail it; told after it, workers look at once."""
    async with (
        find_store(postgres_url) as store,
        find_store(postgres_url) as other,
        calling(postgres_url) as caller,
    ):
        with store.changes() as ours, other.changes() as theirs:
            for changes in (ours, theirs):
                await anext(changes)  # it listens
            async with session(postgres_url) as listener:
                notified: list[str] = []
                schema = schema_of(postgres_url)

                def hear(_: object, pid: int, channel: str, payload: object) -> None:
                    notified.append(str(payload))

                await listener.add_listener(schema, hear)
                async with caller.transaction():
                    await store.create_within(caller.connection, new_task())
                await store.announce()
                heard = [await asyncio.wait_for(anext(changes), 10) for changes in (ours, theirs)]
                await until(lambda: notified)

    assert [told.split("|")[1:] for told in notified] == [["", "w"]]  # nothing came before
    assert heard == [RESYNC] * 2


async def test_sqlite_store_waits_for_the_callers_commit(sqlite_url: str) -> None:
    """While the caller holds the write lock, reports wait; none is lost and none is refused."""
    async with SqliteStore(sqlite_url) as store, calling(sqlite_url) as caller:
        task, _ = await store.create(new_task())
        claim = await store.claim_if_pending(task, "me", 30)
        assert claim is not None
        async with caller.transaction():
            await store.create_within(caller.connection, new_task())
            reports = [
                asyncio.create_task(store.append(claim.attempt, [NewEvent("log", n)]))
                for n in range(300)
            ]
            await caller.execute("SELECT 1")
            assert not any(report.done() for report in reports)
        stored = [(await report).stored for report in reports]
        page = await store.read_tape(task.task_id)

    assert [seq for (seq,) in stored] == list(range(2, 302))
    assert [event.body for event in page.events[1:]] == list(range(300))


async def test_sqlite_caller_who_waits_too_long_is_told(sqlite_url: str) -> None:
    """Where another process holds the write lock, the caller's own patience decides."""
    async with (
        SqliteStore(sqlite_url) as store,
        calling(sqlite_url) as first,
        aiosqlite.connect(store.path, timeout=0.05, isolation_level=None) as second,
    ):
        await second.execute("BEGIN")
        async with first.transaction():
            await store.create_within(first.connection, new_task())
            with pytest.raises(StoreUnavailable, match="locked"):
                await store.create_within(second, new_task())


async def test_sqlite_connection_to_another_file_is_refused(
    sqlite_url: str, tmp_path: Path
) -> None:
    """Two files are never committed as one, not even when the store's is attached."""
    async with (
        SqliteStore(sqlite_url) as store,
        aiosqlite.connect(tmp_path / "other.db", isolation_level=None) as connection,
    ):
        await connection.execute("ATTACH DATABASE ? AS tapes", (store.path,))
        await connection.execute("BEGIN IMMEDIATE")

        with pytest.raises(ConnectionRefused, match=r"other\.db"):
            await store.create_within(connection, new_task())


async def test_sqlite_row_factory_of_the_caller_is_left_alone(sqlite_url: str) -> None:
    """What the caller makes of rows is neither used nor changed."""
    async with SqliteStore(sqlite_url) as store, aiosqlite.connect(store.path) as connection:
        connection.row_factory = sqlite3.Row
        await connection.execute("BEGIN")
        task, _ = await store.create_within(connection, new_task(idempotency_key="a"))
        again, _ = await store.create_within(connection, new_task(idempotency_key="a"))
        await connection.commit()

        assert again == task
        assert connection.row_factory is sqlite3.Row


async def test_store_in_memory_joins_no_transaction() -> None:
    """It is one connection: no other leads to it."""
    async with SqliteStore("sqlite:///:memory:") as store:
        assert not store.joins_transactions
        with pytest.raises(ConnectionRefused, match="no connection but its own"):
            await store.create_within(object(), new_task())


async def test_closed_connection_is_refused(store: TaskStore, caller: Caller) -> None:
    """A closed connection has no transaction, and the error says so."""
    await caller.connection.close()

    with pytest.raises(ConnectionRefused, match="closed"):
        await store.create_within(caller.connection, new_task())


async def test_postgres_connection_that_went_back_to_its_pool_is_refused(postgres_url: str) -> None:
    """What was lent and given back is no longer the caller's, and the error says so."""
    dsn = postgres_url.partition("&schema=")[0]
    async with find_store(postgres_url) as store, asyncpg.create_pool(dsn, min_size=1) as pool:
        async with pool.acquire() as connection:
            pass
        with pytest.raises(ConnectionRefused, match="back in its pool"):
            await store.create_within(connection, new_task())


async def test_postgres_failed_transaction_is_refused(postgres_url: str) -> None:
    """After an error in the caller's own statements nothing can be added, which is told."""
    async with find_store(postgres_url) as store, calling(postgres_url) as caller:
        transaction = caller.connection.transaction()
        await transaction.start()
        with pytest.raises(asyncpg.DivisionByZeroError):
            await caller.execute("SELECT 1 / 0")
        with pytest.raises(ConnectionRefused, match="Roll back"):
            await store.create_within(caller.connection, new_task())
        await transaction.rollback()

        assert sum((await store.count()).values()) == 0


async def test_postgres_connection_to_another_database_is_refused(postgres_url: str) -> None:
    """A store of the same schema name in another database is not this store."""
    async with find_store(postgres_url) as store, session(postgres_url) as raw:
        name = f"d_{new_task_id().replace('-', '')}"
        await raw.execute(f"CREATE DATABASE {name}")
        elsewhere = postgres_url.replace("/postgres?", f"/{name}?")
        async with session(elsewhere) as connection, connection.transaction():
            with pytest.raises(ConnectionRefused, match="is not in its database"):
                await store.create_within(connection, new_task())
        async with find_store(elsewhere) as twin, session(elsewhere) as connection:
            async with connection.transaction():
                with pytest.raises(ConnectionRefused, match="another store's"):
                    await store.create_within(connection, new_task())
            counts = [*(await store.count()).values(), *(await twin.count()).values()]

    assert sum(counts) == 0


async def test_postgres_user_without_rights_is_told_which(postgres_url: str) -> None:
    """The error names what to grant, and that is enough."""
    role = f"r_{new_task_id()[-12:]}"
    async with find_store(postgres_url) as store, session(postgres_url) as raw:
        await raw.execute(f"CREATE ROLE {role} LOGIN")
        async with session(postgres_url.replace("postgres@", f"{role}@")) as connection:
            async with connection.transaction():
                with pytest.raises(ConnectionRefused, match="print-grants submitter"):
                    await store.create_within(connection, new_task())
            schema = await raw.fetchval("SELECT current_schema()")
            await raw.execute(f"GRANT USAGE ON SCHEMA {schema} TO {role}")
            await raw.execute(f"GRANT SELECT ON {schema}.schema_version TO {role}")
            await raw.execute(f"GRANT SELECT, INSERT ON {schema}.tasks TO {role}")
            async with connection.transaction():
                _, new = await store.create_within(connection, new_task())

    assert new


async def test_postgres_pooled_connection_will_do(postgres_url: str) -> None:
    """What a pool lends out is taken as the connection that it is."""
    async with (
        find_store(postgres_url) as store,
        asyncpg.create_pool(postgres_url.partition("&schema=")[0], min_size=1) as pool,
        pool.acquire() as connection,
    ):
        async with connection.transaction():
            task, _ = await store.create_within(connection, new_task())

        assert (await store.get(task.task_id)).status is TaskStatus.PENDING


async def test_postgres_caller_who_waits_too_long_for_a_key_is_told(postgres_url: str) -> None:
    """Another open transaction holds it: the store is busy, and can be reached."""
    async with (
        find_store(postgres_url) as store,
        session(postgres_url) as holder,
        holder.transaction(),
        session(postgres_url) as caller,
        caller.transaction(),
    ):
        await store.create_within(holder, new_task(idempotency_key="a"))
        await caller.execute("SET LOCAL lock_timeout = '20ms'")

        with pytest.raises(StoreBusy, match="lock timeout"):
            await store.create_within(caller, new_task(idempotency_key="a"))


async def test_postgres_serializable_conflict_is_an_error(postgres_url: str) -> None:
    """A key that was taken after the transaction's snapshot dooms it, which is told."""
    async with (
        find_store(postgres_url) as store,
        session(postgres_url) as connection,
        connection.transaction(isolation="serializable"),
    ):
        await connection.execute("SELECT 1")
        await store.create(new_task(idempotency_key="a"))

        with pytest.raises(StoreBusy, match="serialize"):
            await store.create_within(connection, new_task(idempotency_key="a"))

"""PostgreSQL through a pool of the caller's, and through PgBouncer in transaction mode."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Iterator
from typing import Any, ClassVar

import asyncpg
import pytest

from tapescope.errors import BadSetting, BadStoreUrl, StoreUnavailable
from tapescope.manager.manager import TaskManager
from tapescope.model.tape import NewEvent
from tapescope.model.tasks import CancelReason, CancelRequest, NewTask
from tapescope.run.reporter import Reporter
from tapescope.store.lookup import find_store
from tapescope.store.notifications import RESYNC, Change
from tapescope.store.validation import new_task_id
from tapescope.testing import until
from tapescope_adapters.postgres import PostgresStore
from tapescope_adapters.postgres._backend import PostgresBackend
from tests.support.postgres_sessions import run_task, schema_of, session, start_task
from tests.support.services import Postgres, running_pgbouncer


@pytest.fixture
async def pool(postgres_url: str) -> AsyncGenerator[asyncpg.Pool[asyncpg.Record]]:
    """A pool as an application has one, with settings of its own in each session."""
    dsn = postgres_url.partition("&schema=")[0]
    settings = {"search_path": "pg_temp", "synchronous_commit": "off", "lock_timeout": "60s"}
    async with asyncpg.create_pool(dsn, min_size=1, max_size=3, server_settings=settings) as made:
        yield made


@pytest.fixture(scope="module")
def pgbouncer(postgres_server: Postgres) -> Iterator[int]:
    """The port of a PgBouncer in transaction mode, with three sessions for all its clients."""
    with running_pgbouncer(postgres_server) as port:
        yield port


@pytest.fixture
def pooled_url(pgbouncer: int, postgres_server: Postgres, postgres_url: str) -> str:
    """A store behind PgBouncer that listens at the server itself."""
    return (
        f"postgresql://postgres@127.0.0.1:{pgbouncer}/postgres?sslmode=disable"
        f"&schema={schema_of(postgres_url)}&pooler=transaction"
        f"&listen_host={postgres_server.socket_folder}&listen_port=5432"
    )


@pytest.mark.parametrize(
    ("url", "direct"),
    [
        (
            "postgresql://u:p@pooler:6432/db?pooler=transaction&listen_port=5432",
            "postgresql://u:p@/db?host=pooler&port=5432",
        ),
        (
            "postgresql://u:p@pooler:6432/db?pooler=transaction&listen_host=server",
            "postgresql://u:p@/db?host=server&port=6432",
        ),
        (
            "postgresql:///db?host=/run/pooler&pooler=transaction&listen_host=/run/pg",
            "postgresql:///db?host=%2Frun%2Fpg",
        ),
        (
            "postgresql://[::1]:6432/db?pooler=transaction&listen_port=5432",
            "postgresql:///db?host=%3A%3A1&port=5432",
        ),
    ],
)
def test_listening_goes_by_the_pooler(url: str, direct: str) -> None:
    """What the URL says of the server replaces the pooler's host and port, and nothing else."""
    store = PostgresStore(url)

    assert isinstance(store.backend, PostgresBackend)
    assert store.backend.listening.address.dsn == direct


@pytest.mark.parametrize(
    ("parameters", "why"),
    [
        ("pooler=transaction", "listen_host or listen_port"),
        ("pooler=session&listen_port=1", "not 'session'"),
        ("listen_port=5432", "go with pooler"),
        ("pooler=transaction&listen_port=x", "not a number"),
        ("patience=0", "over 0"),
        ("patience=soon", "'soon'"),
    ],
)
def test_parameters_that_say_too_little_are_refused(parameters: str, why: str) -> None:
    """Behind a pooler no store would hear of commits, so where to listen has to be said."""
    with pytest.raises(BadStoreUrl, match=why):
        PostgresStore(f"postgresql://u@h/db?{parameters}")


async def test_pool_or_url_but_not_both(pool: asyncpg.Pool[asyncpg.Record]) -> None:
    """A store has one place, and a schema that could be told in two ways is told in one."""
    with pytest.raises(BadSetting, match="instead of a URL"):
        PostgresStore("postgresql://h/db", pool=pool)
    with pytest.raises(BadSetting, match="instead of a URL"):
        PostgresStore()
    with pytest.raises(BadSetting, match="in the URL"):
        PostgresStore("postgresql://h/db", schema="ops")
    with pytest.raises(BadSetting, match="schema"):
        PostgresStore(pool=pool, schema="Ops; --")


async def test_pool_is_borrowed_and_left_as_it_was(
    pool: asyncpg.Pool[asyncpg.Record], postgres_url: str
) -> None:
    """Nothing of ours stays in a session, no connection is kept, and the pool stays open."""
    async with PostgresStore(pool=pool, schema=schema_of(postgres_url)) as store:
        await asyncio.gather(*(run_task(store, 20) for _ in range(30)))
        in_use = pool.get_size() - pool.get_idle_size()
        counts = await store.count()
    async with pool.acquire() as conn:
        left = [
            await conn.fetchval("SELECT current_setting($1)", name)
            for name in ("search_path", "synchronous_commit", "lock_timeout")
        ]

    assert sum(counts.values()) == 30
    assert in_use == 0
    assert left == ["pg_temp", "off", "1min"]


@pytest.mark.parametrize(("durability", "setting"), [("commit", "on"), ("relaxed", "off")])
async def test_durability_holds_on_a_pool(
    pool: asyncpg.Pool[asyncpg.Record], postgres_url: str, durability: str, setting: str
) -> None:
    """Each flush carries its settings, whatever the pool's sessions are set to."""
    async with PostgresStore(
        pool=pool,
        schema=schema_of(postgres_url),
        durability=durability,  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]  # parametrised
    ) as store:
        async with session(postgres_url) as raw:
            await raw.execute("CREATE TABLE seen (commit text, wait text)")
            await raw.execute(
                "CREATE FUNCTION note() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN INSERT INTO"
                f" {schema_of(postgres_url)}.seen VALUES (current_setting('synchronous_commit'),"
                " current_setting('lock_timeout')); RETURN NULL; END $$"
            )
            for table in ("tasks", "messages"):
                await raw.execute(
                    f"CREATE TRIGGER note AFTER INSERT ON {table} EXECUTE FUNCTION note()"
                )
        claim = await start_task(store)
        await store.messages.send(claim.task.task_id, "go")
        async with session(postgres_url) as raw:
            seen = await raw.fetch("SELECT * FROM seen")

    assert [tuple(row) for row in seen] == [(setting, "100ms")] * 2


async def test_listening_takes_one_connection_of_the_pool(
    pool: asyncpg.Pool[asyncpg.Record], postgres_url: str
) -> None:
    """Without another place to listen a connection is kept while there is a follower, no longer."""
    async with (
        PostgresStore(pool=pool, schema=schema_of(postgres_url)) as ours,
        PostgresStore(postgres_url) as theirs,
    ):
        claim = await start_task(theirs)
        with ours.changes(claim.task.task_id) as changes:
            first = await asyncio.wait_for(anext(changes), 10)
            in_use = pool.get_size() - pool.get_idle_size()
            await theirs.append(claim.attempt, [NewEvent("log", 1)])
            second = await asyncio.wait_for(anext(changes), 10)
        await until(lambda: pool.get_size() == pool.get_idle_size())

    assert first is RESYNC
    assert in_use == 1
    assert second == Change(claim.task.task_id, 2)


async def test_listen_url_leaves_the_pool_alone(
    pool: asyncpg.Pool[asyncpg.Record], postgres_url: str
) -> None:
    """Given a place to listen, the pool lends connections for calls only."""
    async with (
        PostgresStore(pool=pool, schema=schema_of(postgres_url), listen_url=postgres_url) as ours,
        PostgresStore(postgres_url) as theirs,
    ):
        claim = await start_task(theirs)
        with ours.changes(claim.task.task_id) as changes:
            await asyncio.wait_for(anext(changes), 10)
            in_use = pool.get_size() - pool.get_idle_size()
            await theirs.append(claim.attempt, [NewEvent("log", 1)])
            heard = await asyncio.wait_for(anext(changes), 10)

    assert in_use == 0
    assert heard == Change(claim.task.task_id, 2)


async def test_no_other_thread_borrows_from_the_pool(
    pool: asyncpg.Pool[asyncpg.Record], postgres_url: str
) -> None:
    """The keeper of leases has a loop of its own, where a pool's connection cannot be used."""
    schema = schema_of(postgres_url)
    alone = PostgresStore(pool=pool, schema=schema)
    beside = PostgresStore(pool=pool, schema=schema, listen_url=postgres_url)

    assert alone.leases.make_renewer() is None
    assert beside.leases.make_renewer() is not None


async def test_pool_without_a_free_connection_is_a_store_that_is_away(
    pool: asyncpg.Pool[asyncpg.Record], postgres_url: str
) -> None:
    """A call waits for one as long as the store's patience; then it is told what is missing."""
    async with PostgresStore(pool=pool, schema=schema_of(postgres_url), patience=0.2) as store:
        held = [await pool.acquire() for _ in range(3)]
        with pytest.raises(StoreUnavailable, match="no connection free"):
            await store.create(NewTask(new_task_id(), "x"))
        for conn in held:
            await pool.release(conn)
        _, new = await store.create(NewTask(new_task_id(), "x"))

    assert new


async def test_closed_pool_is_a_store_that_is_away(
    pool: asyncpg.Pool[asyncpg.Record], postgres_url: str
) -> None:
    """A caller who closes the pool first makes calls fail; the store can still be closed."""
    async with PostgresStore(pool=pool, schema=schema_of(postgres_url), patience=0.1) as store:
        await pool.close()

        with pytest.raises(StoreUnavailable, match="pool is clos"):
            await store.count()


async def test_killed_session_of_a_pool_is_replaced(
    pool: asyncpg.Pool[asyncpg.Record], postgres_url: str
) -> None:
    """A connection that died in the pool costs a retry, and no event."""
    async with PostgresStore(pool=pool, schema=schema_of(postgres_url)) as store:
        claim = await start_task(store)
        async with pool.acquire() as conn:
            pid = await conn.fetchval("SELECT pg_backend_pid()")
        async with session(postgres_url) as raw:
            await raw.execute("SELECT pg_terminate_backend($1)", pid)
        for n in range(20):
            await store.append(claim.attempt, [NewEvent("log", n)])
        page = await store.read_tape(claim.task.task_id)

    assert [event.body for event in page.events[1:]] == list(range(20))


class Dying(asyncpg.Connection):
    """A connection that, once asked to, dies when the server has done a call and not answered."""

    doomed: ClassVar[list[str]] = []
    """The names of the methods that lose their reply, each once."""

    async def fetchrow(self, *arguments: Any, **options: Any) -> Any:
        return self._lose("fetchrow", await super().fetchrow(*arguments, **options))

    async def fetchval(self, *arguments: Any, **options: Any) -> Any:
        return self._lose("fetchval", await super().fetchval(*arguments, **options))

    async def fetch(self, *arguments: Any, **options: Any) -> Any:
        return self._lose("fetch", await super().fetch(*arguments, **options))

    async def execute(self, *arguments: Any, **options: Any) -> Any:
        return self._lose("execute", await super().execute(*arguments, **options))

    def _lose(self, method: str, reply: object) -> object:
        if method in self.doomed:
            self.doomed.remove(method)
            self.terminate()  # the pool takes it from its borrower
            raise asyncpg.ConnectionDoesNotExistError("connection was closed in mid-operation")
        return reply


@pytest.fixture
async def dying_pool(postgres_url: str) -> AsyncGenerator[asyncpg.Pool[asyncpg.Record]]:
    """A pool whose connections die in mid-call."""
    dsn = postgres_url.partition("&schema=")[0]
    async with asyncpg.create_pool(dsn, min_size=1, max_size=3, connection_class=Dying) as made:
        yield made
    assert not Dying.doomed


async def test_session_of_a_pool_that_dies_in_a_call_is_replaced(
    dying_pool: asyncpg.Pool[asyncpg.Record], postgres_url: str
) -> None:
    """Whichever call it dies in: no event is lost or doubled, and a query is asked again.

    The pool takes a dead connection back by itself: who had borrowed it may not touch it any more.
    """
    async with PostgresStore(pool=dying_pool, schema=schema_of(postgres_url)) as store:
        claim = await start_task(store)
        for n, doomed in enumerate((["fetchrow"], ["fetchrow", "fetchval"], [])):
            Dying.doomed[:] = doomed
            await store.append(claim.attempt, [NewEvent("log", n)])
        Dying.doomed[:] = ["fetch"]
        counted = await store.count()
        page = await store.read_tape(claim.task.task_id)
        Dying.doomed[:] = ["execute"]

    assert sum(counted.values()) == 1
    assert [event.body for event in page.events[1:]] == [0, 1, 2]


async def test_blocked_flush_keeps_no_connection_of_the_pool(
    pool: asyncpg.Pool[asyncpg.Record], postgres_url: str
) -> None:
    """Between two tries it is the application's, which may be what is waited for."""
    async with (
        PostgresStore(pool=pool, schema=schema_of(postgres_url)) as store,
        session(postgres_url) as raw,
    ):
        claim = await start_task(store)
        async with raw.transaction():
            await raw.execute(
                "SELECT 1 FROM tasks WHERE task_id = $1 FOR UPDATE", claim.task.task_id
            )
            call = asyncio.ensure_future(store.append(claim.attempt, [NewEvent("log", 1)]))
            await until(lambda: pool.get_size() > pool.get_idle_size())
            await until(lambda: pool.get_size() == pool.get_idle_size())
            waits = not call.done()
        await call

    assert waits


async def test_listener_of_a_pool_outlives_its_session(
    pool: asyncpg.Pool[asyncpg.Record], postgres_url: str
) -> None:
    """The session that listens is killed, each time: another listens, and followers look again."""
    schema = schema_of(postgres_url)
    async with PostgresStore(pool=pool, schema=schema) as ours:
        claim = await start_task(ours)
        with ours.changes(claim.task.task_id) as changes:
            told = [await asyncio.wait_for(anext(changes), 10)]
            async with session(postgres_url) as raw:
                for _ in range(3):
                    await raw.execute(
                        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
                        " WHERE query LIKE 'LISTEN%' || $1 || '%'",
                        schema,
                    )
                    told.append(await asyncio.wait_for(anext(changes), 10))

    assert told == [RESYNC] * 4


@pytest.mark.unmade
async def test_tasks_run_behind_pgbouncer(pooled_url: str) -> None:
    """More clients than sessions: migrations, flushes and reads need nothing of the session's."""

    async def work(report: Reporter, n: int) -> int:
        for step in range(5):
            await report.progress("work", step, 5)
        return n

    async with TaskManager(pooled_url, max_running=50) as manager:
        other = find_store(pooled_url)
        async with other:
            handles = [await manager.submit("work", work, params={"n": n}) for n in range(100)]
            pages = await asyncio.gather(*(other.count() for _ in range(40)))
            results = [await handle.result(30) for handle in handles]
            tapes = [await other.read_tape(handle.task_id) for handle in handles]
        report = await manager.audit()

    assert results == list(range(100))
    assert all(tape.final_seq == 7 for tape in tapes)
    assert len(pages) == 40
    assert not report.violations


@pytest.mark.unmade
async def test_stores_open_at_once_behind_pgbouncer(pooled_url: str) -> None:
    """The lock of a migration is its transaction's, so one migrates and the others wait."""
    stores = [find_store(pooled_url) for _ in range(8)]
    await asyncio.gather(*(store.open() for store in stores))
    ids = await asyncio.gather(*(run_task(store, 3) for store in stores))
    count = await stores[0].count()
    for store in stores:
        await store.aclose()

    assert sum(count.values()) == len(ids)


async def test_news_come_by_the_pooler(pooled_url: str) -> None:
    """LISTEN has a connection of its own to the server, so followers and owners are told."""
    told: list[tuple[str, CancelRequest]] = []
    async with find_store(pooled_url) as ours, find_store(pooled_url) as theirs:
        claim = await start_task(ours)
        ours.listen_for_cancels("me", lambda task_id, request: told.append((task_id, request)))
        with theirs.changes(claim.task.task_id) as changes:
            assert await asyncio.wait_for(anext(changes), 10) is RESYNC
            await ours.append(claim.attempt, [NewEvent("log", 1)])
            heard = await asyncio.wait_for(anext(changes), 10)
        await theirs.request_cancel(claim.task.task_id, CancelReason.USER, "enough")
        await until(lambda: told)
        ours.stop_listening("me")

    assert heard == Change(claim.task.task_id, 2)
    assert told[0][0] == claim.task.task_id


async def test_transactional_submit_behind_pgbouncer(pooled_url: str, pgbouncer: int) -> None:
    """The caller's connection may be the pooler's, too: a transaction keeps its session."""
    dsn = f"postgresql://postgres@127.0.0.1:{pgbouncer}/postgres?sslmode=disable"
    async with find_store(pooled_url) as store:
        conn = await asyncpg.connect(dsn, statement_cache_size=0)
        try:
            async with conn.transaction():
                task, _ = await store.create_within(conn, NewTask(new_task_id(), "x"))
        finally:
            await conn.close()
        found = await store.get(task.task_id)

    assert found == task


async def test_settings_hold_behind_pgbouncer(pooled_url: str, postgres_url: str) -> None:
    """A row that another session holds blocks a flush for half a second, as without a pooler."""
    async with find_store(pooled_url) as store:
        held, free = await start_task(store), await start_task(store)
        async with session(postgres_url) as raw, raw.transaction():
            await raw.execute(
                "SELECT 1 FROM tasks WHERE task_id = $1 FOR UPDATE", held.task.task_id
            )
            blocked = asyncio.create_task(store.append(held.attempt, [NewEvent("log", 1)]))
            passed = await asyncio.wait_for(store.append(free.attempt, [NewEvent("log", 1)]), 5)
            assert not blocked.done()
        stored = (await blocked).stored

    assert passed.stored == range(2, 3)
    assert stored == range(2, 3)

"""The PostgreSQL schema: migrations, who may run them, and plans that stay index look-ups."""

from __future__ import annotations

import asyncio
import gc
import sys
from typing import TYPE_CHECKING
from uuid import uuid4

import pytest

from tapescope.errors import SchemaForbidden, SchemaNotOwn, SchemaTooNew, StoreUnavailable
from tapescope.model.audit import AuditRule
from tapescope.store.opening import OpenMode
from tapescope.testing import until
from tapescope_adapters.postgres import PostgresStore
from tapescope_adapters.postgres._queries import load_queries
from tapescope_adapters.postgres._schema import read_migrations
from tests.support.breaches import BREACHES, run_round
from tests.support.older_schema import take_migration_off
from tests.support.postgres_sessions import run_task, schema_of, session, start_task

if TYPE_CHECKING:
    from tests.support.postgres_sessions import Session

pytestmark = pytest.mark.unmade


async def test_fresh_database_is_migrated(postgres_url: str) -> None:
    """Opening makes the schema and notes each step."""
    async with PostgresStore(postgres_url), session(postgres_url) as raw:
        versions = await raw.fetch("SELECT version FROM schema_version ORDER BY version")

    assert [version for (version,) in versions] == list(read_migrations())


async def test_second_opening_changes_nothing(postgres_url: str) -> None:
    """A schema that is up to date is left as it is, with what it holds."""
    async with PostgresStore(postgres_url) as store:
        task_id = await run_task(store, 1)
    async with PostgresStore(postgres_url, open_mode=OpenMode.MIGRATE) as store:
        page = await store.read_tape(task_id)

    assert page.final_seq == 3


async def test_stores_that_open_at_once_share_one_migration(postgres_url: str) -> None:
    """One migrates, the others wait and find it done."""
    stores = [PostgresStore(postgres_url) for _ in range(5)]
    await asyncio.gather(*(store.open() for store in stores))
    ids = await asyncio.gather(*(run_task(store, 1) for store in stores))
    count = await stores[0].count()
    for store in stores:
        await store.aclose()

    assert sum(count.values()) == len(ids)


@pytest.mark.parametrize("sessions", ["", "&pooler=transaction&listen_port=5432"])
def test_a_loop_that_is_closed_in_mid_migration_locks_nobody_out(
    postgres_url: str, sessions: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its connection stays open while the process lives, and the server ends its transaction."""
    left = [PostgresStore(postgres_url + sessions, patience=1.0)]
    make_schema = f'CREATE SCHEMA "{schema_of(postgres_url)}"'

    async def waits(raw: Session) -> bool:
        waiting = "SELECT count(*) FROM pg_stat_activity WHERE query = $1 AND wait_event_type = $2"
        return bool(await raw.fetchval(waiting, make_schema, "Lock"))

    async def migrate_halfway() -> None:
        async with session(postgres_url) as raw, session(postgres_url) as other:
            held = other.transaction()
            await held.start()
            await other.execute(make_schema)
            opening = asyncio.ensure_future(left[0].open())
            await until(lambda: waits(raw))
            await held.rollback()  # the server goes on, and nobody listens to it any more
        assert not opening.done()

    async def open_anew() -> None:
        async with PostgresStore(postgres_url, patience=1.0) as store:
            assert not any((await store.count()).values())

    def overhear(_: object) -> None:
        """Asyncpg hangs up in a closed loop."""

    monkeypatch.setattr(sys, "unraisablehook", overhear)
    loop = asyncio.new_event_loop()
    loop.set_exception_handler(lambda _, context: None)  # of tasks that are destroyed
    loop.run_until_complete(migrate_halfway())
    loop.close()
    asyncio.run(asyncio.wait_for(open_anew(), 20))
    left.clear()
    gc.collect()


async def test_newer_schema_is_refused(postgres_url: str) -> None:
    """A database that a newer tapescope migrated is not written to."""
    async with PostgresStore(postgres_url), session(postgres_url) as raw:
        await raw.execute("INSERT INTO schema_version (version) VALUES (99)")

    with pytest.raises(SchemaTooNew, match="version 99"):
        await PostgresStore(postgres_url).open()


async def test_role_without_create_is_told_to_migrate_as_another(postgres_url: str) -> None:
    """A role that may not make tables gets one clear error, once, not a retry."""
    role = f"r_{uuid4().hex[:8]}"
    async with session(postgres_url) as raw:
        await raw.execute(f"CREATE ROLE {role} LOGIN")

    with pytest.raises(SchemaForbidden, match="permission denied"):
        await PostgresStore(postgres_url.replace("postgres@", f"{role}@")).open()


@pytest.mark.parametrize(
    ("made", "refused"),
    [
        ("CREATE SCHEMA {schema}", True),
        ("CREATE SCHEMA {schema} AUTHORIZATION {role}", False),
        (
            "CREATE SCHEMA {schema} AUTHORIZATION {role}; GRANT ALL ON SCHEMA {schema} TO PUBLIC",
            True,
        ),
    ],
)
async def test_schema_of_another_is_not_adopted_unasked(
    postgres_url: str, made: str, refused: bool
) -> None:
    """Who owns the schema, or may make things in it, could replace a function of the store."""
    role, schema = f"r_{uuid4().hex[:8]}", schema_of(postgres_url)
    async with session(postgres_url) as raw:
        await raw.execute(f"CREATE ROLE {role} LOGIN")
        await raw.execute(made.format(schema=schema, role=role))
        await raw.execute(f"GRANT USAGE, CREATE ON SCHEMA {schema} TO {role}")
    url = postgres_url.replace("postgres@", f"{role}@")
    if refused:
        with pytest.raises(SchemaNotOwn, match="adopt_schema=true"):
            await PostgresStore(url, open_mode=OpenMode.MIGRATE).open()
        async with session(postgres_url) as raw:
            assert not await raw.fetchval(
                "SELECT count(*) FROM pg_tables WHERE schemaname = $1", schema
            )
    async with PostgresStore(f"{url}&adopt_schema={str(refused).lower()}") as store:
        page = await store.read_tape(await run_task(store, 1))

    assert page.final_seq == 3


@pytest.mark.parametrize("made_before", [False, True])
async def test_stores_that_migrate_at_once_take_no_advisory_lock(
    postgres_url: str, made_before: bool
) -> None:
    """One makes the tables and the others find them; nothing of ours is a lock for all to take."""
    if made_before:
        async with session(postgres_url) as raw:
            await raw.execute(f"CREATE SCHEMA {schema_of(postgres_url)}")
    stores = [PostgresStore(postgres_url, open_mode=OpenMode.MIGRATE) for _ in range(4)]
    await asyncio.gather(*(store.open() for store in stores))
    for store in stores:
        await store.aclose()
    async with session(postgres_url) as raw:
        versions = await raw.fetchval("SELECT count(*) FROM schema_version")
        taken = await raw.fetchval(
            "SELECT count(*) FROM pg_proc WHERE pronamespace = current_schema()::regnamespace"
            " AND prosrc LIKE '%pg_advisory%'"
        )

    assert versions == len(read_migrations())
    assert taken == 0
    assert not [name for name, text in load_queries("x").items() if "pg_advisory" in text]


async def test_older_schema_is_migrated_by_one_of_many(postgres_url: str) -> None:
    """The table of the versions is the lock; who had to wait for it finds nothing left to do."""
    async with PostgresStore(postgres_url), session(postgres_url) as raw:
        await take_migration_off(postgres_url)
        async with raw.transaction():
            await raw.execute("LOCK TABLE schema_version IN SHARE ROW EXCLUSIVE MODE")
            stores = [PostgresStore(postgres_url, open_mode=OpenMode.MIGRATE) for _ in range(3)]
            opening = [asyncio.create_task(store.open()) for store in stores]

            async def wait_for_it() -> bool:
                waiting = (
                    "SELECT count(*) FROM pg_locks WHERE NOT granted AND relation = $1::regclass"
                )
                return bool(await raw.fetchval(waiting, "schema_version") == len(stores))

            await until(wait_for_it)
        await asyncio.gather(*opening)
        for store in stores:
            await store.aclose()
        versions = await raw.fetch("SELECT version FROM schema_version ORDER BY version")

    assert [version for (version,) in versions] == list(read_migrations())


async def test_role_needs_no_more_than_the_tables(postgres_url: str) -> None:
    """After a migration by its owner, a role with rights on the tables runs tasks."""
    role = f"r_{uuid4().hex[:8]}"
    async with PostgresStore(postgres_url), session(postgres_url) as raw:
        name = schema_of(postgres_url)
        await raw.execute(f"CREATE ROLE {role} LOGIN")
        await raw.execute(f"GRANT USAGE ON SCHEMA {name} TO {role}")
        await raw.execute(
            f"GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA {name} TO {role}"
        )
    url = postgres_url.replace("postgres@", f"{role}@")
    async with PostgresStore(url) as store:
        page = await store.read_tape(await run_task(store, 2))

    assert page.final_seq == 4


async def test_role_without_connections_left_makes_calls_wait_then_fail(postgres_url: str) -> None:
    """Too many connections is a server that is away: tried again, then ``StoreUnavailable``."""
    role = f"r_{uuid4().hex[:8]}"
    async with session(postgres_url) as raw:
        await raw.execute(f"CREATE ROLE {role} LOGIN CONNECTION LIMIT 0")

    with pytest.raises(StoreUnavailable, match="too many connections"):
        await PostgresStore(postgres_url.replace("postgres@", f"{role}@"), patience=0.2).open()


@pytest.mark.parametrize(("durability", "setting"), [("commit", "on"), ("relaxed", "off")])
async def test_durability_is_the_sessions_own(
    postgres_url: str, durability: str, setting: str
) -> None:
    """``commit`` waits for the disk even where the role's default is not to; ``relaxed`` never."""
    role = f"r_{uuid4().hex[:8]}"
    async with session(postgres_url) as raw:
        await raw.execute(f"CREATE ROLE {role} LOGIN SUPERUSER")
        await raw.execute(f"ALTER ROLE {role} SET synchronous_commit = off")
    url = postgres_url.replace("postgres@", f"{role}@")
    async with PostgresStore(url, durability=durability) as store:  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]  # parametrised
        async with session(postgres_url) as raw:
            await raw.execute("CREATE TABLE seen (setting text)")
            await raw.execute(
                "CREATE FUNCTION note() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN INSERT INTO"
                " seen VALUES (current_setting('synchronous_commit')); RETURN NULL; END $$"
            )
            await raw.execute("CREATE TRIGGER note AFTER INSERT ON events EXECUTE FUNCTION note()")
            await raw.execute("CREATE TRIGGER note AFTER INSERT ON repairs EXECUTE FUNCTION note()")
            await raw.execute(
                "CREATE TRIGGER note AFTER INSERT ON messages EXECUTE FUNCTION note()"
            )
        await store.release((await start_task(store)).attempt)
        claims = await store.claim_due("me", ["x"], 1, 60)
        task = claims[0].task
        await store.messages.send(task.task_id, "go")
        await store.leases.rescue_expired(dead_owners=["me"])
        await run_round(postgres_url, BREACHES[AuditRule.MISSING_FINAL][0].format(key=task.key))
        await store.maintenance.repair(task.task_id, by="me")
        async with session(postgres_url) as raw:
            seen = await raw.fetchval("SELECT array_agg(setting) FROM seen")

    assert len(claims) == 1
    # A start, a release, another start, a message, a rescue's final.
    assert seen[:5] == [setting] * 5
    assert set(seen[5:]) == {setting}  # the repair's


async def test_fresh_tables_are_read_by_index(postgres_url: str) -> None:
    """Without statistics, a flush still looks up what it needs and scans nothing."""
    async with PostgresStore(postgres_url) as store:
        await asyncio.gather(*(run_task(store, 20) for _ in range(150)))
    name = schema_of(postgres_url)
    async with session(postgres_url) as raw:

        async def counted() -> int:
            return int(
                await raw.fetchval(
                    "SELECT n_tup_ins FROM pg_stat_user_tables"
                    " WHERE schemaname = $1 AND relname = 'events'",
                    name,
                )
            )

        async def all_counted() -> bool:
            return await counted() == 150 * 22

        await until(all_counted)
        entries = await raw.fetchval(
            "SELECT sum(idx_tup_read) FROM pg_stat_user_indexes"
            " WHERE schemaname = $1 AND relname IN ('tasks', 'events')",
            name,
        )
        scanned = await raw.fetchval(
            "SELECT sum(seq_tup_read) FROM pg_stat_user_tables"
            " WHERE schemaname = $1 AND relname IN ('tasks', 'events')",
            name,
        )

    assert entries / (150 * 22) < 10
    assert scanned / (150 * 22) < 1

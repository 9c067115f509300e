"""The stores that tests get made: what an earlier test has left in one is in none of them."""

from __future__ import annotations

from pathlib import Path

import psycopg

from tapescope import find_store
from tests.support.made_files import MadeFile
from tests.support.made_schemas import MadeSchemas, read_fingerprint
from tests.support.postgres_sessions import run_task, schema_of, session
from tests.support.services import Postgres

CHANGES = (
    "DROP TRIGGER lanes_no_truncate ON lanes",
    "ALTER TABLE lanes DISABLE TRIGGER lanes_no_truncate",
    "ALTER TABLE lanes DISABLE TRIGGER ALL; ALTER TABLE lanes ENABLE TRIGGER ALL",
    "ALTER FUNCTION now_us() SET work_mem = '1MB'",
    "REVOKE EXECUTE ON FUNCTION now_us() FROM PUBLIC",
    "DROP FUNCTION now_us() CASCADE",
    "CREATE FUNCTION mine() RETURNS integer LANGUAGE sql RETURN 1",
    "GRANT SELECT ON tasks TO PUBLIC",
    "GRANT SELECT (op) ON tasks TO PUBLIC",
    "GRANT USAGE ON SCHEMA {schema} TO PUBLIC",
    "ALTER DEFAULT PRIVILEGES IN SCHEMA {schema} GRANT SELECT ON TABLES TO PUBLIC",
    "ALTER TABLE tasks OWNER TO pg_monitor",
    "ALTER SCHEMA {schema} OWNER TO pg_monitor",
    "ALTER TABLE lanes ADD COLUMN mine integer",
    "ALTER TABLE lanes ALTER COLUMN answer SET NOT NULL",
    "ALTER TABLE tasks ALTER COLUMN retries SET DEFAULT 1",
    "ALTER TABLE events VALIDATE CONSTRAINT events_body_is_json",
    "ALTER TABLE lanes SET (fillfactor = 50)",
    "ALTER SEQUENCE tasks_id_seq INCREMENT 2",
    "CREATE INDEX mine ON lanes (touched)",
    "DROP INDEX tasks_parent",
    "CREATE TABLE mine (a integer)",
    "CREATE VIEW public.mine AS SELECT op FROM {schema}.tasks",
    "CREATE TABLE public.mine (task bigint REFERENCES {schema}.tasks (id))",
    "ALTER TABLE tasks ENABLE ROW LEVEL SECURITY",
    "CREATE POLICY mine ON tasks USING (true)",
    "CREATE RULE mine AS ON DELETE TO lanes DO INSTEAD NOTHING",
    "CREATE STATISTICS mine ON op, status FROM tasks",
    "ANALYZE schema_version",
    "ALTER SCHEMA {schema} RENAME TO {schema}_old",
)
"""What a test may do to a schema."""


async def test_a_used_schema_is_handed_on_as_it_was_made(postgres_server: Postgres) -> None:
    """No row is left, numbers begin anew, and the store has an id of its own."""
    schemas = MadeSchemas(postgres_server)
    ids, numbers, left = list[str](), list[int](), list[int]()
    urls = list[str]()
    for _ in range(3):
        with schemas.lend() as url:
            urls.append(url)
            async with find_store(url) as store, session(url) as raw:
                ids.append(await store.engines.read_store_id())
                left.append(
                    await raw.fetchval(
                        "SELECT (SELECT count(*) FROM tasks) + (SELECT count(*) FROM events)"
                        " + (SELECT count(*) FROM lanes) + (SELECT count(*) FROM backlog_moves)"
                    )
                )
                await run_task(store, 3)
                numbers.append(await raw.fetchval("SELECT min(id) FROM tasks"))
                await raw.execute("UPDATE maintenance SET audited_at = 7; DELETE FROM ops")
                await raw.execute("SELECT nextval('quarantine_id_seq')")

    assert len(set(urls)) == 1
    assert len(set(ids)) == 3
    assert (left, numbers) == ([0, 0, 0], [1, 1, 1])


def test_a_schema_that_was_changed_goes_to_nobody(postgres_server: Postgres) -> None:
    """Whatever a test changes of it is seen, also what it changes back."""
    with (
        MadeSchemas(postgres_server).lend() as url,
        psycopg.connect(postgres_server.dsn) as conn,
    ):
        schema = schema_of(url)
        unseen = list[str]()
        for change in CHANGES:
            made = read_fingerprint(conn, schema)  # ANALYZE stays, also where it is rolled back
            conn.execute(f"SET LOCAL search_path = {schema}")  # pyright: ignore[reportArgumentType, reportCallIssue]  # made here
            conn.execute(change.format(schema=schema))  # pyright: ignore[reportArgumentType, reportCallIssue]
            if read_fingerprint(conn, schema) == made:
                unseen.append(change)
            conn.rollback()

    assert unseen == []


async def test_a_schema_in_use_or_damaged_is_left(postgres_server: Postgres) -> None:
    """The next test gets another one: after a trigger is gone, and while a session is there."""
    schemas = MadeSchemas(postgres_server)
    with schemas.lend() as damaged:
        async with session(damaged) as raw:
            await raw.execute("DROP TRIGGER lanes_no_truncate ON lanes")
    with schemas.lend() as used:
        pass
    async with session(used) as raw:
        await raw.execute("SELECT 1")
        with schemas.lend() as fresh:
            pass

    assert len({damaged, used, fresh}) == 3


async def test_a_schema_with_many_rows_is_handed_on(postgres_server: Postgres) -> None:
    """Its tables are as small as they were."""
    schemas = MadeSchemas(postgres_server)
    with schemas.lend() as url:
        async with session(url) as raw:
            await raw.execute(
                "INSERT INTO lanes SELECT n, n, repeat('x', 100), 0 FROM generate_series(1, 1000) n"
            )
    with schemas.lend() as again:
        async with session(again) as raw:
            size = await raw.fetchval("SELECT pg_relation_size('lanes')")

    assert (again, size) == (url, 0)


async def test_copies_of_a_made_file_are_stores_of_their_own(tmp_path: Path) -> None:
    """Each is empty, has an id of its own, and the permissions of a new store."""
    made = MadeFile(tmp_path / "made.db")
    ids = set[str]()
    for name in ("a.db", "b.db"):
        made.copy(tmp_path / name)
        async with find_store(f"sqlite:///{tmp_path / name}") as store:
            ids.add(await store.engines.read_store_id())
            await run_task(store, 1)

    assert len(ids) == 2
    assert (tmp_path / "a.db").stat().st_mode & 0o777 == 0o600

"""Names in our SQL lead to the catalog and to our schema, whoever has planted what elsewhere."""

from __future__ import annotations

import re
from collections.abc import AsyncGenerator, Iterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import TYPE_CHECKING

import asyncpg
import pytest

from tapescope.model.tasks import CancelReason, NewTask
from tapescope.store.validation import new_task_id
from tapescope_adapters.postgres import PostgresStore
from tapescope_adapters.postgres._backend import OF_A_TIME
from tapescope_adapters.postgres._connection import DURABLE, EMPTY_QUEUE, LOOK_AGAIN, Connector
from tapescope_adapters.postgres._names import UnsafeNameError, qualify
from tapescope_adapters.postgres._queries import load_queries
from tapescope_adapters.postgres._url import Address
from tests.support.hostile_names import hostile_pools, planted
from tests.support.postgres_sessions import run_task, schema_of, session

if TYPE_CHECKING:
    from tests.support.postgres_sessions import Session

pytestmark = pytest.mark.unmade


def read_statements(schema: str) -> Mapping[str, str]:
    """Every statement that the adapter sends with names in it, as it is put together."""
    connector = Connector(Address.of_pool(schema), patience=1, relaxed=False)
    queries = {
        **load_queries(schema),
        "durable": DURABLE,
        "empty_queue": EMPTY_QUEUE,
        "look_again": LOOK_AGAIN,
    }
    del queries["lock_schema"]  # LOCK is not prepared; it names one table
    page, part = queries["read_quarantine"], queries.pop("find_searched_drop")
    queries["read_quarantine"] = page.replace("/*looked_to*/", "NULL::bigint")
    of_a_time = page.replace("/*looked_to*/", part).replace("/*times*/", qualify(OF_A_TIME))
    queries["read_quarantine_of_a_time"] = of_a_time
    made = {name: connector.with_local_settings(text) for name, text in queries.items()}
    return {name: fill_in(text) for name, text in made.items()}


def fill_in(text: str) -> str:
    """The statement with conditions, as a filter would have them."""
    free = 1 + max((int(number) for number in re.findall(r"\$(\d+)", text)), default=0)
    for mark, begin in {"/*where*/": "WHERE", "/*and*/": "AND", "/*range*/": "AND"}.items():
        text = text.replace(mark, qualify(f"{begin} task_id IS NOT NULL AND '1' <> ${free}"))
    return text


class Walk:
    """A session that finds what is planted before all else, and looks where statements lead."""

    def __init__(self, conn: Session, schema: str, hostile: str) -> None:
        self._conn, self._schema, self._hostile = conn, schema, hostile

    async def find_outside(self, statement: str) -> list[str]:
        """What the statement names outside the catalog and our schema, as the server parsed it.

        It is made the body of a function: the server notes on what that depends, save for what is
        the catalog's.
        """
        step = self._conn.transaction()
        await step.start()
        try:
            await self._conn.execute(f"SET LOCAL search_path = {self._hostile}, pg_catalog")
            await self._conn.execute(f"PREPARE walked AS {statement}")
            await self._conn.execute("SET LOCAL search_path = pg_catalog")
            types = await self._conn.fetchval(
                "SELECT ARRAY(SELECT 'pg_catalog.' || t.typname"
                "               FROM unnest(parameter_types) WITH ORDINALITY AS p(oid, place)"
                "               JOIN pg_type t ON t.oid = p.oid::oid ORDER BY p.place)"
                "  FROM pg_prepared_statements WHERE name = 'walked'"
            )
            await self._conn.execute("DEALLOCATE walked")
            await self._conn.execute(f"SET LOCAL search_path = {self._hostile}, pg_catalog")
            await self._conn.execute(
                f"CREATE FUNCTION {self._schema}.walked({', '.join(types)}) RETURNS void"
                f" BEGIN ATOMIC {statement}; END"
            )
            await self._conn.execute("SET LOCAL search_path = pg_catalog")
            return await find_dependencies(self._conn, self._schema, "p.proname = 'walked'")
        except asyncpg.PostgresError as error:  # what is planted does not fit in its place
            return [str(error)]
        finally:
            await step.rollback()


async def find_dependencies(conn: Session, schema: str, which: str) -> list[str]:
    """What our functions depend on that is not the catalog's, nor in our schema."""
    rows = await conn.fetch(
        "SELECT DISTINCT pg_describe_object(d.refclassid, d.refobjid, d.refobjsubid)"
        "  FROM pg_proc p JOIN pg_depend d ON d.classid = 'pg_proc'::regclass AND d.objid = p.oid"
        " CROSS JOIN pg_identify_object(d.refclassid, d.refobjid, d.refobjsubid) AS o"
        f" WHERE p.pronamespace = $1::text::regnamespace AND {which}"
        "   AND d.refclassid NOT IN ('pg_namespace'::regclass, 'pg_language'::regclass)"
        "   AND coalesce(o.schema, '') NOT IN ($1::text, 'pg_catalog')",
        schema,
    )
    return [row[0] for row in rows]


@asynccontextmanager
async def walking(url: str) -> AsyncGenerator[Walk]:
    """A walk over a store's schema, beside all that its statements could meet elsewhere."""
    async with PostgresStore(url):
        pass
    schema = schema_of(url)
    async with planted(url) as hostile, session(url) as raw:
        yield Walk(raw, schema, hostile)


def find_breakable(statement: str) -> Iterator[tuple[str, str]]:
    """Each name with the catalog's schema, and the statement with that name alone without it."""
    for found in re.finditer(r"pg_catalog\.(\w+|\W+?(?=\)))", statement):
        yield found[1], statement[: found.start()] + found[1] + statement[found.end() :]


async def test_no_statement_leads_outside(postgres_url: str) -> None:
    """With all that it names planted a second time, each statement still leads to ours."""
    async with walking(postgres_url) as walk:
        statements = read_statements(schema_of(postgres_url))
        outside = {name: await walk.find_outside(text) for name, text in statements.items()}

    assert {name: found for name, found in outside.items() if found} == {}
    assert len(outside) > 50


async def test_walk_sees_every_name_without_its_schema(postgres_url: str) -> None:
    """A statement that has lost the schema of one name leads outside: each name of each one."""
    unseen: list[str] = []
    broken = 0
    async with walking(postgres_url) as walk:
        for of, text in read_statements(schema_of(postgres_url)).items():
            for name, worse in find_breakable(text):
                if name == "json":
                    continue  # in the grammar from PostgreSQL 17 on, and not in that of 16
                broken += 1
                if not await walk.find_outside(worse):
                    unseen.append(f"{of}: {name}")

    assert unseen == []
    assert broken > 250


@pytest.mark.parametrize(
    ("sql", "why"),
    [
        ("a < b - c", "parenthesis"),
        ("a BETWEEN b AND c", "BETWEEN"),
        ("a IS NOT DISTINCT FROM b", "DISTINCT"),
        ("CASE a WHEN b THEN c END", "CASE"),
        ("a IN (SELECT b FROM c)", "list of constants"),
        ("a LIKE 'b'", "LIKE"),
        ("- $1", "before a value"),
        ("a JOIN b USING (c)", "USING"),
        ("a = b; c", "sign"),
    ],
)
def test_statement_that_cannot_be_made_safe_is_refused(sql: str, why: str) -> None:
    """What would change its meaning, or has no place for a schema, is to be written otherwise."""
    with pytest.raises(UnsafeNameError, match=why):
        qualify(sql)


def test_what_is_no_name_is_left_as_it_is() -> None:
    """Assignments, columns, grammar, comments and constants stay; IN is what it stands for."""
    given = (
        "UPDATE t SET a = b + 1, c = count(*), d = -1 /*x = y*/ WHERE t.e NOT IN ('f', '=') "
        "AND coalesce(g, h)::text = 'i(' RETURNING t.* -- j = k"
    )
    made = qualify(given)

    assert made == (
        "UPDATE t SET a = b OPERATOR(pg_catalog.+) 1, c = pg_catalog.count(*), d = -1 /*x = y*/ "
        "WHERE t.e OPERATOR(pg_catalog.<>) ALL (ARRAY['f', '=']) AND "
        "coalesce(g, h)::pg_catalog.text OPERATOR(pg_catalog.=) 'i(' RETURNING t.* -- j = k"
    )


async def find_open_functions(conn: Session, schema: str) -> list[str]:
    """Our functions whose names the caller's path could lead elsewhere, and what leads outside."""
    rows = await conn.fetch(
        "SELECT p.proname FROM pg_proc p WHERE p.pronamespace = $1::text::regnamespace"
        "   AND p.prosqlbody IS NULL"  # else it was parsed when it was made
        "   AND (p.proconfig @> ARRAY['search_path=' || $1::text || ', pg_temp']) IS NOT TRUE",
        schema,
    )
    return [row[0] for row in rows] + await find_dependencies(conn, schema, "true")


async def test_no_function_leads_outside(postgres_url: str) -> None:
    """Each function keeps its path, or was parsed under it, whatever the session's path was."""
    schema = schema_of(postgres_url)
    async with (
        hostile_pools(postgres_url) as make,
        PostgresStore(pool=await make(), schema=schema),
        session(postgres_url) as raw,
    ):
        found = await find_open_functions(raw, schema)
        await raw.execute("CREATE FUNCTION open() RETURNS void LANGUAGE plpgsql AS 'BEGIN END'")
        broken = await find_open_functions(raw, schema)

    assert found == []
    assert broken == ["open"]


async def test_store_works_where_every_name_leads_elsewhere_first(postgres_url: str) -> None:
    """On a pool whose sessions meet what is planted before the catalog, nothing of it is met.

    The conformance suite runs on such a pool, too: see ``TestCallersPool``.
    """
    schema = schema_of(postgres_url)
    async with hostile_pools(postgres_url) as make:
        pool = await make()
        async with PostgresStore(pool=pool, schema=schema) as store:
            task_id = await run_task(store, 2)
            await store.request_cancel(task_id, CancelReason.USER)
            async with pool.acquire() as conn, conn.transaction():
                new = NewTask(new_task_id(), "x", idempotency_key="k")
                made, _ = await store.create_within(conn, new)
                again, _ = await store.create_within(conn, replace(new, task_id=new_task_id()))
            listed = await store.list(op="x")
            report = await store.maintenance.audit()
        with pytest.raises(asyncpg.InsufficientPrivilegeError, match="for function format"):
            await pool.fetch("SELECT format('%s/%s', 'a'::pg_catalog.text, 1)")

    assert again.task_id == made.task_id
    assert {task.task_id for task in listed.tasks} == {task_id, made.task_id}
    assert report.violations == ()

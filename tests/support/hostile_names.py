"""All that a statement of ours could name, planted a second time where a session looks first."""

from __future__ import annotations

import re
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterable, Iterator
from contextlib import AsyncExitStack, asynccontextmanager
from importlib.resources import files
from importlib.resources.abc import Traversable
from typing import TYPE_CHECKING, Final, TypeAlias
from uuid import uuid4

import asyncpg

from tapescope_adapters.postgres._schema import list_made
from tests.support.postgres_sessions import session

if TYPE_CHECKING:
    from tests.support.postgres_sessions import Session

    Pool: TypeAlias = asyncpg.Pool[asyncpg.Record]

__all__ = ["hostile_pools", "planted"]

_FUNCTIONS: Final = """
SELECT format('CREATE FUNCTION %I(%s) RETURNS %s LANGUAGE internal %s AS %L', proname,
              pg_get_function_identity_arguments(p.oid), pg_get_function_result(p.oid),
              CASE prokind WHEN 'w' THEN 'WINDOW' ELSE '' END,
              CASE prokind WHEN 'a' THEN 'int4pl' ELSE prosrc END)
  FROM pg_proc p JOIN pg_language l ON l.oid = prolang AND lanname = 'internal'
 WHERE pronamespace = 'pg_catalog'::regnamespace AND proname = ANY ($1)
"""
"""The very functions of the catalog, aggregates too, for nobody to call."""
_OPERATORS: Final = """
SELECT format('CREATE OPERATOR %s (FUNCTION = %s, RIGHTARG = %s%s)', oprname, oprcode,
              oprright::regtype,
              CASE oprleft WHEN 0 THEN '' ELSE ', LEFTARG = ' || oprleft::regtype END)
  FROM pg_operator WHERE oprnamespace = 'pg_catalog'::regnamespace AND oprname = ANY ($1)
"""
_TYPES: Final = ("text", "uuid", "json", "jsonb", "name", "regrole", "int8")
_BETTER: Final = """
CREATE FUNCTION format(text, oid, oid, numeric) RETURNS text LANGUAGE internal AS 'text_format';
CREATE FUNCTION format(text, uuid) RETURNS text LANGUAGE internal AS 'text_format';
CREATE TYPE lure AS (x int4);
CREATE FUNCTION to_lure(text) RETURNS lure LANGUAGE sql AS 'SELECT NULL::lure';
CREATE CAST (text AS lure) WITH FUNCTION to_lure AS IMPLICIT;
"""
"""What any role can make: a better match than a VARIADIC one, a type with a cast to itself."""


_SIGNS: Final = ("= <> < > <= >= + -", "* / % || -> ->> #>> @? && ~~ ~")


@asynccontextmanager
async def planted(url: str) -> AsyncGenerator[str]:
    """A schema with all that our SQL names, beside that of this store; gives the schema's name.

    Nobody may use what is in it but a superuser: a statement of another role that meets it fails.
    """
    name = f"hostile_{uuid4().hex[:8]}"
    texts = "".join(text for text in _read_sql(files("tapescope_adapters.postgres") / "sql"))
    written_here = ("set_config", "current_setting", "replace", "pg_notification_queue_usage")
    called = [*re.findall(r"(\w+)\(", texts), *written_here]
    catalogs = set(re.findall(r"\b(?:FROM|JOIN) (pg_\w+)(?![\w(])", texts))
    async with session(url) as raw:
        made = [row[0] for row in await raw.fetch(_FUNCTIONS, called)]
        made += [row[0] for row in await raw.fetch(_OPERATORS, " ".join(_SIGNS).split())]
        made += _make_tables(catalogs | list_made().keys())
        made += [_BETTER, *_make_types(name)]
        await raw.execute(f"CREATE SCHEMA {name}; GRANT USAGE ON SCHEMA {name} TO PUBLIC")
        await raw.execute(f"SET search_path = {name}")
        await raw.execute(";".join(made))
        await raw.execute(f"REVOKE EXECUTE ON ALL FUNCTIONS IN SCHEMA {name} FROM PUBLIC")
        try:
            yield name
        finally:
            await raw.execute(f"DROP SCHEMA {name} CASCADE")


@asynccontextmanager
async def hostile_pools(url: str) -> AsyncGenerator[Callable[[], Awaitable[Pool]]]:
    """Makes pools of a caller's, whose sessions find what is planted before all else.

    Their role may make a schema, and has no right on what is planted. The same names stand in the
    ``pg_temp`` of each session. A pool connects when a connection is first asked for.
    """
    role = f"r_{uuid4().hex[:8]}"
    dsn = url.partition("&schema=")[0].replace("postgres@", f"{role}@")
    async with planted(url) as name, AsyncExitStack() as stack:
        async with session(url) as raw:
            await raw.execute(
                f"CREATE ROLE {role} LOGIN; GRANT CREATE ON DATABASE postgres TO {role}"
            )

        async def make() -> Pool:
            return await stack.enter_async_context(
                asyncpg.create_pool(
                    dsn,
                    min_size=0,
                    max_size=5,
                    statement_cache_size=0,
                    init=_plant_in_session,
                    server_settings={"search_path": f"pg_temp, {name}, pg_catalog"},
                )
            )

        yield make


async def _plant_in_session(conn: Session) -> None:
    """Tables and types of the session's own."""
    await conn.execute(";".join([*_make_tables(list_made(), "pg_temp."), *_make_types("pg_temp")]))


def _make_tables(names: Iterable[str], schema: str = "") -> list[str]:
    return [f"CREATE TABLE {schema}{name} (nothing pg_catalog.int4)" for name in names]


def _make_types(schema: str) -> list[str]:
    """Types that take no value."""
    return [f"CREATE DOMAIN {schema}.{t} AS pg_catalog.{t} CHECK (false)" for t in _TYPES]


def _read_sql(folder: Traversable) -> Iterator[str]:
    for entry in folder.iterdir():
        if entry.is_dir():
            yield from _read_sql(entry)
        elif entry.name.endswith(".sql"):
            yield entry.read_text(encoding="utf-8")

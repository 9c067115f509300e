"""PostgreSQL schemas that have a store in them, handed on from test to test.

The migrations are the most of what a small test on PostgreSQL costs. So a schema is made empty when
its test is over, and the next test gets it: as the migrations made it, or not at all.
"""

from __future__ import annotations

from collections.abc import Generator, Iterable, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Final, NamedTuple, TypeAlias
from uuid import uuid4

import psycopg
from psycopg import sql

from tapescope_adapters.postgres import PostgresStore
from tests.support.made_files import make_store
from tests.support.postgres_sessions import schema_of
from tests.support.services import Postgres

if TYPE_CHECKING:
    Connection: TypeAlias = psycopg.Connection[tuple[Any, ...]]

__all__ = ["MadeSchemas", "read_fingerprint"]

_LOOKS: Final = 20
_OTHERS: Final = """
SELECT count(*), CASE WHEN count(*) > 0 THEN pg_sleep(0.01) END
FROM pg_stat_activity WHERE backend_type = 'client backend' AND pid <> pg_backend_pid()
"""
"""The sessions beside this one. One that its client has left is there for a moment more."""

_SETTINGS: Final = """
SET LOCAL session_replication_role = replica;
SET LOCAL lock_timeout = '1s';
"""
"""No guard fires, and who holds a lock is waited for no longer."""

_USED: Final = """
SELECT c.relname, pg_relation_size(c.oid) / 8192, ARRAY(
    SELECT s.relname FROM pg_depend d JOIN pg_class s ON s.oid = d.objid
    WHERE d.classid = 'pg_class'::regclass AND d.refclassid = 'pg_class'::regclass
    AND d.refobjid = c.oid
    AND CASE s.relkind WHEN 'S' THEN pg_sequence_last_value(s.oid) END IS NOT NULL)
FROM pg_class c WHERE c.relnamespace = %(schema)s::regnamespace AND c.relkind = 'r'
"""
"""The tables, the pages that their rows have, and those of their sequences that have begun."""
_FEW: Final = 8
"""Pages. A planner takes an empty table of as many for one that was never used (for 10 pages); and
to delete so little costs a tenth of a truncate, which makes a new file for each index."""

_FILL: Final = "INSERT INTO {table} SELECT * FROM json_populate_recordset(NULL::{table}, %s)"

_FINGERPRINT: Final = """
WITH ours AS MATERIALIZED (
    SELECT oid, xmin FROM pg_namespace WHERE nspname = %(schema)s
), relations AS MATERIALIZED (
    SELECT c.* FROM pg_class c WHERE c.relnamespace = (SELECT oid FROM ours)
), functions AS MATERIALIZED (
    SELECT p.oid, p.xmin FROM pg_proc p WHERE p.pronamespace = (SELECT oid FROM ours)
), parts (catalog, part) AS (
    SELECT 'pg_namespace', ROW(oid, xmin)::text FROM ours
    UNION ALL SELECT 'pg_class', ROW(
        oid, relname, relkind, relowner, relacl, reloptions, relpersistence, reltablespace, relam,
        relnatts, relchecks, relhasrules, relhastriggers, relrowsecurity, relforcerowsecurity,
        relreplident, relispartition, CASE relkind WHEN 'r' THEN (relpages, reltuples) END
        )::text FROM relations
    UNION ALL SELECT 'pg_proc', ROW(oid, xmin)::text FROM functions
    UNION ALL SELECT 'pg_attribute', ROW(a.attrelid, a.attnum, a.xmin)::text
        FROM pg_attribute a JOIN relations c ON a.attrelid = c.oid AND a.attnum > 0
    UNION ALL SELECT 'pg_attrdef', ROW(d.oid, d.xmin)::text
        FROM pg_attrdef d JOIN relations c ON d.adrelid = c.oid
    UNION ALL SELECT 'pg_constraint', ROW(o.oid, o.xmin)::text
        FROM pg_constraint o JOIN relations c ON o.conrelid = c.oid
    UNION ALL SELECT 'pg_index', ROW(i.indexrelid, i.xmin)::text
        FROM pg_index i JOIN relations c ON i.indexrelid = c.oid
    UNION ALL SELECT 'pg_trigger', ROW(t.oid, t.xmin)::text
        FROM pg_trigger t JOIN relations c ON t.tgrelid = c.oid
    UNION ALL SELECT 'pg_rewrite', ROW(w.oid, w.xmin)::text
        FROM pg_rewrite w JOIN relations c ON w.ev_class = c.oid
    UNION ALL SELECT 'pg_policy', ROW(p.oid, p.xmin)::text
        FROM pg_policy p JOIN relations c ON p.polrelid = c.oid
    UNION ALL SELECT 'pg_sequence', ROW(s.seqrelid, s.xmin)::text
        FROM pg_sequence s JOIN relations c ON s.seqrelid = c.oid
    UNION ALL SELECT 'pg_statistic', ROW(s.starelid, s.staattnum, s.xmin)::text
        FROM pg_statistic s JOIN relations c ON s.starelid = c.oid
    UNION ALL SELECT 'pg_type', ROW(t.oid, t.xmin)::text
        FROM pg_type t WHERE t.typnamespace = (SELECT oid FROM ours)
    UNION ALL SELECT 'pg_statistic_ext', ROW(s.oid, s.xmin)::text
        FROM pg_statistic_ext s WHERE s.stxnamespace = (SELECT oid FROM ours)
    UNION ALL SELECT 'pg_default_acl', ROW(a.oid, a.xmin)::text
        FROM pg_default_acl a WHERE a.defaclnamespace IN (0, (SELECT oid FROM ours))
    UNION ALL SELECT 'pg_event_trigger', ROW(e.oid, e.xmin)::text FROM pg_event_trigger e
    UNION ALL SELECT 'pg_publication', ROW(p.oid, p.xmin)::text FROM pg_publication p
    UNION ALL SELECT 'pg_depend', ROW(d.classid, d.objid, d.refobjid)::text
        FROM pg_depend d JOIN relations c
        ON d.refclassid = 'pg_class'::regclass AND d.refobjid = c.oid
    UNION ALL SELECT 'pg_depend', ROW(d.classid, d.objid, d.refobjid)::text
        FROM pg_depend d JOIN functions f
        ON d.refclassid = 'pg_proc'::regclass AND d.refobjid = f.oid
)
SELECT catalog, count(*), sum(hashtextextended(part, 0)) FROM parts GROUP BY catalog
"""
"""What a schema is made of. A row of a catalog that is changed has another ``xmin``, also where it
is changed back. A truncation writes to ``pg_class``, whose rows go by their columns; there are no
statistics in a new store, so there may be none here."""


class _Made(NamedTuple):
    """A schema, and what it is when it is made."""

    url: str
    fingerprint: Mapping[str, tuple[int, int]]
    rows: Mapping[str, str]
    """The rows that the migrations write, as JSON, by table."""


class MadeSchemas:
    """The schemas of one server, each lent to one test at a time."""

    def __init__(self, server: Postgres) -> None:
        self._server = server
        self._used: list[_Made] = []
        """Whose tests are over. What became of one is looked at when a test asks for a schema."""

    @contextmanager
    def lend(self) -> Generator[str]:
        """The URL of a store that is made, and that nobody has used."""
        made = self._recycle() or self._make()
        yield made.url
        self._used.append(made)

    def _make(self) -> _Made:
        url = self._server.url()
        make_store(PostgresStore(url))
        schema = schema_of(url)
        with psycopg.connect(self._server.dsn) as conn:
            written = [table for table, pages, _ in _read_tables(conn, schema) if pages]
            return _Made(url, read_fingerprint(conn, schema), _read_rows(conn, schema, written))

    def _recycle(self) -> _Made | None:
        """One of the used, as it was made. What is not, or cannot be looked at, is left."""
        while self._used:
            made = self._used.pop()
            try:
                if self._empty(made):
                    return made
            except psycopg.Error:  # a lock is held; its test has stopped the server, or ended it
                continue
        return None

    def _empty(self, made: _Made) -> bool:
        """Take out what its test has written; whether the schema is then as it was made."""
        schema = schema_of(made.url)
        with psycopg.connect(self._server.dsn, autocommit=True) as conn:
            if not _is_alone(conn):
                return False
            with conn.transaction():
                conn.execute(_SETTINGS)
                _delete_rows(conn, schema, made.rows)
                return read_fingerprint(conn, schema) == made.fingerprint


def _is_alone(conn: Connection) -> bool:
    for _ in range(_LOOKS):
        row = conn.execute(_OTHERS).fetchone()
        assert row is not None
        if row[0] == 0:
            return True
    return False


def _delete_rows(conn: Connection, schema: str, first: Mapping[str, str]) -> None:
    """All rows but the first ones; the store gets an id of its own, as each store has."""
    now = _read_rows(conn, schema, first)
    changed = {table: rows for table, rows in first.items() if now[table] != rows}
    deletes: list[sql.Composable] = []
    for table, pages, sequences in _read_tables(conn, schema):
        name = sql.Identifier(schema, table)
        if table in first.keys() - changed.keys():
            continue
        if pages > _FEW:
            deletes.append(sql.SQL("TRUNCATE {} CASCADE").format(name))
        elif pages:
            deletes.append(sql.SQL("DELETE FROM {}").format(name))
        deletes += (
            sql.SQL("SELECT setval({}, 1, false)").format(sql.Literal(f'"{schema}"."{sequence}"'))
            for sequence in sequences
        )
    conn.execute(sql.SQL("; ").join(deletes))
    for table, rows in changed.items():
        conn.execute(sql.SQL(_FILL).format(table=sql.Identifier(schema, table)), [rows])
    own = sql.SQL("UPDATE {} SET store_id = %s").format(sql.Identifier(schema, "maintenance"))
    conn.execute(own, [uuid4().hex[:16]])


def _read_tables(conn: Connection, schema: str) -> list[tuple[str, int, list[str]]]:
    return [
        (table, pages, sequences)
        for table, pages, sequences in conn.execute(_USED, {"schema": schema})
    ]


def _read_rows(conn: Connection, schema: str, tables: Iterable[str]) -> dict[str, str]:
    """All rows of these tables, as JSON."""
    texts = [
        sql.SQL(
            "SELECT {}, (SELECT coalesce(json_agg(r ORDER BY r::text), '[]')::text FROM {} r)"
        ).format(table, sql.Identifier(schema, table))
        for table in tables
    ]
    return dict(conn.execute(sql.SQL(" UNION ALL ").join(texts)).fetchall())


def read_fingerprint(conn: Connection, schema: str) -> dict[str, tuple[int, int]]:
    """What the schema is made of: by catalog, the number of its rows and a sum over them."""
    found = conn.execute(_FINGERPRINT, {"schema": schema})
    return {catalog: (count, int(total)) for catalog, count, total in found}

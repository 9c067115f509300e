"""Counts the work of a store's statements as they are carried out.

On SQLite it is told in steps of its virtual machine, on PostgreSQL in blocks of tables and indexes
that were looked at, in functions and triggers as well. Neither depends on the machine.
"""

from __future__ import annotations

import re
import sqlite3
from collections import Counter
from collections.abc import AsyncGenerator, Generator, Mapping, Sequence
from contextlib import asynccontextmanager, contextmanager
from functools import partial
from typing import TYPE_CHECKING, Any, Final, cast

import asyncpg
import pytest

from tapescope_adapters.sqlite._connection import connect

if TYPE_CHECKING:
    AnyConnection = asyncpg.Connection[asyncpg.Record]
else:
    AnyConnection = asyncpg.Connection

__all__ = ["Work", "count_blocks", "count_steps", "watch_steps"]

_OPEN: Final = re.compile(r"/\*\w+\*/|\?|:\w+|\$\d+")
"""What stands for something else in the text of a query."""
_CUSTOM_PLANS: Final = 5
"""How often a prepared statement is planned for its arguments, before one plan may do for all."""
_STEPS: Final = 10
"""SQLite is asked after so many, for to be asked costs more than a step."""
_BETWEEN: Final = "what a verb needs before it"
_AT_LOOKS: Final = ("read_ends", "read_arrivals", "read_news")
"""Carried out beside any verb, by who follows a SQLite file."""


class Work:
    """What each statement cost in each verb."""

    def __init__(self, queries: Mapping[str, str]) -> None:
        self._patterns = [
            (sum(map(len, parts)), name, re.compile(".*".join(map(re.escape, parts)), re.DOTALL))
            for name, text in queries.items()
            for parts in [_OPEN.split(text)]
        ]
        self._names: dict[str, str | None] = {}
        self._verb = _BETWEEN
        self.counted: Counter[tuple[str, str]] = Counter()
        """By verb and statement."""
        self.counting: set[str] = set()
        """Statements that count all rows of a table, which SQLite does in a single step."""
        self._texts: dict[str, str] = {}

    @contextmanager
    def verb(self, name: str) -> Generator[None]:
        """What is carried out in here is of this verb."""
        self._verb = name
        yield
        self._verb = _BETWEEN

    def name(self, text: str) -> str | None:
        """The name of the query that this is; ``None``: of none that has one."""
        if text not in self._names:
            fits = [fit[:2] for fit in self._patterns if fit[2].fullmatch(text)]
            self._names[text] = max(fits)[1] if fits else None
        return self._names[text]

    def add(self, name: str, text: str, work: int) -> tuple[str, str]:
        """Count a statement; gives its place in ``counted``."""
        self._texts.setdefault(name, text)
        place = "watch" if name in _AT_LOOKS else self._verb, name
        self.counted[place] += work
        return place

    def find_counting(self, conn: sqlite3.Connection) -> None:
        """Find the statements whose one step ``Count`` hides what they read."""
        for name, text in self._texts.items():
            steps = {step[1] for step in conn.execute(f"EXPLAIN {text}")}
            if "Count" in steps:
                self.counting.add(name)


# --- SQLite ---------------------------------------------------------------------------------------


def watch_steps(conn: sqlite3.Connection, work: Work) -> None:
    """Count what is carried out on this connection."""
    place, counted = ("", ""), work.counted

    def begin(text: str) -> None:
        nonlocal place
        name = work.name(text)
        place = ("", "") if name is None else work.add(name, text, 0)

    def step() -> None:
        counted[place] += _STEPS

    conn.set_trace_callback(begin)
    conn.set_progress_handler(step, _STEPS)


@asynccontextmanager
async def count_steps(work: Work) -> AsyncGenerator[None]:
    """Count what every SQLite store that is opened in here carries out."""

    async def connect_watched(path: str, query: str) -> Any:
        connection = await connect(path, query)
        await connection.run(partial(watch_steps, work=work))
        return connection

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr("tapescope_adapters.sqlite._backend.connect", connect_watched)
        yield


# --- PostgreSQL -----------------------------------------------------------------------------------


class _Prepared:
    """A prepared statement that is counted like any other call."""

    def __init__(self, conn: AnyConnection, text: str) -> None:
        self._conn, self._text = conn, text

    async def fetchrow(self, *arguments: Any, **settings: Any) -> Any:
        return await self._conn.fetchrow(self._text, *arguments, **settings)


@contextmanager
def count_blocks(work: Work, schema: str) -> Generator[None]:
    """Count what every PostgreSQL store that is opened in here carries out.

    A statement is carried out twice: first to be counted, and taken back; then for its caller. It
    is counted when it has been planned so often that one plan may do for all arguments.
    """
    blocks = (
        "SELECT sum(pg_stat_get_xact_blocks_fetched(c.oid))::bigint FROM pg_class c "
        f"WHERE c.relnamespace = '{schema}'::regnamespace AND c.relkind IN ('r', 'i')"
    )

    class Counted(AnyConnection):
        def __init__(self, *args: Any, **settings: Any) -> None:
            super().__init__(*args, **settings)
            self._prepared: dict[str, str] = {}

        async def fetch(self, query: str, *args: Any, **settings: Any) -> Any:
            await self._count(query, args)
            return await super().fetch(query, *args, **settings)

        async def fetchrow(self, query: str, *args: Any, **settings: Any) -> Any:
            await self._count(query, args)
            return await super().fetchrow(query, *args, **settings)

        async def fetchval(self, query: str, *args: Any, **settings: Any) -> Any:
            await self._count(query, args)
            return await super().fetchval(query, *args, **settings)

        async def execute(self, query: str, *args: Any, **settings: Any) -> Any:
            await self._count(query, args)
            return await super().execute(query, *args, **settings)

        async def prepare(self, query: str, **_: Any) -> Any:
            return _Prepared(self, query)

        async def _count(self, text: str, arguments: Sequence[Any]) -> None:
            name = work.name(text)
            if name is None:
                return
            given = f"({', '.join(map(_literal, arguments))})" if arguments else ""
            taken_back = self.transaction()
            await taken_back.start()
            try:
                if text not in self._prepared:
                    prepared = self._prepared[text] = f"counted_{len(self._prepared)}"
                    await super().execute(f"PREPARE {prepared} AS {text}")
                    for _ in range(_CUSTOM_PLANS):
                        await super().execute(f"EXPLAIN EXECUTE {prepared}{given}")
                before: int = await super().fetchval(blocks)
                await super().execute(f"EXECUTE {self._prepared[text]}{given}")
                after: int = await super().fetchval(blocks)
            finally:
                await taken_back.rollback()
            work.add(name, text, after - before)

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(asyncpg, "connect", partial(asyncpg.connect, connection_class=Counted))
        yield


def _literal(value: object) -> str:
    if value is None:
        return "NULL"
    is_array = isinstance(value, list | tuple)
    text = _array(cast("Sequence[object]", value)) if is_array else str(value)
    return "'" + text.replace("'", "''") + "'"


def _array(values: Sequence[object]) -> str:
    parts = (
        "NULL" if one is None else '"' + str(one).replace("\\", "\\\\").replace('"', '\\"') + '"'
        for one in values
    )
    return "{" + ",".join(parts) + "}"

"""What a database holds of messages by itself, whoever writes to it."""

from __future__ import annotations

import sqlite3
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager, closing
from typing import Any, Final

import asyncpg

from tapescope import find_store
from tapescope.model.tasks import FinalEvent
from tapescope.testing.tasks import start
from tests.support.postgres_sessions import session

Ask = Callable[[str], Awaitable[Any]]

ADD: Final = "INSERT INTO messages (task, n, key, body, sent_at) VALUES "
ATTACKS: Final = {
    "a number twice": f"{ADD}({{key}}, 1, 'other', '1', 1)",
    "a key twice": f"{ADD}({{key}}, 2, 'k', '1', 1)",
    "no JSON": f"{ADD}({{key}}, 2, 'other', 'no json', 1)",
    "a time of no year": f"{ADD}({{key}}, 2, 'other', '1', {2**62})",
    "for a task that has ended": f"{ADD}({{ended}}, 1, 'k', '1', 1)",
    "for no task": f"{ADD}(4711, 1, 'k', '1', 1)",
    "other words": "UPDATE messages SET body = '2'",
    "taken by nobody's message": "INSERT INTO events (task, seq, attempt, offer, type, ts, body) "
    "VALUES ({key}, 2, 1, 2, 'message_taken', 1, '{{\"n\": 2}}')",
}


@asynccontextmanager
async def asking(url: str) -> AsyncGenerator[Ask]:
    """A raw session: gives what a statement's first column has."""
    if url.startswith("postgresql"):
        async with session(url) as raw:
            yield raw.fetchval
        return
    with closing(sqlite3.connect(url.removeprefix("sqlite:///"), isolation_level=None)) as conn:

        async def ask(statement: str) -> Any:
            row = conn.execute(statement).fetchone()
            return None if row is None else row[0]

        yield ask


async def test_no_session_makes_of_a_message_what_it_is_not(store_url: str) -> None:
    """Each attack is refused, and the inbox is as it was."""
    async with find_store(store_url) as store, asking(store_url) as ask:
        running, ended = await start(store), await start(store)
        await store.messages.send(running.task_id, "said", key="k")
        await store.finish_if_running(ended, FinalEvent.succeeded())
        keys = {
            "key": (await store.get(running.task_id)).key,
            "ended": (await store.get(ended.task_id)).key,
        }
        attacks = ATTACKS | (
            {"all at once": "TRUNCATE messages"} if "postgres" in store_url else {}
        )
        done: list[str] = []
        for name, statement in attacks.items():
            try:
                await ask(statement.format(**keys))
            except (sqlite3.Error, asyncpg.PostgresError):
                continue
            done.append(name)
        (left,) = (await store.messages.read(running.task_id)).messages

    assert done == []
    assert (left.n, left.body, left.key, left.taken_seq) == (1, "said", "k", None)


async def test_a_deleted_task_leaves_no_message(store_url: str) -> None:
    """The database deletes them with the task, whoever does that."""
    async with find_store(store_url) as store, asking(store_url) as ask:
        attempt = await start(store)
        await store.messages.send(attempt.task_id, 1)
        await store.finish_if_running(attempt, FinalEvent.succeeded())
        before = await ask("SELECT count(*) FROM messages")
        await store.maintenance.prune(older_than=0)
        after = await ask("SELECT count(*) FROM messages")

    assert (before, after) == (1, 0)

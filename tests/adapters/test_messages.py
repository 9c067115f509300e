"""What a database holds of messages by itself, whoever writes to it."""

from __future__ import annotations

import sqlite3
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager, closing
from typing import Any, Final

import asyncpg
import pytest

from tapescope import TaskEnded, find_store
from tapescope.model.messages import MessageTaken
from tapescope.model.tasks import FinalEvent, NewTask
from tapescope.store.validation import new_task_id
from tapescope.testing.tasks import LEASE, OWNER, start
from tests.support.breaches import run_round
from tests.support.captured_telemetry import CapturedTelemetry
from tests.support.postgres_sessions import session

Ask = Callable[[str], Awaitable[Any]]

ADD: Final = "INSERT INTO messages (task, n, key, body, sent_at) VALUES "
REPLACE: Final = ADD.replace("INTO", "OR REPLACE INTO")
ATTACKS: Final = {
    "a number twice": f"{ADD}({{key}}, 1, 'other', '1', 1)",
    "a key twice": f"{ADD}({{key}}, 2, 'k', '1', 1)",
    "no JSON": f"{ADD}({{key}}, 2, 'other', 'no json', 1)",
    "a time of no year": f"{ADD}({{key}}, 2, 'other', '1', {2**62})",
    "for a task that has ended": f"{ADD}({{ended}}, 1, 'k', '1', 1)",
    "for no task": f"{ADD}(4711, 1, 'k', '1', 1)",
    "other words": "UPDATE messages SET body = '2'",
    "taken by no event": "UPDATE messages SET taken_seq = 1",
    "born as taken": "INSERT INTO messages (task, n, key, body, sent_at, taken_seq) "
    "VALUES ({key}, 2, 'other', '1', 1, 1)",
    "deleted beside its task": "DELETE FROM messages",
    "taken by nobody's message": "INSERT INTO events (task, seq, attempt, offer, type, ts, body) "
    "VALUES ({key}, 2, 1, 2, 'message_taken', 1, '{{\"n\": 2}}')",
}


IN_SQLITE: Final = {
    "another one of its number": f"{REPLACE}({{key}}, 1, 'other', '1', 1)",
    "another one of its key": f"{REPLACE}({{key}}, 2, 'k', '1', 1)",
    "taken by no event, whatever comes": "UPDATE OR REPLACE messages SET taken_seq = 1",
}
IN_POSTGRES: Final = {"all at once": "TRUNCATE messages"}


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
        attacks = ATTACKS | (IN_POSTGRES if "postgres" in store_url else IN_SQLITE)
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


async def test_what_is_taken_stays_so(store_url: str) -> None:
    """No session moves the mark of a message, or takes it away: an event is never taken back."""
    async with find_store(store_url) as store, asking(store_url) as ask:
        attempt = await start(store)
        await store.messages.send(attempt.task_id, "said", key="k")
        (message,) = (await store.messages.read(attempt.task_id)).messages
        taken = await store.append(attempt, [MessageTaken(message, "said")])
        done: list[str] = []
        for mark in ("NULL", "1", str(taken.last_seq)):
            try:
                await ask(f"UPDATE messages SET taken_seq = {mark}")
            except (sqlite3.Error, asyncpg.PostgresError):
                continue
            done.append(mark)
        (left,) = (await store.messages.read(attempt.task_id)).messages

    assert done == []
    assert left.taken_seq == taken.last_seq


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


async def test_what_a_claim_ends_leaves_its_messages_counted(store_url: str) -> None:
    """A task that cannot be claimed ends in no flush: it has not taken its messages, too."""
    with closing(CapturedTelemetry()) as captured:
        async with find_store(store_url, telemetry=captured.telemetry) as store:
            new, _ = await store.create(NewTask(new_task_id(), "work"))
            for n in range(2):
                await store.messages.send(new.task_id, n)
            last = 2**31 - 1 if "postgres" in store_url else 2**63 - 1
            await run_round(store_url, f"UPDATE tasks SET attempt = {last} WHERE id = {new.key}")
            claims = await store.claim_due(OWNER, ["work"], 1, LEASE)
            with pytest.raises(TaskEnded):
                await store.messages.send(new.task_id, "late")
        counts = {
            str(point.labels["tapescope.message.result"]): point.value
            for point in captured.points("tapescope.message.count")
        }

    assert claims == []
    assert counts == {"sent": 2, "untaken": 2, "ended": 1}

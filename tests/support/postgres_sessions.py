"""Beside a PostgreSQL store: a session of another client, and runs that write to it."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias
from urllib.parse import parse_qs, urlsplit
from uuid import uuid4

import asyncpg
from opentelemetry.metrics import NoOpMeterProvider

from tapescope.model.tape import NewEvent
from tapescope.model.tasks import Claim, FinalEvent, NewTask
from tapescope.store.port import TaskStore
from tapescope.store.validation import new_task_id
from tapescope.testing import History, Recording, until
from tapescope_adapters.postgres import PostgresStore
from tapescope_telemetry import Telemetry
from tests.support.services import Postgres

if TYPE_CHECKING:
    Session: TypeAlias = asyncpg.Connection[asyncpg.Record]

__all__ = ["RecordedPostgres", "make_role", "run_task", "schema_of", "session", "start_task"]


class RecordedPostgres(Recording, PostgresStore):
    """A PostgreSQL store whose calls are noted, with a ledger that no other store writes to."""

    def __init__(self, url: str, history: History, **settings: Any) -> None:
        telemetry = Telemetry(meter_provider=NoOpMeterProvider())
        super().__init__(url, history=history, telemetry=telemetry, **settings)


def schema_of(url: str) -> str:
    """The schema of a store URL."""
    return parse_qs(urlsplit(url).query)["schema"][0]


@asynccontextmanager
async def session(url: str) -> AsyncGenerator[Session]:
    """A connection to a store's database, in its schema, with nothing of tapescope in it."""
    dsn, _, schema = url.partition("&schema=")
    conn = await asyncpg.connect(dsn, server_settings={"search_path": schema})
    try:
        yield conn
    finally:
        conn.terminate()  # a test may have killed the server's side


async def make_role(server: Postgres, password: str) -> str:
    """A role that the server asks for this password; gives its name."""
    role = f"r_{uuid4().hex[:8]}"
    async with session(server.url()) as raw:
        await raw.execute(f"CREATE ROLE {role} LOGIN PASSWORD '{password}'")
        rules = Path(await raw.fetchval("SHOW hba_file"))
        _prepend(rules, f"local all {role} scram-sha-256\n")
        await raw.execute("SELECT pg_reload_conf()")

    async def asked_for() -> bool:
        try:
            async with session(server.url().replace("postgres@", f"{role}@")):
                return False
        except asyncpg.InvalidPasswordError:
            return True

    await until(asked_for)
    return role


def _prepend(file: Path, line: str) -> None:
    file.write_text(line + file.read_text())


async def start_task(store: TaskStore, owner: str = "me") -> Claim:
    """A task that runs: its tape has one event."""
    task, _ = await store.create(NewTask(new_task_id(), "x"))
    claim = await store.claim_if_pending(task, owner, 60)
    assert claim is not None
    return claim


async def run_task(store: TaskStore, events: int) -> str:
    """A whole run with so many reports; gives the task's id."""
    claim = await start_task(store)
    for n in range(events):
        appended = await store.append(claim.attempt, [NewEvent("log", n)])
        assert appended.stored == range(n + 2, n + 3)
    finished = await store.finish_if_running(claim.attempt, FinalEvent.succeeded())
    assert finished.won
    return claim.task.task_id

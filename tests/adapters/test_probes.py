"""The store tells the truth about itself: no manager is ready where a submit would fail."""

from __future__ import annotations

import asyncio
import os
import re
import sqlite3
from collections.abc import AsyncGenerator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager, closing
from pathlib import Path
from uuid import uuid4

import pytest

from tapescope import Reporter, TaskManager
from tapescope.errors import (
    BadStoreUrl,
    EventFateUnknown,
    StoreConfigError,
    StoreUnavailable,
)
from tapescope.manager.readiness import Check
from tapescope.model.tape import NewEvent
from tapescope.model.tasks import NewTask
from tapescope.store.lookup import find_store
from tapescope.store.validation import new_task_id
from tapescope.testing import until
from tapescope_adapters.postgres import _schema
from tapescope_adapters.sqlite import SqliteStore, _connection
from tests.support.postgres_sessions import schema_of, session
from tests.support.services import Postgres

Fault = Callable[[str], AbstractAsyncContextManager[None]]


def path_of(url: str) -> Path:
    """The file of a SQLite URL."""
    return Path(url.removeprefix("sqlite:///"))


@asynccontextmanager
async def deleted(url: str) -> AsyncGenerator[None]:
    """The file and what is beside it are deleted, as by a clean-up job."""
    kept = {
        path: path.with_name(f"kept-{path.name}") for path in path_of(url).parent.glob("tasks*")
    }
    for path, link in kept.items():
        os.link(path, link)
        path.unlink()
    yield
    for path, link in kept.items():
        link.replace(path)


@asynccontextmanager
async def replaced(url: str) -> AsyncGenerator[None]:
    """Another store stands in the file's place, as after a restore."""
    path = path_of(url)
    kept = path.with_name("kept.db")
    path.rename(kept)
    path.touch()
    yield
    kept.replace(path)


@asynccontextmanager
async def log_deleted(url: str) -> AsyncGenerator[None]:
    """The write-ahead log is deleted: what is written there is lost."""
    log = path_of(url).with_name("tasks.db-wal")
    kept = log.with_name("kept-wal")
    log.rename(kept)
    yield
    kept.rename(log)


@asynccontextmanager
async def held(url: str) -> AsyncGenerator[None]:
    """Another program writes for longer than the patience."""
    with closing(sqlite3.connect(path_of(url), isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        yield


@asynccontextmanager
async def without_table(url: str) -> AsyncGenerator[None]:
    """A table is gone which no heartbeat uses."""
    with closing(sqlite3.connect(path_of(url), isolation_level=None)) as other:
        other.execute("ALTER TABLE drop_counts RENAME TO elsewhere")
        yield
        other.execute("ALTER TABLE elsewhere RENAME TO drop_counts")


@asynccontextmanager
async def without_trigger(url: str) -> AsyncGenerator[None]:
    """A guard is gone."""
    with closing(sqlite3.connect(path_of(url), isolation_level=None)) as other:
        query = "SELECT name, sql FROM sqlite_schema WHERE type = 'trigger' LIMIT 1"
        name, text = other.execute(query).fetchone()
        other.execute(f"DROP TRIGGER {name}")
        yield
        other.execute(text)


@asynccontextmanager
async def without_function(url: str) -> AsyncGenerator[None]:
    """The function that every write calls is gone."""
    async with session(url) as raw:
        await raw.execute("ALTER FUNCTION flush RENAME TO elsewhere")
        yield
        await raw.execute("ALTER FUNCTION elsewhere RENAME TO flush")


@asynccontextmanager
async def without_quarantine(url: str) -> AsyncGenerator[None]:
    """A table is gone which no heartbeat uses."""
    async with session(url) as raw:
        await raw.execute("ALTER TABLE drop_counts RENAME TO elsewhere")
        yield
        await raw.execute("ALTER TABLE elsewhere RENAME TO drop_counts")


@asynccontextmanager
async def renamed(url: str) -> AsyncGenerator[None]:
    """The schema is renamed under the store."""
    schema = schema_of(url)
    async with session(url) as raw:
        await raw.execute(f"ALTER SCHEMA {schema} RENAME TO {schema}_old")
        yield
        await raw.execute(f"ALTER SCHEMA {schema}_old RENAME TO {schema}")


FAULTS: dict[str, list[Fault]] = {
    "sqlite": [deleted, replaced, log_deleted, held, without_table, without_trigger],
    "postgresql": [without_function, without_quarantine, renamed],
}


@pytest.mark.parametrize(
    ("store", "fault"),
    [
        # these wait as long as a deleted file does
        pytest.param(store, fault, marks=[pytest.mark.slow] * (fault in (replaced, log_deleted)))
        for store, faults in FAULTS.items()
        for fault in faults
    ],
    ids=lambda value: value if isinstance(value, str) else value.__name__,
)
async def test_the_next_heartbeat_says_so(
    store: str, fault: Fault, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One heartbeat after the fault a manager is not ready, and one after its end it is again."""
    url: str = request.getfixturevalue(
        {"sqlite": "sqlite_url", "postgresql": "postgres_url"}[store]
    )
    patience = 0.2 if fault is held else 2.0  # a busy machine is no fault
    if fault is held:
        monkeypatch.setattr(_connection, "_TURN", 0.1)
    async with (
        find_store(url, patience=patience) as opened,
        TaskManager(opened, heartbeat=3600, lease=7200) as manager,
    ):

        async def beat() -> bool:
            await manager._heartbeat.run_once()  # pyright: ignore[reportPrivateUsage]  # counted, not timed
            return next(check.ok for check in manager.check_health() if check.name == "store")

        assert await beat()
        async with fault(url):
            assert not await beat()
        assert await beat()


@asynccontextmanager
async def locked(url: str) -> AsyncGenerator[None]:
    """Another session has locked the table of tasks."""
    async with session(url) as raw, raw.transaction():
        await raw.execute("LOCK TABLE tasks IN ACCESS EXCLUSIVE MODE")
        yield


@pytest.mark.parametrize(
    ("store", "fault"),
    [("sqlite", deleted), ("sqlite", held), ("postgresql", locked)],
    ids=lambda value: value if isinstance(value, str) else value.__name__,
)
async def test_a_heartbeat_that_waits_says_so(
    store: str, fault: Fault, request: pytest.FixtureRequest
) -> None:
    """No manager is ready for as long as the store's patience, and no longer than the fault is."""
    url: str = request.getfixturevalue(
        {"sqlite": "sqlite_url", "postgresql": "postgres_url"}[store]
    )
    async with (
        find_store(url, patience=60.0) as opened,
        TaskManager(opened, heartbeat=3600, lease=7200) as manager,
    ):

        def look() -> Check:
            return next(check for check in manager.check_health() if check.name == "store")

        await until(lambda: look().ok)
        async with fault(url):
            beating = asyncio.ensure_future(manager._heartbeat.run_once())  # pyright: ignore[reportPrivateUsage]  # counted, not timed
            await until(lambda: not look().ok)
            told = look().detail
            waits = not beating.done()
        await beating

    assert waits
    assert "has not answered a heartbeat for" in told
    assert {"deleted": "deleted, moved or replaced"}.get(fault.__name__, "is busy") in told
    assert look().ok


async def work(report: Reporter) -> int:
    """The runner of these tests."""
    return 1


@pytest.mark.parametrize("fault", [deleted, replaced, log_deleted], ids=lambda f: f.__name__)
async def test_nothing_is_durable_in_a_file_that_is_gone(sqlite_url: str, fault: Fault) -> None:
    """No submit, report or claim is acknowledged there, and no empty file is made in its place."""
    async with SqliteStore(sqlite_url, patience=0.05) as store:
        task, _ = await store.create(NewTask(new_task_id(), "x"))
        claim = await store.claim_if_pending(task, "me", 60)
        assert claim is not None
        async with fault(sqlite_url):
            with pytest.raises(StoreUnavailable, match="deleted, moved or replaced"):
                await store.create(NewTask(new_task_id(), "x"))
            with pytest.raises((StoreUnavailable, EventFateUnknown)):
                await store.append(claim.attempt, [NewEvent("log", {})])
            with pytest.raises(StoreUnavailable, match="deleted, moved or replaced"):
                await store.leases.extend("me", 60)
            renewer = store.leases.make_renewer()
            assert renewer is not None
            with pytest.raises(Exception, match="deleted, moved or replaced"):
                await renewer.extend_leases("me", 60_000_000, [task.task_id])
            await renewer.aclose()
            there = path_of(sqlite_url).exists() and path_of(sqlite_url).stat().st_size > 0

        assert there is (fault is log_deleted)
        assert (await store.get(task.task_id)).status.value == "running"


async def test_a_renamed_schema_is_refused(postgres_url: str) -> None:
    """Its functions work on the old name: a store opened there would write into another one."""
    schema = schema_of(postgres_url)
    async with find_store(postgres_url):
        pass
    async with session(postgres_url) as raw:
        await raw.execute(f"ALTER SCHEMA {schema} RENAME TO {schema}_2")
    with pytest.raises(StoreConfigError, match="the schema was renamed"):
        await find_store(f"{postgres_url}_2").open()
    with pytest.raises(StoreConfigError, match="the schema was renamed"):  # migrate --check, too
        await find_store(f"{postgres_url}_2").maintenance.schema_versions()
    page = Path(__file__).parents[2] / "docs/howto/postgres.md"
    (remedy,) = re.findall(r"```sql\n(SET .*?)```", page.read_text(encoding="utf-8"), re.DOTALL)
    async with session(postgres_url) as raw:
        await raw.execute(remedy.replace("archive", f"{schema}_2"))
    async with find_store(f"{postgres_url}_2") as store:
        await store.create(NewTask(new_task_id(), "x"))


@pytest.mark.parametrize(("encoding", "taken"), [("LATIN1", False), ("SQL_ASCII", True)])
async def test_an_encoding_that_lacks_letters_is_refused(
    postgres_server: Postgres, encoding: str, taken: bool
) -> None:
    """A result with a letter that the database has not could never be stored: nothing is made."""
    name = f"d_{uuid4().hex[:8]}"
    async with session(postgres_server.url()) as raw:
        await raw.execute(
            f"CREATE DATABASE {name} ENCODING '{encoding}' LOCALE 'C' TEMPLATE template0"
        )
    url = postgres_server.url().replace("@/postgres?", f"@/{name}?")
    if taken:
        async with TaskManager(url) as manager:
            handle = await manager.submit("x", laugh)
            assert await handle.result() == "😀"
    else:
        with pytest.raises(StoreConfigError, match=encoding):
            await find_store(url).open()
        async with session(url) as raw:
            assert not await raw.fetchval(
                "SELECT count(*) FROM pg_namespace WHERE nspname = $1", schema_of(url)
            )
    async with session(postgres_server.url()) as raw:
        await raw.execute(f"DROP DATABASE {name} WITH (FORCE)")


async def laugh(report: Reporter) -> str:
    """Return what Latin-1 lacks."""
    return "😀"


@pytest.mark.parametrize("url", ["sqlite://", "sqlite:///", "sqlite://?patience=1"])
def test_no_path_opens_no_store_in_memory(url: str) -> None:
    """An empty variable in a URL would lose every task at exit; memory is asked for by name."""
    with pytest.raises(BadStoreUrl, match="sqlite:///:memory:"):
        find_store(url)


@pytest.mark.unmade
async def test_a_server_that_is_too_old_is_refused(
    postgres_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By its version, before a statement that it cannot read: nothing is made."""
    told = "is on PostgreSQL 18, and needs PostgreSQL 99 or newer"
    with monkeypatch.context() as needing:
        needing.setattr(_schema, "_OLDEST", 99)
        with pytest.raises(StoreConfigError, match=told):
            await find_store(postgres_url).open()
    async with session(postgres_url) as raw:
        made = await raw.fetchval(
            "SELECT count(*) FROM pg_namespace WHERE nspname = $1", schema_of(postgres_url)
        )
    async with find_store(postgres_url) as store:
        monkeypatch.setattr(_schema, "_OLDEST", 99)  # as after a restart of an older one
        with pytest.raises(StoreConfigError, match=told):
            await store.maintenance.schema_versions()

    assert made == 0

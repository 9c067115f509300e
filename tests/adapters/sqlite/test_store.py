"""What is SQLite's own: files, migrations, other sessions, checkpoints."""

from __future__ import annotations

import asyncio
import gc
import os
import sqlite3
import subprocess
import sys
import threading
import time
import warnings
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from aiosqlite.core import (
    _STOP_RUNNING_SENTINEL,  # pyright: ignore[reportPrivateUsage]  # what ends its threads
)

from tapescope.errors import (
    BadSetting,
    BadStoreUrl,
    EventFateUnknown,
    SchemaTooNew,
    SchemaTooOld,
    StoreClosed,
    StoreConfigError,
    StoreUnavailable,
)
from tapescope.model.tape import NewEvent
from tapescope.model.tasks import Attempt, NewTask
from tapescope.store import CreateRow, Flush, FlushRefused, OpenMode, StoreAway, StoreLimits
from tapescope.store.validation import new_task_id
from tapescope_adapters.sqlite import SqliteStore, _connection, _schema
from tapescope_adapters.sqlite._backend import Durability, SqliteBackend
from tapescope_adapters.sqlite._schema import migrate, read_versions
from tests.support.breaches import run_round


@pytest.mark.parametrize(
    ("url", "path"),
    [
        ("sqlite:///tasks.db", "tasks.db"),
        ("sqlite:////var/lib/tasks.db", "/var/lib/tasks.db"),
        ("sqlite:///my%20tasks.db", "my tasks.db"),
        ("sqlite:///:memory:", ":memory:"),
    ],
)
def test_url_names_the_file(url: str, path: str) -> None:
    """Three slashes are relative, four absolute, as everywhere in Python."""
    assert SqliteStore(url).path == path


@pytest.mark.parametrize("url", ["sqlite:tasks.db/x?y", "sqlite://tasks.db", "sqlite:///a?b=c"])
def test_url_that_cannot_be_read_is_refused(url: str) -> None:
    """A URL with a host or parameters is answered with how one looks."""
    with pytest.raises(BadStoreUrl, match=r"sqlite:///tasks\.db"):
        SqliteStore(url)


def test_unknown_durability_is_refused() -> None:
    """Only the two honest names are taken."""
    with pytest.raises(BadSetting, match="durability"):
        SqliteStore("sqlite:///x.db", durability="maybe")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]


async def test_missing_folder_is_named(tmp_path: Path) -> None:
    """The error says which folder to make."""
    store = SqliteStore(f"sqlite:///{tmp_path}/no/such/tasks.db")

    with pytest.raises(StoreConfigError, match="no/such"):
        await store.open()


async def test_folder_as_file_is_refused(tmp_path: Path) -> None:
    """A path that is a folder is not a database."""
    with pytest.raises(StoreConfigError, match="cannot be opened"):
        await SqliteStore(f"sqlite:///{tmp_path}").open()


def test_failed_open_leaves_no_thread_that_speaks_to_a_closed_loop(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A connection that could not be made has ended by the time the caller is told."""
    spoken: list[object] = []
    monkeypatch.setattr(threading, "excepthook", spoken.append)

    async def open_a_folder() -> None:
        with pytest.raises(StoreConfigError):
            await SqliteStore(f"sqlite:///{tmp_path}").open()

    for _ in range(50):
        asyncio.run(open_a_folder())

    assert spoken == []


async def test_file_that_is_no_database_is_refused(tmp_path: Path) -> None:
    """A file of something else is left alone."""
    path = tmp_path / "notes.txt"
    path.write_text("these are notes, and no database at all\n" * 100)

    with pytest.raises(StoreConfigError, match="not a usable SQLite database"):
        await SqliteStore(f"sqlite:///{path}").open()

    assert path.read_text().startswith("these are notes")


async def test_file_of_another_program_is_left_alone(tmp_path: Path) -> None:
    """A file with a version that is not ours is not turned into a store, nor into WAL mode."""
    path = tmp_path / "notes.db"
    with closing(sqlite3.connect(path)) as conn:
        conn.execute("PRAGMA user_version = 7")
        conn.execute("CREATE TABLE notes (text)")
    before = path.read_bytes()

    with pytest.raises(StoreConfigError, match="user_version 7 of another program"):
        await SqliteStore(f"sqlite:///{path}").open()

    assert path.read_bytes() == before


async def test_newer_schema_is_refused(sqlite_url: str) -> None:
    """A file that a newer tapescope migrated is not touched."""
    store = SqliteStore(sqlite_url)
    async with store:
        pass
    with closing(sqlite3.connect(store.path)) as conn:
        conn.execute("PRAGMA user_version = 99")

    with pytest.raises(SchemaTooNew, match="99"):
        await SqliteStore(sqlite_url).open()


async def test_stores_that_open_at_once_migrate_once(sqlite_url: str) -> None:
    """The write lock orders the migrations of several processes."""
    stores = [SqliteStore(sqlite_url) for _ in range(5)]

    await asyncio.gather(*(store.open() for store in stores))
    try:
        task, _ = await stores[0].create(NewTask(new_task_id(), "x"))
        seen = [(await store.get(task.task_id)).task_id for store in stores]
    finally:
        await asyncio.gather(*(store.aclose() for store in stores))

    assert seen == [task.task_id] * 5


async def test_a_migration_that_fails_leaves_nothing_of_itself(sqlite_url: str) -> None:
    """The schema is as it was, and the next try begins from there."""
    async with SqliteStore(sqlite_url) as store:
        path = store.path
    with closing(sqlite3.connect(path)) as conn:
        conn.executescript(
            "DELETE FROM schema_compatibility WHERE version > 6; PRAGMA user_version = 6;"
            "DROP TABLE attempts_traced;"  # and not its trigger, at which the seventh will fail
        )
    with pytest.raises(StoreConfigError, match="tasks_take_their_traces already exists"):
        await SqliteStore(sqlite_url, open_mode=OpenMode.MIGRATE).open()
    with closing(sqlite3.connect(path)) as conn:
        version = conn.execute("PRAGMA user_version").fetchone()
        made = conn.execute("SELECT 1 FROM sqlite_schema WHERE name = 'attempts_traced'").fetchall()

    assert (version, made) == ((6,), [])


async def test_tables_hold_hash_and_lifecycle_columns(sqlite_url: str) -> None:
    """The schema has room for what comes: chained events, leases, retries, due times."""
    store = SqliteStore(sqlite_url)
    async with store:
        with closing(sqlite3.connect(store.path)) as conn:
            columns = {
                table: {row[1] for row in conn.execute(f"PRAGMA table_info({table})")}
                for table in ("tasks", "events")
            }

    assert columns["events"] >= {"offer", "hash", "prev_hash"}
    assert columns["tasks"] >= {"run_at", "lease_expires_at", "retries", "retries_spent", "owner"}


async def test_file_locked_by_another_session_makes_calls_wait(sqlite_url: str) -> None:
    """A write waits while another process writes, and goes through when that is done."""
    async with SqliteStore(sqlite_url) as store:
        with closing(sqlite3.connect(store.path, isolation_level=None)) as other:
            other.execute("BEGIN IMMEDIATE")
            waiting = asyncio.create_task(store.create(NewTask(new_task_id(), "x")))
            await asyncio.sleep(0)
            assert not waiting.done()
            other.execute("COMMIT")

        task, new = await waiting

        assert new
        assert (await store.get(task.task_id)) == task


async def test_file_locked_for_good_is_store_unavailable(
    sqlite_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Past its patience a call fails with an error that says so, and nothing was written."""
    monkeypatch.setattr(_connection, "_TURN", 0.05)
    async with SqliteStore(sqlite_url, patience=0.05) as store:
        with closing(sqlite3.connect(store.path, isolation_level=None)) as other:
            other.execute("BEGIN IMMEDIATE")

            with pytest.raises(StoreUnavailable, match="locked"):
                await store.create(NewTask(new_task_id(), "x"))

            other.execute("ROLLBACK")
        counts = await store.count()

        assert sum(counts.values()) == 0


async def test_closed_store_says_so() -> None:
    """Every verb of a store that is not open raises StoreClosed."""
    store = SqliteStore("sqlite:///:memory:")

    with pytest.raises(StoreClosed):
        await store.create(NewTask(new_task_id(), "x"))


async def test_close_is_idempotent_and_reopening_finds_everything(sqlite_url: str) -> None:
    """What was stored is there after a close, a second close, and a new open."""
    store = SqliteStore(sqlite_url)
    async with store:
        task, _ = await store.create(NewTask(new_task_id(), "x"))
    await store.aclose()

    async with store:
        assert await store.get(task.task_id) == task


async def test_checkpoints_keep_the_log_short(
    sqlite_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A writer that never pauses does not let the write-ahead log grow for ever."""
    monkeypatch.setattr("tapescope_adapters.sqlite._backend._WAL_CAP", 500)
    monkeypatch.setattr("tapescope_adapters.sqlite._backend._CHECKPOINT_EVERY", 2**20)
    monkeypatch.setattr("tapescope_adapters.sqlite._backend._CHECKPOINT_BEHIND", 2**21)
    async with SqliteStore(sqlite_url, durability="relaxed") as store:
        task, _ = await store.create(NewTask(new_task_id(), "x"))
        claim = await store.claim_if_pending(task, "me", 30)
        assert claim is not None
        body = "x" * 4_000
        for _ in range(40):
            await store.append(claim.attempt, [NewEvent("log", body)] * 200)
        written = 40 * 200 * 4_000

        assert Path(f"{store.path}-wal").stat().st_size < written / 2  # noqa: ASYNC240  # one stat


def test_a_crash_without_close_still_exits(tmp_path: Path) -> None:
    """The database threads never keep the interpreter from ending."""
    program = f"""
import asyncio
from tapescope_adapters.sqlite import SqliteStore
async def main():
    await SqliteStore("sqlite:///{tmp_path}/tasks.db").open()
    raise SystemExit(3)
asyncio.run(main())
"""
    ended = subprocess.run(
        [sys.executable, "-W", "ignore::ResourceWarning", "-c", program],
        timeout=30,
        capture_output=True,
        check=False,
    )

    assert ended.returncode == 3, ended.stderr


async def test_a_callers_loop_that_is_closed_does_not_end_the_thread(sqlite_url: str) -> None:
    """An answer that nobody waits for is let go; the next call is answered."""
    async with SqliteStore(sqlite_url) as store:
        assert isinstance(store.backend, SqliteBackend)
        conn: Any = store.backend.writer_conn  # its queue is aiosqlite's own
        closed = asyncio.new_event_loop()
        orphan: asyncio.Future[Any] = closed.create_future()
        closed.close()
        conn._tx.put_nowait((orphan, lambda: None))
        conn._tx.put_nowait((orphan, lambda: 1 / 0))
        task, _ = await store.create(NewTask(new_task_id(), "work"))

        assert (await store.get(task.task_id)).op == "work"


def collect_until_ended(before: set[threading.Thread]) -> int:
    """Collect until the threads begun since have ended; gives their number."""
    left = set(threading.enumerate()) - before
    over = time.monotonic() + 30
    for thread in left:
        while thread.is_alive() and time.monotonic() < over:
            gc.collect()  # a thread that is just answered may hold its call for a moment
            thread.join(0.01)
    assert [thread.name for thread in left if thread.is_alive()] == []
    return len(left)


def test_a_store_that_its_loop_left_open_is_let_go(sqlite_url: str) -> None:
    """Nobody can close it any more: its threads and its file are not kept for good."""
    before = set(threading.enumerate())

    async def use() -> None:
        store = SqliteStore(sqlite_url)
        await store.open()
        task, _ = await store.create(NewTask(new_task_id(), "work"))
        assert (await store.get(task.task_id)).op == "work"

    with warnings.catch_warnings(record=True) as warned:
        warnings.simplefilter("always")
        asyncio.run(use())
        ended = collect_until_ended(before)
    file = sqlite_url.removeprefix("sqlite:///")
    descriptors = (os.path.realpath(entry.path) for entry in os.scandir("/proc/self/fd"))

    assert ended >= 2
    assert {one.category for one in warned} == {ResourceWarning}
    assert [path for path in descriptors if path.startswith(file)] == []


@pytest.mark.parametrize("last", ["writer_conn", "_reader_conn", "_checkpointer"])
def test_an_opening_that_its_loop_left_half_done_is_let_go(sqlite_url: str, last: str) -> None:
    """What it has opened is let go without a wait, for no loop is there to wait in."""
    before = set(threading.enumerate())

    def ignore(_: asyncio.AbstractEventLoop, __: dict[str, Any]) -> None:
        """The task is destroyed while it is pending: it is what the test is about."""

    def open_half() -> None:
        store, loop = SqliteStore(sqlite_url), asyncio.new_event_loop()
        loop.set_exception_handler(ignore)
        opening = loop.create_task(store.open())
        while getattr(store.backend, last) is None:
            loop.call_soon(loop.stop)
            loop.run_forever()
        assert not opening.done()
        loop.close()

    with warnings.catch_warnings(record=True) as warned:
        warnings.simplefilter("always")
        open_half()
        ended = collect_until_ended(before)

    assert ended >= 1
    assert {one.category for one in warned} == {ResourceWarning}


async def test_a_store_whose_thread_has_ended_is_unavailable(sqlite_url: str) -> None:
    """A call says so within the patience; it does not wait for an answer that cannot come."""
    async with SqliteStore(f"{sqlite_url}?patience=0.1") as store:
        assert isinstance(store.backend, SqliteBackend)
        conn: Any = store.backend.writer_conn  # its queue is aiosqlite's own
        conn._tx.put_nowait((None, lambda: _STOP_RUNNING_SENTINEL))
        await asyncio.to_thread(conn._thread.join)
        with pytest.raises(StoreUnavailable, match="its connection has ended"):
            await store.create(NewTask(new_task_id(), "work"))


async def test_value_without_a_place_is_refused(sqlite_url: str) -> None:
    """Whatever Python raises for it, it is the fault of its own row, and no other's."""
    async with SqliteStore(sqlite_url) as store:
        row = CreateRow(new_task_id(), "x", "{}", None, 2**70, None, None, None)
        with pytest.raises(FlushRefused, match="OverflowError"):
            await store.backend.write(Flush("by hand", 1, creates=[row]))


@pytest.mark.parametrize(("durability", "level"), [("commit", 2), ("relaxed", 1)])
async def test_commit_is_as_durable_as_asked_for(
    sqlite_url: str, durability: Durability, level: int
) -> None:
    """A commit outlives a loss of power (2, FULL), unless it need not (1, NORMAL) (I6)."""
    async with SqliteStore(sqlite_url, durability=durability) as store:
        assert isinstance(store.backend, SqliteBackend)
        assert store.backend.writer_conn is not None
        found = await store.backend.writer_conn.run(
            lambda conn: [
                conn.execute(f"PRAGMA {name}").fetchone()[0]
                for name in ("synchronous", "journal_mode", "wal_autocheckpoint")
            ]
        )

    assert found == [level, "wal", 0]


async def test_counts_of_unknown_tasks_are_bounded(sqlite_url: str) -> None:
    """Past the cap they have one count together: guessed ids cannot fill the file."""
    limits = StoreLimits(quarantine_unknown=1)
    async with SqliteStore(sqlite_url, limits=limits) as store:
        for _ in range(3):
            await store.append(Attempt(new_task_id(), 1, "me"), [NewEvent("log", 1)])
        with closing(sqlite3.connect(store.path)) as raw:
            counts = raw.execute("SELECT n FROM drop_counts ORDER BY n").fetchall()

    assert counts == [(1,), (2,)]


async def test_who_reads_changes_nothing(sqlite_url: str) -> None:
    """The connection of the readers refuses to write."""
    async with SqliteStore(sqlite_url) as store:
        assert isinstance(store.backend, SqliteBackend)
        reader = store.backend._reader_conn  # pyright: ignore[reportPrivateUsage]  # no verb writes with it
        assert reader is not None
        with pytest.raises(StoreAway, match="readonly"):
            await reader.run(lambda conn: conn.execute("DELETE FROM pauses"))


async def test_file_that_goes_in_mid_write_is_of_unknown_fate(sqlite_url: str) -> None:
    """What was written to a file that nobody finds is not acknowledged (I6)."""
    async with SqliteStore(sqlite_url) as store:
        assert isinstance(store.backend, SqliteBackend)
        change = store.backend._changing  # pyright: ignore[reportPrivateUsage]  # every write goes through it
        file = Path(store.path)
        with pytest.raises(EventFateUnknown):
            await change(lambda _: file.rename(file.with_name("moved.db")))
        file.with_name("moved.db").rename(file)


async def test_flush_waits_for_a_checkpoint_that_is_far_behind(sqlite_url: str) -> None:
    """Else the log would grow for as long as the writers are faster."""
    async with SqliteStore(sqlite_url, durability="relaxed") as store:
        backend = store.backend
        assert isinstance(backend, SqliteBackend)
        gate = asyncio.Event()

        async def move() -> None:
            await gate.wait()

        backend._checkpoint = asyncio.ensure_future(move())  # pyright: ignore[reportPrivateUsage]  # as one that takes its time
        backend._unmoved = 2**40  # pyright: ignore[reportPrivateUsage]  # bytes since it began
        creating = asyncio.ensure_future(store.create(NewTask(new_task_id(), "x")))
        for _ in range(300):  # it could be written meanwhile
            assert not (await store.list()).tasks
        assert not creating.done()
        gate.set()
        await creating


async def test_running_row_without_a_tape_is_claimed_by_nobody(sqlite_url: str) -> None:
    """Its tape was lost by hand: it is the other owner's all the same, for the audit to find."""
    async with SqliteStore(sqlite_url) as store:
        task, _ = await store.create(NewTask(new_task_id(), "x"))
        await run_round(
            sqlite_url,
            "UPDATE tasks SET status = 'running', attempt = 1, owner = 'other', claimed_at = 1,"
            f" lease_expires_at = 1 WHERE id = {task.key}",
        )

        assert await store.claim_if_pending(task, "me", 60) is None


async def test_migration_that_another_process_has_made_is_not_made_again(tmp_path: Path) -> None:
    """Between its look and its lock another process may have migrated: it looks again."""
    file = tmp_path / "tasks.db"
    with (
        closing(sqlite3.connect(file, isolation_level=None)) as one,
        closing(sqlite3.connect(file, isolation_level=None)) as other,
    ):
        one.execute("PRAGMA journal_mode = WAL")

        def come_first(statement: str) -> None:
            if statement == "BEGIN IMMEDIATE":
                one.set_trace_callback(None)
                migrate(other, OpenMode.CREATE, "other")

        one.set_trace_callback(come_first)
        migrate(one, OpenMode.CREATE, "one")
        versions = read_versions(one)

    assert versions.found == versions.known


async def test_migration_that_is_to_be_alone_is_refused_beside_others(
    sqlite_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A process that has the file open goes on as before; once it is gone the file is migrated."""
    with monkeypatch.context() as before:
        first = {1: _schema.read_migrations()[1]}
        before.setattr(_schema, "read_migrations", first.copy)
        async with SqliteStore(sqlite_url):
            pass
    alone = SqliteStore(sqlite_url, open_mode=OpenMode.MIGRATE_ALONE)
    with closing(sqlite3.connect(alone.path)) as other:
        assert other.execute("SELECT count(*) FROM tasks").fetchone() == (0,)
        with pytest.raises(SchemaTooOld):
            await alone.open()
    async with alone:
        versions = await alone.maintenance.schema_versions()

    assert versions.found == versions.known > 1

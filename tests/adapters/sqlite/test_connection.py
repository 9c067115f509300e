"""The transactions of a SQLite store, between two connections to one file."""

from __future__ import annotations

import sqlite3
from collections.abc import Awaitable, Callable, Generator, Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest

from tapescope.model.tape import NewEvent
from tapescope.model.tasks import Attempt, NewTask
from tapescope.store import TaskStore
from tapescope.store.validation import new_task_id
from tapescope_adapters.sqlite import SqliteStore
from tapescope_adapters.sqlite._backend import SqliteBackend
from tapescope_adapters.sqlite._connection import read_transaction, write_transaction
from tests.support.postgres_sessions import start_task


@contextmanager
def connecting(file: Path) -> Generator[sqlite3.Connection]:
    """A connection that waits for no lock."""
    with closing(sqlite3.connect(file, timeout=0, isolation_level=None)) as conn:
        yield conn


@pytest.fixture
def pair(tmp_path: Path) -> Iterator[tuple[sqlite3.Connection, sqlite3.Connection]]:
    """Two connections to one file in WAL mode, with a table of one row."""
    file = tmp_path / "two.db"
    with connecting(file) as one, connecting(file) as other:
        one.execute("PRAGMA journal_mode = WAL")
        one.execute("CREATE TABLE t (n INTEGER)")
        one.execute("INSERT INTO t VALUES (1)")
        yield one, other


def rows(conn: sqlite3.Connection) -> list[int]:
    """What is in the table."""
    return [n for (n,) in conn.execute("SELECT n FROM t ORDER BY n")]


def test_a_write_has_the_lock_from_its_start(
    pair: tuple[sqlite3.Connection, sqlite3.Connection],
) -> None:
    """What it reads before it writes is still so when it does."""
    one, other = pair
    with write_transaction(one):
        with pytest.raises(sqlite3.OperationalError, match="locked"), write_transaction(other):
            pass
        one.execute("INSERT INTO t SELECT max(n) + 1 FROM t")

    assert rows(other) == [1, 2]


def test_what_raises_in_a_write_leaves_nothing(
    pair: tuple[sqlite3.Connection, sqlite3.Connection],
) -> None:
    """It is committed whole or not at all."""
    one, other = pair
    with pytest.raises(sqlite3.OperationalError), write_transaction(one):
        one.executemany("INSERT INTO t VALUES (?)", [(2,), (3,)]).execute("no SQL")

    assert rows(other) == [1]


def test_a_read_sees_one_moment(pair: tuple[sqlite3.Connection, sqlite3.Connection]) -> None:
    """All its queries see what the first one saw."""
    one, other = pair
    with read_transaction(one):
        first = rows(one)
        other.execute("INSERT INTO t VALUES (2)")
        second = rows(one)

    assert first == second == [1]
    assert rows(one) == [1, 2]


WRITES: dict[str, Callable[[TaskStore, str], Awaitable[object]]] = {
    "write_flush": lambda store, _: store.create(NewTask(new_task_id(), "x")),
    "claim_due": lambda store, _: store.claim_due("me", ["due"], 9, 60),
    "rescue": lambda store, _: store.leases.rescue_expired(dead_owners=["dead"]),
    "repair": lambda store, task_id: store.maintenance.repair(task_id, by="me"),
    "delete_drops": lambda store, _: store.maintenance.prune_quarantine(older_than=0),
}
READS: dict[str, Callable[[TaskStore, str], Awaitable[object]]] = {
    "audit": lambda store, _: store.maintenance.audit(),
    "find_open": lambda store, _: store.maintenance.find_open(),
    "read_tape": lambda store, task_id: store.read_tape(task_id),
    "read_quarantine": lambda store, _: store.read_quarantine(),
}


@pytest.mark.parametrize("verb", [*WRITES, *READS])
async def test_each_verb_is_one_transaction(sqlite_url: str, verb: str) -> None:
    """Of what it writes nobody sees a half, and all that it reads is as of one moment."""
    said: list[str] = []
    async with SqliteStore(sqlite_url) as store:
        lost = [await start_task(store, "dead") for _ in range(2)]
        await store.create(NewTask(new_task_id(), "due"))
        await store.append(Attempt(new_task_id(), 1, "me"), [NewEvent("log", 1)])
        assert isinstance(store.backend, SqliteBackend)
        for conn in (store.backend.writer_conn, store.backend._reader_conn):  # pyright: ignore[reportPrivateUsage]  # what it asks is looked at
            assert conn is not None
            await conn.run(lambda raw: raw.set_trace_callback(said.append))
        await (WRITES | READS)[verb](store, lost[0].task.task_id)
        told = [text for text in said if text.startswith(("BEGIN", "COMMIT", "ROLLBACK"))]

    assert told[:1] == ["BEGIN IMMEDIATE" if verb in WRITES else "BEGIN"]
    assert len(told) == 2

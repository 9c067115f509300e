"""Reaching a PostgreSQL server: URLs, passwords, servers that are away, news of commits."""

from __future__ import annotations

import asyncio
import gc
import sys

import pytest

from tapescope.errors import (
    BadSetting,
    BadStoreUrl,
    MissingExtra,
    StoreAuthFailed,
    StoreNotFound,
    StoreUnavailable,
)
from tapescope.model.tape import NewEvent
from tapescope.model.tasks import CancelRequest, Claim
from tapescope.store.notifications import RESYNC, Change, Subscription
from tapescope.store.opening import OpenMode
from tapescope.store.port import TaskStore
from tapescope.testing import until
from tapescope_adapters.postgres import PostgresStore
from tapescope_adapters.postgres._backend import PostgresBackend
from tests.support.postgres_sessions import make_role, run_task, session, start_task
from tests.support.services import Postgres


@pytest.mark.parametrize(
    ("url", "name"),
    [
        ("postgresql://u:s3cret@h/db", "postgresql://u@h/db?schema=tapescope"),
        ("postgres://u:s3cret@h:5433/db?schema=ops", "postgresql://u@h:5433/db?schema=ops"),
        (
            "postgresql://u@/db?host=/run/pg&password=s3cret",
            "postgresql://u@/db?host=/run/pg&schema=tapescope",
        ),
        ("postgresql://u:s3%40cret@[::1]:5432/db", "postgresql://u@[::1]:5432/db?schema=tapescope"),
        ("postgresql://h1:1,h2:2/db", "postgresql://h1:1,h2:2/db?schema=tapescope"),
    ],
)
def test_name_shows_no_password(url: str, name: str) -> None:
    """A store is called by its URL without the secret."""
    assert PostgresStore(url).name == name


async def test_a_transaction_in_which_nothing_comes_is_ended(postgres_url: str) -> None:
    """Its locks would be held for as long as the process lives that has forgotten it."""
    backend = PostgresStore(postgres_url, patience=0.5).backend
    assert isinstance(backend, PostgresBackend)
    conn = await backend.listening.log_in()
    await conn.transaction().start()
    await until(conn.is_closed)


@pytest.mark.parametrize(
    "url",
    [
        "postgresql://u:s3cret@h:port/db",
        "postgresql://u:s3cret@h:99999/db",
        "postgresql://u:s3cret@[h/db",
        "postgresql://u:s3/cret@h/db",
        "postgresql://u:s3@cret@h/db/@",
        "postgresql://u:s3#cret@h/db",
        "postgresql://u:s3?cret@h/db",
        "postgresql://u:s3cret@h/db?schema=Ops",
        "postgresql://u:s3cret@h/db?schema=pg_catalog",
        'postgresql://u:s3cret@h/db?schema=a"b',
        "postgresql://u@h/db?password=s3cret&schema=",
        "mysql://u:s3cret@h/db",
    ],
)
def test_bad_url_shows_no_password(url: str) -> None:
    """Neither the message nor the attributes nor the cause quote the secret."""
    with pytest.raises(BadStoreUrl) as refused:
        PostgresStore(url)

    error = refused.value
    assert "cret" not in f"{error} {error.url} {error.why} {error.args} {error.__cause__}"


def test_unknown_durability_is_refused() -> None:
    """Only the two honest names are taken."""
    with pytest.raises(BadSetting, match="durability"):
        PostgresStore("postgresql://h/db", durability="maybe")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]  # the point of the test


def test_missing_driver_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without asyncpg the error is the line that installs it."""
    for name in [name for name in sys.modules if name.startswith("tapescope_adapters.postgres")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "asyncpg", None)

    with pytest.raises(MissingExtra, match=r"pip install 'tapescope\[postgres\]'"):
        __import__("tapescope_adapters.postgres")


async def test_unreachable_host_is_named_after_the_patience() -> None:
    """No server listens there: the error says which store, and shows no password."""
    store = PostgresStore("postgresql://u:s3cret@127.0.0.1:1/db", patience=0.2)

    with pytest.raises(StoreUnavailable, match=r"postgresql://u@127\.0\.0\.1:1/db") as away:
        await store.open()

    assert "s3cret" not in str(away.value)


async def test_wrong_password_is_told_at_once(postgres_server: Postgres) -> None:
    """The user and the database are named, the password is not, and it is not tried again."""
    role = await make_role(postgres_server, "right")
    url = postgres_server.url()
    store = PostgresStore(url.replace("postgres@", f"{role}:s3cret@"), patience=3600.0)

    with pytest.raises(StoreAuthFailed, match=f"'{role}' into database 'postgres'") as refused:
        await store.open()

    assert "s3cret" not in f"{refused.value} {refused.value.__cause__}"
    right = PostgresStore(url.replace("postgres@", f"{role}:right@"), open_mode=OpenMode.READ)
    with pytest.raises(StoreNotFound):  # the right one is let in
        await right.open()


@pytest.mark.parametrize(
    ("part", "other", "kind"),
    [
        ("postgres@", "nobody@", StoreAuthFailed),
        ("/postgres?", "/nowhere?", StoreNotFound),
    ],
)
async def test_unknown_user_or_database_is_told_at_once(
    postgres_url: str, part: str, other: str, kind: type[Exception]
) -> None:
    """What the server does not know is a mistake in the URL, not an outage."""
    store = PostgresStore(postgres_url.replace(part, other), patience=3600.0)

    with pytest.raises(kind, match="does not exist"):
        await store.open()


async def _next(changes: Subscription) -> Change:
    return await asyncio.wait_for(anext(changes), 10)


async def test_commits_of_another_instance_are_told(postgres_url: str) -> None:
    """A follower hears of what another process's store committed, and where its tape ends."""
    async with PostgresStore(postgres_url) as ours, PostgresStore(postgres_url) as theirs:
        claim = await start_task(theirs)
        with ours.changes(claim.task.task_id) as changes:
            first = await _next(changes)
            await theirs.append(claim.attempt, [NewEvent("log", 1), NewEvent("log", 2)])
            second = await _next(changes)

    assert first is RESYNC
    assert second == Change(claim.task.task_id, 3)


async def test_own_commits_are_told_once(postgres_url: str) -> None:
    """The store's own notification comes back and is left alone."""
    async with PostgresStore(postgres_url) as ours, PostgresStore(postgres_url) as theirs:
        claim, other = await start_task(ours), await start_task(theirs)
        with ours.changes() as changes:
            assert await _next(changes) is RESYNC
            await ours.append(claim.attempt, [NewEvent("log", 1)])
            await theirs.append(other.attempt, [NewEvent("log", 1)])
            told = [await _next(changes), await _next(changes)]

    assert [(change.task_id, change.last_seq) for change in told] == [
        (claim.task.task_id, 2),
        (other.task.task_id, 2),
    ]
    assert len(told[0].events) == 1


async def test_flush_too_wide_for_a_notification_says_look_again(postgres_url: str) -> None:
    """What does not fit 8,000 bytes becomes one call to every follower."""
    async with PostgresStore(postgres_url) as ours, PostgresStore(postgres_url) as theirs:
        claims = await asyncio.gather(*(start_task(theirs) for _ in range(400)))
        with ours.changes(claims[7].task.task_id) as changes:
            assert await _next(changes) is RESYNC
            await asyncio.gather(
                *(theirs.append(claim.attempt, [NewEvent("log", 1)]) for claim in claims)
            )
            told = await _next(changes)

    assert told is RESYNC


async def test_lost_listener_comes_back_and_looks_again(postgres_url: str) -> None:
    """What was committed while no store listened is found, for every follower is woken."""
    async with PostgresStore(postgres_url) as ours, PostgresStore(postgres_url) as theirs:
        claim = await start_task(theirs)
        with ours.changes(claim.task.task_id) as changes:
            first = await _next(changes)
            async with session(postgres_url) as raw:
                await raw.execute(
                    "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
                    " WHERE application_name = 'tapescope' AND query LIKE 'LISTEN%'"
                )
            second = await _next(changes)
            await theirs.append(claim.attempt, [NewEvent("log", 1)])
            third = await _next(changes)

    assert first is second is RESYNC
    assert third == Change(claim.task.task_id, 2)


class _Owner:
    """Notes the cancel requests that an owner is told of."""

    def __init__(self, store: TaskStore) -> None:
        self.told: asyncio.Queue[tuple[str, CancelRequest]] = asyncio.Queue()
        store.listen_for_cancels(
            "me", lambda task_id, request: self.told.put_nowait((task_id, request))
        )


async def _cancel(store: TaskStore, claim: Claim, message: str) -> None:
    await store.request_cancel(claim.task.task_id, message=message)


async def test_owner_is_told_of_another_instances_cancel(postgres_url: str) -> None:
    """A cancel that another process records reaches the owner, also one from before it listened."""
    async with PostgresStore(postgres_url) as ours, PostgresStore(postgres_url) as theirs:
        early, late = await start_task(ours), await start_task(ours)
        await _cancel(theirs, early, "before")
        owner = _Owner(ours)
        first = await asyncio.wait_for(owner.told.get(), 10)
        await _cancel(theirs, late, "after")
        then = first  # the first may be told again
        while then == first:
            then = await asyncio.wait_for(owner.told.get(), 10)

    assert (first[0], first[1].message) == (early.task.task_id, "before")
    assert (then[0], then[1].message) == (late.task.task_id, "after")


async def test_reads_survive_lost_connections(postgres_url: str) -> None:
    """A reader whose connection was cut makes another, unseen by the caller."""
    async with PostgresStore(postgres_url) as store, session(postgres_url) as raw:
        task_id = await run_task(store, 1)
        await raw.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
            " WHERE application_name = 'tapescope'"
        )
        page = await store.read_tape(task_id)

    assert page.final_seq == 3


async def test_cancelled_read_spoils_nothing(postgres_url: str) -> None:
    """A reader who gives up leaves no reply behind for the next one."""
    async with PostgresStore(postgres_url) as store:
        task_id = await run_task(store, 1)
        for _ in range(20):
            reading = asyncio.ensure_future(store.read_tape(task_id))
            await asyncio.sleep(0)
            await asyncio.sleep(0)
            reading.cancel()
            with pytest.raises(asyncio.CancelledError):
                await reading
        page = await store.read_tape(task_id)

    assert page.final_seq == 3


async def test_bad_page_mark_is_refused(postgres_url: str) -> None:
    """A ``before`` that is not a task id is the caller's mistake, not the database's."""
    async with PostgresStore(postgres_url) as store:
        with pytest.raises(BadSetting, match="before"):
            await store.list(before="yesterday")


async def test_reads_that_outlast_the_store_leave_no_connection(postgres_url: str) -> None:
    """A query that is under way when the store is closed ends, and its connection with it."""
    store = await PostgresStore(postgres_url).open()
    reads = [asyncio.create_task(store.count()) for _ in range(4)]
    await asyncio.sleep(0)  # each has taken its turn, and waits for the server

    await store.aclose()
    await asyncio.gather(*reads, return_exceptions=True)
    reads.clear()

    gc.collect()  # a connection that was not closed warns here, and a warning is an error

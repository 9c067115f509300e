"""What a PostgreSQL flush does when it is refused, blocked, or lost on its way."""

from __future__ import annotations

import asyncio
import itertools
import os
import signal
from collections.abc import Awaitable, Callable

import asyncpg
import pytest

from tapescope.errors import EventFateUnknown, StoreBusy, StoreRefused
from tapescope.model.leases import GivenUp
from tapescope.model.ops import KnownOp
from tapescope.model.tape import DropReason, NewEvent
from tapescope.model.tasks import Attempt, ErrorInfo, FinalEvent, NewTask, Task, TaskStatus
from tapescope.store.flush import Flush, FlushAnswer, FlushBlocked
from tapescope.store.validation import StoreLimits, new_task_id
from tapescope.testing import History, check, until
from tapescope_adapters.postgres import PostgresStore
from tests.support.postgres_sessions import (
    RecordedPostgres,
    run_task,
    schema_of,
    session,
    start_task,
)
from tests.support.services import running_postgres
from tests.support.tcp_proxy import Loss, TcpProxy


async def test_one_guilty_call_in_a_flush_of_200_fails_alone(postgres_url: str) -> None:
    """The database refuses one event for good: its caller hears of it, 199 others are stored."""
    async with PostgresStore(postgres_url) as store, session(postgres_url) as raw:
        await raw.execute(
            "ALTER TABLE events ADD CONSTRAINT no_poison CHECK (body <> '\"poison\"')"
        )
        claims = await asyncio.gather(*(start_task(store) for _ in range(200)))
        answers = await asyncio.gather(
            *(
                store.append(claim.attempt, [NewEvent("log", "poison" if n == 77 else n)])
                for n, claim in enumerate(claims)
            ),
            return_exceptions=True,
        )
        after = await store.append(claims[77].attempt, [NewEvent("log", "wholesome")])

    guilty = answers.pop(77)
    assert isinstance(guilty, StoreRefused)
    assert "no_poison" in str(guilty)
    assert [getattr(answer, "stored", answer) for answer in answers] == [range(2, 3)] * 199
    assert after.stored == range(2, 3)


async def test_submit_that_waits_for_a_key_is_found_and_waits_alone(
    postgres_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An open transaction that holds the key delays one flush of others; the error names it."""
    met: list[tuple[bool, int]] = []
    store = PostgresStore(postgres_url, patience=1.5)
    write = store.backend.write

    async def watch(flush: Flush) -> FlushAnswer:
        """Note which flushes were blocked: whether by themselves, and of how many calls."""
        try:
            return await write(flush)
        except FlushBlocked:
            met.append((flush.was_blocked, len(flush.creates)))
            raise

    def submit(key: str | None = None) -> asyncio.Future[tuple[Task, bool]]:
        new_task = NewTask(new_task_id(), "x", idempotency_key=key)
        return asyncio.ensure_future(store.create(new_task))

    monkeypatch.setattr(store.backend, "write", watch)
    async with store, session(postgres_url) as holder, holder.transaction():
        await store.create_within(holder, NewTask(new_task_id(), "x", idempotency_key="held"))
        held, *beside = [submit("held"), *(submit() for _ in range(15))]
        await asyncio.gather(*beside)
        while not held.done():
            await submit()
        with pytest.raises(StoreBusy, match="holds the idempotency key 'held' of op 'x'"):
            await held

    assert [calls for alone, calls in met if not alone] == [16]
    assert [calls for alone, calls in met if alone][:4] == [8, 4, 2, 1]


async def test_whatever_a_user_wrote_comes_back(postgres_url: str) -> None:
    """Quotes, separators, "NULL" and the like are text; a timeout is a number."""
    odd = ['"', "\\", "\x1e", "{a,b}", "NULL", "None", "", " \n", "é\U0001f600", '\\",NULL,"']

    async def write(store: PostgresStore, text: str) -> str:
        new = NewTask(
            new_task_id(),
            "null",
            {text: text},
            timeout=1e-7,
            idempotency_key=text,
            traceparent=text,
        )
        task, _ = await store.create(new)
        claim = await store.claim_if_pending(task, f"me{text}", 60)
        assert claim is not None
        await store.append(claim.attempt, [NewEvent("log", text)])
        await store.request_cancel(task.task_id, message=text, by=text)
        return task.task_id

    async with PostgresStore(postgres_url) as store:
        ids = await asyncio.gather(*(write(store, text) for text in odd))
        tasks = [await store.get(task_id) for task_id in ids]
        tapes = [await store.read_tape(task_id) for task_id in ids]

    for task, tape, text in zip(tasks, tapes, odd, strict=True):
        assert task.cancel is not None
        assert (task.op, task.params, task.timeout) == ("null", {text: text}, 1e-7)
        assert (task.idempotency_key, task.traceparent, task.owner) == (text, text, f"me{text}")
        assert (task.cancel.message, task.cancel.by) == (text, text)
        assert tape.events[1].body == text


async def test_error_does_not_quote_the_row(postgres_url: str) -> None:
    """PostgreSQL's detail shows the whole row; what a caller is shown does not."""
    async with PostgresStore(postgres_url) as store, session(postgres_url) as raw:
        await raw.execute(
            "ALTER TABLE events ADD CONSTRAINT no_poison CHECK (body <> '\"s3cret\"')"
        )
        claim = await start_task(store)
        with pytest.raises(StoreRefused) as refused:
            await store.append(claim.attempt, [NewEvent("log", "s3cret")])

    assert "s3cret" not in str(refused.value)


async def test_blocked_row_delays_only_its_task(postgres_url: str) -> None:
    """While another session holds one task's row, the others of the same flush go on."""
    async with PostgresStore(postgres_url) as store, session(postgres_url) as raw:
        claims = await asyncio.gather(*(start_task(store) for _ in range(20)))
        held, *free = claims
        async with raw.transaction():
            await raw.execute("SELECT FROM tasks WHERE id = $1 FOR UPDATE", held.task.key)
            waiting = asyncio.ensure_future(store.append(held.attempt, [NewEvent("log", 1)]))
            going = await asyncio.gather(
                *(store.append(claim.attempt, [NewEvent("log", 1)]) for claim in free)
            )
            blocked = not waiting.done()
        late = await waiting

    assert blocked
    assert [answer.stored for answer in going] == [range(2, 3)] * 19
    assert late.stored == range(2, 3)


async def test_a_session_that_holds_the_stores_own_rows_delays_no_task(postgres_url: str) -> None:
    """Those of its lanes, counts, leader, workers and ops: submit, claim, events and end go on.

    What finds the row of its lane held goes on in the lane of those that wait for a lock.
    """
    async with PostgresStore(postgres_url, patience=5.0) as store, session(postgres_url) as raw:
        await store.ops.register([KnownOp("x")])
        await store.ops.tell("me", ["x"], 60.0)
        await store.leadership.acquire("me", 60.0)
        await run_task(store, 3)
        await store.backlog.read()
        async with raw.transaction():
            held = {
                table: len(await raw.fetch(f"SELECT FROM {table} FOR UPDATE"))
                for table in ("lanes", "maintenance", "backlog", "workers", "ops")
            }
            began = asyncio.get_running_loop().time()
            await asyncio.gather(*(run_task(store, 3) for _ in range(50)))
            waited = asyncio.get_running_loop().time() - began

    assert all(held.values()), held
    assert waited < store.patience


@pytest.mark.parametrize("loss", [Loss.REPLY, Loss.BEFORE_REPLY])
async def test_lost_reply_is_answered_as_the_first_time(
    proxy: TcpProxy, postgres_url: str, loss: Loss
) -> None:
    """Each kind of flush is carried out once, and its caller hears what it did, lost or not."""
    history = History()
    async with RecordedPostgres(proxy.url(schema_of(postgres_url)), history) as store:
        lose = f"{store.instance}/"
        new = NewTask(new_task_id(), "x", idempotency_key="k")
        proxy.hit(lose, loss=loss)
        task, made = await store.create(new)
        proxy.hit(lose, loss=loss)
        claim = await store.claim_if_pending(task, "me", 60)
        assert claim is not None
        proxy.hit(lose, loss=loss)
        appended = await store.append(claim.attempt, [NewEvent("log", 1), NewEvent("log", 2)])
        proxy.hit(lose, loss=loss)
        asked = await store.request_cancel(task.task_id)
        proxy.hit(lose, loss=loss)
        finished = await store.finish_if_running(claim.attempt, FinalEvent.succeeded())
        proxy.hit(lose, loss=loss)
        late = await store.append(claim.attempt, [NewEvent("log", 3)])
        page = await store.read_tape(task.task_id)
        violations = await check(history, store)

    assert proxy.hits == 6
    assert made
    assert appended.stored == range(2, 4)
    assert asked.state == "recorded"
    assert finished.won
    assert late.dropped is DropReason.AFTER_TERMINAL
    assert [event.seq for event in page.events] == [1, 2, 3, 4]
    assert page.dropped == 1
    assert violations == []


@pytest.mark.parametrize("loss", [Loss.REPLY, Loss.BEFORE_REPLY])
async def test_lost_reply_to_giving_up_is_answered_as_the_first_time(
    proxy: TcpProxy, postgres_url: str, loss: Loss
) -> None:
    """A retry, one that a cancel overrules, and a stale one are each carried out once."""
    history = History()
    error = ErrorInfo("ValueError", "no luck")
    async with RecordedPostgres(proxy.url(schema_of(postgres_url)), history) as store:
        lose = f"{store.instance}/"
        first, second = await start_task(store), await start_task(store)
        await store.request_cancel(second.attempt.task_id)
        proxy.hit(lose, loss=loss)
        retried = await store.retry_later(first.attempt, error, 0)
        proxy.hit(lose, loss=loss)
        ended = await store.retry_later(second.attempt, error, 0)
        proxy.hit(lose, loss=loss)
        stale = await store.retry_later(first.attempt, error, 0)
        row = await store.get(first.attempt.task_id)
        violations = await check(history, store)

    assert proxy.hits == 3
    assert (retried.pending, retried.last_seq) == (True, 2)
    assert (row.status, row.retries_spent) == (TaskStatus.PENDING, 1)
    assert ended.final is not None
    assert (ended.final.error, ended.last_seq) == (error, 2)
    assert stale.dropped is DropReason.STALE_ATTEMPT
    assert violations == []


@pytest.mark.parametrize("loss", [Loss.REPLY, Loss.LATE])
async def test_giving_up_again_after_an_unknown_fate_is_no_late_event(
    proxy: TcpProxy, postgres_url: str, loss: Loss
) -> None:
    """Carried out or held back in the network, past the patience, it is on the tape once."""
    history = History()
    url = proxy.url(schema_of(postgres_url))
    async with RecordedPostgres(url, history, patience=0.5) as store:
        claims = [await start_task(store) for _ in range(3)]
        await store.request_cancel(claims[1].attempt.task_id)
        calls: list[Callable[[], Awaitable[GivenUp]]] = [
            lambda: store.retry_later(claims[0].attempt, ErrorInfo("ValueError", "no luck"), 0),
            lambda: store.retry_later(claims[1].attempt, ErrorInfo("ValueError", "no luck"), 0),
            lambda: store.release(claims[2].attempt, "closing"),
        ]
        answers: list[GivenUp] = []
        for call in calls:
            proxy.hit(f"{store.instance}/", loss=loss)
            answer = asyncio.ensure_future(call())
            await until(lambda: not proxy.armed)
            # Nothing goes through until the patience is over.
            proxy.hit(f"{store.instance}/", times=1_000, loss=Loss.CUT)
            with pytest.raises(EventFateUnknown):
                await answer
            proxy.hit(f"{store.instance}/", times=0)
            answers.append(await call())
        if loss is Loss.LATE:
            proxy.late.set()
            await asyncio.wait_for(proxy.delivered.wait(), 10)
        pages = [await store.read_tape(claim.task.task_id) for claim in claims]
        drops = (await store.read_quarantine(None)).counts
        violations = await check(history, store)

    assert [(one.pending, one.last_seq) for one in answers] == [(True, 2), (False, 2), (True, 2)]
    assert [page.events[-1].type for page in pages] == [
        "attempt_failed",
        "final",
        "attempt_released",
    ]
    assert drops == {}
    assert violations == []


async def test_a_settled_flush_is_not_carried_out_later(
    proxy: TcpProxy, postgres_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What the network held back past the patience finds its number spent."""
    sent: list[Flush] = []
    store = PostgresStore(proxy.url(schema_of(postgres_url)), patience=0.5)
    write = store.backend.write

    async def note(flush: Flush) -> FlushAnswer:
        sent.append(flush)
        return await write(flush)

    monkeypatch.setattr(store.backend, "write", note)
    async with store:
        claim = await start_task(store)
        proxy.hit(f"{store.instance}/", loss=Loss.LATE)
        releasing = asyncio.ensure_future(store.release(claim.attempt))
        await until(lambda: not proxy.armed)
        proxy.hit(f"{store.instance}/", times=1_000, loss=Loss.CUT)
        with pytest.raises(EventFateUnknown):
            await releasing
        proxy.hit(f"{store.instance}/", times=0)
        await store.backend.settle(sent[-1])
        proxy.late.set()
        await asyncio.wait_for(proxy.delivered.wait(), 10)
        page = await store.read_tape(claim.task.task_id)

    assert [event.type for event in page.events] == ["task_started"]


async def test_fifty_lost_replies_under_load(proxy: TcpProxy, postgres_url: str) -> None:
    """Every other request of forty tasks loses its reply: no duplicate, no gap, right answers."""
    history = History()
    async with RecordedPostgres(
        proxy.url(schema_of(postgres_url)), history, patience=60.0
    ) as store:
        proxy.hit(f"{store.instance}/", times=50, every=2)
        while proxy.armed:
            await asyncio.gather(*(run_task(store, 10) for _ in range(40)))
        violations = await check(history, store)

    assert proxy.hits == 50
    assert violations == []


async def test_flush_that_arrives_after_its_resend_changes_nothing(
    proxy: TcpProxy, postgres_url: str
) -> None:
    """The network delivers the first try when the second is long answered: it is not done again."""
    async with PostgresStore(proxy.url(schema_of(postgres_url))) as store:
        claim = await start_task(store)
        proxy.hit(f"{store.instance}/", loss=Loss.LATE)
        appended = await store.append(claim.attempt, [NewEvent("log", 1)])
        proxy.late.set()
        await asyncio.wait_for(proxy.delivered.wait(), 10)
        again = await store.append(claim.attempt, [NewEvent("log", 2)])
        page = await store.read_tape(claim.task.task_id)

    assert appended.stored == range(2, 3)
    assert again.stored == range(3, 4)
    assert [event.body for event in page.events[1:]] == [1, 2]


async def test_lost_flush_that_is_refused_is_given_up_before_it_is_split(
    proxy: TcpProxy, postgres_url: str
) -> None:
    """A first try that arrives when its flush was split meanwhile is not carried out either."""
    async with (
        PostgresStore(proxy.url(schema_of(postgres_url))) as store,
        session(postgres_url) as raw,
    ):
        await raw.execute("ALTER TABLE events ADD CONSTRAINT no_poison CHECK (body <> '66')")
        claims = [await start_task(store) for _ in range(3)]
        proxy.hit(f"{store.instance}/", loss=Loss.LATE)
        answers = await asyncio.gather(
            *(
                store.append(claim.attempt, [NewEvent("log", body)])
                for claim, body in zip(claims, (1, 66, 3), strict=True)
            ),
            return_exceptions=True,
        )
        await raw.execute("ALTER TABLE events DROP CONSTRAINT no_poison")
        proxy.late.set()
        await asyncio.wait_for(proxy.delivered.wait(), 10)
        pages = [await store.read_tape(claim.task.task_id) for claim in claims]

    assert isinstance(answers[1], StoreRefused)
    assert [getattr(answers[n], "stored", answers[n]) for n in (0, 2)] == [range(2, 3)] * 2
    assert [page.last_seq for page in pages] == [2, 1, 2]


async def test_lost_flush_that_is_refused_is_never_carried_out(
    proxy: TcpProxy, postgres_url: str
) -> None:
    """Its caller was told that nothing is written: a first try that arrives later finds it so."""
    async with (
        PostgresStore(proxy.url(schema_of(postgres_url))) as store,
        session(postgres_url) as raw,
    ):
        await raw.execute("ALTER TABLE events ADD CONSTRAINT no_poison CHECK (body <> '66')")
        claim = await start_task(store)
        proxy.hit(f"{store.instance}/", loss=Loss.LATE)
        with pytest.raises(StoreRefused):
            await store.append(claim.attempt, [NewEvent("log", 66)])
        await raw.execute("ALTER TABLE events DROP CONSTRAINT no_poison")
        proxy.late.set()
        await asyncio.wait_for(proxy.delivered.wait(), 10)
        page = await store.read_tape(claim.task.task_id)

    assert page.last_seq == 1


async def test_lost_flush_whose_resend_is_blocked_waits(proxy: TcpProxy, postgres_url: str) -> None:
    """Its fate is unknown, so it is sent again as it is until the row is free."""
    async with (
        PostgresStore(proxy.url(schema_of(postgres_url))) as store,
        session(postgres_url) as raw,
    ):
        claims = [await start_task(store) for _ in range(2)]
        proxy.hit(f"{store.instance}/", loss=Loss.LATE)
        async with raw.transaction():
            await raw.execute("SELECT FROM tasks WHERE id = $1 FOR UPDATE", claims[0].task.key)
            waiting = asyncio.gather(
                *(store.append(claim.attempt, [NewEvent("log", 1)]) for claim in claims)
            )
            async with session(postgres_url) as other:

                async def blocked() -> bool:
                    found = await other.fetchval(
                        "SELECT count(*) FROM pg_locks WHERE NOT granted AND locktype IN"
                        " ('transactionid', 'tuple')"
                    )
                    return bool(found)

                await until(blocked)
        answers = await waiting
        proxy.late.set()
        await asyncio.wait_for(proxy.delivered.wait(), 10)
        pages = [await store.read_tape(claim.task.task_id) for claim in claims]

    assert [answer.stored for answer in answers] == [range(2, 3)] * 2
    assert [page.last_seq for page in pages] == [2, 2]


async def test_killed_backends_lose_no_acknowledged_event(postgres_url: str) -> None:
    """The store's connections are terminated again and again in mid-load; every answer is true."""
    history = History()
    async with RecordedPostgres(postgres_url, history) as store, session(postgres_url) as raw:
        load = asyncio.gather(*(run_task(store, 40) for _ in range(30)))
        killed = 0
        for wanted in itertools.count(150, 150):

            async def reached(wanted: int = wanted) -> bool:
                stored = int(await raw.fetchval("SELECT count(*) FROM events"))
                return load.done() or stored >= wanted

            await until(reached)
            if load.done():
                break
            killed += int(
                await raw.fetchval(
                    "SELECT count(*) FROM (SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
                    " WHERE application_name = 'tapescope' AND query LIKE '%flush(%') gone"
                )
            )
        await load
        violations = await check(history, store)

    assert killed >= 3
    assert violations == []


async def test_crashed_server_loses_no_acknowledged_event() -> None:
    """A server process is killed, PostgreSQL recovers from its log; every answer is true."""
    history = History()
    with running_postgres() as server:
        async with RecordedPostgres(server.url(), history, patience=60.0) as store:
            url = server.url(schema_of(store.name))
            load = asyncio.gather(*(run_task(store, 40) for _ in range(30)))
            async with session(url) as raw:

                async def begun() -> bool:
                    return int(await raw.fetchval("SELECT count(*) FROM events")) > 200

                await until(begun)
                pid = int(await raw.fetchval("SELECT pg_backend_pid()"))
                running = not load.done()
                os.kill(pid, signal.SIGKILL)  # the postmaster ends all others and starts anew
            await load
            violations = await check(history, store)

    assert running
    assert violations == []


async def test_quarantine_of_a_task_is_bounded_and_the_count_goes_on(postgres_url: str) -> None:
    """Past the cap late events are counted, not kept, also when one flush crosses it."""
    limits = StoreLimits(quarantine_per_task=5)
    async with PostgresStore(postgres_url, limits=limits) as store:
        claim = await start_task(store)
        await store.finish_if_running(claim.attempt, FinalEvent.succeeded())
        for _ in range(3):
            await store.append(claim.attempt, [NewEvent("log", n) for n in range(4)])
        page = await store.read_quarantine(claim.task.task_id)

    assert len(page.drops) == 5
    assert page.overflow == 7
    assert page.counts == {DropReason.AFTER_TERMINAL: 12}


async def test_unknown_tasks_cannot_fill_the_store(postgres_url: str) -> None:
    """Past their cap the drops of unknown tasks share one row, whatever the tasks are called."""
    limits = StoreLimits(quarantine_unknown=5)
    async with PostgresStore(postgres_url, limits=limits) as store, session(postgres_url) as raw:
        await asyncio.gather(
            *(
                store.append(Attempt(new_task_id(), n, "nobody"), [NewEvent(f"t{n}", n)])
                for n in range(1, 31)
            )
        )
        page = await store.read_quarantine()
        rows = await raw.fetchval("SELECT count(*) FROM drop_counts")
        shared = await raw.fetchval("SELECT n FROM drop_counts WHERE task_id = ''")

    assert len(page.drops) == 5
    assert page.overflow == 25
    assert (rows, shared) == (6, 25)


DROP = (
    "SELECT drop_rows('{1}', '{0}', '{1}', '{9}', '{log}', '{1}', '{1}', '{me}', '{%s}', '{t}',"
    " 9, 9)"
)
PRUNE = "SELECT delete_drops(ARRAY(SELECT id FROM quarantine ORDER BY id OFFSET %s LIMIT 1))"


@pytest.mark.parametrize("calls", [(DROP % "x", DROP % "y"), (PRUNE % 0, PRUNE % 1)])
async def test_one_session_at_a_time_counts_unknown_tasks(
    postgres_url: str, calls: tuple[str, str]
) -> None:
    """Who drops an event of an unknown task, or prunes one, waits for who does so just now."""
    async with (
        PostgresStore(postgres_url) as store,
        session(postgres_url) as one,
        session(postgres_url) as other,
    ):
        for _ in range(2):
            await store.append(Attempt(new_task_id(), 1, "me"), [NewEvent("log", 1)])
        await other.execute("SET lock_timeout = '20ms'")
        async with one.transaction():
            await one.execute(calls[0])
            with pytest.raises(asyncpg.LockNotAvailableError):
                await other.execute(calls[1])
        await other.execute(calls[1])


async def test_closed_store_leaves_no_lane(postgres_url: str) -> None:
    """What a store remembers of its flushes goes with it; what a lost one left goes after a day."""
    async with session(postgres_url) as raw:
        async with PostgresStore(postgres_url) as store:
            await raw.execute(
                "INSERT INTO lanes VALUES ('lost', 1, NULL, 1), ('live', 1, NULL, now_us())"
            )
            await run_task(store, 1)
        async with PostgresStore(postgres_url) as store:
            await run_task(store, 1)
        lanes = await raw.fetchval("SELECT array_agg(lane) FROM lanes")

    assert lanes == ["live"]

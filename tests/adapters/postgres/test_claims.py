"""Claims of due tasks on PostgreSQL: replies that are lost, rows that are held, plans that stay."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable, Sequence, Sized
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest
from opentelemetry.metrics import NoOpMeterProvider

from tapescope.errors import EventFateUnknown
from tapescope.model.tasks import Claim, FinalEvent, NewTask, Task, TaskStatus
from tapescope.store.port import TaskStore
from tapescope.store.validation import new_task_id
from tapescope.testing import History, check, until
from tapescope_adapters.postgres import PostgresStore
from tapescope_telemetry import Telemetry
from tests.support.breaches import run_round
from tests.support.postgres_sessions import RecordedPostgres, schema_of, session
from tests.support.tcp_proxy import Loss, TcpProxy

if TYPE_CHECKING:
    from tests.support.postgres_sessions import Session

pytestmark = pytest.mark.unmade  # its reads are counted, in tables that have no dead rows

ME = "me:1:0:aa"
CLAIM = "/claims/"
"""In every request that claims due tasks, and in no other."""


async def create(store: TaskStore, count: int, op: str = "work") -> list[str]:
    """So many pending tasks, in the order in which they are due."""
    ids = [new_task_id() for _ in range(count)]
    await asyncio.gather(
        *(store.create(NewTask(id_, op, run_at=n)) for n, id_ in enumerate(ids, 1))
    )
    return ids


def ids_of(claims: list[Claim]) -> list[str]:
    """Their tasks."""
    return [claim.task.task_id for claim in claims]


@pytest.mark.parametrize("loss", list(Loss))
async def test_claims_whose_reply_was_lost_are_told_after_all(
    proxy: TcpProxy, postgres_url: str, loss: Loss
) -> None:
    """The call is sent again by its name: it claims once, and the caller has every claim."""
    history = History()
    async with RecordedPostgres(proxy.url(schema_of(postgres_url)), history) as store:
        ids = await create(store, 10)
        proxy.hit(CLAIM, loss=loss)
        first = await store.claim_due(ME, ["work"], 4, 60)
        if loss is Loss.LATE:
            proxy.late.set()
            await asyncio.wait_for(proxy.delivered.wait(), 10)
        rest = await store.claim_due(ME, ["work"], 10, 60)
        for claim in [*first, *rest]:
            finished = await store.finish_if_running(claim.attempt, FinalEvent.succeeded())
            assert finished.won
        violations = await check(history, store)

    assert proxy.hits == 1
    assert (ids_of(first), ids_of(rest)) == (ids[:4], ids[4:])
    assert violations == []


async def test_claims_whose_reply_was_lost_are_told_though_the_op_is_paused_since(
    proxy: TcpProxy, postgres_url: str
) -> None:
    """The resend is answered with what the first try claimed; of what else is due it takes none."""
    history = History()
    url = proxy.url(schema_of(postgres_url))
    async with RecordedPostgres(url, history, patience=0.5) as store:
        ids = await create(store, 4)
        proxy.hit(CLAIM, times=1_000)
        with pytest.raises(EventFateUnknown):
            await store.claim_due(ME, ["work"], 2, 60)
        proxy.hit(CLAIM, times=0)
        await store.ops.pause("work")
        await store.ops.tell(ME, ["work"], 60)
        await store.ops.drain(ME)
        claims = await store.claim_due(ME, ["work"], 2, 60)
        more = await store.claim_due(ME, ["work"], 2, 60)
        violations = await check(history, store)

    assert (ids_of(claims), more) == (ids[:2], [])
    assert violations == []


async def test_a_pause_waits_for_no_claim(postgres_url: str) -> None:
    """Nor does it wait for a task that a session holds, or a claim for it."""
    async with PostgresStore(postgres_url) as store, session(postgres_url) as raw:
        (held,) = await create(store, 1)
        async with raw.transaction():
            await raw.execute("SELECT FROM tasks WHERE task_id = $1 FOR UPDATE", held)
            await store.ops.pause("work")
            claims = await store.claim_due(ME, ["work"], 1, 60)
            await store.ops.resume("work")

    assert claims == []


async def test_a_call_that_comes_after_its_resend_claims_nothing(
    proxy: TcpProxy, postgres_url: str
) -> None:
    """The resend found nothing due; tasks that come later are not claimed by the first try."""
    async with PostgresStore(proxy.url(schema_of(postgres_url))) as store:
        proxy.hit(CLAIM, loss=Loss.LATE)
        nothing = await store.claim_due(ME, ["work"], 10, 60)
        ids = await create(store, 3)
        proxy.late.set()
        await asyncio.wait_for(proxy.delivered.wait(), 10)
        claims = await store.claim_due(ME, ["work"], 10, 60)

    assert nothing == []
    assert ids_of(claims) == ids


async def test_claims_of_unknown_fate_are_handed_out_by_the_next_call(
    proxy: TcpProxy, postgres_url: str
) -> None:
    """Past its patience a call says that it does not know; the owner's next one does."""
    history = History()
    url = proxy.url(schema_of(postgres_url))
    async with RecordedPostgres(url, history, patience=0.5) as store:
        ids = await create(store, 5)
        proxy.hit(CLAIM, times=1_000)
        with pytest.raises(EventFateUnknown):
            await store.claim_due(ME, ["work"], 3, 60)
        proxy.hit(CLAIM, times=0)
        running = (await store.count())[TaskStatus.RUNNING]
        claims = await store.claim_due(ME, ["work"], 3, 60)
        rest = await store.claim_due(ME, ["work"], 3, 60)
        violations = await check(history, store)

    assert running == 3
    assert (ids_of(claims), ids_of(rest)) == (ids[:3], ids[3:])
    assert {claim.task.attempt for claim in [*claims, *rest]} == {1}
    assert violations == []


async def test_claims_that_are_no_longer_wanted_are_released(
    proxy: TcpProxy, postgres_url: str
) -> None:
    """The next call has less room, and not for every op: what is over is pending again at once."""
    history = History()
    url = proxy.url(schema_of(postgres_url))
    async with RecordedPostgres(url, history, patience=0.5) as store:
        await create(store, 3, "work")
        await create(store, 3, "other")
        proxy.hit(CLAIM, times=1_000)
        with pytest.raises(EventFateUnknown):
            await store.claim_due(ME, ["work", "other"], 6, 60)
        proxy.hit(CLAIM, times=0)
        claims = await store.claim_due(ME, ["work"], 2, 60)
        counts = await store.count()
        again = await store.claim_due("you:1:0:bb", ["work", "other"], 6, 60)
        violations = await check(history, store)

    assert {(claim.task.op, claim.task.attempt) for claim in claims} == {("work", 1)}
    assert (counts[TaskStatus.RUNNING], counts[TaskStatus.PENDING]) == (2, 4)
    assert {(claim.task.attempt, claim.task.retries_spent) for claim in again} == {(2, 0)}
    assert violations == []


async def test_claims_that_were_rescued_meanwhile_are_not_handed_out(
    proxy: TcpProxy, postgres_url: str
) -> None:
    """When the fate is learned the lease may be over: what another has taken is not ours."""
    history = History()
    url = proxy.url(schema_of(postgres_url))
    async with RecordedPostgres(url, history, patience=0.5) as store:
        ids = await create(store, 2)
        proxy.hit(CLAIM, times=1_000)
        with pytest.raises(EventFateUnknown):
            await store.claim_due(ME, ["work"], 2, 60)
        proxy.hit(CLAIM, times=0)
        rescued = await store.leases.rescue_expired(1, dead_owners=[ME])
        claims = await store.claim_due(ME, ["work"], 2, 60)
        violations = await check(history, store)

    assert [one.task.task_id for one in rescued] == ids[:1]
    assert ids_of(claims) == ids[1:]
    assert violations == []


async def test_a_row_that_is_held_is_passed_over(postgres_url: str) -> None:
    """Another session holds the oldest: the next ones are claimed at once, and it stays due."""
    async with PostgresStore(postgres_url) as store, session(postgres_url) as raw:
        work, other = await create(store, 3, "work"), await create(store, 3, "other")
        async with raw.transaction():
            await raw.execute("SELECT FROM tasks WHERE task_id = $1 FOR UPDATE", work[0])
            claims = await store.claim_due(ME, ["work", "other"], 4, 60)
            more = await store.claim_due(ME, ["work", "other"], 4, 60)
            due = await store.next_due(["work", "other"])
        held = await store.claim_due(ME, ["work", "other"], 4, 60)

    assert set(ids_of(claims)) == {*work[1:], *other[:2]}
    assert ids_of(more) == other[2:]
    assert due == 1
    assert ids_of(held) == work[:1]


async def test_idle_looks_write_nothing(postgres_url: str) -> None:
    """A worker that finds nothing due costs the database no commit to its log."""
    async with PostgresStore(postgres_url) as store, session(postgres_url) as raw:
        await create(store, 1, "other")
        before = await raw.fetchval("SELECT count(*) FROM lanes WHERE lane LIKE '%/claims/%'")
        for _ in range(5):
            assert await store.claim_due(ME, ["work"], 4, 60) == []
        after = await raw.fetchval("SELECT count(*) FROM lanes WHERE lane LIKE '%/claims/%'")
        claims = await store.claim_due(ME, ["other"], 4, 60)
        then = await raw.fetchval("SELECT count(*) FROM lanes WHERE lane LIKE '%/claims/%'")
    async with session(postgres_url) as raw:
        left = await raw.fetchval("SELECT count(*) FROM lanes")

    assert len(claims) == 1
    assert (before, after, then, left) == (0, 0, 1, 0)


async def read_by_a_claim(raw: Session, number: int, queues: Sequence[str]) -> tuple[int, int]:
    """Index entries and whole rows that a claim of 10 of three ops reads in a session."""
    async with raw.transaction():
        claimed = await raw.fetchval(
            "SELECT claim_due('lane', $1, 'me', 'me', $2::text[], 10, 60000000, 1,"
            " '{\"attempt\":', '}', false)",
            number,
            ["ended", "other", "work", *queues],
        )
        entries = await raw.fetchval(
            "SELECT sum(pg_stat_get_xact_tuples_returned(indexrelid)) FROM pg_stat_user_indexes"
            " WHERE relname IN ('tasks', 'events') AND schemaname = current_schema()"
        )
        scanned = await raw.fetchval(
            "SELECT sum(seq_tup_read) FROM pg_stat_xact_user_tables"
            " WHERE relname IN ('tasks', 'events') AND schemaname = current_schema()"
        )
    assert claimed.count("task_id") == 10
    return int(entries), int(scanned)


@pytest.mark.parametrize("queues", [[], ["/default", "/mail"]])
async def test_a_claim_reads_no_more_than_it_takes(
    postgres_url: str, queues: Sequence[str]
) -> None:
    """Of fifty thousand that wait or have ended it reads few, with or without statistics; from all
    queues, and from some."""
    read: list[tuple[int, int]] = []
    async with PostgresStore(postgres_url) as store, session(postgres_url) as early:
        await create(store, 30, "work")
        await early.execute("ANALYZE tasks")
        await read_by_a_claim(
            early, 1, queues
        )  # its plans are made while the table is small, and kept
        await create(store, 3_000, "ended")
        taken = ["default"] if queues else None
        while claims := await store.claim_due(ME, ["ended"], 1_000, 60, queues=taken):
            finishes = (store.finish_if_running(c.attempt, FinalEvent.succeeded()) for c in claims)
            await asyncio.gather(*finishes)
        await early.execute("ANALYZE tasks")  # as a server may do meanwhile: few wait, of many
        await early.execute(
            "INSERT INTO tasks (task_id, op, created_at, run_at) SELECT gen_random_uuid(),"
            " CASE WHEN n % 10 = 0 THEN 'unasked' ELSE 'work' END, 1, abs(hashint4(n))"
            " FROM generate_series(1, 50000) AS n"
        )
        read.append(await read_by_a_claim(early, 2, queues))
        await early.execute("VACUUM ANALYZE tasks")
        async with session(postgres_url) as late:
            read.append(await read_by_a_claim(late, 3, queues))

    assert [scanned for _, scanned in read] == [0, 0]
    assert all(10 <= entries < 500 for entries, _ in read), read


async def test_a_worker_elsewhere_hears_of_tasks_in_the_flushs_one_notification(
    postgres_url: str,
) -> None:
    """A flush that makes tasks and writes events says both in one NOTIFY."""
    heard: list[str] = []
    async with PostgresStore(postgres_url) as store, session(postgres_url) as raw:
        await create(store, 2)
        (claim, _) = await store.claim_due(ME, ["work"], 2, 60)

        def hear(conn: object, pid: int, channel: str, payload: object) -> None:
            heard.append(str(payload).partition("|")[2])

        await raw.add_listener(schema_of(postgres_url), hear)
        await asyncio.gather(
            store.finish_if_running(claim.attempt, FinalEvent.succeeded()), create(store, 2)
        )
        await until(lambda: heard)
        await raw.execute("SELECT 1")  # what was notified before is delivered by now

    assert heard == [f"{claim.task.task_id}:2|w"]


async def test_key_of_another_task_is_not_claimed(postgres_url: str) -> None:
    """A schema that was made anew gives the keys again: the id says whether it is the task."""
    async with PostgresStore(postgres_url) as store:
        gone, _ = await store.create(NewTask(new_task_id(), "x"))
        other, _ = await store.create(NewTask(new_task_id(), "x"))

        assert await store.claim_if_pending(replace(gone, key=other.key), ME, 60) is None
        assert await store.get(other.task_id) == other


async def test_bad_row_beside_one_that_is_held(postgres_url: str) -> None:
    """Where a claim goes task by task, one that a session holds is passed over as ever."""
    async with PostgresStore(postgres_url) as store, session(postgres_url) as raw:
        bad, held, free = await create(store, 3)
        await run_round(postgres_url, f"UPDATE tasks SET attempt = -5 WHERE task_id = '{bad}'")
        async with raw.transaction():
            await raw.execute("SELECT FROM tasks WHERE task_id = $1 FOR UPDATE", held)
            claims = await store.claim_due(ME, ["work"], 3, 60)

    assert ids_of(claims) == [free]


PASSES: dict[str, Callable[[TaskStore, list[Task]], Awaitable[int | Sized]]] = {
    "claim_due": lambda store, _: store.claim_due(ME, ["waits"], 9, 60),
    "rescue": lambda store, _: store.leases.rescue_expired(dead_owners=["me"]),
    "delete_tasks": lambda store, tasks: store.backend.delete_tasks([t.key for t in tasks], 9),
}


@pytest.mark.parametrize("verb", PASSES)
async def test_row_that_a_session_holds_keeps_no_other(postgres_url: str, verb: str) -> None:
    """It is passed over, and left for the next time."""
    async with PostgresStore(postgres_url, patience=2) as store, session(postgres_url) as raw:
        tasks = [(await store.create(NewTask(new_task_id(), "waits")))[0] for _ in range(2)]
        if verb != "claim_due":
            for task in tasks:
                claim = await store.claim_if_pending(task, "me", 60)
                assert claim is not None
                if verb == "delete_tasks":
                    await store.finish_if_running(claim.attempt, FinalEvent.succeeded())
        async with raw.transaction():
            await raw.execute("SELECT FROM tasks WHERE id = $1 FOR UPDATE", tasks[0].key)
            free = await PASSES[verb](store, tasks)
        held = await PASSES[verb](store, tasks)

    assert [n if isinstance(n, int) else len(n) for n in (free, held)] == [1, 1]


@pytest.mark.parametrize("loss", [Loss.REPLY, Loss.LATE, None], ids=["reply", "late", "for good"])
async def test_an_end_of_a_bad_row_is_counted_though_its_reply_was_lost(
    proxy: TcpProxy, postgres_url: str, loss: Loss | None
) -> None:
    """The claim ends it once, and counts the final that the tape has, by its next call at last."""
    telemetry = Telemetry(meter_provider=NoOpMeterProvider())  # with a ledger of its own
    url = proxy.url(schema_of(postgres_url))
    async with PostgresStore(url, telemetry=telemetry, patience=0.5) as store:
        bad, *good = await create(store, 3)
        change = f"UPDATE tasks SET attempt = {2**31 - 1} WHERE task_id = '{bad}'"
        await run_round(postgres_url, change)
        if loss is None:
            proxy.hit(CLAIM, times=1_000)
            with pytest.raises(EventFateUnknown):
                await store.claim_due(ME, ["work"], 10, 60)
            proxy.hit(CLAIM, times=0)
        else:
            proxy.hit(CLAIM, loss=loss)
        claims = await store.claim_due(ME, ["work"], 10, 60)
        if loss is Loss.LATE:
            proxy.late.set()
            await asyncio.wait_for(proxy.delivered.wait(), 10)
        rest = await store.claim_due(ME, ["work"], 10, 60)
        page = await store.read_tape(bad)
        ledger = store.meter.ledger

    assert (ids_of(claims), rest, page.final_seq) == (good, [], 1)
    assert (ledger.stored_by_type()["final"], ledger.unaccounted) == (1, 0)


async def test_what_was_shared_out_is_not_looked_for_again(postgres_url: str) -> None:
    """A worker of many ops and queues, with fewer due than it takes: each is looked at for its
    priorities and for its share, and then no more."""
    asked = [*(f"op{n}" for n in range(10)), *(f"/q{n}" for n in range(50))]
    order = ("i", "me", asked, 10, 60_000_000, 1, '{"attempt":', "}", False)

    async def count_blocks(connection: Any, number: int) -> int:
        call = "SELECT claim_due('lane', $1, $2, $3, $4, $5, $6, $7, $8, $9, $10)"
        plan = json.loads(
            await connection.fetchval(
                f"EXPLAIN (ANALYZE, BUFFERS, FORMAT JSON) {call}", number, *order
            )
        )
        return int(plan[0]["Plan"]["Shared Hit Blocks"])

    async with PostgresStore(postgres_url) as store, session(postgres_url) as raw:
        await count_blocks(raw, 1)  # what the session looks up once
        idle = await count_blocks(raw, 2)
        for number in (3, 4):
            await store.create(NewTask(new_task_id(), "op0", queue="q0"))
            claimed = await count_blocks(raw, number)
        left = await store.next_due(["op0"])

    assert left is None
    assert idle > 500
    assert claimed < 1.25 * idle

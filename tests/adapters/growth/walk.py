"""Every verb of a store, as its users ask it, each under its name."""

from __future__ import annotations

import sqlite3
from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import replace
from datetime import UTC, datetime
from typing import get_args

import aiosqlite
import asyncpg

from tapescope.errors import StoreConfigError
from tapescope.model.leadership import MaintenanceJob
from tapescope.model.messages import MessageTaken
from tapescope.model.ops import KnownOp
from tapescope.model.tape import NewEvent
from tapescope.model.tasks import (
    Attempt,
    CancelReason,
    ErrorInfo,
    FinalEvent,
    NewTask,
    TaskStatus,
)
from tapescope.store import DueOrder, TaskStore
from tapescope.store.orders import body_of_started
from tapescope.store.validation import new_task_id
from tapescope_adapters._sql import load
from tapescope_adapters.postgres._backend import PostgresBackend
from tapescope_adapters.postgres._queries import load_queries
from tapescope_adapters.sqlite import SqliteStore
from tapescope_adapters.sqlite._backend import SqliteBackend
from tapescope_adapters.sqlite._change_poll import NOTHING_SEEN, Look
from tests.adapters.growth.counted import Work, watch_steps
from tests.adapters.growth.filled import FAULTY, STEP, Filled

__all__ = ["walk"]

_PAGE = 10
_ABSENT = [f"absent{n}" for n in range(40)]
"""Ops of which no task is pending."""
_DAY = 86_400.0
_WINDOW = 86_400_000_000
_ABSENT_IDS = [new_task_id() for _ in range(3)]


async def walk(store: TaskStore, work: Work, filled: Filled) -> None:
    """Ask the open store everything."""
    await _walk_lists(store, work, filled)
    await _walk_backlog(store, work)
    await _walk_reads(store, work, filled)
    await _walk_life(store, work, filled)
    await _walk_claims(store, work)
    await _walk_slots(store, work)
    await _walk_leases(store, work, filled)
    await _walk_schedules(store, work, filled)
    await _walk_pauses(store, work, filled)
    await _walk_messages(store, work, filled)
    await _walk_engines(store, work, filled)
    await _walk_maintenance(store, work, filled)
    await _walk_transactions(store, work, filled)
    if isinstance(store.backend, SqliteBackend):
        await _walk_looks(store.backend, filled)
    if isinstance(store.backend, PostgresBackend):
        await _walk_troubles(store.backend, work, filled)


async def _walk_lists(store: TaskStore, work: Work, filled: Filled) -> None:
    newest = filled.rows - filled.rows % 10 - 2
    middle = filled.task_id(filled.rows // 2)

    def at(key: int) -> datetime:
        return datetime.fromtimestamp((filled.begin + key * STEP) / 1e6, UTC)

    running: dict[str, object] = {"status": TaskStatus.RUNNING, "before": middle, "limit": 200}
    wanted: dict[str, dict[str, object]] = {
        "nothing": {},
        "nothing, from the middle": {"before": middle},
        "an op": {"op": "op5"},
        "a rare op": {"op": "rare"},
        "an op without tasks": {"op": "absent"},
        "a rare owner": {"owner": "me"},
        "an owner without tasks": {"owner": "absent"},
        "a key": {"idempotency_key": f"key{newest}"},
        "an op and a key": {"op": "op8", "idempotency_key": f"key{newest}"},
        "times": {"since": at(100), "until": at(120)},
        "times and an op": {"since": at(100), "until": at(120), "op": "op5"},
        "a rare op and pending": {"op": "rare", "status": TaskStatus.PENDING},
        "a rare op and failed": {"op": "rare", "status": TaskStatus.FAILED},
        "an op that ran and pending": {"op": "op1", "status": TaskStatus.PENDING},
        "a rare owner and running": {"owner": "me", "status": TaskStatus.RUNNING},
        "a rare op and an owner": {"op": "rare", "owner": "owner7"},
        "a key and failed": {"idempotency_key": f"key{newest}", "status": TaskStatus.FAILED},
        "a tag": {"tag": "many"},
        "a tag, from the middle": {"tag": "many", "before": middle},
        "a rare tag": {"tag": "few"},
        "a tag without tasks": {"tag": "absent"},
        "a tag and an op": {"tag": "many", "op": "op5"},
        "a tag and a rare op": {"tag": "many", "op": "rare"},
        "a tag and failed": {"tag": "many", "status": TaskStatus.FAILED},
        "a rare tag and pending": {"tag": "few", "status": TaskStatus.PENDING},
        "a parent": {"parent_id": filled.task_id(2)},
        "a parent of few": {"parent_id": filled.task_id(1)},
        "a task without children": {"parent_id": filled.task_id(3)},
        "a parent and a rare op": {"parent_id": filled.task_id(2), "op": "rare"},
        "a parent and pending": {"parent_id": filled.task_id(1), "status": TaskStatus.PENDING},
        "running, of the older half": running,
        "running of nobody": {**running, "op": "absent"},
        "running since then": {**running, "since": at(1)},
        "without params": {"params": False, "op": "rare"},
    }
    for status in TaskStatus:
        wanted[status.value] = {"status": status}
    for name, filters in wanted.items():
        with work.verb(f"list {name}"):
            await store.list(**({"limit": _PAGE} | filters))  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]  # of several types


async def _walk_reads(store: TaskStore, work: Work, filled: Filled) -> None:
    middle = filled.rows // 2
    with work.verb("get"):
        await store.get(filled.task_id(middle))
    with work.verb("find_ended"):
        await store.leases.find_ended([filled.task_id(middle + nth) for nth in range(20)])
    trace_id = filled.task_id(middle).replace("-", "")
    with work.verb("find_traced"):
        await store.find_traced(trace_id)
    with work.verb("read_traced"):
        await store.read_traced([filled.task_id(middle + nth) for nth in range(20)])
    with work.verb("count"):
        await store.count()
    with work.verb("count of an op"):
        await store.count(op="rare")
    with work.verb("count of a rare tag"):
        await store.count(tag="few")
    with work.verb("count of a rare tag and an op"):
        await store.count(tag="few", op="rare")
    long = filled.long
    for name, after in (
        ("the start", 0),
        ("the middle", filled.rows // 8),
        ("the end", filled.rows // 4),
    ):
        with work.verb(f"read_tape at {name}"):
            await store.read_tape(long, after_seq=after, limit=_PAGE)
    with work.verb("read_quarantine with its counts"):
        await store.read_quarantine(limit=_PAGE)
    for name, after in (("the start", 0), ("the end", filled.rows - _PAGE)):
        with work.verb(f"read_quarantine at {name}"):
            await store.read_quarantine(after=after, limit=_PAGE, counted=False)
    with work.verb("read_quarantine of a task"):
        await store.read_quarantine(filled.task_id(middle), limit=_PAGE)
    with work.verb("read_quarantine of a time"):
        await store.read_quarantine(
            since=datetime(2000, 1, 1, tzinfo=UTC), limit=_PAGE, counted=False
        )
    with work.verb("read_quarantine of a time of which there is none"):
        await store.read_quarantine(
            since=datetime(2100, 1, 1, tzinfo=UTC), limit=_PAGE, counted=False
        )


async def _create(store: TaskStore, op: str = "made", key: str | None = None) -> NewTask:
    task = NewTask(new_task_id(), op, retries=3, idempotency_key=key)
    await store.create(task)
    return task


async def _claim(store: TaskStore) -> Attempt:
    task = await store.get((await _create(store)).task_id)
    claim = await store.claim_if_pending(task, "worker", 60)
    assert claim is not None
    return claim.attempt


async def _walk_engines(store: TaskStore, work: Work, filled: Filled) -> None:
    """Of what waits of op5 to op9, one in twenty of the tasks, all is an engine's."""
    with work.verb("read_store_id"):
        await store.engines.read_store_id()
    for engine in ("elsewhere", "absent"):
        with work.verb(f"find_unconfirmed {engine}"):
            await store.engines.find_unconfirmed(engine, limit=_PAGE)
    with work.verb("note_confirmed"):
        await store.engines.note_confirmed(
            [filled.task_id(filled.rows // 2 + nth) for nth in range(20)], again_in=_DAY
        )
    with work.verb("count_overdue"):
        await store.engines.count_overdue("elsewhere", late=60)
    with work.verb("create of an engine"):
        await store.create(NewTask(new_task_id(), "op5", engine="elsewhere"))
    for op in ("op5", "op9"):
        with work.verb(f"claim_due beside an engine's tasks of {op}"):
            await store.claim_due("worker", [op], _PAGE, 60)
        with work.verb(f"next_due beside an engine's tasks of {op}"):
            await store.next_due([op])


async def _walk_life(store: TaskStore, work: Work, filled: Filled) -> None:
    with work.verb("create"):
        await _create(store)
    with work.verb("create with tags and a parent"):
        tagged = NewTask(new_task_id(), "made", tags=("many", "few"), parent_id=filled.task_id(2))
        await store.create(tagged)
    with work.verb("create with a key"):
        await _create(store, key="new")
    with work.verb("create with a key that is taken"):
        await _create(store, key="new")
    with work.verb("create with a unique key"):
        await store.create(NewTask(new_task_id(), "made", unique_key="new"))
    with work.verb("create with a unique key that is taken"):
        _, created = await store.create(NewTask(new_task_id(), "made", unique_key="new"))
    assert not created
    with work.verb("create_claimed"):
        await store.create_claimed(NewTask(new_task_id(), "op1"), "worker", 60)
    with work.verb("announce"):
        await store.announce()
    task = await store.get((await _create(store)).task_id)
    with work.verb("claim_if_pending"):
        claim = await store.claim_if_pending(task, "worker", 60)
    assert claim is not None
    with work.verb("claim_if_pending that loses"):
        assert await store.claim_if_pending(task, "other", 60) is None
    with work.verb("append"):
        await store.append(claim.attempt, [NewEvent("log", nth) for nth in range(5)])
    with work.verb("finish_if_running"):
        await store.finish_if_running(claim.attempt, FinalEvent.succeeded())
    with work.verb("append that is late"):
        await store.append(claim.attempt, [NewEvent("log", 1)])
    with work.verb("append to an unknown task"):
        await store.append(Attempt(new_task_id(), 1, "worker"), [NewEvent("log", 1)])
    with work.verb("append to a long tape"):
        await store.append(Attempt(filled.long, 1, "me"), [NewEvent("log", 1)])
    traced, noted = [await _claim(store) for _ in range(2)]
    for attempt in (traced, noted):
        store.attach_span(attempt, "f" * 32, None, "f" * 16)
    with work.verb("append with a trace"):
        await store.append(traced, [NewEvent("log", 1)])
    with work.verb("note_traces"):
        await store.note_traces([noted])
    retried, released, cancelled = [await _claim(store) for _ in range(3)]
    with work.verb("retry_later"):
        await store.retry_later(retried, ErrorInfo("exception", "x"), filled.begin)
    again = await store.get(retried.task_id)
    with work.verb("claim_if_pending of the next attempt"):
        assert await store.claim_if_pending(again, "worker", 60) is not None
    with work.verb("release"):
        await store.release(released)
    with work.verb("request_cancel of a running task"):
        await store.request_cancel(cancelled.task_id)
    with work.verb("release of a cancelled task"):
        await store.release(cancelled)
    bound, _ = await store.create(NewTask(new_task_id(), "made", only_by="worker"))
    with work.verb("let_go"):
        await store.leases.let_go(bound.task_id, 0, "worker")
    pending = await _create(store)
    with work.verb("request_cancel of a pending task"):
        await store.request_cancel(pending.task_id)
    with work.verb("request_cancel of a task that has ended"):
        await store.request_cancel(pending.task_id)
    with work.verb("load"):
        await store.backend.load(filled.long, 1, "me")


@asynccontextmanager
async def _own_transaction(store: TaskStore, work: Work, filled: Filled) -> AsyncGenerator[object]:
    """A transaction of the caller's, on a connection of its own."""
    if isinstance(store, SqliteStore):
        async with aiosqlite.connect(
            store.path, isolation_level=None, check_same_thread=False
        ) as own:
            raw: sqlite3.Connection = own._conn  # pyright: ignore[reportPrivateUsage]  # to count its steps
            watch_steps(raw, work)
            await own.execute("BEGIN IMMEDIATE")
            yield own
            await own.execute("COMMIT")
    else:
        caller = await asyncpg.connect(filled.url.partition("&schema=")[0])
        try:
            async with caller.transaction():
                yield caller
        finally:
            await caller.close()


async def _walk_transactions(store: TaskStore, work: Work, filled: Filled) -> None:
    new = NewTask(new_task_id(), "made", idempotency_key="within")
    async with _own_transaction(store, work, filled) as own:
        with work.verb("create_within"):
            await store.create_within(own, new)
        with work.verb("create_within of what is there"):
            await store.create_within(own, new)
        keyed = [NewTask(new_task_id(), "made", unique_key="within") for _ in range(2)]
        with work.verb("create_within with a unique key"):
            await store.create_within(own, keyed[0])
        with work.verb("create_within of a unique key that is taken"):
            await store.create_within(own, keyed[1])


async def _walk_backlog(store: TaskStore, work: Work) -> None:
    """The tasks were written past the triggers, so their numbers are set first."""
    with work.verb("recount_backlog"):
        await store.backlog.recount()
    with work.verb("mend_backlog"):
        await store.backlog.mend(by="me")
    with work.verb("the backlog"):
        await store.backlog.read(max_age=0)
    with work.verb("the backlog that another has read"):
        await store.backlog.read(max_age=60)
    with work.verb("fold_passed"):
        if isinstance(store.backend, SqliteBackend):
            await store.backend.fold_backlog()
    with work.verb("tell_worker"):
        await store.ops.tell("me", ["op5"], 60)
    with work.verb("tell_worker of some queues"):
        await store.ops.tell("me", ["soon", "later"], 60, queues=["bulk"])
    with work.verb("the backlog with queues that nobody takes"):
        read = await store.backlog.read(max_age=60)
    assert [one.unserved for one in read.ops if one.op == "soon"] == [("default", "mail")]
    with work.verb("forget_worker"):
        await store.ops.forget("me")


async def _walk_looks(backend: SqliteBackend, filled: Filled) -> None:
    """How the processes that have a SQLite file open see what the others wrote."""
    sql = load("tapescope_adapters.sqlite")
    seen = NOTHING_SEEN
    for follows_all in (False, True):
        look = Look(sql, seen, [filled.long], follows_all=follows_all, arrivals=True)
        seen = await backend._reading(look)  # pyright: ignore[reportPrivateUsage]  # as its poll does
        seen = seen._replace(version=-1, last_n=seen.last_n - _PAGE)  # as if another had written


async def _walk_troubles(backend: PostgresBackend, work: Work, filled: Filled) -> None:
    """What is asked of a server when a reply is lost, a row is locked, or a schema is made."""
    shared = backend._shared  # pyright: ignore[reportPrivateUsage]  # the connections of its reads
    schema = filled.url.rpartition("=")[2]
    sql = load_queries(schema)
    asked: dict[str, tuple[object, ...]] = {
        "await_lease": ("me", 60_000_000, filled.long, "10"),
        "fence": ("lane7", 1),
        "settle_lane": ("lane7", 2),
        "read_owner": (schema,),
        "read_compatibility": (),
    }
    for name, arguments in asked.items():
        with work.verb(name):
            await shared.fetch(sql[name], *arguments)


async def _walk_claims(store: TaskStore, work: Work) -> None:
    asked: dict[str, Sequence[str]] = {
        "of one op": ["op5"],
        "of many ops, few due": [*_ABSENT, "soon"],
        "of many ops, none due": _ABSENT,
        "of many ops, many due": [f"op{n}" for n in range(10)],
        "of an op that is due later": ["later"],
        "of an op with bad rows": ["broken"],
    }
    for name, ops in asked.items():
        with work.verb(f"next_due {name}"):
            await store.next_due(ops)
        with work.verb(f"claim_due {name}"):
            await store.claim_due("worker", ops, 3, 60)
    many = [f"op{n}" for n in range(10)]
    queued = {
        "from a queue of which few are due": (["soon"], ["mail"]),
        "from queues that are empty, beside many": (["op5"], ["default", "mail"]),
        "from the queues of many ops, many due": (many, ["bulk", "default", "mail"]),
        "from a queue with bad rows": (["broken"], ["mail"]),
    }
    for name, (ops, queues) in queued.items():
        with work.verb(f"next_due {name}"):
            await store.next_due(ops, queues=queues)
        with work.verb(f"claim_due {name}"):
            await store.claim_due("worker", ops, 3, 60, queues=queues)


async def _walk_slots(store: TaskStore, work: Work) -> None:
    """As many tasks as the store is big are parked on one key, and as many on a key each; no key
    has a slot free, nor a place in the window of its rate."""
    ops = ["one.key", "many.keys"]
    with work.verb("create with a concurrency key"):
        await store.create(NewTask(new_task_id(), "one.key", concurrency_key="all"))
    for nth in ("first", "second"):
        with work.verb(f"claim_due of full keys, the {nth} time"):
            assert await store.claim_due("worker", ops, 3, 60) == []
        with work.verb(f"next_due of full keys, the {nth} time"):
            assert await store.next_due(ops) is not None
    with work.verb("register_ops with another slot"):
        await store.ops.register([KnownOp("one.key", max_concurrent=3)])
    with work.verb("register_ops with a rate"):
        await store.ops.register(
            [KnownOp("one.key", max_concurrent=3, rate_times=100, rate_per_us=_WINDOW)]
        )
    with work.verb("claim_due of a parked task"):
        (claim,) = await store.claim_due("worker", ops, 3, 60)
    with work.verb("retry_later of a task with a slot"):
        await store.retry_later(claim.attempt, ErrorInfo("exception", "x"), claim.task.run_us)
    with work.verb("next_due of a free slot"):
        assert await store.next_due(ops) is not None
    with work.verb("claim_due of the next parked task"):
        (claim,) = await store.claim_due("worker", ops, 3, 60)
    with work.verb("finish_if_running of a task with a slot"):
        await store.finish_if_running(claim.attempt, FinalEvent.succeeded())
    await store.ops.register(
        [KnownOp("one.key", max_concurrent=9, rate_times=100, rate_per_us=_WINDOW)]
    )
    with work.verb("claim_due of fewer tasks than there are slots"):
        assert len(await store.claim_due("worker", ops, 1, 60)) == 1
    parked = await store.list(op="many.keys", limit=1)
    with work.verb("request_cancel of a parked task"):
        await store.request_cancel(parked.tasks[0].task_id)
    new = [  # due before all others: these are full, and a claim looks at so many only
        NewTask(new_task_id(), "many.keys", concurrency_key=key, run_at=1)
        for key in ("new", "newer")
    ]
    for one in new:
        await store.create(one)
    with work.verb("claim_due of new keys"):
        claims = await store.claim_due("worker", ["many.keys"], 5, 60)
    assert {one.task.task_id for one in claims} == {one.task_id for one in new}


async def _walk_expiries(store: TaskStore, work: Work) -> None:
    """As many tasks as the store is big have expired, before others that have not."""
    over = NewTask(new_task_id(), "absent", run_at=1, expires_in=1)
    live = NewTask(new_task_id(), "absent", run_at=2, expires_in=36_000 * _DAY)
    met, _ = await store.create(over)
    await store.create(live)
    with work.verb("claim_if_pending of what has expired"):
        assert await store.claim_if_pending(met, "worker", 60) is None
    with work.verb("claim_due of what expires"):
        (claim,) = await store.claim_due("worker", ["absent"], 1, 60)
    assert claim.task.task_id == live.task_id
    for number, nth in enumerate(("first", "second", "third"), 1):
        order = DueOrder(
            *(number, False, "expiring", ["expired.many"], 3, 60_000_000),
            *(store.clock.now(), body_of_started("expiring"), "{}"),
        )
        with work.verb(f"the backend's claim_due among many that have expired, the {nth} time"):
            rows = await store.backend.claim_due(order)
        assert sum(row.expired for row in rows) >= 2  # every tenth has time
        with work.verb(f"end_expired of many, the {nth} look"):
            assert await store.end_expired(5) == 5
    with work.verb("request_cancel of what has not expired"):
        await store.request_cancel(claim.task.task_id, CancelReason.EXPIRED)
    await store.finish_if_running(claim.attempt, FinalEvent.succeeded())


async def _walk_leases(store: TaskStore, work: Work, filled: Filled) -> None:
    parent = NewTask(filled.task_id(0), "made")
    child = NewTask(new_task_id(), "made", parent_id=parent.task_id, cancel_with_parent=True)
    for one in (parent, child):
        await store.create(one)
    await store.request_cancel(parent.task_id)
    with work.verb("cancel_followers"):
        cancelled = await store.cancel_followers()
    for nth in ("first", "second", "third"):
        with work.verb(f"cancel_followers of few parents, the {nth} look"):
            cancelled += await store.cancel_followers(5)
    assert cancelled == 1
    await _walk_expiries(store, work)
    mine = [Attempt(task_id, 1, "me") for task_id in filled.mine]
    with work.verb("extend leases by id"):
        await store.leases.extend("me", 60, mine)
    with work.verb("extend leases of which one is lost"):
        await store.leases.extend("me", 60, [Attempt(filled.lost, 1, "me")])
    with work.verb("extend all leases"):
        await store.leases.extend("me", 60)
    with work.verb("read_cancels"):
        await store.backend.read_cancels(["asked"])
    with work.verb("read_owners"):
        await store.leases.read_owners()
    with work.verb("repair of a task without a live lease"):
        await store.backend.repair(filled.lost, 0, "me", False)
    with work.verb("rescue_expired"):
        await store.leases.rescue_expired(3, ops=["op5"])
    with work.verb("rescue_expired of dead owners"):
        await store.leases.rescue_expired(3, ops=["op5"], dead_owners=["asked"])
    with work.verb("rescue_expired of the rest"):
        while await store.leases.rescue_expired(100):
            pass
    with work.verb("rescue_expired, nobody lost"):
        await store.leases.rescue_expired(3, ops=["op5"])
    with work.verb("register ops"):
        await store.ops.register([KnownOp("op5", None, 3)])
    with work.verb("read ops"):
        await store.ops.read()


async def _walk_pauses(store: TaskStore, work: Work, filled: Filled) -> None:
    """Beside as many paused ops as there are tasks, and a few workers."""
    for owner in ("worker1", "worker2", "worker3"):
        await store.ops.tell(owner, ["op5"], 60)
    middle = filled.rows // 2
    with work.verb("pause_op"):
        await store.ops.pause("op5", reason="why", by="me")
    for name, ops in (("of which one is paused", ["op5", "op6"]), ("that are paused", ["op5"])):
        with work.verb(f"next_due of ops {name}"):
            await store.next_due(ops)
        with work.verb(f"claim_due of ops {name}"):
            await store.claim_due("worker", ops, 3, 60)
    with work.verb("list_pauses"):
        await store.ops.list_paused(after=f"paused{middle}", limit=_PAGE)
    with work.verb("the backlog beside pauses"):
        await store.backlog.read(max_age=60)
    with work.verb("list_workers"):
        await store.ops.list_workers(after="worker1", limit=_PAGE)
    with work.verb("drain_worker"):
        await store.ops.drain("worker2", reason="why", by="me")
    with work.verb("find_drain"):
        assert await store.ops.find_drain("worker2") is not None
    with work.verb("claim_due of a worker that drains"):
        assert await store.claim_due("worker2", ["op6"], 3, 60) == []
    with work.verb("undrain_worker"):
        await store.ops.undrain("worker2")
    with work.verb("resume_op"):
        await store.ops.resume("op5")


async def _walk_schedules(store: TaskStore, work: Work, filled: Filled) -> None:
    middle = f"schedule{filled.rows // 2}"
    first = await store.schedules.get(middle)
    with work.verb("add_schedule"):
        assert await store.schedules.add_if_absent(replace(first, name="new"))
    with work.verb("add_schedule of a name that is taken"):
        assert not await store.schedules.add_if_absent(replace(first, op="other"))
    with work.verb("get_schedule"):
        await store.schedules.get(middle)
    with work.verb("change_schedule"):
        assert await store.schedules.change_if_same(replace(first, paused=True))
    with work.verb("list_schedules"):
        await store.schedules.list(after=middle, limit=_PAGE)
    with work.verb("list_due_schedules, none due"):
        assert [one async for one in store.schedules.list_due(filled.begin)] == []
    early = filled.begin + 365 * 86_400_000_000 + 20 * STEP
    with work.verb("list_due_schedules, some due"):
        assert [one async for one in store.schedules.list_due(early)] != []
    with work.verb("next_schedule"):
        assert await store.schedules.find_next(early) is not None
    with work.verb("remove_schedule"):
        await store.schedules.remove("new")
    with work.verb("who fires"):
        assert await store.schedules.acquire_firing("me", early, 60)
        await store.schedules.resign_firing("me")


async def _walk_messages(store: TaskStore, work: Work, filled: Filled) -> None:
    """Beside a message of each task, and a task that has as many as the store is big."""
    task, _ = await store.create(NewTask(new_task_id(), "op5"))
    claim = await store.claim_if_pending(task, "me", 60)
    assert claim is not None
    for name, task_id in (("", task.task_id), (" to a long inbox", filled.long)):
        with work.verb(f"send_message{name}"):
            await store.messages.send(task_id, 1, key="new")
        with work.verb(f"send_message{name}, again"):
            await store.messages.send(task_id, 1, key="new")
        with work.verb(f"read_inbox{name}"):
            page = await store.messages.read(task_id, after=filled.rows // 8, limit=_PAGE)
            assert len(page.messages) == (_PAGE if name else 0)
    (message,) = (await store.messages.read(task.task_id)).messages
    with work.verb("append of a message that is taken"):
        await store.append(claim.attempt, [MessageTaken(message, 1)])
    await store.messages.send(task.task_id, 2)
    with work.verb("find_untaken"):
        assert await store.backend.find_untaken([task.task_id, *_ABSENT_IDS])
    with work.verb("finish with a message that was not taken"):
        await store.finish_if_running(claim.attempt, FinalEvent.succeeded())


async def _walk_maintenance(store: TaskStore, work: Work, filled: Filled) -> None:
    rows = filled.rows
    for name, after in (("the start", 0), ("the middle", rows // 2), ("the end", rows - 50)):
        with work.verb(f"audit at {name}"):
            await store.maintenance.audit(after=after, limit=50)
    for name, after in (("the start", 0), ("the end", rows - 50)):
        with work.verb(f"find_open from {name}"):
            await store.maintenance.find_open(after=after, among=[rows, rows - 1], limit=_PAGE)
    for key in FAULTY:
        with work.verb(f"repair of task {key}"):
            await store.backend.repair(filled.task_id(key), 0, "me", False)
    with work.verb("read_repairs"):
        await store.maintenance.read_repairs(after=rows // 2, limit=_PAGE)
    for name, op in (("all", None), ("an op", "op5")):
        with work.verb(f"prune of {name}"):
            pages = store.maintenance.prune_pages(older_than=_DAY, limit=_PAGE, op=op)
            await anext(pages)
            await pages.aclose()
    with work.verb("prune of late events"):
        pages = store.maintenance.prune_quarantine_pages(older_than=_DAY, limit=_PAGE)
        await anext(pages)
        await pages.aclose()
    with work.verb("prune of late events of unknown tasks"):
        await store.backend.delete_drops([rows + 1, rows + 2])
    with work.verb("leadership"):
        await store.leadership.acquire("me", 60)
        for job in get_args(MaintenanceJob):
            await store.leadership.record_job("me", job)
        await store.leadership.resign("me")
    with work.verb("probe"):
        await store.probe()
    with work.verb("measure_size"):
        await store.measure_size()
    with work.verb("schema_versions"), suppress(StoreConfigError):
        await store.maintenance.schema_versions()

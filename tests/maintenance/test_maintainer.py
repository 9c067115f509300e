"""The maintenance: the online audit and the retention, by the leader among the managers."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from itertools import pairwise

import pytest

from tapescope import (
    BadOp,
    BadSetting,
    NewEvent,
    NewTask,
    Outcome,
    Retention,
    TaskManager,
    TaskStatus,
    find_store,
)
from tapescope.maintenance.maintainer import Maintainer
from tapescope.model.audit import AuditPage
from tapescope.model.leadership import LeaderTerm
from tapescope.model.tasks import Attempt, ErrorInfo, FinalEvent
from tapescope.store.flush import StoreAway
from tapescope.store.port import TaskStore
from tapescope.store.validation import new_task_id
from tapescope.testing import MemoryBackend, MemoryStore, until
from tests.support.captured_telemetry import CapturedTelemetry
from tests.support.virtual_time import VirtualClock, in_virtual_time

MINUTE = 60.5
CHECKED = "tapescope.tape.audit.checked"
VIOLATIONS = "tapescope.tape.audit.violations"
SUCCESS = "tapescope.tape.audit.last_success.timestamp"


async def _nothing() -> None:
    pass


class WatchedBackend(MemoryBackend):
    """A memory backend that says it outlives its process, and notes the audited tasks."""

    def __init__(self) -> None:
        super().__init__()
        self.pages: list[list[int]] = []
        """The keys of each page that was audited."""
        self.before_page: Callable[[], Awaitable[None]] = _nothing

    @property
    def outlives_process(self) -> bool:
        """So it is said."""
        return True

    async def audit(self, after: int, limit: int, grace: int) -> AuditPage:
        await self.before_page()
        page = await super().audit(after, limit, grace)
        keys = sorted(key for key in self.records if key > after)
        self.pages.append(keys[: page.checked])
        return page

    def audited(self) -> list[int]:
        """The keys that were audited since the last time this was asked."""
        keys = [key for page in self.pages for key in page]
        self.pages.clear()
        return keys

    def break_row(self, task_id: str) -> None:
        """Make a task's row say what its tape does not."""
        record = self.find(task_id)
        assert record is not None
        record.task = replace(record.task, status=TaskStatus.CANCELLED)


class WatchedStore(MemoryStore):
    """A store on such a backend, with telemetry of its own."""

    def __init__(self, watched: WatchedBackend | None = None) -> None:
        self.captured = CapturedTelemetry()
        self.watched = watched or WatchedBackend()
        super().__init__(
            clock=VirtualClock(),
            telemetry=self.captured.telemetry,
            patience=0.1,
            backend=self.watched,
        )


@asynccontextmanager
async def maintained(
    store: WatchedStore,
    owner: str = "me",
    *,
    every: float | None = 3_600.0,
    rate: float = 1e9,
    retention: Retention | None = None,
) -> AsyncGenerator[Maintainer]:
    """A maintainer of the store, started and at the end stopped."""
    maintainer = Maintainer(
        store, owner, audit_every=every, rows_per_second=rate, retention=retention
    )
    maintainer.start()
    yield maintainer
    await maintainer.stop()


async def start(store: TaskStore, op: str = "x") -> Attempt:
    """A task that runs."""
    task, _ = await store.create(NewTask(new_task_id(), op))
    claim = await store.claim_if_pending(task, "me", 1e6)
    assert claim is not None
    return claim.attempt


async def make_ended(store: TaskStore, op: str = "x", final: FinalEvent | None = None) -> str:
    """A task of two events that ended."""
    attempt = await start(store, op)
    await store.finish_if_running(attempt, final or FinalEvent.succeeded())
    return attempt.task_id


@in_virtual_time
async def test_whole_store_is_audited_on_schedule() -> None:
    """First when it was never done, a minute after the start; then as often as it is set."""
    async with WatchedStore() as store:
        for _ in range(3):
            await make_ended(store)
        async with maintained(store):
            assert store.captured.points(SUCCESS) == []
            await asyncio.sleep(MINUTE)
            first = store.watched.audited()
            succeeded = store.captured.value(SUCCESS)
            await asyncio.sleep(3_500)
            meanwhile = store.watched.audited()
            await asyncio.sleep(200)
            second = store.watched.audited()

    assert first == second == [1, 2, 3]
    assert meanwhile == []
    assert store.captured.value(CHECKED) == 6
    assert store.captured.value(SUCCESS) > succeeded + 3_500


@in_virtual_time
async def test_tape_is_audited_soon_after_it_closed() -> None:
    """New tapes at the next look; one that was open then, once more when it has ended."""
    async with WatchedStore() as store:
        await make_ended(store)
        long_one = await start(store)
        async with maintained(store):
            await asyncio.sleep(MINUTE)
            store.watched.audited()
            await make_ended(store)
            await asyncio.sleep(MINUTE)
            new = store.watched.audited()
            await store.finish_if_running(long_one, FinalEvent.succeeded())
            await asyncio.sleep(MINUTE)
            ended = store.watched.audited()
            await asyncio.sleep(MINUTE)
            nothing = store.watched.audited()

    assert (new, ended, nothing) == ([3], [2], [])


@in_virtual_time
async def test_closed_tapes_far_apart_are_each_audited() -> None:
    """Of many open tasks those that ended are audited, and only few beside them."""
    async with WatchedStore() as store:
        tasks = [await start(store) for _ in range(300)]
        async with maintained(store):
            await asyncio.sleep(MINUTE)
            store.watched.audited()
            for n in (4, 5, 290):
                await store.finish_if_running(tasks[n], FinalEvent.succeeded())
            await asyncio.sleep(MINUTE)
            audited = store.watched.audited()

    assert audited == [5, 6, 291]


@in_virtual_time
async def test_violation_is_logged_once_and_counted_each_time(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """It is an error in the log when it is found first; the metric says that it is still there."""
    async with WatchedStore() as store:
        task_id = await make_ended(store)
        async with maintained(store, every=600):
            await asyncio.sleep(MINUTE)
            store.watched.break_row(task_id)
            await asyncio.sleep(3 * 660)

    errors = [record for record in caplog.records if record.levelno == logging.ERROR]
    assert [f"outcome_mismatch, task {task_id}" in one.getMessage() for one in errors] == [True]
    assert store.captured.value(VIOLATIONS, audit_rule="outcome_mismatch") == 3


@in_virtual_time
async def test_audit_keeps_to_its_rate() -> None:
    """A thousand tasks of two events, 30 rows a second: so many are audited in that time."""
    async with WatchedStore() as store:
        for _ in range(1_000):
            await make_ended(store)
        async with maintained(store, rate=30):
            await asyncio.sleep(60 + 59)
            under_way = len(store.watched.audited())
            await asyncio.sleep(140)
            the_rest = len(store.watched.audited())

        assert store.captured.points(SUCCESS) != []

    assert under_way == 600  # a page of 200 tasks is 600 rows, 20 seconds
    assert the_rest == 400


@in_virtual_time
async def test_one_of_many_is_the_leader() -> None:
    """The second begins when the first has resigned, and goes by what the first has done."""
    async with WatchedStore() as store:
        await make_ended(store)
        async with maintained(store, "b"):
            async with maintained(store, "a"):
                await asyncio.sleep(MINUTE)
                by_one = store.watched.audited()
                await make_ended(store)
                await asyncio.sleep(MINUTE)
                soon = store.watched.audited()
            await asyncio.sleep(MINUTE)
            taken_over = store.watched.audited()
            await make_ended(store)
            await asyncio.sleep(MINUTE)
            by_other = store.watched.audited()

    assert (by_one, soon) == ([1], [2])
    assert set(taken_over) <= {2}
    assert by_other == [3]


@in_virtual_time
async def test_who_leads_again_leaves_to_the_other_what_it_has_audited() -> None:
    """A leader that was not one in between begins anew."""
    async with WatchedStore() as store, maintained(store, "a"):
        await asyncio.sleep(MINUTE)
        await store.leadership.resign("a")
        await store.leadership.acquire("other", 1_000)
        await make_ended(store)
        await asyncio.sleep(MINUTE)
        await store.leadership.resign("other")
        await asyncio.sleep(MINUTE)
        of_the_other = store.watched.audited()
        await make_ended(store)
        await asyncio.sleep(MINUTE)

    assert of_the_other == []
    assert store.watched.audited() == [2]


@in_virtual_time
async def test_a_silent_leader_loses_its_leadership() -> None:
    """Another process leads once the lease of a silent leader is over, and not before."""
    async with WatchedStore() as store:
        await make_ended(store)
        await store.leadership.acquire("silent", 180)
        async with maintained(store, "b"):
            await asyncio.sleep(2 * MINUTE)
            not_yet = store.watched.audited()
            await asyncio.sleep(2 * MINUTE)
            then = store.watched.audited()

        assert await store.leadership.acquire("silent", 180) is not None

    assert (not_yet, then) == ([], [1])


@in_virtual_time
async def test_store_away_is_warned_of_and_tried_again(caplog: pytest.LogCaptureFixture) -> None:
    """What was not audited for it is audited the next time."""

    async def away() -> None:
        raise StoreAway("it is being restarted")

    async with WatchedStore() as store:
        await make_ended(store)
        async with maintained(store):
            store.watched.before_page = away
            await asyncio.sleep(2 * MINUTE)
            store.watched.before_page = _nothing
            await asyncio.sleep(MINUTE)
            audited = store.watched.audited()

    assert audited == [1]
    assert "The maintenance is tried again in 60 s" in caplog.text


class SlowDeletes(WatchedBackend):
    """A backend whose database takes so many seconds to delete some tasks."""

    def __init__(self, seconds: float) -> None:
        super().__init__()
        self.seconds = seconds
        self.deletes: list[float] = []

    async def delete_tasks(self, keys: Sequence[int], events: int) -> int:
        self.deletes.append(asyncio.get_running_loop().time())
        await asyncio.sleep(self.seconds)
        return await super().delete_tasks(keys, events)


@in_virtual_time
async def test_a_leader_that_prunes_for_long_leads_on() -> None:
    """Its lease is renewed in the midst of a round that outlasts it: nobody else begins one."""
    async with WatchedStore(slow := SlowDeletes(30.0)) as store:
        for _ in range(600):
            await make_ended(store)
        async with maintained(store, every=None, retention=Retention(tasks=0)):
            await asyncio.sleep(380)  # in the third delete of three

            assert await store.leadership.acquire("another", 60) is None
        assert len(slow.deletes) == 3


@in_virtual_time
async def test_a_prune_is_seldom_and_leaves_the_store_to_the_others() -> None:
    """It pauses for four times as long as each delete took, and comes as often as it is set."""
    async with WatchedStore(slow := SlowDeletes(1.0)) as store:
        for _ in range(600):
            await make_ended(store)
        async with maintained(store, every=None, retention=Retention(tasks=0, every=600)):
            await asyncio.sleep(2 * MINUTE)
            first = list(slow.deletes)
            await make_ended(store)
            await asyncio.sleep(5 * MINUTE)
            too_soon = len(slow.deletes) - len(first)
            await asyncio.sleep(10 * MINUTE)
            then = len(slow.deletes) - len(first)

    assert [late - early for early, late in pairwise(first)] == [5, 5]
    assert (too_soon, then) == (0, 1)


@pytest.mark.parametrize("steps", range(0, 40, 3))
def test_stop_ends_it_anywhere(steps: int) -> None:
    """Stopped after any number of steps of the loop it ends, and resigns at once."""

    @in_virtual_time
    async def stop_after() -> None:
        async with WatchedStore() as store:
            for _ in range(600):
                await make_ended(store)
            reached = asyncio.Event()

            async def note() -> None:
                reached.set()

            store.watched.before_page = note
            policy = Retention(tasks=0)
            async with maintained(store, retention=policy, rate=100_000):
                await reached.wait()
                for _ in range(steps):
                    await asyncio.sleep(0.001)

            assert await store.leadership.acquire("another", 60) is not None

    stop_after()


@in_virtual_time
async def test_stop_does_not_wait_for_a_page() -> None:
    """A page that hangs is left."""
    async with WatchedStore() as store:
        await make_ended(store)
        reached = asyncio.Event()

        async def hang() -> None:
            reached.set()
            await asyncio.Event().wait()

        store.watched.before_page = hang
        async with maintained(store) as maintainer:
            await reached.wait()
            await maintainer.stop()

        assert await store.leadership.acquire("another", 60) is not None


class SlowLeadership(WatchedBackend):
    """A backend whose database gives the leadership a second later, also after a cancel."""

    asked = 0

    async def acquire_leadership(self, owner: str, lease: int) -> LeaderTerm | None:
        self.asked += 1
        return await asyncio.shield(asyncio.ensure_future(self._give(owner, lease)))

    async def _give(self, owner: str, lease: int) -> LeaderTerm | None:
        await asyncio.sleep(1)
        return await super().acquire_leadership(owner, lease)


@in_virtual_time
async def test_a_leadership_that_comes_after_the_stop_is_resigned() -> None:
    """Stopped while its request is under way, it waits for the answer in order to resign."""
    async with WatchedStore(slow := SlowLeadership()) as store:
        async with maintained(store):
            await asyncio.sleep(MINUTE)
        asked = slow.asked
        await asyncio.sleep(5)

        assert asked == 1
        assert await store.leadership.acquire("another", 60) is not None


@in_virtual_time
async def test_nothing_is_deleted_unless_it_is_set() -> None:
    """Without a policy what is old stays."""
    async with WatchedStore() as store:
        await make_ended(store)
        async with maintained(store):
            await asyncio.sleep(1e5)

        assert len((await store.list()).tasks) == 1


@in_virtual_time
async def test_retention_goes_by_age_outcome_and_op() -> None:
    """A task goes when one of the ages that apply to it is over; late events by their own."""
    async with WatchedStore() as store:
        kept = await make_ended(store)
        failed = await make_ended(store, final=FinalEvent.failed(ErrorInfo("boom")))
        await make_ended(store, "ping")
        running = await start(store, "ping")
        await store.append(Attempt(new_task_id(), 1, "me"), [NewEvent("log", "whose?")])
        policy = Retention(
            tasks=30_000,
            outcomes={Outcome.FAILED: 20_000},
            ops={"ping": 100},
            quarantine=25_000,
            every=600,
        )

        async def alive() -> set[str]:
            return {task.task_id for task in (await store.list()).tasks}

        async with maintained(store, every=None, retention=policy):
            await asyncio.sleep(1_000)
            by_op = await alive()
            await asyncio.sleep(20_000)
            by_outcome = await alive(), len((await store.read_quarantine()).drops)
            await asyncio.sleep(5_000)
            late = len((await store.read_quarantine()).drops)
            await asyncio.sleep(5_000)
            by_age = await alive()

    assert by_op == {kept, failed, running.task_id}
    assert by_outcome == ({kept, running.task_id}, 1)
    assert late == 0
    assert by_age == {running.task_id}
    assert store.watched.pages == []


@pytest.mark.parametrize(
    ("settings", "error"),
    [
        ({}, BadSetting),
        ({"tasks": -1.0}, BadSetting),
        ({"tasks": float("nan")}, BadSetting),
        ({"quarantine": -0.5}, BadSetting),
        ({"tasks": 1.0, "every": 0.0}, BadSetting),
        ({"ops": {"No Op": 1.0}}, BadOp),
        ({"outcomes": {"perhaps": 1.0}}, BadSetting),
    ],
)
def test_bad_retention_is_refused(settings: dict[str, float], error: type[Exception]) -> None:
    """A policy that says nothing, or nonsense, is an error when it is made."""
    with pytest.raises(error):
        Retention(**settings)  # type: ignore[arg-type]  # what is refused


@pytest.mark.parametrize("setting", ["audit_every", "audit_rate"])
@pytest.mark.parametrize("value", [0, -1, float("nan"), float("inf")])
def test_bad_audit_settings_are_refused(setting: str, value: float) -> None:
    """A schedule or a rate of nothing is an error when the manager is made."""
    with pytest.raises(BadSetting, match=setting):
        TaskManager("sqlite:///:memory:", **{setting: value})  # type: ignore[arg-type]  # refused


@pytest.mark.parametrize("stores", ["one of its own", "one handed in", "another"])
async def test_manager_maintains_its_store(
    store_url: str, stores: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It audits and prunes while it is open; closed, it has resigned.

    Also on a store that replaced its own before it was opened, as ``tapescope worker`` does.
    """
    monkeypatch.setattr("tapescope.maintenance.maintainer._EVERY", 0.01)
    async with find_store(store_url) as store:
        await make_ended(store)
        policy = Retention(tasks=0, every=0.001)
        if stores == "another":
            manager = TaskManager("sqlite:///:memory:", retention=policy)
            manager.reconfigure(store=store_url)
        else:
            given = store if stores == "one handed in" else store_url
            manager = TaskManager(given, retention=policy)
        async with manager:
            await until(lambda: is_empty(store))
            await make_ended(store)
            await until(lambda: is_empty(store))

            assert await store.leadership.acquire("another", 60) is None

        term = await store.leadership.acquire("another", 60)

    assert term is not None
    assert term.audited_at > 0
    assert term.pruned_at > 0


async def test_stop_resigns_on_a_real_store(
    store_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Stopped at forty points of its work, it is never the leader afterwards."""
    monkeypatch.setattr("tapescope.maintenance.maintainer._EVERY", 0.0)
    async with find_store(store_url) as store, find_store(store_url) as other:
        free = 0
        for n in range(40):
            await make_ended(store)
            maintainer = Maintainer(
                store,
                "me",
                audit_every=1e-6,
                rows_per_second=1e9,
                retention=Retention(tasks=1e-6, every=1e-6),
            )
            maintainer.start()
            for _ in range(n * 2):
                await asyncio.sleep(0)
            await maintainer.stop()
            free += await other.leadership.acquire("another", 60) is not None
            await other.leadership.resign("another")

        assert (await store.maintenance.audit()).violations == ()

    assert free == 40


async def is_empty(store: TaskStore) -> bool:
    """Whether there is no task."""
    return not (await store.list()).tasks

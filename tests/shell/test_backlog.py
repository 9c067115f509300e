"""What a command's task is told: every event once and in order, whatever becomes of the store."""

from __future__ import annotations

import asyncio
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import cast

import pytest

from tapescope import Reporter, TapescopeError
from tapescope.errors import BadSpool, EventFateUnknown
from tapescope.model.answers import Appended
from tapescope.model.tape import Event, NewEvent, TapePage
from tapescope.model.tasks import ErrorInfo, FinalEvent, NewTask
from tapescope.run.keeper import RedactedBody
from tapescope.shell.backlog import Backlog
from tapescope.shell.replay import Replayed, replay
from tapescope.spool import SpooledEvent, SpooledTask, find_spools, read_spool, spooled_by
from tapescope.store import TaskStore
from tapescope.store.flush import FateUnknown, StoreAway
from tapescope.store.lookup import find_store
from tapescope.store.validation import StoreLimits, new_task_id
from tests.support.memory_stores import FaultyStore, at_rest
from tests.support.outages import Outage, managing
from tests.support.virtual_time import in_virtual_time

OWNER = "here:1:0:aa"


def event(n: int) -> SpooledEvent:
    """The n-th line; every third says the same as the one before it."""
    return SpooledEvent("log", 1_000_000 * n, {"line": str(n - (n % 3 == 2))})


def fail(_: SpooledEvent, error: TapescopeError) -> None:
    """No event of these tests is refused."""
    raise error


async def lines_of(store: TaskStore, task_id: str) -> list[str]:
    """The lines on a tape."""
    page = await store.read_tape(task_id, limit=10_000)
    return [one.body["line"] for one in page.events if one.type == "log"]


@in_virtual_time
@pytest.mark.parametrize("error", [StoreAway, FateUnknown])
@pytest.mark.parametrize("in_memory", [100, 1_000_000])
async def test_an_outage_costs_no_event_and_no_order(
    error: type[Exception], in_memory: int
) -> None:
    """A store away for a minute, or whose answers are lost: each event is there once, in order."""
    outage = Outage(error)

    async def work(report: Reporter) -> None:
        backlog = Backlog(fail, in_memory=in_memory)
        for n in range(300):
            backlog.put(event(n))
        backlog.attach(report)
        outage.on = True
        asyncio.get_running_loop().call_later(60, setattr, outage, "on", False)
        for n in range(300, 1_500):
            await backlog.make_room()
            backlog.put(event(n))
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(4):  # less than the store's patience
                await backlog.settle()
        await backlog.settle()
        await backlog.detach()
        assert list(backlog.remaining()) == []
        backlog.close()

    async with at_rest(FaultyStore(patience=5)) as store:
        if error is StoreAway:
            store.faults.before = outage
        else:
            store.faults.after = outage
        async with managing(store, lease=86_400, heartbeat=3_600) as (manager, _):
            task = await manager.submit("work", work)
            await task.result()

        assert await lines_of(store, task.task_id) == [event(n).body["line"] for n in range(1_500)]


class OneUnknown:
    """A report that gets both answers at once, the first one of an unknown fate; all is stored."""

    def __init__(self) -> None:
        self.tape: list[Event] = []

    def emit_nowait(self, type: str, body: RedactedBody) -> asyncio.Future[Appended]:
        """Store it, and answer."""
        seq = len(self.tape) + 1
        self.tape.append(Event(seq, type, seq, 1, body.value))
        answer: asyncio.Future[Appended] = asyncio.get_running_loop().create_future()
        if seq == 1:
            answer.set_exception(EventFateUnknown(1))
        else:
            answer.set_result(Appended(range(seq, seq + 1), None, seq))
        return answer

    async def read_tape(self, *, after_seq: int = 0) -> TapePage:
        """What is there."""
        return TapePage("one", tuple(self.tape[after_seq:]), len(self.tape), None, 0)


async def test_what_is_confirmed_after_a_doubt_hides_it_from_nobody() -> None:
    """An event of unknown fate is looked for where it may be, and is not sent again."""
    report = OneUnknown()
    backlog = Backlog(fail)
    backlog.put(event(0))
    backlog.put(event(1))
    backlog.attach(cast("Reporter", report))
    await backlog.settle()
    await backlog.detach()
    backlog.close()

    assert [one.body["line"] for one in report.tape] == ["0", "1"]
    assert backlog.confirmed == 2


@in_virtual_time
async def test_a_store_that_keeps_up_holds_back_who_says_too_much() -> None:
    """Who asks for room waits until fewer events wait than are with the store at once."""
    room: list[bool] = []

    async def work(report: Reporter) -> None:
        backlog = Backlog(fail)
        for n in range(1_200):
            backlog.put(event(n))
        backlog.attach(report)
        await asyncio.sleep(0)
        room.append(not backlog.full)
        await backlog.make_room()
        room.append(not backlog.full)
        await backlog.settle()
        await backlog.detach()
        backlog.close()

    async with at_rest(FaultyStore()) as store, managing(store) as (manager, _):
        await (await manager.submit("work", work)).result()

    assert room == [False, True]


@in_virtual_time
async def test_a_store_that_is_away_holds_nobody_back() -> None:
    """Who asks for room waits a second for an answer that does not come, however much waits."""
    outage = Outage(StoreAway)
    waited: list[float] = []

    async def work(report: Reporter) -> None:
        backlog = Backlog(fail)
        for n in range(1_200):
            backlog.put(event(n))
        outage.on = True
        backlog.attach(report)
        loop = asyncio.get_running_loop()
        loop.call_later(60, setattr, outage, "on", False)
        await asyncio.sleep(0)
        begun = loop.time()
        await backlog.make_room()
        waited.append(loop.time() - begun)
        await backlog.settle()
        await backlog.detach()
        backlog.close()

    async with at_rest(FaultyStore(patience=20)) as store:
        store.faults.before = outage
        async with managing(store, lease=86_400, heartbeat=3_600) as (manager, _):
            await (await manager.submit("work", work)).result()

    assert waited[0] <= 2


def test_what_comes_later_does_not_overtake_what_waits_in_a_file() -> None:
    """Though there is room in memory again."""
    backlog = Backlog(fail, in_memory=1)
    for n in range(3):
        backlog.put(event(n))
    left = backlog.remaining()
    first = next(left)
    backlog.put(event(3))

    assert [first, *left] == [event(n) for n in range(4)]
    backlog.close()


async def test_a_full_disk_costs_what_waits_and_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    """What has no room on our own disk is refused with the reason; what has is kept in order."""
    refused: list[tuple[SpooledEvent, TapescopeError]] = []
    with Path("/dev/full").open("r+b", buffering=0) as full:  # noqa: ASYNC230  # it blocks nothing

        def open_full(buffering: int) -> object:
            return full

        monkeypatch.setattr(tempfile, "TemporaryFile", open_full)
        backlog = Backlog(lambda one, error: refused.append((one, error)), in_memory=1_000)
        for n in range(50):
            backlog.put(event(n))
        kept = list(backlog.remaining())

    assert 0 < len(kept) < 50
    assert [*kept, *(one for one, _ in refused)] == [event(n) for n in range(50)]
    assert "No space left on device" in str(refused[0][1])


@in_virtual_time
async def test_a_full_tape_is_told_for_each_event() -> None:
    """What no tape takes is handed back, with the reason."""
    refused: list[SpooledEvent] = []

    async def work(report: Reporter) -> None:
        backlog = Backlog(lambda one, _: refused.append(one))
        backlog.attach(report)
        for n in range(50):
            backlog.put(event(n))
        await backlog.settle()
        backlog.put(event(50))
        await backlog.detach()

    async with at_rest(FaultyStore(limits=StoreLimits(tape_events=21))) as store:
        async with managing(store) as (manager, _):
            task = await manager.submit("work", work)
            await task.result()
        there = await lines_of(store, task.task_id)

    assert len(there) + len(refused) == 51
    assert refused == [event(n) for n in range(len(there), 51)]


def spooled(task_id: str, attempt: int | None, confirmed: int = 0) -> SpooledTask:
    """A command that said three lines and failed."""
    return SpooledTask(
        store="here",
        task_id=task_id,
        op="shell",
        params={"command": ["sh"]},
        timeout=None,
        idempotency_key=f"run-{task_id}",
        traceparent=None,
        owner=OWNER,
        attempt=attempt,
        confirmed=confirmed,
        events=tuple(event(n) for n in (1, 2, 3)),
        final=FinalEvent.failed(ErrorInfo("tapescope.errors.CommandFailed", "exit status 3")),
        ended_us=4_000_000,
    )


async def open_task(store: TaskStore) -> str:
    """A task whose wrapper had one line stored, and the answer to the second one lost."""
    task, _ = await store.create(NewTask(new_task_id(), "shell"))
    claim = await store.claim_if_pending(task, OWNER, 60)
    assert claim is not None
    await store.append(claim.attempt, [NewEvent("log", {"line": "0"})])
    await store.append(claim.attempt, [NewEvent("log", event(1).body)])
    return task.task_id


@pytest.mark.parametrize("begun", [True, False])
async def test_a_replay_completes_the_tape(store_url: str, begun: bool, tmp_path: Path) -> None:
    """Through the file and back: what is missing is added once, with its time, and the end."""
    async with find_store(store_url) as store:
        task_id = await open_task(store) if begun else new_task_id()
        path = spooled(task_id, 1 if begun else None, 2 if begun else 0).write(tmp_path / "spool")
        first = await replay(store, read_spool(path))
        again = await replay(store, read_spool(path))
        page = await store.read_tape(task_id)
        lines = await lines_of(store, task_id)
        row = await store.get(task_id)

    assert path.stat().st_mode & 0o777 == 0o600
    assert path.parent.stat().st_mode & 0o777 == 0o700
    assert (first, again) == (Replayed(2 if begun else 3, 0, True), Replayed(0, 0, True))
    assert lines == (["0", "1", "1", "3"] if begun else ["1", "1", "3"])
    assert page.events[-2].body["at"] == "1970-01-01T00:00:03.000000Z"
    assert row.error_code == "tapescope.errors.CommandFailed"
    assert page.dropped == 0


async def test_a_replay_after_another_end_is_counted(store_url: str) -> None:
    """A task that was ended meanwhile keeps its end: what comes late is dropped and kept."""
    async with find_store(store_url) as store:
        task_id = await open_task(store)
        await store.leases.rescue_expired(dead_owners=[OWNER])
        told = await replay(store, spooled(task_id, 1, 2))
        page = await store.read_tape(task_id)
        kept = (await store.read_quarantine(task_id)).drops

    assert told == Replayed(0, 3, False)
    assert page.dropped == 3
    assert [one.type for one in kept] == ["log", "log", "final"]


def test_a_torn_file_is_left_as_it_is(tmp_path: Path) -> None:
    """A file that is not whole is an error that names it; the others are found."""
    whole = spooled(new_task_id(), 1).write(tmp_path)
    torn = tmp_path / f"torn.bb.{whole.name.split('.')[2]}.spool"
    torn.write_bytes(whole.read_bytes()[:-20])
    with pytest.raises(BadSpool, match="torn"):
        read_spool(torn)

    assert sorted(find_spools(tmp_path)) == sorted([whole, torn])
    assert spooled_by([OWNER, "here:2:0:cc"], tmp_path) == {OWNER}
    assert find_spools(tmp_path / "none") == []


def test_a_store_reads_its_own_files_alone(tmp_path: Path) -> None:
    """What is kept for a store that never comes back costs no other store's commands anything."""
    ours = spooled(new_task_id(), 1)
    file = ours.write(tmp_path)
    for number in range(3):
        replace(ours, store=f"gone {number}", task_id=new_task_id()).write(tmp_path)

    assert find_spools(tmp_path, ours.store) == [file]
    assert len(find_spools(tmp_path)) == 4

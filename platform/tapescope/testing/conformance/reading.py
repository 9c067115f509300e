"""Lists, counts and pages: newest first, by keyset, with honest limits."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from tapescope.errors import BadSetting
from tapescope.model.tasks import ErrorInfo, FinalEvent, NewTask, TaskStatus
from tapescope.store.port import TaskStore
from tapescope.store.validation import StoreLimits, new_task_id
from tapescope.testing.conformance.suite import Stores, StoreSuite
from tapescope.testing.tasks import create, start


class ReadingConformance(StoreSuite):
    """Lists, counts and pages: newest first, by keyset, with honest limits."""

    async def test_list_pages_newest_first(self, store: TaskStore) -> None:
        """Pages hold every task once, in the order of their ids from the newest on."""
        made = [await create(store) for _ in range(25)]
        pages: list[list[str]] = []
        before: str | None = None
        while True:
            page = await store.list(limit=10, before=before)
            pages.append([task.task_id for task in page.tasks])
            before = page.next
            if before is None:
                break

        assert [len(page) for page in pages] == [10, 10, 5]
        assert [task_id for page in pages for task_id in page] == sorted(made, reverse=True)

    async def test_full_last_page_has_no_next(self, store: TaskStore) -> None:
        """A page that ends exactly with the last task says that there is none after it."""
        for _ in range(4):
            await create(store)

        assert (await store.list(limit=4)).next is None
        assert (await store.list(limit=3)).next is not None

    async def test_list_and_count_by_status_and_op(self, store: TaskStore) -> None:
        """Filters combine, and the counts agree with the lists; every status is counted."""
        pending = await create(store, "resize")
        running = await start(store, "resize")
        failed = await start(store, "resize")
        await store.finish_if_running(failed, FinalEvent.failed(ErrorInfo("E")))
        done = await start(store, "shell")
        await store.finish_if_running(done, FinalEvent.succeeded())
        listed = {
            (status, op): {task.task_id for task in (await store.list(status=status, op=op)).tasks}
            for status in (None, *TaskStatus)
            for op in (None, "resize", "none")
        }
        counts = {op: await store.count(op=op) for op in (None, "resize", "none")}

        assert listed[None, "resize"] == {pending, running.task_id, failed.task_id}
        assert listed[TaskStatus.FAILED, None] == {failed.task_id}
        assert listed[TaskStatus.SUCCEEDED, "resize"] == set()
        for op, by_status in counts.items():
            assert set(by_status) == set(TaskStatus)
            assert all(n == len(listed[status, op]) for status, n in by_status.items())

    async def test_list_by_owner_queue_key_and_time(self, store: TaskStore) -> None:
        """Each condition leaves out what does not meet it, alone and with the others."""
        running = await start(store, "resize")
        keyed, _ = await store.create(
            NewTask(new_task_id(), "resize", idempotency_key="k1", queue="bulk")
        )
        other, _ = await store.create(NewTask(new_task_id(), "scan", idempotency_key="k1"))
        times = {task.task_id: task.created_at for task in (await store.list()).tasks}
        tick = timedelta(microseconds=1)
        second, last = times[keyed.task_id], times[other.task_id]
        asked: list[tuple[dict[str, Any], set[str]]] = [
            ({"owner": running.owner}, {running.task_id}),
            ({"owner": "nobody"}, set()),
            ({"queue": "bulk"}, {keyed.task_id}),
            ({"queue": "default"}, {running.task_id, other.task_id}),
            ({"queue": "bulk", "op": "scan"}, set()),
            ({"idempotency_key": "k1"}, {keyed.task_id, other.task_id}),
            ({"idempotency_key": "k1", "op": "scan"}, {other.task_id}),
            ({"idempotency_key": "k2", "op": "scan"}, set()),
            ({"since": second}, {task_id for task_id, at in times.items() if at >= second}),
            ({"until": second}, {task_id for task_id, at in times.items() if at < second}),
            ({"since": last + tick}, set()),
            ({"since": second, "until": last + tick, "status": TaskStatus.RUNNING}, set()),
            ({"since": second, "op": "scan"}, {other.task_id}),
            ({"since": last + timedelta(days=2)}, set()),
            ({"until": second - timedelta(days=2)}, set()),
        ]

        for conditions, expected in asked:
            found = {task.task_id for task in (await store.list(**conditions)).tasks}
            assert found == expected, conditions

    @pytest.mark.parametrize(
        "conditions",
        [
            {"op": "rare"},
            {"owner": "me"},
            {"queue": "night"},
            {"since": datetime.now(UTC) - timedelta(days=1), "op": "rare"},
            {"status": TaskStatus.PENDING, "op": "rare"},
        ],
        ids=lambda conditions: "+".join(conditions),
    )
    async def test_page_looks_at_so_many_tasks_and_no_more(
        self, stores: Stores, conditions: dict[str, Any]
    ) -> None:
        """What is rare is found in the end; a page on the way may have none, and yet a next."""
        store = await stores.open(limits=StoreLimits(looked_at=4))
        rare, _ = await store.create(NewTask(new_task_id(), "rare", idempotency_key="rare"))
        for _ in range(9):
            await create(store, "common")
        pages = [await store.list(**conditions)]
        while (before := pages[-1].next) is not None:
            pages.append(await store.list(**conditions, before=before))

        assert [len(page.tasks) for page in pages[:2]] == [0, 0]
        found = [task.task_id for page in pages for task in page.tasks]
        assert found == ([] if {"owner", "queue"} & set(conditions) else [rare.task_id])
        assert len(pages) == 3

    async def test_list_shows_tasks_as_get_does(self, store: TaskStore) -> None:
        """A listed task is the whole row."""
        attempt = await start(store)
        await store.request_cancel(attempt.task_id, message="why")
        (listed,) = (await store.list()).tasks

        assert listed == await store.get(attempt.task_id)

    async def test_times_of_a_list_have_a_zone(self, store: TaskStore) -> None:
        """A time without one is refused: nobody knows when it is."""
        for name in ("since", "until"):
            with pytest.raises(BadSetting, match=f"{name}.*time zone"):
                await store.list(**{name: datetime(2026, 1, 31)})  # type: ignore[arg-type]  # noqa: DTZ001  # what is refused

    @pytest.mark.parametrize("limit", [0, -1, 10_001])
    async def test_pages_have_a_sane_size(self, store: TaskStore, limit: int) -> None:
        """A page of no, or of too many, rows is refused by every read."""
        task_id = await create(store)
        for read in (
            store.list(limit=limit),
            store.read_tape(task_id, limit=limit),
            store.read_quarantine(limit=limit),
        ):
            with pytest.raises(BadSetting, match="between 1 and 10,000"):
                await read

    async def test_reads_go_on_beside_writes(self, store: TaskStore) -> None:
        """A reader sees whole transactions only: a terminal row always has its ``final``."""
        attempts = await asyncio.gather(*(start(store) for _ in range(30)))

        async def finish_all() -> None:
            for attempt in attempts:
                await store.finish_if_running(attempt, FinalEvent.succeeded())

        writing = asyncio.ensure_future(finish_all())
        torn = 0
        while not writing.done():
            for task in (await store.list(status=TaskStatus.SUCCEEDED)).tasks:
                page = await store.read_tape(task.task_id)
                torn += page.final_seq != page.last_seq
            await asyncio.sleep(0)
        await writing

        assert torn == 0

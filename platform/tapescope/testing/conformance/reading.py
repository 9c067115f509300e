"""Lists, counts and pages: newest first, by keyset, with honest limits."""

from __future__ import annotations

import asyncio

import pytest

from tapescope.errors import BadSetting
from tapescope.model.tasks import ErrorInfo, FinalEvent, TaskStatus
from tapescope.store.port import TaskStore
from tapescope.testing.conformance.suite import StoreSuite
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

    async def test_list_shows_tasks_as_get_does(self, store: TaskStore) -> None:
        """A listed task is the whole row."""
        attempt = await start(store)
        await store.request_cancel(attempt.task_id, message="why")
        (listed,) = (await store.list()).tasks

        assert listed == await store.get(attempt.task_id)

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

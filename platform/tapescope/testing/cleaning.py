"""A database for tests: emptied before each of them, and never one that others use."""

from __future__ import annotations

from typing import Final

from tapescope.errors import BadSetting
from tapescope.manager.identity import find_dead_owners
from tapescope.model.ops import KnownOp
from tapescope.model.tasks import TaskStatus
from tapescope.store.port import TaskStore
from tapescope.testing.polling import until

__all__ = ["clean_test_store"]

_MARK: Final = "tapescope.test_store"
"""The op that a store for tests has registered: by it an earlier test's tasks are known."""
_PAGE: Final = 1_000


async def clean_test_store(store: TaskStore) -> None:
    """Delete every task and late event of a store that is a test's, before the next test.

    A store is a test's from the first time on that this found it empty. One that has tasks and was
    not seen to be empty before is somebody's data: nothing in it is changed, and ``BadSetting``
    raised. So is one in which a process that lives has a task running.
    """
    counts = await store.count()
    number = sum(counts.values())
    if number and _MARK not in await store.ops.read():
        expected = "a database or schema of its own, for tests alone: delete what is in it, if"
        raise BadSetting(
            "the store for tests",
            f"{store.name} with {number:,} tasks that no test made",
            f"{expected} nobody needs that",
        )
    await store.ops.register([KnownOp(_MARK, None, 0)])
    if number:
        await _end_tasks(store)
        await until(lambda: _is_empty(store))
    await store.maintenance.prune_quarantine(older_than=0)


async def _end_tasks(store: TaskStore) -> None:
    """End what a test that was killed has left."""
    owners = await store.leases.read_owners()
    dead = find_dead_owners(owners, on_one_host=store.on_one_host)
    while await store.leases.rescue_expired(_PAGE, ops={}, dead_owners=dead):
        pass
    before: str | None = None
    while True:
        page = await store.list(status=TaskStatus.RUNNING, limit=1, params=False)
        if page.tasks:
            expected = "one that no other process uses meanwhile: give each its own"
            running = f"{store.name}, where {page.tasks[0].task_id} runs"
            raise BadSetting("the store for tests", running, expected)
        page = await store.list(status=TaskStatus.PENDING, limit=_PAGE, before=before, params=False)
        for task in page.tasks:
            await store.request_cancel(task.task_id, "superseded", "a test has left it", None)
        before = page.next
        if before is None:
            return


async def _is_empty(store: TaskStore) -> bool:
    """Delete the tasks that have ended; whether that were all."""
    # Their age is by the database's clock, which may be a little ahead of this process's.
    await store.maintenance.prune(older_than=0)
    return not sum((await store.count()).values())

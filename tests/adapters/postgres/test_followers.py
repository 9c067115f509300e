"""Children that are to end with their parents, beside rows that another session holds locked."""

from __future__ import annotations

import pytest

from tapescope.model.tasks import NewTask, TaskStatus
from tapescope.store import _cancel_looks
from tapescope.store.validation import new_task_id
from tapescope.testing import until
from tapescope_adapters.postgres import PostgresStore
from tests.support.postgres_sessions import session
from tests.support.workbench import working


async def make_family(store: PostgresStore, children: int) -> list[str]:
    """The children of a parent that has ended as cancelled, to be cancelled with it."""
    parent, _ = await store.create(NewTask(new_task_id(), "parent"))
    made = [
        NewTask(new_task_id(), "child", parent_id=parent.task_id, cancel_with_parent=True)
        for _ in range(children)
    ]
    for one in made:
        await store.create(one)
    await store.request_cancel(parent.task_id)
    return [one.task_id for one in made]


async def test_a_locked_child_holds_up_no_other(
    postgres_url: str, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is passed over within a second, warned of once, and cancelled when it is let go."""
    async with PostgresStore(postgres_url, patience=60) as store, session(postgres_url) as raw:
        held, *others = await make_family(store, 5)
        async with raw.transaction():
            await raw.execute("SELECT FROM tasks WHERE task_id = $1 FOR UPDATE", held)
            counts = [await store.cancel_followers()]
            monkeypatch.setattr(_cancel_looks, "_WAIT", 0.05)
            counts += [await store.cancel_followers() for _ in range(2)]
            monkeypatch.undo()
            ended = [(await store.get(task_id)).status for task_id in others]
            warned = caplog.text.count(f"could not be cancelled with their parents ({held}")
        # A request that was withdrawn may have been sent: it is recorded, and answered to nobody.
        later = [await store.cancel_followers() for _ in range(2)]
        let_go = (await store.get(held)).status

    assert counts == [4, 0, 0]
    assert later in ([1, 0], [0, 0])
    assert let_go is TaskStatus.CANCELLED
    assert ended == [TaskStatus.CANCELLED] * 4
    assert warned == 1


async def test_a_heartbeat_goes_on_beside_a_locked_child(postgres_url: str) -> None:
    """Its later steps are made, and the beats after it cancel what comes then."""
    async with working(postgres_url, heartbeat=0.1, work=False) as bench:
        name = "tapescope.store.operation.duration"

        def probed() -> float:
            return sum(p.value for p in bench.captured.points(name, store_operation="probe"))

        store = bench.store
        assert isinstance(store, PostgresStore)
        async with session(postgres_url) as raw, raw.transaction():
            parent, _ = await store.create(NewTask(new_task_id(), "parent"))
            child = NewTask(
                new_task_id(), "child", parent_id=parent.task_id, cancel_with_parent=True
            )
            await store.create(child)
            await raw.execute("SELECT FROM tasks WHERE task_id = $1 FOR UPDATE", child.task_id)
            await store.request_cancel(parent.task_id)
            before = probed()
            await until(lambda: probed() > before + 1)
            (other,) = await make_family(store, 1)
            await until(lambda: ended(store, other))


async def ended(store: PostgresStore, task_id: str) -> bool:
    """Whether the task has ended as cancelled."""
    return (await store.get(task_id)).status is TaskStatus.CANCELLED

"""What a task belongs to: its tags, and the task whose runner submitted it."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

import pytest

from tapescope.errors import BadSetting
from tapescope.model.tasks import (
    MOST_TAGS,
    CancelReason,
    ErrorInfo,
    FinalEvent,
    NewTask,
    Task,
    TaskStatus,
)
from tapescope.store.port import TaskStore
from tapescope.store.validation import StoreLimits, new_task_id
from tapescope.testing.conformance.suite import Stores, StoreSuite
from tapescope.testing.tasks import LEASE, OWNER, start


class ContextConformance(StoreSuite):
    """What a task belongs to: its tags, and the task whose runner submitted it."""

    async def test_tags_and_parent_are_kept(self, store: TaskStore) -> None:
        """Each tag once, in their order; every reader of the row and every claim has them."""
        parent = (await start(store)).task_id
        tags = ["shop=7", "z:1", "a/b.c@d+e-f", "größe", "shop=7"]
        new = NewTask(new_task_id(), "resize", tags=tags, parent_id=parent)
        made, _ = await store.create(new)
        read = await store.get(new.task_id)
        (listed,) = (await store.list(op="resize")).tasks
        (claim,) = await store.claim_due(OWNER, ["resize"], 1, LEASE)
        await store.finish_if_running(claim.attempt, FinalEvent.failed(ErrorInfo("E")))

        for task in (made, read, listed, claim.task, await store.get(new.task_id)):
            assert (task.tags, task.parent_id) == (
                ("a/b.c@d+e-f", "größe", "shop=7", "z:1"),
                parent,
            )
            assert not task.damage

    async def test_list_and_count_by_tag(self, store: TaskStore) -> None:
        """A tag alone, and with each other condition; what has no such tag is left out."""
        red = await _make(store, "resize", ["red", "both"])
        blue = await _make(store, "resize", ["blue", "both"], key="k1")
        scan = await _make(store, "scan", ["red"])
        await _make(store, "scan", [])
        (claim,) = await store.claim_due(OWNER, ["scan"], 1, LEASE)
        times = {task.task_id: task.created_at for task in (await store.list()).tasks}
        asked: list[tuple[dict[str, Any], list[str]]] = [
            ({"tag": "red"}, [scan, red]),
            ({"tag": "both"}, [blue, red]),
            ({"tag": "re"}, []),
            ({"tag": "RED"}, []),
            ({"tag": "red", "op": "resize"}, [red]),
            ({"tag": "red", "status": TaskStatus.RUNNING}, [claim.task.task_id]),
            ({"tag": "red", "owner": OWNER}, [claim.task.task_id]),
            ({"tag": "both", "idempotency_key": "k1"}, [blue]),
            ({"tag": "red", "idempotency_key": "k1"}, []),
            ({"tag": "both", "since": times[blue]}, [blue]),
            ({"tag": "both", "until": times[blue], "params": False}, [red]),
            ({"tag": "both", "parent_id": red}, []),
        ]

        for conditions, expected in asked:
            found = [task.task_id for task in await _list(store, **conditions)]
            assert found == expected, conditions
        assert _only(await store.count(tag="both")) == {TaskStatus.PENDING: 2}
        assert _only(await store.count(tag="red", op="scan")) == {TaskStatus.RUNNING: 1}
        assert _only(await store.count(tag="green")) == {}

    async def test_tagged_tasks_come_by_pages(self, stores: Stores) -> None:
        """Newest first, each once, of whatever size a page is, and however few are wanted."""
        store = await stores.open(limits=StoreLimits(looked_at=4))
        made = [await _make(store, "ab"[n % 5 == 0], [f"t{n % 2}", "all"]) for n in range(30)]
        newest = made[::-1]

        for limit in (1, 3, 100):
            all_of_them = await _list(store, tag="all", limit=limit)
            assert [task.task_id for task in all_of_them] == newest
        by_half = await _list(store, tag="t0", op="b", limit=2)
        assert [task.task_id for task in by_half] == [made[n] for n in (20, 10, 0)]

    async def test_list_by_parent(self, store: TaskStore) -> None:
        """The children of a task alone, not theirs; with each other condition."""
        parent, other = await _make(store, "a", []), await _make(store, "a", [])
        first = await _make(store, "resize", [], parent=parent)
        second = await _make(store, "scan", ["red"], parent=parent)
        grandchild = await _make(store, "scan", [], parent=first)
        asked: list[tuple[dict[str, Any], list[str]]] = [
            ({"parent_id": parent}, [second, first]),
            ({"parent_id": other}, []),
            ({"parent_id": first}, [grandchild]),
            ({"parent_id": parent, "op": "resize"}, [first]),
            ({"parent_id": parent, "tag": "red"}, [second]),
            ({"parent_id": parent, "status": TaskStatus.PENDING}, [second, first]),
            ({"parent_id": parent, "status": TaskStatus.FAILED}, []),
            ({"parent_id": parent, "limit": 1}, [second, first]),
        ]

        for conditions, expected in asked:
            found = [task.task_id for task in await _list(store, **conditions)]
            assert found == expected, conditions

    async def test_a_key_finds_the_task_with_its_tags(self, store: TaskStore) -> None:
        """The first submit's tags stay: those of the second are no conflict, and change nothing."""
        first = NewTask(new_task_id(), "resize", idempotency_key="k", tags=("red",))
        second = NewTask(new_task_id(), "resize", idempotency_key="k", tags=("blue",))
        made, _ = await store.create(first)
        again, created = await store.create(second)

        assert (again.task_id, again.tags, created) == (made.task_id, ("red",), False)
        assert await _list(store, tag="blue") == []

    async def test_a_deleted_task_leaves_no_tag(self, unrecorded_store: TaskStore) -> None:
        """Retention takes the tags with the task; a child may outlive its parent."""
        store = unrecorded_store
        parent = await _make(store, "old", ["red"])
        child = await _make(store, "resize", ["red"], parent=parent)
        (claim,) = await store.claim_due(OWNER, ["old"], 1, LEASE)
        await store.finish_if_running(claim.attempt, FinalEvent.succeeded())
        assert await store.maintenance.prune(older_than=0) == 1
        (left,) = await _list(store, tag="red")

        assert (left.task_id, left.parent_id) == (child, parent)
        assert _only(await store.count(tag="red")) == {TaskStatus.PENDING: 1}

    async def test_a_child_is_cancelled_after_its_parent(self, store: TaskStore) -> None:
        """Where it is to be: pending or running, with whose cancel that was; the reason stays."""
        parent = await _make(store, "parent", [])
        waits, runs = [
            await _make(store, op, [], parent=parent, follows=True) for op in ("waits", "runs")
        ]
        (claim,) = await store.claim_due(OWNER, ["runs"], 1, LEASE)
        before = await store.cancel_followers()
        await store.request_cancel(parent, CancelReason.SUPERSEDED, "no use", "ann")
        found = await store.cancel_followers()
        again = await store.cancel_followers()
        ended, running = [await store.get(task_id) for task_id in (waits, runs)]
        await store.finish_if_running(claim.attempt, FinalEvent.succeeded())

        assert (before, found, again) == (0, 2, 0)
        assert ended.status is TaskStatus.CANCELLED
        assert running.status is TaskStatus.RUNNING
        for task in (ended, running):
            assert task.cancel is not None
            assert (task.cancel.reason, task.cancel.by) == (CancelReason.SUPERSEDED, "ann")
            assert task.cancel.message == f"its parent {parent} was cancelled: no use"
        assert (await store.get(runs)).status is TaskStatus.SUCCEEDED, "its own end is its own"

    async def test_what_is_not_to_be_cancelled_goes_on(self, store: TaskStore) -> None:
        """A child that was not told to; one whose parent runs on, or ended otherwise, whatever
        was requested of it; one that has ended; what has no parent in the store."""
        cancelled, asked, done = [await _make(store, op, []) for op in ("c", "asked", "done")]
        claims = {op: (await store.claim_due(OWNER, [op], 1, LEASE))[0] for op in ("asked", "done")}
        plain = await _make(store, "child", [], parent=cancelled)
        ended = await _make(store, "ended", [], parent=cancelled, follows=True)
        others = [
            await _make(store, "child", [], parent=parent, follows=True)
            for parent in (asked, done, new_task_id())
        ]
        (last,) = await store.claim_due(OWNER, ["ended"], 1, LEASE)
        await store.finish_if_running(last.attempt, FinalEvent.succeeded())
        for parent in (cancelled, asked, done):
            await store.request_cancel(parent)
        await store.finish_if_running(claims["done"].attempt, FinalEvent.succeeded())

        assert await store.cancel_followers() == 0
        for task_id in (plain, ended, *others):
            assert (await store.get(task_id)).cancel is None
        await store.finish_if_running(claims["asked"].attempt, FinalEvent.succeeded())
        assert await store.cancel_followers() == 0

    async def test_who_dies_in_the_midst_is_followed_by_another(self, stores: Stores) -> None:
        """So many at a time, of many parents, and the children of children after them; one that
        comes when its parent has ended is found as well."""
        store = await stores.open()
        parents = [await _make(store, "parent", []) for _ in range(3)]
        children = [
            await _make(store, "child", [], parent=parent, follows=True)
            for parent in parents
            for _ in range(4)
        ]
        leaf = await _make(store, "leaf", [], parent=children[0], follows=True)
        for parent in parents[:2]:
            await store.request_cancel(parent)
        first = await store.cancel_followers(3)  # and then its process dies
        counts = [await store.cancel_followers(3) for _ in range(3)]
        late = await _make(store, "child", [], parent=parents[0], follows=True)
        counts += [await store.cancel_followers() for _ in range(2)]
        open_ = {task.task_id for task in await _list(store, status=TaskStatus.PENDING)}

        assert first == 3
        assert sum(counts) == 5 + 1 + 1
        assert counts[-1] == 0
        assert open_ == {parents[2], *children[8:]}
        assert (await store.get(leaf)).status is TaskStatus.CANCELLED
        assert (await store.get(late)).status is TaskStatus.CANCELLED

    async def test_looks_go_round_the_parents(self, store: TaskStore) -> None:
        """Many that run, are gone or have ended otherwise cost each look no more than some; one
        that is cancelled is found all the same, the last, and round again the first."""
        first = await _make(store, "parent", [])
        gone = [new_task_id() for _ in range(22)]
        last = await _make(store, "parent", [])
        children = [
            await _make(store, "child", [], parent=parent, follows=True)
            for parent in (first, *gone, last)
        ]
        found: list[int] = []
        for parent in (last, first):
            await store.request_cancel(parent)
            counts = [await store.cancel_followers(1) for _ in range(4)]
            found.append(sum(counts))
        cancelled = [(await store.get(one)).cancel is not None for one in children]

        assert found == [1, 1]
        assert sum(cancelled) == 2

    async def test_a_long_message_of_the_parents_is_cut(self, store: TaskStore) -> None:
        """So that the child's, which says more, is kept."""
        parent = await _make(store, "parent", [])
        child = await _make(store, "child", [], parent=parent, follows=True)
        await store.request_cancel(parent, message="ü" * 8_192)
        cancel = (await store.cancel_followers(), (await store.get(child)).cancel)

        assert cancel[1] is not None
        assert cancel[1].message.endswith("üü")
        assert 16_380 < len(cancel[1].message.encode()) <= 16_384

    @pytest.mark.parametrize(
        "tags",
        [
            "red",
            ["two words"],
            ["a,b"],
            [""],
            ["-x"],
            ["x" * 65],
            ["nul\0"],
            [7],
            7,
            {"red": 1},
            [f"t{n}" for n in range(MOST_TAGS + 1)],
        ],
        ids=repr,
    )
    async def test_bad_tags_are_refused(self, store: TaskStore, tags: Any) -> None:
        """By a text that says what a tag is; nothing is written."""
        with pytest.raises(BadSetting, match=r"tags.*(tag|list of texts|letters)"):
            await store.create(NewTask(new_task_id(), "resize", tags=tags))
        with pytest.raises(BadSetting, match=r"tag.*letters"):
            await store.list(tag="two words")
        with pytest.raises(BadSetting, match=r"parent_id.*UUID"):
            await store.list(parent_id="none")

        assert (await store.list()).tasks == ()

    async def test_the_most_tags_are_kept(self, store: TaskStore) -> None:
        """As many, and as long, as are let in: each leads to the task."""
        tags = {f"{n}" + "ü" * 63 for n in range(MOST_TAGS)}
        made = await _make(store, "resize", tags)

        for tag in tags:
            assert [task.task_id for task in await _list(store, tag=tag)] == [made]


async def _make(
    store: TaskStore,
    op: str,
    tags: Collection[str],
    *,
    key: str | None = None,
    parent: str | None = None,
    follows: bool = False,
) -> str:
    new = NewTask(
        new_task_id(),
        op,
        idempotency_key=key,
        tags=list(tags),
        parent_id=parent,
        cancel_with_parent=follows,
    )
    return (await store.create(new))[0].task_id


async def _list(store: TaskStore, **conditions: Any) -> list[Task]:
    """All of them, of as many pages as there are."""
    found: list[Task] = []
    page = await store.list(**conditions)
    while True:
        found += page.tasks
        if page.next is None:
            return found
        page = await store.list(**conditions, before=page.next)


def _only(counts: Any) -> dict[TaskStatus, int]:
    return {status: n for status, n in counts.items() if n}

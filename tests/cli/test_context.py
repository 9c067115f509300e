"""Tags and parents on the command line: said by a submit, shown, and looked for."""

from __future__ import annotations

import asyncio
from typing import Any

from tapescope import TaskManager, find_store
from tapescope.model.tasks import NewTask
from tapescope.model.wording import shorten_id
from tapescope.store.validation import new_task_id
from tests.cli.command import Tapescope


def submit(tapescope: Tapescope, *options: str) -> str:
    """The id of a new task."""
    return tapescope.here("submit", "resize", *options).stdout.decode().strip()


def test_tags_are_said_shown_and_looked_for(tapescope: Tapescope) -> None:
    """On the row, as a person and a program read it; lists and bulk acts go by a tag."""
    both = submit(tapescope, "--tag", "red", "--tag", "customer:7")
    red = submit(tapescope, "--tag", "red")
    plain = submit(tapescope)
    shown = tapescope.here("show", both).stdout.decode()
    bare = tapescope.here("show", plain).stdout.decode()
    listed = tapescope.json("list", "--tag", "red")["tasks"]
    refused = tapescope.here("submit", "resize", "--tag", "two words")
    cancelled = tapescope.here("cancel", "--tag", "customer:7", "--yes")
    after = {task["task_id"]: task["status"] for task in tapescope.json("list")["tasks"]}

    assert [line.split()[1:] for line in shown.splitlines() if line.startswith("tags")] == [
        ["customer:7,", "red"]
    ]
    assert "tags" not in bare
    assert "parent_id" not in bare
    assert [task["task_id"] for task in listed] == [red, both]
    assert listed[1]["tags"] == ["customer:7", "red"]
    assert refused.returncode == 1
    assert "1 to 64 letters" in refused.stderr.decode()
    assert cancelled.returncode == 0
    assert after == {both: "cancelled", red: "pending", plain: "pending"}


def test_children_are_looked_for_by_their_parent(tapescope: Tapescope) -> None:
    """Named by its whole id or its short one; what is no task is told."""
    parent = submit(tapescope)

    async def make() -> str:
        child = NewTask(new_task_id(), "scan", parent_id=parent)
        async with find_store(tapescope.store) as store, TaskManager(store, work=False):
            await store.create(child)
        return child.task_id

    child = asyncio.run(make())
    short = shorten_id(parent)
    listed = [tapescope.json("list", "--parent", named)["tasks"] for named in (parent, short)]
    shown = tapescope.json("show", child)
    unknown = tapescope.here("list", "--parent", new_task_id()[:8] + "-0000")

    assert [[task["task_id"] for task in tasks] for tasks in listed] == [[child], [child]]
    assert (shown["parent_id"], shown["tags"]) == (parent, [])
    assert unknown.returncode != 0


def test_a_tree_has_the_children_and_theirs(tapescope: Tapescope) -> None:
    """The oldest first, each below its parent; no more than are looked at well."""
    top = submit(tapescope)

    async def make() -> list[str]:
        made: list[str] = []
        async with find_store(tapescope.store) as store:
            for parent in (top, top, None):
                new = NewTask(new_task_id(), "scan", parent_id=parent or made[0])
                made.append((await store.create(new))[0].task_id)
        return made

    async def make_many() -> None:
        async with find_store(tapescope.store) as store:
            news = [NewTask(new_task_id(), "many", parent_id=top) for _ in range(200)]
            await asyncio.gather(*(store.create(new) for new in news))

    first, second, below = asyncio.run(make())
    shown = tapescope.here("show", top, "--tree").stdout.decode()
    told = tapescope.json("show", top, "--tree")
    bare = tapescope.here("show", below, "--tree").stdout.decode()
    asyncio.run(make_many())
    much = tapescope.json("show", top, "--tree")

    lines = shown.partition("\nchildren\n")[2].splitlines()
    assert [(len(line) - len(line.lstrip()), line.split()[0]) for line in lines] == [
        (2, shorten_id(first)),
        (4, shorten_id(below)),
        (2, shorten_id(second)),
    ]
    leaf: dict[str, Any] = {"task_id": below, "op": "scan", "status": "pending", "children": []}
    assert told["children"][0]["children"] == [leaf]
    assert told["more_children"] is False
    assert bare.endswith("\nno children\n")
    assert len(much["children"]) == 200
    assert much["more_children"] is True
    assert "children" not in tapescope.json("show", top)

"""Pages of tasks that no single index has: with a text in them, or of several statuses."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable, Sequence
from typing import Final

from tapescope.errors import BadSetting
from tapescope.model.tasks import Task, TaskPage

__all__ = ["LOOKED", "find_text", "merge_pages"]

LOOKED: Final = 2_000
"""Tasks that one page looks through."""
_CHUNK: Final = 200
"""Tasks that are read at once: each may have 256 KiB of params."""
_LONGEST: Final = 200


def merge_pages(pages: Sequence[TaskPage], limit: int) -> TaskPage:
    """At most ``limit`` tasks of several lists together, newest first.

    Each page goes on before its ``next``. A task below that of another page is left to the next
    one: there may be others between them.
    """
    reached = max((page.next for page in pages if page.next is not None), default="")
    # One that has moved from list to list meanwhile may be in both.
    found = {task.task_id: task for page in pages for task in page.tasks if task.task_id >= reached}
    tasks = [found[task_id] for task_id in sorted(found, reverse=True)]
    if len(tasks) > limit:
        return TaskPage(tuple(tasks[:limit]), tasks[limit - 1].task_id)
    return TaskPage(tuple(tasks), reached or None)


async def find_text(
    read: Callable[[str | None, int], Awaitable[TaskPage]],
    text: str,
    before: str | None,
    limit: int,
    looked: int = LOOKED,
) -> TaskPage:
    """At most ``limit`` tasks of a list that have the text, in whatever case: in the op, owner,
    keys, tags, params, error code, or the words of a cancel.

    ``read`` gives so many tasks of the list before an id. After ``looked`` tasks the page ends,
    perhaps empty, and has a ``next``. Raises ``BadSetting`` and what ``read`` raises.
    """
    if not text.strip() or len(text) > _LONGEST:
        raise BadSetting("text", text, f"1 to {_LONGEST} characters")
    text = text.casefold()
    found: list[Task] = []
    while True:
        page = await read(before, min(_CHUNK, looked))
        # Beside the loop: params may be large.
        found += await asyncio.to_thread(_sift, page.tasks, text)
        if len(found) > limit:
            return TaskPage(tuple(found[:limit]), found[limit - 1].task_id)
        looked -= len(page.tasks)
        before = page.next
        if before is None or looked <= 0 or not page.tasks:
            return TaskPage(tuple(found), before)


def _sift(tasks: tuple[Task, ...], text: str) -> list[Task]:
    return [task for task in tasks if text in _words_of(task).casefold()]


def _words_of(task: Task) -> str:
    cancel = task.cancel
    parts = (
        task.op,
        task.owner,
        task.idempotency_key,
        task.unique_key,
        task.concurrency_key,
        *task.tags,
        task.error_code,
        None if cancel is None else cancel.message,
        json.dumps(dict(task.params), ensure_ascii=False, default=str) if task.params else None,
    )
    return "\n".join(part for part in parts if part)

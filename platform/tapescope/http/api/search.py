"""Pages of tasks that no single index has: with a text in them, or of several statuses."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable, Sequence
from operator import attrgetter
from typing import Final

from tapescope.errors import BadSetting
from tapescope.http.api.visible import find_visible
from tapescope.model.tasks import Task, TaskPage

__all__ = ["LOOKED", "find_tasks", "merge_pages"]

LOOKED: Final = 2_000
"""Tasks that one page looks through."""
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


async def find_tasks(
    read: Callable[[str | None, int], Awaitable[TaskPage]],
    before: str | None,
    limit: int,
    *,
    text: str | None = None,
    sees: Callable[[Task], bool] = lambda _: True,
) -> TaskPage:
    """At most ``limit`` tasks of a list that the caller ``sees``, and that have the text, in
    whatever case: in the op, owner, keys, tags, params, error code, or the words of a cancel.

    ``read`` gives so many tasks of the list before an id. After ``LOOKED`` tasks the page ends,
    perhaps empty, and has a ``next``. Raises ``BadSetting`` and what ``read`` raises.
    """
    if text is not None and (not text.strip() or len(text) > _LONGEST):
        raise BadSetting("text", text, f"1 to {_LONGEST} characters")

    async def look(at: str | None, many: int) -> tuple[Sequence[Task], str | None]:
        page = await read(at, many)
        if text is None:
            return page.tasks, page.next
        # Beside the loop: params may be large.
        return await asyncio.to_thread(_sift, page.tasks, text.casefold()), page.next

    return TaskPage(*await find_visible(look, sees, attrgetter("task_id"), before, limit, LOOKED))


def _sift(tasks: Sequence[Task], text: str) -> list[Task]:
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

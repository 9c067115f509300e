"""From what a person has of an id to the task: a whole id, the short form, or a beginning."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final, Protocol

if TYPE_CHECKING:
    from tapescope.model.tasks import TaskPage

__all__ = ["find_ids"]


class _Lists(Protocol):
    """A store, or what stands for one."""

    async def list(self, *, before: str | None, limit: int, params: bool) -> TaskPage:
        """A page of tasks, newest first."""
        ...


_HIGHEST: Final = "ffffffff-ffff-ffff-ffff-ffffffffffff"
_SHORTEST: Final = 4
_SHORT: Final = re.compile(r"([0-9a-f]{8}-[0-9a-f]{4})-([0-9a-f]{6})")
"""As ``shorten_id`` makes it. No beginning looks like it: the third group of a UUID has four."""
_PAGE: Final = 100
_MOST_ALIKE: Final = 10_000
"""Tasks of one millisecond that are looked through for a short id."""


async def find_ids(store: _Lists, named: str) -> list[str]:
    """The ids of the tasks that ``named`` stands for, at most two: none where there is no such.

    A whole id stands for itself, whether the store has the task or not.
    """
    text = named.strip().lower()
    if len(text) >= len(_HIGHEST):
        return [text]
    if len(text) < _SHORTEST or not re.fullmatch(r"[0-9a-f-]+", text):
        return []
    short = _SHORT.fullmatch(text)
    if short is None:
        return await _find(store, text, "", 2)
    return await _find(store, short[1], short[2], _PAGE)


async def _find(store: _Lists, head: str, tail: str, limit: int) -> list[str]:
    """At most two ids with this beginning and end: a range of the key, a page at a time.

    Ids are listed downwards, so the first ones are below the highest id with this beginning.
    """
    found: list[str] = []
    before: str | None = head + _HIGHEST[len(head) :]
    for _ in range(_MOST_ALIKE // limit):
        page = await store.list(before=before, limit=limit, params=False)
        alike = [task.task_id for task in page.tasks if task.task_id.startswith(head)]
        found += [task_id for task_id in alike if task_id.endswith(tail)]
        before = page.next
        if len(found) > 1 or len(alike) < limit or before is None:
            break
    return found[:2]

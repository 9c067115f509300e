"""From what a user types of an id to the task: a whole id, the short form, or a beginning."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Final

import click

from tapescope.errors import UnknownTask
from tapescope.store.port import TaskStore

__all__ = ["check_named", "find_task_id"]

_HIGHEST: Final = "ffffffff-ffff-ffff-ffff-ffffffffffff"
_SHORTEST: Final = 4
_SHORT: Final = re.compile(r"([0-9a-f]{8}-[0-9a-f]{4})-([0-9a-f]{6})")
"""As ``shorten_id`` makes it. No beginning looks like it: the third group of a UUID has four."""
_PAGE: Final = 100
_MOST_ALIKE: Final = 10_000
"""Tasks of one millisecond that are looked through for a short id."""


def check_named(task_ids: Sequence[str] | None, *, given: bool) -> None:
    """Tasks are named, or chosen with options: raises a usage error for both, and for neither."""
    if task_ids and given:
        raise click.BadParameter("name tasks or choose them with options, not both")
    if not (task_ids or given):
        raise click.BadParameter("name a task, or choose tasks with options such as --op")


async def find_task_id(store: TaskStore, named: str) -> str:
    """The whole id of the task that ``named`` names.

    Raises ``UnknownTask``, and a usage error where several ids are meant.
    """
    text = named.strip().lower()
    if len(text) >= len(_HIGHEST):
        return text
    if len(text) < _SHORTEST or not re.fullmatch(r"[0-9a-f-]+", text):
        raise UnknownTask(named)
    short = _SHORT.fullmatch(text)
    if short is None:
        ids = await _find(store, text, "", 2)
    else:
        ids = await _find(store, short[1], short[2], _PAGE)
    if not ids:
        raise UnknownTask(named)
    if len(ids) > 1:
        raise click.BadParameter(
            f"{named!r} stands for {ids[0]}, {ids[1]} and perhaps more", param_hint="TASK_ID"
        )
    return ids[0]


async def _find(store: TaskStore, head: str, tail: str, limit: int) -> list[str]:
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

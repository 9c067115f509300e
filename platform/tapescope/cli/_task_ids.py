"""From what a user types of an id to the task, and usage errors where it is not one task."""

from __future__ import annotations

from collections.abc import Sequence

import click

from tapescope.cli._source import Source
from tapescope.errors import UnknownTask
from tapescope.store.short_ids import find_ids

__all__ = ["check_named", "find_task_id"]


def check_named(task_ids: Sequence[str] | None, *, given: bool) -> None:
    """Tasks are named, or chosen with options: raises a usage error for both, and for neither."""
    if task_ids and given:
        raise click.BadParameter("name tasks or choose them with options, not both")
    if not (task_ids or given):
        raise click.BadParameter("name a task, or choose tasks with options such as --op")


async def find_task_id(source: Source, named: str) -> str:
    """The whole id of the task that ``named`` names.

    Raises ``UnknownTask``, and a usage error where several ids are meant.
    """
    ids = await find_ids(source, named)
    if not ids:
        raise UnknownTask(named)
    if len(ids) > 1:
        raise click.BadParameter(
            f"{named!r} stands for {ids[0]}, {ids[1]} and perhaps more", param_hint="TASK_ID"
        )
    return ids[0]

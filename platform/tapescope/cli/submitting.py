"""``tapescope submit`` and ``tapescope retry``: tasks by name, for the workers of a store."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import datetime
from typing import Any, cast

import typer

from tapescope.cli.output import print_json, print_line, say
from tapescope.cli.tasks import find_task_id, open_store
from tapescope.codec import decode
from tapescope.errors import BadParams, TaskCancelled, TaskFailed
from tapescope.manager.handle import TaskHandle
from tapescope.manager.manager import TaskManager
from tapescope.manager.submission import Submission
from tapescope.store.port import TaskStore

__all__ = ["Waiting", "parse_params", "parse_time", "retry_task", "submit_task"]

EXIT_NOT_SUCCEEDED = 1
"""With ``--wait``: the task ended, and not well."""


@dataclass(frozen=True, slots=True)
class Waiting:
    """What is printed of a task that was submitted."""

    wait: bool
    as_json: bool


def parse_params(text: str) -> dict[str, Any]:
    """The params of a task from their JSON text. Raises ``BadParams``."""
    try:
        params: object = decode(text)
    except ValueError as error:
        raise BadParams(f"--params is no JSON ({error})") from error
    if not isinstance(params, dict):
        raise BadParams('--params must be an object, as in \'{"folder": "photos"}\'')
    return cast("dict[str, Any]", params)


def parse_time(text: str) -> datetime:
    """An aware time from its RFC 3339 text. Raises a usage error."""
    try:
        at = datetime.fromisoformat(text)
    except ValueError:
        at = None
    if at is None or at.tzinfo is None:
        raise typer.BadParameter(
            f"{text!r} is no time with its zone: write 2026-01-31T12:00:00Z", param_hint="--run-at"
        )
    return at


def submit_task(url: str, submission: Submission, waiting: Waiting) -> int:
    """Submit by name and print the task's id; gives the exit status."""

    async def submit() -> int:
        async with _opened(url) as (store, manager):
            (handle,) = await manager.submit_many([submission])
            if submission.op not in await store.ops.read():
                say(f"no worker of this store has registered {submission.op!r} yet; it waits")
            return await _tell(handle, waiting)

    return asyncio.run(submit())


def retry_task(url: str, given: str, waiting: Waiting) -> int:
    """Submit again what has ended and print the new id; gives the exit status.

    Raises ``UnknownTask``, ``TaskNotEnded``, ``OpNotRegistered``.
    """

    async def retry() -> int:
        async with _opened(url) as (store, manager):
            return await _tell(await manager.resubmit(await find_task_id(store, given)), waiting)

    return asyncio.run(retry())


@asynccontextmanager
async def _opened(url: str) -> AsyncGenerator[tuple[TaskStore, TaskManager]]:
    async with open_store(url) as store, TaskManager(store, work=False) as manager:
        yield store, manager


async def _tell(handle: TaskHandle, waiting: Waiting) -> int:
    if not waiting.as_json:
        print_line(handle.task_id)
    told: dict[str, Any] = {"task_id": handle.task_id}
    status = 0
    if waiting.wait:
        try:
            result = await handle.result()
            told["result"] = result
            if not waiting.as_json:
                print_json(result)
        except (TaskFailed, TaskCancelled) as end:
            say(str(end))
            status = EXIT_NOT_SUCCEEDED
    if waiting.as_json:
        row = await handle.status()
        print_json(
            {"task_id": row.task_id, "op": row.op, "status": row.status.value}
            | told
            | ({"error_code": row.error_code} if waiting.wait else {})
        )
    return status

"""The demo's tasks from their submit to their end, shown on a board."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from contextlib import aclosing, suppress
from typing import Final, Protocol

from tapescope.demo.workload import FileSet, Job, plan_jobs, walk
from tapescope.manager.handle import TaskHandle
from tapescope.manager.manager import TaskManager
from tapescope.model.tape import FINAL, Event
from tapescope.store.port import TaskStore

__all__ = ["Board", "make_manager", "run_endless", "run_jobs"]

_CANCEL_GRACE: Final = 1.0
_MAX_RUNNING: Final = 6
_PACE: Final = 1.5
"""Seconds between two tasks of a demo that goes on."""


class Board(Protocol):
    """Where the tasks are shown while they run."""

    def add(self, task_id: str, title: str) -> None:
        """A task was submitted."""

    def note(self, task_id: str, event: Event) -> None:
        """An event is on the task's tape."""

    def finish(self, task_id: str, outcome: str, message: str) -> None:
        """The task has ended; ``message`` says why, where it did not succeed."""


async def run_jobs(store: TaskStore, file_set: FileSet, board: Board) -> list[str]:
    """Run the demo's jobs on an open store to their end; gives the ids of their tasks."""
    loop = asyncio.get_running_loop()
    thread_ended = asyncio.Event()

    def note_thread_end() -> None:
        with suppress(RuntimeError):  # the demo was interrupted: the loop is closed
            loop.call_soon_threadsafe(thread_ended.set)

    jobs = plan_jobs(file_set, note_thread_end)
    async with make_manager(store) as manager:
        task_ids = await _submit_and_follow(manager, jobs, board)
        await thread_ended.wait()
    return task_ids


def make_manager(store: TaskStore) -> TaskManager:
    """The manager of a demo, to be opened. It has one op, for who submits tasks by name."""
    manager = TaskManager(store, max_running=_MAX_RUNNING, cancel_grace=_CANCEL_GRACE, drain=0.0)
    manager.op("walk")(walk)
    return manager


async def run_endless(manager: TaskManager, file_set: FileSet, pace: float = _PACE) -> None:
    """Submit the demo's jobs to an open manager over and over, ``pace`` seconds apart, until it is
    cancelled; what runs then is left to the manager."""
    followers: set[asyncio.Task[None]] = set()
    try:
        while True:
            await manager.submit("walk", params={"folder": str(file_set.folder)})
            for job in plan_jobs(file_set, lambda: None):
                handle = await _submit(manager, job)
                follower = asyncio.create_task(_follow(handle, job, _Unseen()))
                followers.add(follower)
                follower.add_done_callback(followers.discard)
                await asyncio.sleep(pace)
    finally:
        for follower in followers:
            follower.cancel()
        await asyncio.gather(*followers, return_exceptions=True)  # they are told to end


class _Unseen:
    """A board for tasks that are looked at elsewhere."""

    def add(self, task_id: str, title: str) -> None:
        """Nothing is shown."""

    def note(self, task_id: str, event: Event) -> None:
        """Nothing is shown."""

    def finish(self, task_id: str, outcome: str, message: str) -> None:
        """Nothing is shown."""


async def _submit_and_follow(manager: TaskManager, jobs: Sequence[Job], board: Board) -> list[str]:
    """Submit them all, follow each to its ``final``, and cancel those that are to be cancelled."""
    task_ids: list[str] = []
    followers: list[asyncio.Task[None]] = []
    for job in jobs:
        handle = await _submit(manager, job)
        task_ids.append(handle.task_id)
        board.add(handle.task_id, job.title)
        followers.append(asyncio.create_task(_follow(handle, job, board)))
    await asyncio.gather(*followers)
    return task_ids


async def _submit(manager: TaskManager, job: Job) -> TaskHandle:
    handle = await manager.submit(job.op, job.runner, params=job.params, timeout=job.timeout)
    if job.cancel_at == "submit":
        await handle.cancel(job.cancel_message)
    return handle


async def _follow(handle: TaskHandle, job: Job, board: Board) -> None:
    cancelled = False
    async with aclosing(handle.follow()) as events:
        async for event in events:
            board.note(handle.task_id, event)
            if event.type == job.cancel_at and not cancelled:
                cancelled = True
                await handle.cancel(job.cancel_message)
            if event.type == FINAL:
                body = event.body
                cause = body.get("error") or body.get("cancel") or {"message": ""}
                board.finish(handle.task_id, body["outcome"], cause["message"])

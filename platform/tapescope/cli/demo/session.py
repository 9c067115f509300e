"""The demo from its store to its closing words."""

from __future__ import annotations

import asyncio
import sysconfig
import tempfile
from collections.abc import Sequence
from contextlib import aclosing, suppress
from pathlib import Path
from typing import Final

from tapescope.cli.demo.board import Board, make_board
from tapescope.cli.demo.closing import print_closing
from tapescope.cli.demo.workload import Job, find_files, plan_jobs
from tapescope.cli.output import make_printable, on_terminal, print_line
from tapescope.cli.settings import file_url
from tapescope.errors import BadSetting
from tapescope.manager.handle import TaskHandle
from tapescope.manager.manager import TaskManager
from tapescope.model.tape import FINAL
from tapescope.store.lookup import find_store

__all__ = ["run_demo"]

_CANCEL_GRACE: Final = 1.0
_MAX_RUNNING: Final = 6


def run_demo(*, folder: Path | None, store: str | None) -> int:
    """Run it; 0 when all adds up in the end. Raises ``BadSetting`` for a folder of no use."""
    folder = Path(sysconfig.get_path("stdlib")) if folder is None else folder
    if not folder.is_dir():
        raise BadSetting("--folder", str(folder), "a folder that this user may read")
    url = store or file_url(Path(tempfile.mkdtemp(prefix="tapescope-demo-")) / "tasks.db")
    return asyncio.run(_run(folder, url))


async def _run(folder: Path, url: str) -> int:
    terminal = on_terminal()
    async with find_store(url) as store:
        found = find_files(folder)
        limited = "" if found.complete else " (as many as a demo takes)"
        print_line(
            f"Hashing {len(found.files):,} files of {make_printable(str(folder))}{limited}, "
            f"running commands, failing and cancelling, on {make_printable(store.name)}"
        )
        loop = asyncio.get_running_loop()
        thread_ended = asyncio.Event()

        def note_thread_end() -> None:
            with suppress(RuntimeError):  # the demo was interrupted: the loop is closed
                loop.call_soon_threadsafe(thread_ended.set)

        jobs = plan_jobs(found, note_thread_end)
        with make_board(terminal=terminal) as board:
            async with TaskManager(
                store, max_running=_MAX_RUNNING, cancel_grace=_CANCEL_GRACE, drain=0.0
            ) as manager:
                handles = await _run_jobs(manager, jobs, board)
                await thread_ended.wait()
        return await print_closing(store, url, [handle.task_id for handle in handles])


async def _run_jobs(manager: TaskManager, jobs: Sequence[Job], board: Board) -> list[TaskHandle]:
    """Submit them all, follow each to its ``final``, and cancel those that are to be cancelled."""
    handles: list[TaskHandle] = []
    followers: list[asyncio.Task[None]] = []
    for job in jobs:
        handle = await manager.submit(job.op, job.runner, params=job.params, timeout=job.timeout)
        handles.append(handle)
        board.add(handle.task_id, job.title)
        if job.cancel_at == "submit":
            await handle.cancel(job.cancel_message)
        followers.append(asyncio.create_task(_follow(handle, job, board)))
    await asyncio.gather(*followers)
    return handles


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
                told = body.get("error") or body.get("cancel") or {"message": ""}
                board.finish(handle.task_id, body["outcome"], told["message"])

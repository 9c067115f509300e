"""Puts what a wrapper left in a spool file on the tape of its task."""

from __future__ import annotations

import asyncio
import fcntl
from collections.abc import Awaitable, Generator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Final, NamedTuple

from tapescope.errors import TapescopeError, UnknownTask
from tapescope.model.tape import NewEvent
from tapescope.model.tasks import Attempt, NewTask, TaskStatus
from tapescope.model.times import format_time
from tapescope.shell.backlog import AT, match, read_since
from tapescope.spool import find_spools, read_spool

if TYPE_CHECKING:
    from pathlib import Path

    from tapescope.model.tape import TapePage
    from tapescope.spool import SpooledTask
    from tapescope.store.port import TaskStore

__all__ = ["Replayed", "replay", "replay_spools"]

_LEASE: Final = 3_600.0
"""Seconds that a task which was never claimed is claimed for, until its end is written."""
_BATCH: Final = 500
"""Events of one append."""


class Replayed(NamedTuple):
    """What became of a spool file."""

    stored: int
    """Events that are on the tape by this replay."""
    dropped: int
    """Events that came too late: they are counted and in the quarantine."""
    ended: bool
    """Whether the task has the end that the file says; else it had ended in another way."""


async def replay_spools(
    store: TaskStore, folder: Path
) -> list[tuple[Path, Replayed | TapescopeError]]:
    """Replay the files of this folder that are of this store, and remove those that it has now.

    Says for each what became of it. A file that another process replays just now is left to it.
    """
    told: list[tuple[Path, Replayed | TapescopeError]] = []
    for path in find_spools(folder, store.name):
        with _claimed(path) as mine:
            if not mine:
                continue
            try:
                spooled = await asyncio.to_thread(read_spool, path)
                if spooled.store != store.name:
                    continue
                told.append((path, await replay(store, spooled)))
            except TapescopeError as error:
                told.append((path, error))
            else:
                path.unlink()
    return told


@contextmanager
def _claimed(path: Path) -> Generator[bool]:
    """Whether the file is this process's, inside."""
    try:
        file = path.open("rb")
    except OSError:  # another process has replayed and removed it, or it is not ours to read
        yield False
        return
    with file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            yield False
            return
        yield path.exists()  # else it was removed before the lock was ours


async def replay(store: TaskStore, spooled: SpooledTask) -> Replayed:
    """Put the events and the ``final`` on the tape, each once however often this is called.

    What the tape has already is left out. A task that the store does not know is made first. Each
    event says in its body when it happened (``at``), for it comes late. Raises what the store
    raises; then nothing is lost, and the replay may be made again.
    """
    attempt = await _find_attempt(store, spooled)

    def read(after: int) -> Awaitable[TapePage]:
        return store.read_tape(attempt.task_id, after_seq=after)

    found = await read_since(read, spooled.confirmed)
    missing, _ = match(spooled.events, found, spooled.confirmed)
    stored = dropped = 0
    for first in range(0, len(missing), _BATCH):
        batch = missing[first : first + _BATCH]
        late = [NewEvent(e.type, {**e.body, AT: format_time(e.ts_us)}) for e in batch]
        answer = await store.append(attempt, late)
        stored += len(answer.stored)
        dropped += 0 if answer.dropped is None else len(batch)
    finished = await store.finish_if_running(attempt, spooled.final)
    dropped += finished.dropped is not None
    return Replayed(stored, dropped, finished.won)


async def _find_attempt(store: TaskStore, spooled: SpooledTask) -> Attempt:
    """The attempt that the wrapper had, or would have had."""
    if spooled.attempt is not None:
        return Attempt(spooled.task_id, spooled.attempt, spooled.owner)
    try:
        task = await store.get(spooled.task_id)
    except UnknownTask:
        new = NewTask(
            spooled.task_id,
            spooled.op,
            spooled.params,
            timeout=spooled.timeout,
            idempotency_key=spooled.idempotency_key,
            traceparent=spooled.traceparent,
        )
        task, _ = await store.create(new)
    if task.status is TaskStatus.PENDING:
        claim = await store.claim_if_pending(task, spooled.owner, _LEASE)
        if claim is not None:
            return claim.attempt
        task = await store.get(task.task_id)
    return Attempt(task.task_id, max(task.attempt, 1), spooled.owner)

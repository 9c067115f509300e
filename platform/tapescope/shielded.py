"""Waits for what a task of ours has begun: past a cancel, and past an exit of the process."""

from __future__ import annotations

import asyncio
import contextvars
import sys
from collections.abc import Callable, Coroutine
from contextlib import AbstractContextManager, nullcontext, suppress
from typing import Any, Final, TypeVar

__all__ = [
    "EXITS",
    "Insisting",
    "SharedCall",
    "await_child",
    "begin_insisting",
    "raise_defect",
    "wait_shielded",
]

T = TypeVar("T")

EXITS: Final = (KeyboardInterrupt, SystemExit)
"""What tells the process to end, wherever it stands. asyncio raises it out of the loop, at once."""


def raise_defect(ended: asyncio.Future[None]) -> None:
    """Raise what ended a task that never raises: in its callback, the loop's handler hears of it.

    Not what tells the process to end, which the loop has raised: once more, and what still cleans
    up in the loop would be left as it stands.
    """
    if not ended.cancelled() and not isinstance(ended.exception(), EXITS):
        ended.result()


async def await_child(work: asyncio.Future[T]) -> T:
    """Await a task that the caller has begun, or a shield or a ``gather`` of such.

    Where an exit of the process has ended it, the caller is cancelled: the loop has raised the
    exit, and raised here as well it would end what cleans up after that. ``asyncio.run`` cancels
    the caller, too; where a program runs its loop by hand, nobody else does.
    """
    try:
        return await work
    except EXITS as told:
        if not work.done() or work.cancelled() or work.exception() is not told:
            raise  # it came to this very task
        raise asyncio.CancelledError from None


async def wait_shielded(work: asyncio.Future[Any]) -> None:
    """Wait for the end of ``work``, whatever cancels come; raise nothing.

    For a caller that has been cancelled, and raises its ``CancelledError`` after that. anyio
    cancels a task of a cancelled scope again with each turn of the loop, and keeps the loop from
    sleeping, until the task has left the scope or stands in one that is shielded.
    """
    while not work.done():
        with suppress(asyncio.CancelledError), _shield_from_anyio():  # the caller raises its first
            await asyncio.wait([work])


def begin_insisting(
    work: Callable[[], Coroutine[Any, Any, None]], name: str
) -> asyncio.Future[None]:
    """Do this in a task of its own, with an empty context; gives its end.

    For work that somebody relies on: an end, a cancel, a closing. A framework may cancel every task
    of the loop, and ``asyncio.run`` does. What is cancelled so is begun again, also where that came
    before its first step: the work must bear that.
    """
    ended: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def begin() -> None:
        task = asyncio.get_running_loop().create_task(
            work(), name=name, context=contextvars.Context()
        )
        task.add_done_callback(note_end)

    def note_end(task: asyncio.Task[None]) -> None:
        if task.cancelled() and task.cancelling():  # else what it awaited was, or an exit ended it
            begin()
        elif task.cancelled():
            ended.cancel()
        elif (error := task.exception()) is not None:
            ended.set_exception(error)
        else:
            ended.set_result(None)

    begin()
    return ended


class Insisting:
    """Insisting tasks whose number somebody asks for, and that never raise."""

    def __init__(self, name: str, then: Callable[[], object] = bool) -> None:
        """``name`` is that of each task; ``then`` is called when one has ended."""
        self._name, self._then = name, then
        self._ends = set[asyncio.Future[None]]()

    def begin(self, work: Callable[[], Coroutine[Any, Any, None]]) -> None:
        """See ``begin_insisting``."""
        ended = begin_insisting(work, self._name)
        self._ends.add(ended)
        ended.add_done_callback(self._note_end)

    def __len__(self) -> int:
        return len(self._ends)

    async def ended(self) -> None:
        """Wait until all of them have ended; raise nothing."""
        while self._ends:
            await asyncio.wait(self._ends)

    def _note_end(self, ended: asyncio.Future[None]) -> None:
        self._ends.discard(ended)
        try:
            raise_defect(ended)
        finally:
            self._then()


class SharedCall:
    """A call that is made once for all who ask while it is under way.

    They have its one end, an error too: with a lock in its place each would make the call anew, and
    the last of many wait for the patience of all before it. Of one event loop.
    """

    def __init__(self, name: str) -> None:
        """``name`` is that of its task."""
        self._name = name
        self._call: asyncio.Task[None] | None = None

    async def join(self, work: Callable[[], Coroutine[Any, Any, None]]) -> None:
        """Wait for the call that is under way, or begin it. Who is cancelled takes it from no
        other. Raises what it raises."""
        if self._call is None:
            self._call = asyncio.get_running_loop().create_task(work(), name=self._name)
            self._call.add_done_callback(self._note_end)
        await await_child(asyncio.shield(self._call))

    def _note_end(self, call: asyncio.Task[None]) -> None:
        self._call = None
        if not call.cancelled():
            call.exception()  # those who waited have it, if any are left


def _shield_from_anyio() -> AbstractContextManager[Any]:
    """A shielded scope, where the program uses anyio: tapescope itself does not."""
    scope: Any = getattr(sys.modules.get("anyio"), "CancelScope", None)
    shield: AbstractContextManager[Any] = nullcontext() if scope is None else scope(shield=True)
    return shield

"""What is sent to a task, as its run takes it: one by one, each put on the tape."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Coroutine
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Final, Protocol

from tapescope.errors import StoreClosed
from tapescope.model.messages import Message, MessageTaken
from tapescope.shielded import await_child
from tapescope.store.validation import check_seconds

if TYPE_CHECKING:
    from tapescope.model.tape import NewEvent
    from tapescope.model.tasks import Attempt
    from tapescope.run.keeper import Keeper
    from tapescope.store.notifications import Subscription
    from tapescope.store.port import TaskStore

__all__ = ["Inbox"]

_PAGE: Final = 100


class _Tape(Protocol):
    """What an inbox needs of the writing end of its run's tape."""

    attempt: Attempt
    reporting: int
    reports: int

    async def append_event(self, event: NewEvent) -> int: ...

    def await_stop(self) -> asyncio.Future[None]: ...


class Inbox:
    """The messages of one attempt's task, in the order in which they came; used in the run's loop.

    An attempt is given all of them, from the first one: those that an attempt before it has taken
    come again, and are not put on the tape again. A message is on the tape before the runner has
    it. Whoever stops waiting for one has lost none: the next call gives it.
    """

    __slots__ = ("_given", "_lock", "_offered", "_rows", "_store", "_taking", "_tape")

    def __init__(self, store: TaskStore, tape: _Tape) -> None:
        self._store, self._tape = store, tape
        self._given = 0
        """The last message that the runner was given, of this attempt."""
        self._rows: deque[Message] = deque()
        """Those that follow it, as far as they were read."""
        self._taking: tuple[Message, asyncio.Task[int]] | None = None
        """The message that is being put on the tape, as it is given, and its append."""
        self._offered = 0
        """The last message that this attempt has offered to its tape. If the append failed, and
        the event is there all the same, it is this attempt's: no other one may write."""
        self._lock = asyncio.Lock()

    async def take(self, keeper: Keeper, timeout: float | None) -> Message:  # noqa: ASYNC109  # a limit of this wait
        """The next message, once there is one.

        Raises ``TimeoutError`` after ``timeout`` seconds, and what an append raises.
        """
        limit = None if timeout is None else check_seconds("timeout", timeout)
        self._tape.reporting += 1  # who waits for a message is not silent: a person may be slow
        try:
            async with asyncio.timeout(limit), self._lock:
                given = await self._take_next(keeper)
                self._given = given.n
                return given
        except BaseException:
            self._rows.clear()  # one of them was not given: the next call asks the store
            raise
        finally:
            self._tape.reporting -= 1
            self._tape.reports += 1

    def take_in_thread(
        self,
        keeper: Keeper,
        timeout: float | None,  # as above
    ) -> Coroutine[Any, Any, Message | None]:
        """``take`` for a runner that cannot be interrupted: ``None`` where it is to stop."""
        return self._take_until_stop(keeper, timeout)

    async def _take_until_stop(self, keeper: Keeper, timeout: float | None) -> Message | None:  # noqa: ASYNC109  # as above
        stopped = self._tape.await_stop()
        taking = asyncio.ensure_future(self.take(keeper, timeout))
        try:
            await asyncio.wait((taking, stopped), return_when=asyncio.FIRST_COMPLETED)
        finally:
            if not taking.done():
                taking.cancel()
                await asyncio.wait((taking,))
        return None if taking.cancelled() else taking.result()

    async def _find_next(self) -> Message:
        if (message := await self._look()) is not None:
            return message
        with self._store.changes(self._tape.attempt.task_id) as changes:
            while (message := await self._look()) is None:  # what came before it was subscribed
                await _hear(changes)
            return message

    async def _look(self) -> Message | None:
        if not self._rows:
            page = await self._store.messages.read(
                self._tape.attempt.task_id, after=self._given, limit=_PAGE
            )
            self._rows.extend(page.messages)
        return self._rows.popleft() if self._rows else None

    async def _take_next(self, keeper: Keeper) -> Message:
        if self._taking is None:
            message = await self._find_next()
            body, kept = keeper.keep_message(message)
            if message.taken_seq is not None:
                return replace(message, body=body, again=message.n != self._offered)
            # A task of its own: who stops waiting in mid-commit leaves it to the next call, which
            # else would offer the message twice.
            append = asyncio.ensure_future(self._tape.append_event(MessageTaken(message, kept)))
            append.add_done_callback(_note_end)
            self._offered = message.n
            self._taking = replace(message, body=body), append
        given, append = self._taking
        try:
            seq = await await_child(asyncio.shield(append))
        finally:
            if append.done():
                self._taking = None
        return replace(given, taken_seq=seq)


def _note_end(append: asyncio.Task[int]) -> None:
    """Where nobody waits any more, its error is the next call's; the ledger has counted it."""
    if not append.cancelled():
        append.exception()


async def _hear(changes: Subscription) -> None:
    """Wait for a commit that may be of a message: those of a run's own events are known."""
    while True:
        try:
            change = await anext(changes)
        except StopAsyncIteration:
            raise changes.why or StoreClosed() from None
        if not change.events:
            return

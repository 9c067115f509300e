"""``TaskHandle``: one task, followed and cancelled from outside its run, in any process."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Coroutine
from typing import TYPE_CHECKING, Any, Final, Generic, Literal, TypeAlias, cast

from typing_extensions import TypeVar

from tapescope.errors import BadSetting, ResultTimeout, TapescopeError, TaskCancelled, TaskFailed
from tapescope.model.backlog import find_pauses
from tapescope.model.messages import InboxPage, Sent
from tapescope.model.redaction import ToldKind
from tapescope.model.tape import Event, Outcome, QuarantinePage, TapePage
from tapescope.model.tasks import CancelReason, FinalEvent, Task, TaskStatus
from tapescope.model.wording import describe_stop
from tapescope.run import find_current_run
from tapescope.store.follow import TapeBatch, await_final, follow_batches, follow_tape
from tapescope.store.validation import check_seconds

if TYPE_CHECKING:
    from tapescope.manager.pool import RunPool
    from tapescope.run import Completion, Run, TypedValues
    from tapescope.store.flush import CancelAnswer
    from tapescope.store.port import TaskStore

__all__ = ["FoundBy", "TaskHandle"]

FoundBy: TypeAlias = Literal["idempotency_key", "unique_key"]
"""Which key of a submit led to a task that was there."""

R_co = TypeVar("R_co", covariant=True, default=Any)

_ASK_FOR: Final = 0.5
"""Seconds that a store has to say why a task has not ended, when that is asked for too late."""


class TaskHandle(Generic[R_co]):
    """Reads, follows and cancels one task. Holding one keeps nothing running.

    Made by ``TaskManager``; ``R_co`` is what the runner returns, where an ``Op`` was submitted. Its
    methods raise ``UnknownTask`` when the store has no such task, and what a store raises when it
    cannot be reached.
    """

    __slots__ = ("_completion", "_pool", "_types", "created", "found_by", "task_id")

    def __init__(
        self,
        pool: RunPool,
        task_id: str,
        completion: Completion | None,
        types: TypedValues | None = None,
        *,
        created: bool | None = None,
        found_by: FoundBy | None = None,
    ) -> None:
        self._pool = pool
        self._completion = completion
        self._types = types
        self.task_id = task_id
        self.created = created
        """Whether the submit that gave this handle made the task; ``False`` where a key led
        to one that was there, ``None`` for the handle of ``TaskManager.handle``."""
        self.found_by: FoundBy | None = found_by
        """Which key that was; ``None`` where none did."""

    def __repr__(self) -> str:
        return f"TaskHandle({self.task_id!r})"

    @property
    def _store(self) -> TaskStore:
        self._pool.check_home()
        return self._pool.store

    async def status(self) -> Task:
        """The task as its row stands now."""
        return await self._store.get(self.task_id)

    async def result(self, timeout: float | None = None) -> R_co:  # noqa: ASYNC109  # a limit of this wait
        """Wait for the ``final`` and give what the runner returned.

        It is of the type that the runner of the op is annotated with, where the op is known here,
        else as JSON or the codec has it.

        Raises ``TaskFailed``, ``TaskCancelled`` (ordinary exceptions), ``ResultTimeout``, which is
        a ``TimeoutError``, after ``timeout`` seconds, ``StoreUnavailable`` or ``StoreRefused`` when
        the end of the run could not be written, ``ManagerClosed`` as ``follow`` does, and
        ``CodecMissing``, ``CodecFailed`` or ``NotOfType`` for a result that cannot be decoded here.
        To stop waiting, or to be cancelled while waiting, does nothing to the task.
        """
        if timeout is None:
            final = await self._await_final()
        else:
            timeout = check_seconds("timeout", timeout)
            limit = asyncio.timeout(timeout)
            try:
                async with limit:
                    final = await self._await_final()
            except TimeoutError as error:
                if not limit.expired():
                    raise
                raise ResultTimeout(self.task_id, timeout, await self._say_why()) from error
        if final.outcome is Outcome.SUCCEEDED:
            types = self._types
            if self.created is None and self._pool.types_of(None) is not None:
                types = self._pool.types_of((await self.status()).op)
            value = self._pool.values.decode(final.result, "result")  # the codec is asked first
            return cast("R_co", value if types is None else types.decode_result(value))
        if final.outcome is Outcome.CANCELLED and final.cancel is not None:
            raise TaskCancelled(self.task_id, final.cancel.reason, final.cancel.message)
        assert final.error is not None, "a final that does not say succeeded has an error"
        raise TaskFailed(self.task_id, final.error)

    def follow(self, after_seq: int = 0) -> AsyncGenerator[Event, None]:
        """The task's events after ``after_seq``, live, to its ``final``, for ``async for``.

        Every ``seq`` comes once and in order (invariant I9), so a follower that was away goes on
        after the last one it saw. Raises ``TapeGap``, and ``StoreClosed`` if the store is closed
        first. When the manager closes, a follower of a task that waits or runs there goes on to the
        task's end, within the drain; every other one raises ``ManagerClosed`` at once, unless
        a runner is the follower.
        """
        return follow_tape(self._store, self.task_id, after_seq, self._pool.follow)

    def follow_batches(self, after_seq: int = 0) -> AsyncGenerator[TapeBatch, None]:
        """``follow``, for who hands the events on: as they come, many at once, with the tape's end.

        Raises what ``follow`` raises.
        """
        return follow_batches(self._store, self.task_id, after_seq, self._pool.follow)

    async def cancel(
        self, message: str = "", *, reason: CancelReason | str = "user", by: str | None = None
    ) -> CancelAnswer:
        """Request a cancel; returns once the request is recorded, not once the task has ended.

        A pending task ends at once. A running task is stopped by the process that runs it. An ended
        task stays as it is. A second request changes nothing: the first reason stays. ``message``
        is for people; ``reason`` is one of ``user``, ``shutdown``, ``superseded``. Raises
        ``BadSetting``; also for ``expired``, which a store alone says.
        """
        if reason == CancelReason.EXPIRED:
            expected = "user, shutdown or superseded: that a task has expired is seen by its store"
            raise BadSetting("reason", str(reason), expected)
        if (redactor := self._pool.redactor) is not None and message:
            message = redactor.redact_text(ToldKind.CANCEL, None, "message", message)
        answer = await self._store.request_cancel(self.task_id, reason, message, by)
        self._pool.note_cancel(self.task_id, answer)
        return answer

    async def send(self, body: Any, *, key: str | None = None) -> Sent:
        """Send a message to the task; returns once it is durable, not once the run has taken it.

        ``body`` is any JSON value, or one that the codec encodes. A pending task has its messages
        when it begins. The same ``key`` again, with the same body, adds nothing. Raises
        ``TaskEnded`` where the task has ended, ``InboxFull``, ``MessageTooLarge``,
        ``MessageConflict``, ``NotJson`` and ``CodecFailed``, and then nothing was stored.
        """
        stored = self._pool.values.encode(body, "message")
        return await self._store.messages.send(self.task_id, stored, key=key)

    async def messages(self, *, after: int = 0, limit: int = 100) -> InboxPage:
        """A page of what was sent to the task, taken or not, as it is stored."""
        return await self._store.messages.read(self.task_id, after=after, limit=limit)

    async def tape(self, *, after_seq: int = 0, limit: int = 1_000) -> TapePage:
        """A page of the task's tape."""
        return await self._store.read_tape(self.task_id, after_seq=after_seq, limit=limit)

    async def drops(self, *, after: int = 0, limit: int = 1_000) -> QuarantinePage:
        """A page of the task's late events, kept off its tape, with the counts of all of them."""
        return await self._store.read_quarantine(self.task_id, after=after, limit=limit)

    async def _say_why(self) -> str:
        """What the task waits for, as far as its store says so at once."""
        try:
            async with asyncio.timeout(_ASK_FOR):
                task = await self.status()
                if task.status is not TaskStatus.PENDING:
                    return f"{task.status.value}, attempt {task.attempt}"
                if self._completion is not None:
                    return "pending, and waits here for its time or for a free slot"
                store = self._pool.store
                if pause := find_pauses(await store.backlog.read()).get(task.op):
                    return (
                        f"pending, and its op {task.op!r} is paused"
                        f"{describe_stop(pause.by, pause.reason)} ('tapescope resume {task.op}' "
                        "ends that)"
                    )
                if task.op in await store.ops.read():
                    return "pending, and waits for its time or for a worker that is free"
                return (
                    f"pending, and no worker of this store has registered the op {task.op!r}. "
                    "Check its name, or start a worker that registers it"
                )
        except (TimeoutError, TapescopeError):
            return "not known: the store did not answer"

    def _await_final(self) -> Coroutine[Any, Any, FinalEvent]:
        run = find_current_run()
        if run is None or (self._completion is not None and self._completion.done):
            return self._find_final()
        return self._await_within(run)

    async def _await_within(self, run: Run) -> FinalEvent:
        """As a runner does: it is watched, and may lend its slot."""
        async with self._pool.awaiting(run, self.task_id):
            return await self._find_final()

    async def _find_final(self) -> FinalEvent:
        store, completion = self._store, self._completion
        if completion is not None:
            if not completion.done:
                await completion.wait()
            if completion.final is not None:
                return completion.final
            if completion.error is not None:
                raise completion.error
        return await await_final(store, self.task_id, self._pool.follow)

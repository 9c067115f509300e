"""The activity: one task, brought to the desk of this process's manager, until it has an answer."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any, Final, NoReturn

from temporalio import activity
from temporalio.client import Client
from temporalio.exceptions import ApplicationError, ApplicationErrorCategory
from temporalio.service import RPCError, RPCStatusCode

from tapescope.engine import Again, Answer, Desk, Ended, Held, Unknown
from tapescope.errors import TapescopeError
from tapescope.model import TaskStatus
from tapescope_adapters.temporal._connection import RPC_WITHIN
from tapescope_adapters.temporal._dispatch import read_cancel
from tapescope_adapters.temporal._names import make_delay
from tapescope_telemetry.logger import Logger

__all__ = ["make_activity"]

_log = Logger("tapescope")

_TOLD_LATER: Final = 2.0
"""Seconds until Temporal asks again about a task whose end it could not be told."""


def make_activity(
    op: str, desk: Desk, home: asyncio.AbstractEventLoop, client: Client, beat: float
) -> Callable[[str], Awaitable[dict[str, Any]]]:
    """The activity of an op. ``home`` is the manager's loop; ``beat`` is in seconds."""

    @activity.defn(name=op)
    async def attempt(task_id: str) -> dict[str, Any]:
        return await _Attempt(task_id, desk, home, client, beat).run()

    return attempt


class _Attempt:
    """One execution of the activity, in the engine's thread."""

    def __init__(
        self,
        task_id: str,
        desk: Desk,
        home: asyncio.AbstractEventLoop,
        client: Client,
        beat: float,
    ) -> None:
        self._task_id, self._desk, self._home = task_id, desk, home
        self._client, self._beat = client, beat
        self._asked_to_cancel = False

    async def run(self) -> dict[str, Any]:
        """Give the task to the desk, and wait for its answer, with heartbeats.

        The SDK cancels this once, whatever the reason; the run goes on, for tapescope decides what
        follows from it.
        """
        asked = asyncio.run_coroutine_threadsafe(self._desk.attempt(self._task_id), self._home)
        answer = asyncio.wrap_future(asked)
        while not answer.done():
            place = self._desk.find_place(self._task_id)
            if place is not None:
                activity.heartbeat({"attempt": place[0], "reports": place[1]})
            else:
                activity.heartbeat()
            try:
                await asyncio.wait([answer], timeout=self._beat)
            except asyncio.CancelledError:
                if not await self._hear():
                    raise  # this execution is over: the run goes on, and its end is in the store
        return await self._tell(answer.result())

    async def _hear(self) -> bool:
        """Have the desk hear why Temporal cancels this; ``False``: nobody waits for its end."""
        details = activity.cancellation_details()
        if details is None or details.worker_shutdown:
            self._home.call_soon_threadsafe(
                self._desk.release, self._task_id, "its worker on Temporal was shut down"
            )
            return True
        if details.timed_out:
            return False
        if details.paused or details.reset:
            why = "it was paused in Temporal" if details.paused else "it was reset in Temporal"
            self._home.call_soon_threadsafe(self._desk.release, self._task_id, why)
            return True
        message: str | None = "cancelled in Temporal"
        try:
            message = await read_cancel(
                self._client, self._task_id, activity.info().activity_run_id
            )
        except RPCError as error:
            if details.not_found:
                return False  # the server has lost it: the reconciler brings it back if need be
            _log.info(
                "Why task %s was cancelled in Temporal is not known: %s", self._task_id, error
            )
        if details.not_found and message is None:
            return False  # a later execution has taken the place of this one
        self._asked_to_cancel = details.cancel_requested
        cancelling = asyncio.run_coroutine_threadsafe(
            self._desk.cancel(self._task_id, message or "cancelled in Temporal"), self._home
        )
        try:
            await asyncio.wrap_future(cancelling)
        except TapescopeError as error:  # the reconciler sees it, as the row is pending or rescued
            _log.warning("Task %s was cancelled in Temporal, and goes on: %s", self._task_id, error)
        return details.cancel_requested

    async def _tell(self, answer: Answer) -> dict[str, Any]:
        """End the execution as the desk's answer says."""
        if isinstance(answer, Held):
            _wait("held", answer.wait, answer.reason.value)
        if isinstance(answer, Again):
            _wait("again", answer.wait, f"attempt {answer.task.attempt} is over")
        if isinstance(answer, Unknown):
            raise ApplicationError(answer.why, type="unknown_task", non_retryable=True)
        task = answer.task
        if task.status is TaskStatus.SUCCEEDED:
            return {
                "task_id": task.task_id,
                "outcome": task.status.value,
                "attempt": task.attempt,
            }
        if task.status is TaskStatus.FAILED:
            code = task.error_code or "failed"
            text = f"the task has failed ({code}): see its tape"  # which may have secrets in it
            raise ApplicationError(text, type=code, non_retryable=True)
        if self._asked_to_cancel:
            raise asyncio.CancelledError
        await self._tell_of_cancel(answer)
        activity.raise_complete_async()

    async def _tell_of_cancel(self, ended: Ended) -> None:
        """The task was cancelled in tapescope: Temporal is to know it by that word, too."""
        info = activity.info()
        cancel = ended.task.cancel
        reason = "cancelled in tapescope"  # the message stays in the store, as all text
        if cancel is not None and cancel.by:
            reason += f", by {cancel.by}"
        handle = self._client.get_activity_handle(info.activity_id, run_id=info.activity_run_id)
        try:
            await handle.cancel(reason=reason, rpc_timeout=RPC_WITHIN)
        except RPCError as error:
            # "cancellation already requested" is a refusal, and what is wanted.
            if error.status not in (
                RPCStatusCode.FAILED_PRECONDITION,
                RPCStatusCode.ALREADY_EXISTS,
            ):
                _log.debug("Temporal was not asked to cancel task %s: %s", info.activity_id, error)
        told = self._client.get_async_activity_handle(task_token=info.task_token)
        try:
            await told.report_cancellation(rpc_timeout=RPC_WITHIN)
        except RPCError as error:
            if error.status is not RPCStatusCode.NOT_FOUND:  # else it has ended there, too
                _wait("again", _TOLD_LATER, "its cancel could not be told")


def _wait(kind: str, seconds: float, why: str) -> NoReturn:
    """Have Temporal bring the task again: benign, so that no metric or log calls it a failure."""
    raise ApplicationError(
        f"{kind}: {why}",
        type=kind,
        next_retry_delay=make_delay(seconds),
        category=ApplicationErrorCategory.BENIGN,
    )

"""Tasks on their way to Temporal: told once they are committed, and asked about later."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from temporalio.api.enums.v1 import TaskQueueType
from temporalio.api.taskqueue.v1 import TaskQueue
from temporalio.api.workflowservice.v1 import DescribeTaskQueueRequest
from temporalio.client import ActivityExecutionDescription, ActivityExecutionStatus, Client
from temporalio.common import ActivityIDConflictPolicy, ActivityIDReusePolicy, RetryPolicy
from temporalio.exceptions import ActivityAlreadyStartedError
from temporalio.service import RPCError, RPCStatusCode

from tapescope.engine import Confirmation, Forgotten
from tapescope.model import Task
from tapescope_adapters.temporal._connection import RPC_WITHIN, Connection
from tapescope_adapters.temporal._names import (
    make_priority,
    make_queue,
    make_timeout,
    make_wait,
    starts_queue,
)

__all__ = ["Dispatcher"]

_CANCELLED: Final = frozenset(
    {
        ActivityExecutionStatus.CANCELED,
        ActivityExecutionStatus.TERMINATED,
        ActivityExecutionStatus.TIMED_OUT,
    }
)
"""How an activity ends that somebody did not want any more; see ``read_cancel``."""
_ENDS: Final = "'Canceled', 'Terminated', 'TimedOut'"
"""The same, for a listing."""
_AT_ONCE: Final = 32
"""Calls to the server under way."""
_LISTED: Final = 1_000
"""Cancelled activities that one look takes."""
_LOOKED_BACK: Final = timedelta(minutes=10)
"""How far back a look goes: a listing may be late, and a worker may have been away."""
_RETRIES: Final = RetryPolicy(
    initial_interval=timedelta(seconds=1),
    backoff_coefficient=1.0,
    maximum_interval=timedelta(seconds=1),
    maximum_attempts=0,
)
"""tapescope says when an attempt follows, and whether one does; this is for a lost worker."""
_SOONEST: Final = timedelta(milliseconds=200)
"""Less of a delay is none: the worker waits that long itself."""


class Dispatcher:
    """Of one store. All of it is called in the engine's thread."""

    def __init__(self, connection: Connection, store_id: str, heartbeat: float) -> None:
        self._connection = connection
        self._store_id = store_id
        self._heartbeat = timedelta(seconds=heartbeat)
        self._calls = asyncio.Semaphore(_AT_ONCE)
        self._seen: set[tuple[str, str | None]] = set()
        """The cancelled activities that the last look has told of."""

    async def start(self, task: Task) -> None:
        """Have Temporal have this task. Raises ``RPCError``, ``ActivityAlreadyStartedError`` for
        one that has ended there."""
        client = self._connection.client
        if client is not None:
            async with self._calls:
                await self._start(client, task, ActivityIDReusePolicy.REJECT_DUPLICATE)

    async def _start(self, client: Client, task: Task, reuse: ActivityIDReusePolicy) -> None:
        """Ids are the tasks', so to start one twice starts it once."""
        wait = make_wait(task)
        settings: dict[str, Any] = {}
        if wait > _SOONEST and self._connection.delays:
            settings["start_delay"] = wait
        await client.start_activity(
            task.op,
            task.task_id,
            id=task.task_id,
            task_queue=make_queue(self._store_id, task.op),
            start_to_close_timeout=make_timeout(task),
            heartbeat_timeout=self._heartbeat,
            id_reuse_policy=reuse,
            id_conflict_policy=ActivityIDConflictPolicy.USE_EXISTING,
            retry_policy=_RETRIES,
            priority=make_priority(task),
            rpc_timeout=RPC_WITHIN,
            **settings,
        )

    async def forget(self, task_id: str, message: str) -> None:
        """The task has ended before it was brought: it need not be. Raises ``RPCError``."""
        client = self._connection.client
        if client is None:
            return
        async with self._calls:
            try:
                await client.get_activity_handle(task_id).cancel(
                    reason=message, rpc_timeout=RPC_WITHIN
                )
            except RPCError as error:
                if error.status is not RPCStatusCode.NOT_FOUND:
                    raise

    # --- what the reconciler asks -----------------------------------------------------------------

    async def confirm(self, tasks: Sequence[Task]) -> Confirmation:
        """See ``Engine.confirm``."""
        if self._connection.client is None:
            return Confirmation(failed="the server was not reached yet")
        answers = await asyncio.gather(
            *(self._confirm(self._connection.client, task) for task in tasks),
            return_exceptions=True,
        )
        has: list[str] = []
        cancelled: dict[str, str] = {}
        failed = ""
        for task, answer in zip(tasks, answers, strict=True):
            if isinstance(answer, Exception):  # of this one alone: the others are as they were told
                failed = failed or f"task {task.task_id}: {_tell_error(answer)}"
            elif isinstance(answer, BaseException):
                raise answer
            elif answer is None:
                has.append(task.task_id)
            else:
                cancelled[task.task_id] = answer
        return Confirmation(has, cancelled, failed)

    async def _confirm(self, client: Client, task: Task) -> str | None:
        """``None`` once Temporal has the task; else what was said when it was cancelled there."""
        async with self._calls:
            try:
                await self._start(client, task, ActivityIDReusePolicy.REJECT_DUPLICATE)
            except ActivityAlreadyStartedError:
                message = await read_cancel(client, task.task_id, None)
                if message is not None:
                    return message
                # It ended there, and here it has not: as after a worker that died while it told.
                await self._start(client, task, ActivityIDReusePolicy.ALLOW_DUPLICATE)
        return None

    async def find_forgotten(self) -> Sequence[Forgotten]:
        """See ``Engine.find_forgotten``. Raises ``RPCError``."""
        client = self._connection.client
        if client is None:
            return ()
        since = (datetime.now(UTC) - _LOOKED_BACK).strftime("%Y-%m-%dT%H:%M:%SZ")
        query = f"ExecutionStatus IN ({_ENDS}) AND CloseTime > '{since}'"
        found = client.list_activities(query, limit=_LISTED, rpc_timeout=RPC_WITHIN)
        start = starts_queue(self._store_id)
        listed = [one async for one in found if one.task_queue.startswith(start)]
        new = [one for one in listed if (one.activity_id, one.activity_run_id) not in self._seen]
        told = [Forgotten(one.activity_id, _describe(one.status, None)) for one in new]
        self._seen = {(one.activity_id, one.activity_run_id) for one in listed}
        return told

    async def count_pollers(self, ops: Sequence[str]) -> dict[str, int]:
        """By queue how many workers ask there for tasks. Raises ``RPCError``."""
        client = self._connection.client
        if client is None:
            return {}
        found: dict[str, int] = {}
        for op in ops:
            queue = make_queue(self._store_id, op)
            asked = DescribeTaskQueueRequest(
                namespace=self._connection.namespace,
                task_queue=TaskQueue(name=queue),
                task_queue_type=TaskQueueType.TASK_QUEUE_TYPE_ACTIVITY,
            )
            answer = await client.workflow_service.describe_task_queue(asked, timeout=RPC_WITHIN)
            found[queue] = len(answer.pollers)
        return found


def _tell_error(error: Exception) -> str:
    if isinstance(error, RPCError):
        return f"{error.status.name}: {error.message[:300]}"
    return f"{type(error).__name__}: {str(error)[:300]}"


async def read_cancel(client: Client, task_id: str, run_id: str | None) -> str | None:
    """What was said when an activity was cancelled or terminated; ``None`` where it was neither.

    A reason need not be given, and an activity whose worker died after the request is not closed as
    cancelled. But its retries have no limit: only after a request it ends by what is retried
    otherwise, a time that is over or a failure. Raises ``RPCError``.
    """
    handle = client.get_activity_handle(task_id, run_id=run_id)
    told = await handle.describe(include_outcome=True, rpc_timeout=RPC_WITHIN)
    if told.canceled_reason or told.status in _CANCELLED or _failed_at_a_retry(told):
        return _describe(told.status, told.canceled_reason)
    return None


def _failed_at_a_retry(told: ActivityExecutionDescription) -> bool:
    outcome = told.raw_outcome
    if told.status is not ActivityExecutionStatus.FAILED or outcome is None:
        return False
    failure = outcome.failure
    known = failure.HasField("application_failure_info")
    return known and not failure.application_failure_info.non_retryable


def _describe(status: ActivityExecutionStatus, reason: str | None) -> str:
    if status is ActivityExecutionStatus.TERMINATED:
        return "terminated in Temporal"
    return reason or "cancelled in Temporal"

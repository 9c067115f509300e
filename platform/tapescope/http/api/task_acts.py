"""What a caller does with tasks, by the API or by a form of a page.

Here alone it is asked who may, and told in the log of acts what was done.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Coroutine, Iterable, Mapping, Sequence
from contextlib import nullcontext, suppress
from datetime import datetime
from typing import TYPE_CHECKING, Any, TypeVar, cast

from tapescope.errors import (
    IdempotencyConflict,
    OpNotRegistered,
    TapescopeError,
    UniqueKeyTaken,
    UnknownTask,
)
from tapescope.http.access import Caller, Scope
from tapescope.http.api.parsing import parse_time
from tapescope.http.api.problems import Refused, find_row
from tapescope.http.api.state import acting, state_of
from tapescope.manager.lost_tasks import find_lost, rescue_lost
from tapescope.store.flush import CancelState
from tapescope.store.validation import check_op

if TYPE_CHECKING:
    from starlette.requests import Request

    from tapescope.http.api.schemas import SubmitOne
    from tapescope.manager import TaskHandle
    from tapescope.model.messages import Sent
    from tapescope.model.tasks import Task
    from tapescope.store.flush import CancelAnswer

__all__ = [
    "cancel_chosen",
    "cancel_task",
    "keep_hidden",
    "name_scopes",
    "need_named",
    "need_ops",
    "reach",
    "retry_chosen",
    "retry_task",
    "send_message",
    "submit_task",
    "submit_tasks",
]

T = TypeVar("T")


async def reach(request: Request, caller: Caller, scope: Scope, task_id: str) -> None:
    """See to it that the caller has the scope for the task: for its op, or for a tag of it.

    Raises ``UnknownTask`` where the caller may not even see it, else ``Refused``.
    """
    if caller.may(scope):
        return
    task = await state_of(request).manager.handle(task_id).status()
    if caller.may(scope, task.op, task.tags):
        return
    if not caller.may(Scope.READ, task.op, task.tags):
        raise UnknownTask(task_id)
    raise Refused(403, "Forbidden", f"The token lacks the scope '{scope}:{task.op}'.")


def name_scopes(caller: Caller, scope: Scope) -> str:
    """What a token has the scope for, for a person: ops, then tags."""
    ops, tags = caller.find_ops(scope) or frozenset(), caller.find_tags(scope)
    named = [*sorted(ops), *(f"tag {tag}" for tag in sorted(tags))]
    return ", ".join(named)


def need_ops(caller: Caller) -> None:
    """See to it that the caller may read all tasks of an op, for what tells of ops and has no tag.

    Raises ``Refused`` for a token of tags alone (docs/decisions/0105).
    """
    if caller.find_ops(Scope.READ) == frozenset():
        detail = "That is told by op, and the token is for tags. List their tasks: ?tag= names one."
        raise Refused(403, "Forbidden", detail)


async def submit_task(
    request: Request,
    caller: Caller,
    op: str,
    *,
    params: Mapping[str, Any],
    timeout: float | None = None,  # noqa: ASYNC109  # the task's
    retries: int | None = None,
    priority: int | None = None,
    tags: Sequence[str] = (),
    queue: str | None = None,
    expires_in: float | None = None,
    delay: float | None = None,
    run_at: datetime | None = None,
    idempotency_key: str | None = None,
    unique_key: str | None = None,
    concurrency_key: str | None = None,
) -> TaskHandle:
    """Submit a task by the name of its op. Raises ``Refused``, and what ``TaskManager.submit``
    raises; ``OpNotRegistered`` for an op that neither this server nor a worker has registered."""
    with acting(request, caller, "submit", f"of op {op!r}") as became:
        _check_may_submit(caller, op, tags)
        with state_of(request).submits.waits():
            handle = await _submit(
                request,
                caller,
                op,
                params=params,
                timeout=timeout,
                retries=retries,
                priority=priority,
                tags=tags,
                queue=queue,
                expires_in=expires_in,
                delay=delay,
                run_at=run_at,
                idempotency_key=idempotency_key,
                unique_key=unique_key,
                concurrency_key=concurrency_key,
            )
        became.append(_tell_made(handle))
    return handle


def _check_may_submit(caller: Caller, op: str, tags: Sequence[str]) -> None:
    if caller.may(Scope.SUBMIT, op, tags):
        return
    named = name_scopes(caller, Scope.SUBMIT)
    if not caller.find_tags(Scope.SUBMIT):
        raise Refused(403, "Forbidden", f"The token is for other ops: {named}.")
    detail = f"The token is for {named}. Give the task one of these tags, in 'tags'."
    raise Refused(403, "Forbidden", detail)


async def _submit(request: Request, caller: Caller, op: str, **settings: Any) -> TaskHandle:
    manager = state_of(request).manager
    if not await manager.knows_op(check_op(op)):
        raise OpNotRegistered(op)
    return await keep_hidden(request, caller, op, manager.submit(op, **settings))


async def keep_hidden(
    request: Request, caller: Caller, op: str, submit: Awaitable[TaskHandle]
) -> TaskHandle:
    """Await a submit of the op, and tell of a task that a key led it to only who may submit that.

    A key is one of all tasks of an op, and so of tasks with other tags, too. Raises ``Refused``,
    whatever that task's params are, and what the submit raises.
    """
    try:
        handle = await submit
    except (IdempotencyConflict, UniqueKeyTaken) as error:
        if not await _may_find(request, caller, op, error.task_id):
            raise _refuse_key() from None
        raise
    if not handle.created and not await _may_find(request, caller, op, handle.task_id):
        raise _refuse_key()
    return handle


async def _may_find(request: Request, caller: Caller, op: str, task_id: str) -> bool:
    if caller.may(Scope.SUBMIT, op):
        return True
    try:
        task = await state_of(request).manager.handle(task_id).status()
    except UnknownTask:  # deleted since: what it was is not told
        return False
    return caller.may(Scope.SUBMIT, task.op, task.tags)


def _refuse_key() -> Refused:
    detail = "A key of this submit is that of a task which the token is not for. Use another key."
    return Refused(403, "Forbidden", detail)


def _tell_made(handle: TaskHandle) -> str:
    return f"task {handle.task_id}" + ("" if handle.created else ", which was there")


async def submit_tasks(
    request: Request, caller: Caller, tasks: Sequence[SubmitOne]
) -> list[TaskHandle | Exception]:
    """Submit many: gives the handle, or why it was refused, of each.

    They come to the store at once, and so in a flush or two. Raises what is not the fault of one of
    them, such as ``StoreUnavailable``: some may have been made then, and a key finds them. Raises
    ``Refused`` before any is made where too many wait: they wait together, or not at all.
    """
    try:
        with state_of(request).submits.waits(len(tasks)):
            return await _do_each(_submit_one(request, caller, one) for one in tasks)
    except Refused:
        with acting(request, caller, "submit", f"of {len(tasks):,} tasks"):
            raise


async def _do_each(acts: Iterable[Coroutine[Any, Any, T]]) -> list[T | Exception]:
    """What became of each, all at once: its answer, or why it was refused. Raises what is not the
    fault of one of them, once all have ended."""
    answers: list[T | Exception] = []
    for one in await asyncio.gather(*acts, return_exceptions=True):
        if isinstance(one, BaseException) and not _is_of_caller(one):
            raise one
        answers.append(cast("T | Exception", one))
    return answers


async def _submit_one(request: Request, caller: Caller, one: SubmitOne) -> TaskHandle:
    with acting(request, caller, "submit", f"of op {one.op!r}") as became:
        _check_may_submit(caller, one.op, one.tags)
        handle = await _submit(
            request,
            caller,
            one.op,
            params=one.params,
            timeout=one.timeout,
            retries=one.retries,
            priority=one.priority,
            tags=one.tags,
            queue=one.queue,
            expires_in=one.expires_in,
            delay=one.delay,
            run_at=parse_time("run_at", one.run_at),
            idempotency_key=one.idempotency_key,
            unique_key=one.unique_key,
            concurrency_key=one.concurrency_key,
        )
        became.append(_tell_made(handle))
    return handle


def _is_of_caller(error: BaseException) -> bool:
    if isinstance(error, Refused):
        return error.status < 500
    return isinstance(error, TapescopeError) and find_row(error).status < 500


async def cancel_task(
    request: Request, caller: Caller, task_id: str, message: str
) -> tuple[CancelAnswer, str | None]:
    """Request a cancel: it is recorded, with who asked for it. Raises what ``reach`` raises.

    A task that runs nowhere any more has nobody to end it: it is rescued, and so ends. Why its
    owner was taken to be gone is given, too.
    """
    lost = None
    with acting(request, caller, "cancel", f"of task {task_id}") as became:
        await reach(request, caller, Scope.CANCEL, task_id)
        handle = state_of(request).manager.handle(task_id)
        answer = await handle.cancel(message, by=caller.name)
        if answer.state in (CancelState.RECORDED, CancelState.ALREADY_RECORDED):
            store = state_of(request).manager.store
            with suppress(TapescopeError):  # it is on record: any other rescue ends the task, too
                task = await handle.status()
                lost = find_lost(store, [task], store.clock.now()).get(task_id)
                if lost is not None:
                    await rescue_lost(store)
        became.append(answer.state.value)
    return answer, lost


async def send_message(
    request: Request, caller: Caller, task_id: str, body: Any, key: str | None = None
) -> Sent:
    """Send a message to a task: what its runner is given, as its params are. Raises what ``reach``
    and ``TaskHandle.send`` raise."""
    with acting(request, caller, "send", f"to task {task_id}") as became:
        await reach(request, caller, Scope.SUBMIT, task_id)
        sent = await state_of(request).manager.handle(task_id).send(body, key=key)
        became.append(f"message {sent.n}" + ("" if sent.new else ", which was there"))
    return sent


async def retry_task(
    request: Request,
    caller: Caller,
    task_id: str,
    idempotency_key: str | None = None,
    *,
    waits: bool = False,
) -> tuple[TaskHandle, str]:
    """Submit an ended task again; gives the new one and its op. ``waits``: it has its place among
    the submits that wait. Raises what ``reach`` raises, and what ``TaskManager.resubmit`` raises.
    """
    with acting(request, caller, "retry", f"of task {task_id}") as became:
        await reach(request, caller, Scope.SUBMIT, task_id)
        manager = state_of(request).manager
        op = (await manager.handle(task_id).status()).op
        with nullcontext() if waits else state_of(request).submits.waits():
            again = manager.resubmit(task_id, idempotency_key=idempotency_key)
            handle = await keep_hidden(request, caller, op, again)
        became.append(_tell_made(handle))
    return handle, op


# --- those of a list ------------------------------------------------------------------------------


def need_named(caller: Caller, scope: Scope, op: str | None, tag: str | None) -> None:
    """See to it that what is chosen by an op and a tag is what the caller has the scope for.

    Raises ``Refused``.
    """
    if caller.may(scope, op, () if tag is None else (tag,)):
        return
    kinds = "an op or a tag" if caller.find_tags(scope) else "an op"
    named = name_scopes(caller, scope)
    raise Refused(403, "Forbidden", f"Name {kinds} that the token is for: {named}.")


async def cancel_chosen(
    request: Request, caller: Caller, tasks: Sequence[Task], message: str
) -> list[CancelAnswer | Exception]:
    """Request the cancel of each: what became of it, or why it was refused. Raises what is not the
    fault of one of them, such as ``StoreUnavailable``; some may have been cancelled then."""

    async def cancel(task_id: str) -> CancelAnswer:
        answer, _ = await cancel_task(request, caller, task_id, message)
        return answer

    return await _do_each(cancel(task.task_id) for task in tasks)


async def retry_chosen(
    request: Request, caller: Caller, tasks: Sequence[Task], key: str | None
) -> list[TaskHandle | Exception]:
    """Submit each again, with ``key`` and its own id as the key of the new task: the handle, or why
    it was refused. Raises as ``submit_tasks`` does."""

    async def retry(task_id: str) -> TaskHandle:
        of_it = None if key is None else f"{key}/{task_id}"
        handle, _ = await retry_task(request, caller, task_id, of_it, waits=True)
        return handle

    try:
        with state_of(request).submits.waits(tasks=len(tasks)):
            return await _do_each(retry(task.task_id) for task in tasks)
    except Refused:
        with acting(request, caller, "retry", f"of {len(tasks):,} tasks"):
            raise

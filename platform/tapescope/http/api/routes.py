"""The routes: each asks who it is, does one thing with the manager, and shows a shape of the model.

A body is read only once it is known who sends it.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable, Generator, Sequence
from contextlib import aclosing, contextmanager, suppress
from functools import partial
from typing import TYPE_CHECKING, Annotated, Any, Final, TypeVar

import orjson
from fastapi import APIRouter, Depends, Header, Path, Query, Request, Response
from fastapi.security import HTTPBearer
from pydantic import BaseModel, ValidationError, WithJsonSchema
from starlette.requests import ClientDisconnect

from tapescope.errors import BadSetting, UnknownTask
from tapescope.http.access import Caller, Scope
from tapescope.http.api import schemas
from tapescope.http.api.parsing import parse_seq, parse_time
from tapescope.http.api.problems import PROBLEM_TYPE, Refused, describe
from tapescope.http.api.schedule_acts import (
    add_schedule,
    list_visible,
    pause_schedule,
    remove_schedule,
    resume_schedule,
    see_schedule,
    trigger_schedule,
)
from tapescope.http.api.search import LOOKED, find_tasks, merge_pages
from tapescope.http.api.state import WAITED, acting, state_of
from tapescope.http.api.stop_acts import (
    drain_worker,
    list_visible_pauses,
    list_workers,
    pause_op,
    resume_op,
    undrain_worker,
)
from tapescope.http.api.stream import EventStream, JsonLines, StreamForm, TapeStream, choose_form
from tapescope.http.api.task_acts import (
    cancel_chosen,
    cancel_task,
    need_named,
    need_ops,
    reach,
    retry_chosen,
    retry_task,
    send_message,
    submit_task,
    submit_tasks,
)
from tapescope.manager.lost_tasks import find_lost
from tapescope.model.json_shapes import (
    audit_shape,
    backlog_shape,
    cancel_shape,
    drain_shape,
    drops_shape,
    list_shape,
    messages_shape,
    pause_shape,
    pauses_shape,
    schedule_shape,
    schedules_shape,
    sent_shape,
    tape_shape,
    task_shape,
    traced_shape,
    workers_shape,
)
from tapescope.model.tasks import TaskPage, TaskStatus
from tapescope.store.follow import TapeBatch, await_final
from tapescope.store.validation import check_trace_id

if TYPE_CHECKING:
    from tapescope.manager import TaskHandle

__all__ = ["COMPONENTS", "open_stream", "read_bytes", "router"]

B = TypeVar("B", bound=BaseModel)

_TRACED: Final = 10_000
"""Attempts of one trace that are shown."""


def _json(shape: object, status: int = 200, headers: dict[str, str] | None = None) -> Response:
    return Response(orjson.dumps(shape), status, headers=headers, media_type="application/json")


# --- what a request passes before its route ---------------------------------------------------


async def _refuse_unknown_query(request: Request) -> None:
    """A filter that is misspelt must not show everything."""
    known = {one.alias for one in request.scope["route"].dependant.query_params}
    if unknown := sorted(set(request.query_params) - known):
        takes = f"It takes {', '.join(sorted(known))}." if known else "It takes none."
        detail = f"{unknown[0]!r} is not a parameter of this query. {takes}"
        raise Refused(422, "BadSetting", detail)


async def _refuse_over_limits(request: Request) -> None:
    """A page and a wait are as long as this server allows, as its document says, too."""
    limits = state_of(request).limits
    for name, most in (("limit", limits.page), ("wait", limits.longest_wait)):
        with suppress(ValueError):  # no number: the route says so
            if float(request.query_params.get(name, "0")) > most:
                raise Refused(422, "BadSetting", f"{name} may be {most:g} at most on this server.")


def _page(request: Request, limit: int) -> int:
    """As many as were asked for, and no more than one page has where nobody asked."""
    return min(limit, state_of(request).limits.page)


def _needing(scope: Scope) -> Callable[[Request], Any]:
    async def admit(request: Request) -> Caller:
        return await state_of(request).admit(request, scope)

    return admit


Reader = Annotated[Caller, Depends(_needing(Scope.READ))]
Submitter = Annotated[Caller, Depends(_needing(Scope.SUBMIT))]
Canceller = Annotated[Caller, Depends(_needing(Scope.CANCEL))]
Admin = Annotated[Caller, Depends(_needing(Scope.ADMIN))]

TaskId = Annotated[str, Path(examples=["0192f0c1-2b7a-7c3e-9a51-0c4f1e2d3b4a"])]
Limit = Annotated[int, Query(ge=1, description="The most that one page has.")]
Wait = Annotated[
    float, Query(ge=0, description="Seconds to wait where there is nothing to tell yet.")
]
Time = Annotated[str | None, WithJsonSchema({"type": "string", "format": "date-time"})]
"""Read here: pydantic takes a bare number for a time as well."""
AfterSeq = Annotated[int, Query(ge=0, description="Only events after this seq.")]


async def read_bytes(request: Request) -> bytes:
    """The body of a request, within the limits. Raises ``Refused``."""
    limits = state_of(request).limits
    too_large = Refused(413, "BodyTooLarge", f"The body is over {limits.body_bytes:,} bytes.")
    length = request.headers.get("content-length", "")
    if length.isdecimal() and int(length) > limits.body_bytes:
        raise too_large
    body = bytearray()
    try:
        async with asyncio.timeout(limits.body_within):
            async for chunk in request.stream():
                body += chunk
                if len(body) > limits.body_bytes:
                    raise too_large
    except TimeoutError:
        detail = f"The body did not come within {limits.body_within:g} s."
        raise Refused(408, "BodyTooSlow", detail, headers={"Connection": "close"}) from None
    except ClientDisconnect:
        raise Refused(400, "BadBody", "The body is not whole.") from None
    return bytes(body)


async def _read_body(request: Request, model: type[B], *, required: bool) -> B:
    """The body of a request, as JSON of this model. Raises ``Refused``."""
    body = await read_bytes(request)
    if not body and not required:
        return model()
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind != "application/json":
        raise Refused(415, "BadContentType", "Send JSON, with 'Content-Type: application/json'.")
    try:
        return model.model_validate(orjson.loads(body))
    except ValidationError as error:
        wrong = error.errors(include_url=False, include_input=False)[0]
        place = ".".join(map(str, wrong["loc"])) or "the body"
        raise Refused(422, "BadBody", f"{place}: {wrong['msg']}.") from None
    except ValueError as error:
        raise Refused(400, "BadBody", f"The body is not JSON: {error}.") from None


_COMPONENT: Final = "#/components/schemas/{model}"
COMPONENTS: Final[dict[str, Any]] = {}
"""Schemas of the OpenAPI document that no route has as its model, by name: routes refer to them."""


def _refer(model: type[BaseModel]) -> dict[str, Any]:
    """A reference to the schema of a model, which the document then has."""
    COMPONENTS[model.__name__] = _describe_model(model)
    return {"$ref": _COMPONENT.format(model=model.__name__)}


def _describe_model(model: type[BaseModel]) -> dict[str, Any]:
    """The schema of a model; those of its parts are in the document, too."""
    schema = model.model_json_schema(ref_template=_COMPONENT)
    COMPONENTS.update(schema.pop("$defs", {}))
    return schema


def _takes(model: type[BaseModel], *, required: bool = False) -> dict[str, Any]:
    """The part of the OpenAPI document for a body that a route reads itself."""
    schema = _describe_model(model)
    content = {"application/json": {"schema": schema}}
    return {"requestBody": {"required": required, "content": content}}


def _problems(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """What else a route answers, as problem details."""
    words = {
        400: "The request cannot be read",
        401: "No token that the server knows",
        403: "The caller may not do this",
        404: "There is no such task, schedule or worker",
        406: "There is no such form of it",
        408: "The body did not come in time",
        409: "It conflicts with what the store has",
        413: "The body is too large",
        414: "The query is too long",
        415: "The body is not said to be JSON",
        421: "Without tokens this machine alone is answered",
        422: "A value that it cannot have",
        429: "Too many tasks wait to be submitted, or to be begun of this op; Retry-After says "
        "when to ask again",
        503: "The store cannot be used, or the server is full or about to stop",
    }
    schema = {"schema": _refer(schemas.Problem)}
    return {
        status: {"description": words[status], "content": {PROBLEM_TYPE: schema}}
        for status in sorted({401, 403, 414, 421, 422, 503, *statuses})
    }


_BODY: Final = (400, 408, 413, 415)

router = APIRouter(
    prefix="/v1",
    dependencies=[
        Depends(_refuse_unknown_query),
        Depends(_refuse_over_limits),
        Depends(HTTPBearer(auto_error=False, description="A token of 'tapescope token add'.")),
    ],
)


@contextmanager
def _cursor_of(cursor: str | None, name: str = "after") -> Generator[None]:
    """A place in a list that is wrong is told by the name that the query has for it.

    ``name`` is what the port has. Raises ``BadSetting``.
    """
    try:
        yield
    except BadSetting as error:
        if error.name != name:
            raise
        raise BadSetting("cursor", cursor, error.expected) from error


# --- tasks ----------------------------------------------------------------------------------------


@router.get("/tasks", response_model=schemas.Tasks, responses=_problems(), tags=["tasks"])
async def list_tasks(
    request: Request,
    caller: Reader,
    status: Annotated[TaskStatus | None, Query()] = None,
    op: Annotated[str | None, Query(description="Of this op.")] = None,
    owner: Annotated[str | None, Query(description="Of this manager.")] = None,
    key: Annotated[str | None, Query(description="With this idempotency key.")] = None,
    tag: Annotated[str | None, Query(description="With this tag.")] = None,
    parent: Annotated[
        str | None, Query(description="Submitted by the runner of this task.")
    ] = None,
    text: Annotated[
        str | None,
        Query(
            description="With this text, in whatever case, in its op, owner, keys, tags, params, "
            f"error code, or the words of its cancel. A page looks through {LOOKED:,} tasks: it "
            "may have none, and yet a 'next'."
        ),
    ] = None,
    since: Annotated[Time, Query(description="Created then or later.")] = None,
    until: Annotated[Time, Query(description="Created before then.")] = None,
    limit: Limit = 50,
    cursor: Annotated[str | None, Query(description="The 'next' of another page.")] = None,
) -> Response:
    """List tasks, newest first. A token for some ops or tags must name one of them, or a parent:
    of that one's tasks it has those that it may see, and a page with none may have a next."""
    sees_all = caller.may(Scope.READ, op, () if tag is None else (tag,))
    if parent is None:
        need_named(caller, Scope.READ, op, tag)
    store = state_of(request).manager.store
    with _cursor_of(cursor, "before"):
        read = partial(
            store.list,
            status=status,
            op=op,
            owner=owner,
            idempotency_key=key,
            tag=tag,
            parent_id=parent,
            since=parse_time("since", since),
            until=parse_time("until", until),
        )
        most = _page(request, limit)
        if text is None and sees_all:
            page = await read(limit=most, before=cursor)
        else:  # the place of the next page, too, tells of no task that the caller may not see
            page = await find_tasks(
                lambda before, many: read(limit=many, before=before),
                cursor,
                most,
                text=text,
                sees=lambda task: caller.may(Scope.READ, task.op, task.tags),
            )
    lost = find_lost(store, page.tasks, store.clock.now())
    tasks = [task_shape(task) | {"lost": lost.get(task.task_id)} for task in page.tasks]
    return _json(list_shape(page) | {"tasks": tasks})


@router.post(
    "/tasks",
    status_code=201,
    response_model=schemas.Submitted,
    responses={
        200: {"model": schemas.Submitted, "description": "A key led to this task"},
        **_problems(409, 429, *_BODY),
    },
    openapi_extra=_takes(schemas.SubmitBody, required=True),
    tags=["tasks"],
)
async def submit(
    request: Request,
    caller: Submitter,
    idempotency_key: Annotated[
        str | None,
        Header(description="The same op and key again give the same task, and run it once."),
    ] = None,
) -> Response:
    """Submit a task by the name of its op, which this server or a worker has registered.

    The answer comes once the task is stored. Ask for its row with the `Location`.
    """
    body = await _read_body(request, schemas.SubmitBody, required=True)
    handle = await submit_task(
        request,
        caller,
        body.op,
        params=body.params,
        timeout=body.timeout,
        retries=body.retries,
        priority=body.priority,
        tags=body.tags,
        queue=body.queue,
        expires_in=body.expires_in,
        delay=body.delay,
        run_at=parse_time("run_at", body.run_at),
        idempotency_key=idempotency_key,
        unique_key=body.unique_key,
        concurrency_key=body.concurrency_key,
    )
    # Its row is not read: an answer that fails now would have a client submit the task again.
    return _answer_submitted(request, handle, body.op)


@router.post(
    "/tasks:batch",
    response_model=schemas.SubmittedMany,
    responses=_problems(429, *_BODY),
    openapi_extra=_takes(schemas.SubmitManyBody, required=True),
    tags=["tasks"],
)
async def submit_batch(request: Request, caller: Submitter) -> Response:
    """Submit many tasks at once, each with an idempotency key of its own.

    The answer has what became of each, in their order. One that is refused stops no other. Where
    the store cannot be used the whole is a problem: send it again, and what has a key is made once.
    """
    body = await _read_body(request, schemas.SubmitManyBody, required=True)
    most = state_of(request).limits.batch
    if not 1 <= len(body.tasks) <= most:
        raise BadSetting("tasks", len(body.tasks), f"1 to {most:,} tasks")
    made = await submit_tasks(request, caller, body.tasks)
    shapes = [
        {"op": one.op} | _tell_submitted(became)
        for one, became in zip(body.tasks, made, strict=True)
    ]
    return _json({"tasks": shapes})


def _tell_submitted(became: TaskHandle | Exception) -> dict[str, Any]:
    """What became of one submit of many."""
    if isinstance(became, Exception):
        problem, _ = describe(became)
        return {"task_id": None, "created": False, "found_by": None, "problem": problem}
    return {
        "task_id": became.task_id,
        "created": bool(became.created),
        "found_by": became.found_by,
        "problem": None,
    }


@router.post(
    "/tasks:cancel",
    response_model=schemas.CancelledMany,
    responses=_problems(*_BODY),
    openapi_extra=_takes(schemas.CancelManyBody, required=True),
    tags=["tasks"],
)
async def cancel_many(request: Request, caller: Canceller) -> Response:
    """Request the cancel of all tasks that meet some conditions: a page of them, newest first.

    The answer has what became of each. Ask again with its `next` as `cursor` until that is null. A
    token for some ops or tags must name one of them.
    """
    body = await _read_body(request, schemas.CancelManyBody, required=True)
    conditions = body.model_dump(exclude={"message", "limit", "cursor"}, exclude_none=True)
    if not conditions:
        raise BadSetting("the body", "{}", "a condition, such as op, tag, status or since")
    page = await _choose(
        request,
        caller,
        Scope.CANCEL,
        body,
        [TaskStatus(body.status)] if body.status else [TaskStatus.PENDING, TaskStatus.RUNNING],
    )
    told = await cancel_chosen(request, caller, page.tasks, body.message)
    shapes = [
        {"task_id": task.task_id, "state": None, "problem": describe(became)[0]}
        if isinstance(became, Exception)
        else {"task_id": task.task_id, "state": became.state.value, "problem": None}
        for task, became in zip(page.tasks, told, strict=True)
    ]
    return _json({"tasks": shapes, "next": page.next})


@router.post(
    "/tasks:retry",
    response_model=schemas.RetriedMany,
    responses=_problems(429, *_BODY),
    openapi_extra=_takes(schemas.RetryManyBody, required=True),
    tags=["tasks"],
)
async def retry_many(
    request: Request,
    caller: Submitter,
    idempotency_key: Annotated[
        str | None,
        Header(description="Each new task has it, and the old one's id, as its key: it is once."),
    ] = None,
) -> Response:
    """Submit all ended tasks again that meet some conditions: a page of them, newest first.

    The answer has what became of each. Ask again with its `next` as `cursor` until that is null. A
    token for some ops or tags must name one of them.
    """
    body = await _read_body(request, schemas.RetryManyBody, required=True)
    page = await _choose(request, caller, Scope.SUBMIT, body, [TaskStatus(body.status)])
    told = await retry_chosen(request, caller, page.tasks, idempotency_key)
    shapes: list[dict[str, Any]] = []
    for task, became in zip(page.tasks, told, strict=True):
        shape = _tell_submitted(became)
        shapes.append(shape | {"task_id": task.task_id, "new_task_id": shape["task_id"]})
    return _json({"tasks": shapes, "next": page.next})


async def _choose(
    request: Request,
    caller: Caller,
    scope: Scope,
    body: schemas.CancelManyBody | schemas.RetryManyBody,
    statuses: Sequence[TaskStatus],
) -> TaskPage:
    """A page of the tasks of these statuses that meet the conditions. Raises ``Refused``."""
    need_named(caller, scope, body.op, body.tag)
    state = state_of(request)
    if body.limit > state.limits.batch:
        raise BadSetting("limit", body.limit, f"at most {state.limits.batch:,} on this server")
    with _cursor_of(body.cursor, "before"):
        pages = [
            await state.manager.store.list(
                status=status,
                op=body.op,
                owner=body.owner,
                idempotency_key=body.key,
                tag=body.tag,
                parent_id=body.parent,
                since=parse_time("since", body.since),
                until=parse_time("until", body.until),
                limit=body.limit,
                before=body.cursor,
                params=False,
            )
            for status in statuses
        ]
    return merge_pages(pages, body.limit)


def _answer_submitted(request: Request, handle: TaskHandle, op: str) -> Response:
    return _json(
        {
            "task_id": handle.task_id,
            "op": op,
            "created": bool(handle.created),
            "found_by": handle.found_by,
        },
        201 if handle.created else 200,
        {"Location": _link(request, handle.task_id)},
    )


def _link(request: Request, task_id: str) -> str:
    """The path of a task, as the client sees it: below where we are mounted, or a proxy has us."""
    return f"{request.scope.get('root_path', '')}/v1/tasks/{task_id}"


@router.get(
    "/tasks/{task_id}", response_model=schemas.TaskRow, responses=_problems(404), tags=["tasks"]
)
async def get_task(request: Request, caller: Reader, task_id: TaskId) -> Response:
    """A task as its row stands now."""
    task = await state_of(request).manager.handle(task_id).status()
    if not caller.may(Scope.READ, task.op, task.tags):
        raise UnknownTask(task_id)
    store = state_of(request).manager.store
    lost = find_lost(store, [task], store.clock.now())
    return _json(task_shape(task) | {"lost": lost.get(task_id)})


@router.get(
    "/tasks/{task_id}/result",
    response_model=schemas.Result,
    responses={
        202: {"model": schemas.Waiting, "description": "The task has not ended"},
        **_problems(404),
    },
    tags=["tasks"],
)
async def get_result(request: Request, caller: Reader, task_id: TaskId, wait: Wait = 0) -> Response:
    """How the task ended: with its result, its error or its cancel. 202 while it has not."""
    await reach(request, caller, Scope.READ, task_id)
    state = state_of(request)
    store = state.manager.store
    task = await state.manager.handle(task_id).status()
    if not task.status.terminal and wait:
        with state.seats.seated():
            await _wait_for(request, await_final(store, task_id), wait)
        task = await state.manager.handle(task_id).status()
    if not task.status.terminal:
        return _json({"task_id": task_id, "status": task.status.value}, 202)
    final = await await_final(store, task_id)
    return _json({"task_id": task_id} | final.as_json())


async def _wait_for(request: Request, work: Any, wait: float) -> None:
    """Wait for this work, no longer than ``wait`` seconds and than the server serves."""
    state = state_of(request)
    wait = min(wait, state.limits.longest_wait)
    began = asyncio.get_running_loop().time()
    working = asyncio.ensure_future(work)
    draining = asyncio.ensure_future(state.draining.wait())
    try:
        await asyncio.wait((working, draining), timeout=wait, return_when=asyncio.FIRST_COMPLETED)
        if working.done():
            working.result()
    finally:
        request.scope["state"][WAITED] = asyncio.get_running_loop().time() - began
        draining.cancel()
        if not working.done():
            working.cancel()
            await asyncio.wait((working,))


@router.post(
    "/tasks/{task_id}/cancel",
    response_model=schemas.Cancelled,
    responses=_problems(404, *_BODY),
    openapi_extra=_takes(schemas.CancelBody),
    tags=["tasks"],
)
async def cancel(request: Request, caller: Canceller, task_id: TaskId) -> Response:
    """Request a cancel. The answer comes once it is recorded, not once the task has ended.

    The first request stays; another one changes nothing. The tape says whose token it was. A task
    whose owner is lost is taken from it, and has ended.
    """
    body = await _read_body(request, schemas.CancelBody, required=False)
    answer, lost = await cancel_task(request, caller, task_id, body.message)
    asked = None if answer.request is None else cancel_shape(answer.request)
    shape = {"task_id": task_id, "state": answer.state.value, "request": asked, "lost": lost}
    return _json(shape)


@router.post(
    "/tasks/{task_id}/messages",
    status_code=201,
    response_model=schemas.Sent,
    responses={
        200: {"model": schemas.Sent, "description": "It was there already, by its key"},
        **_problems(404, 409, *_BODY),
    },
    openapi_extra=_takes(schemas.MessageBody),
    tags=["tasks"],
)
async def send(
    request: Request,
    caller: Submitter,
    task_id: TaskId,
    idempotency_key: Annotated[
        str | None,
        Header(description="Names the message: the same again adds nothing. Else one is made."),
    ] = None,
) -> Response:
    """Send a message to a task, which its runner takes: it needs the scope to submit the op.

    The answer comes once it is durable, not once it is taken. An ended task takes none.
    """
    body = await _read_body(request, schemas.MessageBody, required=True)
    sent = await send_message(request, caller, task_id, body.body, idempotency_key)
    return _json(sent_shape(task_id, sent), 201 if sent.new else 200)


@router.get(
    "/tasks/{task_id}/messages",
    response_model=schemas.Messages,
    responses=_problems(404),
    tags=["tasks"],
)
async def list_messages(
    request: Request,
    caller: Reader,
    task_id: TaskId,
    after: Annotated[int, Query(ge=0, description="The 'next' of another page.")] = 0,
    limit: Limit = 100,
) -> Response:
    """The messages of a task, taken or not, by number."""
    await reach(request, caller, Scope.READ, task_id)
    handle, most = state_of(request).manager.handle(task_id), _page(request, limit)
    return _json(messages_shape(task_id, await handle.messages(after=after, limit=most)))


@router.post(
    "/tasks/{task_id}/retry",
    status_code=201,
    response_model=schemas.Submitted,
    responses={
        200: {"model": schemas.Submitted, "description": "The idempotency key led to this task"},
        **_problems(404, 409, 429),
    },
    tags=["tasks"],
)
async def retry(
    request: Request,
    caller: Submitter,
    task_id: TaskId,
    idempotency_key: Annotated[
        str | None, Header(description="Of the new task: as for a submit.")
    ] = None,
) -> Response:
    """Submit an ended task again: a new one, with its op, params, timeout and retries."""
    handle, op = await retry_task(request, caller, task_id, idempotency_key)
    return _answer_submitted(request, handle, op)


@router.get(
    "/tasks/{task_id}/traces",
    response_model=schemas.Attempts,
    responses=_problems(404),
    tags=["tasks"],
)
async def get_task_traces(request: Request, caller: Reader, task_id: TaskId) -> Response:
    """The task's attempts whose run spans were recorded: where its traces are."""
    await reach(request, caller, Scope.READ, task_id)
    manager = state_of(request).manager
    found = await manager.store.read_traced([task_id])
    if not found:
        await manager.handle(task_id).status()  # raises, where there is no such task
    return _json({"attempts": [traced_shape(one) for one in found]})


# --- tapes ----------------------------------------------------------------------------------------


@router.get(
    "/tasks/{task_id}/tape", response_model=schemas.Tape, responses=_problems(404), tags=["tapes"]
)
async def get_tape(
    request: Request,
    caller: Reader,
    task_id: TaskId,
    after_seq: AfterSeq = 0,
    limit: Limit = 1_000,
    wait: Wait = 0,
) -> Response:
    """A page of the tape. With `wait` the answer waits for the next event."""
    await reach(request, caller, Scope.READ, task_id)
    state = state_of(request)
    handle, most = state.manager.handle(task_id), _page(request, limit)
    page = await handle.tape(after_seq=after_seq, limit=most)
    if wait and not page.events and page.final_seq is None:
        with state.seats.seated():
            async with aclosing(handle.follow_batches(after_seq)) as batches:
                await _wait_for(request, _take_one(batches), wait)
        page = await handle.tape(after_seq=after_seq, limit=most)
    return _json(tape_shape(page))


async def _take_one(batches: AsyncGenerator[TapeBatch, None]) -> None:
    await anext(batches, None)


_STREAMED: Final = {"anyOf": [_refer(schemas.StreamedEvent), _refer(schemas.StreamError)]}
_FRAME: Final = {
    "type": "object",
    "required": ["data"],
    "properties": {
        "id": {"type": "string", "description": "The seq; an error has none."},
        "event": {"type": "string", "description": "The event's type, or error."},
        "retry": {"type": "integer", "description": "Milliseconds until a reader comes back."},
        "data": {
            "type": "string",
            "contentMediaType": "application/json",
            "contentSchema": {"anyOf": [_refer(schemas.StreamedEvent), _refer(schemas.Problem)]},
        },
    },
}


@router.get(
    "/tasks/{task_id}/stream",
    response_class=Response,
    responses={
        200: {
            "description": "The events as they are committed, to the final",
            "content": {
                EventStream.media_type: {"itemSchema": _FRAME},
                JsonLines.media_type: {"itemSchema": _STREAMED},
            },
        },
        204: {"description": "The final was seen before: there is no more"},
        **_problems(404, 406),
    },
    tags=["tapes"],
)
async def stream(
    request: Request,
    caller: Reader,
    task_id: TaskId,
    after_seq: AfterSeq = 0,
    last_event_id: Annotated[
        str | None, Header(description="Goes before after_seq: the last seq that was seen.")
    ] = None,
) -> Response:
    """Follow the tape live, as server-sent events, or with `Accept: application/x-ndjson` as lines.

    Each event has its `seq` as id, its type, and as data the event with the tape's `last_seq` and
    `final_seq`. Every `seq` comes once and in order, after its commit. The stream ends after the
    `final`, or with an `error` that is a problem; it never just ends. Come back with
    `Last-Event-ID`.
    """
    form = choose_form(request.headers.get("accept", ""))
    if last_event_id:
        after_seq = parse_seq(last_event_id)
    return await open_stream(request, caller, task_id, after_seq, form)


async def open_stream(
    request: Request, caller: Caller, task_id: str, after_seq: int, form: StreamForm
) -> Response:
    """The tape after ``after_seq``, live; an empty answer where it was seen to its end.

    Raises ``Refused``, ``UnknownTask``, and ``BadSetting`` for a seq that the tape does not have.
    """
    await reach(request, caller, Scope.READ, task_id)
    state = state_of(request)
    handle = state.manager.handle(task_id)
    page = await handle.tape(after_seq=after_seq, limit=1)
    if page.final_seq is not None and after_seq >= page.final_seq:
        return Response(status_code=204)
    if after_seq > page.last_seq:
        expected = f"at most {page.last_seq}, the last seq of this tape"
        raise BadSetting("after_seq", after_seq, expected)

    async def still_may() -> None:
        now = await state.find_caller(request)
        await reach(request, now, Scope.READ, task_id)

    batches = handle.follow_batches(after_seq)
    state.seats.take()
    return TapeStream(task_id, batches, form, state, still_may)


@router.get(
    "/tasks/{task_id}/drops",
    response_model=schemas.Drops,
    responses=_problems(404),
    tags=["tapes"],
)
async def get_task_drops(
    request: Request,
    caller: Reader,
    task_id: TaskId,
    since: Annotated[Time, Query(description="Offered then or later.")] = None,
    until: Annotated[Time, Query(description="Offered before then.")] = None,
    after: Annotated[int, Query(ge=0, description="The 'next' of another page.")] = 0,
    limit: Limit = 1_000,
) -> Response:
    """The task's late events: kept off its tape, each with its reason."""
    await reach(request, caller, Scope.READ, task_id)
    manager = state_of(request).manager
    page = await manager.store.read_quarantine(
        task_id,
        since=parse_time("since", since),
        until=parse_time("until", until),
        after=after,
        limit=_page(request, limit),
    )
    if not page.counts:
        await manager.handle(task_id).status()  # raises, where there is no such task
    return _json(drops_shape(page))


@router.get("/drops", response_model=schemas.Drops, responses=_problems(), tags=["tapes"])
async def get_drops(
    request: Request,
    caller: Reader,
    since: Annotated[Time, Query(description="Offered then or later.")] = None,
    until: Annotated[Time, Query(description="Offered before then.")] = None,
    after: Annotated[int, Query(ge=0, description="The 'next' of another page.")] = 0,
    limit: Limit = 1_000,
) -> Response:
    """The late events of the whole store, oldest first. It takes a token for every op."""
    _need_every_op(caller)
    page = await state_of(request).manager.store.read_quarantine(
        since=parse_time("since", since),
        until=parse_time("until", until),
        after=after,
        limit=_page(request, limit),
    )
    return _json(drops_shape(page))


def _need_every_op(caller: Caller) -> None:
    if not caller.may(Scope.READ):
        detail = "A late event may be of any task, and the token is for some. Ask for one task's."
        raise Refused(403, "Forbidden", detail)


# --- schedules ------------------------------------------------------------------------------------

ScheduleName = Annotated[str, Path(examples=["nightly"])]


@router.get(
    "/schedules", response_model=schemas.Schedules, responses=_problems(), tags=["schedules"]
)
async def list_schedules(
    request: Request,
    caller: Reader,
    limit: Limit = 100,
    cursor: Annotated[str | None, Query(description="The 'next' of another page.")] = None,
) -> Response:
    """List schedules, by name: those whose tasks the caller may read."""
    with _cursor_of(cursor):
        page = await list_visible(request, caller, cursor, _page(request, limit))
    return _json(schedules_shape(page))


@router.post(
    "/schedules",
    status_code=201,
    response_model=schemas.ScheduleAdded,
    responses={
        200: {"model": schemas.ScheduleAdded, "description": "The store had it, as it is given"},
        **_problems(409, *_BODY),
    },
    openapi_extra=_takes(schemas.ScheduleBody, required=True),
    tags=["schedules"],
)
async def post_schedule(request: Request, caller: Admin) -> Response:
    """Add a schedule of an op that this server or a worker has registered.

    One of the name that is not as it is given here stays as it is: 409.
    """
    body = await _read_body(request, schemas.ScheduleBody, required=True)
    schedule, added = await add_schedule(request, caller, body)
    return _json(
        schedule_shape(schedule) | {"created": added},
        201 if added else 200,
        {"Location": f"{request.scope.get('root_path', '')}/v1/schedules/{schedule.name}"},
    )


@router.get(
    "/schedules/{name}",
    response_model=schemas.ScheduleRow,
    responses=_problems(404),
    tags=["schedules"],
)
async def get_schedule(request: Request, caller: Reader, name: ScheduleName) -> Response:
    """A schedule as its row stands now."""
    return _json(schedule_shape(await see_schedule(request, caller, name)))


@router.post(
    "/schedules/{name}/pause",
    response_model=schemas.ScheduleRow,
    responses=_problems(404),
    tags=["schedules"],
)
async def pause(request: Request, caller: Admin, name: ScheduleName) -> Response:
    """Have a schedule make no tasks until it is resumed."""
    return _json(schedule_shape(await pause_schedule(request, caller, name)))


@router.post(
    "/schedules/{name}/resume",
    response_model=schemas.ScheduleRow,
    responses=_problems(404),
    tags=["schedules"],
)
async def resume(request: Request, caller: Admin, name: ScheduleName) -> Response:
    """Have a schedule make tasks again, at its times from now on."""
    return _json(schedule_shape(await resume_schedule(request, caller, name)))


@router.post(
    "/schedules/{name}/trigger",
    status_code=201,
    response_model=schemas.Submitted,
    responses={
        200: {"model": schemas.Submitted, "description": "The idempotency key led to this task"},
        **_problems(404, 409, 429),
    },
    tags=["schedules"],
)
async def trigger(
    request: Request,
    caller: Submitter,
    name: ScheduleName,
    idempotency_key: Annotated[
        str | None, Header(description="The same schedule and key again give the same task.")
    ] = None,
) -> Response:
    """Make a task of a schedule now, paused or not; its times stay as they are."""
    handle, op = await trigger_schedule(request, caller, name, idempotency_key)
    return _answer_submitted(request, handle, op)


@router.delete(
    "/schedules/{name}",
    response_model=schemas.ScheduleRow,
    responses=_problems(404),
    tags=["schedules"],
)
async def delete_schedule(request: Request, caller: Admin, name: ScheduleName) -> Response:
    """Delete a schedule, and show it once more; the tasks that it made stay.

    One whose origin is `code` comes back with the next worker that declares it: pause it.
    """
    return _json(schedule_shape(await remove_schedule(request, caller, name)))


# --- ops and workers ------------------------------------------------------------------------------

OpName = Annotated[str, Path(examples=["resize"])]
WorkerOwner = Annotated[str, Path(examples=["web-1:4711:90210-1.2-b0:f3a9c1"])]


@router.get("/pauses", response_model=schemas.Pauses, responses=_problems(), tags=["ops"])
async def list_pauses(
    request: Request,
    caller: Reader,
    limit: Limit = 100,
    cursor: Annotated[str | None, Query(description="The 'next' of another page.")] = None,
) -> Response:
    """List the ops that are paused, by name: those that the caller may read.

    It takes a token for an op.
    """
    with _cursor_of(cursor):
        page = await list_visible_pauses(request, caller, cursor, _page(request, limit))
    return _json(pauses_shape(page))


@router.post(
    "/ops/{op}/pause",
    response_model=schemas.Pause,
    responses=_problems(*_BODY),
    openapi_extra=_takes(schemas.StopBody),
    tags=["ops"],
)
async def post_op_pause(request: Request, caller: Admin, op: OpName) -> Response:
    """Have no worker claim tasks of an op, until it is resumed. What runs goes on.

    The first pause stays, with who asked for it and why; another one changes nothing. The op need
    not be registered.
    """
    body = await _read_body(request, schemas.StopBody, required=False)
    return _json(pause_shape(await pause_op(request, caller, op, body.reason)))


@router.post(
    "/ops/{op}/resume", response_model=schemas.Resumed, responses=_problems(), tags=["ops"]
)
async def post_op_resume(request: Request, caller: Admin, op: OpName) -> Response:
    """Have the workers claim tasks of an op again; an op that is not paused stays so."""
    ended = await resume_op(request, caller, op)
    return _json({"op": op, "was": None if ended is None else pause_shape(ended)})


@router.get("/workers", response_model=schemas.Workers, responses=_problems(), tags=["ops"])
async def get_workers(
    request: Request,
    caller: Reader,
    limit: Limit = 100,
    cursor: Annotated[str | None, Query(description="The 'next' of another page.")] = None,
) -> Response:
    """List who works on the store, by owner: its workers, and other owners of tasks that run.

    It takes a token for every op.
    """
    with _cursor_of(cursor):
        page = await list_workers(request, caller, cursor, _page(request, limit))
    return _json(workers_shape(page))


@router.post(
    "/workers/{owner}/drain",
    response_model=schemas.Drained,
    responses=_problems(404, *_BODY),
    openapi_extra=_takes(schemas.StopBody),
    tags=["ops"],
)
async def post_drain(request: Request, caller: Admin, owner: WorkerOwner) -> Response:
    """Have one worker claim no more tasks. What it runs goes on, and so does its process.

    The first drain stays; another one changes nothing. It ends with an undrain, or with the worker.
    """
    body = await _read_body(request, schemas.StopBody, required=False)
    drain = await drain_worker(request, caller, owner, body.reason)
    return _json({"owner": owner, "drain": drain_shape(drain)})


@router.post(
    "/workers/{owner}/undrain",
    response_model=schemas.Undrained,
    responses=_problems(404),
    tags=["ops"],
)
async def post_undrain(request: Request, caller: Admin, owner: WorkerOwner) -> Response:
    """Have a worker claim tasks again."""
    await undrain_worker(request, caller, owner)
    return _json({"owner": owner})


# --- the store ------------------------------------------------------------------------------------


@router.get("/stats", response_model=schemas.Stats, responses=_problems(), tags=["store"])
async def get_stats(
    request: Request,
    caller: Reader,
    max_age: Annotated[
        float, Query(ge=0, le=60, description="Seconds: numbers of this age are good enough.")
    ] = 7.5,
) -> Response:
    """What waits and what runs, by op: the same numbers from every process of the store.

    Rates are those of the last minutes, as far as this server has seen them. It takes a token for
    an op.
    """
    need_ops(caller)
    state = state_of(request)
    backlog = await state.manager.store.backlog.read(max_age=max_age)
    state.trend.note(backlog)
    rates = state.trend.find_rates()
    shape = backlog_shape(backlog)
    ops = [
        one | {"rates": None if rates is None else rates.shape(one["op"])}
        for one in shape["ops"]
        if caller.may(Scope.READ, one["op"])
    ]
    return _json(shape | {"rates_over": None if rates is None else rates.over, "ops": ops})


@router.get(
    "/traces/{trace_id}", response_model=schemas.Attempts, responses=_problems(), tags=["store"]
)
async def get_trace(
    request: Request,
    caller: Reader,
    trace_id: Annotated[str, Path(examples=["4bf92f3577b34da6a3ce929d0e0e4736"])],
) -> Response:
    """The attempts whose run spans are in a trace."""
    found = await state_of(request).manager.store.find_traced(
        check_trace_id(trace_id), limit=_TRACED
    )
    attempts = [traced_shape(one) for one in found if caller.may(Scope.READ, one.op, one.tags)]
    return _json({"attempts": attempts})


@router.post(
    "/audit",
    response_model=schemas.Audit,
    responses=_problems(*_BODY),
    openapi_extra=_takes(schemas.AuditBody),
    tags=["store"],
)
async def audit(request: Request, caller: Admin) -> Response:
    """Check every tape of the store. One at a time; it may take long."""
    body = await _read_body(request, schemas.AuditBody, required=False)
    state = state_of(request)
    with acting(request, caller, "audit", "of the store") as became:
        report = await state.audit(
            thorough=body.thorough, grace=body.grace, rows_per_second=body.rows_per_second
        )
        became.append(f"{report.checked} tapes, {len(report.violations)} violations")
    return _json(audit_shape(report))

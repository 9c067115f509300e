"""Tapes, live or by pages, and what came too late for them."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import Annotated, Final

from fastapi import Header, Query, Request, Response

from tapescope.errors import BadSetting
from tapescope.http.access import Caller, Scope
from tapescope.http.api import schemas
from tapescope.http.api.parsing import parse_seq, parse_time
from tapescope.http.api.problems import Refused
from tapescope.http.api.routes.openapi import problems, refer
from tapescope.http.api.routes.requests import (
    AfterSeq,
    Limit,
    Reader,
    TaskId,
    Time,
    Wait,
    make_router,
    page_size,
    reply,
    wait_for,
)
from tapescope.http.api.state import state_of
from tapescope.http.api.stream import EventStream, JsonLines, StreamForm, TapeStream, choose_form
from tapescope.http.api.task_acts import reach
from tapescope.model.json_shapes import drops_shape, tape_shape
from tapescope.store.follow import TapeBatch

__all__ = ["open_stream", "router"]

router = make_router()

_STREAMED: Final = {"anyOf": [refer(schemas.StreamedEvent), refer(schemas.StreamError)]}
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
            "contentSchema": {"anyOf": [refer(schemas.StreamedEvent), refer(schemas.Problem)]},
        },
    },
}


@router.get(
    "/tasks/{task_id}/tape", response_model=schemas.Tape, responses=problems(404), tags=["tapes"]
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
    handle, most = state.manager.handle(task_id), page_size(request, limit)
    page = await handle.tape(after_seq=after_seq, limit=most)
    if wait and not page.events and page.final_seq is None:
        with state.seats.seated():
            async with aclosing(handle.follow_batches(after_seq)) as batches:
                await wait_for(request, _take_one(batches), wait)
        page = await handle.tape(after_seq=after_seq, limit=most)
    return reply(tape_shape(page))


async def _take_one(batches: AsyncGenerator[TapeBatch, None]) -> None:
    await anext(batches, None)


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
        **problems(404, 406),
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
    responses=problems(404),
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
        limit=page_size(request, limit),
    )
    if not page.counts:
        await manager.handle(task_id).status()  # raises, where there is no such task
    return reply(drops_shape(page))


@router.get("/drops", response_model=schemas.Drops, responses=problems(), tags=["tapes"])
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
        limit=page_size(request, limit),
    )
    return reply(drops_shape(page))


def _need_every_op(caller: Caller) -> None:
    if not caller.may(Scope.READ):
        detail = "A late event may be of any task, and the token is for some. Ask for one task's."
        raise Refused(403, "Forbidden", detail)

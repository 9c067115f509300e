"""What each request passes before its route, and what a route asks of it and answers."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Generator
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Annotated, Any, TypeVar

import orjson
from fastapi import APIRouter, Depends, Path, Query, Request, Response
from fastapi.security import HTTPBearer
from pydantic import BaseModel, ValidationError, WithJsonSchema
from starlette.requests import ClientDisconnect

from tapescope.errors import BadSetting
from tapescope.http.access import Caller, Scope
from tapescope.http.api.problems import Refused
from tapescope.http.api.state import WAITED, state_of

if TYPE_CHECKING:
    from tapescope.manager import TaskHandle

__all__ = [
    "Admin",
    "AfterSeq",
    "Canceller",
    "Limit",
    "Reader",
    "Submitter",
    "TaskId",
    "Time",
    "Wait",
    "cursor_of",
    "make_router",
    "page_size",
    "read_body",
    "read_bytes",
    "reply",
    "reply_submitted",
    "wait_for",
]

B = TypeVar("B", bound=BaseModel)


def reply(shape: object, status: int = 200, headers: dict[str, str] | None = None) -> Response:
    """An answer in JSON."""
    return Response(orjson.dumps(shape), status, headers=headers, media_type="application/json")


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


def page_size(request: Request, limit: int) -> int:
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


async def read_body(request: Request, model: type[B], *, required: bool) -> B:
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


def make_router() -> APIRouter:
    """For routes below ``/v1``, of which each takes what its signature has and no more."""
    return APIRouter(
        prefix="/v1",
        dependencies=[
            Depends(_refuse_unknown_query),
            Depends(_refuse_over_limits),
            Depends(HTTPBearer(auto_error=False, description="A token of 'tapescope token add'.")),
        ],
    )


@contextmanager
def cursor_of(cursor: str | None, name: str = "after") -> Generator[None]:
    """A place in a list that is wrong is told by the name that the query has for it.

    ``name`` is what the port has. Raises ``BadSetting``.
    """
    try:
        yield
    except BadSetting as error:
        if error.name != name:
            raise
        raise BadSetting("cursor", cursor, error.expected) from error


async def wait_for(request: Request, work: Any, wait: float) -> None:
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


def reply_submitted(request: Request, handle: TaskHandle, op: str) -> Response:
    """A task that was submitted, or found by a key."""
    return reply(
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

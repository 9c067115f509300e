"""The forms: each asks who it is, does one thing, and leads to a page that reads."""

from __future__ import annotations

import secrets
from typing import Any, Final, cast
from urllib.parse import quote, urlencode

import orjson
from fastapi import APIRouter, Request, Response

from tapescope.errors import BadSetting, TapescopeError
from tapescope.http.access import Scope
from tapescope.http.api.page.page_route import PageRoute, enter, go_to, read_form, read_query
from tapescope.http.api.page.rendering import render
from tapescope.http.api.problems import Refused, describe
from tapescope.http.api.state import acting, state_of
from tapescope.http.api.stop_acts import pause_op, resume_op
from tapescope.http.api.task_acts import cancel_task, reach, retry_task, submit_task
from tapescope.store.validation import check_op

__all__ = ["router"]

_MOST: Final = 200
"""Tasks of one bulk act."""
_ACTS: Final = {"cancel": Scope.CANCEL, "retry": Scope.SUBMIT}

router = APIRouter(route_class=PageRoute, include_in_schema=False)


@router.post("/tasks/{task_id}/cancel")
async def send_cancel(request: Request, task_id: str) -> Response:
    """Request a cancel, with a reason."""
    caller = await enter(request, Scope.CANCEL)
    form = dict(await read_form(request))
    await cancel_task(request, caller, task_id, form.get("message", "").strip())
    return go_to(request, f"/tasks/{quote(task_id, safe='')}")


@router.post("/tasks/{task_id}/retry")
async def send_retry(request: Request, task_id: str) -> Response:
    """Submit an ended task again, and go to the new one."""
    caller = await enter(request, Scope.SUBMIT)
    await read_form(request)
    again, _ = await retry_task(request, caller, task_id)
    return go_to(request, f"/tasks/{again.task_id}")


# --- many at once ---------------------------------------------------------------------------------


def _read_bulk(form: list[tuple[str, str]]) -> tuple[str, list[str], str]:
    """What is to be done, with which tasks, and where to go then. Raises ``BadSetting``."""
    fields = dict(form)
    act = fields.get("act", "")
    if act not in _ACTS:
        raise BadSetting("act", act, "cancel or retry")
    task_ids = list(dict.fromkeys(value for name, value in form if name == "id"))
    if not 1 <= len(task_ids) <= _MOST:
        raise BadSetting("id", f"{len(task_ids)} tasks", f"1 to {_MOST} tasks that are chosen")
    return act, task_ids, check_path(fields.get("back", "/tasks"))


def check_path(path: str) -> str:
    """A path of ours that a form names. Raises ``BadSetting`` for what may lead elsewhere."""
    plain = path.isascii() and path.isprintable() and not set(path) & set("\\ ")
    if not plain or not path.startswith("/") or path.startswith("//"):
        raise BadSetting("path", path, "a path of this server")
    return path


@router.post("/tasks/confirm")
async def confirm(request: Request) -> Response:
    """Show what is about to be done, and ask for a reason."""
    caller = await enter(request)
    act, task_ids, back = _read_bulk(await read_form(request))
    tasks: list[Any] = []
    refused: list[tuple[str, str]] = []
    for task_id in task_ids:
        try:
            await reach(request, caller, _ACTS[act], task_id)
            task = await state_of(request).manager.handle(task_id).status()
        except (Refused, TapescopeError) as error:
            refused.append((task_id, describe(error)[0]["detail"]))
            continue
        fits = task.status.terminal == (act == "retry")
        if fits:
            tasks.append(task)
        else:
            why = "it has not ended" if act == "retry" else f"it has {task.status.value}"
            refused.append((task_id, why))
    return await render(request, "confirm.html", act=act, tasks=tasks, refused=refused, back=back)


@router.post("/tasks/bulk")
async def act_on_many(request: Request) -> Response:
    """Cancel or retry all that was confirmed, one by one; one that fails stops no other."""
    caller = await enter(request)
    form = await read_form(request)
    act, task_ids, back = _read_bulk(form)
    message = dict(form).get("message", "").strip()
    done = refused = 0
    for task_id in task_ids:
        try:
            if act == "cancel":
                await cancel_task(request, caller, task_id, message)
            else:
                await retry_task(request, caller, task_id)
        except (Refused, TapescopeError) as error:
            describe(error)  # logs what is the server's own fault; acting() has told of the act
            refused += 1
        else:
            done += 1
    query = urlencode({"did": act, "done": done, "refused": refused})
    return go_to(request, f"{back}{'&' if '?' in back else '?'}{query}")


# --- pauses of ops --------------------------------------------------------------------------------


@router.post("/ops/{op}/pause")
async def send_op_pause(request: Request, op: str) -> Response:
    """Have no worker claim its tasks, with a reason."""
    caller = await enter(request, Scope.ADMIN)
    form = dict(await read_form(request))
    pause = await pause_op(request, caller, op, form.get("reason", "").strip())
    return go_to(request, f"/ops/{quote(pause.op, safe='')}?did=pause")


@router.post("/ops/{op}/resume")
async def send_op_resume(request: Request, op: str) -> Response:
    """Have the workers claim its tasks again."""
    caller = await enter(request, Scope.ADMIN)
    await read_form(request)
    await resume_op(request, caller, op)
    return go_to(request, f"/ops/{quote(op, safe='')}?did=resume")


# --- submit and audit -----------------------------------------------------------------------------


@router.get("/submit")
async def show_submit(request: Request) -> Response:
    """A form for a task of an op that is registered."""
    caller = await enter(request, Scope.SUBMIT)
    query = read_query(request, "op")
    manager = state_of(request).manager
    known = {*manager.ops, *await manager.store.ops.read()}
    tags = sorted(caller.find_tags(Scope.SUBMIT))
    return await render(
        request,
        "submit.html",
        ops=sorted(op for op in known if tags or caller.may(Scope.SUBMIT, op)),
        tags=tags[0] if tags and caller.find_ops(Scope.SUBMIT) == frozenset() else "",
        chosen=query.get("op"),
        key=f"page-{secrets.token_hex(12)}",
    )


@router.post("/submit")
async def submit(request: Request) -> Response:
    """Submit a task. The form has a key: sent twice it makes one task."""
    caller = await enter(request, Scope.SUBMIT)
    form = dict(await read_form(request))
    op = check_op(form.get("op", ""))
    try:
        params = orjson.loads(form.get("params", "").strip() or "{}")
    except ValueError as error:
        raise BadSetting("params", "", f"JSON ({error})") from error
    if not isinstance(params, dict):
        raise BadSetting("params", params, "a JSON object: its keys are the arguments")
    handle = await submit_task(
        request,
        caller,
        op,
        params=cast("dict[str, Any]", params),
        tags=form.get("tags", "").split(),
        idempotency_key=form.get("key", "").strip() or None,
    )
    return go_to(request, f"/tasks/{handle.task_id}")


@router.post("/audit")
async def audit(request: Request) -> Response:
    """Check every tape of the store."""
    caller = await enter(request, Scope.ADMIN)
    form = dict(await read_form(request))
    with acting(request, caller, "audit", "of the store") as became:
        report = await state_of(request).audit(thorough="thorough" in form)
        became.append(f"{report.checked} tapes, {len(report.violations)} violations")
    return go_to(request, "/audit")

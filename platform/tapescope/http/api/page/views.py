"""The pages that read."""

from __future__ import annotations

from collections import Counter
from collections.abc import AsyncGenerator, Mapping
from datetime import datetime, timedelta
from functools import partial
from typing import Annotated, Any, Final
from urllib.parse import quote, urlencode

import orjson
from fastapi import APIRouter, Header, Request, Response
from starlette.responses import StreamingResponse

from tapescope.errors import BadSetting, UnknownTask
from tapescope.http.access import Caller, Scope
from tapescope.http.api.page.audit_view import view_rules
from tapescope.http.api.page.event_rows import LiveRows
from tapescope.http.api.page.overview import draw_columns, read_overview, sum_ops
from tapescope.http.api.page.page_route import PageRoute, enter, go_to, read_query
from tapescope.http.api.page.rendering import now_us, render, static_file, url_of
from tapescope.http.api.page.schedule_view import view_schedules
from tapescope.http.api.page.task_view import make_late_rows, read_task
from tapescope.http.api.parsing import parse_seq, parse_time
from tapescope.http.api.problems import Refused
from tapescope.http.api.routes import open_stream
from tapescope.http.api.schedule_acts import list_visible
from tapescope.http.api.search import LOOKED, find_tasks
from tapescope.http.api.state import AT_READERS_PACE, ApiState, state_of
from tapescope.http.api.task_acts import reach
from tapescope.manager.lost_tasks import find_lost, status_of
from tapescope.model.backlog import OpBacklog
from tapescope.model.json_shapes import drop_shape, event_shape
from tapescope.model.tasks import Task, TaskPage, TaskStatus, is_op
from tapescope.model.times import moment
from tapescope.store.short_ids import find_ids
from tapescope.store.validation import check_choice, check_op, check_trace_id

__all__ = ["router"]

_PAGE: Final = 50
_MOST: Final = 200
"""Rows of one page, at most."""
_SPANS: Final[Mapping[str, timedelta]] = {
    "15m": timedelta(minutes=15),
    "1h": timedelta(hours=1),
    "24h": timedelta(days=1),
    "7d": timedelta(days=7),
}
"""What ``since`` and ``until`` may be beside a time: so long ago."""
_EXPORTED: Final = 1_000
"""Events that are read at once for an export."""
_TRACED: Final = 500
_SCHEDULES: Final = 20
_LOOKED: Final = 1_000
"""Schedules that the page of an op looks at for its own."""
_ERRORS: Final = 200
"""Failed tasks whose errors are counted."""

router = APIRouter(route_class=PageRoute, include_in_schema=False)


def _parse_when(name: str, text: str | None) -> datetime | None:
    """``15m``, ``1h``, ``24h`` or ``7d`` ago, or a time. Raises ``BadSetting``."""
    if text is not None and text in _SPANS:
        ago: datetime = moment(now_us()) - _SPANS[text]
        return ago
    if text is not None and len(text) == 16:  # as a field for a time of HTML has it; it is UTC
        text += ":00Z"
    return parse_time(name, text)


def _parse_whole(name: str, text: str | None) -> int | None:
    if text is None:
        return None
    if not (text.isascii() and text.isdecimal() and len(text) < 16):
        raise BadSetting(name, text, "a whole number")
    return int(text)


@router.get("/static/{name}")
async def get_static(name: str) -> Response:
    """A script, a style or a picture of ours: for everybody, and for good."""
    try:
        _, content, kind = static_file(name)
    except KeyError:
        raise Refused(404, "NoSuchPath", "There is no such file.") from None
    headers = {"Cache-Control": "public, max-age=31536000, immutable"}
    return Response(content, media_type=kind, headers=headers)


@router.get("/")
async def show_overview(request: Request) -> Response:
    """What waits, what runs, and what needs a person."""
    caller = await enter(request)
    read_query(request)
    state = state_of(request)
    if caller.find_ops(Scope.READ) == frozenset():  # its numbers are of ops: a tag has its tasks
        return go_to(request, "/tasks")
    overview = await read_overview(state, caller)
    return await render(request, "overview.html", overview=overview, last_audit=state.last_audit)


# --- tasks ----------------------------------------------------------------------------------------

_CHILDREN: Final = 20
"""Children of a task that its page lists."""
_FILTERS: Final = (
    "status",
    "op",
    "text",
    "owner",
    "queue",
    "key",
    "tag",
    "parent",
    "since",
    "until",
)


@router.get("/tasks")
async def show_tasks(request: Request) -> Response:
    """Tasks, newest first, as the filters in the URL have them."""
    caller = await enter(request)
    query = read_query(request, *_FILTERS, "trace", "limit", "cursor", "did", "done", "refused")
    if "trace" in query:
        return go_to(request, f"/trace/{quote(check_trace_id(query['trace'].lower()), safe='')}")
    state = state_of(request)
    _narrow(caller, query)
    page = await _read_tasks(state, query)
    backlog = await state.manager.store.backlog.read()
    visible = [one for one in backlog.ops if caller.may(Scope.READ, one.op)]
    counted = [one for one in visible if query.get("op") in (None, one.op)]
    by_tag = not caller.may(Scope.READ, query.get("op"))  # and no number is of a tag
    chosen: dict[str, str] = {n: query[n] for n in (*_FILTERS, "limit") if n in query}
    return await render(
        request,
        "tasks.html",
        page=page,
        statuses=_statuses(state, page.tasks),
        sums=None if by_tag else sum_ops(counted),
        every_op=by_tag or caller.may(Scope.READ),
        ops=[one.op for one in visible],
        chosen=dict.fromkeys(_FILTERS) | chosen,
        filtered=bool(chosen),
        every_status=list(TaskStatus),
        spans=list(_SPANS),
        live=not {"cursor", "text"} & set(query),  # what is looked for takes a look at each
        looked=LOOKED,
        here="/tasks" + (f"?{urlencode(chosen)}" if chosen else ""),
        link=partial(_link, chosen),
        did=query.get("did"),
        done=_parse_whole("done", query.get("done")) or 0,
        refused=_parse_whole("refused", query.get("refused")) or 0,
    )


async def _read_tasks(state: ApiState, query: Mapping[str, str]) -> TaskPage:
    """The page of the list that the query asks for. Raises ``BadSetting``."""
    status, text = query.get("status"), query.get("text")
    read = partial(
        state.manager.store.list,
        status=None if status is None else check_choice("status", TaskStatus, status),
        op=query.get("op"),
        owner=query.get("owner"),
        queue=query.get("queue"),
        idempotency_key=query.get("key"),
        tag=query.get("tag"),
        parent_id=query.get("parent"),
        since=_parse_when("since", query.get("since")),
        until=_parse_when("until", query.get("until")),
    )
    limit = min(_parse_whole("limit", query.get("limit")) or _PAGE, _MOST)
    before = query.get("cursor")
    if text is None:
        return await read(limit=limit, before=before, params=False)
    return await find_tasks(lambda at, many: read(limit=many, before=at), before, limit, text=text)


def _narrow(caller: Caller, query: dict[str, str]) -> None:
    """Have the filters show what the caller may see: with an op of the token's where none is named,
    else with a tag of it. Raises ``Refused``."""
    op, tag = query.get("op"), query.get("tag")
    if caller.may(Scope.READ, op, () if tag is None else (tag,)):
        return
    ops, tags = caller.find_ops(Scope.READ) or frozenset(), caller.find_tags(Scope.READ)
    if op is None and ops:
        query["op"] = min(ops)
    elif tag is None and tags:
        query["tag"] = min(tags)
    else:
        which = "with this tag" if op is None else "of this op"
        raise Refused(403, "Forbidden", f"The token cannot read tasks {which}.")


def _link(chosen: Mapping[str, str], **more: str | None) -> str:
    """The list with other filters; ``None`` takes one away."""
    query = {name: value for name, value in {**chosen, **more}.items() if value is not None}
    return "/tasks" + (f"?{urlencode(query)}" if query else "")


def _statuses(state: ApiState, tasks: tuple[Task, ...]) -> dict[str, str]:
    """By id the status, or ``lost``."""
    lost = find_lost(state.manager.store, tasks, now_us())
    return {task.task_id: status_of(task, lost) for task in tasks}


@router.get("/tasks/{task_id}")
async def show_task(request: Request, task_id: str) -> Response:
    """A task: its life, its tape, and what came too late for it."""
    caller = await enter(request)
    query = read_query(request, "after", "part")
    state = state_of(request)
    task = await _get(state, caller, task_id)
    after, life = _parse_whole("after", query.get("after")), query.get("part") == "life"
    view = await read_task(state.manager.store, task, after, rows=not life)
    return await render(
        request,
        "task.html",
        view=view,
        task=view.task,
        part=life,
        traced=await state.manager.store.read_traced([task_id]),
        **await _read_family(state, caller, view.task),
    )


async def _read_family(state: ApiState, caller: Caller, task: Task) -> dict[str, Any]:
    """The newest tasks that its runner submitted and the caller may see, with their statuses; and
    whether there are more."""
    page = await state.manager.store.list(parent_id=task.task_id, limit=_CHILDREN, params=False)
    children = tuple(one for one in page.tasks if caller.may(Scope.READ, one.op, one.tags))
    return {
        "children": children,
        "statuses": _statuses(state, children),
        "more_children": page.next is not None,
    }


async def _get(state: ApiState, caller: Caller, task_id: str) -> Task:
    """The task, if the caller may see it. Raises ``UnknownTask``."""
    task = await state.manager.handle(task_id).status()
    if not caller.may(Scope.READ, task.op, task.tags):
        raise UnknownTask(task_id)
    return task


async def _may_see(state: ApiState, caller: Caller, task_id: str) -> bool:
    """Whether the caller may learn that there is such a task."""
    try:
        await _get(state, caller, task_id)
    except UnknownTask:
        return False
    return True


@router.get("/tasks/{task_id}/live")
async def follow_task(
    request: Request,
    task_id: str,
    last_event_id: Annotated[str | None, Header()] = None,
) -> Response:
    """The rows of the tape, as they are committed."""
    caller = await enter(request)
    query = read_query(request, "after")
    task = await _get(state_of(request), caller, task_id)
    after = parse_seq(last_event_id or query.get("after", "0"))
    rows = LiveRows(task.created_us, url_of(request, f"/tasks/{quote(task_id, safe='')}"))
    return await open_stream(request, caller, task_id, after, rows)


@router.get("/tasks/{task_id}/tape.ndjson")
async def export_task(request: Request, task_id: str) -> Response:
    """The whole tape as it stands now, and its late events behind it, an object a line."""
    caller = await enter(request)
    read_query(request)
    await reach(request, caller, Scope.READ, task_id)
    with state_of(request).seats.seated():  # else it is refused while it can still be told
        name = quote(f"{task_id}.ndjson", safe="")
    request.scope["state"][AT_READERS_PACE] = True
    return StreamingResponse(
        _export(state_of(request), task_id),
        media_type="application/x-ndjson",
        headers={"Content-Disposition": f'attachment; filename="{name}"'},
    )


async def _export(state: ApiState, task_id: str) -> AsyncGenerator[bytes]:
    """A page at a time, at the reader's pace."""
    store, after, drop = state.manager.store, 0, 0
    with state.seats.seated():
        while (page := await store.read_tape(task_id, after_seq=after, limit=_EXPORTED)).events:
            yield b"".join(orjson.dumps(event_shape(one)) + b"\n" for one in page.events)
            after = page.events[-1].seq
        while True:
            late = await store.read_quarantine(task_id, after=drop, limit=_EXPORTED, counted=False)
            yield b"".join(
                orjson.dumps(drop_shape(one) | {"refused": True}) + b"\n" for one in late.drops
            )
            if late.next is None:
                return
            drop = late.next


@router.get("/find")
async def find(request: Request) -> Response:
    """Where what was typed leads: to a task, a trace, an op, or tasks of a key."""
    caller = await enter(request)
    text = read_query(request, "q").get("q", "")
    state = state_of(request)
    if not text:
        return go_to(request, "/tasks")
    if len(text) == 32 and "-" not in text:
        return go_to(request, f"/trace/{quote(text.lower(), safe='')}")
    ids = await find_ids(state.manager.store, text)
    if len(ids) == 1 and (ids[0] == text.lower() or await _may_see(state, caller, ids[0])):
        return go_to(request, f"/tasks/{quote(ids[0], safe='')}")
    backlog = await state.manager.store.backlog.read()
    if is_op(text) and any(one.op == text for one in backlog.ops if caller.may(Scope.READ, one.op)):
        return go_to(request, f"/ops/{quote(text, safe='')}")
    return go_to(request, f"/tasks?{urlencode({'key': text})}")


# --- ops, traces ----------------------------------------------------------------------------------


@router.get("/ops/{op}")
async def show_op(request: Request, op: str) -> Response:
    """One op: its numbers, what fails in it, and its newest tasks."""
    caller = await enter(request)
    query = read_query(request, "did")
    op = check_op(op)
    if not caller.may(Scope.READ, op):
        if caller.find_tags(Scope.READ):  # the tasks of the op that the token is for
            return go_to(request, f"/tasks?{urlencode({'op': op})}")
        raise Refused(403, "Forbidden", "The token cannot read tasks of this op.")
    state = state_of(request)
    store, trend = state.manager.store, state.trend
    backlog = await (store.backlog.read(max_age=0) if "did" in query else store.backlog.read())
    trend.note(backlog)
    one = next((one for one in backlog.ops if one.op == op), OpBacklog(op))
    failed = await store.list(op=op, status=TaskStatus.FAILED, limit=_ERRORS, params=False)
    waiting = await store.list(op=op, status=TaskStatus.PENDING, limit=10, params=False)
    ended = await store.list(op=op, status=TaskStatus.SUCCEEDED, limit=_ERRORS, params=False)
    known = (await store.ops.read()).get(op)
    schedules = await list_visible(request, caller, None, _SCHEDULES, op=op, looked=_LOOKED)
    columns, most = draw_columns(trend.count(now_us(), [op]))
    return await render(
        request,
        "op.html",
        one=one,
        did=query.get("did"),
        known=known,
        waiting=waiting.tasks,
        failed=failed.tasks[:10],
        errors=Counter(task.error_code or "" for task in failed.tasks).most_common(8),
        looked=len(failed.tasks),
        took=_durations(ended.tasks),
        schedules=await view_schedules(store, schedules.schedules, {op: one}, caller),
        more_schedules=schedules.next is not None,
        columns=columns,
        most=most,
        trend_since_us=trend.since_us,
    )


def _durations(tasks: tuple[Task, ...]) -> dict[str, float]:
    """How long these runs took in seconds: the middle one, and the one that 95 % are below."""
    took = sorted(
        max(0, task.finished_us - task.claimed_us) / 1e6
        for task in tasks
        if task.finished_us is not None and task.claimed_us is not None
    )
    if not took:
        return {}
    return {"n": len(took), "median": took[len(took) // 2], "p95": took[int(len(took) * 0.95)]}


@router.get("/trace/{trace_id}")
async def show_trace(request: Request, trace_id: str) -> Response:
    """The attempts whose run spans are in a trace."""
    caller = await enter(request)
    read_query(request)
    trace_id = check_trace_id(trace_id.lower())
    found = await state_of(request).manager.store.find_traced(trace_id, limit=_TRACED)
    attempts = [one for one in found if caller.may(Scope.READ, one.op, one.tags)]
    return await render(request, "trace.html", trace_id=trace_id, attempts=attempts)


# --- integrity ------------------------------------------------------------------------------------


@router.get("/drops")
async def show_drops(request: Request) -> Response:
    """The late events of the store, oldest first."""
    caller = await enter(request)
    if not caller.may(Scope.READ):
        raise Refused(403, "Forbidden", "It takes a token that may read every op.")
    query = read_query(request, "since", "until", "after")
    store = state_of(request).manager.store
    page = await store.read_quarantine(
        since=_parse_when("since", query.get("since")),
        until=_parse_when("until", query.get("until")),
        after=_parse_whole("after", query.get("after")) or 0,
        limit=_PAGE,
    )
    chosen: dict[str, str] = {n: query[n] for n in ("since", "until") if n in query}
    return await render(
        request,
        "drops.html",
        page=page,
        rows=make_late_rows(page.drops),
        since=chosen.get("since"),
        filtered=bool(chosen),
        spans=list(_SPANS),
        following=None
        if page.next is None
        else f"/drops?{urlencode({**chosen, 'after': str(page.next)})}",
    )


@router.get("/audit")
async def show_audit(request: Request) -> Response:
    """What the last audit of this server found, and a form for the next one."""
    await enter(request, Scope.ADMIN)
    read_query(request)
    state = state_of(request)
    last = state.last_audit
    return await render(
        request,
        "audit.html",
        last=last,
        rules=() if last is None else view_rules(last),
        under_way=state.audits.locked(),
        most=_MOST,
    )

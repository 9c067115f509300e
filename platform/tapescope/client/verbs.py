"""The verbs of a server's tasks, written once for both clients: see ``tapescope.client.wire``.

Every request can be sent again without doing more, but for an audit; so a reply that was lost is
asked for again, and a submit whose reply was lost submits once: it has an ``Idempotency-Key``.
"""

from __future__ import annotations

import math
import uuid
from collections.abc import AsyncGenerator, Callable, Collection, Iterator, Mapping, Sequence
from contextlib import aclosing
from dataclasses import replace
from datetime import datetime
from functools import partial
from typing import TYPE_CHECKING, Any, Final, NamedTuple, TypeVar, cast
from urllib.parse import quote

import orjson

from tapescope.client.problems import (
    Answer,
    is_for_now,
    is_full,
    make_error,
    read_problem,
    read_retry_after,
)
from tapescope.client.shapes import (
    CancelTold,
    SeenTask,
    SeenTasks,
    Shape,
    read_audit,
    read_backlog,
    read_cancel_told,
    read_drained,
    read_drops,
    read_event,
    read_final,
    read_inbox,
    read_pause,
    read_pauses,
    read_resumed,
    read_schedule,
    read_schedules,
    read_seen,
    read_seen_tasks,
    read_sent,
    read_tape,
    read_traced,
    read_workers,
)
from tapescope.client.wire import Broken, Reply, Request, Wire
from tapescope.clock import Backoff
from tapescope.codec import encode
from tapescope.errors import (
    BadSetting,
    DamagedTape,
    RequestRefused,
    ResultTimeout,
    ServerNotUnderstood,
    ServerUnavailable,
    TapeGap,
    TapescopeError,
    TaskCancelled,
    TaskFailed,
    UnknownSchedule,
    UnknownTask,
    UnknownWorker,
)
from tapescope.model.audit import AUDIT_GRACE, AuditReport
from tapescope.model.backlog import Backlog
from tapescope.model.leases import TracedAttempt
from tapescope.model.messages import InboxPage, Sent
from tapescope.model.ops import Drain, Pause, PausePage, WorkerPage
from tapescope.model.schedules import CatchUp, Overlap, Schedule, SchedulePage
from tapescope.model.tape import FINAL, Event, Outcome, QuarantinePage, TapePage
from tapescope.model.tasks import FinalEvent, TaskStatus, is_op
from tapescope.model.times import format_time
from tapescope.store.validation import (
    check_choice,
    check_expiry,
    check_key,
    check_op,
    check_page_size,
    check_params,
    check_parent,
    check_place,
    check_priority,
    check_queue,
    check_retries,
    check_seconds,
    check_tag,
    check_tags,
    check_text,
    check_time,
    check_trace_id,
    is_task_id,
)
from tapescope_telemetry.spans import name_callers_span

if TYPE_CHECKING:
    from tapescope.manager import Op, Submission

__all__ = ["Lost", "Submitted", "Verbs", "pass_outcomes"]

T = TypeVar("T")

Lost = Callable[[str], object]
"""Told once, in words, when a follower or a waiting caller has lost the server."""
Submitted = tuple[str, bool]
"""The id of a task, and whether it is new."""

_MOST: Final = 67_108_864
"""Bytes of an answer, or of a line of one."""
_WHOLE_WITHIN: Final = 10.0
"""Times the client's timeout: how long a whole answer may take that comes byte by byte."""
_WAIT: Final = 30.0
"""Seconds that one request waits for the end of a task; the server allows 60."""
_AT_LEAST: Final = 5.0
"""Seconds that a server has to answer, however soon the wait is over."""
_PAGE: Final = 1_000
"""The most that a page of a server has."""
_BATCH: Final = 500
_BATCH_BYTES: Final = 500_000
"""Tasks of one request, and the bytes of them: a server takes twice as much."""
_LINES: Final = "application/x-ndjson"
_MAYBE_DONE: Final = (502, 503, 504)
"""Statuses of a server, or of a proxy before it, after which a request may have been done."""
_LASTED: Final = 5.0
"""Seconds that a stream was open without a word, after which its server is known to be there."""
_BEATS: Final = 45.0
"""Seconds without a byte after which a stream is taken for dead: the server sends one every 15."""


def pass_outcomes(
    outcomes: Sequence[Submitted | TapescopeError], *, raising: bool
) -> Sequence[Submitted | TapescopeError]:
    """What became of many submits; with ``raising`` it raises the first error among them."""
    if raising:
        for one in outcomes:
            if isinstance(one, TapescopeError):
                raise one
    return outcomes


class _Pauses(Backoff):
    """Waits between two tries, of at most 2 s, unless the server asks for more."""

    def __init__(self) -> None:
        super().__init__(first=0.05, most=2.0)

    def choose_after(self, asked: float | None) -> float:
        """The next one in seconds, no shorter than what the server asked for."""
        return max(asked or 0.0, self.choose())


class _Tries:
    """What is known of the tries of one request."""

    maybe_done = False
    """Whether a try whose answer was lost may have been done all the same."""


class _Again(Exception):
    """The stream has ended, and goes on by another request."""

    def __init__(self, why: str, after: float | None) -> None:
        self.why, self.after = why, after
        super().__init__(why)


class Verbs:
    """What can be asked of a server. Values are those of the model, errors those of the platform.

    Each raises ``ServerUnavailable``, ``ServerNotUnderstood``, ``ServerFailed``, ``TokenRefused``,
    ``ScopeMissing``, ``RequestRefused`` and ``ClientClosed``, and an error of the platform's where
    the server met one: ``UnknownTask``, ``BadSetting``, ``IdempotencyConflict``.
    """

    def __init__(
        self,
        wire: Wire,
        *,
        timeout: float,
        patience: float,
        reconnect: float,
        on_lost: Lost | None,
    ) -> None:
        self.wire = wire
        self.server = wire.address.url
        self._timeout = check_seconds("timeout", timeout, over_zero=True)
        self._patience = check_seconds("patience", patience)
        self._reconnect = check_seconds("reconnect", reconnect)
        self._on_lost = on_lost

    # --- tasks ------------------------------------------------------------------------------------

    async def submit(
        self,
        op: str,
        *,
        params: Mapping[str, Any] | None = None,
        delay: float | None = None,
        run_at: datetime | None = None,
        timeout: float | None = None,  # noqa: ASYNC109  # the task's
        retries: int | None = None,
        idempotency_key: str | None = None,
        priority: int | None = None,
        tags: Collection[str] = (),
        unique_key: str | None = None,
        concurrency_key: str | None = None,
        queue: str | None = None,
        expires_in: float | None = None,
    ) -> Submitted:
        """Submit a task. A key of its own is made where none is given."""
        body: dict[str, Any] = {"op": check_op(op), "params": check_params(params or {})}
        if run_at is not None:
            body["run_at"] = format_time(check_time("run_at", run_at))
        body |= _Options(timeout, retries, priority, tags, queue, expires_in).describe()
        given = {
            "delay": delay,
            "unique_key": None if unique_key is None else check_key(unique_key, "unique_key"),
            "concurrency_key": None
            if concurrency_key is None
            else check_key(concurrency_key, "concurrency_key"),
        }
        body |= {name: value for name, value in given.items() if value is not None}
        made_here = idempotency_key is None
        shape = await self._ask(
            "POST",
            "/v1/tasks",
            body=encode(body, "params").encode(),
            headers={"Idempotency-Key": _choose_key(idempotency_key)},
        )
        return self._read(shape, lambda s: (str(s["task_id"]), _was_made(s, made_here=made_here)))

    async def submit_many(
        self, submissions: Sequence[Submission[Any]]
    ) -> Sequence[Submitted | TapescopeError]:
        """Submit many tasks, each with a key: gives what became of each, in their order.

        Where a part of them is refused or lost as a whole, each of it has that error, and each of
        the parts behind it, which are not sent. Raises, before any is sent, what can be seen here.
        """
        parts = list(_pack([_describe_submission(one) for one in submissions]))
        outcomes: list[Submitted | TapescopeError] = []
        for number, part in enumerate(parts):
            try:
                outcomes += await self._submit_part(part)
            except TapescopeError as error:
                outcomes += [error] * sum(map(len, parts[number:]))
                break
        return outcomes

    async def _submit_part(
        self, part: Sequence[tuple[bytes, bool]]
    ) -> Sequence[Submitted | TapescopeError]:
        """Submit what one request may have. Raises what all of it met."""
        body = b'{"tasks":[' + b",".join(text for text, _ in part) + b"]}"
        shape = await self._ask("POST", "/v1/tasks:batch", body=body)
        rows = self._read(shape, partial(_read_rows, n=len(part)))
        outcomes: list[Submitted | TapescopeError] = []
        for row, (_, made_here) in zip(rows, part, strict=True):
            if row["problem"] is None:
                task_id = self._read(row, lambda one: str(one["task_id"]))
                outcomes.append((task_id, _was_made(row, made_here=made_here)))
                continue
            problem = read_problem(row["problem"])
            if problem is None:
                raise ServerNotUnderstood(self.server, "a task is refused for no reason")
            outcomes.append(make_error(self.server, problem))
        return outcomes

    async def retry(self, task_id: str, *, idempotency_key: str | None = None) -> Submitted:
        """Submit an ended task again: a new one."""
        made_here = idempotency_key is None
        shape = await self._ask(
            "POST",
            f"{_path(task_id)}/retry",
            headers={"Idempotency-Key": _choose_key(idempotency_key)},
        )
        return self._read(shape, lambda s: (str(s["task_id"]), _was_made(s, made_here=made_here)))

    async def see(self, task_id: str) -> SeenTask:
        """The task as its row stands, and whether its owner is lost."""
        return self._read(await self._ask("GET", _path(task_id)), read_seen)

    async def list(
        self,
        *,
        status: TaskStatus | str | None = None,
        op: str | None = None,
        owner: str | None = None,
        queue: str | None = None,
        idempotency_key: str | None = None,
        tag: str | None = None,
        parent_id: str | None = None,
        since: datetime | None = None,
        until: datetime | None = None,
        limit: int = 50,
        before: str | None = None,
    ) -> SeenTasks:
        """A page of tasks, newest first, of at most 1,000."""
        query = _query(
            status=None if status is None else check_choice("status", TaskStatus, status).value,
            op=op,
            owner=owner,
            queue=None if queue is None else check_queue(queue),
            key=idempotency_key,
            tag=None if tag is None else check_tag(tag),
            parent=None if parent_id is None else check_parent(parent_id),
            since=_format(since, "since"),
            until=_format(until, "until"),
            limit=min(check_page_size(limit), _PAGE),
            cursor=before,
        )
        return self._read(await self._ask("GET", "/v1/tasks", query), read_seen_tasks)

    async def cancel(self, task_id: str, message: str = "") -> CancelTold:
        """Request a cancel; returns once it is recorded, not once the task has ended."""
        body = encode({"message": message}, "message").encode()
        shape = await self._ask("POST", f"{_path(task_id)}/cancel", body=body)
        return self._read(shape, read_cancel_told)

    async def send(self, task_id: str, body: Any, *, key: str | None = None) -> Sent:
        """Send a message to a task. A key of its own is made where none is given."""
        made_here = key is None
        shape = await self._ask(
            "POST",
            f"{_path(task_id)}/messages",
            body=encode({"body": body}, "message").encode(),
            headers={"Idempotency-Key": _choose_key(key)},
        )
        sent = self._read(shape, read_sent)
        return replace(sent, new=made_here or sent.new)

    async def messages(self, task_id: str, *, after: int = 0, limit: int = 100) -> InboxPage:
        """A page of what was sent to a task, of at most 1,000."""
        after = check_place("after", after, of_tape=True)
        query = _query(after=after, limit=min(check_page_size(limit), _PAGE))
        return self._read(await self._ask("GET", f"{_path(task_id)}/messages", query), read_inbox)

    async def await_final(self, task_id: str, timeout: float | None = None) -> FinalEvent:  # noqa: ASYNC109  # a limit of this wait
        """Wait for the task's end, also across restarts of the server."""
        limit = math.inf if timeout is None else check_seconds("timeout", timeout)
        until, pauses = self.wire.monotonic() + limit, _Pauses()
        while True:
            began = self.wire.monotonic()
            wait = max(0.0, min(_WAIT, until - began))
            shape = await self._ask(
                "GET",
                f"{_path(task_id)}/result",
                {"wait": f"{wait:.3f}"},
                silence=wait + min(self._timeout, max(until - began, _AT_LEAST)),
                patience=max(0.0, min(self._reconnect, until - began)),
            )
            if "outcome" in shape:
                return self._read(shape, read_final)
            state = self._read(shape, lambda s: str(s["status"]))
            now = self.wire.monotonic()
            if now >= until:
                assert timeout is not None, "else there is no end of the wait"
                raise ResultTimeout(task_id, timeout, state)
            if now - began < wait / 2:  # a server that is about to stop answers at once
                await self.wire.pause(min(pauses.choose(), until - now))

    async def result(self, task_id: str, timeout: float | None = None) -> Any:  # noqa: ASYNC109  # a limit of this wait
        """What the runner returned. Raises ``TaskFailed``, ``TaskCancelled``, ``ResultTimeout``."""
        final = await self.await_final(task_id, timeout)
        if final.outcome is Outcome.SUCCEEDED:
            return final.result
        if final.outcome is Outcome.CANCELLED and final.cancel is not None:
            raise TaskCancelled(task_id, final.cancel.reason, final.cancel.message)
        if final.error is None:
            raise DamagedTape(task_id, "it has neither a result nor an error")
        raise TaskFailed(task_id, final.error)

    # --- tapes ------------------------------------------------------------------------------------

    async def tape(self, task_id: str, *, after_seq: int = 0, limit: int = _PAGE) -> TapePage:
        """A page of a tape, of at most 1,000 events."""
        after_seq = check_place("after_seq", after_seq, of_tape=True)
        query = _query(after_seq=after_seq, limit=min(check_page_size(limit), _PAGE))
        return self._read(await self._ask("GET", f"{_path(task_id)}/tape", query), read_tape)

    async def drops(
        self,
        task_id: str | None = None,
        *,
        since: datetime | None = None,
        until: datetime | None = None,
        after: int = 0,
        limit: int = _PAGE,
    ) -> QuarantinePage:
        """A page of late events, of one task or of all, of at most 1,000."""
        query = _query(
            since=_format(since, "since"),
            until=_format(until, "until"),
            after=check_place("after", after),
            limit=min(check_page_size(limit), _PAGE),
        )
        path = "/v1/drops" if task_id is None else f"{_path(task_id)}/drops"
        return self._read(await self._ask("GET", path, query), read_drops)

    async def follow(self, task_id: str, after_seq: int = 0) -> AsyncGenerator[Event, None]:
        """Every event after ``after_seq``, live, to the ``final``: each once, in order (I9).

        A connection that is lost is made again, and the stream goes on after the last event that
        was given; a server that does not come back is ``ServerUnavailable`` after ``reconnect``
        seconds. Raises ``TapeGap`` when an event would be missing.
        """
        seen, path = check_place("after_seq", after_seq, of_tape=True), f"{_path(task_id)}/stream"
        pauses, lost_at, known = _Pauses(), None, False
        while True:
            opened: float | None = None
            request = Request(
                "GET",
                path,
                headers={"Accept": _LINES, "Last-Event-ID": str(seen)},
                silence=max(self._timeout, _BEATS),
            )
            try:
                async with self.wire.open(request) as reply:
                    if reply.status == 204:  # the final was seen before
                        await self._check_end(task_id, seen)
                        return
                    answer = Answer(reply.status, reply.headers, b"")
                    if reply.status != 200 or answer.kind != _LINES:
                        answer = await self._read_whole(reply, self._timeout)
                        if not is_for_now(answer.status):
                            raise make_error(self.server, answer)
                        again = make_error(self.server, answer)
                        raise _Again(_why(again), read_retry_after(answer))
                    opened, known = self.wire.monotonic(), True
                    async with aclosing(self._read_lines(reply)) as lines:
                        async for line in lines:
                            if line.strip():
                                event = self._read_line(line)
                                if event.seq <= seen:
                                    continue  # given before: what a proxy repeats is not news
                                if event.seq != seen + 1:
                                    raise TapeGap(task_id, seen + 1, event.seq)
                            else:
                                event = None  # a heartbeat
                            pauses, lost_at = _Pauses(), None
                            if event is None:
                                continue
                            seen = event.seq
                            yield event
                            if event.type == FINAL:
                                return
                raise _Again("the stream ended before the final", None)
            except Broken as broken:
                why, after = broken.why, None
            except _Again as again:
                why, after = again.why, again.after
            now = self.wire.monotonic()
            if opened is not None and now - opened > _LASTED:
                pauses, lost_at = _Pauses(), None
            if lost_at is None:
                lost_at = now
                if known:
                    self._tell_lost(why)
            pause = pauses.choose_after(after)
            if now + pause > lost_at + (self._reconnect if known else self._patience):
                raise ServerUnavailable(self.server, f"{why}; event {seen} was the last one")
            await self.wire.pause(pause)

    async def _check_end(self, task_id: str, seen: int) -> None:
        """See that there is no more: an empty answer is easily another program's."""
        page = await self.tape(task_id, after_seq=seen, limit=1)
        if page.final_seq is None or page.final_seq > seen:
            why = f"it says that the tape ends at event {seen}, and it does not"
            raise ServerNotUnderstood(self.server, why)

    def _tell_lost(self, why: str) -> None:
        if self._on_lost is not None:
            self._on_lost(f"the server {self.server} was lost ({why}): trying again")

    def _read_line(self, line: bytes) -> Event:
        """An event of a stream. Raises what the stream ends with, or ``_Again``."""
        shape = self._decode(line)
        if shape.get("type") == "error" and "seq" not in shape:
            problem = read_problem(shape)
            if problem is None:
                raise ServerNotUnderstood(self.server, "a stream ends with no problem of ours")
            error = make_error(self.server, problem)
            if not is_for_now(problem.status):
                raise error
            after = shape.get("retry_ms")
            raise _Again(_why(error), after / 1e3 if isinstance(after, int) else None)
        return self._read(shape, read_event)

    async def _read_lines(self, reply: Reply) -> AsyncGenerator[bytes, None]:
        """The whole lines of a stream: one that is cut off is not among them."""
        waiting = bytearray()
        async with aclosing(reply.chunks()) as chunks:
            async for chunk in chunks:
                searched, begin = len(waiting), 0
                waiting += chunk
                while (end := waiting.find(b"\n", max(begin, searched))) >= 0:
                    yield bytes(waiting[begin:end])
                    begin = end + 1
                del waiting[:begin]
                if len(waiting) > _MOST:
                    raise ServerNotUnderstood(self.server, f"a line of it is over {_MOST:,} bytes")

    # --- schedules --------------------------------------------------------------------------------

    async def list_schedules(self, *, after: str | None = None, limit: int = 100) -> SchedulePage:
        """A page of schedules, by name, of at most 1,000."""
        path = "/v1/schedules"
        return self._read(await self._ask("GET", path, _page(after, limit)), read_schedules)

    async def get_schedule(self, name: str) -> Schedule:
        """A schedule by its name. Raises ``UnknownSchedule``."""
        return self._read(await self._ask("GET", _schedule_path(name)), read_schedule)

    async def ensure_schedule(
        self,
        name: str,
        what: Op[..., Any, Any] | Submission | str,
        params: Mapping[str, Any] | None,
        *,
        cron: str | None = None,
        every: float | None = None,
        time_zone: str = "UTC",
        catch_up: CatchUp | str = CatchUp.ONE,
        overlap: Overlap | str = Overlap.ALLOW,
    ) -> tuple[Schedule, bool]:
        """Add a schedule, unless the store has it so; says whether it was added."""
        op, plain, options = _read_what(what, params)
        body: dict[str, Any] = {
            "name": check_text("name", name),
            "op": check_op(op),
            "params": check_params(plain),
            "time_zone": check_text("time_zone", time_zone),
            "catch_up": check_choice("catch_up", CatchUp, catch_up).value,
            "overlap": check_choice("overlap", Overlap, overlap).value,
        }
        given = {
            "cron": None if cron is None else check_text("cron", cron),
            "every": None if every is None else check_seconds("every", every),
        }
        body |= options.describe()
        body |= {name: value for name, value in given.items() if value is not None}
        tries = _Tries()
        shape = await self._ask(
            "POST", "/v1/schedules", body=encode(body, "params").encode(), tries=tries
        )
        # What "was there" after a try whose reply was lost is what that one added.
        return self._read(
            shape, lambda s: (read_schedule(s), tries.maybe_done or bool(s["created"]))
        )

    async def pause_schedule(self, name: str) -> Schedule:
        """Have it make no tasks. Raises ``UnknownSchedule``."""
        path = f"{_schedule_path(name)}/pause"
        return self._read(await self._ask("POST", path), read_schedule)

    async def resume_schedule(self, name: str) -> Schedule:
        """Have it make tasks again. Raises ``UnknownSchedule``."""
        path = f"{_schedule_path(name)}/resume"
        return self._read(await self._ask("POST", path), read_schedule)

    async def trigger_schedule(self, name: str, *, idempotency_key: str | None = None) -> Submitted:
        """Make a task of it now. A key of its own is made where none is given."""
        made_here = idempotency_key is None
        shape = await self._ask(
            "POST",
            f"{_schedule_path(name)}/trigger",
            headers={"Idempotency-Key": _choose_key(idempotency_key)},
        )
        return self._read(shape, lambda s: (str(s["task_id"]), made_here or bool(s["created"])))

    async def remove_schedule(self, name: str) -> Schedule | None:
        """Delete it; gives what it was, ``None`` where that was lost with a reply.

        Raises ``UnknownSchedule``.
        """
        tries = _Tries()
        try:
            shape = await self._ask("DELETE", _schedule_path(name), tries=tries)
        except UnknownSchedule:
            if not tries.maybe_done:
                raise
            return None  # the try whose reply was lost has removed it
        return self._read(shape, read_schedule)

    # --- ops and workers --------------------------------------------------------------------------

    async def pause_op(self, op: str, reason: str = "") -> Pause:
        """Have no worker claim its tasks; gives the pause that is in force."""
        body = encode({"reason": check_text("reason", reason)}, "reason").encode()
        path = f"/v1/ops/{check_op(op)}/pause"
        return self._read(await self._ask("POST", path, body=body), read_pause)

    async def resume_op(self, op: str) -> Pause | None:
        """Have the workers claim its tasks again; gives the pause that ended, where it is known."""
        path = f"/v1/ops/{check_op(op)}/resume"
        return self._read(await self._ask("POST", path), read_resumed)

    async def list_pauses(self, *, after: str | None = None, limit: int = 100) -> PausePage:
        """A page of the ops that are paused, by name, of at most 1,000."""
        return self._read(await self._ask("GET", "/v1/pauses", _page(after, limit)), read_pauses)

    async def list_workers(self, *, after: str | None = None, limit: int = 100) -> WorkerPage:
        """A page of who works on the store, by owner, of at most 1,000."""
        return self._read(await self._ask("GET", "/v1/workers", _page(after, limit)), read_workers)

    async def drain_worker(self, owner: str, reason: str = "") -> Drain:
        """Have a worker claim no more tasks; gives the drain that is in force."""
        body = encode({"reason": check_text("reason", reason)}, "reason").encode()
        path = f"{_worker_path(owner)}/drain"
        return self._read(await self._ask("POST", path, body=body), read_drained)

    async def undrain_worker(self, owner: str) -> None:
        """Have a worker claim tasks again. Raises ``UnknownWorker``."""
        await self._ask("POST", f"{_worker_path(owner)}/undrain")

    # --- the store --------------------------------------------------------------------------------

    async def stats(self, *, max_age: float = 7.5) -> Backlog:
        """What waits and runs, read at most ``max_age`` seconds ago."""
        query = _query(max_age=check_seconds("max_age", max_age))
        return self._read(await self._ask("GET", "/v1/stats", query), read_backlog)

    async def find_traced(self, trace_id: str) -> Sequence[TracedAttempt]:
        """The attempts whose run spans are in a trace."""
        path = f"/v1/traces/{check_trace_id(trace_id)}"
        return self._read(await self._ask("GET", path), read_traced)

    async def read_traced(self, task_id: str) -> Sequence[TracedAttempt]:
        """The attempts of a task whose run spans were recorded."""
        return self._read(await self._ask("GET", f"{_path(task_id)}/traces"), read_traced)

    async def audit(
        self,
        *,
        thorough: bool = False,
        grace: float = AUDIT_GRACE,
        rows_per_second: float | None = None,
    ) -> AuditReport:
        """Check every tape of the store. However long it takes, it is waited for."""
        body = {"thorough": thorough, "grace": grace, "rows_per_second": rows_per_second}
        shape = await self._ask(
            "POST",
            "/v1/audit",
            body=encode(body, "settings").encode(),
            silence=math.inf,
            can_be_sent_again=False,
        )
        return self._read(shape, read_audit)

    # --- requests ---------------------------------------------------------------------------------

    async def _ask(
        self,
        method: str,
        path: str,
        query: Mapping[str, str] | None = None,
        *,
        headers: Mapping[str, str] | None = None,
        body: bytes | None = None,
        silence: float | None = None,
        patience: float | None = None,
        can_be_sent_again: bool = True,
        tries: _Tries | None = None,
    ) -> Shape:
        """The JSON object that the server answers; asked again while the patience lasts."""
        kind = {} if body is None else {"Content-Type": "application/json"}
        request = Request(
            method,
            path,
            query or {},
            {"Accept": "application/json", **kind, **name_callers_span(), **(headers or {})},
            body,
            self._timeout if silence is None else silence,
            can_be_sent_again,
        )
        patience = self._patience if patience is None else patience
        until, pauses = self.wire.monotonic() + patience, _Pauses()
        while True:
            after: float | None = None
            try:
                answer = await self._send(request)
            except Broken as broken:
                error: Exception = ServerUnavailable(self.server, broken.why)
                if broken.sent and not request.can_be_sent_again:
                    raise error from broken
                maybe_done = broken.sent
            else:
                maybe_done = answer.status in _MAYBE_DONE
                if answer.status < 300:
                    return self._decode_whole(answer)
                error, after = make_error(self.server, answer), read_retry_after(answer)
                if not is_for_now(answer.status) or is_full(error):
                    raise error
            if tries is not None and maybe_done:
                tries.maybe_done = True
            pause = pauses.choose_after(after)
            if self.wire.monotonic() + pause > until:
                raise error
            await self.wire.pause(pause)

    async def _send(self, request: Request) -> Answer:
        async with self.wire.open(request) as reply:
            return await self._read_whole(reply, request.silence)

    async def _read_whole(self, reply: Reply, silence: float) -> Answer:
        """The answer with its body, within limits of size and of time. Raises ``Broken``."""
        until = self.wire.monotonic() + max(silence, self._timeout) * _WHOLE_WITHIN
        body = bytearray()
        async with aclosing(reply.chunks()) as chunks:
            async for chunk in chunks:
                body += chunk
                if len(body) > _MOST:
                    raise ServerNotUnderstood(self.server, f"it is over {_MOST:,} bytes")
                if self.wire.monotonic() > until:
                    raise Broken("its answer came too slowly", sent=True)
        return Answer(reply.status, reply.headers, bytes(body))

    def _decode_whole(self, answer: Answer) -> Shape:
        if answer.kind != "application/json":
            raise make_error(self.server, answer)
        return self._decode(answer.body)

    def _decode(self, text: bytes) -> Shape:
        try:
            shape: object = orjson.loads(text)
        except ValueError as error:
            raise ServerNotUnderstood(self.server, f"it is not JSON ({error})") from error
        if not isinstance(shape, dict):
            raise ServerNotUnderstood(self.server, "it is JSON, and not an object")
        return cast("dict[str, Any]", shape)

    def _read(self, shape: Shape, read: Callable[[Shape], T]) -> T:
        """The value of a shape. Raises ``ServerNotUnderstood`` for what is not one."""
        try:
            return read(shape)
        except (KeyError, TypeError, ValueError, AttributeError, BadSetting) as error:
            lacks = f"it lacks {error}" if isinstance(error, KeyError) else str(error)
            raise ServerNotUnderstood(self.server, lacks) from error


def _path(task_id: str) -> str:
    """The path of a task. Raises ``UnknownTask`` for what is not an id: it leads nowhere else."""
    if not is_task_id(task_id):
        raise UnknownTask(task_id)
    return f"/v1/tasks/{task_id}"


class _Options(NamedTuple):
    """What a submit and a schedule say of their tasks; ``None``: as the op has it."""

    timeout: float | None = None
    retries: int | None = None
    priority: int | None = None
    tags: Collection[str] = ()
    queue: str | None = None
    expires_in: float | None = None

    def describe(self) -> dict[str, Any]:
        """What is given of them, for a body. Raises ``BadSetting``."""
        given = {
            "timeout": None if self.timeout is None else check_seconds("timeout", self.timeout),
            "retries": None if self.retries is None else check_retries(self.retries),
            "priority": None if self.priority is None else check_priority(self.priority),
            "tags": list(check_tags(self.tags)) or None,
            "queue": None if self.queue is None else check_queue(self.queue),
            "expires_in": None if self.expires_in is None else check_expiry(self.expires_in),
        }
        return {name: value for name, value in given.items() if value is not None}


def _read_what(
    what: Op[..., Any, Any] | Submission | str, params: Mapping[str, Any] | None
) -> tuple[str, Mapping[str, Any], _Options]:
    """The op, the params, and the options of what is submitted. Raises ``BadSetting``."""
    if isinstance(what, str):
        return what, {} if params is None else params, _Options()
    from tapescope.manager.ops import find_submission  # whose values the caller has: it is there

    one = find_submission(what, params)
    options = (getattr(one, name) for name in _Options._fields)
    return one.op, one.params, _Options(*options)


def _schedule_path(name: str) -> str:
    """The path of a schedule. Raises ``UnknownSchedule`` for what is not a name."""
    if not is_op(name):
        raise UnknownSchedule(name)
    return f"/v1/schedules/{name}"


def _worker_path(owner: str) -> str:
    """The path of a worker. Raises ``UnknownWorker`` for a name that no path can have."""
    name = check_text("owner", owner)
    if not name.strip(".") or "/" in name:
        raise UnknownWorker(owner)
    return f"/v1/workers/{quote(name, safe=':')}"


def _choose_key(given: str | None) -> str:
    """The key of a submit, or a new one. Raises ``BadSetting`` for what a header cannot carry."""
    if given is None:
        return f"client-{uuid.uuid4().hex}"
    key = check_key(given)
    if not key or not key.isascii() or not key.isprintable() or key != key.strip():
        expected = "printable ASCII without a space at either end: it goes in a header"
        raise BadSetting("idempotency_key", given, expected)
    return key


def _was_made(shape: Shape, *, made_here: bool) -> bool:
    """Whether a submit made the task of its answer.

    With an idempotency key of our own a task that "was there" is that of a try whose reply was
    lost, unless it was the unique key that led to it.
    """
    return bool(shape["created"]) or (made_here and shape.get("found_by") != "unique_key")


def _describe_submission(one: Submission[Any]) -> tuple[bytes, bool]:
    """One of many as JSON, and whether its key was made here. Raises ``BadSetting``."""
    for name in ("runner", "retry"):
        if (value := getattr(one, name)) is not None:
            raise BadSetting(name, value, "None: a server runs registered ops by their names")
    checked = one.checked()
    given = {
        "delay": checked.delay,
        "run_at": _format(checked.run_at, "run_at"),
        "timeout": checked.timeout,
        "retries": checked.retries,
        "priority": checked.priority,
        "tags": list(checked.tags) or None,
        "unique_key": checked.unique_key,
        "concurrency_key": checked.concurrency_key,
        "queue": checked.queue,
        "expires_in": checked.expires_in,
    }
    key = checked.idempotency_key
    shape: dict[str, Any] = {
        "op": checked.op,
        "params": checked.params,
        "idempotency_key": _choose_key(None) if key is None else key,
    }
    shape |= {name: value for name, value in given.items() if value is not None}
    return encode(shape, "params").encode(), key is None


def _pack(texts: Sequence[tuple[bytes, bool]]) -> Iterator[Sequence[tuple[bytes, bool]]]:
    """Parts of a list that a server takes at once, by their number and their length."""
    part: list[tuple[bytes, bool]] = []
    size = 0
    for one in texts:
        if part and (len(part) == _BATCH or size + len(one[0]) > _BATCH_BYTES):
            yield part
            part, size = [], 0
        part.append(one)
        size += len(one[0]) + 1
    if part:
        yield part


def _read_rows(shape: Shape, n: int) -> Sequence[Shape]:
    """What became of each of ``n`` tasks."""
    rows: Sequence[Shape] = shape["tasks"]
    if len(rows) != n:
        raise ValueError(f"it tells of {len(rows)} tasks, and {n} were sent")
    for row in rows:
        row["problem"]  # a row without it is not an answer
    return rows


def _page(after: str | None, limit: int) -> dict[str, str]:
    """The query for a page of at most ``limit`` of what is listed by name. Raises ``BadSetting``"""
    cursor = None if after is None else check_text("after", after)
    return _query(limit=min(check_page_size(limit), _PAGE), cursor=cursor)


def _query(**values: object) -> dict[str, str]:
    return {name: str(value) for name, value in values.items() if value is not None}


def _format(time: datetime | None, name: str) -> str | None:
    return None if time is None else format_time(check_time(name, time))


def _why(error: Exception) -> str:
    """In a few words why the server cannot be used for now."""
    if isinstance(error, ServerUnavailable):
        return error.why.rstrip(".")
    return error.detail.rstrip(".") if isinstance(error, RequestRefused) else str(error)

"""What the overview says: numbers of the store, and what needs a person now."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from contextlib import aclosing
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Final
from urllib.parse import quote, urlencode

from tapescope.http.access import Caller, Scope
from tapescope.http.api.page.rendering import now_us
from tapescope.http.api.page.schedule_view import OVERDUE
from tapescope.manager.lost_tasks import find_lost
from tapescope.model.backlog import Backlog, OpBacklog
from tapescope.model.tasks import Task, TaskStatus
from tapescope.model.times import moment
from tapescope.model.wording import format_duration, format_relative

if TYPE_CHECKING:
    from tapescope.http.api.state import ApiState

__all__ = [
    "Column",
    "Need",
    "Overview",
    "Sums",
    "draw_columns",
    "read_overview",
    "sum_ops",
]

_HOUR: Final = timedelta(hours=1)
_LOOKED_AT: Final = 200
"""Running tasks that are asked whether their owner lives."""
_RECENT: Final = 8
"""Failed tasks that are listed."""
_NAMED: Final = 3
"""Schedules that are overdue and named."""
_OVERDUE: Final = 1.5
"""A run of so many times its timeout is one that something holds up."""


@dataclass(frozen=True, slots=True)
class Need:
    """Something that a person should look at."""

    tone: str
    text: str
    href: str


@dataclass(frozen=True, slots=True)
class Sums:
    """The numbers of several ops together."""

    due: int
    later: int
    retrying: int
    running: int
    oldest_due: float | None
    succeeded: int
    failed: int
    cancelled: int

    @property
    def waiting(self) -> int:
        """Tasks that no worker has claimed yet."""
        return self.due + self.later + self.retrying

    def of(self, status: TaskStatus) -> int:
        """How many tasks have this status; of those that ended, since the store was made."""
        return {
            TaskStatus.PENDING: self.waiting,
            TaskStatus.RUNNING: self.running,
            TaskStatus.SUCCEEDED: self.succeeded,
            TaskStatus.FAILED: self.failed,
            TaskStatus.CANCELLED: self.cancelled,
        }[status]


def sum_ops(ops: Sequence[OpBacklog]) -> Sums:
    """Their numbers together."""
    ages = [one.oldest_due for one in ops if one.oldest_due is not None]
    return Sums(
        due=sum(one.due for one in ops),
        later=sum(one.scheduled for one in ops),
        retrying=sum(one.retrying for one in ops),
        running=sum(one.running for one in ops),
        oldest_due=max(ages, default=None),
        succeeded=sum(one.succeeded for one in ops),
        failed=sum(one.failed for one in ops),
        cancelled=sum(one.cancelled for one in ops),
    )


@dataclass(frozen=True, slots=True)
class Column:
    """What ended in one minute; the heights are for a chart that is 100 high."""

    title: str
    heights: tuple[tuple[str, float, float], ...]
    """(status, from the top, height) of each part."""


def draw_columns(counts: Sequence[tuple[int, int, int]]) -> tuple[list[Column], int]:
    """The columns of the chart, and what the highest one stands for."""
    most = max((sum(one) for one in counts), default=0)
    columns: list[Column] = []
    for place, one in enumerate(counts):
        top = 100.0
        parts: list[tuple[str, float, float]] = []
        for status, n in zip(("succeeded", "failed", "cancelled"), one, strict=True):
            if n:
                height = max(2.0, n * 96 / most)
                top -= height
                parts.append((status, round(top, 1), round(height, 1)))
        ago = len(counts) - 1 - place
        said = f"{one[0]} succeeded, {one[1]} failed, {one[2]} cancelled"
        columns.append(Column(f"{ago} min ago: {said}", tuple(parts)))
    return columns, most


@dataclass(frozen=True, slots=True)
class Overview:
    """All that the page at ``/`` shows."""

    backlog: Backlog
    ops: tuple[OpBacklog, ...]
    sums: Sums
    needs: tuple[Need, ...]
    failed: tuple[Task, ...]
    columns: tuple[Column, ...]
    most: int
    ended: tuple[int, int, int]
    trend_since_us: int | None

    @property
    def seen_for(self) -> float:
        """Seconds that the trend goes back."""
        since = self.backlog.made_us if self.trend_since_us is None else self.trend_since_us
        return max(0, self.backlog.made_us - since) / 1e6


async def read_overview(state: ApiState, caller: Caller) -> Overview:
    """Read it, for what this caller may see."""
    store, trend = state.manager.store, state.trend
    backlog = await store.backlog.read()
    trend.note(backlog)
    ops = tuple(one for one in backlog.ops if caller.may(Scope.READ, one.op))
    needs = list(_find_needs(ops))
    failed: tuple[Task, ...] = ()
    visible = caller.find_ops(Scope.READ)
    if visible is None:
        lost, overdue, recent, late = await asyncio.gather(
            _find_lost_tasks(state), _find_overdue(state), _read_failed(state), _find_late(state)
        )
        needs = [*lost, *needs, *overdue, *late]
        failed = recent
    if caller.may(Scope.ADMIN):
        needs += _find_own_troubles(state)
    counts = trend.count(now_us(), [one.op for one in ops])
    columns, most = draw_columns(counts)
    return Overview(
        backlog,
        ops,
        sum_ops(ops),
        tuple(needs),
        failed,
        tuple(columns),
        most,
        (sum(c[0] for c in counts), sum(c[1] for c in counts), sum(c[2] for c in counts)),
        trend.since_us,
    )


def _find_needs(ops: Sequence[OpBacklog]) -> Sequence[Need]:
    needs: list[Need] = []
    for one in ops:
        if one.unattended:
            why = "its workers have ended" if one.registered else "no worker has ever registered it"
            query = urlencode({"op": one.op, "status": "pending"})
            text = f"{one.due:,} of {one.op} wait, and no worker runs it: {why}"
            needs.append(Need("failed", text, f"/tasks?{query}"))
        if one.timeout and (one.oldest_running or 0) > one.timeout * _OVERDUE:
            took = format_duration(one.oldest_running or 0)
            query = urlencode({"op": one.op, "status": "running"})
            text = f"{one.op} has a run of {took}, and a timeout of {format_duration(one.timeout)}"
            needs.append(Need("late", text, f"/tasks?{query}"))
    return needs


async def _find_lost_tasks(state: ApiState) -> list[Need]:
    store = state.manager.store
    page = await store.list(status=TaskStatus.RUNNING, limit=_LOOKED_AT, params=False)
    lost = find_lost(store, page.tasks, now_us())
    if not lost:
        return []
    return [Need("failed", f"running tasks that have lost their worker: {len(lost)}", "/workers")]


async def _find_overdue(state: ApiState) -> list[Need]:
    store, names = state.manager.store, list[str]()
    async with aclosing(store.schedules.list_due(store.due_clock.now() - OVERDUE)) as due:
        async for one in due:
            names.append(one.name)
            if len(names) > _NAMED:
                break
    if not names:
        return []
    named = ", ".join(names[:_NAMED]) + (", …" if len(names) > _NAMED else "")
    href = f"/schedules/{quote(names[0], safe='')}" if len(names) == 1 else "/schedules"
    return [Need("failed", f"schedules that no worker fires, though it is time: {named}", href)]


async def _read_failed(state: ApiState) -> tuple[Task, ...]:
    page = await state.manager.store.list(status=TaskStatus.FAILED, limit=_RECENT, params=False)
    return page.tasks


async def _find_late(state: ApiState) -> list[Need]:
    since = moment(now_us()) - _HOUR
    page = await state.manager.store.read_quarantine(since=since, limit=100, counted=False)
    if not page.drops:
        return []
    many = f"{len(page.drops)}{'+' if page.next is not None else ''}"
    text = f"late events refused in the last hour: {many}"
    return [Need("late", text, "/drops?since=1h")]


def _find_own_troubles(state: ApiState) -> list[Need]:
    needs = [
        Need("failed", f"this server: {check.name}: {check.detail}", "/readyz?verbose")
        for check in state.manager.check_health()
        if not check.ok
    ]
    last = state.last_audit
    if last is not None and last.report.violations:
        ago = format_relative(last.at_us, now_us())
        found = len(last.report.violations)
        needs.append(
            Need("failed", f"violations that the audit of {ago} found: {found:,}", "/audit")
        )
    return needs

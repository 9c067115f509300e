"""Which tasks a command is about: the options of ``list``, ``cancel`` and ``retry``."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable
from dataclasses import astuple, dataclass, replace
from datetime import datetime
from functools import wraps
from typing import Any, Final, TypeVar

import click

from tapescope.cli._completion import complete_task
from tapescope.cli._options import op_option
from tapescope.cli._source import Lister, Source
from tapescope.cli._task_ids import find_task_id
from tapescope.cli._times import parse_time
from tapescope.cli._types import Words
from tapescope.errors import BadOp
from tapescope.model.tasks import Task, TaskPage, TaskStatus, is_op

__all__ = ["Wanted", "since_option", "task_filters", "until_option"]

R = TypeVar("R")

_PAGE: Final = 1_000

_status_option = click.option(
    "--status",
    type=Words(TaskStatus),
    metavar="STATUS",
    help="Only tasks with this status: pending, running, succeeded, failed or cancelled.",
)
_failed_option = click.option(
    "--failed", is_flag=True, help="Only tasks that failed: the same as --status failed."
)
_owner_option = click.option(
    "--owner", metavar="OWNER", help="Only tasks of this owner, as 'tapescope show' names it."
)
_queue_option = click.option("--queue", metavar="QUEUE", help="Only tasks of this queue.")
_key_option = click.option("--key", metavar="KEY", help="Only tasks with this idempotency key.")
_tag_option = click.option("--tag", metavar="TAG", help="Only tasks with this tag.")
_parent_option = click.option(
    "--parent",
    metavar="TASK_ID",
    shell_complete=complete_task,
    help="Only tasks that the runner of this one submitted.",
)
since_option = click.option(
    "--since",
    metavar="TIME",
    help="Only what came at this time or later: 2h for two hours ago, 2026-01-31 or "
    "2026-01-31T12:00:00Z.",
)
until_option = click.option(
    "--until", metavar="TIME", help="Only what came before this time; it is written as for --since."
)


@dataclass(frozen=True, slots=True)
class Wanted:
    """The tasks that a command is about: those that meet every condition that is given."""

    status: TaskStatus | None = None
    op: str | None = None
    owner: str | None = None
    queue: str | None = None
    key: str | None = None
    tag: str | None = None
    parent: str | None = None
    since: datetime | None = None
    until: datetime | None = None

    @property
    def given(self) -> bool:
        """Whether there is any condition."""
        return any(value is not None for value in astuple(self))

    def among(self, status: TaskStatus) -> Wanted:
        """The same, of this status alone."""
        return replace(self, status=status)

    async def with_whole_ids(self, source: Source) -> Wanted:
        """The same with the whole id of the parent, where it was named by a part of it.

        Raises ``UnknownTask``, and a usage error.
        """
        if self.parent is None:
            return self
        return replace(self, parent=await find_task_id(source, self.parent))

    async def read_page(
        self, source: Lister, limit: int, before: str | None, *, params: bool = False
    ) -> TaskPage:
        """A page with as many tasks as it may have, of as many pages of the store as that takes.

        With ``params`` they are read, too.
        """
        tasks: tuple[Task, ...] = ()
        while True:
            page = await source.list(
                status=self.status,
                op=self.op,
                owner=self.owner,
                queue=self.queue,
                idempotency_key=self.key,
                tag=self.tag,
                parent_id=self.parent,
                since=self.since,
                until=self.until,
                limit=limit - len(tasks),
                before=before,
                params=params,
            )
            tasks, before = tasks + page.tasks, page.next
            if before is None or len(tasks) == limit:
                return TaskPage(tasks, before)

    async def read_all(self, source: Lister) -> AsyncGenerator[Task, None]:
        """All of them, newest first."""
        before: str | None = None
        while True:
            page = await self.read_page(source, _PAGE, before)
            for task in page.tasks:
                yield task
            if (before := page.next) is None:
                return


def task_filters(*, with_failed: bool) -> Callable[[Callable[..., R]], Callable[..., R]]:
    """The options that choose tasks; a command has what they ask for as ``wanted``.

    What they ask for is checked first: the command raises ``BadOp``, and a usage error.
    """
    options = (
        _status_option,
        *((_failed_option,) if with_failed else ()),
        *(op_option, _owner_option, _queue_option, _key_option, _tag_option, _parent_option),
        *(since_option, until_option),
    )

    def add(command: Callable[..., R]) -> Callable[..., R]:
        @wraps(command)
        def run(
            *,
            status: TaskStatus | None,
            op: str | None,
            owner: str | None,
            queue: str | None,
            key: str | None,
            tag: str | None,
            parent: str | None,
            since: str | None,
            until: str | None,
            failed: bool = False,
            **others: Any,
        ) -> R:
            if op is not None and not is_op(op):
                raise BadOp(op)
            if failed and status not in (None, TaskStatus.FAILED):
                raise click.BadParameter(f"it contradicts --status {status}", param_hint="--failed")
            wanted = Wanted(
                TaskStatus.FAILED if failed else status,
                op,
                owner,
                queue,
                key,
                tag,
                parent,
                None if since is None else parse_time(since, "--since"),
                None if until is None else parse_time(until, "--until"),
            )
            return command(wanted=wanted, **others)

        for option in reversed(options):
            run = option(run)
        return run

    return add

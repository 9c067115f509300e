"""``tapescope workers``: who works on a store, and who shall claim no more."""

from __future__ import annotations

from typing import Final

import click

from tapescope.cli._completion import complete_worker
from tapescope.cli._options import json_option, source_options, wide_option
from tapescope.cli._output import make_printable, on_terminal, print_json, print_line, say
from tapescope.cli._source import Place, Source, choose_place
from tapescope.cli._table import Column, print_table
from tapescope.cli._types import WHOLE_NUMBER
from tapescope.cli._wording import now_us
from tapescope.errors import UnknownWorker
from tapescope.model.json_shapes import workers_shape
from tapescope.model.ops import WorkerPage, WorkerState
from tapescope.model.times import format_optional_time
from tapescope.model.wording import describe_stop, format_age, format_local
from tapescope.program import run_main
from tapescope.store.opening import OpenMode

__all__ = ["workers"]

_COLUMNS: Final = (
    Column("worker", shrinks_to=16),
    Column("state"),
    Column("running"),
    Column("since"),
    Column("heard"),
    Column("ops", shrinks_to=8),
)
_QUEUES: Final = Column("queues", shrinks_to=8)
"""Beside the others where a worker takes tasks from some queues alone."""
_WIDE: Final = (
    *("owner", "state", "running", "since", "heard", "ops", "drained_by", "reason"),
    "queues",
)
_NAMED: Final = 5
"""Owners that are named where a beginning is that of many."""

_owner_argument = click.argument(
    "owner",
    shell_complete=complete_worker,
    help="A worker, as 'tapescope workers' shows it: host:pid, or its whole owner.",
)


@click.group("workers", invoke_without_command=True, subcommand_metavar="[COMMAND [ARGS]...]")
@click.option(
    "--limit", type=WHOLE_NUMBER, default=50, metavar="N", help="The most workers to list."
)
@click.option("--after", metavar="OWNER", help="Only owners after this one: the next page.")
@wide_option
@json_option
@source_options
@click.pass_context
def workers(
    context: click.Context,
    *,
    limit: int,
    after: str | None,
    wide: bool,
    as_json: bool,
    store: str | None,
    server: str | None,
) -> None:
    """List who works on a store, with the tasks that each runs.

    A worker is "silent" when nothing was heard of it for 90 seconds: it was killed, or cannot reach
    the store. It is listed for an hour. A process that runs a task of its own, as 'tapescope run'
    does, is "no worker": it claims nothing by name.
    """
    if context.invoked_subcommand is not None:
        if context.obj is not None:
            # for the command behind it
            context.obj = context.obj._replace(store=store, server=server)
        return
    page, name = run_main(_read(choose_place(store, server), limit, after))
    if as_json:
        print_json({**workers_shape(page), "store": name})
    else:
        _print_workers(page, wide=wide)


@workers.command("drain")
@_owner_argument
@click.option(
    "--reason",
    default="",
    show_default=False,
    metavar="TEXT",
    help="Why, in your own words; kept with your name as long as it drains.",
)
@source_options
def drain(*, owner: str, reason: str, store: str | None, server: str | None) -> None:
    """Have one worker claim no more tasks.

    Those that it runs go on to their end, and its process lives: end it as you would any other, or
    let it claim again with 'tapescope workers undrain'. A worker that starts in its place claims.
    """
    run_main(_drain(choose_place(store, server), owner, reason))


@workers.command("undrain")
@_owner_argument
@source_options
def undrain(*, owner: str, store: str | None, server: str | None) -> None:
    """Have a worker claim tasks again."""
    run_main(_undrain(choose_place(store, server), owner))


async def _read(place: Place, limit: int, after: str | None) -> tuple[WorkerPage, str]:
    async with place.open() as source:
        return await source.list_workers(after=after, limit=limit), source.name


async def _drain(place: Place, named: str, reason: str) -> None:
    async with place.open(OpenMode.EXISTING) as source:
        found = await _find(source, named)
        made = await source.drain_worker(found.owner, reason)
    if found.drain == made:
        said = f"{_name(found)} drains already, since {format_local(made.at_us)}"
        say(make_printable(said + describe_stop(made.by, made.reason)))
    else:
        say(f"{_name(found)} claims no more: 'tapescope workers undrain' ends that")
    if found.running:
        say(f"{found.running:,} tasks ran there just now: they go on")


async def _undrain(place: Place, named: str) -> None:
    async with place.open(OpenMode.EXISTING) as source:
        found = await _find(source, named)
        await source.undrain_worker(found.owner)
    said = "claims again" if found.drain is not None else "did not drain"
    say(f"{_name(found)} {said}")


async def _find(source: Source, named: str) -> WorkerState:
    """The worker of this owner, or the one whose owner begins so.

    Raises ``UnknownWorker``, and ``click.BadParameter`` for the beginning of several.
    """
    begin_so: list[WorkerState] = []
    after: str | None = None
    while True:
        page = await source.list_workers(after=after, limit=1_000)
        for one in page.workers:
            if one.is_worker and one.owner == named:
                return one
            if one.is_worker and one.owner.startswith(named):
                begin_so.append(one)
        if (after := page.next) is None:
            break
    # a whole host and pid is not the beginning of a longer pid
    found = [one for one in begin_so if one.owner.startswith(f"{named}:")] or begin_so
    if not found:
        raise UnknownWorker(named)
    if len(found) > 1:
        first = ", ".join(one.owner for one in found[:_NAMED])
        raise click.BadParameter(f"{len(found)} workers begin so: {first}", param_hint="OWNER")
    return found[0]


def _print_workers(page: WorkerPage, *, wide: bool) -> None:
    terminal = on_terminal()
    if not page.workers and terminal:
        print_line("Nobody works on it. Start a worker: tapescope worker --app MODULE:MANAGER")
        return
    if wide or not terminal:
        rows = [_wide_row(one) for one in page.workers]
        print_table(tuple(map(Column, _WIDE)), rows, terminal=terminal, wide=True)
    else:
        now = now_us()
        rows = [_row(one, now) for one in page.workers]
        if any(one.queues is not None for one in page.workers):
            told = [(*row, _name_queues(one)) for row, one in zip(rows, page.workers, strict=True)]
            print_table((*_COLUMNS, _QUEUES), told, terminal=True)
        else:
            print_table(_COLUMNS, rows, terminal=True)
    if not terminal:
        return
    if any(not one.alive for one in page.workers):
        print_line("silent: not heard for 90 s. Its tasks are rescued when their leases end.")
    for one in page.workers:
        if one.drain is not None:
            said = f"{_name(one)} drains since {format_local(one.drain.at_us)}"
            print_line(make_printable(said + describe_stop(one.drain.by, one.drain.reason)))
    if page.next is not None:
        print_line(f"More: --after {make_printable(page.next)}")


def _row(one: WorkerState, now: int) -> tuple[str, ...]:
    return (
        _name(one),
        _describe_state(one),
        f"{one.running:,}",
        "" if one.since_us is None else format_age(one.since_us, now),
        "" if one.heard_us is None else format_age(one.heard_us, now),
        " ".join(one.ops),
    )


def _wide_row(one: WorkerState) -> tuple[str, ...]:
    drain = one.drain
    return (
        *(one.owner, _describe_state(one), str(one.running)),
        *(format_optional_time(one.since_us) or "", format_optional_time(one.heard_us) or ""),
        " ".join(one.ops),
        *("" if drain is None else drain.by or "", "" if drain is None else drain.reason),
        _name_queues(one),
    )


def _name_queues(one: WorkerState) -> str:
    """The queues that it takes tasks from; one that takes all names none."""
    if one.queues is not None:
        return " ".join(one.queues)
    return "all" if one.is_worker else ""


def _name(one: WorkerState) -> str:
    """Its host and process, which is what a person looks for."""
    return one.owner if one.pid is None else f"{one.host}:{one.pid}"


def _describe_state(one: WorkerState) -> str:
    if not one.is_worker:
        return "no worker"
    if not one.alive:
        return "silent"
    return "works" if one.drain is None else "drains"

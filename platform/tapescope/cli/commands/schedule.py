"""``tapescope schedule``: when tasks are made by themselves."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import click

from tapescope.cli._completion import complete_op, complete_schedule
from tapescope.cli._options import json_option, source_options, wait_option, wide_option
from tapescope.cli._output import make_printable, on_terminal, print_json, print_line, say
from tapescope.cli._params import parse_params
from tapescope.cli._settings import EXIT_USAGE
from tapescope.cli._source import Place, Source, choose_place
from tapescope.cli._submitted import print_submitted
from tapescope.cli._table import Column, print_table
from tapescope.cli._times import parse_age
from tapescope.cli._types import NUMBER, WHOLE_NUMBER, Words
from tapescope.cli._wording import now_us
from tapescope.manager.submission import Submission
from tapescope.model.json_shapes import schedule_shape, schedules_shape
from tapescope.model.schedules import CatchUp, Overlap, Schedule, ScheduleOrigin, SchedulePage
from tapescope.model.times import format_optional_time
from tapescope.model.wording import describe_times, format_local, format_relative
from tapescope.program import run_main
from tapescope.store.opening import OpenMode

__all__ = ["schedule"]

_COLUMNS: Final = (
    Column("schedule", shrinks_to=8),
    Column("op", shrinks_to=8),
    Column("times", shrinks_to=9),
    Column("next"),
    Column("last"),
)
_WIDE: Final = (
    *("schedule", "op", "times", "next", "last", "last_task", "catch_up", "overlap", "origin"),
)

_name_argument = click.argument(
    "name", shell_complete=complete_schedule, help="The name of a schedule."
)


@click.group("schedule", invoke_without_command=True, subcommand_metavar="COMMAND [ARGS]...")
@click.pass_context
def schedule(context: click.Context) -> None:
    """Have tasks made at their times.

    The store keeps the schedules, and its workers make the tasks: one for each time.
    """
    if context.invoked_subcommand is None:
        click.echo(context.get_help(), err=True)
        context.exit(EXIT_USAGE)


@schedule.command("list")
@click.option(
    "--limit", type=WHOLE_NUMBER, default=50, metavar="N", help="The most schedules to list."
)
@click.option("--after", metavar="NAME", help="Only names after this one: the next page.")
@wide_option
@json_option
@source_options
def list_schedules(
    *,
    limit: int,
    after: str | None,
    wide: bool,
    as_json: bool,
    store: str | None,
    server: str | None,
) -> None:
    """List schedules by name, with their next and last times."""
    page, name = run_main(_read(choose_place(store, server), limit, after))
    if as_json:
        print_json({**schedules_shape(page), "store": name})
    else:
        _print_schedules(page, wide=wide)


@schedule.command("add")
@click.argument("name", help="The name of the schedule.")
@click.argument("op", shell_complete=complete_op, help="The op of its tasks.")
@click.option(
    "--cron",
    metavar="EXPRESSION",
    help="Minute, hour, day of the month, month and day of the week, as in '0 3 * * *'.",
)
@click.option(
    "--every",
    metavar="AGE",
    help="The time between two tasks: 90s, 45m, 12h, 30d or 2w, counted from 1970.",
)
@click.option(
    "--time-zone",
    default="UTC",
    metavar="ZONE",
    help="In which --cron is read, as in Europe/Berlin.",
)
@click.option("--params", default="{}", metavar="JSON", help="Their params: a JSON object.")
@click.option(
    "--retries", type=WHOLE_NUMBER, metavar="N", help="Their retries. Default: as the op has it."
)
@click.option(
    "--timeout",
    type=NUMBER,
    metavar="SECONDS",
    help="How long one attempt may take. Default: as the op has it.",
)
@click.option(
    "--priority",
    type=WHOLE_NUMBER,
    metavar="N",
    help="From -9 to 9: the higher goes first. Default: as the op has it.",
)
@click.option(
    "--queue",
    metavar="NAME",
    help="Which workers take them: those of this queue, and those of all. Default: as the op has "
    "it.",
)
@click.option(
    "--tag",
    "tags",
    multiple=True,
    metavar="TAG",
    help="A word by which its tasks are found; give it again for more, up to ten.",
)
@click.option(
    "--expires-in",
    type=NUMBER,
    metavar="SECONDS",
    help="Begin no first attempt of them later than this long after they are due. Default: as the "
    "op has it.",
)
@click.option(
    "--catch-up",
    type=Words(CatchUp),
    default=CatchUp.ONE.value,
    metavar="POLICY",
    help="Times that passed without a worker: skip them, make one task, or a task for all of "
    "them, 100 at most.",
)
@click.option(
    "--overlap",
    type=Words(Overlap),
    default=Overlap.ALLOW.value,
    metavar="POLICY",
    help="While the task before has not ended: allow the next one, or skip it.",
)
@json_option
@source_options
def add(
    *,
    name: str,
    op: str,
    cron: str | None,
    every: str | None,
    time_zone: str,
    params: str,
    retries: int | None,
    timeout: float | None,
    priority: int | None,
    queue: str | None,
    tags: tuple[str, ...],
    expires_in: float | None,
    catch_up: CatchUp,
    overlap: Overlap,
    as_json: bool,
    store: str | None,
    server: str | None,
) -> None:
    """Add a schedule to the store."""
    if (cron is None) is (every is None):
        raise click.UsageError("Give either --cron or --every.")
    submission = Submission(
        op,
        params=parse_params(params),
        timeout=timeout,
        retries=retries,
        priority=priority,
        tags=tags,
        queue=queue,
        expires_in=expires_in,
    )
    settings: dict[str, Any] = {
        "cron": cron,
        "every": None if every is None else parse_age(every, "--every"),
        "time_zone": time_zone,
        "catch_up": catch_up,
        "overlap": overlap,
    }
    place = choose_place(store, server)
    run_main(_add(place, name, submission, settings, as_json=as_json))


@schedule.command("pause")
@_name_argument
@json_option
@source_options
def pause(*, name: str, as_json: bool, store: str | None, server: str | None) -> None:
    """Make no tasks of a schedule until it is resumed."""
    run_main(_change(choose_place(store, server), name, "pause", as_json=as_json))


@schedule.command("resume")
@_name_argument
@json_option
@source_options
def resume(*, name: str, as_json: bool, store: str | None, server: str | None) -> None:
    """Make tasks of a schedule again, at its times from now on."""
    run_main(_change(choose_place(store, server), name, "resume", as_json=as_json))


@schedule.command("trigger")
@_name_argument
@wait_option
@json_option
@source_options
def trigger(*, name: str, wait: bool, as_json: bool, store: str | None, server: str | None) -> int:
    """Make a task of a schedule now, paused or not, and print its id."""
    return run_main(_trigger(choose_place(store, server), name, wait=wait, as_json=as_json))


@schedule.command("remove")
@_name_argument
@source_options
def remove(*, name: str, store: str | None, server: str | None) -> None:
    """Delete a schedule; the tasks that it made stay."""
    run_main(_remove(choose_place(store, server), name))


async def _read(place: Place, limit: int, after: str | None) -> tuple[SchedulePage, str]:
    async with place.open() as source:
        return await source.list_schedules(after=after, limit=limit), source.name


async def _add(
    place: Place, name: str, submission: Submission, settings: Mapping[str, Any], *, as_json: bool
) -> None:
    async with place.make() as source, source.scheduling() as scheduler:
        added = await scheduler.add(name, submission, **settings)
        _tell(source, added, f"the schedule {name} is added", as_json=as_json)


async def _change(place: Place, name: str, verb: str, *, as_json: bool) -> None:
    async with place.open(OpenMode.EXISTING) as source, source.scheduling() as scheduler:
        changed = await (scheduler.pause(name) if verb == "pause" else scheduler.resume(name))
        said = "paused: 'tapescope schedule resume' ends that" if changed.paused else "not paused"
        _tell(source, changed, f"the schedule {name} is {said}", as_json=as_json)


async def _trigger(place: Place, name: str, *, wait: bool, as_json: bool) -> int:
    async with place.open(OpenMode.EXISTING) as source, source.scheduling() as scheduler:
        handle = await scheduler.trigger(name)
        return await print_submitted(handle, source.name, wait=wait, as_json=as_json)


async def _remove(place: Place, name: str) -> None:
    async with place.open(OpenMode.EXISTING) as source, source.scheduling() as scheduler:
        removed = await source.get_schedule(name)
        await scheduler.remove(name)
    say(f"the schedule {name} is removed")
    if removed.origin is ScheduleOrigin.CODE:
        say("code declares it, so it comes back with the next worker: pause it instead")


def _tell(source: Source, changed: Schedule, said: str, *, as_json: bool) -> None:
    if as_json:
        print_json({**schedule_shape(changed), "store": source.name})
        return
    when = "never" if changed.next_us is None else format_local(changed.next_us)
    say(said if changed.paused else f"{said}; its next time is {when}")


def _print_schedules(page: SchedulePage, *, wide: bool) -> None:
    """A page of schedules, and how to get the next."""
    terminal = on_terminal()
    if not page.schedules and terminal:
        print_line("No schedules. Add one: tapescope schedule add NAME OP --cron '0 3 * * *'")
        return
    if wide or not terminal:
        rows = [_wide_row(one) for one in page.schedules]
        print_table(tuple(map(Column, _WIDE)), rows, terminal=terminal, wide=True)
    else:
        now = now_us()
        print_table(_COLUMNS, [_row(one, now) for one in page.schedules], terminal=True)
    if terminal and page.next is not None:
        print_line(f"More: --after {make_printable(page.next)}")


def _row(one: Schedule, now: int) -> tuple[str, ...]:
    return (
        one.name,
        one.op,
        describe_times(one),
        _describe_next(one, None if one.next_us is None else format_relative(one.next_us, now)),
        "" if one.last_us is None else format_relative(one.last_us, now),
    )


def _wide_row(one: Schedule) -> tuple[str, ...]:
    return (
        *(one.name, one.op, describe_times(one)),
        _describe_next(one, format_optional_time(one.next_us)),
        *(format_optional_time(one.last_us) or "", one.last_task or ""),
        *(one.catch_up.value, one.overlap.value, one.origin.value),
    )


def _describe_next(one: Schedule, when: str | None) -> str:
    return "paused" if one.paused else when or "never"

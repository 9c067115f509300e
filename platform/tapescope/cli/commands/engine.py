"""``tapescope engine``: what brings tasks to workers besides their claims; whether it has all."""

from __future__ import annotations

from typing import Any, NamedTuple

import click

from tapescope.cli._options import engine_option, json_option, store_option
from tapescope.cli._output import print_json, print_line, say
from tapescope.cli._settings import ENGINE_VARIABLE, find_named_engine
from tapescope.cli._store import choose_store, open_store
from tapescope.engine import LATE, Engine, EngineReport, find_engine, reconcile
from tapescope.program import run_main
from tapescope.store.engines import Overdue
from tapescope.store.opening import OpenMode
from tapescope.store.port import TaskStore

__all__ = ["engine"]


@click.group("engine", subcommand_metavar="COMMAND [ARGS]...")
def engine() -> None:
    """See whether an engine has what is pending, or give it that."""


def _find(named: str | None) -> Engine:
    url = find_named_engine(named)
    if url is None:
        raise click.UsageError(f"Name an engine: with --engine URL, or with {ENGINE_VARIABLE}.")
    return find_engine(url)


@engine.command("status")
@engine_option
@json_option
@store_option
def status(*, engine: str | None, as_json: bool, store: str | None) -> None:
    """Tell where the engine is, what it can do, who asks there for tasks, and what is overdue.

    A task is overdue that is pending, and of which the engine could not be asked for a minute.
    """
    found = _find(engine)
    report, overdue, name = run_main(_look(choose_store(store), found))
    if as_json:
        print_json(
            {
                "engine": report.address,
                "version": report.version,
                "able": dict(report.able),
                "pollers": dict(report.pollers),
                "overdue": overdue.tasks,
                "store": name,
            }
        )
        return
    print_line(f"{report.address}, server {report.version}")
    for word, able in report.able.items():
        print_line(f"  {word}: {'yes' if able else 'no'}")
    for queue, pollers in report.pollers.items():
        print_line(f"  {queue}: {pollers} workers")
    print_line(f"  overdue: {overdue.tasks:,}")


async def _look(url: str, engine: Engine) -> tuple[EngineReport, Overdue, str]:
    async with open_store(url) as store:
        engine.check_store(store)
        await engine.open(await store.engines.read_store_id())
        try:
            report = await engine.report(sorted(await store.ops.read()))
        finally:
            await engine.aclose()
        return report, await store.engines.count_overdue(engine.name, late=LATE), store.name


class _Turn(NamedTuple):
    """What a turn did, or would look at."""

    confirmed: int
    cancelled: int
    failed: str
    store: str


@engine.command("reconcile")
@engine_option
@click.option("--dry-run", is_flag=True, help="Only count the tasks that would be asked about.")
@json_option
@store_option
def reconcile_once(*, engine: str | None, dry_run: bool, as_json: bool, store: str | None) -> int:
    """Ask the engine about each task that is pending, and give it those that it has not.

    Workers do so every ten seconds. Tasks that were cancelled there end as cancelled here. The exit
    status is 1 where the engine could not be asked.
    """
    turn = run_main(_reconcile(choose_store(store), _find(engine), dry_run=dry_run))
    told: dict[str, Any] = turn._asdict()
    if as_json:
        print_json({**told, "dry_run": dry_run})
    elif dry_run:
        print_line(f"{turn.confirmed:,} tasks would be asked about")
    else:
        print_line(f"{turn.confirmed:,} tasks are with the engine, {turn.cancelled:,} ended here")
    if turn.failed:
        say(f"The engine could not be asked: {turn.failed}")
    return 1 if turn.failed else 0


async def _reconcile(url: str, engine: Engine, *, dry_run: bool) -> _Turn:
    mode = OpenMode.READ if dry_run else OpenMode.EXISTING
    async with open_store(url, mode) as store:
        engine.check_store(store)
        if dry_run:
            found = await store.engines.find_unconfirmed(engine.name, limit=1_000)
            return _Turn(len(found), 0, "", store.name)
        return await _take_turn(store, engine)


async def _take_turn(store: TaskStore, engine: Engine) -> _Turn:
    await engine.open(await store.engines.read_store_id())
    try:
        done = await reconcile(store, engine)
    finally:
        await engine.aclose()
    return _Turn(done.confirmed, done.cancelled, done.failed, store.name)

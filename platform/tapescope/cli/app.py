"""The commands and their options. What a command needs is imported when it runs."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from tapescope.cli.options import (
    JsonOption,
    MetricsHostOption,
    MetricsPortOption,
    StoreOption,
    TaskArgument,
    WaitOption,
)
from tapescope.cli.settings import LogFormat, LogLevel
from tapescope.model.tape import Outcome
from tapescope.model.tasks import TaskStatus

__all__ = ["app"]

_SCRAPED = frozenset({"drill", "run", "worker"})
"""Commands that set their telemetry up themselves, with what it is scraped by."""

app = typer.Typer(
    name="tapescope",
    help="Run tasks whose every step is on a durable tape, and read those tapes.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
)


def _print_version(wanted: bool) -> None:
    if wanted:
        from tapescope_telemetry import __version__

        typer.echo(f"tapescope {__version__}")
        raise typer.Exit


@app.callback()
def tapescope(
    context: typer.Context,
    store: StoreOption = None,
    log_format: Annotated[
        LogFormat | None,
        typer.Option(
            "--log-format",
            help="Write a log on stderr, each line with its trace. Default: TAPESCOPE_LOG_FORMAT, "
            "else no log.",
            show_default=False,
        ),
    ] = None,
    log_level: Annotated[
        LogLevel | None,
        typer.Option(
            "--log-level",
            help="From which level on. Default: TAPESCOPE_LOG_LEVEL, else info.",
            show_default=False,
        ),
    ] = None,
    version: Annotated[
        bool,
        typer.Option(
            "--version", help="Print the version.", callback=_print_version, is_eager=True
        ),
    ] = False,
) -> None:
    """Run tasks whose every step is on a durable tape, and read those tapes.

    Telemetry is sent where the OTEL_* variables say, such as OTEL_EXPORTER_OTLP_ENDPOINT.
    """
    context.obj = store
    from tapescope.cli.settings import choose_log

    shown_format, level = choose_log(log_format, log_level)
    if shown_format is not None:
        from tapescope.cli.logs import start_logging

        start_logging(shown_format, level)
    if context.invoked_subcommand not in _SCRAPED:
        from tapescope.cli.exporting import exporting

        context.with_resource(exporting())


def _choose(context: typer.Context, store: str | None) -> str:
    from tapescope.cli.settings import choose_store

    return choose_store(store or context.obj)


@app.command(context_settings={"allow_interspersed_args": False})
def run(
    context: typer.Context,
    command: Annotated[list[str], typer.Argument(metavar="-- COMMAND...", show_default=False)],
    op: Annotated[str, typer.Option("--op", help="What the task does: its op.")] = "shell",
    timeout: Annotated[
        float | None,
        typer.Option(
            "--timeout", metavar="SECONDS", help="End it after this time, with status 124."
        ),
    ] = None,
    grace: Annotated[
        float,
        typer.Option(
            "--grace", metavar="SECONDS", help="From SIGTERM to SIGKILL when it is ended."
        ),
    ] = 5.0,
    metrics_port: MetricsPortOption = None,
    metrics_host: MetricsHostOption = "127.0.0.1",
    store: StoreOption = None,
) -> int:
    """Run a command as a task: its output passes through, and each line goes on the tape.

    The exit status is the command's own; 128 + n when signal n ended it, 127 not found, 126 not
    executable, 125 when tapescope was called wrongly, 124 after --timeout, 130 after Ctrl-C. When
    the store cannot be used the command runs all the same, and a line on stderr says what is lost.
    """
    from tapescope.cli.running import run_command

    return run_command(
        command,
        op=op,
        timeout=timeout,
        grace=grace,
        store=store or context.obj,
        metrics_host=metrics_host,
        metrics_port=metrics_port,
    )


@app.command()
def worker(
    context: typer.Context,
    program: Annotated[
        str,
        typer.Option(
            "--app",
            metavar="MODULE:MANAGER",
            help="The TaskManager whose registered ops it runs, as in shop.tasks:manager; modules "
            "of the current folder are found, too.",
        ),
    ],
    max_running: Annotated[
        int | None,
        typer.Option("--max-running", metavar="N", help="Tasks at once. Default: the manager's."),
    ] = None,
    metrics_port: MetricsPortOption = None,
    metrics_host: MetricsHostOption = "127.0.0.1",
    drain: Annotated[
        float | None,
        typer.Option(
            "--drain",
            metavar="SECONDS",
            help="How long its tasks may go on after a signal. Default: the manager's.",
        ),
    ] = None,
    store: Annotated[
        str | None,
        typer.Option(
            "--store",
            metavar="URL",
            help="Work on this store. Default: the manager's own, whatever TAPESCOPE_STORE says.",
            show_default=False,
        ),
    ] = None,
) -> int:
    """Run the tasks of a program's registered ops, until SIGTERM or Ctrl-C.

    It then begins no task any more, waits for those that run, gives the rest back for other
    workers, and ends with status 0. A second signal skips the wait, a third one ends it at once.

    Its log goes to stderr, as text on a terminal and as JSON elsewhere, unless --log-format or the
    program says otherwise.
    """
    from tapescope.cli.scraping import Scrape
    from tapescope.cli.settings import choose_log
    from tapescope.cli.working import run_worker

    chosen = context.find_root().params
    return run_worker(
        program,
        Scrape(metrics_host, metrics_port),
        log=choose_log(chosen["log_format"], chosen["log_level"]),
        store=store or context.obj,
        max_running=max_running,
        drain=drain,
    )


@app.command()
def submit(
    context: typer.Context,
    op: Annotated[str, typer.Argument(metavar="OP", help="What the task does.")],
    params: Annotated[
        str, typer.Option("--params", metavar="JSON", help="Its params: a JSON object.")
    ] = "{}",
    retries: Annotated[
        int | None,
        typer.Option("--retries", metavar="N", help="Attempts after the first. Default: the op's."),
    ] = None,
    timeout: Annotated[
        float | None,
        typer.Option("--timeout", metavar="SECONDS", help="Of one attempt. Default: the op's."),
    ] = None,
    delay: Annotated[
        float | None, typer.Option("--delay", metavar="SECONDS", help="Not before this has passed.")
    ] = None,
    run_at: Annotated[
        str | None,
        typer.Option("--run-at", metavar="TIME", help="Not before: 2026-01-31T12:00:00Z."),
    ] = None,
    key: Annotated[
        str | None,
        typer.Option("--key", help="An idempotency key: the same op and key are one task."),
    ] = None,
    wait: WaitOption = False,
    as_json: JsonOption = False,
    store: StoreOption = None,
) -> int:
    """Submit a task by the name of its op, for the workers of the store; prints its id."""
    from tapescope.cli.submitting import Waiting, parse_params, parse_time, submit_task
    from tapescope.manager.submission import Submission

    at = None if run_at is None else parse_time(run_at)
    submission = Submission(op, None, parse_params(params), timeout, key, retries, delay, at)
    return submit_task(_choose(context, store), submission, Waiting(wait, as_json))


@app.command()
def retry(
    context: typer.Context,
    task_id: TaskArgument,
    wait: WaitOption = False,
    as_json: JsonOption = False,
    store: StoreOption = None,
) -> int:
    """Submit again a task that has ended: its op, params, timeout and retries; prints the new id.

    A worker of the store must have registered its op.
    """
    from tapescope.cli.submitting import Waiting, retry_task

    return retry_task(_choose(context, store), task_id, Waiting(wait, as_json))


@app.command("list")
def list_tasks(
    context: typer.Context,
    status: Annotated[
        TaskStatus | None, typer.Option("--status", help="Only tasks of this status.")
    ] = None,
    op: Annotated[str | None, typer.Option("--op", help="Only tasks of this op.")] = None,
    limit: Annotated[int, typer.Option("--limit", help="Tasks on a page.")] = 50,
    before: Annotated[
        str | None,
        typer.Option("--before", metavar="TASK_ID", help="Tasks older than this: the next page."),
    ] = None,
    as_json: JsonOption = False,
    store: StoreOption = None,
) -> None:
    """List tasks, newest first."""
    from tapescope.cli.reading import list_tasks as list_them

    list_them(_choose(context, store), status, op, limit, before, as_json=as_json)


@app.command()
def show(
    context: typer.Context,
    task_id: TaskArgument,
    as_json: JsonOption = False,
    store: StoreOption = None,
) -> None:
    """Show one task: its row, and how its tape ends."""
    from tapescope.cli.reading import show_task

    show_task(_choose(context, store), task_id, as_json=as_json)


@app.command()
def tape(
    context: typer.Context,
    task_id: TaskArgument,
    follow: Annotated[
        bool, typer.Option("--follow", "-f", help="Print events as they come, to the final.")
    ] = False,
    as_json: JsonOption = False,
    store: StoreOption = None,
) -> None:
    """Print a task's tape. With --follow and --json, one event a line."""
    from tapescope.cli.reading import follow_tape, print_tape

    url = _choose(context, store)
    if follow:
        follow_tape(url, task_id, as_json=as_json)
    else:
        print_tape(url, task_id, as_json=as_json)


@app.command()
def cancel(
    context: typer.Context,
    task_id: TaskArgument,
    reason: Annotated[
        str, typer.Option("--reason", metavar="TEXT", help="Why, in your words: kept on the tape.")
    ] = "",
    as_json: JsonOption = False,
    store: StoreOption = None,
) -> None:
    """Cancel a task, in whichever process it runs; returns once the request is durable."""
    from tapescope.cli.cancelling import cancel_task

    cancel_task(_choose(context, store), task_id, reason, as_json=as_json)


@app.command()
def drops(
    context: typer.Context,
    task_id: Annotated[
        str | None,
        typer.Argument(metavar="[TASK_ID]", help="Only this task's.", show_default=False),
    ] = None,
    as_json: JsonOption = False,
    store: StoreOption = None,
) -> None:
    """List the events that came too late, and why each was kept off its tape."""
    from tapescope.cli.reading import list_drops

    list_drops(_choose(context, store), task_id, as_json=as_json)


@app.command()
def audit(
    context: typer.Context,
    grace: Annotated[
        float,
        typer.Option(
            "--grace", metavar="SECONDS", help="After its lease ended, a running task is stuck."
        ),
    ] = 60.0,
    rate: Annotated[
        float | None,
        typer.Option("--rows-per-second", metavar="N", help="Read no faster. Default: no bound."),
    ] = None,
    repair: Annotated[
        bool, typer.Option("--repair", help="Mend what can be, and keep a trace of it.")
    ] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Only say what --repair would do.")
    ] = False,
    as_json: JsonOption = False,
    store: StoreOption = None,
) -> int:
    """Check every tape against the invariants; without --repair nothing is changed.

    The exit status is 0 when all is well, 1 when something is wrong or was until it was mended, 2
    when it could not be told.
    """
    from tapescope.cli.auditing import audit_tapes, repair_tapes
    from tapescope.cli.output import on_terminal

    url = _choose(context, store)
    if repair or dry_run:
        return repair_tapes(
            url,
            dry_run=dry_run,
            grace=grace,
            rows_per_second=rate,
            as_json=as_json,
            terminal=on_terminal(),
        )
    return audit_tapes(
        url, grace=grace, rows_per_second=rate, as_json=as_json, terminal=on_terminal()
    )


@app.command()
def prune(
    context: typer.Context,
    older_than: Annotated[
        str,
        typer.Option(
            "--older-than", metavar="AGE", help="Ended longer ago than this: 12h, 30d, 8w."
        ),
    ],
    outcome: Annotated[
        list[Outcome] | None,
        typer.Option("--outcome", help="Only of this outcome; may be given more than once."),
    ] = None,
    op: Annotated[str | None, typer.Option("--op", help="Only tasks of this op.")] = None,
    quarantine: Annotated[
        bool, typer.Option("--quarantine", help="Delete old late events instead of tasks.")
    ] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Delete nothing, say how many it would be.")
    ] = False,
    store: StoreOption = None,
) -> None:
    """Delete tasks that ended long ago, each with its whole tape; never one that lives."""
    from tapescope.cli.retention import parse_age, prune_store

    age, url = parse_age(older_than), _choose(context, store)
    prune_store(url, age, outcome or [], op, quarantine=quarantine, dry_run=dry_run)


@app.command()
def migrate(
    context: typer.Context,
    check: Annotated[
        bool,
        typer.Option("--check", help="Change nothing; status 1 when migrations are missing."),
    ] = False,
    store: StoreOption = None,
) -> int:
    """Bring the store's schema up to this version of tapescope."""
    from tapescope.cli.retention import migrate_store

    return migrate_store(_choose(context, store), check=check)


@app.command()
def demo(
    context: typer.Context,
    folder: Annotated[
        Path | None,
        typer.Option(
            "--folder", help="Whose files are hashed. Default: Python's standard library."
        ),
    ] = None,
    store: StoreOption = None,
) -> int:
    """Run a real workload: tasks that succeed, fail, are cancelled, and report too late.

    It hashes files and runs shell commands, on a store of its own unless --store names one.
    """
    from tapescope.cli.demo import run_demo

    return run_demo(folder=folder, store=store or context.obj)


@app.command()
def drill(
    context: typer.Context,
    name: Annotated[
        str | None,
        typer.Argument(metavar="NAME", help="Which fault; --list names them.", show_default=False),
    ] = None,
    list_them: Annotated[
        bool, typer.Option("--list", help="Print the drills, and the alerts they raise.")
    ] = False,
    hold: Annotated[
        float | None,
        typer.Option(
            "--hold",
            metavar="SECONDS",
            help="Go on for so long, to be scraped. Default: until the shipped alert fires.",
            show_default=False,
        ),
    ] = None,
    on_real_store: Annotated[
        bool,
        typer.Option("--on-real-store", help="Drill although the store holds tasks of others."),
    ] = False,
    metrics_port: MetricsPortOption = None,
    metrics_host: MetricsHostOption = "127.0.0.1",
    store: StoreOption = None,
) -> int:
    """Make a fault on purpose, to see that its alert reaches somebody; cleans up after itself.

    Its tasks have the op drill.NAME. Without --store and TAPESCOPE_STORE it makes a scratch store,
    and for integrity-violation always. Drops are counted in the process that runs the store: have
    Prometheus scrape --metrics-port, under a job of its own.
    """
    from tapescope.cli.drill import print_drills, run_drill
    from tapescope.cli.output import on_terminal
    from tapescope.cli.settings import find_named_store

    if list_them:
        print_drills(terminal=on_terminal())
        return 0
    return run_drill(
        name,
        store=find_named_store(store or context.obj),
        hold=hold,
        metrics_host=metrics_host,
        metrics_port=metrics_port,
        on_real_store=on_real_store,
    )

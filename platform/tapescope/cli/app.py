"""The commands, in the order of their help, and the options that stand before a command."""

from __future__ import annotations

from typing import Annotated

import typer

from tapescope.cli._help import Command
from tapescope.cli._options import StoreOption
from tapescope.cli._settings import EXIT_USAGE, LogFormat, LogLevel, choose_log
from tapescope.cli._telemetry import exporting
from tapescope.cli.commands.audit import audit
from tapescope.cli.commands.cancel import cancel
from tapescope.cli.commands.demo import demo
from tapescope.cli.commands.drill import drill
from tapescope.cli.commands.drops import drops
from tapescope.cli.commands.list import list_tasks
from tapescope.cli.commands.migrate import migrate
from tapescope.cli.commands.prune import prune
from tapescope.cli.commands.retry import retry
from tapescope.cli.commands.run import run
from tapescope.cli.commands.show import show
from tapescope.cli.commands.submit import submit
from tapescope.cli.commands.tape import tape
from tapescope.cli.commands.worker import worker

__all__ = ["app"]

_SCRAPED = frozenset({"drill", "run", "worker"})
"""Commands that set their telemetry up themselves, with the listener that they are scraped on."""

app = typer.Typer(
    name="tapescope",
    invoke_without_command=True,
    context_settings={"help_option_names": ["-h", "--help"]},
    pretty_exceptions_enable=False,
    rich_markup_mode=None,  # rich's boxes leave 80 columns too little room for the text
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
            metavar="FORMAT",
            help="Write a log on stderr, as text or as json, each line with its trace. Default: "
            "TAPESCOPE_LOG_FORMAT, else no log.",
            show_default=False,
        ),
    ] = None,
    log_level: Annotated[
        LogLevel | None,
        typer.Option(
            "--log-level",
            metavar="LEVEL",
            help="The lowest level to log: debug, info, warning or error. Default: "
            "TAPESCOPE_LOG_LEVEL, else info.",
            show_default=False,
        ),
    ] = None,
    version: Annotated[
        bool,
        typer.Option(
            "--version", help="Print the version and exit.", callback=_print_version, is_eager=True
        ),
    ] = False,
) -> None:
    """Run tasks whose every step is on a durable tape, and read those tapes.

    Telemetry is sent where the OTEL_* variables say, such as OTEL_EXPORTER_OTLP_ENDPOINT.
    """
    if context.invoked_subcommand is None:
        typer.echo(context.get_help(), err=True)
        raise typer.Exit(EXIT_USAGE)
    context.obj = store
    shown_format, level = choose_log(log_format, log_level)
    if shown_format is not None:
        from tapescope.cli._logging import start_logging

        start_logging(shown_format, level)
    if context.invoked_subcommand not in _SCRAPED:
        context.with_resource(exporting())


app.command(
    cls=Command,
    context_settings={"allow_interspersed_args": False},
    options_metavar="[OPTIONS] --",
)(run)
app.command(cls=Command)(worker)
app.command(cls=Command)(submit)
app.command(cls=Command)(retry)
app.command("list", cls=Command)(list_tasks)
app.command(cls=Command)(show)
app.command(cls=Command)(tape)
app.command(cls=Command)(cancel)
app.command(cls=Command)(drops)
app.command(cls=Command)(audit)
app.command(cls=Command)(prune)
app.command(cls=Command)(migrate)
app.command(cls=Command)(demo)
app.command(cls=Command)(drill)

"""The commands, in the order of their help, and the options that stand before a command."""

from __future__ import annotations

from collections import UserDict
from functools import cache
from importlib import import_module
from typing import Annotated, Any, Final

import typer
from typer.core import TyperGroup
from typer.main import get_command

from tapescope.cli._help import Command
from tapescope.cli._options import StoreOption
from tapescope.cli._output import say
from tapescope.cli._settings import EXIT_USAGE, LogFormat, LogLevel, choose_log
from tapescope.cli._telemetry import exporting
from tapescope.errors import BadSetting

__all__ = ["app"]

_SCRAPED = frozenset({"drill", "run", "worker"})
"""Commands that set their telemetry up themselves, with the listener that they are scraped on."""

_COMMANDS: Final = {
    "run": "run",
    "worker": "worker",
    "submit": "submit",
    "retry": "retry",
    "list": "list_tasks",
    "show": "show",
    "tape": "tape",
    "cancel": "cancel",
    "drops": "drops",
    "audit": "audit",
    "prune": "prune",
    "migrate": "migrate",
    "spool": "spool",
    "demo": "demo",
    "drill": "drill",
}
"""Each command, in the order of the help, with its function in the module of its name."""

_SETTINGS: Final[dict[str, dict[str, Any]]] = {
    "run": {
        "context_settings": {"allow_interspersed_args": False},
        "options_metavar": "[OPTIONS] --",
    }
}


@cache
def _build(name: str) -> Any:
    module = import_module(f"tapescope.cli.commands.{name}")
    alone = typer.Typer(add_completion=False, rich_markup_mode=None)
    alone.command(name, cls=Command, **_SETTINGS.get(name, {}))(getattr(module, _COMMANDS[name]))
    return get_command(alone)


class _Commands(UserDict[str, Any]):
    """The commands by name, each imported and built when it is asked for: a process wants one."""

    def __init__(self) -> None:
        super().__init__(dict.fromkeys(_COMMANDS))

    def __getitem__(self, name: str) -> Any:
        super().__getitem__(name)  # raises for a name that is no command
        return _build(name)


class _Group(TyperGroup):
    def __init__(self, **settings: Any) -> None:
        super().__init__(**settings)
        self.commands = _Commands()


app = typer.Typer(
    name="tapescope",
    cls=_Group,
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
    try:
        shown_format, level = choose_log(log_format, log_level)
    except BadSetting as error:
        if context.invoked_subcommand != "run":
            raise
        say(f"{error} There is no log.")  # a variable is no reason not to run a command
        shown_format, level = None, LogLevel.INFO
    if shown_format is not None:
        from tapescope.cli._logging import start_logging

        start_logging(shown_format, level)
    if context.invoked_subcommand not in _SCRAPED:
        context.with_resource(exporting())

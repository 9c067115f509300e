"""The commands, in the order of their help, and the options that stand before a command."""

from __future__ import annotations

from collections import UserDict
from importlib import import_module
from typing import Any, Final, NamedTuple

import click

from tapescope.cli._environment import collect_garbage
from tapescope.cli._options import server_option, store_option
from tapescope.cli._output import say
from tapescope.cli._settings import EXIT_USAGE, LogFormat, LogLevel, choose_log
from tapescope.cli._telemetry import exporting
from tapescope.cli._types import Words
from tapescope.errors import BadSetting
from tapescope_telemetry import __version__

__all__ = ["app"]

_SCRAPED = frozenset({"drill", "exporter", "run", "serve", "worker"})
"""Commands that set their telemetry up themselves, with the listener that they are scraped on."""

_COMMANDS: Final = {
    "run": "run",
    "worker": "worker",
    "serve": "serve",
    "token": "token",
    "exporter": "exporter",
    "submit": "submit",
    "schedule": "schedule",
    "retry": "retry",
    "list": "list_tasks",
    "stats": "stats",
    "show": "show",
    "tape": "tape",
    "trace": "trace",
    "cancel": "cancel",
    "send": "send",
    "messages": "messages",
    "pause": "pause",
    "resume": "resume",
    "workers": "workers",
    "engine": "engine",
    "drops": "drops",
    "audit": "audit",
    "prune": "prune",
    "migrate": "migrate",
    "spool": "spool",
    "dashboards": "dashboards",
    "demo": "demo",
    "drill": "drill",
    "completion": "completion",
}
"""Each command, in the order of the help, with its function in the module of its name."""


_REMOTE: Final = frozenset(
    {
        *("submit", "retry", "list", "stats", "show", "tape", "trace", "cancel", "drops"),
        *("send", "messages", "audit", "schedule", "pause", "resume", "workers"),
    }
)
"""Commands that work through a server as on a store."""
_AT_THE_STORE: Final = "this command works on a store itself: run it where the store is"


class Named(NamedTuple):
    """What stands before the command's name."""

    store: str | None
    server: str | None


class _Commands(UserDict[str, Any]):
    """The commands by name, each imported when it is asked for: a process wants one."""

    def __init__(self) -> None:
        super().__init__(dict.fromkeys(_COMMANDS))

    def __getitem__(self, name: str) -> click.Command:
        super().__getitem__(name)  # raises for a name that no command has
        module = import_module(f"tapescope.cli.commands.{name}")
        command: click.Command = getattr(module, _COMMANDS[name])
        return command


class _Group(click.Group):
    """Has its commands in the order of their use, and errors that say whose options they are of."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(self.commands)

    def invoke(self, ctx: click.Context) -> Any:
        """Run the command. An error about its options says, as click's do not all, that it has it.

        Raises ``click.UsageError``.
        """
        try:
            return super().invoke(ctx)
        except click.UsageError as error:
            name = ctx.invoked_subcommand
            if isinstance(error, click.NoSuchOption) and error.option_name == "--server":
                error = click.BadParameter(_AT_THE_STORE, error.ctx, param_hint="--server")
            if error.ctx is None and name is not None:
                error.ctx = click.Context(self.commands[name], parent=ctx, info_name=name)
            raise error


@click.group(
    "tapescope",
    cls=_Group,
    commands=_Commands(),
    invoke_without_command=True,
    subcommand_metavar="COMMAND [ARGS]...",
    context_settings={"help_option_names": ["-h", "--help"], "show_default": True},
)
@click.pass_context
@store_option
@server_option
@click.option(
    "--log-format",
    type=Words(LogFormat),
    metavar="FORMAT",
    help="Write a log on stderr, as text or as json, each line with its trace. Default: "
    "TAPESCOPE_LOG_FORMAT, else no log.",
)
@click.option(
    "--log-level",
    type=Words(LogLevel),
    metavar="LEVEL",
    help="The lowest level to log: debug, info, warning or error. Default: "
    "TAPESCOPE_LOG_LEVEL, else info.",
)
@click.version_option(
    __version__, message="%(prog)s %(version)s", help="Print the version and exit."
)
def app(
    context: click.Context,
    *,
    store: str | None,
    server: str | None,
    log_format: LogFormat | None,
    log_level: LogLevel | None,
) -> None:
    """Run tasks whose every step is on a durable tape, and read those tapes.

    Telemetry is sent where the OTEL_* variables say, such as OTEL_EXPORTER_OTLP_ENDPOINT.
    """
    collect_garbage()  # the command's module is imported
    if context.invoked_subcommand is None:
        click.echo(context.get_help(), err=True)
        context.exit(EXIT_USAGE)
    if server and context.invoked_subcommand not in _REMOTE:
        raise click.BadParameter(_AT_THE_STORE, param_hint="--server")
    context.obj = Named(store, server)
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

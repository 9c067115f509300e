"""``tapescope token``: who may use the server, and for what."""

from __future__ import annotations

from pathlib import Path

import click

from tapescope.cli._options import json_option
from tapescope.cli._output import on_terminal, print_json, print_line, say
from tapescope.cli._settings import EXIT_USAGE
from tapescope.cli._table import Column, print_table
from tapescope.cli._tokens import open_tokens, tokens_option
from tapescope.cli._wording import now_us
from tapescope.errors import BadSetting
from tapescope.model.times import format_time
from tapescope.model.wording import format_local

__all__ = ["token"]

_COLUMNS = (Column("name"), Column("scopes", wraps=True), Column("created"))


@click.group("token", invoke_without_command=True, subcommand_metavar="COMMAND [ARGS]...")
@click.pass_context
def token(context: click.Context) -> None:
    """Make, list and revoke the tokens of 'tapescope serve'.

    Once there is a token, every request needs one. The server reads the file again when it changes.
    """
    if context.invoked_subcommand is None:
        click.echo(context.get_help(), err=True)
        context.exit(EXIT_USAGE)


@token.command("add")
@click.argument("name", help="Whom the token is made out to: a program, or a person.")
@click.option(
    "--scope",
    "scopes",
    multiple=True,
    required=True,
    metavar="SCOPE",
    help="read, submit or cancel, for every op, for one, as in submit:resize, or for what has a "
    "tag, as in cancel:tag=team-a; or admin, for all of it and the audit. Give it again for more.",
)
@tokens_option
def add(*, name: str, scopes: tuple[str, ...], tokens: Path | None) -> None:
    """Make a token, and print it.

    It is shown only now, for its hash alone is kept.
    """
    from tapescope.http.access import Grant

    file = open_tokens(tokens)
    try:
        made = file.add(name, map(Grant.parse, scopes), now_us())
    except BadSetting as error:
        hint = "--scope" if error.name == "scope" else "NAME"
        raise click.BadParameter(
            f"{error.value!r} must be {error.expected}", param_hint=hint
        ) from error
    print_line(made)
    say(f"{name} may {', '.join(scopes)}; the hash of the token is in {file.path}")


@token.command("list")
@json_option
@tokens_option
def list_tokens(*, as_json: bool, tokens: Path | None) -> None:
    """List whom tokens are made out to, and for what."""
    file = open_tokens(tokens)
    known = file.read()
    if as_json:
        shapes = [
            {
                "name": one.name,
                "scopes": sorted(map(str, one.grants)),
                "created_at": format_time(one.created_us),
            }
            for one in known
        ]
        print_json({"tokens": shapes, "file": str(file.path)})
    elif known:
        rows = [
            (one.name, ", ".join(sorted(map(str, one.grants))), format_local(one.created_us))
            for one in known
        ]
        print_table(_COLUMNS, rows, terminal=on_terminal())
    else:
        say(f"there is no token in {file.path}")


@token.command("revoke")
@click.argument("name", help="Whom the token was made out to.")
@tokens_option
def revoke(*, name: str, tokens: Path | None) -> int:
    """Forget a token.

    Requests with it are refused from now on, and streams end within seconds.
    """
    file = open_tokens(tokens)
    if file.path.exists() and file.revoke(name):
        say(f"the token of {name} is revoked")
        return 0
    say(f"{file.path} has no token of {name!r}: 'tapescope token list' names those that it has")
    return 1

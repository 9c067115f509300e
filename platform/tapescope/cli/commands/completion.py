"""``tapescope completion``."""

from __future__ import annotations

from enum import StrEnum

import click
from click.shell_completion import get_completion_class

from tapescope.cli._completion import COMPLETE
from tapescope.cli._output import print_line
from tapescope.cli._settings import PROGRAM
from tapescope.cli._types import Words

__all__ = ["completion"]


class Shell(StrEnum):
    """A shell that can complete."""

    BASH = "bash"
    ZSH = "zsh"
    FISH = "fish"


@click.command("completion")
@click.argument("shell", type=Words(Shell), help="The shell that is to complete.")
@click.pass_context
def completion(context: click.Context, *, shell: Shell) -> None:
    """Print a shell's completion of commands, ids and ops.

    \b
    In ~/.bashrc:   eval "$(tapescope completion bash)"
    In ~/.zshrc:    eval "$(tapescope completion zsh)"
    In config.fish: tapescope completion fish | source
    """
    make = get_completion_class(shell)
    assert make is not None, "click knows it"
    script = make(context.find_root().command, {}, PROGRAM, COMPLETE).source()
    print_line(script)

"""From arguments to an exit status: the one place where errors become lines on stderr."""

from __future__ import annotations

import io
import os
import sys
from collections.abc import Sequence
from typing import Any

import click
from click.exceptions import Exit
from click.shell_completion import shell_complete

from tapescope.cli._completion import COMPLETE
from tapescope.cli._output import say
from tapescope.cli._settings import (
    EXIT_INTERRUPTED,
    EXIT_NO_STORE,
    EXIT_NOT_WRITTEN,
    EXIT_OURS,
    EXIT_PIPE_CLOSED,
    PROGRAM,
)
from tapescope.cli._usage_errors import describe_usage_error
from tapescope.cli.app import app
from tapescope.errors import (
    RightsMissing,
    ScopeMissing,
    StoreNotFound,
    TapescopeError,
    TokenRefused,
)

__all__ = ["run_arguments"]


def run_arguments(arguments: Sequence[str]) -> int:
    """Run one command; gives its exit status and raises nothing that a user can bring about."""
    _fill_standard_streams()
    stdout = _watch_stdout()
    try:
        status = _run(list(arguments))
        sys.stdout.flush()
    except (StoreNotFound, RightsMissing, ScopeMissing, TokenRefused) as error:
        say(str(error))
        return EXIT_NO_STORE
    except TapescopeError as error:
        say(str(error))
        return 1
    except click.ClickException as error:
        return _report_usage(error)
    except (KeyboardInterrupt, click.Abort):
        return EXIT_INTERRUPTED
    except BrokenPipeError:
        _discard_output()  # the reader of our output has seen enough
        return EXIT_PIPE_CLOSED
    except OSError as error:
        if stdout is None or stdout.error is not error:
            raise
        say(f"stdout cannot be written ({error.strerror}): the output is not whole")
        _discard_output()
        return EXIT_NOT_WRITTEN
    return int(status or 0)


def _run(arguments: list[str]) -> int | None:
    """What click's own ``main`` does, but for errors: it makes one status of several."""
    if asked := os.environ.get(COMPLETE):
        return shell_complete(app, {}, PROGRAM, COMPLETE, asked)
    try:
        with app.make_context(PROGRAM, arguments) as context:
            status: int | None = app.invoke(context)
            return status
    except Exit as end:
        return end.exit_code


def _report_usage(error: click.ClickException) -> int:
    context = getattr(error, "ctx", None)
    command = PROGRAM if context is None else str(context.command_path)
    say(f"{describe_usage_error(error)} See '{command} --help'.")
    return EXIT_OURS if command == "tapescope run" else error.exit_code


def _fill_standard_streams() -> None:
    """Put /dev/null in the place of a closed one: else the store's file would take its number.

    Stdout's is only to be read: what is written to it fails, as on a closed one.
    """
    for number in (0, 1, 2):
        try:
            os.fstat(number)
        except OSError:
            # takes the lowest free number: this one
            os.open(os.devnull, os.O_RDONLY if number == 1 else os.O_RDWR)
    if sys.stdout is None:  # pyright: ignore[reportUnnecessaryComparison]  # closed at the start
        sys.stdout = os.fdopen(1, "w", closefd=False)
    if sys.stderr is None:  # pyright: ignore[reportUnnecessaryComparison]  # closed at the start
        sys.stderr = os.fdopen(2, "w", closefd=False)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # a test may have put another kind there
            stream.reconfigure(errors="backslashreplace")


class _Stdout(io.FileIO):
    """Descriptor 1; remembers the error of a write that failed."""

    error: OSError | None = None

    def write(self, data: Any, /) -> int:
        """As of any file."""
        try:
            return super().write(data)
        except OSError as error:
            self.error = error
            raise


def _watch_stdout() -> _Stdout | None:
    """Have every writer's errors on stdout known as such; ``None`` where it is not descriptor 1."""
    shown = sys.stdout
    if not isinstance(shown, io.TextIOWrapper):
        return None
    try:
        if shown.fileno() != 1:
            return None
    except OSError:  # a test's: it is in memory
        return None
    shown.flush()
    watched = _Stdout(1, "w", closefd=False)
    sys.stdout = io.TextIOWrapper(
        io.BufferedWriter(watched),
        encoding=shown.encoding,
        errors=shown.errors,
        line_buffering=shown.line_buffering,
        write_through=shown.write_through,
    )
    return watched


def _discard_output() -> None:
    """What is still buffered would fail again, with a traceback, when the interpreter ends."""
    null = os.open(os.devnull, os.O_WRONLY)
    os.dup2(null, 1)
    os.close(null)

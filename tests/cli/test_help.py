"""``--help``: it fits a terminal of 80 columns, and costs no import that a command may need."""

from __future__ import annotations

import re
import subprocess
import sys

import pytest

from tapescope.cli.app import app
from tests.cli.command import Tapescope

_NOT_FOR_HELP = (
    "aiosqlite",
    "asyncpg",
    "grpc",
    "opentelemetry.exporter",
    "opentelemetry.sdk",
    "platformdirs",
    "prometheus_client",
    "rich",
    "tapescope.demo",
    "tapescope.drills",
    "tapescope.http",
    "tapescope_adapters",
    "wsgiref",
)


PROGRAM = """
import atexit, sys
atexit.register(lambda: print(*sys.modules, file=sys.stderr))
from tapescope.cli import main
main()
"""


def list_loaded(*arguments: str) -> set[str]:
    """The modules that are loaded when a command line has ended."""
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, *arguments],
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    return set(done.stderr.split())


def test_a_command_loads_no_other() -> None:
    """A process has one command, and builds no other: a start is short."""
    loaded = list_loaded("spool")

    assert {name for name in loaded if name.startswith("tapescope.cli.commands.")} == {
        "tapescope.cli.commands.spool"
    }


def test_help_loads_nothing_that_a_command_needs() -> None:
    """``tapescope --help`` imports no driver, SDK, HTTP server or terminal UI, drill or demo."""
    loaded = list_loaded("--help")

    assert "tapescope.cli.commands.drill" in loaded
    assert [
        name
        for name in loaded
        if any(name == heavy or name.startswith(f"{heavy}.") for heavy in _NOT_FOR_HELP)
    ] == []


def test_each_command_has_a_line_that_is_whole(tapescope: Tapescope) -> None:
    """On 80 columns the list of commands has all of them, and cuts no summary short."""
    done = tapescope("--help", env={"COLUMNS": "80"})
    _, _, listed = done.stdout.decode().partition("Commands:\n")

    assert [line.split()[0] for line in listed.splitlines()] == list(app.commands)
    assert "..." not in listed
    assert "OTEL_EXPORTER_OTLP_ENDPOINT" in done.stdout.decode()


def test_no_command_is_the_help_and_status_2(tapescope: Tapescope) -> None:
    """``tapescope`` alone prints its help on stderr, and no empty message after it."""
    done = tapescope.here()
    helped = tapescope.here("--help")

    assert (done.returncode, done.stdout) == (2, b"")
    assert done.stderr == helped.stdout


@pytest.mark.parametrize("name", app.commands)
def test_help_fits_80_columns(tapescope: Tapescope, name: str) -> None:
    """No line is longer, and every option has its help."""
    tapescope.env["COLUMNS"] = "80"
    done, short = tapescope.here(name, "--help"), tapescope.here(name, "-h")
    lines = done.stdout.decode().splitlines()

    assert (done.returncode, done.stderr) == (0, b"")
    assert (short.returncode, short.stderr) == (0, b"")
    assert short.stdout == done.stdout
    assert max(map(len, lines)) <= 80
    assert not re.search(r"<\w|\{[A-Z-]|\[\[|\.\.\.\.", done.stdout.decode()), "click's own signs"
    for parameter in app.commands[name].params:
        assert parameter.help, parameter.name

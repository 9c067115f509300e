"""A stdout that takes nothing: one line and a status, for every command, and no traceback."""

from __future__ import annotations

import shlex
import subprocess
import sys

import pytest

from tests.cli.command import Tapescope

_PROGRAM = f"{shlex.quote(sys.executable)} -m tapescope.cli"
_COMMANDS = {
    "list": "list",
    "list --json": "list --json",
    "drill --list": "drill --list",
    "tape": "tape {task}",
    "tape --json": "tape --json {task}",
    "help": "show --help",
    "version": "--version",
    "submit": "submit resize",
}
_DAILY = ("list --json",)
"""Of the others the same code is asked; a process costs half a second."""


@pytest.mark.parametrize("stdout", ["> /dev/full", ">&-"])
@pytest.mark.parametrize(
    "command",
    [pytest.param(name, marks=[] if name in _DAILY else [pytest.mark.slow]) for name in _COMMANDS],
)
def test_output_that_is_lost_is_told(tapescope: Tapescope, command: str, stdout: str) -> None:
    """On a full device and on a closed descriptor, with the status of an input/output error."""
    task_id = tapescope.here("submit", "resize").stdout.decode().strip()
    tapescope.here("cancel", task_id)
    arguments = _COMMANDS[command].format(task=task_id)
    done = subprocess.run(
        ["/bin/sh", "-c", f"{_PROGRAM} {arguments} {stdout}"],
        env=tapescope.env,
        capture_output=True,
        timeout=60,
        check=False,
    )
    said = done.stderr.decode().splitlines()

    assert done.returncode == 74, done.stderr
    why = "No space left on device" if "full" in stdout else "Bad file descriptor"
    told = f"tapescope: stdout cannot be written ({why}): the output is not whole"
    assert [line for line in said if "no worker" not in line] == [told]


@pytest.mark.parametrize("command", ["list", pytest.param("list --json", marks=pytest.mark.slow)])
def test_reader_that_has_left_is_met_in_silence(tapescope: Tapescope, command: str) -> None:
    """A closed pipe is 128 + SIGPIPE, as for every program, and not a word."""
    tapescope.here("submit", "resize")
    script = f"{{ {_PROGRAM} {command}; echo $? >&2; }} | :"
    done = subprocess.run(
        ["/bin/sh", "-c", script], env=tapescope.env, capture_output=True, timeout=60, check=False
    )

    assert done.stderr == b"141\n"

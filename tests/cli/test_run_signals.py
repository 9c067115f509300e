"""Signals and terminals: ``tapescope run`` in front of a person."""

from __future__ import annotations

import os
import re
import signal

import psutil
import pytest

from tapescope.cli._wording import shorten_id
from tapescope.testing import until
from tests.cli.command import Tapescope, read_terminal

_COLOUR = re.compile(rb"\x1b\[[0-9;]*m")


@pytest.mark.parametrize(
    ("number", "status", "reason"),
    [
        (signal.SIGINT, 130, "user"),
        (signal.SIGTERM, 143, "shutdown"),
        (signal.SIGHUP, 129, "shutdown"),
    ],
)
def test_signal_cancels_the_task(
    tapescope: Tapescope, number: signal.Signals, status: int, reason: str
) -> None:
    """The command gets SIGTERM, the task is cancelled for a reason, the status is 128 + n."""
    script = "trap 'echo goodbye; exit 0' TERM; echo ready; while :; do sleep 0.05; done"
    with tapescope.started("run", "--", "sh", "-c", script) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"ready\n"
        process.send_signal(number)
        rest, _ = process.communicate(timeout=30)
    events = tapescope.tape()

    assert process.returncode == status
    assert rest == b"goodbye\n"
    assert [e["body"]["line"] for e in events if e["body"].get("stream") == "stdout"] == [
        "ready",
        "goodbye",
    ]
    assert events[-1]["body"]["outcome"] == "cancelled"
    assert events[-1]["body"]["cancel"]["reason"] == reason


def test_deaf_command_is_killed_after_the_grace(tapescope: Tapescope) -> None:
    """A command that ignores SIGTERM gets SIGKILL, ``--grace`` seconds later."""
    script = "trap '' TERM; echo ready; while :; do sleep 0.05; done"
    with tapescope.started("run", "--grace", "0.2", "--", "sh", "-c", script) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"ready\n"
        process.send_signal(signal.SIGINT)
        status = process.wait(30)

    assert status == 130
    assert tapescope.tape()[-1]["body"]["outcome"] == "cancelled"


def test_second_signal_kills_at_once(tapescope: Tapescope) -> None:
    """A user who presses Ctrl-C again does not wait for the grace."""
    script = "trap 'echo told' TERM; echo ready; while :; do sleep 0.05; done"
    with tapescope.started("run", "--grace", "600", "--", "sh", "-c", script) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"ready\n"
        process.send_signal(signal.SIGINT)
        assert process.stdout.readline() == b"told\n"
        process.send_signal(signal.SIGINT)
        status = process.wait(30)

    assert status == 130
    assert tapescope.tape()[-1]["body"]["outcome"] == "cancelled"


def test_ignored_signal_stays_ignored(tapescope: Tapescope) -> None:
    """Under nohup a hangup ends neither us nor the command."""
    script = "echo ready; kill -HUP $PPID $$; echo still here"
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        done = tapescope("run", "--", "sh", "-c", script)
    finally:
        signal.signal(signal.SIGHUP, before)

    assert done.returncode == 0
    assert done.stdout == b"ready\nstill here\n"


def test_ctrl_c_on_a_terminal_cancels(tapescope: Tapescope) -> None:
    """The key itself does it: 130, a cancelled task, no traceback, a line that names the task."""
    with tapescope.on_terminal("run", "--", "sh", "-c", "echo ready; sleep 600") as (process, end):
        shown = read_terminal(end, until=[b"ready"])
        os.write(end, b"\x03")
        shown += read_terminal(end)
        status = process.wait(30)
    task_id = tapescope.newest()

    assert status == 130
    assert f"tapescope: task {task_id}".encode() in shown
    assert b"tapescope: cancelled in" in shown
    assert b"Traceback" not in shown
    assert tapescope.tape()[-1]["body"]["cancel"]["reason"] == "user"


def test_stdin_is_the_terminal(tapescope: Tapescope) -> None:
    """A command may ask the person at the terminal."""
    with tapescope.on_terminal("run", "--", "sh", "-c", "echo ask; read a; echo got $a") as (
        process,
        end,
    ):
        shown = read_terminal(end, until=[b"ask"])
        os.write(end, b"this\n")
        shown += read_terminal(end)
        status = process.wait(30)

    assert status == 0
    assert b"got this" in shown


async def test_ctrl_z_stops_the_command_along(tapescope: Tapescope) -> None:
    """Ctrl-Z stops us and the command; to be continued continues both."""
    script = "echo $$; read _; echo done"
    with tapescope.on_terminal("run", "--", "sh", "-c", script) as (process, end):
        shown = read_terminal(end, until=[b"\n"])
        while not (found := re.search(rb"^(\d+)\r?\n", shown, re.MULTILINE)):
            shown += read_terminal(end, until=[b"\n"])
        child, ours = psutil.Process(int(found[1])), psutil.Process(process.pid)
        process.send_signal(signal.SIGTSTP)
        await until(lambda: ours.status() == psutil.STATUS_STOPPED)
        await until(lambda: child.status() == psutil.STATUS_STOPPED)
        process.send_signal(signal.SIGCONT)
        os.write(end, b"\n")
        shown += read_terminal(end)
        status = process.wait(30)

    assert status == 0
    assert b"done" in shown


def test_cancel_from_another_process_ends_the_command(tapescope_on: Tapescope) -> None:
    """``tapescope cancel`` reaches a command that runs elsewhere; its words are on the tape."""
    with tapescope_on.started("run", "--", "sh", "-c", "echo ready; sleep 600") as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"ready\n"
        task_id = tapescope_on.newest()
        answer = tapescope_on.json("cancel", task_id, "--message", "not today")
        status = process.wait(30)
    final = tapescope_on.tape(task_id)[-1]["body"]

    assert (answer["task_id"], answer["state"]) == (task_id, "recorded")
    assert status == 128 + signal.SIGTERM
    assert final["outcome"] == "cancelled"
    assert final["cancel"]["message"] == "not today"


def test_tables_on_a_terminal_keep_ids_whole(tapescope: Tapescope) -> None:
    """On a terminal of 80 columns there are colours, and every id in its short form."""
    tapescope("run", "--", "true")
    with tapescope.on_terminal("list") as (process, end):
        shown = read_terminal(end)
        process.wait(30)

    assert _COLOUR.search(shown)
    assert shorten_id(tapescope.newest()).encode() in _COLOUR.sub(b"", shown)


def test_tape_on_a_terminal_cannot_be_used_to_write_on_it(tapescope: Tapescope) -> None:
    """Control codes in a command's output are shown, not obeyed, when its tape is read."""
    tapescope("run", "--", "printf", r"\033[31mred\033]0;title\007")
    with tapescope.on_terminal("tape", tapescope.newest()) as (process, end):
        shown = read_terminal(end)
        process.wait(30)

    assert rb"\x1b[31mred\x1b]0;title\x07" in shown
    assert b"\x07" not in shown

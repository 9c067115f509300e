"""``tapescope run`` on a terminal: what a person and a shell see is what they see without it."""

from __future__ import annotations

import fcntl
import os
import signal
import struct
import termios
from pathlib import Path

import psutil
import pytest

from tapescope.testing import until
from tests.cli.command import READ_A, Tapescope, read_terminal

CLEANS_UP = """
import time
try:
    print("working", flush=True)
    time.sleep(600)
except KeyboardInterrupt:
    print("rolled back", flush=True)
finally:
    print("temp files removed", flush=True)
"""
COUNTS_SIZES = """
import signal, sys
signal.signal(signal.SIGWINCH, lambda *_: print("resized", flush=True))
print("ready", flush=True)
for line in sys.stdin:
    print("got", line, flush=True)
"""
HOLDS_STOP_BACK = """
import os, signal, sys
signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTSTP})
print("pid", os.getpid(), "ready", flush=True)
sys.stdin.readline()
signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGTSTP})
print("went on", flush=True)
"""
"""Not stopped yet by a signal that has been sent to it."""
INTERACTIVE = ("bash", "--norc", "--noprofile", "-i")


def answered(end: int, text: bytes) -> bytes:
    """What the terminal shows until this is among it; fails where the program ends before."""
    shown = read_terminal(end, until=[text])
    assert text in shown, shown
    return shown


def test_ctrl_c_on_a_terminal_cancels(tapescope: Tapescope) -> None:
    """The key itself does it: a cancelled task, no traceback, a line that names the task.

    ``exec``: dash by itself may lose a Ctrl-C that comes while it begins a command.
    """
    with tapescope.on_terminal("run", "--", "sh", "-c", "echo ready; exec sleep 600") as (
        process,
        end,
    ):
        shown = answered(end, b"ready")
        os.write(end, b"\x03")
        shown += read_terminal(end)
        status = process.wait(30)
    task_id = tapescope.newest()

    assert status == -signal.SIGINT
    assert f"tapescope: task {task_id}".encode() in shown
    assert b"tapescope: cancelled in" in shown
    assert b"Traceback" not in shown
    assert tapescope.tape()[-1]["body"]["cancel"]["reason"] == "user"


def test_ctrl_c_lets_the_command_clean_up(tapescope: Tapescope, tmp_path: Path) -> None:
    """A program that handles its interrupt handles it, once."""
    program = tmp_path / "clean.py"
    program.write_text(CLEANS_UP)
    with tapescope.on_terminal("run", "--", "python3", str(program)) as (process, end):
        answered(end, b"working")
        os.write(end, b"\x03")
        shown = read_terminal(end)
        process.wait(30)

    assert shown.count(b"rolled back") == 1
    assert b"temp files removed" in shown


def test_ctrl_c_that_the_command_lives_through_is_no_end(tapescope: Tapescope) -> None:
    """As in psql or a debugger: the key is between the person and the command, whatever the grace;
    it comes once."""
    script = f"trap 'echo caught' INT; echo ready; {READ_A}; {READ_A}; echo got $a"
    with tapescope.on_terminal("run", "--grace", "0", "--", "bash", "-c", script) as (process, end):
        answered(end, b"ready")
        for _ in range(2):
            os.write(end, b"\x03")
            answered(end, b"caught")
        os.write(end, b"one\nmore\n")
        shown = read_terminal(end)
        status = process.wait(30)

    assert status == 0
    assert b"got more" in shown
    assert b"caught" not in shown
    assert tapescope.tape()[-1]["body"]["outcome"] == "succeeded"


@pytest.mark.parametrize(("key", "number"), [(b"\x03", signal.SIGINT), (b"\x1c", signal.SIGQUIT)])
def test_key_ends_a_shells_loop(
    tapescope: Tapescope, tmp_path: Path, key: bytes, number: signal.Signals
) -> None:
    """A script sees that the signal ended the command, and is ended with it, as without us."""
    script = tmp_path / "loop.sh"
    script.write_text("for i in 1 2 3; do echo turn $i; $T run -- sleep 600; done; echo over\n")
    with tapescope.on_terminal(str(script), program=("bash",)) as (process, end):
        answered(end, b"turn 1")
        answered(end, b"task")
        sleeper = next_child(process.pid, "sleep")
        os.write(end, key)
        if number is signal.SIGINT:
            shown = read_terminal(end)
            status = process.wait(30)
        else:  # bash goes on after this one, with and without us
            shown = answered(end, b"turn 2")
            status = -number
            process.kill()

    assert status == -number
    assert b"over" not in shown
    assert (b"turn 2" in shown) == (number is signal.SIGQUIT)
    assert not sleeper.is_running()


def next_child(pid: int, name: str) -> psutil.Process:
    """The descendant of this name, once it is there."""
    for _ in range(100_000):
        for process in psutil.Process(pid).children(recursive=True):
            if process.name() == name:
                return process
    raise AssertionError(f"{name} was not started")


def test_terminal_is_the_commands_own(tapescope: Tapescope) -> None:
    """It opens /dev/tty, asks for a password there, knows its size, and is its foreground."""
    script = (
        "echo hello >/dev/tty; stty size </dev/tty; "
        "[ $(ps -o tpgid= -p $$) = $(ps -o pgid= -p $$) ] && echo foreground; "
        "read -rs -p 'password: ' secret </dev/tty; echo; echo got $secret"
    )
    with tapescope.on_terminal("run", "--", "bash", "-c", script) as (process, end):
        fcntl.ioctl(end, termios.TIOCSWINSZ, struct.pack("HHHH", 33, 77, 0, 0))
        shown = answered(end, b"password: ")
        os.write(end, b"abc\n")
        rest = read_terminal(end)
        status = process.wait(30)

    assert status == 0
    assert b"hello" in shown
    assert b"33 77" in shown
    assert b"foreground" in shown
    assert rest.count(b"abc") == 1  # not echoed


def test_new_size_is_told_once(tapescope: Tapescope) -> None:
    """SIGWINCH comes from the terminal, and not from us as well."""
    with tapescope.on_terminal("run", "--", "python3", "-c", COUNTS_SIZES) as (process, end):
        answered(end, b"ready")
        fcntl.ioctl(end, termios.TIOCSWINSZ, struct.pack("HHHH", 33, 77, 0, 0))
        os.write(end, b"line\n")
        shown = answered(end, b"got line")
        os.write(end, b"\x04")
        shown += read_terminal(end)
        process.wait(30)

    assert shown.count(b"resized") == 1


def test_ctrl_z_and_fg(tapescope: Tapescope) -> None:
    """A shell with job control sees the job stop and go on, and takes the terminal meanwhile."""
    with tapescope.on_terminal(program=INTERACTIVE) as (process, end):
        os.write(end, b"$T run -- sh -c 'echo rea''dy; read a; echo got $a'\n")
        answered(end, b"ready")
        os.write(end, b"\x1a")
        answered(end, b"Stopped")
        os.write(end, b"echo in''between\n")
        answered(end, b"inbetween")
        os.write(end, b"fg\n")
        answered(end, b"run --")
        os.write(end, b"line\n")
        answered(end, b"got line")
        os.write(end, b"exit 5\n")
        read_terminal(end)
        status = process.wait(30)

    assert status == 5
    assert tapescope.tape()[-1]["body"]["outcome"] == "succeeded"


async def test_stop_of_the_wrapper_stops_the_command(tapescope: Tapescope) -> None:
    """SIGTSTP is passed on; we stop when the command has, and both go on with SIGCONT."""
    with tapescope.started("run", "--", "sh", "-c", "echo $$; exec sleep 600") as process:
        assert process.stdout is not None
        command, ours = psutil.Process(int(process.stdout.readline())), psutil.Process(process.pid)
        process.send_signal(signal.SIGTSTP)
        await until(lambda: command.status() == psutil.STATUS_STOPPED)
        process.send_signal(signal.SIGCONT)
        await until(lambda: command.status() != psutil.STATUS_STOPPED)
        await until(lambda: ours.status() != psutil.STATUS_STOPPED)
        process.send_signal(signal.SIGTERM)
        status = process.wait(30)

    assert status == -signal.SIGTERM


async def test_a_command_that_is_not_stopped_yet_goes_on(
    tapescope: Tapescope, tmp_path: Path
) -> None:
    """SIGCONT right behind SIGTSTP, of one process, to us: the command has both."""
    program = tmp_path / "hold.py"
    program.write_text(HOLDS_STOP_BACK)
    with tapescope.on_terminal("run", "--", "python3", str(program)) as (process, end):
        command = int(answered(end, b"ready").partition(b"pid ")[2].split()[0])
        process.send_signal(signal.SIGTSTP)
        await until(lambda: is_pending(command, signal.SIGTSTP))
        process.send_signal(signal.SIGCONT)
        await until(lambda: not is_pending(command, signal.SIGTSTP))
        os.write(end, b"line\n")
        shown = read_terminal(end)
        status = process.wait(30)

    assert b"went on" in shown
    assert status == 0


def is_pending(pid: int, number: int) -> bool:
    """Whether the signal was sent to this process and has not been taken yet."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("ShdPnd:"):
            return bool(int(line.split()[1], 16) >> (number - 1) & 1)
    raise AssertionError("the system does not say")


def test_pipeline_shares_the_terminal(tapescope: Tapescope) -> None:
    """The reader of a pipeline reads its keys from the terminal, as less does."""
    line = "$T run -- sh -c 'echo one; echo two' | { cat; read k </dev/tty; echo key $k; }\n"
    with tapescope.on_terminal(program=INTERACTIVE) as (process, end):
        os.write(end, line.encode())
        answered(end, b"two\r\n")
        os.write(end, b"q\n")
        answered(end, b"key q")
        os.write(end, b"exit\n")
        read_terminal(end)
        process.wait(30)

    assert tapescope.tape()[-1]["body"]["outcome"] == "succeeded"


def test_stdin_is_the_terminal(tapescope: Tapescope) -> None:
    """A command may ask the person at the terminal."""
    with tapescope.on_terminal("run", "--", "sh", "-c", "echo ask; read a; echo got $a") as (
        process,
        end,
    ):
        shown = answered(end, b"ask")
        os.write(end, b"this\n")
        shown += read_terminal(end)
        status = process.wait(30)

    assert status == 0
    assert b"got this" in shown

"""Signals and terminals: ``tapescope run`` in front of a person."""

from __future__ import annotations

import os
import re
import select
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import psutil
import pytest

from tapescope import find_store
from tapescope.model.wording import shorten_id
from tapescope.testing import until
from tests.cli.command import READ_A, Tapescope, read_terminal, slow
from tests.cli.conftest import Here

RUN = (sys.executable, "-m", "tapescope.cli", "run")
_COLOUR = re.compile(rb"\x1b\[[0-9;]*m")


def has_ended(process: psutil.Process) -> bool:
    """Whether it is gone, or would be if its parent had looked."""
    try:
        return process.status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


def begin_program(source: str, *arguments: str) -> subprocess.Popen[str]:
    """A Python program that leads a group: an orphan's group is not stopped by SIGTSTP."""
    argv = (sys.executable, "-c", source, *arguments)
    return subprocess.Popen(argv, stdout=subprocess.PIPE, text=True, process_group=0)


def started_command(process: subprocess.Popen[bytes]) -> psutil.Process:
    """The command behind the wrapper, which says its process id first."""
    assert process.stdout is not None
    return psutil.Process(int(process.stdout.readline()))


STOPS_ITSELF = """
import os, signal, sys, threading
from tapescope.cli._signals import Signals

def act(heard):
    if heard.number == signal.SIGUSR1:
        busy.set()
        free.wait()
    else:
        continued.set()

def let_go_on_once_both_are_pending():
    thread = next(t for t in threading.enumerate() if t.name == "tapescope-signals")
    while "SigPnd:\\t0000000000000000" in open(f"/proc/self/task/{thread.native_id}/status").read():
        pass
    free.set()

busy, free, continued = threading.Event(), threading.Event(), threading.Event()
sys.setswitchinterval(1.0)  # the thread that takes signals runs when this one waits for it
with Signals() as signals:
    signals.listen(act)
    if "taken late" in sys.argv:
        os.kill(os.getpid(), signal.SIGUSR1)
        busy.wait()
        threading.Thread(target=let_go_on_once_both_are_pending).start()
    os.kill(os.getpid(), signal.SIGCONT)
    while "taken at once" in sys.argv and signal.SIGCONT in signal.sigpending():
        pass
    signals.stop(signal.SIGTSTP, continued=0)
    continued.wait()
    print(signals.continued, flush=True)
    signals.stop(signal.SIGTSTP, continued=1)
    print("went on", flush=True)
"""
"""Told to go on at the moment at which it is about to stop; and then it stops."""


@pytest.mark.parametrize("when", ["taken at once", "taken late"])
async def test_no_sigcont_is_lost_at_the_moment_of_a_stop(when: str) -> None:
    """A stop signal takes back a SIGCONT that nobody has taken yet: we would stay stopped."""
    with begin_program(STOPS_ITSELF, when) as process:
        assert process.stdout is not None
        ours = psutil.Process(process.pid)
        try:
            await until(lambda: ours.status() in (psutil.STATUS_STOPPED, psutil.STATUS_ZOMBIE))
            went_on_at_first, _, _ = select.select([process.stdout], [], [], 0)
            process.send_signal(signal.SIGCONT)
            said, _ = process.communicate(timeout=10)
        finally:
            process.kill()

    assert went_on_at_first
    assert said.split("\n") == ["1", "went on", ""]


@pytest.mark.parametrize(
    ("number", "outcome", "reason"),
    [
        (signal.SIGINT, "cancelled", "user"),
        (signal.SIGTERM, "cancelled", "shutdown"),
        slow(signal.SIGQUIT, "cancelled", "shutdown"),
        slow(signal.SIGHUP, "cancelled", "shutdown"),
        (signal.SIGUSR1, "failed", None),
        slow(signal.SIGRTMIN + 6, "failed", None),
    ],
)
def test_signal_ends_us_as_it_ends_the_command(
    tapescope: Tapescope, number: int, outcome: str, reason: str | None
) -> None:
    """The command gets the signal itself, dies of it, and so do we: a shell sees no difference."""
    with tapescope.started("run", "--", "sh", "-c", "echo $$; exec sleep 600") as process:
        command = started_command(process)
        process.send_signal(number)
        status = process.wait(30)
    final: dict[str, Any] = tapescope.tape()[-1]["body"]
    cancel: dict[str, Any] = final.get("cancel") or {}

    assert status == -number
    assert not command.is_running()
    assert final["outcome"] == outcome
    assert cancel.get("reason") == reason


def test_every_signal_that_can_be_caught_reaches_the_command_as_itself(
    tapescope: Tapescope,
) -> None:
    """Each comes once, under its own number; the command alone decides what it makes of it."""
    left_alone = {"KILL", "STOP", "CHLD", "TTIN", "TTOU", "PIPE", "TSTP", "CONT", "XCPU", "XFSZ"}
    left_alone |= {"SEGV", "BUS", "FPE", "ILL", "TRAP", "SYS"}
    numbers = sorted(
        set(signal.valid_signals())
        - {signal.Signals[f"SIG{name}"] for name in left_alone}
        - {signal.SIGTERM}
    )
    traps = "".join(f"trap 'echo {int(n)}' {int(n)}; " for n in numbers)
    script = f"{traps} trap 'echo end; exit 7' TERM; echo ready; while :; do sleep 0.02; done"
    got: list[int] = []
    with tapescope.started("run", "--grace", "600", "--", "bash", "-c", script) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"ready\n"
        for number in numbers:
            process.send_signal(number)
            got.append(int(process.stdout.readline()))
        process.send_signal(signal.SIGTERM)
        rest, _ = process.communicate(timeout=30)

    assert got == numbers
    assert rest == b"end\n"
    assert process.returncode == 7


@pytest.mark.parametrize("status", [slow(0), 9])
def test_status_after_a_signal_is_the_commands_own(tapescope: Tapescope, status: int) -> None:
    """A command that cleans up and exits has the last word; its task was cancelled."""
    script = f"trap 'echo goodbye; exit {status}' TERM; echo ready; while :; do sleep 0.02; done"
    with tapescope.started("run", "--", "sh", "-c", script) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"ready\n"
        process.send_signal(signal.SIGTERM)
        rest, _ = process.communicate(timeout=30)
    events = tapescope.tape()

    assert process.returncode == status
    assert rest == b"goodbye\n"
    assert [e["body"]["line"] for e in events if e["type"] == "log"] == ["ready", "goodbye"]
    assert events[-1]["body"]["outcome"] == "cancelled"


@pytest.mark.parametrize("number", [signal.SIGHUP, slow(signal.SIGUSR1)])
def test_reload_is_no_end(tapescope: Tapescope, number: signal.Signals) -> None:
    """A server that reads its settings on a hangup lives on, however short the grace."""
    script = f"trap 'echo again' {number.value}; echo ready; {READ_A}; {READ_A}; exit 4"
    with tapescope.started(
        "run", "--grace", "0", "--", "bash", "-c", script, stdin=subprocess.PIPE
    ) as process:
        assert process.stdout is not None
        assert process.stdin is not None
        assert process.stdout.readline() == b"ready\n"
        for _ in range(2):
            process.send_signal(number)
            assert process.stdout.readline() == b"again\n"
        process.communicate(b"\n\n", timeout=30)

    assert process.returncode == 4
    assert tapescope.tape()[-1]["body"]["outcome"] == "failed"


@pytest.mark.parametrize("deaf", [slow("INT"), "INT TERM"])
def test_deaf_command_is_ended_after_the_grace(tapescope: Tapescope, deaf: str) -> None:
    """Who ignores the signal gets SIGTERM, then SIGKILL; we end by the signal that was asked."""
    script = f"trap '' {deaf}; echo ready; while :; do sleep 0.02; done"
    with tapescope.started("run", "--grace", "0.2", "--", "sh", "-c", script) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"ready\n"
        process.send_signal(signal.SIGINT)
        status = process.wait(30)

    assert status == -signal.SIGINT
    assert tapescope.tape()[-1]["body"]["outcome"] == "cancelled"


async def test_end_leaves_nothing_of_the_command(tapescope: Tapescope) -> None:
    """What the ended command has started is told to end, too."""
    script = "sleep 600 & echo $!; wait"
    with tapescope.started("run", "--", "sh", "-c", script) as process:
        grandchild = started_command(process)
        process.send_signal(signal.SIGTERM)
        status = process.wait(30)

    assert status == -signal.SIGTERM
    await until(lambda: has_ended(grandchild))


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


def test_command_has_the_callers_descriptors_and_none_of_ours(tapescope: Tapescope) -> None:
    """Process substitution, make's jobserver and socket activation hand on descriptors over 2."""
    read, write = os.pipe()
    os.write(write, b"from above")
    os.close(write)
    script = (
        f"cat <&{read}; exec {read}<&-; "
        "for n in $(seq 3 60); do [ -e /proc/$$/fd/$n ] && readlink /proc/$$/fd/$n; done; exit 0"
    )
    command = (sys.executable, "-m", "tapescope.cli", "run", "--", "bash", "-c", script)
    wrapped = subprocess.run(
        command, capture_output=True, check=True, pass_fds=(read,), env=tapescope.env, input=b""
    )
    os.close(read)

    assert wrapped.stdout == b"from above"


def test_command_has_the_callers_signal_mask(tapescope: Tapescope) -> None:
    """We block signals to hear them; the command does not inherit that."""
    done = tapescope("run", "--", "grep", "-E", "^Sig(Blk|Ign)", "/proc/self/status")
    plain = subprocess.run(
        ["grep", "-E", "^Sig(Blk|Ign)", "/proc/self/status"], capture_output=True, check=True
    )
    blocked = re.findall(rb"SigBlk:\s(\w+)", done.stdout + plain.stdout)
    ignored = [int(m, 16) for m in re.findall(rb"SigIgn:\s(\w+)", done.stdout + plain.stdout)]
    inner = 1 << 31 | 1 << 32
    """32 and 33 are the C library's own; it ignores them in what posix_spawn starts."""

    assert blocked[0] == blocked[1]
    assert ignored[0] & ~inner == ignored[1] & ~inner


def test_status_comes_through_though_children_are_ignored(tapescope: Tapescope) -> None:
    """Under a caller that ignores SIGCHLD the system would forget the status of our child, too."""
    before = signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    try:
        with tapescope.started("run", "--", "sh", "-c", "exit 3") as process:
            signal.signal(signal.SIGCHLD, before)
            status = process.wait(30)
    finally:
        signal.signal(signal.SIGCHLD, before)

    assert status == 3


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
    assert status == -signal.SIGTERM
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


@pytest.mark.parametrize("together", [False, True])
async def test_killed_wrapper_leaves_its_command_unless_told(
    tapescope: Tapescope, together: bool
) -> None:
    """By default the command runs on, and the tape has its process id."""
    options = ["--die-together"] if together else []
    with tapescope.started("run", *options, "--", "sh", "-c", "echo $$; exec sleep 600") as process:
        command = started_command(process)
        facts = await until(
            lambda: [e["body"] for e in tapescope.tape() if e["type"] == "command_started"]
        )
        process.kill()
        process.wait(30)
        if together:
            await until(lambda: has_ended(command))
        lives = not has_ended(command)
        lost = tapescope.screen("show", tapescope.newest())
        async with find_store(tapescope.store) as store:
            await store.leases.rescue_expired(dead_owners=await store.leases.read_owners())
        shown = [tapescope.here(look, tapescope.newest()).stdout for look in ("show", "tape")]
        if lives:
            command.kill()

    assert lives is not together
    assert facts == [{"pid": command.pid}]
    told = f"its command, process {command.pid}, may still run\n"
    assert lost.text.endswith(told)
    assert all(text.decode().endswith(told) for text in shown)


@pytest.mark.parametrize(
    ("script", "status"), [slow("#!/bin/sh\nexit 5\n", 5), ("exit 6\n", 6), slow(None, 127)]
)
def test_command_that_dies_with_us_is_started_alike(
    tapescope: Tapescope, tmp_path: Path, script: str | None, status: int
) -> None:
    """The same statuses as without the option."""
    program = tmp_path / "program"
    if script is not None:
        program.write_text(script)
        program.chmod(0o755)

    assert tapescope("run", "--die-together", "--", str(program)).returncode == status


BECOMES_ANOTHER_USER = """
import os, signal
os.setresuid(65534, 65534, 65534)
print(os.getpid(), flush=True)
signal.pause()
"""


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can start what becomes another user's")
def test_signal_that_is_not_permitted_is_said(tapescope: Tapescope) -> None:
    """As with sudo: the command has become another user's, and goes on; one line says so."""
    without_kill = ("setpriv", "--bounding-set", "-kill", *RUN, "--grace", "0.1")
    with subprocess.Popen(
        (*without_kill, "--", sys.executable, "-c", BECOMES_ANOTHER_USER),
        env=tapescope.env,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    ) as process:
        assert process.stderr is not None
        command = started_command(process)
        process.send_signal(signal.SIGTERM)
        said = process.stderr.readline()
        command.kill()
        process.communicate(timeout=30)

    assert said.decode() == (
        f"tapescope: SIGTERM to process {command.pid} is not permitted: "
        "it runs as another user, and goes on\n"
    )


@pytest.mark.slow  # the task's own grace is over five seconds later
@pytest.mark.skipif(os.geteuid() != 0, reason="only root can start what becomes another user's")
async def test_what_a_command_says_after_its_tasks_end_is_counted(tapescope: Tapescope) -> None:
    """It cannot be ended, and its timeout ends its task: its last words are late events, kept."""
    without_kill = ("setpriv", "--bounding-set", "-kill", *RUN)
    says_more = BECOMES_ANOTHER_USER.replace("signal.pause()", "input(); print('late')")
    command = ("--timeout", "0.2", "--grace", "0", "--", sys.executable, "-c", says_more)
    with tapescope.started(*command, program=without_kill, stdin=subprocess.PIPE) as process:
        started_command(process)
        await until(lambda: tapescope.json("list")["tasks"][0]["status"] == "failed", within=30)
        shown, said = process.communicate(b"\n", timeout=30)
    (drop,) = tapescope.json("drops")["drops"]

    assert process.returncode == 124
    assert shown == b"late\n"
    assert (
        said.decode()
        .splitlines()[-1]
        .startswith(f"tapescope: 1 line of output not recorded on task {tapescope.newest()}: ")
    )
    assert b"is not open" not in said
    assert (drop["type"], drop["body"]) == ("log", {"stream": "stdout", "line": "late"})


def test_a_program_that_calls_the_command_line_has_its_signals_back(here: Here) -> None:
    """Its mask, which its children inherit, and its handlers are as they were before."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, ()), signal.getsignal(signal.SIGINT)
    done = here("run", "--store", "no-url", "--", "true")

    assert done.returncode == 0
    assert (signal.pthread_sigmask(signal.SIG_BLOCK, ()), signal.getsignal(signal.SIGINT)) == before

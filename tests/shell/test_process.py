"""A child process: what is read of its output, and what is signalled."""

from __future__ import annotations

import fcntl
import os
import signal
import sys
from pathlib import Path

import psutil
import pytest

from tapescope.shell.process import PipeReader, start_in_place, start_in_session

PIPE = 1_048_576
"""Bytes that a pipe holds at most."""


async def test_the_rest_is_no_more_than_a_pipe_holds() -> None:
    """A command that writes as fast as it is read does not keep us reading."""
    pipe = PipeReader(os.open("/dev/zero", os.O_RDONLY))
    taken = pipe.take_rest()
    pipe.close()

    assert taken == PIPE
    assert sum(map(len, pipe.rest)) == taken


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere a pipe has the size it has")
async def test_a_pipe_that_was_full_is_made_larger() -> None:
    """Once: of a flood more is read at once; who writes little takes no more of its user's room."""
    end, writers_end = os.pipe()
    pipe = PipeReader(end)
    os.write(writers_end, b"x" * 65_535)
    some = len(await pipe.read())
    before = fcntl.fcntl(end, fcntl.F_GETPIPE_SZ)
    os.write(writers_end, b"x" * before)
    full = len(await pipe.read())
    after = fcntl.fcntl(end, fcntl.F_GETPIPE_SZ)
    os.write(writers_end, b"x" * after)
    most = len(await pipe.read())
    os.close(writers_end)
    nothing = await pipe.read()
    pipe.close()

    assert (some, before) == (65_535, 65_536)
    assert (full, after) == (before, 262_144)
    assert (most, nothing) == (after, b"")


async def test_what_writes_on_does_not_hold_up_the_end() -> None:
    """Once nothing more is waited for, no more is read than a pipe holds."""
    pipe = PipeReader(os.open("/dev/zero", os.O_RDONLY))
    pipe.stop_waiting()
    taken = 0
    while (some := len(await pipe.read())) and taken < 9 * PIPE:
        taken += some
    pipe.close()

    assert pipe.held
    assert taken == PIPE


def no_refusal(number: int, pid: int) -> None:
    """Nothing here is another user's."""
    raise AssertionError(f"signal {number} to {pid}")


async def test_nothing_is_signalled_once_it_may_be_reaped() -> None:
    """Its id may be another process's by then; what it left behind goes on."""
    left = "trap 'echo alive' USR1; echo $$; while :; do sleep 0.1; done"
    child = start_in_session(
        ["/bin/sh", "-c", 'sh -c "$0" &', left],
        cwd=None,
        env=None,
        stdin=None,
        refused=no_refusal,
    )
    pid = int(await child.streams["stdout"].read())
    try:
        await child.ended
        child.release()
        child.terminate()
        child.kill()
        os.kill(pid, signal.SIGUSR1)
        said = await child.streams["stdout"].read()
    finally:
        os.kill(pid, signal.SIGKILL)
        child.close()

    assert said == b"alive\n"


async def test_a_command_that_cannot_be_started_leaves_nothing_open(tmp_path: Path) -> None:
    """The ends of its pipes are closed again."""
    process = psutil.Process()
    before = process.num_fds()
    with pytest.raises(FileNotFoundError):
        start_in_place(
            [str(tmp_path / "nothing")],
            env=None,
            mask=(),
            owns_group=False,
            merged=False,
            refused=no_refusal,
            stopped=lambda _: None,
        )

    assert process.num_fds() == before

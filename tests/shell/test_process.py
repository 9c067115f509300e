"""A child process: what is read of its output."""

from __future__ import annotations

import fcntl
import os
import sys

import pytest

from tapescope.shell.process import PipeReader

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

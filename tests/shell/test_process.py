"""A child process: what is read of its output."""

from __future__ import annotations

import os

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

"""The recorder of a command's lines: what it holds for the end."""

from __future__ import annotations

import tracemalloc

from tapescope.shell.recorder import LineRecorder

MEGABYTE = 1_048_576


async def test_what_is_held_for_the_last_lines_has_a_bound() -> None:
    """A flood past the tape's room costs no more memory than its last half a megabyte."""
    recorder = LineRecorder(None, lines=100)
    line = b"x" * 1_023 + b"\n"
    for _ in range(100):
        await recorder.record("stdout", line)  # the tape's head is full
    tracemalloc.start()
    for n in range(200):
        await recorder.record("stdout", bytes([n]) * 65_535 + b"\n")
    held, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()

    assert held < MEGABYTE

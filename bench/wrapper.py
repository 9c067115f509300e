"""``tapescope run`` beside the command alone: the time of a short one, the rate of a flood."""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

__all__ = ["FLOODS", "Flood", "flood", "start"]

_RUN = (str(Path(sys.executable).with_name("tapescope")), "run")
_FILE = 100_000_000
"""Bytes of the file that ``cat`` is given several times: it stays in memory."""
_SINK = bytearray(1 << 20)
"""Where what is read goes: the reader allocates nothing."""
FLOODS = {100: 300_000_000, 50_000: 1_000_000_000}
"""Bytes of a flood, by the length of its lines: a second or more, so that a rate is one."""


@dataclass(frozen=True)
class Flood:
    """One flood: bytes, seconds from its first byte to its end, CPU seconds of all of it."""

    size: int
    wall: float
    cpu: float

    @property
    def rate(self) -> float:
        """Megabytes a second."""
        return self.size / 1e6 / self.wall


def flood(url: str, folder: Path, line: int, size: int, rounds: int) -> str:
    """``cat`` of so many bytes in lines of this length, alone and wrapped in turn.

    All of it goes through a pipe into this process. Nearly all of it is beyond what the tape keeps.
    The time begins with the first byte, so that it is no start-up's; CPU is the whole process's,
    without that of ``tapescope run -- true``.
    """
    file = folder / f"lines-{line}"
    if not file.exists():
        with file.open("wb") as out:
            text = b"x" * (line - 1) + b"\n"
            for _ in range(_FILE // line):
                out.write(text)
    times = max(1, size // _FILE)
    command = ("cat", *[str(file)] * times)
    run = (*_RUN, "--store", url, "--lines", "100", "--")
    started = statistics.median(_measure((*run, "true")).cpu for _ in range(rounds))
    alone: list[Flood] = []
    wrapped: list[Flood] = []
    for turn in range(rounds):
        for commands, found in [((*run, *command), wrapped), (command, alone)][:: 1 - turn % 2 * 2]:
            found.append(_measure(commands))
            assert found[-1].size == times * _FILE, "no byte is lost"
    ratios = [one.rate / other.rate for one, other in zip(wrapped, alone, strict=True)]
    megabytes = alone[0].size / 1e6
    cpu = [(one.cpu - started) / megabytes * 1e3 for one in wrapped]
    cpu_alone = [one.cpu / megabytes * 1e3 for one in alone]
    return (
        f"{megabytes:,.0f} MB, lines of {line:,}: {_tell([one.rate for one in wrapped], '.0f')} "
        f"MB/s, cat alone {_tell([one.rate for one in alone], '.0f')}, "
        f"ratio {_tell(ratios, '.2f')}; CPU {_tell(cpu, '.2f')} ms/MB, "
        f"alone {_tell(cpu_alone, '.2f')}"
    )


def start(url: str) -> tuple[float, float]:
    """Seconds of ``true`` alone and in ``tapescope run``."""
    return _time(("true",)), _time((*_RUN, "--store", url, "--", "true"))


def _tell(values: Sequence[float], form: str) -> str:
    """The median, and the least and the most of them."""
    middle, least, most = (
        format(value, f",{form}") for value in (statistics.median(values), min(values), max(values))
    )
    return f"{middle} ({least}-{most})"


def _time(command: Sequence[str]) -> float:
    began = time.monotonic()
    subprocess.run(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, check=False)
    return time.monotonic() - began


def _measure(command: Sequence[str]) -> Flood:
    size, began = 0, time.monotonic()
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as process:
        assert process.stdout is not None
        fd = process.stdout.fileno()
        while count := os.readv(fd, [_SINK]):
            if not size:
                began = time.monotonic()
            size += count
        wall = time.monotonic() - began
        used = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(used[1])
    return Flood(size, wall, used[2].ru_utime + used[2].ru_stime)

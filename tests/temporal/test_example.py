"""The example of the engine on Temporal, as `make demo-temporal` plays it."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = [pytest.mark.temporal, pytest.mark.timeout(240)]

_DEMO = Path(__file__).parents[2] / "examples" / "temporal" / "demo.py"


async def test_the_demo_tells_the_same_of_both_sides() -> None:
    """Four succeed, whoever was killed; two are cancelled; no tape breaks a rule."""
    done = await asyncio.to_thread(
        subprocess.run,
        [sys.executable, str(_DEMO)],
        capture_output=True,
        text=True,
        timeout=200,
        check=False,
    )
    lines = [line.split() for line in done.stdout.splitlines()]
    rows = [line for line in lines if len(line) == 4 and line[0].count("-") == 4]
    outcomes, there = [row[1] for row in rows], [row[3] for row in rows]

    assert done.returncode == 0, done.stderr
    assert outcomes == ["succeeded"] * 4 + ["cancelled"] * 2
    assert there[:4] == ["COMPLETED"] * 4
    # Temporal's word where the killed worker had one that was cancelled there.
    assert {*there[4:]} <= {"CANCELED", "TIMED_OUT"}
    assert "Audit: 0 tapes break a rule." in done.stdout

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
    rows = [line.split()[1:] for line in done.stdout.splitlines() if line.endswith("ED")]

    assert done.returncode == 0, done.stderr
    assert [(row[0], row[2]) for row in rows] == [
        *[("succeeded", "COMPLETED")] * 4,
        *[("cancelled", "CANCELED")] * 2,
    ]
    assert "Audit: 0 tapes break a rule." in done.stdout

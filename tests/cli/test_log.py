"""The log of a command: nothing in it can steer a terminal or pass for another line."""

from __future__ import annotations

import json
import logging

import pytest

from tapescope import Reporter, TaskFailed
from tapescope.cli._logging import start_logging
from tapescope.cli._settings import LogFormat, LogLevel
from tests.support.workbench import working


async def test_a_log_line_of_a_failure_cannot_steer_a_terminal(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """As text the traceback follows, indented; control characters are escaped in both formats."""
    logger = logging.getLogger("tapescope")
    monkeypatch.setattr(logger, "handlers", [])
    for name in ("level", "propagate"):
        monkeypatch.setattr(logger, name, getattr(logger, name))

    async def fail_oddly(report: Reporter) -> None:
        raise ValueError("\x9b31m\u202eevil\n2026-01-01 INFO forged")

    start_logging(LogFormat.TEXT, LogLevel.INFO)
    start_logging(LogFormat.JSON, LogLevel.INFO)
    async with working("memory:") as bench:
        task = await bench.manager.submit("odd", fail_oddly)
        with pytest.raises(TaskFailed):
            await task.result()
    shown = capsys.readouterr().err
    first, *rest = shown.splitlines()

    assert "failed: ValueError: \\x9b31m\\u202eevil (attempt 1)" in first
    assert all(line.startswith(("    ", "{")) for line in rest)
    assert "\x9b" not in shown
    assert "\u202e" not in shown
    assert "\x9b31m\u202eevil" in json.loads(rest[-1])["exception"]

"""The log of a failure: message, attempt, when the next try is, and the exception itself."""

from __future__ import annotations

import json
import logging
from datetime import datetime

import pytest

from tapescope import Reporter, ShellCommand, TaskFailed
from tapescope_telemetry import JsonFormatter
from tests.support.workbench import working


def find_failures(caplog: pytest.LogCaptureFixture) -> list[logging.LogRecord]:
    """The records of failed attempts, in their order."""
    return [record for record in caplog.records if " failed" in str(record.msg)]


async def fail(report: Reporter) -> None:
    """Raise an error of two lines."""
    raise ConnectionError("no route to host\nis it up?")


async def test_failed_attempts_are_logged_with_their_exception(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """A handler that looks at ``exc_info`` sees each; the line says which attempt and what next."""
    async with working("memory:", retry_delay=0.02) as bench:
        task = await bench.manager.submit("fetch", fail, retries=1)
        with pytest.raises(TaskFailed):
            await task.result()
        (failed,) = [e for e in (await task.tape()).events if e.type == "attempt_failed"]
    again, ended = find_failures(caplog)
    error = "ConnectionError: no route to host"

    named = f"Task {task.task_id} (fetch) failed"
    told = f"{named} and will be tried again: {error} (attempt 1, next try in "
    assert again.getMessage().startswith(told)
    assert ended.getMessage() == f"{named}: {error} (attempt 2)"
    for number, record in enumerate((again, ended), 1):
        assert record.exc_info is not None
        assert isinstance(record.exc_info[1], ConnectionError)
        assert record.exc_info[2] is not None
        assert vars(record)["attempt"] == number
    assert vars(again)["next_try_at"] == failed.body["run_at"]
    assert datetime.fromisoformat(failed.body["run_at"]).tzinfo is not None
    assert "is it up?" in json.loads(JsonFormatter().format(ended))["exception"]


@pytest.mark.parametrize("command", ["false", "no-such-command", "/dev/null"])
async def test_a_commands_end_has_no_traceback(
    caplog: pytest.LogCaptureFixture, command: str
) -> None:
    """The exception is there, without the lines of this library that noticed the status."""
    async with working("memory:") as bench:
        task = await bench.manager.submit("shell", ShellCommand([command]))
        with pytest.raises(TaskFailed) as failed:
            await task.result()
    (record,) = find_failures(caplog)

    assert failed.value.error.traceback is None
    assert record.exc_info is not None
    assert record.exc_info[1] is not None
    assert record.exc_info[2] is None

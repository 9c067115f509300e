"""What a runner wrote cannot steer the terminal of who reads it, in any command's output."""

from __future__ import annotations

import json
from collections.abc import AsyncGenerator

import pytest

from tapescope import NewEvent, TaskStore, find_store
from tapescope.model.tasks import ErrorInfo, FinalEvent
from tests.cli.command import Tapescope
from tests.cli.tasks import claim

_EVIL = "\x1b[31m \x07 \x7f \x85 \x9b31m \u061c \u200e \u202e \u2028 \u2066 \ufeff \U000e0041 é😀"
_STEERING = "\x1b\x07\x7f\x85\x9b\u061c\u200e\u202e\u2028\u2066\ufeff\U000e0041"


@pytest.fixture
async def store(sqlite_url: str) -> AsyncGenerator[TaskStore]:
    """The SQLite store that ``tapescope`` reads, open here, too."""
    async with find_store(sqlite_url) as store:
        yield store


@pytest.mark.parametrize(
    "command", [["list"], ["show"], ["tape"], ["tape", "--follow"], ["drops"]], ids=" ".join
)
async def test_control_characters_are_escaped(
    store: TaskStore, tapescope: Tapescope, command: list[str]
) -> None:
    """C0, C1 and bidirectional controls, for people and in ``--json``, which says the same."""
    attempt = await claim(store)
    await store.append(attempt, [NewEvent("log", {"level": "info", "message": _EVIL})])
    error = ErrorInfo(f"E{_EVIL}", f"{_EVIL}\n{_EVIL}", f"{_EVIL}\n{_EVIL}")
    await store.finish_if_running(attempt, FinalEvent.failed(error))
    await store.append(attempt, [NewEvent("step", _EVIL)])
    arguments = command if command == ["list"] else [*command, attempt.task_id]
    piped = tapescope.here(*arguments).stdout.decode()
    as_json = tapescope.here(*arguments, "--json").stdout.decode()
    screen = tapescope.screen(*arguments)

    for shown in (piped, as_json, screen.text):
        assert [char for char in _STEERING if char in shown] == []
    assert "é😀" in as_json
    values = [json.loads(line) for line in as_json.splitlines()]
    assert json.dumps(_EVIL)[1:-1] in json.dumps(values)

"""``tapescope send`` and ``messages``: what is sent to a task, and which of it was taken."""

from __future__ import annotations

from collections.abc import AsyncGenerator

import pytest

from tapescope import NewTask, TaskStore, find_store
from tapescope.model.messages import MessageTaken
from tapescope.model.tasks import FinalEvent
from tapescope.store.validation import new_task_id
from tests.cli.command import Tapescope


@pytest.fixture
async def store(sqlite_url: str) -> AsyncGenerator[TaskStore]:
    """The SQLite store that ``tapescope`` changes, open here, too."""
    async with find_store(sqlite_url) as store:
        yield store


async def test_messages_are_sent_and_listed(store: TaskStore, tapescope: Tapescope) -> None:
    """The same key again adds nothing; what was taken says where, what was left says so."""
    task, _ = await store.create(NewTask(new_task_id(), "x"))
    claim = await store.claim_if_pending(task, "me", 30)
    assert claim is not None
    sent = tapescope.here("send", task.task_id, '{"go": true}', "--key", "k").stdout.decode()
    again = tapescope.here("send", task.task_id, '{"go": true}', "--key", "k").stdout.decode()
    shape = tapescope.json("send", task.task_id, '"two"')
    first, _ = (await store.messages.read(task.task_id)).messages
    taken = await store.append(claim.attempt, [MessageTaken(first, first.body)])
    listed = tapescope.json("messages", task.task_id)
    await store.finish_if_running(claim.attempt, FinalEvent.succeeded())
    table = tapescope.here("messages", task.task_id).stdout.decode()
    tape = tapescope.here("tape", task.task_id).stdout.decode()
    late = tapescope.here("send", task.task_id, "1")
    wrong = tapescope.here("send", task.task_id, "go")

    assert sent == f"{task.task_id} message 1 is stored.\n"
    assert again == f"{task.task_id} message 1 was there already.\n"
    assert (shape["n"], shape["new"]) == (2, True)
    assert [(one["n"], one["body"], one["taken_seq"]) for one in listed["messages"]] == [
        (1, {"go": True}, taken.last_seq),
        (2, "two", None),
    ]
    assert "event 2" in table
    assert "1 of them were not taken: the task has ended." in table
    assert 'message 1 (k): {"go":true}' in tape
    assert late.returncode == 1
    assert b"takes no message any more" in late.stderr
    assert wrong.returncode == 2
    assert b"not JSON" in wrong.stderr

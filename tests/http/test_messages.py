"""Messages over HTTP: sent by who may submit the op, seen by who may read it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from tapescope import InboxFull, NewTask, StoreLimits, TaskEnded, TaskManager
from tapescope.client import Client, SyncClient
from tapescope.http.access import Grant
from tapescope.http.api import make_app, schemas
from tapescope.http.tokens import TokenFile
from tapescope.model.messages import Sent
from tapescope.store.validation import new_task_id
from tests.client.servers import Shop, ended_by
from tests.http.client import asking


async def test_a_message_is_sent_once_under_its_key(served_url: str) -> None:
    """201, then 200; an ended task refuses it, an unknown one is not found."""
    async with (
        TaskManager(served_url, work=False) as manager,
        asking(make_app(manager)) as client,
    ):
        task, _ = await manager.store.create(NewTask(new_task_id(), "x"))
        path = f"/v1/tasks/{task.task_id}/messages"
        key = {"Idempotency-Key": "k"}
        sent = [await client.post(path, json={"body": [1]}, headers=key) for _ in range(2)]
        other = await client.post(path, json={"body": [2]}, headers=key)
        more = await client.post(path, json={"body": None})
        listed = await client.get(f"{path}?limit=1")
        rest = await client.get(f"{path}?after={listed.json()['next']}")
        bad = await client.post(path, json={"text": 1})
        unknown = await client.post(f"/v1/tasks/{new_task_id()}/messages", json={"body": 1})
        await manager.handle(task.task_id).cancel()
        late = await client.post(path, json={"body": 3})

    schemas.Sent.model_validate_json(sent[0].content)
    schemas.Messages.model_validate_json(listed.content)
    assert [one.status_code for one in (*sent, more)] == [201, 200, 201]
    assert sent[1].json() == {"task_id": task.task_id, "n": 1, "key": "k", "new": False}
    assert other.json()["error"] == "MessageConflict"
    assert [one["body"] for one in listed.json()["messages"] + rest.json()["messages"]] == [
        [1],
        None,
    ]
    assert bad.status_code == 422
    assert unknown.status_code == 404
    assert (late.status_code, late.json()["error"]) == (409, "TaskEnded")


async def test_who_sends_may_submit_the_op(served_url: str, tmp_path: Path) -> None:
    """For another op it is as if the task were not there; to read it is enough to list them."""
    tokens = TokenFile(tmp_path / "tokens.json")
    sender = tokens.add("sender", map(Grant.parse, ("submit:x", "read")), 0)
    async with TaskManager(served_url, work=False) as manager:
        mine, _ = await manager.store.create(NewTask(new_task_id(), "x"))
        theirs, _ = await manager.store.create(NewTask(new_task_id(), "y"))
        async with asking(make_app(manager, tokens=tokens)) as client:
            asked = {"Authorization": f"Bearer {sender}"}
            answers = [
                await client.post(
                    f"/v1/tasks/{one.task_id}/messages", json={"body": 1}, headers=asked
                )
                for one in (mine, theirs)
            ]
            seen = await client.get(f"/v1/tasks/{theirs.task_id}/messages", headers=asked)

    assert [one.status_code for one in answers] == [201, 403]
    assert seen.status_code == 200


async def test_clients_send_what_a_handle_sends(sqlite_url: str) -> None:
    """With the errors of the store, by either client."""
    async with Shop.open(sqlite_url) as shop:
        store = shop.manager.store
        task, _ = await store.create(NewTask(new_task_id(), "x"))
        told: list[Any] = []
        for kind in (Client, SyncClient):
            told.append(await ended_by(kind, shop.url, "send", task.task_id, {"by": "it"}))
            told.append(await ended_by(kind, shop.url, "messages", task.task_id))
        here = await store.messages.read(task.task_id)
        await store.request_cancel(task.task_id)
        late = await ended_by(Client, shop.url, "send", task.task_id, 1)

    assert [(one.n, one.new) for one in told[::2]] == [(1, True), (2, True)]
    assert told[3] == here
    assert isinstance(told[0], Sent)
    assert isinstance(late, TaskEnded)
    assert InboxFull("t", StoreLimits().inbox).most == 1_000

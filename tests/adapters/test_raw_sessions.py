"""What a raw session writes can neither stop a store nor make it lie, nor cost anybody a page."""

from __future__ import annotations

import json
import logging
import re
import sqlite3
from pathlib import Path
from typing import Final, cast

import pytest

from tapescope import (
    DamagedTape,
    NewEvent,
    NewTask,
    Reporter,
    TaskFailed,
    TaskManager,
    TaskStatus,
    TaskStore,
    find_store,
)
from tapescope.model.ops import KnownOp
from tapescope.model.tasks import FinalEvent, Task
from tapescope.store.validation import new_task_id
from tapescope_adapters.postgres import _schema as postgres_schema
from tapescope_adapters.sqlite import _schema as sqlite_schema
from tests.adapters.next_version import migrating
from tests.cli.command import Tapescope
from tests.support.breaches import make_ended, run_round, run_statement
from tests.support.postgres_sessions import schema_of, session

TASK: Final = (
    "INSERT INTO tasks (task_id, op, created_at, run_at, params{columns}) "
    "{overriding} VALUES ('{id}', 'x', {created}, {run}, '{params}'{values})"
)
EVENT: Final = (
    "INSERT INTO events ({columns}task, seq, attempt, offer, type, ts, body) "
    "VALUES ({values}{key}, 2, 1, 2, '{type}', {ts}, '{body}')"
)
FAR: Final = 2**62
"""Microseconds of a year that no calendar has."""
PARKED: Final = 253402300799999999
"""After all times."""


def task(
    created: object = 1, run: object = 1, params: str = "{}", **others: object
) -> dict[str, object]:
    """A statement that makes a task, with what is wrong about it."""
    return {"created": created, "run": run, "params": params, "others": others}


def raw_task(url: str, given: dict[str, object]) -> str:
    """The text of the statement in the dialect of a store."""
    others = cast("dict[str, object]", given["others"])
    return TASK.format(
        id=new_task_id(),
        created=given["created"],
        run=given["run"],
        params=given["params"],
        columns="".join(f", {name}" for name in others),
        values="".join(f", {value}" for value in others.values()),
        overriding="OVERRIDING SYSTEM VALUE" if "id" in others and "postgres" in url else "",
    )


BAD_TASKS: dict[str, dict[str, object]] = {
    "a key of 0": task(id=0),
    "a key below 0": task(id=-1),
    "params that are not JSON": task(params="no json"),
    "params that are a list": task(params="[1]"),
    "a time of no year": task(run=FAR),
    "a key that is not parked": task(concurrency_key="'k'"),
    "parked, and due": task(concurrency_key="'k'", parked_at=1),
    "parked for a time of no year": task(run=PARKED, concurrency_key="'k'", parked_at=FAR),
    "parked before all times": task(run=PARKED, concurrency_key="'k'", parked_at=-FAR),
    "a time of no year, made": task(created=-FAR),
    "a time of a text": task(run="'soon'"),
    "a time of a text, made": task(created="'then'"),
    "a claim": task(claimed_at=1),
    "a lease of a text": task(owner="'me'", lease_expires_at="'soon'"),
    "a lease of no year": task(owner="'me'", lease_expires_at=FAR),
    "a cancel": task(cancel_reason="'because'", cancel_requested_at=1),
    "retries of a text": task(retries="'many'"),
}


async def is_well(store: TaskStore) -> None:
    """Check that tasks are made, run and ended as ever."""
    for _ in range(2):
        attempt, _ = await make_ended(store)

        assert (await store.get(attempt.task_id)).status is TaskStatus.SUCCEEDED


async def test_task_that_cannot_be_read_is_refused(store_url: str) -> None:
    """Whatever is wrong about it, and whatever comes after is taken as before."""
    async with find_store(store_url) as store:
        for given in BAD_TASKS.values():
            with pytest.raises(Exception, match=r"tapescope|invalid input syntax"):
                await run_statement(store_url, raw_task(store_url, given))
        await is_well(store)

        assert len((await store.list()).tasks) == 2


async def test_a_priority_that_no_claim_looks_for_is_refused(store_url: str) -> None:
    """One of the few is taken: by the next claim, the task goes before the others."""
    async with find_store(store_url) as store:
        first, last = [(await store.create(NewTask(new_task_id(), "x")))[0] for _ in range(2)]
        for priority in ("10", "-10", "'high'", "NULL"):
            with pytest.raises(Exception, match=r"constraint|invalid input syntax"):
                await run_statement(store_url, f"UPDATE tasks SET priority = {priority}")
        raised = f"UPDATE tasks SET priority = 1 WHERE task_id = '{last.task_id}'"
        await run_statement(store_url, raised)
        claims = [await store.claim_due("me", ["x"], 1, 60) for _ in range(2)]

        assert [claim.task.task_id for (claim,) in claims] == [last.task_id, first.task_id]
        assert [claim.task.priority for (claim,) in claims] == [1, 0]


async def test_a_queue_without_a_name_is_refused(store_url: str) -> None:
    """Another name may be given by hand: the next claim goes by it."""
    async with find_store(store_url) as store:
        await store.create(NewTask(new_task_id(), "x"))
        for queue in ("''", f"'{'q' * 129}'", "NULL"):
            with pytest.raises(Exception, match="constraint"):
                await run_statement(store_url, f"UPDATE tasks SET queue = {queue}")
        await run_statement(store_url, "UPDATE tasks SET queue = 'mail'")
        claims = [
            await store.claim_due("me", ["x"], 1, 60, queues=[q]) for q in ("default", "mail")
        ]

        assert [[claim.task.queue for claim in some] for some in claims] == [[], ["mail"]]


async def test_an_expiry_that_is_no_span_is_refused(store_url: str) -> None:
    """Another one may be given by hand, in microseconds: the task expires by it."""
    async with find_store(store_url) as store:
        task, _ = await store.create(NewTask(new_task_id(), "x", run_at=1))
        for span in ("0", "-1", "'soon'", "1e18"):
            with pytest.raises(Exception, match=r"constraint|invalid input syntax"):
                await run_statement(store_url, f"UPDATE tasks SET expires_in = {span}")
        await run_statement(store_url, "UPDATE tasks SET expires_in = 1500000")
        read = await store.get(task.task_id)

        assert (read.expires_in, read.expires_us) == (1.5, 1_500_001)
        assert await store.end_expired() == 1


async def test_tags_and_a_parent_are_those_of_the_submit(store_url: str) -> None:
    """A session's own task is found by its tags; what is no list of tags is refused, and nobody
    changes them. A session that deletes a task takes them along."""
    with_tags = task(tags="""'["red","red","blue"]'""")
    async with find_store(store_url) as store:
        for bad in ("'red'", "'{}'", "'7'"):
            with pytest.raises(Exception, match=r"tapescope|tags_are_a_list"):
                await run_statement(store_url, raw_task(store_url, task(tags=bad)))
        await run_statement(store_url, raw_task(store_url, with_tags))
        (red,) = (await store.list(tag="red")).tasks
        for change in ("tags = NULL", f"parent_id = '{red.task_id}'"):
            with pytest.raises(Exception, match="tapescope I4: a task keeps its"):
                await run_statement(store_url, f"UPDATE tasks SET {change}")
        await run_statement(store_url, f"DELETE FROM tasks WHERE task_id = '{red.task_id}'")
        again = re.sub("'[0-9a-f-]{36}'", f"'{red.task_id}'", raw_task(store_url, task()))
        await run_statement(store_url, again)

        assert set(red.tags) == {"red", "blue"}
        assert (await store.list()).tasks[0].task_id == red.task_id
        for tag in ("red", "blue"):
            assert (await store.list(tag=tag)).tasks == ()
        await is_well(store)


TWICE: Final = (
    '{"outcome": "failed", "error": {"code": "x", "message": ""}, "outcome": "succeeded"}'
)
CODES: Final = '{"outcome": "failed", "error": {"code": "x", "message": "", "code": "y"}}'
REASONS: Final = (
    '{"outcome": "cancelled", "cancel": {"reason": "user", "message": "", "by": null, '
    '"requested_at": "2026-01-31T12:00:00.000000Z", "reason": "shutdown"}}'
)
BAD_EVENTS: dict[str, tuple[str, object, str]] = {
    "a body that is not JSON": ("log", 1, "no json"),
    "an empty body": ("log", 1, ""),
    "a body that ends too early": ("log", 1, "[1"),
    "a time of a text": ("log", "'now'", "1"),
    "a time of no year": ("log", FAR, "1"),
    "a final with two outcomes": ("final", 1, TWICE),
    "a final with two codes": ("final", 1, CODES),
    "a final with two reasons": ("final", 1, REASONS),
    "a final that is a list": ("final", 1, '["succeeded"]'),
    "a final that is not JSON": ("final", 1, "succeeded"),
}


async def test_event_that_cannot_be_read_is_refused(store_url: str) -> None:
    """The tape goes on, and ends as it should."""
    async with find_store(store_url) as store:
        new, _ = await store.create(NewTask(new_task_id(), "x"))
        claim = await store.claim_if_pending(new, "me", 60)
        assert claim is not None
        for type_, ts, body in BAD_EVENTS.values():
            statement = EVENT.format(
                columns="", values="", key=new.key, type=type_, ts=ts, body=body
            )
            with pytest.raises(Exception, match=r"tapescope|malformed|check constraint|syntax"):
                await run_statement(store_url, statement)
        await store.append(claim.attempt, [NewEvent("log", 1)])
        finished = await store.finish_if_running(claim.attempt, FinalEvent.succeeded())

        assert (finished.won, finished.last_seq) == (True, 3)
        await is_well(store)


BAD_CHANGES: Final = (
    f"run_at = {FAR}",
    f"claimed_at = {-FAR}",
    f"lease_expires_at = {FAR}",
    f"finished_at = {FAR}",
    f"cancel_reason = 'user', cancel_requested_at = {FAR}",
    "cancel_reason = 'because', cancel_requested_at = 1",
    "cancel_reason = 'user'",
    "cancel_requested_at = 1",
)
LATE: Final = (
    "INSERT INTO quarantine (task_id, attempt, offer, owner, type, reason, ts, body) "
    "VALUES ('x', 1, 1, 'me', 'log', '{reason}', {ts}, '{body}')"
)
BAD_DROPS: Final = (
    {"reason": "because", "ts": 1, "body": "1"},
    {"reason": "unknown_task", "ts": FAR, "body": "1"},
    {"reason": "unknown_task", "ts": 1, "body": "no json"},
)


async def test_change_that_cannot_be_read_is_refused(store_url: str) -> None:
    """The row of a task stays as a reader can show it, and so does a late event."""
    async with find_store(store_url) as store:
        new, _ = await store.create(NewTask(new_task_id(), "x"))
        for change in BAD_CHANGES:
            with pytest.raises(Exception, match="tapescope"):
                await run_statement(store_url, f"UPDATE tasks SET {change} WHERE id = {new.key}")
        for late in BAD_DROPS:
            with pytest.raises(Exception, match=r"tapescope|check constraint"):
                await run_statement(store_url, LATE.format(**late))

        assert await store.get(new.task_id) == new


async def test_sqlite_repair_of_a_key_of_its_own_is_refused(sqlite_url: str) -> None:
    """The log has the keys that SQLite gives, each for one entry."""
    entry = "INTO repairs VALUES ({}, 1, 'me', 'x', 'x', '1', '1')"
    async with find_store(sqlite_url):
        await run_statement(sqlite_url, f"INSERT {entry.format(1)}")
        for way, key in (("", 0), ("", -1), ("", 2**63 - 1), (" OR REPLACE", 1)):
            with pytest.raises(sqlite3.IntegrityError, match="tapescope"):
                await run_statement(sqlite_url, f"INSERT{way} {entry.format(key)}")


async def test_sqlite_row_of_a_key_of_its_own_is_refused(sqlite_url: str) -> None:
    """A row of the key −1 stood in the way of every insert, one of the last key of the next."""
    async with find_store(sqlite_url) as store:
        new, _ = await store.create(NewTask(new_task_id(), "x"))
        claim = await store.claim_if_pending(new, "me", 60)
        assert claim is not None
        for key in (0, -1, -5, 2**63 - 1):
            statement = EVENT.format(
                columns="n, ", values=f"{key}, ", key=new.key, type="log", ts=1, body="1"
            )
            with pytest.raises(Exception, match="tapescope"):
                await run_statement(sqlite_url, statement)
            with pytest.raises(Exception, match="tapescope"):
                await run_statement(sqlite_url, raw_task(sqlite_url, task(id=key)))
        await store.append(claim.attempt, [NewEvent("log", 1)])
        await is_well(store)


async def test_sqlite_row_of_the_key_below_0_blocks_nobody(sqlite_url: str) -> None:
    """Damage of before the guards, a task and an event of the key −1: the store goes on."""
    async with find_store(sqlite_url) as store:
        _, key = await make_ended(store)
        await run_round(sqlite_url, raw_task(sqlite_url, task(id=-1)))
        event = EVENT.format(columns="n, ", values="-1, ", key=-1, type="log", ts=1, body="1")
        await run_round(sqlite_url, event)
        await is_well(store)

        assert len((await store.list()).tasks) == 4
        assert key > 0


DAMAGE: dict[str, tuple[str, str]] = {
    "params": ("params = 'no json'", "params of its row cannot be read"),
    "params, a list": ("params = '[1]'", "params of its row cannot be read"),
    "a surrogate": ('params = \'{"a": "\\ud800"}\'', "params of its row cannot be read"),
    "a time": (f"run_at = {FAR}", "run_at of its row cannot be read"),
    "two times": (f"run_at = {FAR}, created_at = {-FAR}", "created_at, run_at of its row"),
    "a reason without a time": ("cancel_reason = 'user'", "cancel of its row"),
    "a cancel at no time": (
        f"cancel_reason = 'user', cancel_requested_at = {FAR}",
        "cancel of its row",
    ),
}


async def test_damaged_row_is_shown_as_such_and_costs_no_page(
    store_url: str, tmp_path: Path
) -> None:
    """The list has it beside the others, and says what is wrong; nothing is made up."""
    async with find_store(store_url) as store:
        fine, _ = await make_ended(store)
        made = [(await store.create(NewTask(new_task_id(), "x")))[0] for _ in DAMAGE]
        for new, (change, _) in zip(made, DAMAGE.values(), strict=True):
            await run_round(store_url, f"UPDATE tasks SET {change} WHERE id = {new.key}")
        page = await store.list()
        damaged = [await store.get(new.task_id) for new in made]
        here = Tapescope(store_url, tmp_path).here
        listed, as_json = here("list"), here("list", "--json")
        shown = here("show", made[0].task_id)

    ids = [fine.task_id, *(new.task_id for new in made)]
    assert [task.task_id for task in reversed(page.tasks)] == ids
    assert page.tasks[-1].damage == ""
    for task, (_, said) in zip(damaged, DAMAGE.values(), strict=True):
        assert said in task.damage
    assert (listed.returncode, shown.returncode, as_json.returncode) == (0, 0, 0)
    assert listed.stdout.count(b"damaged") == len(DAMAGE)
    assert b"params of its row cannot be read" in shown.stdout
    told = [task.get("damage", "") for task in json.loads(as_json.stdout)["tasks"]]
    assert told == [task.damage for task in page.tasks]


async def test_damaged_task_is_never_run(store_url: str) -> None:
    """Its attempts fail and say why; those beside it run."""
    ran: list[str] = []
    async with find_store(store_url) as store:
        new, _ = await store.create(NewTask(new_task_id(), "work"))
        await run_round(store_url, f"UPDATE tasks SET params = 'no json' WHERE id = {new.key}")
        async with TaskManager(store) as manager:

            @manager.op("work", retries=0)
            async def work(report: Reporter) -> None:
                ran.append(report.task_id)

            beside = await manager.submit("work")
            await beside.result(10)
            with pytest.raises(TaskFailed, match="params of its row cannot be read"):
                await manager.handle(new.task_id).result(10)

    assert ran == [beside.task_id]


async def test_damaged_events_are_shown_as_such(store_url: str, tmp_path: Path) -> None:
    """The tape and the late events are read around them; a final that cannot be read is told."""
    async with find_store(store_url) as store:
        attempt, key = await make_ended(store)
        for change, where in (
            ("events SET body = 'no json'", f"task = {key} AND seq = 2"),
            (f"events SET ts = {FAR}", f"task = {key} AND seq = 3"),
            ('events SET body = \'{"outcome": "succeeded"\'', f"task = {key} AND seq = 4"),
            ("quarantine SET body = 'no json', reason = 'why'", "id = 1"),
        ):
            await run_round(store_url, f"UPDATE {change} WHERE {where}")
        tape = await store.read_tape(attempt.task_id)
        drops = await store.read_quarantine()
        async with TaskManager(store, work=False) as manager:
            with pytest.raises(DamagedTape, match="its body is not JSON"):
                await manager.handle(attempt.task_id).result(10)
        here = Tapescope(store_url, tmp_path).here
        shown = [here("tape", attempt.task_id), here("show", attempt.task_id), here("drops")]
        as_json = here("tape", attempt.task_id, "--json")

    assert [bool(event.damage) for event in tape.events] == [False, True, True, True]
    assert [bool(drop.damage) for drop in drops.drops] == [True, False]
    assert [one.returncode for one in shown] == [0, 0, 0]
    assert shown[0].stdout.count(b"damaged: its ") == 3
    assert [bool(one.get("damage")) for one in json.loads(as_json.stdout)["events"]] == [
        False,
        True,
        True,
        True,
    ]


async def test_notification_that_no_store_has_sent_is_ignored(
    postgres_url: str, caplog: pytest.LogCaptureFixture
) -> None:
    """Any role may notify: it is told once, counted, and no traceback; a real one is heard."""
    caplog.set_level(logging.WARNING)
    async with find_store(postgres_url) as store, find_store(postgres_url) as other:
        attempt, _ = await make_ended(other)
        with store.changes() as changes:
            await anext(changes)  # it listens
            async with session(postgres_url) as raw:
                for garbage in GARBAGE:
                    await raw.execute("SELECT pg_notify($1, $2)", schema_of(postgres_url), garbage)
            await make_ended(other)
            await anext(changes)

    told = [record for record in caplog.records if "no store has sent" in record.getMessage()]
    assert [record.getMessage().count("1 so far") for record in told] == [1, 0]
    assert "10 so far" in told[1].getMessage()
    assert [record for record in caplog.records if record.name == "asyncio"] == []
    assert attempt.number == 1


GARBAGE: Final = (
    "garbage",
    "",
    "|",
    "a|b",
    "a|b|c|d",
    "a|id|",
    "a|id:|",
    "a|id:x|",
    "a|id:-1|c",
    "a||x",
    f"a|id:{'9' * 5_000}|",
    "a|id:1,|",
)


@pytest.mark.unmade
async def test_store_of_before_the_guards_is_migrated_with_its_damage(
    store_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Damage does not keep the guards out, nor those who submit, run and cancel beside it."""
    with monkeypatch.context() as before:
        for schema in (postgres_schema, sqlite_schema):
            first = {1: schema.read_migrations()[1]}
            before.setattr(schema, "read_migrations", first.copy)
        async with find_store(store_url):
            pass  # its statements name columns that this schema has not
    later = task(id=1_001, run=4_000_000_000_000_000)
    for given in (later, task(id=1_002, run=-FAR), task(run=FAR), task(params="no json")):
        await run_statement(store_url, raw_task(store_url, given))
    async with find_store(migrating(store_url)) as store:
        (new,) = [one for one in (await store.list()).tasks if one.key == 1_002]
        versions = await store.maintenance.schema_versions()
        with pytest.raises(Exception, match="tapescope"):
            await run_statement(store_url, raw_task(store_url, task(run=FAR)))
        due = await store.claim_due("me", ["x"], 10, 60)
        await store.request_cancel(new.task_id)
        await is_well(store)
        page = await store.list()

    assert versions.found == versions.known >= 2
    assert {claim.task.task_id for claim in due} == {
        one.task_id for one in page.tasks if one.damage and one.run_us < FAR and one.attempt
    }
    assert len(due) == 2
    assert sum(bool(one.damage) for one in page.tasks) == 3
    assert [one.damage for one in page.tasks if one.key == 1_001] == [""]


async def test_raw_session_takes_no_slot_that_is_held(store_url: str) -> None:
    """A parked task is not set running beside as many as its key has slots."""
    async with find_store(store_url) as store:
        await store.ops.register([KnownOp("x", max_concurrent=1)])
        tasks = [await parked(store) for _ in range(2)]
        (claim,) = await store.claim_due("me", ["x"], 5, 60)
        taken = "UPDATE tasks SET status = 'running', attempt = attempt + 1 WHERE id = {}"
        with pytest.raises(Exception, match="no slot free"):
            await run_statement(store_url, taken.format(tasks[1].key))
        await store.finish_if_running(claim.attempt, FinalEvent.succeeded())
        (after,) = await store.claim_due("me", ["x"], 5, 60)

        assert (claim.task.key, after.task.key) == (tasks[0].key, tasks[1].key)


async def test_raw_session_makes_nothing_due_that_is_parked(store_url: str) -> None:
    """A time to run does not give a parked task a slot; what has it due is to take one, too."""
    async with find_store(store_url) as store:
        await store.ops.register([KnownOp("x", max_concurrent=1)])
        tasks = [await parked(store) for _ in range(2)]
        await store.claim_due("me", ["x"], 5, 60)
        changes = ("run_at = 1", "run_at = 1, parked_at = NULL", f"parked_at = {FAR}")
        for change in changes:
            with pytest.raises(Exception, match=r"is parked|no slot free"):
                await run_statement(
                    store_url, f"UPDATE tasks SET {change} WHERE id = {tasks[1].key}"
                )

        assert await store.claim_due("me", ["x"], 5, 60) == []


async def test_a_deleted_task_gives_its_slot_back(store_url: str) -> None:
    """Whoever deletes it: the next one has it."""
    async with find_store(store_url) as store:
        await store.ops.register([KnownOp("x", max_concurrent=1)])
        tasks = [await parked(store) for _ in range(2)]
        await store.claim_due("me", ["x"], 5, 60)
        await run_statement(store_url, f"DELETE FROM tasks WHERE id = {tasks[0].key}")
        (claim,) = await store.claim_due("me", ["x"], 5, 60)

        assert claim.task.key == tasks[1].key


async def parked(store: TaskStore) -> Task:
    """A task that waits for a slot."""
    task, _ = await store.create(NewTask(new_task_id(), "x", concurrency_key="k"))
    return task

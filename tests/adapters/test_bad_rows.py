"""A row that cannot be decoded is given an end and a name, and stops nobody.

Rows are broken here past every guard and constraint: those may have been dropped, or the file have
flipped bytes.
"""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Mapping
from contextlib import closing
from pathlib import Path
from typing import Final

import pytest

from tapescope import (
    AuditRule,
    NewTask,
    Reporter,
    TaskCancelled,
    TaskManager,
    TaskStore,
    find_store,
)
from tapescope.maintenance.audit import audit_store
from tapescope.store.validation import new_task_id
from tapescope.testing import until
from tests.cli.command import Tapescope
from tests.support.breaches import make_ended, run_round
from tests.support.postgres_sessions import session

FAR: Final = 2**62
"""Microseconds of a year that no calendar has."""
LAST: Final = 2**63 - 1
BLOB: Final = "x'00ff'"
NO_TEXT: Final = "CAST(x'22ff' AS TEXT)"
"""A text that is not UTF-8, as a flipped bit makes one."""
DEEP: Final = "'" + '{"a":' * 5_000 + "1" + "}" * 5_000 + "'"

ANYWHERE: Final = {
    "params, no JSON": "params = 'no json'",
    "params, a list": "params = '[1]'",
    "params, half a pair": 'params = \'{"a": "\\ud800"}\'',
    "params, deep": f"params = {DEEP}",
    "attempt, below 0": "attempt = -5",
    "retries": "retries = -1",
    "retries_spent": "retries_spent = -1",
    "timeout_s": "timeout_s = -1",
    "created_at": f"created_at = {-FAR}",
    "run_at": f"run_at = {-FAR}",
    "claimed_at": f"claimed_at = {FAR}",
    "finished_at": f"finished_at = {FAR}",
    "lease_expires_at": f"lease_expires_at = {FAR}",
    "parked_at": f"parked_at = {FAR}",
    "parked_at, before all times": f"parked_at = {-FAR}",
    "cancel at no time": f"cancel_reason = 'user', cancel_requested_at = {FAR}",
    "a cancel without a reason": "cancel_requested_at = 1",
}
"""What may stand in a row of any store, by what it breaks."""
IN_POSTGRES: Final = {
    "attempt, the last": f"attempt = {2**31 - 1}",  # it can be read, and not be claimed
    "timeout_s, none": "timeout_s = 'NaN'",
    "timeout_s, for ever": "timeout_s = 'infinity'",
}
IN_SQLITE: Final = {
    f"{column}, {kind}": f"{column} = {value}"
    for column in (
        *("params", "timeout_s", "retries", "retries_spent", "attempt", "idempotency_key"),
        *("traceparent", "created_at", "claimed_at", "finished_at", "lease_expires_at"),
        *("owner", "cancel_reason", "cancel_message", "cancel_by", "cancel_requested_at"),
        *("error_code", "priority", "tags", "parent_id", "cancel_with_parent"),
        *("unique_key", "concurrency_key", "queue", "expires_in"),
    )
    for kind, value in {"a blob": BLOB, "no UTF-8": NO_TEXT}.items()
} | {
    "attempt, the last of SQLite": f"attempt = {LAST}",
    "attempt, a fraction": "attempt = 1.5",
    "run_at, a fraction": "run_at = 1.5",
    "priority, a fraction": "priority = 1.5",
    "tags, no JSON": "tags = 'red'",
    "tags, of numbers": "tags = '[1]'",
    "tags, no list": "tags = '{}'",
    "timeout_s, for ever": "timeout_s = 9e999",
    "task_id": f"task_id = {BLOB}",
}
NEVER_DUE: Final = {"run_at, far": f"run_at = {FAR}"}
NEVER_DUE_IN_SQLITE: Final = {
    "run_at, a blob": f"run_at = {BLOB}",
    "run_at, no UTF-8": f"run_at = {NO_TEXT}",
    "op, a blob": f"op = {BLOB}",
    "op, no UTF-8": f"op = {NO_TEXT}",
}


def kinds(url: str) -> tuple[Mapping[str, str], Mapping[str, str]]:
    """The bad rows of a store that are due, and those that never are: no worker meets them."""
    if url.startswith("postgres"):
        return ANYWHERE | IN_POSTGRES, NEVER_DUE
    return ANYWHERE | IN_SQLITE, NEVER_DUE | NEVER_DUE_IN_SQLITE


def expected_ends(kind: str) -> set[tuple[str, str | None]]:
    """How a bad row that is due may end: a claim overwrites what it sets, and a lease can be
    over."""
    ran = ("succeeded", None)
    if kind.startswith("lease_expires_at"):
        return {ran, ("failed", "worker_lost")}
    if kind.startswith(("claimed_at", "owner", "attempt, a blob", "attempt, no UTF-8")):
        return {ran}
    return {("failed", "bad_row")}


async def break_rows(url: str, changes: Mapping[str, str], keys: Mapping[str, int]) -> None:
    """Change the rows of these keys, past the guards."""
    await run_round(
        url, *(f"UPDATE tasks SET {changes[kind]} WHERE id = {keys[kind]}" for kind in changes)
    )


async def make_bad(url: str, store: TaskStore, changes: Mapping[str, str]) -> dict[str, int]:
    """A task of each kind, broken; their keys."""
    keys = {
        kind: (await store.create(NewTask(new_task_id(), "x", retries=1)))[0].key
        for kind in changes
    }
    await break_rows(url, changes, keys)
    return keys


def as_text(raw: bytes) -> str:
    """A text of a row, whatever it is."""
    return raw.decode(errors="replace")


async def read_rows(url: str) -> dict[int, tuple[str, str | None]]:
    """(status, error code) by key, as the database has them."""
    query = "SELECT id, status, CAST(error_code AS TEXT) FROM tasks"
    if url.startswith("postgres"):
        async with session(url) as conn:
            return {row[0]: (row[1], row[2]) for row in await conn.fetch(query)}
    with closing(sqlite3.connect(url.removeprefix("sqlite:///"))) as conn:
        conn.text_factory = as_text
        return {row[0]: (row[1], row[2]) for row in conn.execute(query)}


async def answer(report: Reporter) -> int:
    """The runner of these tests."""
    return 42


async def run_good(url: str, n: int) -> tuple[str, ...]:
    """Have a new manager run ``n`` good tasks; the names of its checks that are not ok then."""
    async with TaskManager(url, max_running=3, heartbeat=0.05, poll=0.05) as manager:
        manager.op("x")(answer)
        handles = [await manager.submit("x") for _ in range(n)]
        results = [await handle.result(30) for handle in handles]
        await until(lambda: all(check.ok for check in manager.check_health()))

        assert results == [42] * n
        return tuple(check.name for check in manager.check_health() if not check.ok)


async def test_bad_rows_end_and_are_named_beside_good_tasks(
    store_url: str, caplog: pytest.LogCaptureFixture
) -> None:
    """One of each kind: 100 good tasks end, and after a restart 10 more; each bad one fails."""
    due, never_due = kinds(store_url)
    async with find_store(store_url) as store:
        keys = await make_bad(store_url, store, {**due, **never_due})
        named = {one.task_id for one in (await audit_store(store)).violations}
        listed = await store.list(limit=500)
        not_ok = await run_good(store_url, 100)
        not_ok += await run_good(store_url, 10)
        again = await audit_store(store)

    rows = await read_rows(store_url)
    assert not_ok == ()
    ends = {kind: rows[keys[kind]] for kind in due}
    assert {kind: end for kind, end in ends.items() if end not in expected_ends(kind)} == {}
    assert {rows[keys[kind]][0] for kind in never_due} == {"pending"}
    bad = [one for one in listed.tasks if one.damage]
    unlisted = {"task_id", "attempt, the last", "attempt, the last of SQLite"} & due.keys()
    assert {kind for kind in keys if keys[kind] not in {one.key for one in bad}} == unlisted
    assert {one.task_id for one in bad} <= named
    assert len(named) == len(keys)
    found = {one.task_id for one in again.violations if one.rule is AuditRule.BAD_ROW}
    assert {one.task_id for one in bad} & found
    assert "Traceback" not in caplog.text


async def test_children_follow_beside_bad_rows(store_url: str) -> None:
    """Parents that are broken, and children that are, keep no other child from its parent's end."""
    changes, _ = kinds(store_url)
    async with find_store(store_url) as store:

        async def make(parent_id: str | None = None) -> tuple[str, int]:
            follows = parent_id is not None
            op = "child" if follows else "parent"
            new = NewTask(new_task_id(), op, parent_id=parent_id, cancel_with_parent=follows)
            task, _ = await store.create(new)
            return task.task_id, task.key

        parents = {kind: await make() for kind in changes}
        good = [await make(parent) for parent, _ in parents.values()]
        sound, _ = await make()
        bad = {kind: (await make(sound))[1] for kind in changes if kind != "task_id"}
        last, _ = await make(sound)
        for parent in (sound, *(parent for parent, _ in parents.values())):
            await store.request_cancel(parent)
        await break_rows(store_url, changes, {kind: key for kind, (_, key) in parents.items()})
        await break_rows(store_url, {kind: changes[kind] for kind in bad}, bad)
        looks = [await store.cancel_followers(10) for _ in range(2 * len(changes))]
        ended = [(await store.get(task_id)).cancel is not None for task_id, _ in good]
        cancel = (await store.get(last)).cancel

    assert looks[-1] == 0
    assert cancel is not None
    assert sum(ended) >= len(ended) - 3, "whose parents' words, or ids, cannot be read"


async def test_task_whose_tape_takes_no_event_is_passed_over(store_url: str) -> None:
    """Pending beside a closed tape, first in each claim, it stops none; the audit names it."""
    async with find_store(store_url) as store:
        closed = [await make_ended(store) for _ in range(4)]
        keys = ", ".join(str(key) for _, key in closed)
        await run_round(
            store_url, f"UPDATE tasks SET status = 'pending', owner = NULL WHERE id IN ({keys})"
        )
        not_ok = await run_good(store_url, 10)
        named = {one.task_id for one in (await audit_store(store)).violations}

    rows = await read_rows(store_url)
    assert not_ok == ()
    assert named == {attempt.task_id for attempt, _ in closed}
    assert {rows[key][0] for _, key in closed} == {"pending"}


async def test_lost_bad_rows_are_rescued_with_the_others(store_url: str) -> None:
    """Of tasks that run nowhere each gets its end, whatever stands in its row; or is named."""
    due, _ = kinds(store_url)
    async with find_store(store_url) as store:
        keys: dict[str, int] = {}
        for kind in ("sound", *due):
            new, _ = await store.create(NewTask(new_task_id(), "y", retries=3))
            await store.claim_if_pending(new, "there:1:0:aa", 0.001)
            keys[kind] = new.key
        await break_rows(store_url, due, keys)
        async with TaskManager(store, heartbeat=0.02) as manager:
            await until(lambda: manager.check_health()[1].ok)
            async with asyncio.timeout(10):
                while (await read_rows(store_url))[keys["sound"]][0] == "running":
                    await manager.submit("answer", runner=answer)
            ready = {check.name: check.ok for check in manager.check_health()}
        named = {one.task_id for one in (await audit_store(store)).violations}

    rows = await read_rows(store_url)
    left = {kind for kind in due if rows[keys[kind]][0] == "running"}
    assert all(ready.values())
    assert left <= {kind for kind in due if kind.startswith(("attempt", "owner"))}
    assert len(named) >= len(left)


CARRIED: Final = {
    "status": "UPDATE tasks SET status = 'paused' WHERE id = {pending}",
    "reason": "UPDATE quarantine SET reason = 'too_heavy' WHERE id = 1",
    "counted": "UPDATE drop_counts SET reason = 'too_heavy'",
    "repair": "INSERT INTO repairs (repaired_at, repaired_by, rule, task_id, was, done) "
    """VALUES (1, 'a newer version', 'lost_lane', 'x', '[]', '{{"lane": 3}}')""",
}


async def test_words_of_a_newer_version_are_carried(store_url: str) -> None:
    """A status, a reason and a rule that this version does not know are shown as they are."""
    async with find_store(store_url) as store:
        await make_ended(store)
        new, _ = await store.create(NewTask(new_task_id(), "x"))
        if store_url.startswith("postgres"):
            await run_round(store_url, "ALTER TABLE tasks DROP CONSTRAINT tasks_status_known")
        for change in CARRIED.values():
            await run_round(store_url, change.format(pending=new.key))
        task = await store.get(new.task_id)
        counts = await store.count()
        drops = await store.read_quarantine()
        repairs = await store.maintenance.read_repairs()

    assert (task.status.value, task.status.terminal, task.damage) == ("paused", False, "")
    assert counts[task.status] == 1
    assert [str(drop.reason) for drop in drops.drops] == ["too_heavy", "after_terminal"]
    assert [drop.damage for drop in drops.drops] == ["", ""]
    assert {reason.value: n for reason, n in drops.counts.items()} == {"too_heavy": 2}
    assert [(one.rule.value, one.text) for one in repairs] == [("lost_lane", "{'lane': 3}")]


async def test_cancel_of_a_newer_version_is_honoured(store_url: str) -> None:
    """Its reason is one that this version does not know: it is on the final, word for word."""
    began = asyncio.Event()

    async def wait(report: Reporter) -> None:
        began.set()
        await asyncio.Event().wait()

    async with TaskManager(store_url, heartbeat=0.02) as manager:
        handle = await manager.submit("wait", runner=wait)
        beside = await manager.submit("answer", runner=answer)
        await began.wait()
        await run_round(
            store_url,
            "UPDATE tasks SET cancel_reason = 'budget', cancel_message = 'spent', "
            f"cancel_requested_at = 1 WHERE task_id = '{handle.task_id}'",
        )
        with pytest.raises(TaskCancelled) as caught:
            await handle.result(10)
        assert await beside.result(10) == 42

    assert caught.value.reason == "budget"


@pytest.mark.slow
async def test_page_ends_where_its_rows_are_too_much(store_url: str) -> None:
    """A list and a tape are read in pages of some 16 MiB, and a row of more is not read at all."""
    # '{"a": "xxx…"}' of 3 MiB and of 17 MiB, and as JSON text for an event
    text = "printf('%.*c', {n}, 'x')" if store_url.startswith("sqlite") else "repeat('x', {n})"
    large, larger = (f"""'{{"a": "' || {text.format(n=n * 2**20)} || '"}}'""" for n in (3, 17))
    async with find_store(store_url) as store:
        attempt, key = await make_ended(store)
        made = [(await store.create(NewTask(new_task_id(), "x")))[0] for _ in range(9)]
        await run_round(
            store_url,
            *(f"UPDATE tasks SET params = {large} WHERE id = {new.key}" for new in made[:8]),
            f"UPDATE tasks SET params = {larger} WHERE id = {made[8].key}",
            f"UPDATE events SET body = {larger} WHERE task = {key} AND seq = 2",
        )
        sizes: list[int] = []
        ids: list[str] = []
        pages = [await store.list()]
        while (before := pages[-1].next) is not None:
            pages.append(await store.list(before=before))
        for page in pages:
            sizes.append(len(page.tasks))
            ids += [task.task_id for task in page.tasks]
        damaged = [task.damage for page in pages for task in page.tasks if task.damage]
        tape = await store.read_tape(attempt.task_id)
        rest = await store.read_tape(attempt.task_id, after_seq=tape.events[-1].seq)
        named = {one.task_id for one in (await audit_store(store)).violations}

    assert ids == [*(new.task_id for new in reversed(made)), attempt.task_id]
    assert max(sizes) <= 7
    assert damaged == ["params of its row cannot be read"]
    assert [event.damage for event in (*tape.events, *rest.events)] == [
        "",
        "its body is too long",
        "",
        "",
    ]
    assert named == {made[8].task_id, attempt.task_id}


EVENT_COLUMNS: Final = ("seq", "attempt", "offer", "type", "ts", "body")
LATE_COLUMNS: Final = (
    *("task_id", "attempt", "offer", "owner", "type", "reason", "ts", "late_us", "trace_id"),
    "body",
)


COUNT_COLUMNS: Final = ("reason", "type", "outcome", "n", "last_offer")


@pytest.mark.parametrize(
    "value",
    [pytest.param(NO_TEXT, id="no UTF-8"), pytest.param(BLOB, id="a blob", marks=pytest.mark.slow)],
)
async def test_bad_rows_of_tapes_cost_no_page(sqlite_url: str, tmp_path: Path, value: str) -> None:
    """Each column of an event, a late event and a count: all are shown, and the audit ends."""
    async with find_store(sqlite_url) as store:
        tapes = [await make_ended(store) for _ in EVENT_COLUMNS]
        ids = [attempt.task_id for attempt, _ in tapes]
        of_event = [
            f"UPDATE events SET {column} = {value} WHERE task = {key} AND seq = 2"
            for column, (_, key) in zip(EVENT_COLUMNS, tapes, strict=True)
        ]
        of_late = [
            f"UPDATE quarantine SET {column} = {value} WHERE id = {n}"
            for n, column in enumerate(LATE_COLUMNS, 1)
        ]
        of_count = [
            f"UPDATE drop_counts SET {column} = {value} WHERE task_id = '{id_}'"
            for column, id_ in zip(COUNT_COLUMNS, ids, strict=False)
        ]
        await run_round(sqlite_url, *of_event, *of_late, *of_count)
        here = Tapescope(sqlite_url, tmp_path).here
        shown = [here("tape", id_, "--json") for id_ in ids] + [here("show", id_) for id_ in ids]
        shown += [here("drops"), here("drops", "--json"), here("list")]
        damaged = [
            any(event.damage for event in (await store.read_tape(id_)).events) for id_ in ids
        ]
        named = {one.task_id for one in (await audit_store(store)).violations}
        await run_good(sqlite_url, 3)

    assert [one.stderr for one in shown if one.returncode != 0] == []
    assert damaged == [column not in ("offer", "seq") for column in EVENT_COLUMNS]
    assert named >= {
        id_ for id_, column in zip(ids, EVENT_COLUMNS, strict=True) if column != "offer"
    }

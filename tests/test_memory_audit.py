"""The audit of a ``MemoryStore``: each rule, broken by hand in what it holds."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest

from tapescope import AuditRule, NewEvent, NewTask, TaskStatus
from tapescope._json import encode
from tapescope.audit import audit_store
from tapescope.store import new_task_id
from tapescope.tasks import Final
from tapescope.testing import MemoryStore
from tapescope.testing._tables import Record


def _lose_final(record: Record) -> None:
    record.tape.pop()


def _go_on(record: Record) -> None:
    record.tape.append(record.tape[1]._replace(seq=4))


def _end_twice(record: Record) -> None:
    record.tape.append(record.tape[2]._replace(seq=4))


def _lose_event(record: Record) -> None:
    del record.tape[1]


def _say_otherwise(record: Record) -> None:
    body = encode({"outcome": "cancelled"}, "body")
    record.tape[2] = record.tape[2]._replace(body=body)


def _let_lease_run_out(record: Record) -> None:
    record.tape.pop()
    record.task = replace(record.task, status=TaskStatus.RUNNING, lease_expires_at=1)


BREACHES: dict[AuditRule, Callable[[Record], None]] = {
    AuditRule.MISSING_FINAL: _lose_final,
    AuditRule.FINAL_NOT_LAST: _go_on,
    AuditRule.MULTIPLE_FINAL: _end_twice,
    AuditRule.SEQUENCE_GAP: _lose_event,
    AuditRule.OUTCOME_MISMATCH: _say_otherwise,
    AuditRule.STUCK_RUNNING: _let_lease_run_out,
}


class OpenMemory(MemoryStore):
    """A memory store whose records a test may reach."""

    def record(self, task_id: str) -> Record:
        """What is held of a task."""
        return self._records[self._keys[task_id]]


@pytest.mark.parametrize("rule", BREACHES)
async def test_each_breach_is_found(rule: AuditRule) -> None:
    """The rule that is broken is named, with its task, and no other."""
    async with OpenMemory() as store:
        task, _ = await store.create(NewTask(new_task_id(), "x"))
        claim = await store.claim_if_pending(task, "me", 60)
        assert claim is not None
        await store.append(claim.attempt, [NewEvent("log", "on it")])
        await store.finish_if_running(claim.attempt, Final.succeeded())
        BREACHES[rule](store.record(task.task_id))
        (found,) = (await audit_store(store)).violations

    assert (found.rule, found.task_id) == (rule, task.task_id)

"""The audit of a ``MemoryStore``: each rule, broken by hand in what it holds."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest

from tapescope import AuditRule, DropReason, NewEvent, NewTask, TaskStatus
from tapescope.codec import encode
from tapescope.maintenance.audit import audit_store
from tapescope.maintenance.repair import repair_store
from tapescope.model.tasks import FinalEvent
from tapescope.store.validation import new_task_id
from tapescope.testing import MemoryBackend, MemoryStore
from tapescope.testing._tables import Quarantine, Record


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
    record.task = replace(record.task, status=TaskStatus.RUNNING, lease_expires_us=1)


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

    @property
    def memory(self) -> MemoryBackend:
        """Where they are."""
        assert isinstance(self.backend, MemoryBackend)
        return self.backend

    def record(self, task_id: str) -> Record:
        """What is held of a task."""
        record = self.memory.find(task_id)
        assert record is not None
        return record

    @property
    def quarantine(self) -> Quarantine:
        """The quarantine."""
        return self.memory.quarantine


async def make_broken(store: OpenMemory, rule: AuditRule) -> str:
    """A task of three events that breaks a rule."""
    task, _ = await store.create(NewTask(new_task_id(), "x"))
    claim = await store.claim_if_pending(task, "me", 60)
    assert claim is not None
    await store.append(claim.attempt, [NewEvent("log", "on it")])
    await store.finish_if_running(claim.attempt, FinalEvent.succeeded())
    BREACHES[rule](store.record(task.task_id))
    return task.task_id


@pytest.mark.parametrize("rule", BREACHES)
async def test_each_breach_is_found(rule: AuditRule) -> None:
    """The rule that is broken is named, with its task, and no other."""
    async with OpenMemory() as store:
        task_id = await make_broken(store, rule)
        (found,) = (await audit_store(store)).violations

    assert (found.rule, found.task_id) == (rule, task_id)


@pytest.mark.parametrize("rule", [rule for rule in BREACHES if rule is not AuditRule.SEQUENCE_GAP])
async def test_each_breach_is_mended(rule: AuditRule) -> None:
    """A dry run says what the repair then does; the audit finds nothing any more."""
    async with OpenMemory() as store:
        task_id = await make_broken(store, rule)
        told = await repair_store(store, by="the tests", dry_run=True)
        (found,) = (await audit_store(store)).violations
        done = await repair_store(store, by="the tests")
        report = await audit_store(store)
        traces = await store.maintenance.read_repairs()

    assert found.rule is rule
    assert [(one.rule, one.text) for one in told.repairs] == [
        (one.rule, one.text) for one in done.repairs
    ]
    assert [(one.rule, one.task_id) for one in traces] == [(rule, task_id)]
    assert (told.left, done.left, report.violations) == ([], [], ())


async def test_count_below_what_is_kept_is_mended() -> None:
    """As many late events are counted as the quarantine holds; what was taken off is among them."""
    async with OpenMemory() as store:
        task_id = await make_broken(store, AuditRule.FINAL_NOT_LAST)
        await store.maintenance.repair(task_id, by="the tests")
        store.quarantine.correct(task_id, DropReason.AFTER_TERMINAL, 0)
        (found,) = (await audit_store(store)).violations
        mended = await store.maintenance.repair(task_id, by="the tests")
        drops = await store.read_quarantine(task_id)

    assert found.rule is AuditRule.DROPPED_COUNT_MISMATCH
    assert [one.rule for one in mended.repairs] == [AuditRule.DROPPED_COUNT_MISMATCH]
    assert mended.left == ()
    assert drops.counts == {DropReason.AFTER_TERMINAL: 1}
    assert [drop.body for drop in drops.drops] == ["on it"]


async def test_gap_is_left() -> None:
    """Nothing can bring a lost event back, so nothing is done."""
    async with OpenMemory() as store:
        await make_broken(store, AuditRule.SEQUENCE_GAP)
        report = await repair_store(store, by="the tests")

    assert report.repairs == []
    assert [found.rule for found in report.left] == [AuditRule.SEQUENCE_GAP]


async def test_broken_task_is_passed_over_by_a_rescue() -> None:
    """A row that runs beside a closed tape is left; the one behind it is rescued."""
    async with OpenMemory() as store:
        broken = await make_broken(store, AuditRule.MULTIPLE_FINAL)
        record = store.record(broken)
        record.task = replace(record.task, status=TaskStatus.RUNNING, owner="lost")
        task, _ = await store.create(NewTask(new_task_id(), "x"))
        await store.claim_if_pending(task, "lost", 60)
        rescued = await store.leases.rescue_expired(1, dead_owners=["lost"])

    assert [one.task.task_id for one in rescued] == [task.task_id]


async def test_task_whose_tape_is_gone_is_found() -> None:
    """A task that was claimed and lives has a tape."""
    async with OpenMemory() as store:
        task, _ = await store.create(NewTask(new_task_id(), "x"))
        await store.claim_if_pending(task, "me", 60)
        store.record(task.task_id).tape.clear()
        (found,) = (await audit_store(store)).violations

    assert (found.rule, found.task_id) == (AuditRule.SEQUENCE_GAP, task.task_id)

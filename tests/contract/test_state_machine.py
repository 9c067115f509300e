"""The model in memory, SQLite and PostgreSQL, side by side: any calls, in any order, one answer.

A state machine of hypothesis makes the calls of the port on all three stores, one by one or many at
once in one flush, by right and by wrong attempts, from fresh and from stale reads. Each answer, and
in the end each row, tape, quarantine and count, must be the same, and the audit must be clean.
``MACHINE_EXAMPLES`` says how many examples of fifty steps the long run has:
``MACHINE_EXAMPLES=2000 make test-slow PYTEST_ARGS='-k state_machine -s'``.
"""

from __future__ import annotations

import asyncio
import os
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, fields, is_dataclass, replace
from enum import StrEnum
from itertools import count
from pathlib import Path
from typing import Any, ClassVar, Final, Literal, cast

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    precondition,
    rule,
    run_state_machine_as_test,
)

from tapescope.errors import TapescopeError
from tapescope.model.tape import NewEvent, Outcome
from tapescope.model.tasks import (
    Attempt,
    CancelReason,
    CancelRequest,
    Claim,
    ErrorInfo,
    FinalEvent,
    NewTask,
    Task,
    TaskStatus,
)
from tapescope.store.port import TaskStore
from tapescope.store.validation import new_task_id
from tapescope.testing import MemoryStore
from tapescope.testing.tasks import HOUR, LEASE, OTHER, OWNER, SHORT
from tapescope_adapters.postgres import PostgresStore
from tapescope_adapters.sqlite import SqliteStore

OWNERS: Final = (OWNER, OTHER)
PATIENCE: Final = 120.0
"""Seconds: that the machine is busy is no difference between two stores."""
DEFAULT_STEPS: Final = 25
_LONG: Final = int(os.environ.get("MACHINE_EXAMPLES", "100"))
PARTS: Final = [min(100, _LONG - begun) for begun in range(0, _LONG, 100)]
"""Examples of each part of the long run."""


class When(StrEnum):
    """When a task is due, from the moment at which its example begins."""

    PAST = "past"
    NOW = "now"
    LATER = "later"


class Forge(StrEnum):
    """What is wrong with an attempt; ``NO_CURSOR`` is the right one, made by hand."""

    NO = "right"
    NO_CURSOR = "no cursor"
    OLDER = "older"
    NEWER = "newer"
    OTHER_OWNER = "other owner"
    OTHER_TASK = "unknown task"


@dataclass(frozen=True)
class Create:
    """Create a task of one of the example's two ops."""

    op: int
    key: str | None
    when: When
    retries: int
    only_by: str | None
    params: Mapping[str, Any]
    expires_in: float | None
    """A minute: what was due in the past has expired, and the rest does not while a test runs."""


@dataclass(frozen=True)
class ClaimTask:
    """Claim a task as it was read ``stale`` reads ago."""

    task: int
    stale: int
    owner: str
    lease: float


@dataclass(frozen=True)
class Append:
    """Offer events of one of the attempts so far."""

    attempt: int
    forge: Forge
    events: int


@dataclass(frozen=True)
class Finish:
    """Offer a ``final``."""

    attempt: int
    forge: Forge
    outcome: Outcome
    result: int


@dataclass(frozen=True)
class RetryLater:
    """Give a failed attempt's task back."""

    attempt: int
    forge: Forge
    when: Literal[When.PAST, When.LATER]
    only_here: bool


@dataclass(frozen=True)
class Release:
    """Give a task back that another may run."""

    attempt: int
    forge: Forge


@dataclass(frozen=True)
class Cancel:
    """Ask for a cancel; of a task that there is not when ``task`` is ``None``."""

    task: int | None
    reason: CancelReason
    by: str | None


Call = Create | ClaimTask | Append | Finish | RetryLater | Release | Cancel

NUMBERS: Final = st.integers(0, 1_000_000)
FORGES: Final = st.sampled_from([Forge.NO, Forge.NO, Forge.NO, Forge.NO, *Forge])
LEASES: Final = st.sampled_from([LEASE, LEASE, SHORT])
CREATES: Final = st.builds(
    Create,
    st.integers(0, 1),
    st.sampled_from([None, None, "k", "l"]),
    st.sampled_from([When.NOW, When.NOW, When.PAST, When.LATER]),
    st.integers(0, 2),
    st.sampled_from([None, None, None, *OWNERS]),
    st.sampled_from([{}, {"n": 1}, {"n": 1.0}]),
    st.sampled_from([None, None, 60.0]),
)
CLAIMS: Final = st.builds(
    ClaimTask, NUMBERS, st.sampled_from([0, 0, 0, 1, 2]), st.sampled_from(OWNERS), LEASES
)
CANCELS: Final = st.builds(
    Cancel,
    st.one_of(NUMBERS, NUMBERS, NUMBERS, st.none()),
    st.sampled_from([*CancelReason]),
    st.sampled_from([None, "someone"]),
)


def by_attempt(forges: st.SearchStrategy[Forge]) -> st.SearchStrategy[Call]:
    """A call of an attempt."""
    return st.one_of(
        st.builds(Append, NUMBERS, forges, st.integers(0, 3)),
        st.builds(Finish, NUMBERS, forges, st.sampled_from([*Outcome]), st.integers(0, 1)),
        st.builds(
            RetryLater, NUMBERS, forges, st.sampled_from([When.PAST, When.LATER]), st.booleans()
        ),
        st.builds(Release, NUMBERS, forges),
    )


# No forged ones: of an attempt that a store does not know it must ask the database first, and that
# takes one store longer than another, so that they come in different flushes.
TOGETHER: Final = st.one_of(CREATES, CLAIMS, CANCELS, *[by_attempt(st.just(Forge.NO))] * 3)


class Trio:
    """The three stores, open for all examples, and the loop that they live in."""

    def __init__(self, stores: Sequence[TaskStore]) -> None:
        self.runner = asyncio.Runner()
        self.stores = stores
        self.examples = count()
        self.steps = 0
        self.calls: Counter[str] = Counter()
        for store in stores:
            self.runner.run(store.open())

    def all(self, call: Callable[[int, TaskStore], Awaitable[Any]]) -> list[Any]:
        """Make a call on each store; an error of ours is its answer."""

        async def answer(place: int, store: TaskStore) -> Any:
            try:
                return await call(place, store)
            except TapescopeError as error:
                return error

        return [self.runner.run(answer(place, store)) for place, store in enumerate(self.stores)]

    def close(self) -> None:
        """Close the stores and the loop."""
        for store in self.stores:
            self.runner.run(store.aclose())
        self.runner.close()


class StoreMachine(RuleBasedStateMachine):
    """One example: tasks of two ops of its own, in stores that may hold others."""

    trio: ClassVar[Trio]

    def __init__(self) -> None:
        super().__init__()
        self.ops: tuple[str, str] = ("", "")
        self.now = 0
        self.unknown = ""
        """The id of no task."""
        self.task_ids: list[str] = []
        self.reads: dict[str, list[list[Task]]] = {}
        """By task what was read of it, on each of the stores."""
        self.attempts: list[list[Attempt]] = []
        self.ledgers = [store.meter.ledger.read() for store in self.trio.stores]

    @initialize(first=CREATES)
    def begin(self, first: Create) -> None:
        """A task, of ops that no example had."""
        number = next(self.trio.examples)
        self.ops = (f"work{number}", f"other{number}")
        self.now = self.trio.stores[0].clock.now()
        self.unknown = new_task_id()
        self._make([first])

    # --- one call, or many in one flush -----------------------------------------------------------

    @rule(call=CREATES)
    def create(self, call: Create) -> None:
        """A task."""
        self._make([call])

    @rule(call=CLAIMS)
    def claim(self, call: ClaimTask) -> None:
        """A claim, of what is pending or is not."""
        self._make([call])

    @precondition(lambda self: self.attempts)
    @rule(call=by_attempt(FORGES))
    def write(self, call: Call) -> None:
        """Events, an end, or an attempt that ends before its task."""
        self._make([call])

    @rule(call=CANCELS)
    def cancel(self, call: Cancel) -> None:
        """A cancel request."""
        self._make([call])

    @rule(calls=st.lists(TOGETHER, min_size=2, max_size=8))
    def together(self, calls: list[Call]) -> None:
        """Calls that go into one flush."""
        self._make(calls)

    # --- calls beside the flushes -----------------------------------------------------------------

    @rule(
        owner=st.sampled_from(OWNERS),
        ops=st.sampled_from([(0,), (1,), (0, 1)]),
        limit=st.integers(1, 4),
        lease=LEASES,
    )
    def claim_due(self, owner: str, ops: tuple[int, ...], limit: int, lease: float) -> None:
        """A worker's claim."""
        names = [self.ops[one] for one in ops]
        answers = self._all(lambda _, store: store.claim_due(owner, names, limit, lease))
        if not isinstance(answers[0], TapescopeError):
            for claims in zip(*answers, strict=True):
                self._hold(claims)

    @rule(owner=st.sampled_from(OWNERS), lease=LEASES, named=st.booleans())
    def heartbeat(self, owner: str, lease: float, named: bool) -> None:
        """A heartbeat, of the attempts that the owner names or of all it has."""
        mine = [one for one in self.attempts if one[0].owner == owner]
        self._all(
            lambda place, store: store.leases.extend(
                owner, lease, [one[place] for one in mine] if named else None
            )
        )

    @rule(dead=st.sets(st.sampled_from(OWNERS)), ops=st.sampled_from([(), (0,), (0, 1)]))
    def rescue(self, dead: set[str], ops: tuple[int, ...]) -> None:
        """Another manager's rescue."""
        names = [self.ops[one] for one in ops]
        self._all(lambda _, store: store.leases.rescue_expired(ops=names, dead_owners=sorted(dead)))

    @rule()
    def end_expired(self) -> None:
        """A look of a heartbeat for what has expired."""
        self._all(lambda _, store: store.end_expired())

    @rule(task=NUMBERS)
    def get(self, task: int) -> None:
        """A look at a task, from which a claim may be made later."""
        self._read(self._pick(self.task_ids, task))

    @rule(
        status=st.sampled_from([None, *TaskStatus]),
        owner=st.sampled_from([None, *OWNERS]),
        key=st.sampled_from([None, None, "k"]),
        limit=st.integers(1, 5),
    )
    def look(
        self, status: TaskStatus | None, owner: str | None, key: str | None, limit: int
    ) -> None:
        """Every page of a list, the counts, and what is due next."""
        pages = self._all(lambda _, store: self._pages(store, status, owner, key, limit))
        assert len(pages) == len(self.trio.stores)
        self._all(lambda _, store: store.count(op=self.ops[0]))
        due = self.trio.all(lambda _, store: store.next_due(self.ops))
        assert len({self._due(at) for at in due}) == 1, f"due next: {due}"

    @rule()
    def count_backlog(self) -> None:
        """How much waits and runs, as all of them say it, and as a count of the tasks gives it."""
        for counts in self.trio.all(lambda _, store: store.backlog.recount()):
            assert not isinstance(counts, TapescopeError), repr(counts)
            assert [one for one in counts if one.differs] == []
        self._all(lambda _, store: self._backlog(store))

    @rule(task=NUMBERS, after=st.integers(0, 5), limit=st.integers(1, 4))
    def page(self, task: int, after: int, limit: int) -> None:
        """A page of a tape, and one of its quarantine."""
        task_id = self._pick(self.task_ids, task)
        self._all(lambda _, store: store.read_tape(task_id, after_seq=after, limit=limit))
        self._all(lambda _, store: store.read_quarantine(task_id, limit=limit))

    @rule()
    def reopen(self) -> None:
        """Close the stores and open them again: what they remember of tapes is gone."""
        for store in self.trio.stores:
            self.trio.runner.run(store.aclose())
            self.trio.runner.run(store.open())

    # --- the end ----------------------------------------------------------------------------------

    def teardown(self) -> None:
        """Compare all that the example left, then end its tasks: the next one has others."""
        try:
            for task_id in self.task_ids:
                self._compare(task_id)
            self.count_backlog()
            for store in self.trio.stores:
                first = min(self._key(store, one) for one in self.task_ids)
                audit = store.maintenance.audit(after=first - 1)
                assert self.trio.runner.run(audit).violations == ()
            self._compare_ledgers()
        finally:
            self._end_all()
            self.trio.calls[f"tasks: {min(len(self.task_ids), 10)}"] += 1

    def _compare(self, task_id: str) -> None:
        self._read(task_id)
        self._all(lambda _, store: store.read_tape(task_id))
        self._all(lambda _, store: store.read_quarantine(task_id))

    def _compare_ledgers(self) -> None:
        moved: list[tuple[int, ...]] = []
        for store, before in zip(self.trio.stores, self.ledgers, strict=True):
            now = store.meter.ledger.read()
            assert (now.in_flight, now.unaccounted) == (0, 0)
            moved.append(
                (
                    now.offered - before.offered,
                    now.stored - before.stored,
                    now.dropped - before.dropped,
                    now.failed - before.failed,
                )
            )
        assert moved == [moved[0]] * len(moved), f"counted: {moved}"

    def _end_all(self) -> None:
        for store in self.trio.stores:
            for task_id in self.task_ids:
                self.trio.runner.run(store.request_cancel(task_id))
            self.trio.runner.run(store.leases.rescue_expired(1_000, dead_owners=OWNERS))

    def _key(self, store: TaskStore, task_id: str) -> int:
        return self.trio.runner.run(store.get(task_id)).key

    # --- how calls are made -----------------------------------------------------------------------

    def _make(self, calls: Sequence[Call]) -> None:
        prepared = [one for one in map(self._prepare, calls) if one is not None]

        async def together(place: int, store: TaskStore) -> list[Any]:
            return await asyncio.gather(
                *(call(place, store) for call in prepared), return_exceptions=True
            )

        answers = self._all(together)
        for same in zip(*answers, strict=True):
            self._hold(same)
            for one in same[:1]:
                if isinstance(one, tuple) and isinstance(one[0], Task):
                    self._created(one[0].task_id, [each[0] for each in same])

    def _prepare(self, call: Call) -> Callable[[int, TaskStore], Awaitable[Any]] | None:
        """What makes the call on each store; ``None`` while there is nothing to make it of."""
        self.trio.calls[type(call).__name__] += 1
        if isinstance(call, Create):
            new = self._new_task(call)
            return lambda _, store: store.create(new)
        if isinstance(call, Cancel):
            task_id = new_task_id() if call.task is None else self._pick(self.task_ids, call.task)
            return lambda _, store: store.request_cancel(task_id, call.reason, "why", call.by)
        if isinstance(call, ClaimTask):
            reads = self.reads[self._pick(self.task_ids, call.task)]
            read = reads[max(len(reads) - 1 - call.stale, 0)]
            return lambda place, store: store.claim_if_pending(read[place], call.owner, call.lease)
        if not self.attempts:
            return None
        by = [self._forged(one, call.forge) for one in self._pick(self.attempts, call.attempt)]
        if isinstance(call, Append):
            events = [NewEvent("log", {"message": n}) for n in range(call.events)]
            return lambda place, store: store.append(by[place], events)
        if isinstance(call, Finish):
            final = self._final(call)
            return lambda place, store: store.finish_if_running(by[place], final)
        if isinstance(call, Release):
            return lambda place, store: store.release(by[place], "for another")
        error, run_at = ErrorInfo("ValueError", "no"), self._time(call.when) or 0
        reads = self.reads.get(by[0].task_id, [])
        here = reads[-1] if call.only_here and reads else [None] * len(by)
        return lambda place, store: store.retry_later(
            by[place], error, run_at, only_here=here[place]
        )

    def _new_task(self, call: Create) -> NewTask:
        return NewTask(
            new_task_id(),
            self.ops[call.op],
            call.params,
            retries=call.retries,
            idempotency_key=call.key,
            run_at=self._time(call.when),
            only_by=call.only_by,
            expires_in=call.expires_in,
        )

    def _final(self, call: Finish) -> FinalEvent:
        if call.outcome is Outcome.SUCCEEDED:
            return FinalEvent.succeeded(call.result)
        if call.outcome is Outcome.FAILED:
            return FinalEvent.failed(ErrorInfo("ValueError", str(call.result)))
        return FinalEvent.cancelled(CancelRequest(CancelReason.USER, "", None, self.now))

    def _forged(self, attempt: Attempt, forge: Forge) -> Attempt:
        if forge is Forge.NO:
            return attempt
        bare = replace(attempt, cursor=None)
        if forge is Forge.OLDER:
            return replace(bare, number=max(attempt.number - 1, 1))
        if forge is Forge.NEWER:
            return replace(bare, number=attempt.number + 1)
        if forge is Forge.OTHER_OWNER:
            return replace(bare, owner=OTHER if attempt.owner == OWNER else OWNER)
        return bare if forge is Forge.NO_CURSOR else replace(bare, task_id=self.unknown)

    def _time(self, when: When) -> int | None:
        return {When.PAST: self.now - HOUR, When.NOW: None, When.LATER: self.now + HOUR}[when]

    @staticmethod
    def _pick(among: Sequence[Any], number: int) -> Any:
        return among[number % len(among)]

    # --- how answers are compared -----------------------------------------------------------------

    def _all(self, call: Callable[[int, TaskStore], Awaitable[Any]]) -> list[Any]:
        self.trio.steps += 1
        answers = self.trio.all(call)
        said = [self._facts(answer) for answer in answers]
        names = [store.adapter for store in self.trio.stores]
        for name, other in zip(names[1:], said[1:], strict=True):
            assert other == said[0], f"{names[0]}: {said[0]}\n{name}: {other}"
        return answers

    def _hold(self, answers: Sequence[Any]) -> None:
        if isinstance(answers[0], Claim):
            self.attempts.append([one.attempt for one in answers])
            self._note(answers[0].task.task_id, [one.task for one in answers])

    def _created(self, task_id: str, tasks: list[Task]) -> None:
        if task_id not in self.task_ids:
            self.task_ids.append(task_id)
        self._note(task_id, tasks)

    def _note(self, task_id: str, tasks: list[Task]) -> None:
        self.reads.setdefault(task_id, []).append(tasks)

    def _read(self, task_id: str) -> None:
        self._note(task_id, self._all(lambda _, store: store.get(task_id)))

    async def _backlog(self, store: TaskStore) -> list[Any]:
        """The numbers of this example's ops."""
        backlog = await store.backlog.read(max_age=0)
        return [
            replace(one, oldest_due=one.oldest_due and 1.0, oldest_running=one.oldest_running and 1)
            for one in backlog.ops
            if one.op in self.ops and one.submitted
        ]

    async def _pages(
        self,
        store: TaskStore,
        status: TaskStatus | None,
        owner: str | None,
        key: str | None,
        limit: int,
    ) -> list[Task]:
        found: list[Task] = []
        before: str | None = None
        while True:
            page = await store.list(
                status=status,
                op=self.ops[0],
                owner=owner,
                idempotency_key=key,
                limit=limit,
                before=before,
            )
            found += page.tasks
            before = page.next
            if before is None:
                return found

    def _due(self, at: int | None) -> int | None:
        return 0 if at is not None and at < self.now + HOUR else at

    def _facts(self, value: Any) -> Any:
        """What every store must say alike: not its clock's times, its own keys, or its roles."""
        if isinstance(value, BaseException):
            return type(value).__name__, str(value)
        if isinstance(value, Attempt):
            return value.task_id, value.number, value.owner
        if is_dataclass(value):
            return type(value).__name__, {
                one.name: self._fact(one.name, getattr(value, one.name)) for one in fields(value)
            }
        if isinstance(value, Mapping):
            mapping = cast("Mapping[str, Any]", value)
            return {name: self._fact(name, one) for name, one in mapping.items()}
        if isinstance(value, list | tuple):
            several = cast("Sequence[Any]", value)
            names: Sequence[str] = getattr(several, "_fields", [""] * len(several))
            return [self._fact(name, one) for name, one in zip(names, several, strict=True)]
        return value

    def _fact(self, name: str, value: Any) -> Any:
        if name in ("key", "next", "role", "known"):
            return None
        if name == "run_us":
            return self._due(value)
        if name.endswith("_us") or name in ("late_s", "requested_at"):
            return value is not None
        return self._facts(value)


@pytest.fixture
def trio(tmp_path: Path, postgres_url: str) -> Iterator[Trio]:
    """The three stores."""
    stores = [
        MemoryStore(),
        SqliteStore(f"sqlite:///{tmp_path / 's.db'}", patience=PATIENCE),
        PostgresStore(postgres_url, patience=PATIENCE),
    ]
    trio = Trio(stores)
    try:
        yield trio
    finally:
        trio.close()


def run_machine(stores: Trio, examples: int, steps: int, *, always_the_same: bool) -> None:
    """Run so many examples."""

    class OnTheseStores(StoreMachine):
        """The machine, on these stores."""

        trio = stores

    run_state_machine_as_test(
        OnTheseStores,
        settings=settings(
            max_examples=examples,
            stateful_step_count=steps,
            deadline=None,
            derandomize=always_the_same,
            suppress_health_check=[HealthCheck.too_slow],
        ),
    )


def test_every_store_gives_the_same_answers(trio: Trio) -> None:
    """A short run."""
    run_machine(trio, 10, DEFAULT_STEPS, always_the_same=True)


@pytest.mark.slow
@pytest.mark.timeout(7_200)
@pytest.mark.parametrize("examples", PARTS)
def test_a_long_state_machine(trio: Trio, examples: int) -> None:
    """The long run, each part of it on stores that are empty: each example leaves ops of its own,
    and the numbers of all of them are compared."""
    run_machine(trio, examples, 50, always_the_same=False)
    made = ", ".join(f"{name} {n:,}" for name, n in sorted(trio.calls.items()))
    print(f"\n{examples:,} examples, {trio.steps:,} comparisons: {made}")

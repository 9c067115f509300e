"""Each role of a database may do what the page of the roles says, and no more."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import IO, Any, TypeAlias

import asyncpg
import pytest

from docs.roles import COMMANDS, RAW, VERBS
from tapescope import Reporter, TaskManager
from tapescope.errors import IdempotencyConflict, OpFull, StoreRefused, TapescopeError
from tapescope.model.audit import AuditRule
from tapescope.model.messages import MessageTaken
from tapescope.model.ops import KnownOp
from tapescope.model.schedules import Schedule
from tapescope.model.tape import NewEvent
from tapescope.model.tasks import Attempt, ErrorInfo, FinalEvent, NewTask, Task, TaskStatus
from tapescope.store import DatabaseRole, OpenMode, TaskStore
from tapescope.store.validation import new_task_id
from tapescope.testing import until
from tapescope_adapters.postgres import PostgresStore
from tapescope_adapters.postgres._grants import RIGHTS
from tests.cli.command import Tapescope
from tests.support.breaches import BREACHES, run_round
from tests.support.older_schema import take_migration_off
from tests.support.postgres_sessions import run_task, schema_of, session, start_task
from tests.support.scrapes import fetch

pytestmark = pytest.mark.unmade

READER, SUBMITTER, WORKER, MIGRATOR = DatabaseRole


async def bill(report: Reporter) -> None:
    """Only its own process could run it."""


GRANTED = (READER, SUBMITTER, WORKER)
DENIALS = (
    *("permission denied", "must be owner", "may not write"),
    *("tapescope I", "tapescope a cancel names", "tapescope a message is"),
)


@dataclass
class House:
    """A store that its migrator made, with the roles beside it."""

    url: str
    """Of a superuser."""

    def name(self, role: DatabaseRole) -> str:
        """The name of this role in this store's database."""
        return f"{role}_{schema_of(self.url)}"

    def url_of(self, role: DatabaseRole) -> str:
        """The store's URL for this role."""
        return self.url.replace("postgres@", f"{self.name(role)}@")

    def grants_of(self, role: DatabaseRole) -> str:
        """What is printed for this role."""
        store = PostgresStore(self.url)
        return store.maintenance.describe_grants(role, self.name(role))


@pytest.fixture
async def house(postgres_url: str) -> AsyncGenerator[House]:
    """The four roles as the printed grants make them, each granted by who the print says."""
    house = House(postgres_url)
    async with session(postgres_url) as raw:
        for role in DatabaseRole:
            await raw.execute(f"CREATE ROLE {house.name(role)} LOGIN")
        await raw.execute(house.grants_of(MIGRATOR))
    async with PostgresStore(house.url_of(MIGRATOR)), session(house.url_of(MIGRATOR)) as raw:
        for role in GRANTED:
            await raw.execute(house.grants_of(role))
    yield house
    async with session(postgres_url) as raw:
        for role in DatabaseRole:
            await raw.execute(f"DROP OWNED BY {house.name(role)} CASCADE")
            await raw.execute(f"DROP ROLE {house.name(role)}")


class Bench:
    """What verbs are tried on, made by the migrator, who may do all of it."""

    def __init__(self, house: House, owner: TaskStore) -> None:
        self.house, self.owner = house, owner

    async def waiting(self) -> Task:
        """A task that waits."""
        return (await self.owner.create(NewTask(new_task_id(), "x")))[0]

    async def running(self) -> Attempt:
        """An attempt that runs."""
        return (await start_task(self.owner)).attempt

    async def gone(self) -> Attempt:
        """An attempt whose task was deleted."""
        attempt = await self.running()
        async with session(self.house.url) as raw:
            await raw.execute("DELETE FROM tasks WHERE task_id::text = $1", attempt.task_id)
        return attempt

    async def damaged(self) -> str:
        """A task that has ended, and its final is gone."""
        task_id = await run_task(self.owner, 1)
        key = (await self.owner.get(task_id)).key
        await run_round(self.house.url, BREACHES[AuditRule.MISSING_FINAL][0].format(key=key))
        return task_id


Verb: TypeAlias = Callable[[TaskStore, Bench, str], Awaitable[object]]
"""What a role does with its own store; the last is that store's URL."""


async def create_within(store: TaskStore, bench: Bench, url: str) -> None:
    """In a transaction of the role's own; the second meets the first."""
    async with session(url) as raw, raw.transaction():
        for _ in range(2):
            new = NewTask(
                new_task_id(),
                "x",
                idempotency_key="k",
                priority=1,
                tags=("red",),
                parent_id=new_task_id(),
                cancel_with_parent=True,
                unique_key="u",
                concurrency_key="c",
                queue="q",
                expires_in=60.0,
            )
            await store.create_within(raw, new)
        await store.create_within(raw, NewTask(new_task_id(), "x", engine="temporal"))


async def claim_due(store: TaskStore, bench: Bench, url: str) -> None:
    """One task is due, and three wait for the first slots of a key that nobody has used: one may
    go, and the key is to be looked at again."""
    await bench.waiting()
    key = new_task_id()
    for _ in range(3):
        await bench.owner.create(NewTask(new_task_id(), "x", concurrency_key=key))
    claims = await store.claim_due("me", ["x"], 1, 30)
    claims += await store.claim_due("me", ["x"], 100, 30)
    assert {claim.task.concurrency_key for claim in claims} >= {None, key}


SCHEDULE = Schedule("nightly", "x", every=60, next_us=1)


async def told(bench: Bench) -> str:
    """A worker that is there."""
    await bench.owner.ops.tell("another", ["x"], 30)
    return "another"


async def scheduled(bench: Bench) -> Schedule:
    """A schedule that is there."""
    await bench.owner.schedules.add_if_absent(SCHEDULE)
    return await bench.owner.schedules.get("nightly")


async def list_due(store: TaskStore, bench: Bench, url: str) -> None:
    """The times of schedules are looked at, and which comes next."""
    _ = [one async for one in store.schedules.list_due(1)]
    await store.schedules.find_next(1)


async def open_to_migrate(store: TaskStore, bench: Bench, url: str) -> None:
    """The last migration is missing."""
    async with older_schema(bench.house), PostgresStore(url, open_mode=OpenMode.MIGRATE):
        pass


@asynccontextmanager
async def older_schema(house: House) -> AsyncGenerator[None]:
    """The last migration is missing; at the end it is there."""
    await take_migration_off(house.url)
    try:
        yield
    finally:
        async with PostgresStore(house.url_of(MIGRATOR), open_mode=OpenMode.MIGRATE):
            pass


async def claim(store: TaskStore, bench: Bench, url: str) -> object:
    """A task that waits is there."""
    return await store.claim_if_pending(await bench.waiting(), "me", 30)


async def open_beside_newer(store: TaskStore, bench: Bench, url: str) -> None:
    """A newer version says that older code may go on."""
    async with session(bench.house.url) as raw:
        await raw.execute("INSERT INTO schema_version VALUES (99)")
        await raw.execute("INSERT INTO schema_compatibility VALUES (99, 1)")
    try:
        await open_again(store, bench, url)
    finally:
        async with session(bench.house.url) as raw:
            await raw.execute("DELETE FROM schema_version WHERE version = 99")
            await raw.execute("DELETE FROM schema_compatibility WHERE version = 99")


async def open_again(store: TaskStore, bench: Bench, url: str) -> None:
    """As an application does."""
    async with PostgresStore(url, open_mode=OpenMode.EXISTING) as again:
        await again.measure_skew()


TRACE = "a1" * 16


TRIED: Mapping[str, Verb] = {
    "open": open_again,
    "open, beside a newer schema": open_beside_newer,
    "get": lambda s, b, u: then(b.waiting(), lambda task: s.get(task.task_id)),
    "list": lambda s, b, u: s.list(op="x"),
    "list, by a tag": lambda s, b, u: s.list(tag="red"),
    "count": lambda s, b, u: s.count(),
    "read_tape": lambda s, b, u: then(b.running(), lambda one: s.read_tape(one.task_id)),
    "read_quarantine": lambda s, b, u: s.read_quarantine(),
    "find_traced": lambda s, b, u: s.find_traced(TRACE),
    "read_traced": lambda s, b, u: then(b.waiting(), lambda task: s.read_traced([task.task_id])),
    "maintenance.audit": lambda s, b, u: s.maintenance.audit(),
    "maintenance.read_repairs": lambda s, b, u: s.maintenance.read_repairs(),
    "maintenance.prune, to see what would go": lambda s, b, u: s.maintenance.prune(
        older_than=0, dry_run=True
    ),
    "announce": lambda s, b, u: s.announce(),
    "create_within": create_within,
    "create": lambda s, b, u: s.create(NewTask(new_task_id(), "x")),
    "request_cancel": lambda s, b, u: then(
        b.waiting(), lambda task: s.request_cancel(task.task_id)
    ),
    "create_claimed": lambda s, b, u: s.create_claimed(NewTask(new_task_id(), "x"), "me", 30),
    "claim_if_pending": claim,
    "claim_due": claim_due,
    "append": lambda s, b, u: then(b.running(), lambda one: s.append(one, [NewEvent("log", 1)])),
    "append, with its trace": lambda s, b, u: then(
        traced(s, b), lambda one: s.append(one, [NewEvent("log", 1)])
    ),
    "append, to a task that is gone": lambda s, b, u: then(
        b.gone(), lambda one: s.append(one, [NewEvent("log", 1)])
    ),
    "finish_if_running": lambda s, b, u: then(
        b.running(), lambda one: s.finish_if_running(one, FinalEvent.succeeded())
    ),
    "retry_later": lambda s, b, u: then(
        b.running(), lambda one: s.retry_later(one, ErrorInfo("x", "y"), 1)
    ),
    "release": lambda s, b, u: then(b.running(), s.release),
    "probe": lambda s, b, u: s.probe(),
    "leases.extend": lambda s, b, u: then(b.running(), lambda one: s.leases.extend("me", 30)),
    "leases.rescue_expired": lambda s, b, u: then(
        b.running(), lambda one: s.leases.rescue_expired(dead_owners=["me"])
    ),
    "ops.register": lambda s, b, u: s.ops.register([KnownOp("x", 1.5, 2)]),
    "ops.read": lambda s, b, u: s.ops.read(),
    "ops.tell": lambda s, b, u: s.ops.tell("me", ["x"], 30),
    "ops.forget": lambda s, b, u: s.ops.forget("me"),
    "ops.pause": lambda s, b, u: s.ops.pause("still", by="me"),
    "ops.resume": lambda s, b, u: s.ops.resume("still"),
    "ops.list_paused": lambda s, b, u: s.ops.list_paused(),
    "ops.list_workers": lambda s, b, u: s.ops.list_workers(),
    "ops.drain": lambda s, b, u: then(told(b), s.ops.drain),
    "ops.undrain": lambda s, b, u: then(told(b), s.ops.undrain),
    "ops.find_drain": lambda s, b, u: s.ops.find_drain("another"),
    "engines.read_store_id": lambda s, b, u: s.engines.read_store_id(),
    "engines.find_unconfirmed": lambda s, b, u: s.engines.find_unconfirmed("elsewhere"),
    "engines.count_overdue": lambda s, b, u: s.engines.count_overdue("elsewhere", late=1),
    "engines.note_confirmed": lambda s, b, u: s.engines.note_confirmed([new_task_id()], again_in=1),
    "schedules.list": lambda s, b, u: s.schedules.list(),
    "schedules.list_due": list_due,
    "schedules.add_if_absent": lambda s, b, u: s.schedules.add_if_absent(SCHEDULE),
    "schedules.change_if_same": lambda s, b, u: then(
        scheduled(b), lambda one: s.schedules.change_if_same(one)
    ),
    "schedules.remove": lambda s, b, u: then(
        scheduled(b), lambda one: s.schedules.remove(one.name)
    ),
    "schedules.acquire_firing": lambda s, b, u: s.schedules.acquire_firing("me", 1, 30),
    "messages.send": lambda s, b, u: then(
        b.waiting(), lambda task: s.messages.send(task.task_id, 1)
    ),
    "messages.read": lambda s, b, u: then(b.waiting(), lambda task: s.messages.read(task.task_id)),
    "append, of a message that is taken": lambda s, b, u: then(sent(b), lambda one: s.append(*one)),
    "backlog.read": lambda s, b, u: then(b.waiting(), lambda task: s.backlog.read(max_age=0)),
    "backlog.recount": lambda s, b, u: s.backlog.recount(),
    "backlog.mend": lambda s, b, u: s.backlog.mend(by="me"),
    "leadership.acquire": lambda s, b, u: s.leadership.acquire("me", 30),
    "maintenance.prune": lambda s, b, u: then(
        run_task(b.owner, 1), lambda one: s.maintenance.prune(older_than=0)
    ),
    "maintenance.prune_quarantine": lambda s, b, u: then(
        late(b), lambda one: s.maintenance.prune_quarantine(older_than=0)
    ),
    "maintenance.repair": lambda s, b, u: then(
        b.damaged(), lambda task_id: s.maintenance.repair(task_id, by="me")
    ),
    "open, to migrate": open_to_migrate,
}


async def then(first: Awaitable[Any], second: Callable[[Any], Awaitable[object]]) -> object:
    """The second, with what the first gave."""
    return await second(await first)


async def traced(store: TaskStore, bench: Bench) -> Attempt:
    """An attempt that runs, and whose span is recorded."""
    attempt = await bench.running()
    store.attach_span(attempt, TRACE, None, "b2" * 8)
    return attempt


async def sent(bench: Bench) -> tuple[Attempt, list[NewEvent]]:
    """A message of an attempt that runs, which takes it."""
    attempt = await bench.running()
    await bench.owner.messages.send(attempt.task_id, 1)
    (message,) = (await bench.owner.messages.read(attempt.task_id)).messages
    return attempt, [MessageTaken(message, 1)]


async def late(bench: Bench) -> None:
    """A late event of a task that is gone."""
    await bench.owner.append(await bench.gone(), [NewEvent("log", 1)])


async def find_denial(tried: Awaitable[object]) -> str:
    """What the database said, where it denied something; another error is raised."""
    try:
        await tried
    except (TapescopeError, asyncpg.PostgresError) as error:
        if not any(denial in str(error) for denial in DENIALS):
            raise
        return str(error)
    return ""


@pytest.mark.parametrize("role", DatabaseRole)
async def test_role_may_call_what_the_page_says(house: House, role: DatabaseRole) -> None:
    """Each verb of the store is allowed or refused as it stands there."""
    denied: dict[str, str] = {}
    url = house.url_of(role)
    async with (
        PostgresStore(house.url_of(MIGRATOR)) as owner,
        PostgresStore(url, open_mode=OpenMode.EXISTING) as store,
    ):
        for verb, work in TRIED.items():
            if denial := await find_denial(work(store, Bench(house, owner), url)):
                denied[verb] = denial

    assert TRIED.keys() == VERBS.keys()
    assert denied.keys() == {verb for verb, allowed in VERBS.items() if role not in allowed}, denied


ATTACKS: Mapping[str, str] = {
    "add a task with a key of one's own choice": (
        "INSERT INTO tasks (id, task_id, op, created_at, run_at) OVERRIDING SYSTEM VALUE"
        " VALUES (1000000, gen_random_uuid(), 'x', 1, 1)"
    ),
    "change when a task is due": "UPDATE tasks SET run_at = 1 WHERE status = 'pending'",
    "delete a task, with its tape": "DELETE FROM tasks WHERE id = 1",
    "read the results of others": "SELECT body FROM events WHERE type = 'final'",
    "change a late event": "UPDATE quarantine SET ts = ts",
    "write to the repair log": (
        "INSERT INTO repairs (repaired_at, repaired_by, rule, task_id, was, done)"
        " VALUES (1, 'alice', 'missing_final', 'x', '{}', '{}')"
    ),
    "name another role as who cancelled": (
        "UPDATE tasks SET cancel_reason = 'user', cancel_message = '', cancel_by = 'ceo',"
        " cancel_role = 'ceo', cancel_requested_at = 1 WHERE status = 'pending'"
    ),
    "change the numbers of what waits": (
        "INSERT INTO backlog_moves (op, state, second, n) VALUES ('x', 'due', 0, -1)"
    ),
    "have tasks counted that are not there": (
        "CREATE TEMPORARY TABLE mine (LIKE tasks);"
        " CREATE TRIGGER mine AFTER INSERT ON mine REFERENCING NEW TABLE AS came"
        " FOR EACH STATEMENT EXECUTE FUNCTION count_moves()"
    ),
    "change the version of the schema": "INSERT INTO schema_version (version) VALUES (999)",
    "change which code may go on": "DELETE FROM schema_compatibility",
    "take a guard off": "ALTER TABLE events DISABLE TRIGGER ALL",
    "replace a function": (
        "CREATE OR REPLACE FUNCTION refuse(why text) RETURNS void LANGUAGE plpgsql AS 'BEGIN END'"
    ),
    "make a table in the schema": "CREATE TABLE mine (x integer)",
    "change an event": "UPDATE events SET body = '{}'",
    "change what a message says": "UPDATE messages SET body = '1'",
    "change the repair log": "UPDATE repairs SET repaired_by = 'alice'",
    "empty a table": "TRUNCATE tasks CASCADE",
    "make a schema": "CREATE SCHEMA mine",
}


@pytest.mark.parametrize("role", DatabaseRole)
async def test_role_can_do_in_sql_what_the_page_says(house: House, role: DatabaseRole) -> None:
    """What its grants do not hold, the guards do; each attempt is taken back."""
    denied: dict[str, str] = {}
    async with PostgresStore(house.url_of(MIGRATOR)) as owner:
        await run_task(owner, 1)
        waiting = await Bench(house, owner).waiting()
        await owner.messages.send(waiting.task_id, 1)
    async with session(house.url_of(role)) as raw:
        for attack, statement in ATTACKS.items():
            undone = raw.transaction()
            await undone.start()
            if denial := await find_denial(raw.execute(statement)):
                denied[attack] = denial
            await undone.rollback()

    assert ATTACKS.keys() == RAW.keys()
    assert denied.keys() == {attack for attack, able in RAW.items() if role not in able}, denied


async def test_a_submitter_submits_without_a_lane(house: House) -> None:
    """Many at once, each once, and workers hear; the same key again is the task that is there.

    No tape, no run.
    """
    url = house.url_of(SUBMITTER)
    async with (
        PostgresStore(house.url_of(MIGRATOR)) as owner,
        PostgresStore(url, open_mode=OpenMode.EXISTING) as store,
        TaskManager(store, work=False, audit_every=None) as manager,
    ):
        with owner.arrivals() as arrivals:
            await anext(arrivals)  # it listens
            handles = await asyncio.gather(*(manager.submit("x") for _ in range(5)))
            await asyncio.wait_for(anext(arrivals), 10)
        first = await manager.submit("x", params={"a": 1}, idempotency_key="k")
        again = await manager.submit("x", params={"a": 1}, idempotency_key="k")
        with pytest.raises(IdempotencyConflict):
            await manager.submit("x", params={"a": 2}, idempotency_key="k")
        with pytest.raises(StoreRefused, match="permission denied"):
            await manager.submit("x", bill)
        tasks = (await owner.list()).tasks

    assert (first.created, again.created, again.task_id) == (True, False, first.task_id)
    assert {task.task_id for task in tasks} == {first.task_id, *(one.task_id for one in handles)}
    assert all(one.created for one in handles)


async def test_a_submitter_keeps_to_a_bound(house: House) -> None:
    """The numbers that say so are for every role; a key that has a task gets it all the same."""
    async with (
        PostgresStore(house.url_of(MIGRATOR)) as owner,
        PostgresStore(house.url_of(SUBMITTER), open_mode=OpenMode.EXISTING) as store,
        TaskManager(store, work=False, audit_every=None) as manager,
    ):
        await owner.ops.register([KnownOp("x", max_waiting=2)])
        await owner.ops.tell("a", ["x"], 60, queues=["mail"])
        first = await manager.submit("x", idempotency_key="k")
        await manager.submit("x")
        with pytest.raises(OpFull):
            await manager.submit("x")
        again = await manager.submit("x", idempotency_key="k")

    assert (again.created, again.task_id) == (False, first.task_id)


@pytest.mark.parametrize("role", [READER, SUBMITTER])
async def test_a_worker_says_at_its_start_which_rights_it_lacks(
    house: House, role: DatabaseRole, tmp_path: Path
) -> None:
    """One line, and status 2; nothing was begun."""
    (tmp_path / "ops.py").write_text(OPS)
    url = house.url_of(role)
    tapescope = Tapescope(url, tmp_path)
    tapescope.folder = tmp_path
    done = await asyncio.to_thread(tapescope, "worker", "--app", "ops:manager", "--store", url)
    (line,) = done.stderr.decode().splitlines()

    assert done.returncode == 2
    assert "it lacks INSERT ON events, INSERT ON lanes, UPDATE ON lanes" in line
    assert "--print-grants worker" in line


async def test_tables_of_later_migrations_are_granted(house: House) -> None:
    """Until the grants are made again, who reads may read them, and who works may work on them."""
    async with session(house.url_of(MIGRATOR)) as raw:
        await raw.execute("CREATE TABLE later (x integer)")
        rights = {
            role: [
                right
                for right in ("SELECT", "INSERT", "UPDATE", "DELETE", "TRUNCATE")
                if await raw.fetchval(
                    "SELECT has_table_privilege($1, 'later', $2)", house.name(role), right
                )
            ]
            for role in GRANTED
        }
        await raw.execute(house.grants_of(WORKER))
        tightened = await raw.fetchval(
            "SELECT has_table_privilege($1, 'later', 'SELECT')", house.name(WORKER)
        )

    assert rights == {
        READER: ["SELECT"],
        SUBMITTER: [],
        WORKER: ["SELECT", "INSERT", "UPDATE", "DELETE"],
    }
    assert not tightened


@pytest.mark.slow
@pytest.mark.parametrize("role", GRANTED)
async def test_each_right_is_needed(house: House, role: DatabaseRole) -> None:
    """Each right is taken away in turn, and some verb of the role misses it."""
    url, name = house.url_of(role), house.name(role)
    needless: list[str] = []
    async with (
        PostgresStore(house.url_of(MIGRATOR)) as owner,
        PostgresStore(url, open_mode=OpenMode.EXISTING) as store,
        session(house.url_of(MIGRATOR)) as raw,
    ):
        bench = Bench(house, owner)
        for table, rights in RIGHTS[role].items():
            for right in chain.from_iterable(map(take_apart, rights)):
                await raw.execute(f"REVOKE {right} ON {table} FROM {name}")
                for verb, allowed in VERBS.items():
                    if role in allowed and await find_denial(TRIED[verb](store, bench, url)):
                        break
                else:
                    needless.append(f"{right} ON {table}")
                await raw.execute(f"GRANT {right} ON {table} TO {name}")

    assert needless == []


def take_apart(right: str) -> list[str]:
    """The right on each column, where it is one on some."""
    verb, bracket, columns = right.strip(")").partition(" (")
    return [f"{verb} ({column})" for column in columns.split(", ")] if bracket else [verb]


RUN: Mapping[str, tuple[str, ...]] = {
    "list": ("list",),
    "stats": ("stats",),
    "exporter": ("exporter", "--port", "0"),
    "migrate --check": ("migrate", "--check"),
    "show": ("show", "{ended}"),
    "tape": ("tape", "{ended}"),
    "trace": ("trace", TRACE),
    "drops": ("drops",),
    "audit": ("audit",),
    "prune --dry-run": ("prune", "--older-than", "0s", "--dry-run"),
    "submit": ("submit", "x"),
    "schedule list": ("schedule", "list"),
    "schedule add": ("schedule", "add", "new", "x", "--every", "1h"),
    "schedule pause": ("schedule", "pause", "nightly"),
    "schedule trigger": ("schedule", "trigger", "nightly"),
    "schedule remove": ("schedule", "remove", "nightly"),
    "pause": ("pause", "still"),
    "resume": ("resume", "still"),
    "workers": ("workers",),
    "workers drain": ("workers", "drain", "another"),
    "workers undrain": ("workers", "undrain", "another"),
    "send": ("send", "{waiting}", "1"),
    "messages": ("messages", "{waiting}"),
    "engine reconcile --dry-run": (
        *("engine", "reconcile", "--dry-run"),
        *("--engine", "temporal://localhost:7233"),
    ),
    "cancel": ("cancel", "{waiting}"),
    "retry": ("retry", "{ended}"),
    "run": ("run", "--", "true"),
    "worker": ("worker", "--app", "ops:manager", "--drain", "0"),
    "drill": ("drill", "failure-burst", "--hold", "0", "--on-real-store"),
    "prune": ("prune", "--older-than", "0s", "--yes"),
    "audit --dry-run": ("audit", "--dry-run"),
    "audit --repair": ("audit", "--repair"),
    "migrate": ("migrate",),
}
OPS = """
import os

from tapescope import TaskManager, find_store

manager = TaskManager(find_store(os.environ["TAPESCOPE_STORE"]))


@manager.op("of_the_worker")
async def work(report):
    return 1
"""


@pytest.mark.slow
@pytest.mark.parametrize("role", DatabaseRole)
async def test_role_may_run_what_the_page_says(
    house: House, role: DatabaseRole, tmp_path: Path
) -> None:
    """Each command is allowed, or refused in one line, as it stands there."""
    denied: dict[str, str] = {}
    tapescope = Tapescope(house.url_of(role), tmp_path)
    tapescope.folder = tmp_path
    (tmp_path / "ops.py").write_text(OPS)
    async with PostgresStore(house.url_of(MIGRATOR)) as owner:
        bench = Bench(house, owner)
        for command, arguments in RUN.items():
            if command.startswith("audit -"):
                await bench.damaged()
            if command.startswith("schedule"):
                await scheduled(bench)
            if command.startswith("workers"):
                await told(bench)
            names = {"ended": await run_task(owner, 1), "waiting": (await bench.waiting()).task_id}
            filled = [word.format(**names) for word in arguments]
            if command == "worker":
                said = await run_worker(tapescope, owner, filled)
            elif command == "exporter":
                said = await run_exporter(tapescope, filled)
            elif command == "migrate":
                async with older_schema(house):
                    said = (await asyncio.to_thread(tapescope, *filled)).stderr.decode()
            else:
                said = (await asyncio.to_thread(tapescope, *filled)).stderr.decode()
            if any(denial in said for denial in DENIALS):
                denied[command] = said

    assert RUN.keys() == COMMANDS.keys()
    refused = {command for command, allowed in COMMANDS.items() if role not in allowed}
    assert denied.keys() == refused, denied


async def run_worker(tapescope: Tapescope, owner: TaskStore, arguments: Sequence[str]) -> str:
    """Until it has run a task, or the database denies it something; gives what it said."""
    task, _ = await owner.create(NewTask(new_task_id(), "of_the_worker"))
    with tapescope.started(*arguments, "--store", tapescope.env["TAPESCOPE_STORE"]) as worker:
        assert worker.stderr is not None
        told = asyncio.create_task(asyncio.to_thread(read_to_denial, worker.stderr))

        async def has_ended() -> bool:
            return told.done() or (await owner.get(task.task_id)).status is TaskStatus.SUCCEEDED

        try:
            await until(has_ended, within=30.0)
        finally:  # where it did not: with what it said, and where its task stands
            worker.terminate()
            said = await told
            print(said, await owner.get(task.task_id))
        return said


async def run_exporter(tapescope: Tapescope, arguments: Sequence[str]) -> str:
    """Until it has read the store, or says why it cannot; gives what it said."""
    store = tapescope.env["TAPESCOPE_STORE"]
    with tapescope.started(*arguments, "--store", store) as exporter:
        assert exporter.stderr is not None
        line = await asyncio.to_thread(exporter.stderr.readline)
        url = line.split()[-1].decode()
        said = ""

        async def has_read() -> bool:
            nonlocal said
            ready = await asyncio.to_thread(fetch, f"{url}/readyz?verbose")
            said = ready.text
            return ready.status == 200 or any(denial in said for denial in DENIALS)

        assert await until(has_read)
        exporter.terminate()
        return said


def read_to_denial(stream: IO[bytes]) -> str:
    """What it says up to there, or to its end."""
    said = ""
    for line in stream:
        said += line.decode()
        if any(denial in said for denial in DENIALS):
            break
    return said

"""Every await of the product, as its sources have them, and those that no scenario can reach.

An await is reached when a task was suspended there.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Final, NamedTuple

from tests.cancels.steps import Site

__all__ = ["Await", "compare", "describe", "find_awaits"]

_ROOT: Final = Path(__file__).parents[2]


class Await(NamedTuple):
    """An ``await``, ``async for`` or ``async with``, and the function that it stands in."""

    file: str
    function: str
    first: int
    last: int
    """Its lines; of ``async for`` and ``async with``, those before the body."""
    awaited: str
    """What it awaits, as the source has it."""

    def __str__(self) -> str:
        return f"{self.file}:{self.first} {self.function}"

    @property
    def excused(self) -> str | None:
        """Why no scenario reaches it; ``None``: one must."""
        for place, reason in _UNREACHED.items():
            file, _, rest = place.partition(":")
            function, _, awaited = rest.partition(" ")
            here = file in self.file and self.function.startswith(function)
            if here and self.awaited.startswith(awaited):
                return reason
        return None

    def holds(self, site: Site) -> bool:
        """Whether this line is one of its lines."""
        return site.file == self.file and self.first <= site.line <= self.last


_FOLDERS: Final = {
    "memory": tuple(f"platform/tapescope/{room}" for room in ("manager", "run", "store")),
    "sqlite": ("adapters/tapescope_adapters/sqlite",),
    "postgresql": ("adapters/tapescope_adapters/postgres",),
}


def compare(kind: str, sites: set[Site]) -> tuple[list[Await], list[Await]]:
    """The awaits that were reached on a kind of store, and those that were not.

    Those of the platform are looked for on the memory, where each call of the backend waits; those
    of an adapter on its own store.
    """
    every = [one for folder in _FOLDERS[kind] for one in find_awaits(folder)]
    reached = [one for one in every if any(one.holds(site) for site in sites)]
    return reached, [one for one in every if one not in reached]


def describe(kind: str, reached: list[Await], missed: list[Await]) -> str:
    """How many were reached, and each that was not, with its excuse."""
    lines = [f"{kind}: {len(reached)} of {len(reached) + len(missed)} awaits reached"]
    lines += [f"  {one}: {one.excused or 'NOT REACHED'}" for one in missed]
    return "\n".join(lines)


@cache
def find_awaits(folder: str) -> tuple[Await, ...]:
    """All of the modules below ``folder``, itself below the tree's root."""
    found = [
        one
        for path in sorted((_ROOT / folder).rglob("*.py"))
        for one in _walk(ast.parse(path.read_text()), path.relative_to(_ROOT).as_posix(), ())
    ]
    return tuple(dict.fromkeys(found))


def _walk(node: ast.AST, file: str, scope: tuple[str, ...]) -> Iterator[Await]:
    if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
        scope = (*scope, node.name)
    if isinstance(node, ast.Await):
        last, awaited = node.end_lineno or node.lineno, ast.unparse(node.value)
        yield Await(file, ".".join(scope), node.lineno, last, awaited)
    elif isinstance(node, ast.AsyncFor | ast.AsyncWith):
        last = max(node.lineno, node.body[0].lineno - 1)
        entered = node.iter if isinstance(node, ast.AsyncFor) else node.items[0].context_expr
        yield Await(file, ".".join(scope), node.lineno, last, ast.unparse(entered))
    elif isinstance(node, ast.comprehension) and node.is_async:
        last, awaited = node.iter.end_lineno or node.iter.lineno, ast.unparse(node.iter)
        yield Await(file, ".".join(scope), node.target.lineno, last, awaited)
    for child in ast.iter_child_nodes(node):
        yield from _walk(child, file, scope)


_CARE: Final = "the care of a store, which is no part of a task's life"
_SCHEDULES: Final = "a schedule, which is not a task: its firing is made again, by the same key"
_THREAD: Final = "there is a thread, which the memory has none of, or a loop of its own in one"
_CALLERS: Final = "in a transaction or a pool of the caller's"
_AT_ONCE: Final = "it enters a time limit or a wait, or closes what is idle: nothing waits"
_ENDED: Final = "it asks for the answer of what has ended: nothing waits"
_LONG: Final = "after a wait that no scenario is long enough for"
_OTHER: Final = "another way into what is reached from here as well"
_SHARED: Final = "what the memory never does: it is no other process's, and never hangs"
_TROUBLE: Final = "trouble that no act makes: lost connections, blocked rows, full queues, defects"
_TO_READ: Final = "a store that is opened to be read alone, looked at, or migrated"
_IN_MEMORY: Final = "a database of SQLite's in memory, of which no other process could be the judge"
_MOVED: Final = "while a log of megabytes is moved"
_EXPORTS: Final = "in an exporter, which runs no task"
_ADDS: Final = "for a role that may add tasks, and no more"
_IN_DOUBT: Final = "after ten seconds in doubt: on the memory alone, whose time is virtual"
_REFUSED_AGAIN: Final = "refused when it is sent again: two troubles, and a scenario has one"
_LOST_RESCUE: Final = "after a rescue whose reply was lost: a scenario loses that of a flush"
_DOUBTED: Final = "a minute after the database told its time, or when a clock is set"

_ENGINE: Final = "for what an engine brings: it has tests of its own, with a real server's kills"

_UNREACHED: Final[dict[str, str]] = {
    "manager/manager.py:TaskManager._leave_closed": _TROUBLE,
    "run/inbox.py:Inbox.take asyncio.timeout": _AT_ONCE,
    "run/inbox.py:Inbox.take_in_thread": _THREAD,
    "run/reporter.py:Reporter.message self._in_loop": _THREAD,
    "run/resources.py:_Held.close self._ended": "a resource that does not close",
    "manager/desk.py:": _ENGINE,
    "manager/manager.py:TaskManager._open_engine": _ENGINE,
    "manager/manager.py:TaskManager._reach_engine": _ENGINE,
    "manager/manager.py:TaskManager.announce self.store.get": _ENGINE,
    "store/engines.py:": _ENGINE,
    "store/maintenance.py:": _CARE,
    "store/leadership.py:": _CARE,
    "store/schedules.py:": _SCHEDULES,
    "manager/schedules.py:": _SCHEDULES,
    "manager/declared_schedules.py:": _SCHEDULES,
    "manager/manager.py:TaskManager._trigger": _SCHEDULES,
    "manager/manager.py:TaskManager._fire": _SCHEDULES,
    "manager/manager.py:TaskManager._make_scheduled": _SCHEDULES,
    "manager/manager.py:TaskManager._declare_schedules": _SCHEDULES,
    "manager/manager.py:TaskManager._tell_schedules": _SCHEDULES,
    "/_leadership.py:": _CARE,
    "/_maintenance.py:": _CARE,
    "/_repair.py:": _CARE,
    "/_schema.py:": _TO_READ,
    "/_lease_renewer.py:": _THREAD,
    "/_caller_": _CALLERS,
    "manager/lease_thread.py:": _THREAD,
    "manager/heartbeat.py:Heartbeat._end": _THREAD,
    "run/reporter.py:Reporter.emit_nowait.send": _THREAD,
    "run/run.py:Run._call_runner": _THREAD,
    "manager/handle.py:TaskHandle._await_final": _AT_ONCE,
    "manager/handle.py:TaskHandle._say_why": _AT_ONCE,
    "manager/handle.py:TaskHandle.result": _AT_ONCE,
    "manager/known_ops.py:KnownOps.find": _AT_ONCE,
    "manager/manager.py:TaskManager._check_rights": _TROUBLE,
    "manager/manager.py:TaskManager._end_life": _AT_ONCE,
    "manager/manager.py:TaskManager.aclose await_child(closer)": _ENDED,
    "manager/manager.py:TaskManager.submit_many await_child(submit)": _ENDED,
    "manager/manager.py:TaskManager.audit": _CARE,
    "manager/manager.py:TaskManager._submit": f"{_DOUBTED}; or {_CALLERS}",
    "manager/manager.py:TaskManager.open": _OTHER,
    "manager/manager.py:TaskManager.__a": _OTHER,
    "manager/backlog_reader.py:BacklogReader._run self._sizes": _EXPORTS,
    "manager/lent_slots.py:LentSlots.waiting": _AT_ONCE,
    "manager/pool.py:RunPool.awaiting": _AT_ONCE,
    "manager/worker.py:Worker._end": _AT_ONCE,
    "manager/worker.py:Worker._work": _AT_ONCE,
    "run/run.py:Run._find_run_before": _AT_ONCE,
    "store/_claims.py:DueClaims.claim await_child(leaving)": _ENDED,
    "store/_claims.py:DueClaims._claim_in_slot": _AT_ONCE,
    "store/_group_commit.py:GroupCommit._commit": _TROUBLE,
    "store/_group_commit.py:GroupCommit._drain_blocked": _TROUBLE,
    "store/_group_commit.py:GroupCommit._write": _AT_ONCE,
    "store/_group_commit.py:GroupCommit.make_room": _TROUBLE,
    "store/_orphans.py:Orphans._cancel": _TROUBLE,
    "store/_watch.py:CommitWatch.tell_owners": _SHARED,
    "store/backlog.py:StoreBacklog.recount": _CARE,
    "store/backlog.py:StoreBacklog.audit": _CARE,
    "store/backlog.py:StoreBacklog.mend": _CARE,
    "store/core.py:StoreCore.within": _SHARED,
    "store/port.py:TaskStore.__a": _OTHER,
    "store/port.py:TaskStore.append": _TROUBLE,
    "store/port.py:TaskStore.create_within": _CALLERS,
    **{
        f"/_backend.py:{backend}.{primitive}": reason
        for backend in ("SqliteBackend", "PostgresBackend")
        for primitive, reason in {
            **dict.fromkeys(("audit", "find_damage", "repair", "read_repairs"), _CARE),
            **dict.fromkeys(("recount_backlog", "mend_backlog"), _CARE),
            **dict.fromkeys(("pause_op", "resume_op", "list_pauses"), _CARE),
            **dict.fromkeys(("list_workers", "drain_worker", "undrain_worker"), _CARE),
            **dict.fromkeys(("add_schedule", "change_schedule", "remove_schedule"), _SCHEDULES),
            **dict.fromkeys(("get_schedule", "list_schedules", "list_due_schedules"), _SCHEDULES),
            **dict.fromkeys(("next_schedule", "acquire_firing", "resign_firing"), _SCHEDULES),
            **dict.fromkeys(("due_tasks", "due_drops", "delete_", "find_open"), _CARE),
            **dict.fromkeys(("acquire_", "record_job", "resign_"), _CARE),
            **dict.fromkeys(("read_store_id", "find_unconfirmed"), _ENGINE),
            **dict.fromkeys(("note_confirmed", "count_overdue"), _ENGINE),
            "create_within": _CALLERS,
            "extend_leases": _THREAD,
            "schema_versions": _TO_READ,
        }.items()
    },
    "postgres/_leases.py:extend_leases": _THREAD,
    "postgres/_leases.py:Rescues.rescue self._learn": _LOST_RESCUE,
    "postgres/_leases.py:Rescues._learn": _LOST_RESCUE,
    "postgres/_listener.py:": _TROUBLE,
    "postgres/_connection.py:": _TROUBLE,
    "postgres/_backlog.py:mend": _CARE,
    "postgres/_backend.py:PostgresBackend._add": _ADDS,
    "postgres/_backend.py:PostgresBackend.write self._add": _ADDS,
    "postgres/_backend.py:PostgresBackend.write lane.fence": _REFUSED_AGAIN,
    "postgres/_backend.py:PostgresBackend.close self._adding.aclose": _ADDS,
    "postgres/_backend.py:PostgresBackend.open self._shared.give": _AT_ONCE,
    "postgres/_backend.py:PostgresBackend._fold_moves asyncio.timeout": _AT_ONCE,
    "postgres/_backend.py:PostgresBackend.settle": _IN_DOUBT,
    "sqlite/_backend.py:SqliteBackend._changing": _IN_MEMORY,
    "sqlite/_backend.py:SqliteBackend._check_unchanged": _TO_READ,
    "sqlite/_backend.py:SqliteBackend._reading": _TO_READ,
    "sqlite/_backend.py:SqliteBackend._open_to_read": _TO_READ,
    "sqlite/_backend.py:SqliteBackend._connect_to_read": _TO_READ,
    "sqlite/_backend.py:SqliteBackend._move_wal": _LONG,
    "sqlite/_backend.py:SqliteBackend.read_backlog": _LONG,
    "sqlite/_backend.py:SqliteBackend.fold_backlog": _LONG,
    "sqlite/_backend.py:SqliteBackend.watch": _TROUBLE,
    "sqlite/_backend.py:SqliteBackend.open": "a file that cannot be set up",
    "sqlite/_backend.py:SqliteBackend.close": _MOVED,
    "sqlite/_backend.py:SqliteBackend.write": _MOVED,
    "sqlite/_connection.py:Connection.ended": _TROUBLE,
    "sqlite/_connection.py:connect": _TROUBLE,
    "sqlite/_backend.py:SqliteBackend._shrink": _CARE,
}
"""By a part of the file's name, the beginning of the function's and, after a blank, that of what it
awaits: why no scenario reaches it."""

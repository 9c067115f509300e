"""Which role of a PostgreSQL database may do what: the page of it, and what its tests go by.

``make docs`` writes the page. The tests run each verb and each command as each role, and what a
role must not do, and find them allowed or refused as it stands here.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Final

from tapescope import find_store
from tapescope.store import DatabaseRole

__all__ = ["COMMANDS", "RAW", "VERBS", "make_roles_page"]

READER, SUBMITTER, WORKER, MIGRATOR = DatabaseRole
_TASKS: Final = (READER, SUBMITTER, WORKER, MIGRATOR)
_LOOK: Final = (READER, WORKER, MIGRATOR)
_WORK: Final = (WORKER, MIGRATOR)

VERBS: Final[Mapping[str, tuple[DatabaseRole, ...]]] = {
    "open": _TASKS,
    "open, beside a newer schema": _TASKS,
    "get": _TASKS,
    "list": _TASKS,
    "list, by a tag": _TASKS,
    "count": _TASKS,
    "announce": _TASKS,
    "read_tape": _LOOK,
    "read_quarantine": _LOOK,
    "find_traced": _LOOK,
    "read_traced": _LOOK,
    "maintenance.audit": _LOOK,
    "maintenance.read_repairs": _LOOK,
    "maintenance.prune, to see what would go": _LOOK,
    "create_within": (SUBMITTER, WORKER, MIGRATOR),
    "create": (SUBMITTER, WORKER, MIGRATOR),
    "request_cancel": _WORK,
    "create_claimed": _WORK,
    "claim_if_pending": _WORK,
    "claim_due": _WORK,
    "append": _WORK,
    "append, with its trace": _WORK,
    "append, to a task that is gone": _WORK,
    "finish_if_running": _WORK,
    "retry_later": _WORK,
    "release": _WORK,
    "probe": _WORK,
    "leases.extend": _WORK,
    "leases.rescue_expired": _WORK,
    "ops.register": _WORK,
    "ops.read": (SUBMITTER, WORKER, MIGRATOR),
    "ops.tell": _WORK,
    "ops.forget": _WORK,
    "ops.pause": _WORK,
    "ops.resume": _WORK,
    "ops.list_paused": _TASKS,
    "ops.list_workers": _LOOK,
    "ops.drain": _WORK,
    "ops.undrain": _WORK,
    "ops.find_drain": _LOOK,
    "engines.read_store_id": _TASKS,
    "engines.find_unconfirmed": _TASKS,
    "engines.count_overdue": _TASKS,
    "engines.note_confirmed": _WORK,
    "schedules.list": _TASKS,
    "schedules.list_due": _TASKS,
    "schedules.add_if_absent": _WORK,
    "schedules.change_if_same": _WORK,
    "schedules.remove": _WORK,
    "schedules.acquire_firing": _WORK,
    "messages.send": _WORK,
    "messages.read": _LOOK,
    "append, of a message that is taken": _WORK,
    "backlog.read": _TASKS,
    "backlog.recount": _TASKS,
    "backlog.mend": (MIGRATOR,),
    "leadership.acquire": _WORK,
    "maintenance.prune": _WORK,
    "maintenance.prune_quarantine": _WORK,
    "maintenance.repair": (MIGRATOR,),
    "open, to migrate": (MIGRATOR,),
}
"""The verbs of ``TaskStore``, by who may call them."""

COMMANDS: Final[Mapping[str, tuple[DatabaseRole, ...]]] = {
    "list": _TASKS,
    "stats": _TASKS,
    "exporter": _TASKS,
    "migrate --check": _TASKS,
    "schedule list": _TASKS,
    "show": _LOOK,
    "tape": _LOOK,
    "trace": _LOOK,
    "drops": _LOOK,
    "audit": _LOOK,
    "prune --dry-run": _LOOK,
    "submit": (SUBMITTER, WORKER, MIGRATOR),
    "schedule add": _WORK,
    "schedule pause": _WORK,
    "schedule trigger": (SUBMITTER, WORKER, MIGRATOR),
    "schedule remove": _WORK,
    "pause": _WORK,
    "resume": _WORK,
    "workers": _LOOK,
    "workers drain": _WORK,
    "workers undrain": _WORK,
    "send": _WORK,
    "messages": _LOOK,
    "engine reconcile --dry-run": _TASKS,
    "cancel": _WORK,
    "retry": (SUBMITTER, WORKER, MIGRATOR),
    "run": _WORK,
    "worker": _WORK,
    "drill": _WORK,
    "prune": _WORK,
    "audit --dry-run": (MIGRATOR,),
    "audit --repair": (MIGRATOR,),
    "migrate": (MIGRATOR,),
}
"""The commands that open a store which others share, by who may run them."""

RAW: Final[Mapping[str, tuple[DatabaseRole, ...]]] = {
    "add a task with a key of one's own choice": (WORKER, MIGRATOR),
    "change when a task is due": (WORKER, MIGRATOR),
    "delete a task, with its tape": (WORKER, MIGRATOR),
    "read the results of others": (READER, WORKER, MIGRATOR),
    "change a late event": (MIGRATOR,),
    "write to the repair log": (MIGRATOR,),
    "name another role as who cancelled": (),
    "change the numbers of what waits": (MIGRATOR,),
    "have tasks counted that are not there": (MIGRATOR,),
    "change the version of the schema": (MIGRATOR,),
    "change which code may go on": (MIGRATOR,),
    "take a guard off": (MIGRATOR,),
    "replace a function": (MIGRATOR,),
    "make a table in the schema": (MIGRATOR,),
    "change an event": (),
    "change what a message says": (),
    "change the repair log": (),
    "empty a table": (),
    "make a schema": (),
}
"""What SQL past tapescope can do, by whose role can."""

_HEAD: Final = """\
# Roles of a PostgreSQL database

<!-- Made by `make docs` from docs/roles.py: change it there. -->

The roles of the database are the border between those who share a store.
`tapescope migrate --print-grants` prints what a role needs, and no more. Tests run each verb and
each command below as each role, and take each right away in turn, which some verb has to miss.
[How to run on PostgreSQL](../howto/postgres.md#roles) says how to use the roles, and what the
border does not hold.
"""


def make_roles_page() -> str:
    """The text of the page."""
    return "\n".join(
        [
            _HEAD,
            "## Commands\n",
            *_tabulate("command", {f"`{name}`": roles for name, roles in COMMANDS.items()}),
            "\n`completion`, `demo` and `spool` open no store that others share.\n",
            "## Verbs of `TaskStore`\n",
            *_tabulate("verb", {_quote(name): roles for name, roles in VERBS.items()}),
            "\n## SQL past tapescope\n",
            "The guards hold the invariants against every role; but the migrator owns them.\n",
            *_tabulate("what", RAW),
            "\n## The grants\n",
            *(_show_grants(role) for role in DatabaseRole),
        ]
    )


def _tabulate(head: str, rows: Mapping[str, tuple[DatabaseRole, ...]]) -> Iterator[str]:
    yield f"| {head} | {' | '.join(DatabaseRole)} |"
    yield "|---|" + "---|" * len(DatabaseRole)
    for name, roles in rows.items():
        marks = ("yes" if role in roles else "" for role in DatabaseRole)
        yield f"| {name} | {' | '.join(marks)} |"


def _quote(verb: str) -> str:
    name, comma, rest = verb.partition(",")
    return f"`{name}`{comma}{rest}"


def _show_grants(role: DatabaseRole) -> str:
    store = find_store("postgresql:///tasks")
    return f"```sql\n{store.maintenance.describe_grants(role)}```\n"

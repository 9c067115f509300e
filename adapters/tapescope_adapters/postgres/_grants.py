"""What each kind of role needs in the schema of a store (docs/decisions/0036)."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

from tapescope.store import DatabaseRole

__all__ = ["RIGHTS", "describe_grants"]

_SUBMITTED: Final = (
    "task_id, op, params, timeout_s, retries, idempotency_key, traceparent, run_at, created_at, "
    "priority, tags, parent_id, cancel_with_parent, unique_key, concurrency_key, parked_at, "
    "engine, queue, expires_in"
)
"""The columns that ``create_within`` fills in: never the key that the database gives."""

_VERSIONS: Final = {"schema_version": ("SELECT",), "schema_compatibility": ("SELECT",)}

RIGHTS: Final[Mapping[DatabaseRole, Mapping[str, tuple[str, ...]]]] = MappingProxyType(
    {
        DatabaseRole.READER: _VERSIONS
        | dict.fromkeys(
            (
                "tasks",
                "tagged",
                "events",
                "quarantine",
                "drop_counts",
                "repairs",
                "attempts_traced",
                "messages",
                "schedules",
                "pauses",
                "workers",
            ),
            ("SELECT",),
        ),
        DatabaseRole.SUBMITTER: _VERSIONS
        | {
            "tasks": ("SELECT", f"INSERT ({_SUBMITTED})"),
            "tagged": ("SELECT",),
            "ops": ("SELECT",),
            "schedules": ("SELECT",),
            "pauses": ("SELECT",),
        },
        DatabaseRole.WORKER: _VERSIONS
        | {
            "tasks": ("SELECT", "INSERT", "UPDATE", "DELETE"),
            "tagged": ("SELECT",),
            "events": ("SELECT", "INSERT", "DELETE"),
            "quarantine": ("SELECT", "INSERT", "DELETE"),
            "drop_counts": ("SELECT", "INSERT", "UPDATE", "DELETE"),
            "attempts_traced": ("SELECT", "INSERT"),
            "messages": ("SELECT", "INSERT", "UPDATE"),
            "lanes": ("SELECT", "INSERT", "UPDATE", "DELETE"),
            "ops": ("SELECT", "INSERT", "UPDATE"),
            "workers": ("SELECT", "INSERT", "UPDATE", "DELETE"),
            "schedules": ("SELECT", "INSERT", "UPDATE", "DELETE"),
            "pauses": ("SELECT", "INSERT", "UPDATE", "DELETE"),
            "limits": ("SELECT", "INSERT", "UPDATE", "DELETE"),
            "limit_looks": ("SELECT", "INSERT", "UPDATE", "DELETE"),
            "limit_starts": ("SELECT", "UPDATE", "DELETE"),
            "repairs": ("SELECT",),
            "maintenance": ("SELECT", "UPDATE"),
        },
    }
)
"""By role and table. The migrator owns the schema, and so all that is in it.

The numbers of what waits are in nobody's hands: triggers and functions of the migrator keep them
and tell them (docs/decisions/0052).

A worker's rights are those of whole tables: the functions of a later migration may fill in columns
that older workers know nothing of, and go on in their hands.
"""
_LATER: Final = {
    DatabaseRole.READER: "SELECT",
    DatabaseRole.WORKER: "SELECT, INSERT, UPDATE, DELETE",
}
"""On the tables of later migrations, until these grants are made again."""

_MIGRATOR: Final = """\
-- For the role {grantee}, as which 'tapescope migrate' then connects. Run this
-- before it does so for the first time, as a superuser, or as a role with CREATE on the
-- database that is a member of that role.
CREATE SCHEMA {schema} AUTHORIZATION {grantee};
"""
_HEAD: Final = """\
-- For the role {grantee}. Run this as the owner of the schema, after each
-- 'tapescope migrate': what the role has is taken back first, in one transaction.
BEGIN;
REVOKE ALL ON ALL TABLES IN SCHEMA {schema} FROM {grantee};
REVOKE ALL ON SCHEMA {schema} FROM {grantee};
GRANT USAGE ON SCHEMA {schema} TO {grantee};
"""


def describe_grants(role: DatabaseRole, schema: str, grantee: str) -> str:
    """SQL that gives the role ``grantee`` what it needs, and no more."""
    names = {"schema": _quote(schema), "grantee": _quote(grantee)}
    if role is DatabaseRole.MIGRATOR:
        return _MIGRATOR.format(**names)
    lines = [
        f"GRANT {', '.join(rights)} ON {names['schema']}.{table} TO {names['grantee']};\n"
        for table, rights in RIGHTS[role].items()
    ]
    if later := _LATER.get(role):
        lines.append(
            f"ALTER DEFAULT PRIVILEGES IN SCHEMA {names['schema']}\n"
            f"    GRANT {later} ON TABLES TO {names['grantee']};\n"
        )
    return "".join([_HEAD.format(**names), *lines, "COMMIT;\n"])


def _quote(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'

"""What kinds of database role a store has, where its database has roles."""

from __future__ import annotations

from enum import StrEnum

__all__ = ["DatabaseRole"]


class DatabaseRole(StrEnum):
    """What a role of the database may do with a store. What each needs, the backend says."""

    READER = "reader"
    """Looks at every task and tape, and changes nothing."""
    SUBMITTER = "submitter"
    """Adds tasks in transactions of its own, and sees the tasks that are there."""
    WORKER = "worker"
    """Does all that managers, workers and the command line do, save for what is the migrator's."""
    MIGRATOR = "migrator"
    """Owns the schema: makes and upgrades it, and repairs."""

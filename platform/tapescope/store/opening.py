"""What opening a store may do to its database: one rule for every backend.

Looking changes nothing: who only reads opens with ``OpenMode.READ`` (docs/decisions/0025).
"""

from __future__ import annotations

from enum import StrEnum

from tapescope.errors import BadSetting, SchemaTooNew, SchemaTooOld, StoreNotFound
from tapescope.store.orders import SchemaVersions

__all__ = ["OpenMode", "must_migrate"]


class OpenMode(StrEnum):
    """What ``TaskStore.open`` may do. Each mode may do all that the ones before it may."""

    READ = "read"
    """Read what is there. Nothing is written, not even a file beside the database's; a verb that
    would write raises ``StoreReadOnly``. It is enough that this user, or this role, may read."""
    EXISTING = "existing"
    """Read and write a store that is there. It is never made."""
    CREATE = "create"
    """Make the store where there is none. An older schema is not migrated."""
    MIGRATE_ALONE = "migrate-alone"
    """Migrate an older schema too, if no other process has the store open. A database of which
    that cannot be known is not migrated."""
    MIGRATE = "migrate"
    """Migrate an older schema, whoever else has the store open."""

    @property
    def may_write(self) -> bool:
        """Whether the open store takes verbs that write."""
        return self is not OpenMode.READ

    @property
    def may_create(self) -> bool:
        """Whether a store is made where there is none."""
        return self not in (OpenMode.READ, OpenMode.EXISTING)

    @classmethod
    def checked(cls, value: str) -> OpenMode:
        """The mode of this name. Raises ``BadSetting``."""
        try:
            return cls(value)
        except ValueError:
            names = ", ".join(mode.value for mode in cls)
            raise BadSetting("open_mode", value, f"one of {names}") from None


def must_migrate(mode: OpenMode, versions: SchemaVersions, name: str) -> bool:
    """Whether a backend has to make or migrate the schema before it goes on opening.

    To be asked before anything is changed. ``name`` is the store's, for the errors. In the mode
    ``MIGRATE_ALONE`` an older schema is the backend's to migrate if it can keep every other
    process out meanwhile; else it raises ``SchemaTooOld`` itself. Raises ``StoreNotFound``,
    ``SchemaTooNew`` and ``SchemaTooOld``.
    """
    if not versions.found:
        if not mode.may_create:
            raise StoreNotFound(name)
        return True
    if not versions.compatible:
        raise SchemaTooNew(versions.found, versions.known)
    if versions.found >= versions.known:
        return False
    if mode not in (OpenMode.MIGRATE_ALONE, OpenMode.MIGRATE):
        raise SchemaTooOld(versions.found, versions.known, name)
    return True

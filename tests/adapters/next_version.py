"""A made-up next version of tapescope: the ``.sql`` files of this one, and a migration more."""

from __future__ import annotations

import shutil
from collections.abc import Generator
from contextlib import contextmanager
from importlib.resources import files
from pathlib import Path

import pytest

from tapescope_adapters.postgres import _schema as postgres_schema
from tapescope_adapters.sqlite import _schema as sqlite_schema

__all__ = ["EDITION", "NextVersion", "migrating"]

EDITION = "second edition"
"""What the next version's text of a function or a trigger has, and this one's has not."""

_TRIGGER = f"""\
DROP TRIGGER events_never_change;
CREATE TRIGGER events_never_change BEFORE UPDATE ON events
BEGIN
    SELECT RAISE(ABORT, 'tapescope I4: an event never changes ({EDITION})');
END;
"""


def migrating(url: str) -> str:
    """The URL of the same store, opened by who may migrate it."""
    return f"{url}{'&' if '?' in url else '?'}open_mode=migrate"


class NextVersion:
    """The adapters as they will be, in a folder: for this process, or for another one."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        """What a process of the next version has on its ``PYTHONPATH``."""
        self._package = folder / "tapescope_adapters"
        shutil.copytree(str(files("tapescope_adapters")), self._package)
        self.last = max(sqlite_schema.read_migrations())
        assert self.last == max(postgres_schema.read_migrations())

    def add_migration(self, *said: str, script: str) -> None:
        """One migration more, the same for both stores, and the lines that stand on its head."""
        self.last += 1
        for dialect in ("postgres", "sqlite"):
            self._write(dialect, "\n".join([*said, script]))

    def change_function(self) -> None:
        """One migration more, compatible with the last one: another text of a function, or of a
        trigger where the store has no functions. Every flush calls the one, and none the other."""
        said = f"-- compatible from {self.last}"
        self.last += 1
        function = self._sql("postgres") / "functions" / "flush.sql"
        text = function.read_text()
        function.write_text(text.replace("\nBEGIN\n", f"\nBEGIN  -- {EDITION}\n", 1))
        self._write("postgres", f"{said}\n-- functions: flush\n")
        self._write("sqlite", f"{said}\n{_TRIGGER}")

    @contextmanager
    def running_here(self) -> Generator[None]:
        """A store that is opened meanwhile, in this process, is one of the next version."""
        with pytest.MonkeyPatch.context() as patched:
            patched.setattr(postgres_schema, "_SQL", self._sql("postgres"))
            patched.setattr(sqlite_schema, "_SQL", self._sql("sqlite"))
            _forget_migrations()
            try:
                yield
            finally:
                patched.undo()
                _forget_migrations()

    def _sql(self, dialect: str) -> Path:
        return self._package / dialect / "sql"

    def _write(self, dialect: str, text: str) -> None:
        (self._sql(dialect) / "migrations" / f"{self.last:04}_next.sql").write_text(text)


def _forget_migrations() -> None:
    for schema in (postgres_schema, sqlite_schema):
        schema.read_migrations.cache_clear()
    postgres_schema._read_made.cache_clear()  # pyright: ignore[reportPrivateUsage]  # it is read of them

"""``SqliteStore``: the port on one SQLite file, for the processes of one host."""

from __future__ import annotations

from dataclasses import replace

from tapescope.errors import BadSetting
from tapescope.store import Clock, OpenMode, StoreLimits, TaskStore
from tapescope_adapters.sqlite._backend import Durability, SqliteBackend
from tapescope_adapters.sqlite._url import read_url
from tapescope_telemetry import Telemetry

__all__ = ["SqliteStore"]

_BATCH = 1_024
"""Calls and events in one flush where the caller sets no limits.

More than where a second lane takes the rest meanwhile: there is one writer, and half the flushes
are half the waits for the disk. 1,000 tasks, measured in turn: 28,000 events a second with 256 a
flush, 36,000 with 512, 42,000 with 1,024.
"""


class SqliteStore(TaskStore):
    """A store in a SQLite file: WAL, one writer connection, one reader, checkpoints on their own.

    ``url`` is ``sqlite:///relative.db``, ``sqlite:////absolute.db``, or ``sqlite:///:memory:``,
    which is one connection in one process; a ``?patience=3``, ``?open_mode=migrate`` or
    ``?tape_events=1000`` goes before the setting. A file that is made is its owner's alone (0600);
    ``?mode=660`` opens it to the owner's group, too.
    ``durability="commit"`` survives a crash of the operating system; ``"relaxed"`` may lose the
    last commits to one, and none to a crash of the process.
    """

    def __init__(
        self,
        url: str,
        *,
        telemetry: Telemetry | None = None,
        clock: Clock | None = None,
        limits: StoreLimits | None = None,
        patience: float = 10.0,
        durability: Durability = "commit",
        open_mode: OpenMode = OpenMode.CREATE,
    ) -> None:
        if durability not in ("commit", "relaxed"):
            raise BadSetting("durability", durability, "'commit' or 'relaxed'")
        self.path, mode, given = read_url(url)
        limits = limits or StoreLimits(batch=_BATCH)
        if given.tape_events is not None:
            limits = replace(limits, tape_events=given.tape_events)
        super().__init__(
            SqliteBackend(self.path, durability=durability, file_mode=mode),
            telemetry=telemetry,
            clock=clock,
            limits=limits,
            patience=given.patience or patience,
            open_mode=given.open_mode or open_mode,
        )

"""``make docs``: what the commands print on terminals of 80 and 120 columns, from a real store.

The store is a SQLite file with fixed ids, owners and times; the commands run in this process, at a
fixed time, in UTC and without colours. A test makes the page again and compares.
"""

from __future__ import annotations

import asyncio
import hashlib
import io
import logging
import os
import re
import sqlite3
import tempfile
import time
from collections.abc import Generator
from contextlib import closing, contextmanager, redirect_stderr, redirect_stdout, suppress
from pathlib import Path
from typing import Final
from unittest.mock import patch

from tapescope.cli import main as run_command
from tapescope.clock import Clock
from tapescope.model.tape import NewEvent
from tapescope.model.tasks import Attempt, CancelReason, ErrorInfo, FinalEvent, NewTask
from tapescope.model.times import parse_time
from tapescope.store.port import TaskStore
from tapescope.store.validation import first_id_of
from tapescope_adapters.sqlite import SqliteStore

PAGE = Path(__file__).parent / "reference" / "screens.md"

_NOW: Final = parse_time("2026-01-31T12:00:00Z")
_SECOND: Final = 1_000_000
_OWNER: Final = "worker-1.shop.example:4711:88123456-4026531836:5f2b8c1d9e3a7046"
_TRACEBACK: Final = """Traceback (most recent call last):
  File "/srv/shop/tasks.py", line 41, in resize
    photo = await fetch(url)
  File "/srv/shop/photos.py", line 17, in fetch
    raise NoRoute(f"no route to {host}")
shop.errors.NoRoute: no route to photos.example
Is the proxy up?
"""
_HEAD: Final = """# Screens

<!-- Made by `make docs` from a store with fixed times (docs/screens.py): change the commands. -->

What the commands print on a terminal. The colours are left out: each outcome has a sign besides.
Piped, and with `--wide`, ids, times and values are whole; programs read `--json`.
"""


class _FixedClock(Clock):
    """Stands still until it is set."""

    at = _NOW

    def now(self) -> int:
        """The time that it was set to, on every clock of this class."""
        return _FixedClock.at


class _Terminal(io.StringIO):
    """What a terminal would show."""

    encoding = "utf-8"

    def isatty(self) -> bool:
        """It is one, for whoever asks."""
        return True


def make_page() -> str:
    """The text of ``reference/screens.md``."""
    with tempfile.TemporaryDirectory(prefix="tapescope-screens-") as folder, _fixed_world():
        shop, broken = (Path(folder) / f"{name}.db" for name in ("shop", "broken"))
        ids = asyncio.run(_fill(shop))
        asyncio.run(_fill(broken))
        _break(broken, ids["shell"])
        parts = [_HEAD]
        for line in ("list", "drops", "audit", "drill --list"):
            store = broken if line == "audit" else shop
            parts += [f"## `tapescope {line}`\n"]
            for columns in (80, 120):
                parts += [f"At {columns} columns:\n", _show(line, store, columns)]
        parts += ["## `tapescope list --wide`\n", _show("list --wide --limit 3", shop, 80)]
        for command in ("show", "tape"):
            line = f"{command} {ids['failed'][:13]}-{ids['failed'][-6:]}"
            parts += [f"## `tapescope {command}`\n", "At 80 columns:\n", _show(line, shop, 80)]
    return "\n".join(parts)


def _show(line: str, store: Path, columns: int) -> str:
    """A command and what it prints, as a block."""
    shown = _Terminal()
    settings = {"COLUMNS": str(columns), "TAPESCOPE_STORE": f"sqlite:///{store}"}
    with (
        patch.dict(os.environ, settings),
        redirect_stdout(shown),
        redirect_stderr(io.StringIO()),
        suppress(SystemExit),
    ):
        run_command(line.split())
    text = re.sub(r"\x1b\[[0-9;]*m", "", shown.getvalue()).rstrip()
    return f"```\n$ tapescope {line}\n{text}\n```\n"


@contextmanager
def _fixed_world() -> Generator[None]:
    """The commands' clock stands still, and this process is in UTC, without colours or a log."""
    settings = {"TZ": "UTC", "NO_COLOR": "1", "TERM": "xterm"}
    logger = logging.getLogger("tapescope")
    quiet = logging.NullHandler()
    logger.addHandler(quiet)
    try:
        with patch.dict(os.environ, settings), patch("tapescope.cli._wording.Clock", _FixedClock):
            time.tzset()
            yield
    finally:
        time.tzset()
        logger.removeHandler(quiet)


def _break(file: Path, task_id: str) -> None:
    """Take the ``final`` off a tape, past the guards, for the audit to find."""
    with closing(sqlite3.connect(file)) as conn:
        conn.execute("DROP TRIGGER events_live_with_task")
        conn.execute(
            "DELETE FROM events WHERE type = 'final' AND task = "
            "(SELECT id FROM tasks WHERE task_id = ?)",
            (task_id,),
        )
        conn.execute("DELETE FROM tasks WHERE status = 'running'")  # of an age that grows
        conn.commit()


async def _fill(file: Path) -> dict[str, str]:
    """Tasks of every kind, a day old and younger; their ids by what they are here for."""
    async with SqliteStore(f"sqlite:///{file}", clock=_FixedClock()) as store:
        shop = _Shop(store)
        ids = {
            "old": await shop.succeed("nightly.cleanup-of-thumbnails", ago=90_000, took=754.2),
            "failed": await shop.fail("resize", ago=5_400),
            "succeeded": await shop.succeed("resize", ago=5_390, took=0.42, late=2),
            "shell": await shop.fail_command(ago=1_260),
            "cancelled": await shop.cancel("export.monthly-report", ago=600),
            "lost": await shop.start("resize", ago=300, lease=30),
            "running": await shop.start("resize", ago=45, lease=90),
            "pending": await shop.create("mail.send", ago=4),
        }
    _FixedClock.at = _NOW
    return ids


class _Shop:
    """Makes tasks at fixed times; ``ago`` is in seconds before the page's own."""

    def __init__(self, store: TaskStore) -> None:
        self._store = store

    async def create(self, op: str, *, ago: float, retries: int = 0) -> str:
        """A pending task, with an id of its time."""
        _FixedClock.at = _NOW - round(ago * _SECOND)
        tail = hashlib.sha256(f"{op} {ago}".encode()).hexdigest()
        head = first_id_of(_FixedClock.at)[:13]
        task_id = f"{head}-7{tail[:3]}-8{tail[3:6]}-{tail[6:18]}"
        await self._store.create(NewTask(task_id, op, {"folder": "photos"}, retries=retries))
        return task_id

    async def start(self, op: str, *, ago: float, lease: float) -> str:
        """A running task."""
        attempt = await self._claim(await self.create(op, ago=ago), lease)
        return attempt.task_id

    async def succeed(self, op: str, *, ago: float, took: float, late: int = 0) -> str:
        """A task that succeeded, and reported ``late`` times more."""
        attempt = await self._claim(await self.create(op, ago=ago), 3_600)
        _FixedClock.at += round(took * _SECOND)
        await self._store.finish_if_running(attempt, FinalEvent.succeeded({"resized": 3}))
        for number in range(late):
            _FixedClock.at += 310_000
            body = {"phase": "reading", "current": number, "total": 40}
            await self._store.append(attempt, [NewEvent("progress", body)])
        return attempt.task_id

    async def fail(self, op: str, *, ago: float) -> str:
        """A task that failed twice with the same error."""
        error = ErrorInfo(
            "shop.errors.NoRoute", "no route to photos.example\nIs the proxy up?", _TRACEBACK
        )
        attempt = await self._claim(await self.create(op, ago=ago, retries=1), 3_600)
        await self._store.append(attempt, [_log("fetching photos/1.jpg")])
        _FixedClock.at += 1_203_000
        due = _FixedClock.at + 1_871_000
        await self._store.retry_later(attempt, error, due)
        _FixedClock.at = due + 12_000
        attempt = await self._claim(attempt.task_id, 3_600)
        _FixedClock.at += 1_198_000
        await self._store.finish_if_running(attempt, FinalEvent.failed(error))
        return attempt.task_id

    async def fail_command(self, *, ago: float) -> str:
        """A command with an exit status."""
        attempt = await self._claim(await self.create("shell", ago=ago), 3_600)
        _FixedClock.at += 83_400_000
        error = ErrorInfo("tapescope.errors.CommandFailed", "The command ended with exit status 3.")
        await self._store.finish_if_running(attempt, FinalEvent.failed(error))
        return attempt.task_id

    async def cancel(self, op: str, *, ago: float) -> str:
        """A task that was cancelled before it began."""
        task_id = await self.create(op, ago=ago)
        await self._store.request_cancel(task_id, CancelReason.USER, "wrong month", by="ann@desk")
        return task_id

    async def _claim(self, task_id: str, lease: float) -> Attempt:
        task = await self._store.get(task_id)
        claim = await self._store.claim_if_pending(task, _OWNER, lease)
        assert claim is not None
        return claim.attempt


def _log(message: str) -> NewEvent:
    return NewEvent("log", {"level": "info", "message": message})


if __name__ == "__main__":
    PAGE.write_text(make_page(), encoding="utf-8")
    print("docs/reference/screens.md")

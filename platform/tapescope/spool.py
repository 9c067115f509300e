"""Spool files: what a command's wrapper could not tell its store before it ended.

One file a task, in the user's state folder and readable by that user alone. It holds the events and
the ``final`` in order; ``tapescope.shell.replay`` puts them on the tape once the store is back.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final
from zlib import crc32

from tapescope.codec import decode, encode
from tapescope.errors import BadSpool
from tapescope.model.tape import FINAL, Event
from tapescope.model.tasks import FinalEvent

__all__ = ["SpooledEvent", "SpooledTask", "find_spools", "read_spool", "spool_folder", "spooled_by"]

_FORMAT: Final = 1
_SUFFIX: Final = ".spool"
_MODE: Final = 0o700


@dataclass(frozen=True, slots=True)
class SpooledEvent:
    """An event that is perhaps not on its tape."""

    type: str
    ts_us: int
    """When it happened, in microseconds since the Unix epoch."""
    body: Any


@dataclass(frozen=True, slots=True)
class SpooledTask:
    """A task of which the store does not know everything."""

    store: str
    """The store's name: its URL without a password."""
    task_id: str
    op: str
    params: Mapping[str, Any]
    timeout: float | None
    """Seconds that the attempt might run; ``None`` for no limit."""
    idempotency_key: str | None
    """Finds the task where the answer to its submit was lost."""
    traceparent: str | None
    owner: str
    """The wrapper, as the task's row names it where it was claimed."""
    attempt: int | None
    """``None``: the task was not claimed, and perhaps not created."""
    confirmed: int
    """The highest ``seq`` that the store has confirmed to the wrapper; 0 for none."""
    events: tuple[SpooledEvent, ...]
    """Those that came after it: some of the first may be on the tape, their answers lost."""
    final: FinalEvent
    ended_us: int
    """When the command ended, in microseconds since the Unix epoch."""

    def write(self, folder: Path) -> Path:
        """Write the file, durably and under its name at once. Raises ``OSError``."""
        import tempfile  # slow to import, and seldom needed

        folder.mkdir(parents=True, exist_ok=True, mode=_MODE)
        head = {
            "tapescope_spool": _FORMAT,
            "store": self.store,
            "task_id": self.task_id,
            "op": self.op,
            "params": self.params,
            "timeout": self.timeout,
            "idempotency_key": self.idempotency_key,
            "traceparent": self.traceparent,
            "owner": self.owner,
            "attempt": self.attempt,
            "confirmed": self.confirmed,
        }
        end = {"final": self.final.as_json(), "ts": self.ended_us}
        lines = [head, *({"type": e.type, "ts": e.ts_us, "body": e.body} for e in self.events), end]
        path = folder / f"{self.task_id}.{_short(self.owner)}.{_mark(self.store)}{_SUFFIX}"
        with tempfile.NamedTemporaryFile(dir=folder, delete=False) as file:  # its mode is 0600
            try:
                file.writelines(encode(line, "spool").encode() + b"\n" for line in lines)
                file.flush()
                os.fsync(file.fileno())
                Path(file.name).replace(path)
            except BaseException:  # interrupted, too: no half of a file is left
                with suppress(FileNotFoundError):
                    Path(file.name).unlink()
                raise
        _sync_folder(folder)
        return path


def read_spool(path: Path) -> SpooledTask:
    """Read a file back. Raises ``BadSpool`` for one that is not whole, and ``OSError``."""
    try:
        head, *events, end = map(decode, path.read_bytes().splitlines())
        if head["tapescope_spool"] != _FORMAT:
            raise BadSpool(
                path, f"it has the format {head['tapescope_spool']!r} of a newer version"
            )
        return SpooledTask(
            store=head["store"],
            task_id=head["task_id"],
            op=head["op"],
            params=head["params"],
            timeout=head["timeout"],
            idempotency_key=head["idempotency_key"],
            traceparent=head["traceparent"],
            owner=head["owner"],
            attempt=head["attempt"],
            confirmed=head["confirmed"],
            events=tuple(SpooledEvent(e["type"], e["ts"], e["body"]) for e in events),
            final=FinalEvent.from_event(Event(0, FINAL, end["ts"], 0, end["final"])),
            ended_us=end["ts"],
        )
    except (KeyError, TypeError, ValueError) as error:
        raise BadSpool(path, "it is not a whole spool file") from error


def spool_folder() -> Path:
    """Where this user's files are: ``XDG_STATE_HOME/tapescope/spool`` on Linux."""
    import platformdirs

    return Path(platformdirs.user_state_dir("tapescope", appauthor=False)) / "spool"


def find_spools(folder: Path, store: str | None = None) -> list[Path]:
    """The files in that folder, oldest task first; all, or those that may be of this store.

    What is kept for other stores, for ever perhaps, is not read by each that looks for its own.
    """
    end = _SUFFIX if store is None else f".{_mark(store)}{_SUFFIX}"
    try:
        return [folder / name for name in sorted(os.listdir(folder)) if name.endswith(end)]
    except (FileNotFoundError, NotADirectoryError, PermissionError):
        return []  # the third where HOME is another user's, as after a change of user


def spooled_by(owners: Iterable[str], folder: Path) -> set[str]:
    """Those of these owners that have left a file: what they know is not lost with them."""
    left = {path.name.split(".")[1] for path in find_spools(folder)}
    return {owner for owner in owners if _short(owner) in left}


def _short(owner: str) -> str:
    """The part of an owner's name that no other has."""
    return owner.rpartition(":")[2]


def _mark(store: str) -> str:
    """What the files of a store have in their names; another store may have the same."""
    return f"{crc32(store.encode(errors='surrogateescape')):08x}"


def _sync_folder(folder: Path) -> None:
    fd = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)

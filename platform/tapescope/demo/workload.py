"""The demo's work: files to hash, commands to run, and runners that end in every way."""

from __future__ import annotations

import asyncio
import hashlib
import os
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, Final

from tapescope.errors import EventDropped, StoreClosed
from tapescope.model.tape import LOG, TASK_STARTED
from tapescope.run.reporter import Reporter, ThreadReporter
from tapescope.shell.command import ShellCommand

__all__ = ["FileSet", "Job", "find_files", "plan_jobs", "walk"]

_MOST_FILES: Final = 4_000
_MOST_BYTES: Final = 256_000_000
_SHARES: Final = 8
_REPORTS: Final = 25
"""Progress reports of one share."""
_REFUSED_ENOUGH: Final = 25
"""Late events after which the runner that ignores its cancel gives up."""
_READING_PAUSE: Final = 0.02
_WALKING_PAUSE: Final = 0.4
"""Seconds between two files of a walk."""
_SHELL_GRACE: Final = 0.5
_NOT_OURS: Final = frozenset({"site-packages", "dist-packages", "__pycache__"})


@dataclass(frozen=True, slots=True)
class FileSet:
    """The files that are hashed."""

    folder: Path
    files: tuple[Path, ...]
    complete: bool
    """Whether these are all of the folder's, or as many as a demo takes."""


@dataclass(frozen=True, slots=True)
class Job:
    """A task to submit, and when it is cancelled."""

    title: str
    op: str
    runner: Callable[..., Any]
    params: dict[str, Any] = field(default_factory=dict[str, Any])
    timeout: float | None = None
    cancel_at: str | None = None
    """The type of the event after which it is cancelled; ``submit``: at once."""
    cancel_message: str = ""


def find_files(folder: Path) -> FileSet:
    """The readable regular files below ``folder``, in a fixed order, up to what a demo takes."""
    files: list[Path] = []
    size = 0
    for path in _walk(folder):
        if len(files) >= _MOST_FILES or size >= _MOST_BYTES:
            return FileSet(folder, tuple(files), complete=False)
        files.append(path)
        size += path.stat().st_size
    return FileSet(folder, tuple(files), complete=True)


def plan_jobs(file_set: FileSet, on_thread_end: Callable[[], None]) -> list[Job]:
    """What the demo runs; the thread that ignores its cancel calls ``on_thread_end`` at its end."""
    jobs: list[Job] = []
    for share in range(_SHARES):
        files = file_set.files[share::_SHARES]
        params = {"folder": str(file_set.folder), "share": share + 1, "of": _SHARES}
        in_thread = share % 2 == 1
        runner = partial(hash_in_thread if in_thread else hash_in_loop, files)
        kind = "in a thread" if in_thread else "in the loop"
        jobs.append(Job(f"hash {share + 1}/{_SHARES} {kind}", "hash", runner, params))
    missing = file_set.folder / "this-file-is-missing"
    return [
        Job("a thread that will not stop", "stubborn", partial(read_on, on_thread_end),
            cancel_at="reading", cancel_message="enough read"),
        *jobs,
        _shell("uname -a"),
        _shell("for n in 1 2 3; do echo line $n; done"),
        _shell("echo looking for trouble; echo 'found it' >&2; exit 3"),
        _shell("kill -9 $$"),
        _shell("sleep 600", cancel_at=TASK_STARTED, cancel_message="it takes too long"),
        _shell("trap '' TERM; echo deaf; while :; do sleep 1; done", cancel_at=LOG,
               cancel_message="SIGTERM is ignored, SIGKILL follows"),
        _shell("sleep 600", timeout=0.5),
        Job("hash a file that is missing", "hash", partial(hash_in_loop, [missing]),
            {"folder": str(file_set.folder), "file": missing.name}),
        Job("a watch with a cleanup", "watch", watch, cancel_at="watching",
            cancel_message="the watch is over"),
        Job("cancelled before it starts", "watch", watch, cancel_at="submit",
            cancel_message="changed our mind"),
    ]  # fmt: skip


async def hash_in_loop(
    files: Sequence[Path], report: Reporter, /, **_params: object
) -> dict[str, Any]:
    """Hash files without blocking the event loop."""
    tally = hashlib.sha256()
    size = 0
    step = max(1, len(files) // _REPORTS)
    for done, path in enumerate(files, 1):
        content = await asyncio.to_thread(path.read_bytes)
        tally.update(content)
        size += len(content)
        if done % step == 0 or done == len(files):
            await report.progress("hash", done, len(files))
    return {"files": len(files), "bytes": size, "sha256": tally.hexdigest()}


def hash_in_thread(
    files: Sequence[Path], report: ThreadReporter, /, **_params: object
) -> dict[str, Any]:
    """The same as a plain function, which tapescope runs in a thread."""
    tally = hashlib.sha256()
    size = 0
    step = max(1, len(files) // _REPORTS)
    for done, path in enumerate(files, 1):
        report.raise_if_cancelled()
        content = path.read_bytes()
        tally.update(content)
        size += len(content)
        if done % step == 0 or done == len(files):
            report.progress("hash", done, len(files))
    return {"files": len(files), "bytes": size, "sha256": tally.hexdigest()}


async def walk(report: Reporter, folder: str, files: int = 60) -> dict[str, Any]:
    """Hash the first files of a folder, slowly enough to watch; ``files`` at most."""
    chosen = (await asyncio.to_thread(find_files, Path(folder))).files[:files]
    size = 0
    for done, path in enumerate(chosen, 1):
        content = await asyncio.to_thread(path.read_bytes)
        size += len(content)
        await report.log("info", f"{path.name}: {hashlib.sha256(content).hexdigest()[:16]}")
        await report.progress("walk", done, len(chosen))
        await asyncio.sleep(_WALKING_PAUSE)
    return {"files": len(chosen), "bytes": size}


async def watch(report: Reporter) -> None:
    """Wait for ever; when it is cancelled, say goodbye within the grace."""
    await report.emit("watching", {"pid": os.getpid()})
    try:
        await asyncio.Event().wait()
    finally:
        await report.log("info", "cleaned up")


def read_on(on_end: Callable[[], None], report: ThreadReporter) -> None:
    """Ignore the cancel and go on reporting, until enough of it was refused."""
    refused = count = 0
    pause = threading.Event()
    try:
        while refused < _REFUSED_ENOUGH:
            count += 1
            try:
                report.emit("reading", {"n": count})
            except EventDropped:
                refused += 1
            pause.wait(_READING_PAUSE)
    except StoreClosed:
        pass  # the demo was interrupted: there is nothing left to report to
    finally:
        on_end()


def _shell(line: str, **settings: Any) -> Job:
    command = ShellCommand(line, grace=_SHELL_GRACE)
    return Job(f"$ {line}", "shell", partial(_run_shell, command), {"command": line}, **settings)


async def _run_shell(
    command: ShellCommand, report: Reporter, /, **_params: object
) -> dict[str, Any]:
    return await command(report)


def _walk(folder: Path) -> Iterator[Path]:
    for place, folders, names in os.walk(folder):
        folders[:] = sorted(set(folders) - _NOT_OURS)
        for name in sorted(names):
            path = Path(place, name)
            if path.is_file() and not path.is_symlink() and os.access(path, os.R_OK):
                yield path

"""The checksums of a folder's files, as a task: ``python checksums.py FOLDER``."""

from __future__ import annotations

import hashlib
import sys
from pathlib import Path

from tapescope import Ops, TaskFailed, ThreadReporter
from tapescope.sync import SyncManager

ops = Ops()


@ops.op("checksums", retries=1)
def checksums(report: ThreadReporter, folder: str) -> dict[str, str]:
    """SHA-256 of each file, by its path within the folder."""
    files = sorted(file for file in Path(folder).rglob("*") if file.is_file())
    if not files:
        raise FileNotFoundError(f"no files in {folder}")
    sums: dict[str, str] = {}
    for done, file in enumerate(files, 1):
        sums[str(file.relative_to(folder))] = hashlib.sha256(file.read_bytes()).hexdigest()
        report.progress("read", done, len(files))
    return sums


def main(folder: str) -> int:
    """Submit the task, tell how far it is, and print what came of it."""
    with SyncManager("sqlite:///checksums.db", ops=ops, work=True, retry_delay=0.1) as tasks:
        task = tasks.submit_bound(checksums.bind(folder))
        for event in task.follow():
            print(f"{event.seq} {event.type}", file=sys.stderr)
        try:
            sums = task.result()
        except TaskFailed as failure:
            print(f"{failure}; tapescope show {task.task_id} says more", file=sys.stderr)
            return 1
    for name, checksum in sums.items():
        print(f"{checksum}  {name}")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))

"""What a worker does here: no store, no event loop, nothing that happens at import."""

from __future__ import annotations

import zipfile
from pathlib import Path

from tapescope import Ops, ThreadReporter

__all__ = ["ops", "pack"]

ops = Ops()


@ops.op("exports.pack", timeout=600, retries=2)
def pack(report: ThreadReporter, folder: str, archive: str) -> dict[str, int]:
    """Pack a folder. It blocks, so it is a plain function, which has a thread of its own."""
    files = sorted(file for file in Path(folder).rglob("*") if file.is_file())
    part = Path(f"{archive}.{report.attempt}.part")
    part.parent.mkdir(exist_ok=True)
    try:
        with zipfile.ZipFile(part, "w", zipfile.ZIP_DEFLATED) as packed:
            for done, file in enumerate(files, 1):
                report.raise_if_cancelled()
                packed.write(file, file.relative_to(folder))
                report.progress("pack", done, len(files))
        size = part.stat().st_size
        part.replace(archive)  # whole, or not there: an attempt may be cut short anywhere
    finally:
        part.unlink(missing_ok=True)
    return {"files": len(files), "bytes": size}

"""Which file system a SQLite file is on: on a network's, its log does not work."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Final

__all__ = ["find_network_type"]

_NETWORK: Final = re.compile(
    r"nfs\d?|cifs|smb\w*|afs|ceph|glusterfs|9p|lustre|gpfs|ocfs2|gfs2|beegfs|fuse\.(?!fuseblk).+"
)


def find_network_type(path: str, mounts: str | None = None) -> str | None:
    """The type of the network file system that holds ``path``, ``None`` for any other.

    ``mounts`` is the text of Linux's ``/proc/self/mountinfo``, read where it is not given; a system
    without it answers ``None``. Any that a program serves (``fuse.``) is taken for one.
    """
    if mounts is None:
        try:
            # A folder may have any bytes in its name, and a path has them in the same form.
            mounts = Path("/proc/self/mountinfo").read_text("utf-8", "surrogateescape")
        except OSError:
            return None  # not Linux: nothing is known, so nothing is said
    folder = Path(path).absolute().parent.resolve()
    best, found = -1, ""
    for line in mounts.splitlines():
        place, _, kind = line.partition(" - ")
        fields = place.split()
        if len(fields) < 5 or not kind:
            continue
        point = Path(re.sub(r"\\(\d{3})", lambda code: chr(int(code[1], 8)), fields[4]))
        if folder.is_relative_to(point) and len(point.parts) >= best:  # a later mount hides one
            best, found = len(point.parts), kind.split()[0]
    return found if _NETWORK.fullmatch(found) else None

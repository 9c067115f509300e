"""What an ordinary user may do to files, for tests that root may run."""

from __future__ import annotations

import ctypes
import os
from collections.abc import Generator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

__all__ = ["ordinary_thread", "unwritable"]

_VERSION_3 = 0x20080522
_FILE_RIGHTS = 0b110
"""CAP_DAC_OVERRIDE and CAP_DAC_READ_SEARCH: what lets root pass over the modes of files."""


@contextmanager
def ordinary_thread() -> Generator[ThreadPoolExecutor]:
    """A thread that the modes of files bind, whoever runs the tests; so are those that it starts.

    Linux keeps capabilities by thread, so that the other threads keep theirs.
    """
    with ThreadPoolExecutor(1, initializer=_drop_rights) as thread:
        yield thread


def _drop_rights() -> None:
    if os.geteuid() != 0:
        return
    libc = ctypes.CDLL(None, use_errno=True)
    header = (ctypes.c_uint32 * 2)(_VERSION_3, 0)
    sets = (ctypes.c_uint32 * 6)()  # effective, permitted, inheritable: the lower half, the upper
    assert libc.capget(header, sets) == 0, os.strerror(ctypes.get_errno())
    for number in range(3):
        sets[number] &= ~_FILE_RIGHTS
    assert libc.capset(header, sets) == 0, os.strerror(ctypes.get_errno())


@contextmanager
def unwritable(*paths: Path) -> Generator[None]:
    """Files and folders that may only be read meanwhile."""
    modes = {path: path.stat().st_mode for path in paths}
    for path, mode in modes.items():
        path.chmod(mode & ~0o222)
    try:
        yield
    finally:
        for path, mode in modes.items():
            path.chmod(mode)

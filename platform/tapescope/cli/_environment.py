"""The environment as it was given to us: what the interpreter adds is not for our commands."""

from __future__ import annotations

import os
from pathlib import Path

__all__ = ["forget_coerced_locale"]

_NAME = b"LC_CTYPE"


def forget_coerced_locale() -> None:
    """Take back the ``LC_CTYPE`` that Python sets for itself in a C locale (PEP 538).

    Else a command, as of a cron job, would read and sort text otherwise than without us. Where the
    system does not tell what a process began with, it stays.
    """
    try:
        began = Path("/proc/self/environ").read_bytes()
    except OSError:
        return
    os.environb.pop(_NAME, None)
    for entry in began.split(b"\0"):
        name, _, value = entry.partition(b"=")
        if name == _NAME:
            os.environb[name] = value

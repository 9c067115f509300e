"""What a process of the command line begins with: its environment, and its garbage collector."""

from __future__ import annotations

import gc
import os
from pathlib import Path

__all__ = ["collect_garbage", "collect_no_garbage", "collect_no_program", "forget_coerced_locale"]

_NAME = b"LC_CTYPE"
_YOUNG = 5_000
"""Objects more after which a service's young ones are looked through; Python's own is 700."""


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


def collect_no_garbage() -> None:
    """While modules are imported: they leave none, and each collection goes through all of them.

    It is for a process of ours alone: in another's the collector is not ours to stop.
    """
    gc.disable()


def collect_garbage() -> None:
    """From now on, but for what is there by now: it stays to the end. No-op if it never stopped."""
    if not gc.isenabled():
        gc.freeze()
        gc.enable()


def collect_no_program() -> None:
    """Leave to itself what a service is made of by now, its application's modules included.

    Else each full collection goes through all of it, and the event loop stands still for so long:
    some 60 ms of a server. What comes and goes with each request is looked at less often than by
    default, as a full collection beside 1,000 open streams takes 180 ms. No-op in another's
    process, which ``collect_garbage`` found as it was.
    """
    if gc.get_freeze_count():
        gc.collect()
        gc.freeze()
        gc.set_threshold(_YOUNG)

"""For tests of programs that embed tapescope, and of stores.

``JudgedManager`` is a manager on a store in memory, SQLite or PostgreSQL that is judged at its end;
``EagerManager`` and ``EagerSyncManager`` run a task before its submit returns; ``ManualClock`` is
moved by hand; ``run_op`` runs one op's function alone; ``assert_tape`` compares. The plugin of
pytest, ``tapescope.testing.plugin``, gives them as fixtures, and is found by pytest itself.

``MemoryStore`` keeps every rule of a real store. ``Recording`` notes each call of a store and its
answer in a ``History``; ``check`` then says where an invariant does not hold, and ``judged`` has
it said at the end of a test. Who writes a store runs ``tapescope.testing.conformance``, which needs
pytest and is imported by name.

Each name is imported when it is first asked for: pytest loads the plugin in each of its runs.
"""

from __future__ import annotations

import sys
from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tapescope.testing._case import Breach
    from tapescope.testing._checker import check
    from tapescope.testing._history import Follow, History, RecordedCall, RecordedOrder, Recording
    from tapescope.testing._judged import HistoryBroken, RecordedMemoryStore, explain, judged
    from tapescope.testing._memory import MemoryBackend, MemoryStore
    from tapescope.testing._spans import SpanRecord
    from tapescope.testing.cleaning import clean_test_store
    from tapescope.testing.clock import ManualClock
    from tapescope.testing.eager_sync import EagerSyncManager
    from tapescope.testing.managers import (
        EagerManager,
        JudgedManager,
        TasksLeft,
        make_recorded_store,
    )
    from tapescope.testing.op_run import OpRun, run_op
    from tapescope.testing.polling import settle_loop, until
    from tapescope.testing.tapes import ExpectedEvent, TapeDiffers, assert_tape

__all__ = [
    "Breach",
    "EagerManager",
    "EagerSyncManager",
    "ExpectedEvent",
    "Follow",
    "History",
    "HistoryBroken",
    "JudgedManager",
    "ManualClock",
    "MemoryBackend",
    "MemoryStore",
    "OpRun",
    "RecordedCall",
    "RecordedMemoryStore",
    "RecordedOrder",
    "Recording",
    "SpanRecord",
    "TapeDiffers",
    "TasksLeft",
    "assert_tape",
    "check",
    "clean_test_store",
    "explain",
    "judged",
    "make_recorded_store",
    "run_op",
    "settle_loop",
    "until",
]

_HOMES = {
    "Breach": "_case",
    "EagerManager": "managers",
    "EagerSyncManager": "eager_sync",
    "ExpectedEvent": "tapes",
    "Follow": "_history",
    "History": "_history",
    "HistoryBroken": "_judged",
    "JudgedManager": "managers",
    "ManualClock": "clock",
    "MemoryBackend": "_memory",
    "MemoryStore": "_memory",
    "OpRun": "op_run",
    "RecordedCall": "_history",
    "RecordedMemoryStore": "_judged",
    "RecordedOrder": "_history",
    "Recording": "_history",
    "SpanRecord": "_spans",
    "TapeDiffers": "tapes",
    "TasksLeft": "managers",
    "assert_tape": "tapes",
    "check": "_checker",
    "clean_test_store": "cleaning",
    "explain": "_judged",
    "judged": "_judged",
    "make_recorded_store": "managers",
    "run_op": "op_run",
    "settle_loop": "polling",
    "until": "polling",
}
"""Public name → the module of this package that has it."""


if not TYPE_CHECKING:  # with it in their sight, type checkers would take any name for a good one

    def __getattr__(name: str) -> Any:
        if name not in _HOMES:
            raise AttributeError(
                f"module {__name__!r} has no attribute {name!r}",
                name=name,
                obj=sys.modules[__name__],
            )
        value = getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
        globals()[name] = value
        return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})

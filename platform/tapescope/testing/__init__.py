"""For tests of programs that embed tapescope: a store in memory, and the judge of a history.

``MemoryStore`` keeps every rule of a real store. ``Recording`` notes each call of a store and its
answer in a ``History``; ``check`` then says where an invariant does not hold, and ``judged`` has
it said at the end of a test. Who writes a store
runs ``tapescope.testing.conformance``, which needs pytest and is imported by name.
"""

from __future__ import annotations

from tapescope.testing._case import Breach
from tapescope.testing._checker import check
from tapescope.testing._history import Follow, History, RecordedCall, RecordedOrder, Recording
from tapescope.testing._judged import HistoryBroken, RecordedMemoryStore, explain, judged
from tapescope.testing._memory import MemoryBackend, MemoryStore
from tapescope.testing._spans import SpanRecord
from tapescope.testing.polling import settle_loop, until

__all__ = [
    "Breach",
    "Follow",
    "History",
    "HistoryBroken",
    "MemoryBackend",
    "MemoryStore",
    "RecordedCall",
    "RecordedMemoryStore",
    "RecordedOrder",
    "Recording",
    "SpanRecord",
    "check",
    "explain",
    "judged",
    "settle_loop",
    "until",
]

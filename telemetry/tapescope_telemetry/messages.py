"""The metric of messages to tasks: what became of each."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tapescope_telemetry.instruments import NO_CONTEXT, counter
from tapescope_telemetry.labels import LabelCaps, LabelSets
from tapescope_telemetry.names import MESSAGES

if TYPE_CHECKING:
    from opentelemetry.metrics import Meter

__all__ = ["MessageMeter"]


class MessageMeter:
    """Counted where it is decided: by the store that sends, takes, or ends the task.

    Made by ``Telemetry``. A message's key is on no metric: senders make as many as they like.
    """

    def __init__(self, meter: Meter, caps: LabelCaps) -> None:
        self._caps = caps
        self._messages = counter(meter, MESSAGES)
        self._labels = LabelSets(MESSAGES)

    def count(self, op: str, result: str, n: int = 1) -> None:
        """So many messages to tasks of this op came to this; ``result`` is of the closed set."""
        if n:
            self._messages.add(n, self._labels(self._caps.task_ops(op), result), NO_CONTEXT)

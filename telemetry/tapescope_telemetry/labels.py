"""Label sets: kept few by caps, and made once each."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Mapping
from typing import Final

from tapescope.model import ERROR_CODES, EVENT_TYPES, is_event_type, is_op
from tapescope_telemetry.failures import STORE_FAILURES
from tapescope_telemetry.names import OTHER, MetricRow

__all__ = ["LabelCap", "LabelCaps", "LabelSets"]

USER_EVENT_TYPES: Final = 20
DROP_OPS: Final = 32
"""Fewer than the ops of the task metrics: a drop has four more labels to multiply with."""
TASK_OPS: Final = 200
ERROR_TYPES: Final = 50
ENGINES: Final = 10


class LabelCap:
    """Admits known values always, then the first ``limit`` others; the rest become ``_OTHER``.

    ``form`` says whether a value looks as it must to be admitted: a text that was refused as an
    event type may hold anything, and its failure is counted all the same.
    A value's answer never changes, so what counts up under a label counts down under the same one.
    """

    __slots__ = ("_admitted", "_form", "_left", "_lock")

    def __init__(
        self, limit: int, known: Iterable[str] = (), form: Callable[[str], bool] | None = None
    ) -> None:
        self._admitted = {value: value for value in (*known, OTHER)}
        self._form = form
        self._left = limit
        self._lock = threading.Lock()

    def __call__(self, value: str) -> str:
        """The value to put on the label; a ``StrEnum`` member comes back as a plain string."""
        admitted = self._admitted.get(value)
        return self._admit(value) if admitted is None else admitted

    def _admit(self, value: str) -> str:
        with self._lock:
            if value not in self._admitted:
                if self._left <= 0 or not (self._form is None or self._form(value)):
                    return OTHER
                self._left -= 1
                self._admitted[value] = str(value)
            return self._admitted[value]


class LabelCaps:
    """The caps that all the metrics of one meter share, so that a value reads alike on each."""

    def __init__(self) -> None:
        self.event_types = LabelCap(USER_EVENT_TYPES, EVENT_TYPES, is_event_type)
        self.error_types = LabelCap(ERROR_TYPES, (*ERROR_CODES, *STORE_FAILURES))
        self.task_ops = LabelCap(TASK_OPS, form=is_op)
        self.drop_ops = LabelCap(DROP_OPS, form=is_op)
        self.engines = LabelCap(ENGINES)


class LabelSets:
    """A metric's attribute dictionaries, one for each label set, made when first asked for.

    Values must have been capped, or come from a closed set: what is made here is kept.
    """

    __slots__ = ("_keys", "_sets")

    def __init__(self, row: MetricRow) -> None:
        self._keys = (*row.attributes, *row.optional)
        self._sets: dict[tuple[str | None, ...], Mapping[str, str]] = {}

    def __call__(self, *values: str | None) -> Mapping[str, str]:
        """The attributes with these values, in the row's order; ``None`` leaves one out."""
        found = self._sets.get(values)
        if found is None:
            pairs = zip(self._keys, values, strict=True)
            found = {key: str(value) for key, value in pairs if value is not None}
            self._sets[values] = found
        return found

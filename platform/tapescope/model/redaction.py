"""What a redaction hook is asked about: where a value is about to be kept or told."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Final, TypeAlias

__all__ = ["NOT_REDACTED", "Redact", "Telling", "ToldKind"]

NOT_REDACTED: Final = "[left out: the redaction failed]"
"""Stands in the place of a value that the hook raised for, or gave no use for."""


class ToldKind(StrEnum):
    """What of a task is about to be kept or told."""

    EVENT = "event"
    """The body of an event that a runner reports; ``path`` is the event's type."""
    RESULT = "result"
    """What the runner returned; ``path`` is ``result``."""
    EXCEPTION = "exception"
    """A text of what the runner raised; ``path`` is ``message`` or ``traceback``."""
    TAG = "tag"
    """A tag that the span of a submit is to have; ``path`` is ``tags``. The task keeps it."""
    CANCEL = "cancel"
    """The caller's own words of a cancel; ``path`` is ``message``."""


@dataclass(frozen=True, slots=True)
class Telling:
    """A value that is about to be kept or told."""

    kind: ToldKind
    op: str | None
    """The task's op; ``None`` for a cancel, which knows the task by its id alone."""
    path: str
    """Which part it is: see ``ToldKind``."""


Redact: TypeAlias = Callable[[Telling, Any], Any]
"""Gives what is kept and told in the place of the value: for an event or a result any JSON value,
or any that the manager's codec encodes, for it is asked before the codec; for an exception or a
cancel a text. To leave a value as it is, give it back."""

"""The redaction hook of a manager, around which nothing is kept or told in plain text.

Where the hook raises, or gives what no tape can hold, a fixed text takes the value's place: that is
counted (``tapescope.telemetry.errors``), logged once for each kind of error, and the task goes on
(docs/decisions/0047). Values of any type go by way of the ``Keeper``, which knows the codec.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from tapescope.model.redaction import NOT_REDACTED, Redact, Telling, ToldKind
from tapescope.run.outcome import Verdict, close_unawaited, explain
from tapescope_telemetry.failures import Redacted, is_a
from tapescope_telemetry.guard import REDACTIONS

if TYPE_CHECKING:
    from tapescope.model.tasks import ErrorInfo

__all__ = ["Redactor"]


class Redactor:
    """Asks the hook, and never raises for it."""

    __slots__ = ("_hook",)

    def __init__(self, hook: Redact) -> None:
        self._hook = hook

    def redact_text(self, kind: ToldKind, op: str | None, path: str, text: str) -> str:
        """The text that is told in its place."""
        answer = self.ask(Telling(kind, op, path), text)
        if not isinstance(answer, str):
            self.note_rubbish(answer, TypeError())
            return NOT_REDACTED
        try:
            return answer.encode().decode()
        except UnicodeError as error:  # a lone surrogate: no store takes it
            REDACTIONS.note(type(error))
            return NOT_REDACTED

    def redact_verdict(self, op: str, verdict: Verdict) -> Verdict:
        """The verdict as tape, span and log are to have it; its result was asked about before."""
        final, error = verdict.final, verdict.error
        said = None
        if final is not None and final.error is not None:
            said = self._redact_error(op, final.error)
            final = replace(final, error=said)
        if error is not None:
            raised = explain(error)
            if said is None or verdict.final is None or verdict.final.error != raised:
                said = self._redact_error(op, raised)
            error = Redacted(error, said.message, said.traceback)
        return replace(verdict, final=final, error=error)

    def redact_exception(self, op: str, error: BaseException) -> BaseException:
        """What spans and logs are told in the place of an exception."""
        said = self._redact_error(op, explain(error))
        return Redacted(error, said.message, said.traceback)

    def _redact_error(self, op: str, error: ErrorInfo) -> ErrorInfo:
        trace = error.traceback
        if trace is not None:
            trace = self.redact_text(ToldKind.EXCEPTION, op, "traceback", trace)
        message = self.redact_text(ToldKind.EXCEPTION, op, "message", error.message)
        return replace(error, message=message, traceback=trace)

    def note_rubbish(self, answer: Any, error: Exception) -> None:
        """Count an answer that cannot be kept: it raises this."""
        REDACTIONS.note(type(error))
        close_unawaited(answer)

    def ask(self, told: Telling, value: Any) -> Any:
        """The hook's answer, or ``NOT_REDACTED`` itself where it raises."""
        try:
            return self._hook(told, value)
        except BaseException as error:
            if is_a(error, (KeyboardInterrupt, GeneratorExit)):
                raise  # it is not the hook's; nothing was kept, and nothing told
            REDACTIONS.note(type(error))
            return NOT_REDACTED

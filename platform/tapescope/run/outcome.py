"""How a run ended: the verdict on its runner, one branch for each line of the cancel table."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any, Final, Literal, cast

from tapescope.codec import decode, encode
from tapescope.errors import BadEvent, BadParams, CodecFailed, CommandFailed, NotOfType
from tapescope.model.error_codes import (
    BAD_PARAMS,
    BAD_RESULT,
    BAD_ROW,
    RELEASED,
    STALLED,
    TIMEOUT,
    UNREQUESTED_CANCEL,
)
from tapescope.model.frozen import quickly_made
from tapescope.model.tape import Outcome
from tapescope.model.tasks import CancelReason, CancelRequest, ErrorInfo, FinalEvent
from tapescope_telemetry import error_type_of
from tapescope_telemetry.failures import (
    find_cause,
    is_a,
    is_raised_here,
    list_parts,
    text_of,
    trace_of,
)

__all__ = [
    "LOST",
    "Limits",
    "StopReason",
    "Verdict",
    "clean_text",
    "close_unawaited",
    "describe_stop",
    "explain",
    "judge",
    "judge_damaged",
    "judge_fenced",
    "judge_unfit",
]

LOST: Final = "lost"
"""The lease was lost: another owner may have the task, and this run writes no end of it."""

StopReason = CancelRequest | Literal["timeout", "stalled", "lost", "released"]
"""Why the run cancelled its runner; ``released``: the manager is being closed, and another worker
goes on with the task. The first reason stays."""

_MESSAGE_LIMIT: Final = 4_096
_TRACEBACK_LIMIT: Final = 16_384
"""Characters of a traceback on the tape; its middle goes first."""
_TRIMMED: Final = 500
"""Characters of each text in a ``final`` that was too large with longer ones."""


@dataclass(frozen=True, slots=True)
class Limits:
    """How long the attempts of a task may take, in seconds; ``None`` for no limit."""

    timeout: float | None
    """Of a whole attempt."""
    stall_timeout: float | None
    """Of an attempt between two of its reports."""
    released: str = "the manager was closed"
    """Why the task is given back, where it is."""


def describe_stop(reason: StopReason, limits: Limits, now: int) -> CancelRequest:
    """The stop as the runner sees it; ``now`` is in microseconds since the epoch."""
    if isinstance(reason, CancelRequest):
        return reason
    if reason == RELEASED:
        return CancelRequest(CancelReason.SHUTDOWN, limits.released, None, now)
    if reason == LOST:
        return CancelRequest(CancelReason.SUPERSEDED, "the lease was lost", None, now)
    if reason == STALLED:
        message = f"nothing was reported for {limits.stall_timeout:g} s"
    else:
        message = f"the timeout of {limits.timeout:g} s has passed"
    return CancelRequest(CancelReason.SUPERSEDED, message, None, now)


@quickly_made
@dataclass(frozen=True, slots=True)
class Verdict:
    """The ``final`` to write, and the exception for the span."""

    final: FinalEvent | None
    """``None`` where the settlement writes none."""
    error: BaseException | None = None
    instead: Literal["lost", "released"] | None = None
    """Why no ``final`` is written: the task is given back (``RELEASED``), with the ``message``, or
    another attempt writes its end (``LOST``)."""
    message: str = ""
    """Why the task is given back."""

    @property
    def error_code(self) -> str:
        """The code of a failure; empty where there is none."""
        if self.final is None or self.final.outcome is not Outcome.FAILED:
            return ""
        return "" if self.final.error is None else self.final.error.code

    @property
    def retry_cause(self) -> BaseException | None:
        """What a retry policy is asked about; ``None`` where no attempt may follow in any case."""
        code, error = self.error_code, self.error
        if code in (TIMEOUT, STALLED):
            assert self.final is not None
            return TimeoutError("" if self.final.error is None else self.final.error.message)
        if code in ("", BAD_RESULT, UNREQUESTED_CANCEL) or error is None:
            return None
        return error if is_a(error, Exception) else None

    def not_retried(self, why: str) -> Verdict:
        """The same with ``why`` no other attempt follows, in the details of its error."""
        assert self.final is not None
        error = self.final.error
        assert error is not None
        details = {**(error.details or {}), "not_retried": why}
        return replace(self, final=replace(self.final, error=replace(error, details=details)))

    def reduce(self, refusal: BadEvent | CodecFailed | NotOfType) -> Verdict:
        """What to write where a tape cannot hold this ``final``: an end is never lost for that."""
        final = self.final
        assert final is not None
        if final.outcome is Outcome.SUCCEEDED:
            return Verdict(FinalEvent.failed(ErrorInfo(BAD_RESULT, str(refusal))), refusal)
        error, cancel = final.error, final.cancel
        if error is not None:
            error = ErrorInfo(error.code[:_TRIMMED], error.message[:_TRIMMED])
        if cancel is not None:
            cancel = replace(cancel, message=cancel.message[:_TRIMMED])
        return Verdict(replace(final, error=error, cancel=cancel), self.error)


def judge(
    stop_reason: StopReason | None,
    result: Any,
    error: BaseException | None,
    limits: Limits,
    keep: Callable[[Any], Any],
) -> Verdict:
    """The verdict on a runner that returned ``result`` or raised ``error``.

    ``keep`` makes what is stored of a result.
    """
    if stop_reason == RELEASED and error is None:
        # The runner ended in time: its work need not be done again.
        return _judge_result(result, keep)
    if stop_reason is not None and not isinstance(stop_reason, CancelRequest):
        return judge_fenced(stop_reason, limits, error)
    if error is None:
        return _judge_result(result, keep)
    if stop_reason is None:
        if _is_cancel(error):
            unrequested = explain(error, code=UNREQUESTED_CANCEL)
            message = "the runner was cancelled, but no cancel was requested"
            return Verdict(FinalEvent.failed(replace(unrequested, message=message)), error)
        return Verdict(FinalEvent.failed(explain(error)), error)
    if _is_cancel(error):
        return Verdict(FinalEvent.cancelled(stop_reason))
    return Verdict(FinalEvent.cancelled(stop_reason, explain(error)), error)


def judge_fenced(
    stop_reason: StopReason, limits: Limits, error: BaseException | None = None
) -> Verdict:
    """The verdict on a run that was told to stop, whatever its runner makes of that."""
    if isinstance(stop_reason, CancelRequest):
        return Verdict(FinalEvent.cancelled(stop_reason))
    if stop_reason == LOST:
        return Verdict(None, instead=LOST)
    if stop_reason == RELEASED:
        message = limits.released
        if error is not None and not _is_cancel(error):
            message += f"; the runner's cleanup raised {explain(error).code}"
        return Verdict(None, instead=RELEASED, message=message)
    if stop_reason == STALLED:
        message = f"the attempt reported nothing for {limits.stall_timeout:g} s"
    else:
        message = f"the attempt ran longer than its timeout of {limits.timeout:g} s"
    if error is None or _is_cancel(error):
        return Verdict(FinalEvent.failed(ErrorInfo(stop_reason, message)))
    cleanup = explain(error)
    details = {"cleanup": cleanup.code, **_details(error)}
    return Verdict(FinalEvent.failed(ErrorInfo(stop_reason, message, cleanup.traceback, details)))


def judge_damaged(damage: str) -> Verdict:
    """The verdict on a task whose row cannot be read: no runner is begun with what is made up."""
    return Verdict(FinalEvent.failed(ErrorInfo(BAD_ROW, damage)))


def judge_unfit(unfit: BadParams) -> Verdict:
    """The verdict on a task whose params are not what its runner takes: it is not begun."""
    told = replace(explain(unfit, code=BAD_PARAMS), traceback=None)  # no line of the runner's ran
    return Verdict(FinalEvent.failed(told), unfit)


def explain(error: BaseException, *, code: str | None = None) -> ErrorInfo:
    """The exception as the tape keeps it: text of a limited size that any store takes."""
    cause = find_cause(error)
    return ErrorInfo(
        clean_text(code or error_type_of(error), 200),
        clean_text(text_of(cause), _MESSAGE_LIMIT),
        None if is_raised_here(error) else clean_text(trace_of(error), _TRACEBACK_LIMIT),
        _details(cause) or None,
    )


def _judge_result(result: Any, keep: Callable[[Any], Any]) -> Verdict:
    if inspect.isawaitable(result):
        close_unawaited(result)
        message = "the runner returned an awaitable; pass the async function itself as the runner"
        return Verdict(FinalEvent.failed(ErrorInfo(BAD_RESULT, message)))
    try:
        stored = keep(result)
        if stored is None or type(stored) in (str, int, float, bool):
            return Verdict(FinalEvent.succeeded(stored))
        copy = decode(encode(stored, "result"))  # as every reader will see it, tuples as lists
    except (BadEvent, CodecFailed, NotOfType) as refusal:
        return Verdict(FinalEvent.succeeded()).reduce(refusal)
    return Verdict(FinalEvent.succeeded(copy))


def close_unawaited(result: object) -> None:
    """Close a coroutine that nobody awaits; Python would warn of that."""
    if inspect.iscoroutine(result):
        result.close()


def _is_cancel(error: BaseException) -> bool:
    """Whether it is a cancel, or a group of nothing else (however deep)."""
    parts = [error]
    for part in parts:
        if is_a(part, BaseExceptionGroup):
            parts += list_parts(part)
        elif not is_a(part, asyncio.CancelledError):
            return False
    return True


def _details(error: BaseException) -> Mapping[str, Any]:
    if not is_a(error, CommandFailed):
        return {}
    failed = cast("CommandFailed", error)
    losses = {
        "lines_not_recorded": failed.lines_not_recorded,
        "bytes_not_written": failed.bytes_not_written,
    }
    return {"exit_status": failed.exit_status} | {name: n for name, n in losses.items() if n}


def clean_text(text: str, limit: int) -> str:
    """``text`` without NUL and lone surrogates, and without its middle where it is too long."""
    if len(text) > limit:
        half = limit // 2
        text = f"{text[:half]}\n… {len(text) - 2 * half:,} characters left out …\n{text[-half:]}"
    return text.replace("\0", "\\x00").encode("utf-8", "backslashreplace").decode()

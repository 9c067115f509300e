"""From what a server answers in the place of what was asked to an error that says what to do."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final, cast

import orjson

from tapescope import errors
from tapescope.errors import (
    OpFull,
    RequestRefused,
    ScopeMissing,
    ServerFailed,
    ServerNotUnderstood,
    ServerUnavailable,
    TapescopeError,
    TokenRefused,
)
from tapescope.model.showing import make_printable

__all__ = [
    "Answer",
    "Problem",
    "is_for_now",
    "is_full",
    "make_error",
    "read_problem",
    "read_retry_after",
]

_FOR_NOW: Final = (429, 502, 503, 504)
"""Statuses after which another try may go well: of the server, or of a proxy before it."""
_LONGEST_PAUSE: Final = 3_600.0
"""Seconds of a ``Retry-After`` that are believed."""
_SHOWN: Final = 200
"""Characters of what another program says."""


@dataclass(frozen=True, slots=True)
class Answer:
    """An answer as a whole."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    @property
    def kind(self) -> str:
        """Its media type, in small letters."""
        return self.headers.get("content-type", "").partition(";")[0].strip().lower()


@dataclass(frozen=True, slots=True)
class Problem:
    """Problem details (RFC 9457), as a server of tapescope has them."""

    status: int
    name: str
    detail: str
    arguments: Mapping[str, Any] | None


def is_for_now(status: int) -> bool:
    """Whether another try may go well."""
    return status in _FOR_NOW


def is_full(error: TapescopeError) -> bool:
    """Whether too many tasks of an op wait, as a server of whatever version says it: it may be so
    for hours, and who submits is to decide (docs/decisions/0100)."""
    told = isinstance(error, RequestRefused) and error.name == OpFull.__name__
    return told or isinstance(error, OpFull)


def read_retry_after(answer: Answer) -> float | None:
    """Seconds after which the server wants to be asked again; ``None`` where it does not say so.

    A date is not read: what we serve names seconds.
    """
    text = answer.headers.get("retry-after", "").strip()
    return min(float(text), _LONGEST_PAUSE) if text.isascii() and text.isdecimal() else None


def read_problem(shape: object) -> Problem | None:
    """The problem that a shape is; ``None`` for anything else."""
    if not isinstance(shape, dict):
        return None
    fields = cast("dict[str, Any]", shape)
    status, name, detail = fields.get("status"), fields.get("error"), fields.get("detail")
    if type(status) is not int or not isinstance(name, str) or not isinstance(detail, str):
        return None
    arguments = fields.get("arguments")
    known = cast("dict[str, Any]", arguments) if isinstance(arguments, dict) else None
    return Problem(status, make_printable(name), detail, known)


def make_error(server: str, answer: Answer | Problem) -> TapescopeError:
    """The error that the answer stands for: the server's own, wherever it can be made again."""
    problem = answer if isinstance(answer, Problem) else _find_problem(answer)
    if problem is None:
        assert isinstance(answer, Answer), "a problem is one"
        return _make_of_other(server, answer)
    return _make_again(problem) or _make_of_status(server, problem)


def _find_problem(answer: Answer) -> Problem | None:
    if answer.kind != "application/problem+json":
        return None
    try:
        return read_problem(orjson.loads(answer.body))
    except ValueError:
        return None


def _make_again(problem: Problem) -> TapescopeError | None:
    """The error that the server met; ``None`` where this version would say something else."""
    kind = getattr(errors, problem.name, None) if problem.name in errors.__all__ else None
    if problem.arguments is None or not isinstance(kind, type):
        return None
    try:
        error = kind(**problem.arguments)
    except Exception:  # noqa: BLE001  # arguments of another version, or of no version: it is told by its text
        return None
    same = isinstance(error, TapescopeError) and str(error) == problem.detail
    return error if same else None


def _make_of_status(server: str, problem: Problem) -> TapescopeError:
    status, name, detail = problem.status, problem.name, problem.detail
    if name == "NoSuchPath":
        why = "it has no such path: its version is older than this client's, or newer"
        return ServerNotUnderstood(server, why)
    if status == 401:
        return TokenRefused(server, status, name, detail)
    if status == 403 and name == "Forbidden":
        return ScopeMissing(server, status, name, detail)
    if status in (502, 503, 504):
        return ServerUnavailable(server, detail)
    if status >= 500:
        return ServerFailed(server, status, name, detail)
    return RequestRefused(server, status, name, detail)


def _make_of_other(server: str, answer: Answer) -> TapescopeError:
    """For an answer that no server of ours gives: of a proxy, or of another program."""
    status = answer.status
    if status in (502, 503, 504):
        return ServerUnavailable(server, f"what is before it answers {status}")
    if status == 429:
        detail = "What is before the server takes no more requests for now. Try again later."
        return RequestRefused(server, status, "TooManyRequests", detail)
    if 300 <= status < 400:
        to = make_printable(answer.headers.get("location", "elsewhere"))[:_SHOWN]
        return ServerNotUnderstood(server, f"it sends on to {to}, where no token is sent")
    if status in (401, 403, 407):
        detail = "What is before the server refuses it: it does not look at tapescope's tokens."
        return RequestRefused(server, status, "RefusedByProxy", detail)
    kind = make_printable(answer.kind)[:_SHOWN] or "no media type"
    return ServerNotUnderstood(
        server, f"status {status} with {kind} is not an answer of tapescope's"
    )

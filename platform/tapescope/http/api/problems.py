"""Errors as RFC 9457 problem details: what each error of the platform is over HTTP."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any, Final

import orjson
from starlette.responses import Response

from tapescope import errors
from tapescope.errors import TapescopeError
from tapescope.model.internals import Refusal
from tapescope_telemetry.logger import Logger

__all__ = ["PROBLEM_TYPE", "ErrorRow", "Refused", "describe", "find_row", "make_problem"]

PROBLEM_TYPE: Final = "application/problem+json"

_log = Logger("tapescope")

_LONGEST_ARGUMENT: Final = 200
"""Characters: the message of an error shows no more of a caller's value either."""
_ABSENT: Final = object()


@dataclass(frozen=True, slots=True)
class ErrorRow:
    """What an error is over HTTP."""

    status: int
    detail: str | None = None
    """What is said in the place of the error's message, which would show the server's inside."""
    retry_after: int | None = None
    """Seconds after which another try may go well."""


_BY_CALLER: Final = ErrorRow(422)
_CONFLICT: Final = ErrorRow(409)
_OWN: Final = ErrorRow(500, "The server is not set up as it should be; its log says what is wrong.")
_AWAY: Final = ErrorRow(
    503, "The store cannot be used now, and nothing of this request was written. Try again.", 5
)
_CLOSING: Final = ErrorRow(503, "The server is about to stop. Ask again, or another one.", 1)

ROWS: Final[Mapping[type[TapescopeError], ErrorRow]] = {
    TapescopeError: _OWN,
    errors.BadSetting: _BY_CALLER,
    errors.BadOp: _BY_CALLER,
    errors.BadRunner: _OWN,
    errors.BadParams: _BY_CALLER,
    errors.BadEvent: _BY_CALLER,
    errors.BadEventType: _BY_CALLER,
    errors.EventTooLarge: _BY_CALLER,
    errors.NotJson: _BY_CALLER,
    errors.NotOfType: _BY_CALLER,
    errors.TapeFull: _CONFLICT,
    errors.NowaitBacklogFull: _AWAY,
    errors.CodecFailed: _OWN,
    errors.CodecMissing: _OWN,
    errors.IdempotencyConflict: _CONFLICT,
    errors.UniqueKeyTaken: _CONFLICT,
    errors.ConnectionRefused: _OWN,
    errors.UnknownTask: ErrorRow(404),
    errors.UnknownSchedule: ErrorRow(404),
    errors.ScheduleTaken: _CONFLICT,
    errors.UnknownWorker: ErrorRow(404),
    errors.GiveUp: _OWN,
    errors.Retry: _OWN,
    errors.TaskFailed: _CONFLICT,
    errors.TaskCancelled: _CONFLICT,
    errors.ResultTimeout: ErrorRow(504),
    errors.EventDropped: _CONFLICT,
    errors.EventFateUnknown: ErrorRow(
        503,
        "The store was lost during the write, which may or may not have been made. To submit, send "
        "the same request with the same Idempotency-Key again; without a key, look for the task "
        "first. To cancel, send the request again.",
        5,
    ),
    errors.CommandFailed: _OWN,
    errors.BadSpool: _OWN,
    errors.TapeGap: ErrorRow(500),
    errors.DamagedTape: ErrorRow(500),
    errors.StoreConfigError: _OWN,
    errors.BadStoreUrl: _OWN,
    errors.UnknownStoreScheme: _OWN,
    errors.MissingExtra: _OWN,
    errors.SchemeTaken: _OWN,
    errors.EngineUnfit: _OWN,
    errors.BadEngineUrl: _OWN,
    errors.UnknownEngine: _OWN,
    errors.EngineUnavailable: _OWN,
    errors.SchemaTooNew: _OWN,
    errors.SchemaTooOld: _OWN,
    errors.SchemaForbidden: _OWN,
    errors.SchemaNotOwn: _OWN,
    errors.RightsMissing: _OWN,
    errors.StoreAuthFailed: _OWN,
    errors.StoreNotFound: _OWN,
    errors.StoreUnavailable: _AWAY,
    errors.StoreBusy: _AWAY,
    errors.StoreFull: ErrorRow(
        503, "The store has no room, and nothing of this request was written.", 30
    ),
    errors.StoreRefused: _OWN,
    errors.StoreClosed: _CLOSING,
    errors.StoreReadOnly: ErrorRow(403, "This server only reads its store."),
    errors.ManagerClosed: _CLOSING,
    errors.ManagerOpen: _OWN,
    errors.ManagerUnclear: _OWN,
    errors.HookMisused: _OWN,
    errors.ResourceFailed: _OWN,
    errors.OpTaken: _CONFLICT,
    errors.TaskNotEnded: _CONFLICT,
    errors.TaskEnded: _CONFLICT,
    errors.InboxFull: _CONFLICT,
    errors.MessageTooLarge: _BY_CALLER,
    errors.MessageConflict: _CONFLICT,
    errors.OpFull: ErrorRow(429, retry_after=1),
    errors.OpNotRegistered: _CONFLICT,
    errors.CannotListen: _OWN,
    errors.BlockingCallOnLoop: _OWN,
    errors.WouldBlockLoop: _OWN,
    errors.UsedAfterFork: _OWN,
    errors.UsedInAnotherLoop: _OWN,
    errors.ServerUnavailable: _OWN,
    errors.ServerFailed: _OWN,
    errors.ServerNotUnderstood: _OWN,
    errors.RequestRefused: _OWN,
    errors.TokenRefused: _OWN,
    errors.ScopeMissing: _OWN,
    errors.ClientClosed: _OWN,
}
"""Every error that the platform exports has a row of its own."""


_REFUSALS: Final[Mapping[str, Refusal]] = {
    "NotAuthenticated": Refusal.UNAUTHENTICATED,
    "Forbidden": Refusal.FORBIDDEN,
    "CrossOriginRefused": Refusal.CROSS_ORIGIN,
    "HostRefused": Refusal.HOST,
    "BodyTooLarge": Refusal.TOO_LARGE,
    "QueryTooLong": Refusal.TOO_LARGE,
    "BodyTooSlow": Refusal.TOO_SLOW,
    "TooManyStreams": Refusal.TOO_MANY,
    "TooManySubmits": Refusal.TOO_MANY,
    "Draining": Refusal.DRAINING,
}
"""What is counted of a request that is refused, by the name of its problem."""


class Refused(Exception):
    """A request that the server itself refuses: not by its store, nor by its manager."""

    def __init__(
        self, status: int, name: str, detail: str, *, headers: Mapping[str, str] | None = None
    ) -> None:
        self.status, self.name, self.detail = status, name, detail
        self.headers = dict(headers or {})
        super().__init__(detail)

    @property
    def refusal(self) -> Refusal | None:
        """What it is counted as; ``None`` for a request that makes no sense, which is not."""
        return _REFUSALS.get(self.name)


def find_row(error: TapescopeError) -> ErrorRow:
    """The row of the error, or of what it is a kind of."""
    return next(ROWS[kind] for kind in type(error).__mro__ if kind in ROWS)


def describe(error: Exception) -> tuple[dict[str, Any], dict[str, str]]:
    """The problem details of an error, and the headers that go with them.

    What is the server's own fault is logged, and is not shown to the client.
    """
    if isinstance(error, Refused):
        return _shape(error.status, error.name, error.detail), error.headers
    if not isinstance(error, TapescopeError):
        _log.error("A request met a defect: %s", type(error).__name__, error=error)
        detail = "The server met a defect; its log has the details."
        return _shape(500, "InternalError", detail), {}
    row = find_row(error)
    if row.status >= 500:
        _log.warning("A request failed with %s: %s", type(error).__name__, error)
    headers = {} if row.retry_after is None else {"Retry-After": str(row.retry_after)}
    shape = _shape(row.status, type(error).__name__, row.detail or str(error))
    arguments = None if row.detail else _find_arguments(error)
    return shape | ({"arguments": arguments} if arguments else {}), headers


def _find_arguments(error: TapescopeError) -> dict[str, Any] | None:
    """What the error was made of, and its message shows: a client makes the same error of them.

    ``None`` where one of them is not a short text, a number or a boolean.
    """
    names = list(inspect.signature(type(error)).parameters)
    arguments = {name: getattr(error, name, _ABSENT) for name in names}
    return arguments if all(map(_is_plain, arguments.values())) else None


def _is_plain(value: object) -> bool:
    if isinstance(value, str):
        return len(value) <= _LONGEST_ARGUMENT
    return value is None or isinstance(value, bool | int | float)


def make_problem(error: Exception) -> Response:
    """The answer to a request that met this error."""
    shape, headers = describe(error)
    return Response(orjson.dumps(shape), shape["status"], headers=headers, media_type=PROBLEM_TYPE)


def _shape(status: int, name: str, detail: str) -> dict[str, Any]:
    return {
        "type": f"urn:tapescope:error:{name}",
        "title": HTTPStatus(status).phrase,
        "status": status,
        "detail": detail,
        "error": name,
    }

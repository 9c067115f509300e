"""What the routes of one application share: manager, who may ask, places for those that wait."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Generator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, cast

from starlette.requests import Request

from tapescope.http.access import Caller, Scope
from tapescope.http.api.origins import is_same_origin
from tapescope.http.api.problems import Refused
from tapescope.http.api.trend import Trend
from tapescope.http.cookies import COOKIE, Cookies
from tapescope.model.audit import AUDIT_GRACE
from tapescope_telemetry.logger import Logger
from tapescope_telemetry.spans import continue_trace, is_in_span, join_trace_context

if TYPE_CHECKING:
    from tapescope.http.api.limits import ApiLimits
    from tapescope.http.tokens import TokenFile
    from tapescope.manager import TaskManager
    from tapescope.model.audit import AuditReport

__all__ = ["AT_READERS_PACE", "WAITED", "ApiState", "Who", "acting", "state_of"]

AT_READERS_PACE: Final = "at_readers_pace"
"""Set in the state of a request: the body of its answer comes as its reader takes it, or its task
goes on, so that its duration says nothing of the server."""
WAITED: Final = "waited"
"""In the state of a request: the seconds that its client asked to wait for, and it waited."""

Who = Callable[[Request], Caller | Awaitable[Caller | None] | None]
"""Says who makes a request, in an application that knows that itself; ``None`` refuses it."""

_acts = Logger("tapescope.acts")

_ANYBODY: Final = Caller.of(None, [Scope.ADMIN])
"""Who asks from this machine where there are no tokens: who can do so has the store's file, too."""


class Seats:
    """The streams and waiting requests at once."""

    def __init__(self, most: int) -> None:
        self.most = most
        self.taken = 0

    def take(self) -> None:
        """Raises ``Refused`` where none is free."""
        if self.taken >= self.most:
            detail = f"The server has {self.most:,} streams and waiting requests. Try again later."
            raise Refused(503, "TooManyStreams", detail, headers={"Retry-After": "5"})
        self.taken += 1

    def leave(self) -> None:
        """Give a seat back."""
        self.taken -= 1

    @contextmanager
    def seated(self) -> Generator[None]:
        """Have a seat inside. Raises ``Refused``."""
        self.take()
        try:
            yield
        finally:
            self.leave()


class Submits:
    """The tasks whose submits wait for the store at once: so much of its write queue, and of this
    server's memory, is taken by them at most (docs/decisions/0088)."""

    def __init__(self, most: int) -> None:
        self.most = most
        self.waiting = 0

    @contextmanager
    def waits(self, tasks: int = 1) -> Generator[None]:
        """Have so many tasks wait inside.

        Raises ``Refused`` where they are too many together. What nobody else waits beside is never
        refused, or a batch of more than ``most`` would be for ever.
        """
        if self.waiting and self.waiting + tasks > self.most:
            detail = (
                f"{self.waiting:,} tasks wait to be submitted, and no more than {self.most:,} may. "
                "Nothing of this request was submitted. Try again later."
            )
            raise Refused(429, "TooManySubmits", detail, headers={"Retry-After": "1"})
        self.waiting += tasks
        try:
            yield
        finally:
            self.waiting -= tasks


@dataclass(frozen=True, slots=True)
class LastAudit:
    """The audit that this server ran last."""

    at_us: int
    """When it ended, in microseconds since the Unix epoch."""
    report: AuditReport
    thorough: bool


class ApiState:
    """Of one application, from ``make_app`` on."""

    def __init__(
        self,
        manager: TaskManager,
        tokens: TokenFile | None,
        who: Who | None,
        limits: ApiLimits,
        trace_url: str | None = None,
    ) -> None:
        self.manager = manager
        self.trend = Trend()
        self.trace_url = trace_url
        """Where a tool for traces shows one, as a template."""
        self.limits = limits
        self.seats = Seats(limits.streams)
        self.submits = Submits(limits.submits)
        self.draining = asyncio.Event()
        """Set when the server is about to stop."""
        self.meter = manager.telemetry.server
        self.audits = asyncio.Lock()
        self.last_audit: LastAudit | None = None
        self._tokens = tokens
        self._who = who
        self._cookies = None if tokens is None or who is not None else Cookies(tokens)

    @property
    def asks_nobody(self) -> bool:
        """Whether requests need neither a token nor an application's word."""
        return self._who is None and not (self._tokens is not None and self._tokens.required)

    def note_refusal(self, error: Exception) -> None:
        """Count a request that ends with this error, where the server refused it by itself."""
        if isinstance(error, Refused) and error.refusal is not None:
            self.meter.refused(error.refusal)

    async def find_caller(self, request: Request) -> Caller:
        """Who makes the request. Raises ``Refused``, with 401."""
        if self.asks_nobody:
            return _ANYBODY
        if self._who is not None:
            answer = self._who(request)
            caller = await answer if isinstance(answer, Awaitable) else answer
        else:
            caller = self._find_by_token(request)
        if caller is None:
            raise Refused(
                401,
                "NotAuthenticated",
                "Send a token that the server knows, as 'Authorization: Bearer TOKEN'.",
                headers={"WWW-Authenticate": 'Bearer realm="tapescope"'},
            )
        return caller

    def _find_by_token(self, request: Request) -> Caller | None:
        assert self._tokens is not None, "else nobody is asked"
        scheme, _, token = request.headers.get("authorization", "").partition(" ")
        if scheme:
            return self._tokens.find(token.strip()) if scheme.lower() == "bearer" else None
        cookie = request.cookies.get(COOKIE)
        if cookie is None or self._cookies is None:
            return None
        if request.method not in ("GET", "HEAD") and not is_same_origin(request.headers):
            return None  # the cookie comes by itself: an act takes the browser's word for its page
        return self._cookies.find(cookie, int(time.time()))

    def log_in(self, token: str) -> tuple[Caller, str] | None:
        """Who shows this token, and the cookie in its place; ``None`` for one that is not known."""
        if self._tokens is None or self._cookies is None:
            return None
        known = self._tokens.find_known(token)
        if known is None:
            return None
        return Caller(known.name, known.grants), self._cookies.make(known, int(time.time()))

    @property
    def takes_tokens(self) -> bool:
        """Whether a person shows who it is with a token, at the page for it."""
        return self._cookies is not None and not self.asks_nobody

    async def audit(
        self,
        *,
        thorough: bool,
        grace: float = AUDIT_GRACE,
        rows_per_second: float | None = None,
    ) -> AuditReport:
        """Check every tape of the store. One audit at a time: raises ``Refused`` beside another."""
        if self.audits.locked():
            detail = "An audit is under way. Wait for its end."
            raise Refused(503, "AuditUnderWay", detail, headers={"Retry-After": "10"})
        async with self.audits:
            report = await self.manager.audit(
                thorough=thorough, grace=grace, rows_per_second=rows_per_second
            )
        self.last_audit = LastAudit(self.manager.store.clock.now(), report, thorough)
        return report

    async def admit(self, request: Request, scope: Scope) -> Caller:
        """Who makes the request, if that caller has the scope for some tasks at least.

        Raises ``Refused``, with 401 or 403.
        """
        caller = await self.find_caller(request)
        request.state.caller = caller
        if not caller.has(scope):
            raise Refused(403, "Forbidden", f"It takes the scope '{scope}', which the token lacks.")
        return caller


def state_of(request: Request) -> ApiState:
    """The state of the application that has the request."""
    return cast("ApiState", request.app.state.tapescope)


@contextmanager
def acting(request: Request, caller: Caller, act: str, of: str) -> Generator[list[str]]:
    """One line in the log ``tapescope.acts`` for what is done inside, and who does it.

    What became of it goes into the list; an error is told by its name. Where the application makes
    no span of the request, it is done in the span that the request names.
    """
    became: list[str] = []
    try:
        with nullcontext() if is_in_span() else continue_trace(*_read_trace(request)):
            yield became
    except BaseException as error:
        name = error.name if isinstance(error, Refused) else type(error).__name__
        became.append(f"not done ({name})")
        raise
    finally:
        address = request.client.host if request.client is not None else "-"
        _acts.info("%s %s by %s from %s: %s", act, of, caller.name or "-", address, *became)


def _read_trace(request: Request) -> tuple[str | None, str | None]:
    headers = request.headers
    named = join_trace_context(headers.get("traceparent"), headers.get("tracestate"))
    return named, headers.get("baggage")

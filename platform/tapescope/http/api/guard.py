"""What every request passes first, and every answer last: host, origin, headers, errors, log."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Final
from urllib.parse import urlsplit

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import Response

from tapescope.http.api.origins import is_cross_origin, is_navigation
from tapescope.http.api.problems import Refused, make_problem
from tapescope.http.api.state import AT_READERS_PACE, WAITED
from tapescope.model.addresses import is_loopback
from tapescope_telemetry.logger import Logger

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Message, Receive, Scope, Send

    from tapescope.http.api.state import ApiState

__all__ = ["Guard"]

_access = Logger("tapescope.access")

_HEADERS: Final = {
    "Cache-Control": "no-store",
    "Content-Security-Policy": "default-src 'none'; frame-ancestors 'none'",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
}
_PROBES: Final = ("/livez", "/readyz", "/metrics")
_PLAIN: Final = (*_PROBES, "/v1/openapi.json")
"""Routes without a parameter, of which Starlette says nothing: their path is their template."""
_FORWARDED: Final = ("forwarded", "x-forwarded-for", "x-forwarded-host", "x-real-ip")


_COME_AGAIN: Final = (
    '<!doctype html><meta http-equiv="refresh" content="0"><title>tapescope</title>'
    "<p>One moment …</p>"
)
"""To who comes from another site's page: the browser asks again, and this time for a page of ours,
so that it sends the cookie, and so that no other page makes a request of ours."""


class _FollowedLink(Exception):
    """A person came here by a link on another site."""


class Guard:
    """ASGI middleware around the routes. It reads no body and holds no stream up."""

    def __init__(self, app: ASGIApp, state: ApiState) -> None:
        self._app = app
        self._state = state

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)  # a lifespan; there is no websocket
            return
        scope.setdefault("state", {})
        began, status = time.monotonic(), 0

        async def tell(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                if scope["state"].get(AT_READERS_PACE):
                    self._measure(scope, status, began)
                headers = MutableHeaders(scope=message)
                for name, value in _HEADERS.items():
                    headers.setdefault(name, value)
            await send(message)

        try:
            self._check(scope)
            await self._app(scope, receive, tell)
        except _FollowedLink:
            await Response(_COME_AGAIN, media_type="text/html")(scope, receive, tell)
        except Exception as error:
            # Whatever a route or a user's function raises: it is logged, and answered once.
            self._state.note_refusal(error)
            answer = make_problem(error)
            if status:
                raise  # the answer has begun: the server ends the connection
            await answer(scope, receive, tell)
        finally:
            if not scope["state"].get(AT_READERS_PACE):
                self._measure(scope, status or 500, began)
            self._note(scope, status, time.monotonic() - began)

    def _measure(self, scope: Scope, status: int, began: float) -> None:
        """How long it took, less what the client asked to wait for (docs/decisions/0084)."""
        took = time.monotonic() - began - scope["state"].get(WAITED, 0.0)
        self._state.meter.answered(scope["method"], _find_template(scope), status, took)

    def _check(self, scope: Scope) -> None:
        """Raises ``Refused``."""
        headers = Headers(scope=scope)
        if self._state.asks_nobody and not _is_of_this_machine(scope, headers):
            raise Refused(
                421,
                "HostRefused",
                "Without tokens the server answers requests of this machine alone, to localhost, "
                "127.0.0.1 or [::1]. 'tapescope token add' makes a token.",
            )
        if is_cross_origin(headers):
            if is_navigation(headers) and scope["method"] == "GET" and not _is_of_api(scope):
                raise _FollowedLink
            detail = "The server answers no request that the page of another site makes."
            raise Refused(403, "CrossOriginRefused", detail)
        most = self._state.limits.query_bytes
        if len(scope["query_string"]) > most:
            raise Refused(414, "QueryTooLong", f"The query is over {most:,} bytes.")
        if self._state.draining.is_set() and not scope["path"].endswith(_PROBES):
            detail = "The server is about to stop. Ask again, or another one."
            raise Refused(
                503, "Draining", detail, headers={"Retry-After": "1", "Connection": "close"}
            )

    def _note(self, scope: Scope, status: int, took: float) -> None:
        caller = scope["state"].get("caller")
        client = scope.get("client")
        _access.info(
            "%s %s %d %.1f ms, %s from %s",
            scope["method"],
            scope["path"],
            status,
            took * 1e3,
            (caller and caller.name) or "-",
            client[0] if client else "-",
        )


def _find_template(scope: Scope) -> str | None:
    """The template of the route that had the request; ``None`` where none did."""
    route: str | None = getattr(scope.get("route"), "path", None)
    path: str = scope["path"].removeprefix(scope.get("root_path", ""))
    return route or (path if path in _PLAIN else None)


def _is_of_api(scope: Scope) -> bool:
    path: str = scope["path"].removeprefix(scope.get("root_path", ""))
    return path.startswith("/v1/") or path in _PROBES


def _is_of_this_machine(scope: Scope, headers: Headers) -> bool:
    """Whether it came from this machine, by no proxy, and was meant for it.

    The page of another site can have its own name lead here (DNS rebinding): such a request has
    that name as its host.
    """
    client = scope.get("client")
    if client is not None and not is_loopback(client[0]):
        return False
    if any(name in headers for name in _FORWARDED):
        return False
    try:
        host = urlsplit(f"//{headers.get('host', '')}").hostname or ""
    except ValueError:  # brackets that do not close
        return False
    return is_loopback(host)

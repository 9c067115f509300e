"""A route of a page: its errors are pages, and who is not known is led to the login."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from typing import Any, Final
from urllib.parse import parse_qsl, quote

from fastapi import Request, Response
from fastapi.routing import APIRoute

from tapescope.errors import BadSetting
from tapescope.http.access import Caller, Scope
from tapescope.http.api.origins import is_same_origin
from tapescope.http.api.page.rendering import render, url_of
from tapescope.http.api.problems import Refused, describe
from tapescope.http.api.routes import read_bytes
from tapescope.http.api.state import state_of

__all__ = ["PageRoute", "enter", "go_to", "read_form", "read_query"]


_LIVE: Final = "/live"
"""How the path of a stream ends: it has no length that could be told."""


class PageRoute(APIRoute):
    """Whatever a page raises is told as a page. What answers GET answers HEAD, without a body."""

    def __init__(self, path: str, endpoint: Callable[..., Any], **settings: Any) -> None:
        """As FastAPI makes a route of a router."""
        super().__init__(path, endpoint, **settings)
        if self.methods and "GET" in self.methods and not path.endswith(_LIVE):
            self.methods.add("HEAD")

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        handle = super().get_route_handler()

        async def answer(request: Request) -> Response:
            try:
                whole = await handle(request)
            except Exception as error:  # noqa: BLE001  # describe() logs what is the server's own fault
                whole = await _tell(request, error)
            return _Head(whole) if request.method == "HEAD" else whole

        return answer


class _Head(Response):
    """The head of an answer, without its body; the length is that of the body."""

    def __init__(self, whole: Response) -> None:
        super().__init__(status_code=whole.status_code)
        self.raw_headers = whole.raw_headers


async def _tell(request: Request, error: Exception) -> Response:
    if isinstance(error, Refused) and error.status == 401 and state_of(request).takes_tokens:
        path = request.url.path.removeprefix(request.scope.get("root_path", ""))
        asked = f"{path}?{request.url.query}" if request.url.query else path
        here = "/" if request.method != "GET" else asked
        login = url_of(request, f"/login?next={quote(here, safe='')}")
        if "hx-request" in request.headers:
            return Response(status_code=401, headers={"HX-Redirect": login})
        return Response(status_code=303, headers={"Location": login})
    state_of(request).note_refusal(error)
    problem, headers = describe(error)
    return await render(request, "error.html", problem["status"], headers, problem=problem)


async def enter(request: Request, scope: Scope = Scope.READ) -> Caller:
    """Who asks for the page. Raises ``Refused``."""
    return await state_of(request).admit(request, scope)


def read_query(request: Request, *names: str) -> dict[str, str]:
    """The parameters of a page, without those that are empty. Raises ``BadSetting``."""
    given = request.query_params
    for name in given:
        if name not in names:
            raise BadSetting(name, given[name], f"one of {', '.join(names)}" if names else "absent")
    return {name: given[name].strip() for name in names if given.get(name, "").strip()}


async def read_form(request: Request) -> list[tuple[str, str]]:
    """The fields of a form that a page of ours has sent. Raises ``Refused``.

    Another site's page can have a browser send any form, so the browser must say that it is ours.
    """
    if not is_same_origin(request.headers):
        detail = "A form is taken from a page of this server alone."
        raise Refused(403, "CrossOriginRefused", detail)
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind != "application/x-www-form-urlencoded":
        raise Refused(415, "BadContentType", "Send a form.")
    body = await read_bytes(request)
    try:
        return parse_qsl(body.decode(), keep_blank_values=True, errors="strict")
    except ValueError as error:
        raise Refused(400, "BadBody", f"The form cannot be read: {error}.") from None


def go_to(request: Request, path: str) -> Response:
    """Have the browser ask for another page: what was sent is not sent again."""
    return Response(status_code=303, headers={"Location": url_of(request, path)})

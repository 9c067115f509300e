"""The login: a token for a cookie, and back."""

from __future__ import annotations

from fastapi import APIRouter, Request, Response

from tapescope.errors import BadSetting
from tapescope.http.access import Caller
from tapescope.http.api.page.acts import check_path
from tapescope.http.api.page.page_route import PageRoute, go_to, read_form, read_query
from tapescope.http.api.page.rendering import render, url_of
from tapescope.http.api.state import acting, state_of
from tapescope.http.cookies import COOKIE, COOKIE_SECONDS
from tapescope.model.internals import Refusal

__all__ = ["router"]

router = APIRouter(route_class=PageRoute, include_in_schema=False)


@router.get("/login")
async def show_login(request: Request) -> Response:
    """Ask for a token."""
    query = read_query(request, "next")
    if not state_of(request).takes_tokens:
        return go_to(request, "/")
    return await render(request, "login.html", next=_check_next(query.get("next")), wrong=False)


def _check_next(path: str | None) -> str:
    """Where to go after the login; what leads elsewhere leads to the overview."""
    try:
        return check_path(path or "/")
    except BadSetting:
        return "/"


@router.post("/login")
async def log_in(request: Request) -> Response:
    """Trade a token for a cookie that no script reads, and no other site's page sends."""
    form = dict(await read_form(request))
    state = state_of(request)
    path = _check_next(form.get("next"))
    if not state.takes_tokens:
        return go_to(request, "/")
    known = state.log_in(form.get("token", "").strip())
    caller = Caller.of(None, []) if known is None else known[0]
    with acting(request, caller, "log in", "to the page") as became:
        became.append("refused" if known is None else "done")
    if known is None:
        state.meter.refused(Refusal.UNAUTHENTICATED)
        return await render(request, "login.html", 401, next=path, wrong=True)
    answer = go_to(request, path)
    answer.set_cookie(
        COOKIE,
        known[1],
        max_age=COOKIE_SECONDS,
        path=url_of(request, "/"),
        secure=request.url.scheme == "https",
        httponly=True,
        samesite="strict",
    )
    return answer


@router.post("/logout")
async def log_out(request: Request) -> Response:
    """Forget the cookie."""
    await read_form(request)
    answer = go_to(request, "/login")
    answer.delete_cookie(COOKIE, path=url_of(request, "/"), httponly=True, samesite="strict")
    return answer

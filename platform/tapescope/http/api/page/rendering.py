"""The templates, the files beside them, and the headers of a page."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Mapping, Sequence
from functools import cache
from importlib.resources import files
from typing import TYPE_CHECKING, Any, Final

from jinja2 import Environment, PackageLoader, StrictUndefined
from starlette.responses import HTMLResponse, Response

from tapescope.clock import Clock
from tapescope.http.access import Caller, Scope
from tapescope.http.api.page.payloads import show_line
from tapescope.http.api.state import state_of
from tapescope.http.api.trace_urls import fill_trace_url
from tapescope.model.times import format_time
from tapescope.model.wording import (
    describe_slot,
    describe_times,
    format_duration,
    format_relative,
    name_error,
    shorten_id,
)
from tapescope_telemetry import __version__

if TYPE_CHECKING:
    from starlette.requests import Request

__all__ = [
    "compile_templates",
    "environment",
    "make_fragment",
    "now_us",
    "render",
    "static_file",
    "url_of",
]

_POLICY: Final = "; ".join(
    (
        "default-src 'none'",
        "script-src 'self'",
        "style-src 'self'",
        "img-src 'self'",
        "connect-src 'self'",
        "form-action 'self'",
        "base-uri 'none'",
        "frame-ancestors 'none'",
    )
)
"""No script and no style that is written into a page, none from elsewhere, no eval."""
_HEADERS: Final = {
    "Content-Security-Policy": _POLICY,
    "Cross-Origin-Opener-Policy": "same-origin",
}
_KINDS: Final = {".js": "text/javascript", ".css": "text/css", ".svg": "image/svg+xml"}
SIGNS: Final = {
    "pending": "◌",
    "running": "▸",
    "succeeded": "✓",
    "failed": "✗",
    "cancelled": "⊘",
    "lost": "?",
}
"""So that a status is told without its colour."""


def now_us() -> int:
    """The time by the clock of this host, in microseconds since the Unix epoch."""
    return Clock().now()


def url_of(request: Request, path: str) -> str:
    """A path as the client sees it: below where we are mounted, or a proxy has us."""
    return f"{request.scope.get('root_path', '')}{path}"


def _say_when(us: int) -> str:
    return format_relative(us, now_us())


@cache
def environment() -> Environment:
    """Where the templates are; it keeps what it has compiled."""
    made = Environment(
        loader=PackageLoader("tapescope.http.api.page"),
        autoescape=True,
        auto_reload=False,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    made.filters |= {
        "short": shorten_id,
        "line": show_line,
        "error": name_error,
        "ago": _say_when,
        "iso": format_time,
        "duration": format_duration,
        "times": describe_times,
        "number": lambda n: f"{n:,}",
    }
    made.globals.update({"signs": SIGNS, "slot": describe_slot, "version": __version__})  # pyright: ignore[reportCallIssue, reportArgumentType]  # Jinja types its own alone
    return made


def compile_templates() -> None:
    """All of them, which takes some 200 ms of CPU in a process: else the first look at each page
    waits for its own."""
    made = environment()
    for name in made.list_templates(extensions=("html",)):
        made.get_template(name)


def make_fragment(template: str, **values: Any) -> str:
    """A template without a request."""
    return environment().get_template(template).render(values)


async def render(
    request: Request,
    template: str,
    status: int = 200,
    headers: Mapping[str, str] | None = None,
    **values: Any,
) -> Response:
    """A page, as the caller of the request may see it; made beside the event loop."""
    caller: Caller = getattr(request.state, "caller", None) or Caller.of(None, [])
    state = state_of(request)

    def url(path: str) -> str:
        return url_of(request, path)

    def static(name: str) -> str:
        return url(f"/static/{name}?v={static_file(name)[0]}")

    def may(scope: str, op: str | None = None, tags: Sequence[str] = ()) -> bool:
        return caller.may(Scope(scope), op, tags)

    def may_some(scope: str) -> bool:
        return caller.has(Scope(scope))

    def trace_link(trace_id: str, span_id: str = "") -> str | None:
        template = state.trace_url
        return None if template is None else fill_trace_url(template, trace_id, span_id)

    values |= {
        "trace_link": trace_link,
        "url": url,
        "static": static,
        "may": may,
        "may_some": may_some,
        "reads_ops": caller.find_ops(Scope.READ) != frozenset(),
        "caller": caller,
        "takes_tokens": state.takes_tokens,
        "store": state.manager.store.name,
    }
    text = await asyncio.to_thread(make_fragment, template, **values)
    return HTMLResponse(text, status, headers={**_HEADERS, **(headers or {})})


@cache
def static_file(name: str) -> tuple[str, bytes, str]:
    """A file for browsers: a word that changes with it, the file, its media type.

    Raises ``KeyError``.
    """
    if name not in _list_static():
        raise KeyError(name)
    content = files("tapescope.http.api.page").joinpath("static", name).read_bytes()
    kind = _KINDS[f".{name.rpartition('.')[2]}"]
    return hashlib.sha256(content).hexdigest()[:12], content, kind


@cache
def _list_static() -> frozenset[str]:
    folder = files("tapescope.http.api.page").joinpath("static")
    return frozenset(one.name for one in folder.iterdir() if one.name.endswith(tuple(_KINDS)))

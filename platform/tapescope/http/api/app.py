"""``make_app``: the application, to serve or to mount."""

from __future__ import annotations

import asyncio
import io
from collections.abc import Callable, Iterable, MutableMapping
from functools import partial
from typing import TYPE_CHECKING, Any, cast

from fastapi import FastAPI
from fastapi.exceptions import RequestValidationError
from fastapi.routing import APIRoute
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

from tapescope.http.access import Scope
from tapescope.http.api import page
from tapescope.http.api.guard import Guard
from tapescope.http.api.limits import ApiLimits
from tapescope.http.api.problems import Refused, make_problem
from tapescope.http.api.routes import COMPONENTS, routers
from tapescope.http.api.state import ApiState, Who
from tapescope.http.api.task_acts import need_ops
from tapescope.http.api.trace_urls import check_trace_url
from tapescope.http.health import HealthApp
from tapescope_telemetry import __version__
from tapescope_telemetry.guarded_tracer import GuardedTracerProvider, can_trace

if TYPE_CHECKING:
    from wsgiref.types import WSGIApplication

    from tapescope.http.tokens import TokenFile
    from tapescope.manager import TaskManager

__all__ = ["begin_drain", "make_app", "prepare_answers"]


def make_app(
    manager: TaskManager,
    *,
    tokens: TokenFile | None = None,
    who: Who | None = None,
    limits: ApiLimits | None = None,
    metrics: WSGIApplication | None = None,
    trace_url: str | None = None,
) -> FastAPI:
    """The HTTP API of a manager and its pages; the caller opens and closes it around them.

    * ``tokens``: the file of the tokens that requests need.
    * ``who``: for an application of your own that knows its users: a function of the request,
      ``async`` or not, that gives the ``Caller``, or ``None`` to refuse. Tokens are not asked then.
    * Without either, requests of this machine alone are answered, and may do everything.
    * ``metrics``: a ``PrometheusReader``, for ``/metrics``.
    * ``trace_url``: where your tool for traces shows one, with ``{trace_id}`` and perhaps
      ``{span_id}`` in it: the pages link there. Raises ``BadSetting`` for another text.

    Mount it under a path, or serve it with ``ApiServer``.
    """
    if trace_url is not None:
        trace_url = check_trace_url("trace_url", trace_url)
    state = ApiState(manager, tokens, who, limits or ApiLimits(), trace_url)
    app = FastAPI(
        title="tapescope",
        version=__version__,
        description="Tasks, each with a durable tape that ends in exactly one final.",
        openapi_url="/v1/openapi.json",
        docs_url=None,  # it would load scripts from another site
        redoc_url=None,
        redirect_slashes=False,
        telemetry={
            "tracer_provider": GuardedTracerProvider(),
            "exclude": _has_no_span,
            "metrics": False,
            "operation_spans": False,
            "logs": False,  # an error's text is in our own log
            "auto_configure": False,  # whoever serves it has set telemetry up
        },
    )
    app.state.tapescope = state
    app.add_middleware(cast("Any", Guard), state=state)
    for each in (*routers, *page.routers):
        app.include_router(each)
    _add_health(app, state, HealthApp(manager.check_health, metrics))
    app.add_exception_handler(HTTPException, _answer_http_error)
    app.add_exception_handler(RequestValidationError, _answer_bad_request)
    app.openapi = partial(_describe, app.openapi, state.limits)  # type: ignore[method-assign]  # as FastAPI's documentation has it
    return app


def _has_no_span(scope: MutableMapping[str, Any]) -> bool:
    """Acts alone have spans: what reads may have a caller's texts in its query, which a span would
    show, and lasts as long as its reader likes. The guard measures requests (docs/decisions/0084).
    """
    return scope.get("method") not in ("POST", "DELETE") or not can_trace(scope["headers"])


def prepare_answers(app: FastAPI) -> None:
    """Make what each route and each page makes when it is first asked for; some 300 ms of CPU."""
    page.compile_templates()
    nowhere: dict[str, Any] = {
        "type": "http",
        "method": "GET",
        "path": "/-",
        "root_path": "",
        "headers": [],
    }
    for route in app.routes:
        route.matches(nowhere)


def begin_drain(app: FastAPI) -> None:
    """Have no more requests answered, and every stream ended with a frame that says why.

    Call it when your server is told to stop: it waits for streams, which last as long as tasks.
    """
    cast("ApiState", app.state.tapescope).draining.set()


# --- health ---------------------------------------------------------------------------------------


def _add_health(app: FastAPI, state: ApiState, health: HealthApp) -> None:
    """The paths of the health listener, with its answers. Details and metrics take a reader, and
    tell of ops."""

    async def answer(request: Request) -> Response:
        if request.url.path.endswith("/metrics") or "verbose" in request.query_params:
            need_ops(await state.admit(request, Scope.READ))
        return await asyncio.to_thread(_call_wsgi, health, request)

    for path in ("/livez", "/readyz", "/metrics"):
        app.add_route(path, answer, methods=["GET", "HEAD"], include_in_schema=False)


def _call_wsgi(app: WSGIApplication, request: Request) -> Response:
    """What a small WSGI application answers to a request without a body."""
    answer = Response()
    path = request.scope["path"].removeprefix(request.scope.get("root_path", ""))
    environ: dict[str, Any] = {
        "REQUEST_METHOD": request.method,
        "PATH_INFO": path,
        "QUERY_STRING": request.scope["query_string"].decode("latin-1"),
        "SERVER_PROTOCOL": "HTTP/1.1",
        "wsgi.input": io.BytesIO(),
    }
    for name, value in request.headers.items():
        environ[f"HTTP_{name.upper().replace('-', '_')}"] = value

    def start(
        status: str, headers: list[tuple[str, str]], _: object = None
    ) -> Callable[[bytes], object]:
        answer.status_code = int(status.partition(" ")[0])
        answer.raw_headers = [
            (k.lower().encode("latin-1"), v.encode("latin-1")) for k, v in headers
        ]
        return lambda _: None

    body: Iterable[bytes] = app(environ, start)
    answer.body = b"".join(body)
    return answer


# --- the framework's own words, in ours -----------------------------------------------------------


async def _answer_http_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    headers = dict(error.headers or {})
    if error.status_code == 405:  # the framework names the methods of the path's first route alone
        path = request.scope["path"].removeprefix(request.scope.get("root_path", ""))
        methods = {
            method
            for each in routers
            for route in each.routes
            if isinstance(route, APIRoute) and route.path_regex.match(path)
            for method in route.methods or ()
        }
        headers |= {"Allow": ", ".join(sorted(methods))} if methods else {}
    names = {404: "NoSuchPath", 405: "MethodNotAllowed"}
    details = {404: "There is no such path: see /v1/openapi.json.", 405: "Not with this method."}
    status = error.status_code
    refused = Refused(
        status,
        names.get(status, "BadRequest"),
        details.get(status, str(error.detail)),
        headers=headers,
    )
    return make_problem(refused)


async def _answer_bad_request(_: Request, error: Exception) -> Response:
    assert isinstance(error, RequestValidationError)
    wrong = error.errors()[0]
    place = ".".join(map(str, wrong["loc"][1:]))
    return make_problem(Refused(422, "BadSetting", f"{place}: {wrong['msg']}."))


def _describe(make: Callable[[], dict[str, Any]], limits: ApiLimits) -> dict[str, Any]:
    """The OpenAPI document, with the shapes that no route has as its model, and these limits."""
    document = make()
    document["components"]["schemas"].update(COMPONENTS)
    most = {"limit": limits.page, "wait": limits.longest_wait}
    for path in document["paths"].values():
        for act in path.values():
            for parameter in act.get("parameters", ()):
                if parameter["in"] == "query" and parameter["name"] in most:
                    shape = parameter["schema"]
                    shape["maximum"] = most[parameter["name"]]
                    shape["default"] = min(shape["default"], shape["maximum"])
    return document

"""The HTTP API and its pages: a FastAPI application, to serve or to mount in one of your own.

Importing it without the packages of the extra ``server`` raises ``MissingExtra``.

    app = FastAPI(lifespan=lifespan)  # its lifespan opens the manager
    app.mount("/tapescope", make_app(manager, who=ask_my_session))
"""

from __future__ import annotations

from tapescope.errors import MissingExtra

try:
    from tapescope.http.api.app import begin_drain, make_app
    from tapescope.http.api.limits import ApiLimits
    from tapescope.http.api.server import ApiServer
except ModuleNotFoundError as error:
    if error.name not in (
        *("fastapi", "h11", "jinja2", "markupsafe", "pydantic", "starlette", "uvicorn"),
    ):
        raise
    raise MissingExtra("The HTTP API", "server") from error

__all__ = ["ApiLimits", "ApiServer", "begin_drain", "make_app"]

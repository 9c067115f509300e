"""The routes: each asks who it is, does one thing with the manager, and shows a shape of the model.

A module has the routes of one area. A body is read only once it is known who sends it.
"""

from __future__ import annotations

from tapescope.http.api.routes.many import router as many
from tapescope.http.api.routes.openapi import COMPONENTS
from tapescope.http.api.routes.ops import router as ops
from tapescope.http.api.routes.requests import read_bytes
from tapescope.http.api.routes.schedules import router as schedules
from tapescope.http.api.routes.store import router as store
from tapescope.http.api.routes.tapes import open_stream
from tapescope.http.api.routes.tapes import router as tapes
from tapescope.http.api.routes.tasks import router as tasks

__all__ = ["COMPONENTS", "open_stream", "read_bytes", "routers"]

routers = (tasks, many, tapes, schedules, ops, store)

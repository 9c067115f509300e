"""The page at ``/``: what a store holds, for a person with a browser.

It is made on the server (Jinja), and kept up to date with htmx and with streams of its own. All
that it needs is in this folder: it asks no other machine for anything, and runs no script that is
written into a page. Reading pages only read; what acts is a form, and goes the API's ways.
"""

from __future__ import annotations

from tapescope.http.api.page.acts import router as acts
from tapescope.http.api.page.login import router as login
from tapescope.http.api.page.rendering import compile_templates
from tapescope.http.api.page.schedules import router as schedules
from tapescope.http.api.page.views import router as views
from tapescope.http.api.page.workers import router as workers

__all__ = ["compile_templates", "routers"]

routers = (views, schedules, workers, acts, login)

"""What the OpenAPI document says beside what the routes' own signatures do."""

from __future__ import annotations

from typing import Any, Final

from pydantic import BaseModel

from tapescope.http.api import schemas
from tapescope.http.api.problems import PROBLEM_TYPE

__all__ = ["BODY", "COMPONENTS", "problems", "refer", "takes"]

BODY: Final = (400, 408, 413, 415)
"""What else a route answers that takes a body."""

_COMPONENT: Final = "#/components/schemas/{model}"
COMPONENTS: Final[dict[str, Any]] = {}
"""Schemas of the OpenAPI document that no route has as its model, by name: routes refer to them."""


def refer(model: type[BaseModel]) -> dict[str, Any]:
    """A reference to the schema of a model, which the document then has."""
    COMPONENTS[model.__name__] = _describe(model)
    return {"$ref": _COMPONENT.format(model=model.__name__)}


def _describe(model: type[BaseModel]) -> dict[str, Any]:
    """The schema of a model; those of its parts are in the document, too."""
    schema = model.model_json_schema(ref_template=_COMPONENT)
    COMPONENTS.update(schema.pop("$defs", {}))
    return schema


def takes(model: type[BaseModel], *, required: bool = False) -> dict[str, Any]:
    """The part of the OpenAPI document for a body that a route reads itself."""
    schema = _describe(model)
    content = {"application/json": {"schema": schema}}
    return {"requestBody": {"required": required, "content": content}}


def problems(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """What else a route answers, as problem details."""
    words = {
        400: "The request cannot be read",
        401: "No token that the server knows",
        403: "The caller may not do this",
        404: "There is no such task, schedule or worker",
        406: "There is no such form of it",
        408: "The body did not come in time",
        409: "It conflicts with what the store has",
        413: "The body is too large",
        414: "The query is too long",
        415: "The body is not said to be JSON",
        421: "Without tokens this machine alone is answered",
        422: "A value that it cannot have",
        429: "Too many tasks wait to be submitted, or to be begun of this op; Retry-After says "
        "when to ask again",
        503: "The store cannot be used, or the server is full or about to stop",
    }
    schema = {"schema": refer(schemas.Problem)}
    return {
        status: {"description": words[status], "content": {PROBLEM_TYPE: schema}}
        for status in sorted({401, 403, 414, 421, 422, 503, *statuses})
    }

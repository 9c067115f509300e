"""The OpenAPI document: it is what is committed, and its examples are what it says."""

from __future__ import annotations

import json
import re
from typing import Any

from pydantic import TypeAdapter

from docs.openapi import FILE, make_document
from tapescope.http.api import schemas


def test_the_document_is_up_to_date() -> None:
    """Made again it is what is committed; else ``make docs`` was forgotten."""
    assert FILE.read_text(encoding="utf-8") == make_document()


def test_every_answer_is_described() -> None:
    """Each route has a summary, and says what else it answers, as problems."""
    document: dict[str, Any] = json.loads(FILE.read_text(encoding="utf-8"))
    routes = [route for path in document["paths"].values() for route in path.values()]

    assert len(routes) == 32
    for route in routes:
        assert route["description"]
        assert {"401", "403", "421", "422", "503"} <= set(route["responses"])
        for status, answer in route["responses"].items():
            if status >= "400":
                assert list(answer["content"]) == ["application/problem+json"], answer
    assert "HTTPValidationError" not in document["components"]["schemas"]


def _list_references(part: Any) -> list[str]:
    """Every reference in a part of the document."""
    return re.findall(r'"\$ref": "([^"]+)"', json.dumps(part))


def test_every_reference_leads_to_a_shape() -> None:
    """To one of the document's: a part of a body's shape is not beside it."""
    document: dict[str, Any] = json.loads(FILE.read_text(encoding="utf-8"))
    references = set(_list_references(document))
    known = {f"#/components/schemas/{name}" for name in document["components"]["schemas"]}

    assert references <= known
    assert "#/components/schemas/SubmitOne" in references


def test_the_example_of_a_submit_can_be_sent() -> None:
    """It is a body that the route takes."""
    (example,) = schemas.SubmitBody.model_json_schema()["examples"]

    assert TypeAdapter(schemas.SubmitBody).validate_python(example).op == "resize"
    (many,) = schemas.SubmitManyBody.model_json_schema()["examples"]
    assert len(schemas.SubmitManyBody.model_validate(many).tasks) == 2

"""``make docs``: the OpenAPI document of the HTTP API, as a server has it at ``/v1/openapi.json``.

A test makes it again and compares.
"""

from __future__ import annotations

import json
from pathlib import Path

from tapescope import TaskManager
from tapescope.http.api import make_app

FILE = Path(__file__).parent / "reference" / "openapi.json"


def make_document() -> str:
    """The text of ``reference/openapi.json``."""
    document = make_app(TaskManager("sqlite:///:memory:")).openapi()
    document["info"]["version"] = "of the server"  # else each release would change the page
    return json.dumps(document, indent=1, ensure_ascii=False) + "\n"


def main() -> None:
    """Write it."""
    FILE.write_text(make_document(), encoding="utf-8")
    print("docs/reference/openapi.json")


if __name__ == "__main__":
    main()
